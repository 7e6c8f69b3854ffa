//! Whom the output is for: a person at a terminal, who gets colours and lines
//! cut to the terminal's width, or a file or pipe, which gets neither.

use std::io::IsTerminal;

pub use log_line::{harmless, harmless_lines};

/// The colours used, by what they say and not by how they look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Heading,
    Good,
    Busy,
    Bad,
    Quiet,
}

/// What the reader of the output can take.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Whether colours are understood.
    pub colour: bool,
    /// Where lines are to be cut, in columns.
    pub width: Option<usize>,
}

impl Reader {
    /// A file or a pipe.
    #[cfg(test)]
    pub const PLAIN: Self = Self {
        colour: false,
        width: None,
    };

    /// The reader of standard output.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self {
                colour: false,
                width: None,
            };
        }
        Self {
            colour: wants_colour(),
            width: Some(width_of(&stdout)),
        }
    }

    /// `text` in `tone`.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
            Tone::Quiet => "2",
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// `NO_COLOR` set to anything (no-color.org) and a terminal that says it is
/// dumb both mean: no colours.
fn wants_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A serial line does not know its size; 80 columns is what all have.
fn width_of(terminal: &impl rustix::fd::AsFd) -> usize {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => std::env::var("COLUMNS")
            .ok()
            .and_then(|columns| columns.parse().ok())
            .filter(|columns| *columns > 0)
            .unwrap_or(80),
    }
}
