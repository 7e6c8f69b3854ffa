//! What a clause is, and the possible results of checking one.

use std::fmt;

use crate::bench::Bench;
use crate::needs::Need;

/// How binding a clause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The specification says MUST, or describes what a field is.
    Must,
    /// The specification says SHOULD.
    Should,
    /// runc's command line, which programs rely on.
    CommandLine,
    /// A known attack, or a defence against one.
    Security,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Level::Must => "must",
            Level::Should => "should",
            Level::CommandLine => "command line",
            Level::Security => "security",
        })
    }
}

/// One requirement on a runtime.
pub struct Clause {
    /// Document and heading, then the field if there is one.
    pub section: &'static str,
    /// The requirement, in our words.
    pub text: &'static str,
    pub level: Level,
    /// What the machine must have to check it.
    pub needs: &'static [Need],
    pub check: fn(&Bench) -> Check,
}

impl Clause {
    /// The text that a filter is compared with.
    pub fn title(&self) -> String {
        format!("{}: {}", self.section, self.text)
    }
}

/// Why a check did not pass.
#[derive(Debug)]
pub enum Problem {
    /// The runtime did not do what the clause says.
    Failed(String),
    /// It could not be determined here.
    Untried(String),
}

/// What a check returns.
pub type Check = Result<(), Problem>;
/// What a part of a check returns.
pub type Try<T> = Result<T, Problem>;

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Problem {
        Problem::Failed(format!("the suite itself: {error}"))
    }
}

impl From<nix::Error> for Problem {
    fn from(error: nix::Error) -> Problem {
        Problem::Failed(format!("the suite itself: {error}"))
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Problem {
        Problem::Failed(format!("not the JSON that was expected: {error}"))
    }
}

/// Fails the check with a message, unless the condition holds.
macro_rules! demand {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::clause::Problem::Failed(format!($($message)+)));
        }
    };
}
pub(crate) use demand;

/// Shorthand of the chapters' tables.
pub const fn must(
    section: &'static str,
    text: &'static str,
    needs: &'static [Need],
    check: fn(&Bench) -> Check,
) -> Clause {
    Clause {
        section,
        text,
        level: Level::Must,
        needs,
        check,
    }
}

/// A clause that the specification recommends.
pub const fn should(
    section: &'static str,
    text: &'static str,
    needs: &'static [Need],
    check: fn(&Bench) -> Check,
) -> Clause {
    Clause {
        section,
        text,
        level: Level::Should,
        needs,
        check,
    }
}

/// A clause of runc's command line.
pub const fn command_line(
    section: &'static str,
    text: &'static str,
    needs: &'static [Need],
    check: fn(&Bench) -> Check,
) -> Clause {
    Clause {
        section,
        text,
        level: Level::CommandLine,
        needs,
        check,
    }
}

/// A clause about an attack.
pub const fn security(
    section: &'static str,
    text: &'static str,
    needs: &'static [Need],
    check: fn(&Bench) -> Check,
) -> Clause {
    Clause {
        section,
        text,
        level: Level::Security,
        needs,
        check,
    }
}
