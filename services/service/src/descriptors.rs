//! The descriptors that PID 1 passes, by name (sd_listen_fds(3)).

use std::io;
use std::os::fd::OwnedFd;

use crate::sys;

/// The first one's number.
const FIRST: i32 = 3;

/// Why the descriptors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// The environment names one that is not open.
    #[error("LISTEN_FDS names descriptor {number}, which cannot be used")]
    NotOpen {
        /// Its number.
        number: i32,
        /// What the system said.
        source: io::Error,
    },
    /// One without which the service cannot work was not passed.
    #[error("LISTEN_FDS and LISTEN_FDNAMES name no descriptor \"{name}\"")]
    Missing {
        /// Its name.
        name: String,
    },
}

/// What PID 1 passed: listening sockets, and what an earlier run of this service
/// stored ([`crate::Notify::store`]).
#[derive(Debug)]
pub struct Descriptors {
    named: Vec<(String, OwnedFd)>,
}

impl Descriptors {
    /// Takes over the descriptors that `LISTEN_FDS` and `LISTEN_FDNAMES` tell
    /// of. To be called once, before any other is opened. (`LISTEN_PID` is not
    /// asked: this process is PID 1's child, and passes nothing on.)
    ///
    /// # Errors
    /// [`DescriptorError::NotOpen`].
    pub fn from_environment() -> Result<Self, DescriptorError> {
        let variable = |name| std::env::var(name).ok();
        let names = names_of(
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
        );
        let take = |(number, name)| match sys::inherit(number) {
            Ok(descriptor) => Ok((name, descriptor)),
            Err(source) => Err(DescriptorError::NotOpen { number, source }),
        };
        Ok(Self {
            named: (FIRST..).zip(names).map(take).collect::<Result<_, _>>()?,
        })
    }

    /// Takes out all that are called `name`.
    pub fn all(&mut self, name: &str) -> Vec<OwnedFd> {
        self.named
            .extract_if(.., |(known, _)| known == name)
            .map(|(_, descriptor)| descriptor)
            .collect()
    }

    /// Takes out the one that is called `name`.
    ///
    /// # Errors
    /// [`DescriptorError::Missing`].
    pub fn one(&mut self, name: &str) -> Result<OwnedFd, DescriptorError> {
        self.all(name)
            .pop()
            .ok_or_else(|| DescriptorError::Missing {
                name: name.to_owned(),
            })
    }
}

/// One name for each descriptor.
fn names_of(count: Option<&str>, names: Option<&str>) -> Vec<String> {
    let count = count.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let names = names.unwrap_or_default().split(':');
    names.take(count).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_descriptor_has_its_name() {
        assert_eq!(names_of(Some("2"), Some("a:b")), ["a", "b"]);
        assert_eq!(names_of(Some("1"), Some("a:b")), ["a"]);
        assert!(names_of(None, Some("a")).is_empty());
        assert!(names_of(Some("x"), Some("a")).is_empty());
    }

    #[test]
    fn all_of_a_name_are_taken_out_and_a_missing_one_is_named() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let named = ["kept", "unix", "kept"].map(|name| (name.to_owned(), null()));
        let mut descriptors = Descriptors {
            named: named.into(),
        };
        assert_eq!(descriptors.all("kept").len(), 2);
        assert!(descriptors.all("kept").is_empty());
        descriptors.one("unix").unwrap();
        let error = descriptors.one("unix").unwrap_err();
        assert!(error.to_string().contains("\"unix\""), "{error}");
    }
}
