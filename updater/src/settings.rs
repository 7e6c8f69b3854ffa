//! The settings: the image's `update.toml`, then the machine's over it.

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

/// A configuration file is read into memory whole, and nobody writes a longer
/// one.
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
    /// Says what is wrong, unless that is what was wrong `before`.
    pub fn complain(&self, before: Option<&str>) {
        if let Some(problem) = &self.problem
            && before != Some(problem)
        {
            say::event(Level::Error, "settings", &[], problem);
        }
    }
}
