//! The settings: the image's `update.toml`, then the machine's over it.

use std::fs;
use std::io;
use std::path::Path;

use policy::Config;

use crate::arguments::Run;
use crate::say::{self, Level};

/// What was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings that hold.
    pub config: Config,
    /// What is wrong with a file.
    pub problem: Option<String>,
    /// Whether they are what they are for want of a file without mistakes.
    pub is_default: bool,
}

/// Reads both files. One with a mistake counts as if it were not there.
pub fn load(arguments: &Run) -> Loaded {
    let mut loaded = Loaded {
        config: Config::default(),
        problem: None,
        is_default: true,
    };
    for folder in [&arguments.image, &arguments.config] {
        let path = folder.join("update.toml");
        let overlaid = match read(&path) {
            Ok(None) => continue,
            Ok(Some(text)) => loaded
                .config
                .clone()
                .overlaid(&path, &text)
                .map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        };
        match overlaid {
            Ok(config) => {
                loaded.config = config;
                loaded.is_default = false;
            }
            Err(problem) => loaded.problem = Some(problem),
        }
    }
    loaded
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Loaded {
    /// Says what is wrong, unless that is what was wrong `before`.
    pub fn complain(&self, before: Option<&str>) {
        if let Some(problem) = &self.problem
            && before != Some(problem)
        {
            say::event(Level::Error, "settings", &[], problem);
        }
    }
}
