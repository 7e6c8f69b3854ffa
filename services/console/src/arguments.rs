//! `console [--shell PROGRAM] [--socket PATH] [TTY…]`

use std::path::PathBuf;

/// What to type.
pub const USAGE: &str = "console [--shell PROGRAM] [--socket PATH] [TTY...]";

/// What the program was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The shell that is run.
    pub shell: PathBuf,
    /// PID 1's control socket.
    pub socket: PathBuf,
    /// The consoles: names such as `ttyS0`, or paths. Empty: the kernel's.
    pub consoles: Vec<String>,
}

impl Arguments {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// A sentence that names the argument.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            shell: PathBuf::from("/bin/sh"),
            socket: PathBuf::from(control::SOCKET),
            consoles: Vec::new(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .map(PathBuf::from)
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--shell" => parsed.shell = value()?,
                "--socket" => parsed.socket = value()?,
                option if option.starts_with('-') => {
                    return Err(format!("there is no option {option}"));
                }
                _ => parsed.consoles.push(argument),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn what_is_not_given_is_the_machines() {
        let arguments = parse("").unwrap();
        assert_eq!(arguments.shell, PathBuf::from("/bin/sh"));
        assert_eq!(arguments.socket, PathBuf::from(control::SOCKET));
        assert!(arguments.consoles.is_empty());
    }

    #[test]
    fn consoles_can_be_named() {
        let arguments = parse("ttyS1 --shell /bin/ash /dev/tty2").unwrap();
        assert_eq!(arguments.shell, PathBuf::from("/bin/ash"));
        assert_eq!(arguments.consoles, ["ttyS1", "/dev/tty2"]);
    }

    #[test]
    fn a_wrong_argument_is_named() {
        assert!(parse("--frobnicate").unwrap_err().contains("--frobnicate"));
        assert!(parse("--shell").unwrap_err().contains("--shell"));
    }
}
