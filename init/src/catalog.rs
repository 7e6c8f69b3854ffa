//! Where definitions are found, and which container root each one means.
//!
//! A folder with a `service.toml` is a service, and the folder's name is the
//! service's. The image's own are below [`SYSTEM`], an operator's below
//! [`OPERATOR`].

use std::fs;
use std::path::{Path, PathBuf};

use definition::{Entry, Found, IMAGES};
use serde::{Deserialize, Serialize};

/// The services of the OS image.
pub const SYSTEM: &str = "/usr/lib/wherry/services";

/// The operator's services.
pub const OPERATOR: &str = "/state/services";

/// The most services that one folder may define.
const MOST: usize = 512;

/// What became of one folder's definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The folder's name.
    pub name: String,
    /// The service, or why it cannot be run.
    pub entry: Result<Entry, config::Error>,
}

/// Reads and parses all definitions of a folder, by name. A folder that does not
/// exist has none. It may block where the folder is on a disk.
pub fn read(folder: &Path) -> Vec<Reading> {
    let images = images();
    let mut readings = Vec::new();
    for name in folders(folder).into_iter().take(MOST) {
        let path = folder.join(&name).join("service.toml");
        // A folder without a definition is one that is being made.
        let Some(text) = config::read(&path, definition::MAX_LENGTH).transpose() else {
            continue;
        };
        let root = folder.join(&name).join("root");
        let found = Found {
            path: path.display().to_string(),
            text,
            root: root.is_dir().then_some(root),
            images: images.clone(),
            name,
        };
        readings.push(Reading {
            entry: found.understand(),
            name: found.name,
        });
    }
    readings
}

/// Parses the definition of a service that a client defines until the next boot.
/// It may block, as [`read`] does.
pub fn for_this_boot(name: String, text: String, root: Option<String>) -> Reading {
    let found = Found {
        path: format!("service.toml of {name}"),
        text: Ok(text),
        root: root
            .map(PathBuf::from)
            .filter(|root| root.is_absolute() && root.is_dir()),
        images: images(),
        name,
    };
    Reading {
        entry: found.understand(),
        name: found.name,
    }
}

/// The names of the folders in `folder`, sorted.
fn folders(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // Links count too.
            entry
                .path()
                .is_dir()
                .then(|| entry.file_name().into_string().ok())?
        })
        .collect();
    names.sort_unstable();
    names
}

fn images() -> Vec<(String, PathBuf)> {
    let system = folders(Path::new(SYSTEM))
        .into_iter()
        .map(|name| (name.clone(), Path::new(SYSTEM).join(name).join("root")));
    let own = folders(Path::new(IMAGES))
        .into_iter()
        .map(|name| (name.clone(), Path::new(IMAGES).join(name)));
    system.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "description = \"x\"\ncommand = [\"/x\"]\n";

    #[test]
    fn a_definition_is_read_with_the_root_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("web/root")).unwrap();
        fs::create_dir_all(folder.path().join("empty")).unwrap();
        fs::write(folder.path().join("web/service.toml"), TEXT).unwrap();
        let readings = read(folder.path());
        assert_eq!(
            readings.len(),
            1,
            "a folder without a definition is no service"
        );
        let entry = readings[0].entry.as_ref().unwrap();
        assert_eq!(entry.name.as_str(), "web");
        assert_eq!(entry.root, folder.path().join("web/root"));
    }

    #[test]
    fn a_folder_that_does_not_exist_defines_nothing() {
        assert_eq!(read(Path::new("/nonexistent")), Vec::new());
    }
}
