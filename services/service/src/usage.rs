//! A wrong command line.

use std::ffi::OsString;
use std::process::ExitCode;

use log_line::Level;

use crate::say;

/// The exit code of a service whose command line is wrong: `EX_USAGE` of
/// sysexits.h. Not 2, which services use for results of their own.
pub const WRONG_USAGE: u8 = 64;

/// The words of a command line after the program's name, as text.
///
/// # Errors
/// A sentence that names the first word that is not UTF-8.
pub fn words(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, String> {
    let text = |word: OsString| {
        word.into_string()
            .map_err(|word| format!("{} is not UTF-8", word.display()))
    };
    arguments.into_iter().skip(1).map(text).collect()
}

/// Says what is wrong with the command line and what is right, and returns the
/// exit code.
pub fn wrong_usage(mistake: &str, usage: &str) -> ExitCode {
    say(Level::Error, &format!("{mistake}; usage: {usage}"));
    ExitCode::from(WRONG_USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn the_programs_name_is_left_out_and_what_is_not_text_is_named() {
        let line = ["log", "--directory"].map(OsString::from);
        assert_eq!(words(line).unwrap(), ["--directory"]);
        let line = ["log".into(), OsString::from_vec(b"a\xff".to_vec())];
        assert!(words(line).unwrap_err().contains("a\u{fffd}"));
    }
}
