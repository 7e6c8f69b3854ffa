//! Mounts the state, grows it, and makes the directories that others expect.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use super::{Error, Paths, superblock, sys};

/// The directories of the state, and their modes. `config` can hold secrets.
const DIRECTORIES: [(&str, u32); 6] = [
    ("config", 0o700),
    ("services", 0o755),
    ("images", 0o755),
    ("log", 0o750),
    ("updater", 0o700),
    ("var", 0o755),
];

/// Files of the state that are in the folder of the service that reads them, with the
/// places beside those folders where they may be put too, and whether such a place
/// is a link to them. A link to what is not there yet cannot be copied to, so what
/// is copied as a whole has none.
const CONFIGURATIONS: [(&str, &str, &str, bool); 3] = [
    ("network.toml", "network", "network/network.toml", true),
    ("update.toml", "updater", "updater/update.toml", true),
    (
        "update-root.json",
        "updater",
        "updater/update-root.json",
        false,
    ),
];

/// A file system that is smaller than its partition by less than this is left
/// alone: the kernel rounds down to what fills a block group, so a rest can
/// remain for good, and it is not worth asking at each boot.
const WORTH_GROWING: u64 = 4 << 20;

/// The most that volatile state may take of the memory, and the most files.
const VOLATILE_OPTIONS: &str = "mode=0755,size=25%,nr_inodes=65536";

/// What growing the mounted file system did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// Bytes before.
    pub from: u64,
    /// Bytes now; the same where there was nothing to grow.
    pub to: u64,
}

/// Mounts the ext4 file system of `device` at `target`. Device nodes and
/// set-uid bits on it have no effect; the first error makes it read-only, and
/// the kernel marks it for repair at the next boot.
pub fn mount_state(device: &Path, target: &Path) -> Result<(), Error> {
    mount_unless_mounted(
        device,
        target,
        "ext4",
        MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOATIME,
        "errors=remount-ro",
    )
}

/// Mounts a tmpfs at `target` in the state's place.
pub fn mount_volatile(target: &Path) -> Result<(), Error> {
    mount_unless_mounted(
        Path::new("tmpfs"),
        target,
        "tmpfs",
        MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
        VOLATILE_OPTIONS,
    )
}

fn mount_unless_mounted(
    device: &Path,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    options: &str,
) -> Result<(), Error> {
    if is_mounted(target)? {
        return Ok(());
    }
    mount(Some(device), target, Some(kind), flags, Some(options)).map_err(|source| Error::Mount {
        source_path: device.to_owned(),
        target: target.to_owned(),
        source,
    })
}

/// Takes the state away again; used only before anyone else has seen it.
pub fn unmount(target: &Path) {
    // Whether it worked shows at the next mount.
    let _ = umount2(target, MntFlags::MNT_DETACH);
}

/// Whether something is mounted at `target`: it is on another device than its
/// parent directory.
fn is_mounted(target: &Path) -> Result<bool, Error> {
    let device = |path: &Path| {
        fs::metadata(path)
            .map(|metadata| metadata.dev())
            .map_err(|source| Error::Path {
                doing: "look at",
                path: path.to_owned(),
                source,
            })
    };
    Ok(device(target)? != device(target.parent().unwrap_or(target))?)
}

/// Makes the state's directories and binds `var`. What fails is told, a
/// sentence each, and the rest is done anyway: a full file system is
/// still worth having.
pub fn furnish(paths: &Paths) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, mode) in DIRECTORIES {
        let path = paths.state.join(name);
        if path.is_dir() {
            continue;
        }
        if let Err(source) = fs::DirBuilder::new().mode(mode).create(&path) {
            let doing = "make the directory";
            failures.push(
                Error::Path {
                    doing,
                    path,
                    source,
                }
                .sentence(),
            );
        }
    }
    if let Err(error) = bind_var(paths) {
        failures.push(error.sentence());
        // Programs that need /var rather lose it at the next boot than fail.
        if let Err(error) = mount_volatile(&paths.var) {
            failures.push(error.sentence());
        }
    }
    failures
}

