//! Which configuration is used when the file has an error.
//!
//! A machine must not lose its network because of a typing error, perhaps a
//! thousand kilometres from whoever made it. So a copy of each configuration that
//! was read without an error is kept; when the file has one, the error is
//! reported, and the copy is used, or the default where there is none. A file
//! that does not exist means the default, and ends the copy.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::{Error, read};

/// A configuration, and how it came to be used.
#[derive(Debug, PartialEq)]
pub struct Loaded<T> {
    /// The configuration.
    pub config: T,
    /// Where it comes from.
    pub source: Source,
    /// What is wrong with the file.
    pub error: Option<Error>,
    /// What is wrong with the copy, as one sentence.
    pub complaint: Option<String>,
}

/// Where a configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file.
    File,
    /// The copy of the last file without an error.
    LastGood,
    /// There is neither.
    Default,
}

/// A configuration file is read into memory whole, and nobody writes a longer
/// one.
const LONGEST: usize = 256 * 1024;

/// Reads the file at `path` with `parse` (file name, text) and copies it to
/// `last_good`, or falls back to what is there.
pub fn load<T: Default>(
    path: &Path,
    last_good: &Path,
    parse: impl Fn(&str, &str) -> Result<T, Error>,
) -> Loaded<T> {
    let load = |path: &Path| match read(path, LONGEST)? {
        Some(text) => parse(&path.display().to_string(), &text).map(|config| Some((config, text))),
        None => Ok(None),
    };
    match load(path) {
        Ok(Some((config, text))) => Loaded {
            config,
            source: Source::File,
            error: None,
            complaint: keep(last_good, &text),
        },
        Ok(None) => Loaded {
            config: T::default(),
            source: Source::Default,
            error: None,
            complaint: forget(last_good),
        },
        Err(error) => {
            let (config, source) = match load(last_good) {
                Ok(Some((config, _))) => (config, Source::LastGood),
                Ok(None) | Err(_) => (T::default(), Source::Default),
            };
            Loaded {
                config,
                source,
                error: Some(error),
                complaint: None,
            }
        }
    }
}

fn keep(last_good: &Path, text: &str) -> Option<String> {
    let unchanged = read(last_good, LONGEST).is_ok_and(|kept| kept.as_deref() == Some(text));
    if unchanged {
        return None;
    }
    let error = atomic_file::replace(last_good, text.as_bytes()).err()?;
    Some(format!(
        "{}: no copy of the configuration can be kept for when the next one has an error: {error}",
        last_good.display()
    ))
}

/// A configuration that was removed must not come back.
fn forget(last_good: &Path) -> Option<String> {
    match fs::remove_file(last_good) {
        Err(error) if error.kind() != ErrorKind::NotFound => Some(format!(
            "{}: cannot be removed: {error}",
            last_good.display()
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        number: u32,
    }

    fn parse(file: &str, text: &str) -> Result<Config, Error> {
        crate::parse(file, text, |config: Config| Ok(config))
    }

    const GOOD: &str = "number = 3\n";
    const BAD: &str = "nmuber = 3\n";

    #[test]
    fn an_error_falls_back_to_the_last_good_file_and_then_to_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let last_good = folder.path().join("last-good.toml");
        let load = || load(&path, &last_good, parse);

        assert_eq!(load().source, Source::Default);

        fs::write(&path, BAD).unwrap();
        let loaded = load();
        assert_eq!(loaded.source, Source::Default);
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.error.unwrap().position.unwrap().line, 1);

        fs::write(&path, GOOD).unwrap();
        let good = load();
        assert_eq!((good.source, &good.error), (Source::File, &None));

        fs::write(&path, BAD).unwrap();
        let loaded = load();
        assert_eq!(loaded.source, Source::LastGood);
        assert_eq!(loaded.config, good.config);
        assert!(loaded.error.is_some());

        fs::remove_file(&path).unwrap();
        assert_eq!(load().source, Source::Default);
        fs::write(&path, [0xff]).unwrap();
        let loaded = load();
        assert_eq!(loaded.source, Source::Default);
        assert!(loaded.error.unwrap().to_string().contains("is not UTF-8"));
        fs::write(&path, " ".repeat(LONGEST + 1)).unwrap();
        assert!(load().error.unwrap().to_string().contains("bytes at most"));
    }

    #[test]
    fn a_copy_that_cannot_be_kept_is_a_complaint_and_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, GOOD).unwrap();
        let loaded = load(&path, &folder.path().join("missing/last-good.toml"), parse);
        assert_eq!((loaded.source, loaded.error), (Source::File, None));
        assert!(loaded.complaint.unwrap().contains("no copy"));
    }
}
