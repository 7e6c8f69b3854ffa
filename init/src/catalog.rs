//! Where definitions are found, and which container root each one means.
//!
//! A folder with a `service.toml` is a service, and the folder's name is the
//! service's. The image's own are below [`SYSTEM`], an operator's below
//! [`OPERATOR`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use supervisor::ServiceName;

use crate::definition::{self, Definition, DefinitionError};

/// The services of the OS image.
pub const SYSTEM: &str = "/usr/lib/wherry/services";

/// The operator's services.
pub const OPERATOR: &str = "/state/services";

/// The operator's container roots, for more than one service.
const IMAGES: &str = "/state/images";

/// The most services that one folder may define.
const MOST: usize = 512;

/// A definition as it was found, not yet read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The folder's name.
    pub name: String,
    /// The definition's path.
    pub path: String,
    /// Its text, or why there is none.
    pub text: Result<String, String>,
    /// The root beside it, where there is one.
    pub root: Option<PathBuf>,
    /// The roots it may name by `image`, with their paths.
    pub images: Vec<(String, PathBuf)>,
}

/// Reads all definitions of a folder, by name. A folder that does not exist has
/// none. It may block where the folder is on a disk.
pub fn read(folder: &Path) -> Vec<Found> {
    let images = images();
    let mut found = Vec::new();
    for name in folders(folder).into_iter().take(MOST) {
        let path = folder.join(&name).join("service.toml");
        let text = match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > definition::MAX_LENGTH as u64 => Err(format!(
                "a definition may have {} bytes at most",
                definition::MAX_LENGTH
            )),
            Ok(_) => fs::read_to_string(&path).map_err(|error| error.to_string()),
            // A folder without a definition is one that is being made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error.to_string()),
        };
        let root = folder.join(&name).join("root");
        found.push(Found {
            path: path.display().to_string(),
            text,
            root: root.is_dir().then_some(root),
            images: images.clone(),
            name,
        });
    }
    found
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

/// A definition that can be run, with its root.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: ServiceName,
    /// The definition's path.
    pub path: String,
    /// Its text.
    pub text: String,
    /// What it says.
    pub definition: Definition,
    /// Its container's root.
    pub root: PathBuf,
}

/// Reads one definition. Pure.
///
/// # Errors
/// What is wrong with it, with file, line and key.
pub fn understand(found: &Found) -> Result<Entry, DefinitionError> {
    let error = |message: String| DefinitionError {
        path: found.path.clone(),
        line: None,
        message,
    };
    let name = ServiceName::from_str(&found.name).map_err(|_| {
        error(format!(
            "the folder's name '{}' is not a service's name: a letter, then letters, digits and '-', all lower case",
            found.name
        ))
    })?;
    let text = found
        .text
        .clone()
        .map_err(|why| error(format!("cannot be read: {why}")))?;
    let definition = definition::parse(&found.path, &text)?;
    let line = text
        .lines()
        .position(|line| line.trim_start().starts_with("image"))
        .map(|index| index + 1);
    let root = match &definition.image {
        None => found.root.clone().ok_or_else(|| {
            error("there is no folder `root` beside it, and no key `image` names another".to_owned())
        })?,
        Some(image) if image.contains(['/', ':', '@']) => {
            return Err(DefinitionError {
                line,
                ..error(format!(
                    "key `image`: '{image}' is an OCI reference, and this release has no service that fetches images; \
                     put the unpacked root into {IMAGES}/NAME and write image = \"NAME\""
                ))
            });
        }
        Some(image) => found
            .images
            .iter()
            .find(|(name, _)| name == image)
            .map(|(_, root)| root.clone())
            .ok_or_else(|| DefinitionError {
                line,
                ..error(format!(
                    "key `image`: there is no image '{image}', neither in the OS image nor in {IMAGES}"
                ))
            })?,
    };
    Ok(Entry {
        name,
        path: found.path.clone(),
        text,
        definition,
        root,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> Found {
        Found {
            name: name.to_owned(),
            path: format!("/state/services/{name}/service.toml"),
            text: Ok(text.to_owned()),
            root: None,
            images: vec![("tools".to_owned(), "/state/images/tools".into())],
        }
    }

    const TEXT: &str = "description = \"x\"\ncommand = [\"/x\"]\n";

    #[test]
    fn an_image_that_is_not_there_is_named_with_file_and_line() {
        let error = understand(&found("web", &format!("{TEXT}image = \"nginx\"\n"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/state/services/web/service.toml:3: key `image`: there is no image 'nginx', \
             neither in the OS image nor in /state/images"
        );
        assert!(understand(&found("web", TEXT)).is_err(), "no root at all");
    }

    #[test]
    fn an_image_is_found_by_its_name() {
        let entry = understand(&found("web", &format!("{TEXT}image = \"tools\"\n"))).unwrap();
        assert_eq!(entry.root, Path::new("/state/images/tools"));
    }

    #[test]
    fn an_oci_reference_is_refused_until_something_fetches_it() {
        let error = understand(&found("web", &format!("{TEXT}image = \"nginx:1\"\n"))).unwrap_err();
        assert!(error.to_string().contains("OCI reference"), "{error}");
    }

    #[test]
    fn a_folder_whose_name_is_no_service_name_is_an_error() {
        let error = understand(&found("Web Server", TEXT)).unwrap_err();
        assert!(error.to_string().contains("'Web Server'"), "{error}");
    }

    #[test]
    fn a_definition_is_read_with_the_root_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("web/root")).unwrap();
        fs::create_dir_all(folder.path().join("empty")).unwrap();
        fs::write(folder.path().join("web/service.toml"), TEXT).unwrap();
        let found = read(folder.path());
        assert_eq!(
            found.len(),
            1,
            "a folder without a definition is no service"
        );
        let entry = understand(&found[0]).unwrap();
        assert_eq!(entry.name.as_str(), "web");
        assert_eq!(entry.root, folder.path().join("web/root"));
    }

    #[test]
    fn a_folder_that_does_not_exist_defines_nothing() {
        assert_eq!(read(Path::new("/nonexistent")), Vec::new());
    }
}
