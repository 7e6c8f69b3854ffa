//! From text to types, and from an error to its key and its place.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::split;
use crate::{Error, Fault, Key, Position, Problem, Step};

/// Reads a file's text into its own types and those into what the program works
/// with. `file` is only for the error.
///
/// # Errors
/// The first mistake: in the TOML, in the types, or in what `check` finds.
pub fn parse<File: DeserializeOwned, T>(
    file: &str,
    text: &str,
    check: impl FnOnce(File) -> Result<T, Fault>,
) -> Result<T, Error> {
    match toml::from_str(text) {
        Ok(types) => check(types).map_err(|fault| locate(file, text, fault)),
        Err(error) => Err(translate(file, text, &error)),
    }
}

/// A fault that was found later, at its key's place in the text. A key that is
/// not there has the place of the table that it would stand in.
pub fn locate(file: &str, text: &str, fault: Fault) -> Error {
    let (root, _) = DeTable::parse_recoverable(text);
    Error {
        file: file.to_owned(),
        position: Some(Position::of(text, place(&root, &fault.key))),
        key: fault.key,
        problem: fault.problem,
        expected: fault.expected,
    }
}

/// The byte at which the key's value begins, or the last one's on the way there.
fn place(root: &Spanned<DeTable<'_>>, key: &Key) -> usize {
    let Some((Step::Name(first), rest)) = key.steps().split_first() else {
        return 0;
    };
    let Some(mut value) = root.get_ref().get(first.as_str()) else {
        return 0;
    };
    for step in rest {
        let next = match (step, value.get_ref()) {
            (Step::Name(name), DeValue::Table(table)) => table.get(name.as_str()),
            (Step::Item(index), DeValue::Array(list)) => list.get(*index),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    value.span().start
}

/// An error of the parser or of the types, with its key.
fn translate(file: &str, text: &str, error: &toml::de::Error) -> Error {
    let (root, _) = DeTable::parse_recoverable(text);
    let span = error.span().unwrap_or(0..0);
    let (found, expected) = split(error.message());
    let (key, problem) = if let Some(name) = quoted(&found, "missing field ") {
        let table = Search::table(&root, &span);
        (table.child(name), Problem::MissingKey)
    } else {
        let problem = match found.as_str() {
            "duplicate key" => Problem::Value("this key is there twice".to_owned()),
            _ if quoted(&found, "unknown field ").is_some() => Problem::UnknownKey,
            _ => Problem::Value(found),
        };
        (Search::innermost(&root, &span), problem)
    };
    Error {
        file: file.to_owned(),
        position: Some(Position::of(text, span.start)),
        key,
        problem,
        expected: expected.map(|expected| plain(&expected)),
    }
}

/// The name that stands behind `what` in backticks.
fn quoted<'a>(message: &'a str, what: &str) -> Option<&'a str> {
    let name = message.strip_prefix(what)?.strip_prefix('`')?;
    name.split_once('`').map(|(name, _)| name)
}

/// Serde's words for types, as a person who writes a file knows them.
fn plain(expected: &str) -> String {
    const NONE: &str = " or \"none\"";
    if let Some(expected) = expected.strip_suffix(NONE) {
        return plain(expected) + NONE;
    }
    let word = match expected {
        "a string" | "a borrowed string" | "string or table" => "text in quotation marks",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    word.to_owned()
}

/// A walk through a whole file for the key that a span is about. Tables written
/// as `[a]` are not around what is in them, so no branch can be left out.
struct Search<'a> {
    span: &'a Range<usize>,
    /// Whether only a table that has exactly this span will do.
    is_table: bool,
    /// How well the key fits: whether only the span's start is at its end, and
    /// its length.
    rank: (bool, usize),
    key: Key,
}

impl<'a> Search<'a> {
    /// The innermost key whose name or value holds the span.
    fn innermost(root: &Spanned<DeTable<'_>>, span: &'a Range<usize>) -> Key {
        Self::run(root, span, false)
    }

    /// The table that has this span.
    fn table(root: &Spanned<DeTable<'_>>, span: &'a Range<usize>) -> Key {
        Self::run(root, span, true)
    }

    fn run(root: &Spanned<DeTable<'_>>, span: &'a Range<usize>, is_table: bool) -> Key {
        let mut search = Self {
            span,
            is_table,
            rank: (true, usize::MAX),
            key: Key::root(),
        };
        search.search_table(root.get_ref(), &Key::root());
        search.key
    }

    fn search_table(&mut self, table: &DeTable<'_>, key: &Key) {
        for (name, value) in table {
            let key = key.child(name.get_ref().as_ref());
            // Where the parser finds no name, it makes an empty one.
            if !self.is_table && !name.get_ref().is_empty() {
                self.consider(&name.span(), &key);
            }
            self.search_value(value, &key);
        }
    }

    fn search_value(&mut self, value: &Spanned<DeValue<'_>>, key: &Key) {
        if !self.is_table
            || (matches!(value.get_ref(), DeValue::Table(_)) && value.span() == *self.span)
        {
            self.consider(&value.span(), key);
        }
        match value.get_ref() {
            DeValue::Table(table) => self.search_table(table, key),
            DeValue::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    self.search_value(item, &key.child(index));
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    fn consider(&mut self, span: &Range<usize>, key: &Key) {
        let holds = span.start <= self.span.start && self.span.end <= span.end;
        // Text without its end: the error is behind it.
        let is_behind = self.span.start == span.end;
        let rank = (!holds || is_behind, span.end - span.start);
        if (holds || is_behind) && rank < self.rank {
            self.rank = rank;
            self.key = key.clone();
        }
    }
}

#[cfg(test)]
mod tests;