/// Moves configurations into the folder of the service that reads them: it sees no
/// other one. Returns what could not be moved, a sentence each.
pub fn sort_configurations(config: &Path) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, folder, target, is_link) in CONFIGURATIONS {
        let place = config.join(name);
        let own = config.join(target);
        let found = fs::symlink_metadata(&place);
        let moved = match found {
            Ok(found) if found.is_symlink() => continue,
            Ok(_) if fs::symlink_metadata(&own).is_ok_and(|own| own.len() > 0) => {
                failures.push(format!(
                    "{} is not read, because there is {}; remove one of them",
                    place.display(),
                    own.display()
                ));
                continue;
            }
            Ok(_) => make_folder(&config.join(folder)).and_then(|()| fs::rename(&place, &own)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        let linked = moved.and_then(|()| match is_link {
            true => make_folder(&config.join(folder)).and_then(|()| symlink(target, &place)),
            false => Ok(()),
        });
        if let Err(error) = linked {
            failures.push(format!("cannot sort {}: {error}", place.display()));
        }
    }
    failures
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn bind_var(paths: &Paths) -> Result<(), Error> {
    if is_mounted(&paths.var)? {
        return Ok(());
    }
    let source_path = paths.state.join("var");
    mount(
        Some(&source_path),
        &paths.var,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|source| Error::Mount {
        source_path,
        target: paths.var.clone(),
        source,
    })
}

/// Grows the file system of `device`, mounted at `target`, to the size of the
/// device. Safe at any time and after any interruption: the kernel does it in
/// journalled steps, and the next boot goes on where this one stopped.
pub fn grow_mounted(device: &Path, target: &Path) -> Result<Growth, Error> {
    let at = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Path {
            doing,
            path,
            source,
        }
    };
    let capacity = File::open(device)
        .and_then(|mut file| file.seek(SeekFrom::End(0)))
        .map_err(at("read the size of", device))?;
    let Some(before) = superblock::read(device)? else {
        return Ok(Growth { from: 0, to: 0 });
    };
    let from = before.size();
    if capacity < from + WORTH_GROWING {
        return Ok(Growth { from, to: from });
    }
    let directory = File::open(target).map_err(at("open", target))?;
    sys::resize_ext4(&directory, capacity / before.block_size).map_err(|source| Error::Grow {
        device: device.to_owned(),
        source,
    })?;
    let to = superblock::read(device)?.map_or(from, |after| after.size());
    Ok(Growth { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hostile: reads the configuration of another service, which can hold secrets. Outcome: each service of the OS image sees its own folder only, and files put beside the folders are moved into them.
    #[test]
    fn configurations_are_in_the_folder_of_the_service_that_reads_them() {
        let config = tempfile::tempdir().unwrap();
        let at = |name: &str| config.path().join(name);
        fs::write(at("network.toml"), "a").unwrap();
        fs::write(at("update-root.json"), "b").unwrap();
        fs::write(at("authority.pem"), "c").unwrap();
        assert_eq!(sort_configurations(config.path()), Vec::<String>::new());
        assert_eq!(fs::read_to_string(at("network/network.toml")).unwrap(), "a");
        assert_eq!(
            fs::read_to_string(at("updater/update-root.json")).unwrap(),
            "b"
        );
        // The old names lead there, before there is a file too.
        assert_eq!(fs::read_to_string(at("network.toml")).unwrap(), "a");
        fs::write(at("update.toml"), "d").unwrap();
        assert_eq!(fs::read_to_string(at("updater/update.toml")).unwrap(), "d");
        assert_eq!(sort_configurations(config.path()), Vec::<String>::new());
        // Two of them are told, and nothing is lost.
        fs::remove_file(at("network.toml")).unwrap();
        fs::write(at("network.toml"), "e").unwrap();
        let told = sort_configurations(config.path());
        assert!(told[0].contains("network.toml is not read"), "{told:?}");
        assert_eq!(fs::read_to_string(at("network/network.toml")).unwrap(), "a");
    }
}
