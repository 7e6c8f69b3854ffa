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

/// What is wrong where an entry of the folder is a link that leads nowhere.
const LEADS_NOWHERE: &str = "the folder is a link that leads nowhere, so nothing of it is read";

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
    let folders = folders(folder);
    let left_out = folders.len().saturating_sub(MOST);
    for (number, Folder { name, is_there }) in folders.into_iter().enumerate() {
        let place = folder.join(&name);
        let path = place.join("service.toml");
        let of_folder = |what: String| Reading {
            name: name.clone(),
            entry: Err(config::Error::of_file(place.display().to_string(), what)),
        };
        if number == MOST {
            readings.push(of_folder(format!(
                "a folder may define {MOST} services at most; this one and those after it in the \
                 alphabet are left out ({left_out})"
            )));
            break;
        }
        if let Err(what) = is_there {
            readings.push(of_folder(what));
            continue;
        }
        // A folder without a definition is one that is being made.
        let Some(text) = config::read(&path, definition::MAX_LENGTH).transpose() else {
            continue;
        };
        let root = without_links(place.join("root"), Path::new(crate::storage::STATE));
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

/// A folder in a folder, or a link in its place.
struct Folder {
    name: String,
    /// Or why nothing of it can be read.
    is_there: Result<(), String>,
}

/// The folders in `folder`, sorted by name; files are none. What cannot be a
/// folder of ours for its name or its target is among them, so that it is told.
fn folders(folder: &Path) -> Vec<Folder> {
    let mut folders: Vec<Folder> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // Links count too.
            let is_there = match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => Ok(()),
                Ok(_) => return None,
                Err(error) => Err(format!("{LEADS_NOWHERE}: {error}")),
            };
            let (name, is_there) = match entry.file_name().into_string() {
                Ok(name) => (name, is_there),
                Err(name) => (
                    name.to_string_lossy().into_owned(),
                    Err("the folder's name is not UTF-8".to_owned()),
                ),
            };
            Some(Folder { name, is_there })
        })
        .collect();
    folders.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    folders
}

/// The path to which an operator's links lead now, if that is below `folder`. A
/// container's root is opened without following any link, so one that leads elsewhere,
/// and one that is put there later, is an error of the service's start.
fn without_links(path: PathBuf, folder: &Path) -> PathBuf {
    let found = path.canonicalize().ok();
    found
        .filter(|found| found.starts_with(folder))
        .unwrap_or(path)
}

fn images() -> Vec<(String, PathBuf)> {
    let names = |folder| {
        folders(folder)
            .into_iter()
            .filter_map(|Folder { name, is_there }| is_there.is_ok().then_some(name))
    };
    let system = names(Path::new(SYSTEM))
        .map(|name| (name.clone(), Path::new(SYSTEM).join(name).join("root")));
    let own = names(Path::new(IMAGES)).map(|name| {
        let root = without_links(Path::new(IMAGES).join(&name), Path::new(IMAGES));
        (name, root)
    });
    system.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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

    /// Hostile: puts a FIFO in the place of a definition. Outcome: it is named at once, and all other definitions are read.
    #[test]
    fn a_definition_that_is_no_file_is_named_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir_all(folder.path().join(name).join("root")).unwrap();
        }
        let fifo = folder.path().join("b/service.toml");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", folder.path().join("a/service.toml")).unwrap();
        fs::write(folder.path().join("c/service.toml"), TEXT).unwrap();
        let readings = read(folder.path());
        let errors: Vec<String> = readings[..2]
            .iter()
            .map(|reading| reading.entry.as_ref().unwrap_err().to_string())
            .collect();
        assert!(
            errors[0].contains("a/service.toml: is a device"),
            "{errors:?}"
        );
        assert!(
            errors[1].contains("b/service.toml: is a FIFO"),
            "{errors:?}"
        );
        assert!(readings[2].entry.is_ok());
    }

    #[test]
    fn a_folder_that_is_a_link_to_nowhere_is_named_and_a_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        symlink("nowhere", folder.path().join("to-nothing")).unwrap();
        fs::write(folder.path().join("readme"), "").unwrap();
        let readings = read(folder.path());
        let names: Vec<&str> = readings.iter().map(|reading| &*reading.name).collect();
        assert_eq!(names, ["loop", "to-nothing"]);
        for reading in &readings {
            let error = reading.entry.as_ref().unwrap_err().to_string();
            assert!(
                error.contains(&format!("{}: {LEADS_NOWHERE}", reading.name)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_root_is_where_its_links_lead_as_long_as_that_is_inside() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        fs::create_dir_all(folder.join("images/web-2")).unwrap();
        symlink("web-2", folder.join("images/web")).unwrap();
        symlink("/", folder.join("images/host")).unwrap();
        let root = |name: &str| without_links(folder.join(name), &folder.join("images"));
        assert_eq!(root("images/web"), folder.join("images/web-2"));
        assert_eq!(root("images/host"), folder.join("images/host"));
    }

    #[test]
    fn definitions_that_are_too_many_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MOST + 3 {
            let place = folder.path().join(format!("s{number:04}"));
            fs::create_dir_all(place.join("root")).unwrap();
            fs::write(place.join("service.toml"), TEXT).unwrap();
        }
        let readings = read(folder.path());
        assert_eq!(readings.len(), MOST + 1);
        let error = readings[MOST].entry.as_ref().unwrap_err().to_string();
        assert!(error.contains("s0512: a folder may define 512"), "{error}");
        assert!(error.ends_with("left out (3)"), "{error}");
    }

    #[test]
    fn a_folder_that_does_not_exist_defines_nothing() {
        assert_eq!(read(Path::new("/nonexistent")), Vec::new());
    }
}
