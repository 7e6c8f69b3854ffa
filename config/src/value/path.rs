//! Paths of files.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A path from the root on, without `..` and zero bytes: `"/run/wherry"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsolutePath(String);

crate::text!(AbsolutePath: Display);

impl AbsolutePath {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl FromStr for AbsolutePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!(
                "'{text}' is not an absolute path, expected one that begins with '/'"
            ));
        }
        if text.split('/').any(|part| part == "..") || text.contains('\0') {
            return Err(format!("'{text}' holds '..' or a zero byte"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<AbsolutePath> for String {
    fn from(path: AbsolutePath) -> Self {
        path.0
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_from_the_root_and_never_back() {
        for text in ["/", "/a/b", "/a..b/...", "/a//b"] {
            assert!(text.parse::<AbsolutePath>().is_ok(), "{text}");
        }
        for text in ["", "a", "./a", "/a/..", "/../a", "/a\0"] {
            assert!(text.parse::<AbsolutePath>().is_err(), "{text}");
        }
    }
}
