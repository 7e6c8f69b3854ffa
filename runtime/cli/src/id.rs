//! A container's id, which is also the name of its folder.

use std::fmt;
use std::str::FromStr;

/// A checked id: letters, digits and `_+-,.`, no longer than a file name may
/// be, and neither `.` nor `..`. So it never leads out of the root of the
/// states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

impl Id {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Id, String> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-,.".contains(&byte);
        if text.is_empty() {
            return Err("container id cannot be empty".into());
        }
        if matches!(text, "." | "..") || text.len() > 255 || !text.bytes().all(known) {
            return Err("invalid container id format: letters, digits and _+-,. only".into());
        }
        Ok(Id(text.to_string()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
