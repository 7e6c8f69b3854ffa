//! The descriptors that PID 1 passes, by name (sd_listen_fds(3))

use std::io;
use std::os::fd::OwnedFd;

use crate::sys;

/// The first one's number.
const FIRST: i32 = 3;

/// What PID 1 passed.
pub struct Inherited {
    descriptors: Vec<(String, OwnedFd)>,
}

impl Inherited {
    /// Takes over the descriptors that these two variables tell of. To be
    /// called once, before any other is opened. (`LISTEN_PID` is not asked:
    /// this process is PID 1's child, and passes nothing on.)
    pub fn take(count: Option<&str>, names: Option<&str>) -> io::Result<Inherited> {
        let descriptors = (FIRST..)
            .zip(names_of(count, names))
            .map(|(number, name)| Ok((name, sys::inherit(number)?)))
            .collect::<io::Result<_>>()?;
        Ok(Inherited { descriptors })
    }

    /// All that are called `name`.
    pub fn all(&mut self, name: &str) -> Vec<OwnedFd> {
        let descriptors = std::mem::take(&mut self.descriptors);
        let (wanted, others) = descriptors
            .into_iter()
            .partition(|(known, _)| known == name);
        self.descriptors = others;
        wanted
            .into_iter()
            .map(|(_, descriptor)| descriptor)
            .collect()
    }

    /// The one that is called `name`, without which nothing goes.
    pub fn one(&mut self, name: &str) -> io::Result<OwnedFd> {
        self.all(name).pop().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("LISTEN_FDS and LISTEN_FDNAMES name no descriptor \"{name}\""),
            )
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
}
