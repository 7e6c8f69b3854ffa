//! What can go wrong, and where it went wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why an address did not give what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The address, with user name and password left out.
    pub address: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    Connect(String),
    /// No answer or no further byte for this many seconds.
    Stalled(u64),
    /// Fewer bytes a second than [`crate::Patience::least_rate`].
    Slow(u64),
    /// The connection broke, or the file could not be read.
    Broken(String),
    /// HTTP's status says no.
    Status(u16),
    /// There is no such file.
    NotFound,
    /// A redirect that is not followed.
    Redirect(String),
    /// Ended before it should.
    Short {
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// Is longer than it may be.
    Long {
        /// Bytes that may come.
        expected: u64,
    },
    /// Another range than the one asked for.
    Range {
        /// What was asked for.
        asked: String,
        /// What the answer says it is.
        got: String,
    },
    /// Is encoded although nothing but the bytes themselves was accepted.
    Encoded(String),
    /// Is complete but not what was signed.
    Wrong(String),
}

impl Fault {
    /// Whether asking the same address again may help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Stalled(_)
            | Self::Slow(_)
            | Self::Broken(_)
            | Self::Short { .. } => true,
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 429),
            Self::NotFound
            | Self::Redirect(_)
            | Self::Long { .. }
            | Self::Range { .. }
            | Self::Encoded(_)
            | Self::Wrong(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Stalled(seconds) => write!(f, "stalled: not one byte for {seconds} s"),
            Self::Slow(rate) => write!(f, "stalled: only {rate} bytes a second"),
            Self::Broken(why) => f.write_str(why),
            Self::Status(status) => write!(f, "the server answers with HTTP status {status}"),
            Self::NotFound => f.write_str("not there"),
            Self::Redirect(why) => write!(f, "redirect not followed: {why}"),
            Self::Short { got, expected } => {
                write!(f, "ended after {got} of {expected} bytes")
            }
            Self::Long { expected } => write!(f, "longer than the {expected} bytes it may have"),
            Self::Range { asked, got } => {
                write!(f, "asked for range '{asked}', the answer is range '{got}'")
            }
            Self::Encoded(encoding) => write!(f, "sent with content encoding '{encoding}'"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.fault)
    }
}

impl std::error::Error for Failure {}

/// A step that failed.
#[derive(Debug)]
pub enum FetchError {
    /// A setting cannot be used.
    Setting {
        /// Which one, with its value.
        what: String,
        /// Why not.
        why: String,
    },
    /// The trust anchor is no root metadata that proves itself.
    Anchor(String),
    /// The folder for metadata cannot be used.
    Datastore {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No repository gave metadata that can be trusted. One reason an address.
    Metadata(Vec<Failure>),
    /// The channel is not there, or is not what was signed, or cannot be used.
    Channel {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// No mirror gave a file of the release as its manifest describes it. One
    /// reason a mirror.
    Artifact {
        /// The file.
        path: String,
        /// The last failure of each mirror.
        failures: Vec<Failure>,
    },
    /// The signed files of the release do not fit together: no mirror can help.
    Release {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The slot or the sink could not be read or written.
    Device {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The release does not fit the slot.
    Space {
        /// Which part of the slot.
        what: &'static str,
        /// Bytes that it has.
        has: u64,
        /// Bytes that are needed.
        needs: u64,
    },
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { what, why } => write!(f, "{what}: {why}"),
            Self::Anchor(why) => write!(
                f,
                "the trust anchor for updates (update-root.json) cannot be used: {why}; \
                 put the repository's root metadata there"
            ),
            Self::Datastore { path, .. } => {
                write!(f, "metadata cannot be kept in {}", path.display())
            }
            Self::Metadata(failures) => {
                f.write_str("no repository gave metadata that can be trusted")?;
                list(f, failures)
            }
            Self::Channel { name, why } => write!(f, "channel '{name}': {why}"),
            Self::Artifact { path, failures } => {
                write!(f, "no mirror gave {path} as it was signed")?;
                list(f, failures)
            }
            Self::Release { path, why } => write!(
                f,
                "{path} is as it was signed, but {why}: the release is broken and has to be \
                 published again"
            ),
            Self::Device { doing, .. } => f.write_str(doing),
            Self::Space { what, has, needs } => write!(
                f,
                "the release needs {needs} bytes of {what}, and there are {has}"
            ),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, failures: &[Failure]) -> fmt::Result {
    for (number, failure) in failures.iter().enumerate() {
        let separator = if number == 0 { ": " } else { "; " };
        write!(f, "{separator}{failure}")?;
    }
    Ok(())
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Datastore { source, .. } | Self::Device { source, .. } => Some(source),
            _ => None,
        }
    }
}
