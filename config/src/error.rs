//! What is wrong with a file, in the one form that every program of ours prints.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Key, Step};

/// The most characters of a value or a name that an error repeats.
const LONGEST: usize = 200;

/// Where in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Position {
    /// Of a byte of the text.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: 1 + before.matches('\n').count(),
            column: 1 + before[start..].chars().count(),
        }
    }
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// There is no such key.
    UnknownKey,
    /// The key must be there.
    MissingKey,
    /// Its value cannot be used: what was found, as in "'soon' is not a
    /// duration". Without a key it is about the file.
    Value(String),
}

/// Why a file is no configuration.
///
/// Its text has the form `FILE:LINE:COLUMN: key `KEY`: FOUND, expected EXPECTED`
/// and is one line, whatever is in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The file, as the caller named it.
    pub file: String,
    /// Where in it; `None` where it could not be read.
    pub position: Option<Position>,
    /// Which key; the root where it is about the file as a whole.
    pub key: Key,
    /// What is wrong.
    pub problem: Problem,
    /// What could stand there instead.
    pub expected: Option<String>,
}

impl Error {
    /// An error about a file as a whole.
    pub fn of_file(file: impl Into<String>, what: impl AsRef<str>) -> Self {
        Self {
            file: file.into(),
            position: None,
            key: Key::root(),
            problem: Problem::Value(printable(what.as_ref())),
            expected: None,
        }
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> String {
        let key = &self.key;
        let mut text = match &self.problem {
            Problem::UnknownKey => format!("unknown key `{key}`"),
            Problem::MissingKey => format!("missing key `{key}`"),
            Problem::Value(found) if key.steps().is_empty() => found.clone(),
            Problem::Value(found) => format!("key `{key}`: {found}"),
        };
        if let Some(expected) = &self.expected {
            text += &format!(", expected {expected}");
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message())
    }
}

impl std::error::Error for Error {}

/// What a check finds wrong with values whose types are right. It becomes an
/// [`Error`] at the key's place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(crate) key: Key,
    pub(crate) problem: Problem,
    pub(crate) expected: Option<String>,
}

impl Fault {
    /// Something is wrong with a value, of a key that [`Fault::at`] tells. A text
    /// of the form "FOUND, expected EXPECTED" is taken apart.
    pub fn new(what: impl AsRef<str>) -> Self {
        let (found, expected) = split(what.as_ref());
        Self {
            key: Key::root(),
            problem: Problem::Value(found),
            expected,
        }
    }

    /// The same fault, seen from one table or list further out: called from the
    /// inside to the outside, as in `.at("source").at(1).at("mounts")`.
    #[must_use]
    pub fn at(mut self, step: impl Into<Step>) -> Self {
        self.key = self.key.below(step.into());
        self
    }
}

/// "FOUND, expected EXPECTED", each ready to be printed.
pub(crate) fn split(text: &str) -> (String, Option<String>) {
    match text.split_once(", expected ") {
        Some((found, expected)) => (printable(found), Some(printable_long(expected))),
        None => (printable(text), None),
    }
}

/// One line without control characters, cut where it is long.
fn printable(text: &str) -> String {
    let text = printable_long(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn printable_long(text: &str) -> String {
    let mut out = String::new();
    for character in text.trim().chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_bounded_length_whatever_the_file_holds() {
        let fault = Fault::new(format!("'{}\n\x1b[31m' is wrong", "ä".repeat(10_000)));
        let error = Error {
            file: "x.toml".to_owned(),
            position: Some(Position { line: 3, column: 7 }),
            key: fault.at("b").at(0).at("a").key,
            problem: Fault::new(format!("'\n\x1b{}'", "ä".repeat(10_000))).problem,
            expected: None,
        };
        let text = error.to_string();
        assert!(
            text.starts_with("x.toml:3:7: key `a[0].b`: '\\n\\u{1b}ää"),
            "{text}"
        );
        assert!(text.chars().count() < 300 && !text.contains(char::is_control));
    }

    #[test]
    fn a_position_counts_characters() {
        let text = "a\näö = 1";
        assert_eq!(
            Position::of(text, text.find('=').unwrap()),
            Position { line: 2, column: 4 }
        );
        assert_eq!(Position::of(text, 99), Position { line: 2, column: 7 });
    }
}
