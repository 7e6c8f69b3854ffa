//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// What to type.
pub const USAGE: &str =
    "network [check | status] [--config FILE] [--last-good FILE] [--directory DIRECTORY]";

/// What was typed.
#[derive(Debug, PartialEq)]
pub struct Options {
    pub command: Command,
    /// The configuration.
    pub config: PathBuf,
    /// Where the last one without an error is kept.
    pub last_good: PathBuf,
    /// Where `status.json`, `resolv.conf` and the leases are.
    pub directory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Run,
    /// The health probe.
    Check,
    /// A table for people.
    Status,
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            command: Command::Run,
            config: PathBuf::from("/state/config/network/network.toml"),
            last_good: PathBuf::from("/var/lib/network/last-good.toml"),
            directory: PathBuf::from("/run/network"),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut path = || {
                let value = arguments.next().map(PathBuf::from);
                value.ok_or_else(|| format!("{} wants a path", argument.display()))
            };
            match argument.to_str() {
                Some("check") => options.command = Command::Check,
                Some("status") => options.command = Command::Status,
                Some("--config") => options.config = path()?,
                Some("--last-good") => options.last_good = path()?,
                Some("--directory") => options.directory = path()?,
                _ => return Err(format!("unknown argument {}", argument.display())),
            }
        }
        Ok(options)
    }

    pub fn status_file(&self) -> PathBuf {
        self.directory.join("status.json")
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.directory.join("resolv.conf")
    }

    pub fn lease_file(&self, link: &str) -> PathBuf {
        self.directory.join("leases").join(format!("{link}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn commands_and_paths_are_read() {
        assert_eq!(parse(&[]).unwrap().command, Command::Run);
        let options = parse(&["check", "--directory", "/tmp/n"]).unwrap();
        assert_eq!(options.command, Command::Check);
        assert_eq!(options.status_file(), PathBuf::from("/tmp/n/status.json"));
        assert!(parse(&["start"]).is_err());
        assert!(parse(&["--config"]).is_err());
    }
}
