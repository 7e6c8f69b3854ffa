//! The command line
//!
//! `log [--directory DIR] [--kernel-log FILE] [--max-bytes N] [--keep-free PERCENT]`;
//! the values in the image are the defaults.

use std::ffi::OsString;
use std::path::PathBuf;

use journal::Limits;

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Where the journal is.
    pub directory: PathBuf,
    /// Where the kernel's log is.
    pub kernel_log: PathBuf,
    /// How large the journal may get.
    pub limits: Limits,
}

/// What to type.
pub const USAGE: &str =
    "log [--directory DIR] [--kernel-log FILE] [--max-bytes N] [--keep-free PERCENT]";

/// Parses what follows the program's name.
///
/// # Errors
/// A sentence about the first mistake.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        directory: "/state/log".into(),
        kernel_log: "/dev/kmsg".into(),
        limits: Limits::default(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let name = word.to_string_lossy().into_owned();
        let value = words
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--directory" => arguments.directory = value.into(),
            "--kernel-log" => arguments.kernel_log = value.into(),
            "--max-bytes" => {
                arguments.limits.max_bytes = value
                    .to_str()
                    .and_then(|digits| digits.parse().ok())
                    .ok_or_else(|| format!("{name} takes a number of bytes"))?;
            }
            "--keep-free" => {
                arguments.limits.keep_free_percent = value
                    .to_str()
                    .and_then(|digits| digits.parse().ok())
                    .filter(|percent| *percent <= 100)
                    .ok_or_else(|| format!("{name} takes a number from 0 to 100"))?;
            }
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let manual = include_str!("../../../docs/log.md");
        let options: Vec<&str> = USAGE
            .split(['[', ']'])
            .filter(|part| part.starts_with("--"))
            .collect();
        assert!(!options.is_empty(), "{USAGE}");
        for option in options {
            assert!(manual.contains(&format!("| `{option}` |")), "{option}");
        }
    }

    #[test]
    fn options_replace_defaults_and_others_are_refused() {
        let parse = |words: &[&str]| parse(words.iter().map(OsString::from));
        let defaults = parse(&[]).unwrap();
        assert_eq!(defaults.limits.max_bytes, 32 << 20);
        assert_eq!(
            parse(&["--keep-free", "0"])
                .unwrap()
                .limits
                .keep_free_percent,
            0
        );
        let given = parse(&["--max-bytes", "1000", "--directory", "/tmp/x"]).unwrap();
        assert_eq!(given.limits.max_bytes, 1000);
        assert_eq!(given.directory, PathBuf::from("/tmp/x"));
        assert_eq!(given.kernel_log, defaults.kernel_log);
        for wrong in [
            &["--max-bytes"][..],
            &["--max-bytes", "1M"],
            &["--keep-free", "101"],
            &["--what", "1"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
