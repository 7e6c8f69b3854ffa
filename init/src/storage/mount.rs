//! Mounts the state, grows it, and makes the directories that others expect.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
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
