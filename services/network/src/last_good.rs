//! Which configuration is used when the file has an error.
//!
//! A machine must not lose its network over a typing error, perhaps a thousand
//! kilometres from who made it. So each configuration that was read without an
//! error is kept beside; one with an error is reported loudly, and the kept one
//! is used, or the default where none is. Whoever has no file at all wants the
//! default.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::config::{self, Config, ConfigError};
use crate::files;

/// A configuration, and how it came to be used.
#[derive(Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub source: Source,
    /// What is wrong with the file, if something is.
    pub error: Option<ConfigError>,
}

/// Where the used configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    File,
    LastGood,
    Default,
}

/// Nobody writes more; it is read into memory whole.
const MAX_LENGTH: usize = 256 * 1024;

/// Reads the file at `path`, and keeps it at `last_good` or falls back to what
/// is there.
pub fn load(path: &Path, last_good: &Path) -> Loaded {
    match read(path) {
        Ok(Some((text, config))) => {
            keep(last_good, &text);
            Loaded {
                config,
                source: Source::File,
                error: None,
            }
        }
        Ok(None) => {
            // What is not there any more must not come back.
            match fs::remove_file(last_good) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    log::warn!("{}: {error}", last_good.display());
                }
                _ => {}
            }
            Loaded {
                config: Config::default(),
                source: Source::Default,
                error: None,
            }
        }
        Err(error) => {
            let (config, source) = match read(last_good) {
                Ok(Some((_, config))) => (config, Source::LastGood),
                Ok(None) | Err(_) => (Config::default(), Source::Default),
            };
            Loaded {
                config,
                source,
                error: Some(error),
            }
        }
    }
}

/// `None` where there is no file.
fn read(path: &Path) -> Result<Option<(String, Config)>, ConfigError> {
    let unreadable = |message: String| ConfigError {
        path: path.to_owned(),
        line: None,
        message,
    };
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(format!("cannot be read: {error}"))),
        Ok(text) if text.len() > MAX_LENGTH => {
            return Err(unreadable(format!("is longer than {MAX_LENGTH} bytes")));
        }
        Ok(text) => text,
    };
    config::parse(path, &text).map(|config| Some((text, config)))
}

fn keep(last_good: &Path, text: &str) {
    let unchanged = fs::read_to_string(last_good).is_ok_and(|kept| kept == text);
    if unchanged {
        return;
    }
    let written: io::Result<()> = files::replace(last_good, text.as_bytes(), files::Sync::Disk);
    if let Err(error) = written {
        log::warn!(
            "{}: the configuration cannot be kept for the case that the next one has an error: {error}",
            last_good.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "wait = \"3s\"\n";
    const BAD: &str = "wiat = \"3s\"\n";

    #[test]
    fn an_error_falls_back_to_the_last_good_file_and_then_to_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("network.toml");
        let last_good = directory.path().join("last-good.toml");
        let load = || load(&path, &last_good);

        assert_eq!(load().source, Source::Default);

        fs::write(&path, BAD).unwrap();
        let loaded = load();
        assert_eq!(loaded.source, Source::Default);
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.error.unwrap().line, Some(1));

        fs::write(&path, GOOD).unwrap();
        let good = load();
        assert_eq!((good.source, &good.error), (Source::File, &None));

        fs::write(&path, BAD).unwrap();
        let loaded = load();
        assert_eq!(
            (loaded.source, &loaded.config),
            (Source::LastGood, &good.config)
        );
        assert!(loaded.error.is_some());

        fs::remove_file(&path).unwrap();
        assert_eq!(load().source, Source::Default);
        fs::write(&path, [0xff]).unwrap();
        let loaded = load();
        assert_eq!(loaded.source, Source::Default);
        assert!(loaded.error.unwrap().message.contains("cannot be read"));
    }
}
