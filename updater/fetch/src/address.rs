//! A repository's address and the addresses of the files in it.

use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::FetchError;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// On a server.
    Http(Url),
    /// In a folder: a USB stick, a disk.
    Folder(PathBuf),
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, FetchError> {
        let refuse = |why: &str| FetchError::Setting {
            what: format!("repository '{text}'"),
            why: why.to_owned(),
        };
        if text.starts_with('/') {
            return Ok(Self::Folder(text.into()));
        }
        let url = Url::parse(text).map_err(|error| {
            refuse(&format!(
                "{error}; give https://, http://, file:/// or a path that begins with '/'"
            ))
        })?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Http(url)),
            "file" => url
                .to_file_path()
                .map(Self::Folder)
                .map_err(|()| refuse("a file address has no host: file:///…")),
            _ => Err(refuse(
                "only https, http and file addresses and paths can be fetched from",
            )),
        }
    }

    /// The address of a file in it. `path` is relative and has no `.` or `..`;
    /// `None` if it has.
    pub(crate) fn join(&self, path: &str) -> Option<Self> {
        let ordinary = |component| matches!(component, Component::Normal(_));
        if path.is_empty() || !Path::new(path).components().all(ordinary) {
            return None;
        }
        match self {
            Self::Http(base) => {
                let mut url = base.clone();
                url.path_segments_mut()
                    .ok()?
                    .pop_if_empty()
                    .extend(path.split('/'));
                Some(Self::Http(url))
            }
            Self::Folder(base) => Some(Self::Folder(base.join(path))),
        }
    }

    /// For people: without user name, password and query, which may be secrets.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Http(url) => http_client::shown(url),
            Self::Folder(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_below_any_kind_of_address() {
        for (base, path, full) in [
            ("http://a/b", "c/d", "http://a/b/c/d"),
            ("http://a/b/", "c~1", "http://a/b/c~1"),
            ("https://u:p@a:81?sig=1", "c d", "https://a:81/c%20d"),
            ("file:///srv/x", "c/d", "/srv/x/c/d"),
            ("/srv/x/", "c", "/srv/x/c"),
        ] {
            let address = Address::parse(base).unwrap().join(path).unwrap();
            assert_eq!(address.shown(), full);
        }
        let Address::Http(url) = Address::parse("https://u:p@a?sig=1")
            .unwrap()
            .join("b")
            .unwrap()
        else {
            panic!("an HTTPS address");
        };
        assert_eq!(url.as_str(), "https://u:p@a/b?sig=1");
    }

    #[test]
    fn no_path_leads_out_of_a_repository() {
        let folder = Address::parse("/srv/x").unwrap();
        let server = Address::parse("http://a/b").unwrap();
        for path in ["", "..", "../c", "/c", "a/../../c", "./c"] {
            assert_eq!(folder.join(path), None, "{path}");
            assert_eq!(server.join(path), None, "{path}");
        }
        // A URL is not a path.
        assert_eq!(
            server.join("http://evil/c").unwrap().shown(),
            "http://a/b/http:/evil/c".replace(":/e", "://e")
        );
    }

    #[test]
    fn an_address_that_nothing_can_be_fetched_from_is_refused_by_name() {
        for text in ["", "srv/x", "ftp://a/b", "file://host/x", "http://"] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
    }
}
