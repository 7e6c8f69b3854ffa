//! The levels, and the prefix by which a line names its own.

use std::fmt;
use std::str::FromStr;

/// How severe a line is: the kernel's and syslog's eight levels.
///
/// Ordered as numbers are: `Level::Error < Level::Info`, so "this severe or
/// more" is `line.level <= level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// 0, the system is unusable
    Emergency = 0,
    /// 1, action must be taken at once
    Alert = 1,
    /// 2, a critical condition
    Critical = 2,
    /// 3, an error
    Error = 3,
    /// 4, a warning
    Warning = 4,
    /// 5, normal but significant
    Notice = 5,
    /// 6, informational; what a line without a prefix has
    Info = 6,
    /// 7, for whoever debugs the service
    Debug = 7,
}

/// Level names in the order of their numbers, as syslog(3) abbreviates them.
const NAMES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

impl Level {
    /// The level with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Level> {
        Some(match number {
            0 => Level::Emergency,
            1 => Level::Alert,
            2 => Level::Critical,
            3 => Level::Error,
            4 => Level::Warning,
            5 => Level::Notice,
            6 => Level::Info,
            7 => Level::Debug,
            _ => return None,
        })
    }

    /// 0 (emergency) to 7 (debug).
    pub fn number(self) -> u8 {
        self as u8
    }

    /// `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info` or `debug`.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.number())]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is not a level.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownLevel(pub String);

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a level; use 0 to 7 or one of {}",
            self.0,
            NAMES.join(", ")
        )
    }
}

impl std::error::Error for UnknownLevel {}

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Takes the number, the short name, or the long one (`error`, `warn`, …).
    fn from_str(word: &str) -> Result<Level, UnknownLevel> {
        Ok(match word {
            "0" | "emerg" | "emergency" => Level::Emergency,
            "1" | "alert" => Level::Alert,
            "2" | "crit" | "critical" => Level::Critical,
            "3" | "err" | "error" => Level::Error,
            "4" | "warn" | "warning" => Level::Warning,
            "5" | "notice" => Level::Notice,
            "6" | "info" => Level::Info,
            "7" | "debug" => Level::Debug,
            _ => return Err(UnknownLevel(word.to_owned())),
        })
    }
}

/// A line with its level as a prefix, as [`split_level`] reads it. Line breaks in
/// the text become spaces: each would begin another line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// How severe it is.
    pub level: Level,
    /// What it says.
    pub text: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.level.number())?;
        let mut parts = self.text.trim_end_matches('\n').split('\n');
        if let Some(first) = parts.next() {
            f.write_str(first)?;
        }
        parts.try_for_each(|part| write!(f, " {part}"))
    }
}

/// The level that a line names by the prefix `<0>` … `<7>`, and the rest of the
/// line; without such a prefix no level and the whole line.
pub fn split_level(line: &[u8]) -> (Option<Level>, &[u8]) {
    if let [b'<', digit, b'>', rest @ ..] = line
        && let Some(level) = Level::from_number(digit.wrapping_sub(b'0'))
    {
        return (Some(level), rest);
    }
    (None, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_reads_back_from_its_name_and_number() {
        for number in 0..8 {
            let level = Level::from_number(number).unwrap();
            assert_eq!(level.number(), number);
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(number.to_string().parse(), Ok(level));
        }
        assert_eq!(Level::from_number(8), None);
        assert!("loud".parse::<Level>().is_err());
    }

    #[test]
    fn a_line_that_was_written_is_read_with_its_level() {
        for number in 0..8 {
            let level = Level::from_number(number).unwrap();
            let line = Line {
                level,
                text: "a\n<0>b\n",
            };
            assert_eq!(
                split_level(line.to_string().as_bytes()),
                (Some(level), &b"a <0>b"[..])
            );
        }
    }

    #[test]
    fn what_is_not_a_level_stays_in_the_line() {
        for line in ["", "<", "<3", "<8>x", "< 3>x", "x<3>"] {
            assert_eq!(split_level(line.as_bytes()), (None, line.as_bytes()));
        }
    }
}
