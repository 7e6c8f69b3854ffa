//! Errors and where they occurred.

use url::Url;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct SettingError {
    /// Which one.
    pub what: &'static str,
    /// Why not.
    pub why: String,
}

/// Why an address did not give what it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {fault}")]
pub struct Failure {
    /// The address, without user name, password and query.
    pub address: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// No answer or no further byte for this many seconds.
    #[error("stalled: not one byte for {0} s")]
    Stalled(u64),
    /// Fewer bytes a second than [`crate::Patience::least_rate`].
    #[error("stalled: only {0} bytes a second")]
    Slow(u64),
    /// No complete answer within this many seconds.
    #[error("no answer within {0} s")]
    Late(u64),
    /// The connection broke, or a file could not be read.
    #[error("{0}")]
    Broken(String),
    /// The HTTP status is an error.
    #[error("the server answers with HTTP status {0}")]
    Status(u16),
    /// There is no such file.
    #[error("not there")]
    NotFound,
    /// A redirect that is not followed.
    #[error("redirect not followed: {0}")]
    Redirect(String),
    /// Ended before it should.
    #[error("ended after {got} of {expected} bytes")]
    Short {
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// Is longer than it may be.
    #[error("longer than the {expected} bytes it may have")]
    Long {
        /// Bytes that may come.
        expected: u64,
    },
    /// Another range than the one asked for.
    #[error("asked for range '{asked}', the answer is range '{got}'")]
    Range {
        /// What was asked for.
        asked: String,
        /// What the answer says it is.
        got: String,
    },
    /// Is encoded although nothing but the bytes themselves was accepted.
    #[error("sent with content encoding '{0}'")]
    Encoded(String),
    /// Is complete but not what the caller expects, who says so.
    #[error("{0}")]
    Wrong(String),
}

impl Fault {
    /// Whether asking the same address again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Stalled(_)
            | Self::Slow(_)
            | Self::Late(_)
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

    pub(crate) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), chain);
        if error.is_redirect() {
            Self::Redirect(why)
        } else if error.is_connect() || error.is_timeout() {
            Self::Connect(why)
        } else {
            Self::Broken(why)
        }
    }
}

/// An error with its sources, without repetitions.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// An address for people: without user name, password and query, which may be
/// secrets.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Only fails for addresses that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let url = Url::parse("https://user:secret@host:81/a?token=secret").unwrap();
        assert_eq!(shown(&url), "https://host:81/a");
    }

    #[test]
    fn a_server_that_is_busy_may_be_asked_again_and_one_that_refuses_not() {
        for (status, may_pass) in [
            (500, true),
            (503, true),
            (408, true),
            (429, true),
            (400, false),
            (416, false),
        ] {
            assert_eq!(Fault::Status(status).may_pass(), may_pass, "{status}");
        }
        assert!(Fault::Stalled(1).may_pass());
        assert!(!Fault::Long { expected: 1 }.may_pass());
    }
}
