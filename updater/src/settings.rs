//! The settings: the image's `update.toml`, then the machine's over it.

use policy::Config;

use crate::arguments::Run;
use crate::say::{self, Level};

/// The settings that were read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings that hold.
    pub config: Config,
    /// What is wrong with a file.
    pub problem: Option<String>,
    /// Whether a file with mistakes was ignored.
    pub is_default: bool,
}

/// A configuration file is read into memory completely; no real one is longer.
const LONGEST: usize = 256 * 1024;

/// Reads both files. One with a mistake counts as if it were not there.
pub fn load(arguments: &Run) -> Loaded {
    let mut loaded = Loaded {
        config: Config::default(),
        problem: None,
        is_default: true,
    };
    for folder in [&arguments.image, &arguments.config] {
        let path = folder.join("update.toml");
        let overlaid = match config::read(&path, LONGEST) {
            Ok(None) => continue,
            Ok(Some(text)) => loaded.config.clone().overlaid(&path, &text),
            Err(error) => Err(error),
        };
        match overlaid {
            Ok(config) => {
                loaded.config = config;
                loaded.is_default = false;
            }
            Err(error) => loaded.problem = Some(error.to_string()),
        }
    }
    loaded
}

impl Loaded {
    /// Reports problems, unless they are the same as `before`.
    pub fn complain(&self, before: Option<&str>) {
        if let Some(problem) = &self.problem
            && before != Some(problem)
        {
            say::event(Level::Error, "settings", &[], problem);
        }
    }
}
