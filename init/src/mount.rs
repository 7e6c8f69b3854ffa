//! The file systems that PID 1 needs before anything else, and the root of the
//! cgroup hierarchy.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use crate::kernel_log::log;

/// Where the cgroup hierarchy is.
pub const CGROUP: &str = "/sys/fs/cgroup";

/// The cgroup of all services, below [`CGROUP`].
pub const SERVICES: &str = "services";

struct Early {
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    options: &'static str,
    /// Whether the machine cannot run without it.
    needed: bool,
}

const SAFE: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// In the order of mounting. What is mounted already stays as it is: the kernel
/// mounts `/dev` (`CONFIG_DEVTMPFS_MOUNT`), and where PID 1 runs in a container,
/// its runtime has hidden parts of `/proc` that a second mount would show.
const EARLY: [Early; 11] = [
    early("/proc", "proc", SAFE, "", true),
    early("/sys", "sysfs", SAFE, "", true),
    early("/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755", true),
    early(
        "/run",
        "tmpfs",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        "mode=0755,size=25%",
        true,
    ),
    early(
        "/sys/fs/cgroup",
        "cgroup2",
        SAFE,
        "nsdelegate,memory_recursiveprot",
        true,
    ),
    early(
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        "mode=0620,ptmxmode=0666",
        false,
    ),
    early(
        "/dev/shm",
        "tmpfs",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        "mode=1777",
        false,
    ),
    early(
        "/tmp",
        "tmpfs",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
        "mode=1777,size=25%",
        false,
    ),
    early("/sys/fs/bpf", "bpf", SAFE, "mode=0700", false),
    early("/sys/kernel/security", "securityfs", SAFE, "", false),
    // What the kernel said last before it panicked, for the updater.
    early("/sys/fs/pstore", "pstore", SAFE, "", false),
];

const fn early(
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    options: &'static str,
    needed: bool,
) -> Early {
    Early {
        target,
        kind,
        flags,
        options,
        needed,
    }
}

/// Mounts them.
///
/// # Errors
/// The first one that the machine cannot run without.
pub fn early_file_systems() -> Result<(), String> {
    for entry in &EARLY {
        if entry.target.starts_with("/dev/") {
            let _ = fs::DirBuilder::new().mode(0o755).create(entry.target);
        }
        if is_mount_point(Path::new(entry.target)) {
            continue;
        }
        let result = mount(
            Some(entry.kind),
            entry.target,
            Some(entry.kind),
            entry.flags,
            Some(entry.options),
        );
        match result {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(error) if entry.needed => {
                return Err(format!(
                    "cannot mount {} on {}: {}",
                    entry.kind,
                    entry.target,
                    error.desc()
                ));
            }
            Err(error) => log!(
                Warning,
                "cannot mount {} on {}: {}",
                entry.kind,
                entry.target,
                error.desc()
            ),
        }
    }
    // A mount that PID 1 makes later, such as the state partition's, must reach
    // no container by itself.
    if let Err(error) = mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    ) {
        log!(Warning, "cannot make the mounts private: {}", error.desc());
    }
    Ok(())
}

/// Whether `path` is on another file system than the folder that holds it.
fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    match (device(path), device(path.parent().unwrap_or(path))) {
        (Ok(own), Ok(above)) => own != above,
        // Mounting tells what is wrong.
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// The folders below `/run` that PID 1 uses itself.
///
/// # Errors
/// The one that cannot be made.
pub fn runtime_folders() -> Result<(), String> {
    for (path, mode) in [
        ("/run/wherry", 0o755),
        ("/run/wherry/notify", 0o700),
        ("/run/lock", 0o755),
    ] {
        make_folder(Path::new(path), mode)?;
    }
    Ok(())
}

/// Makes a folder with what is above it, or leaves it as it is.
///
/// # Errors
/// Which and why.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| format!("cannot make {}: {error}", path.display()))
}

/// Hands the controllers down and makes the cgroup of the services; returns its
/// folder. PID 1 itself stays in the root of the hierarchy, which has no limits.
///
/// # Errors
/// What failed.
pub fn cgroup_tree() -> Result<OwnedFd, String> {
    let root = folder(CGROUP)?;
    runtime::cgroup::enable_controllers(root.as_fd()).map_err(|error| error.to_string())?;
    let path = format!("{CGROUP}/{SERVICES}");
    make_folder(Path::new(&path), 0o755)?;
    let services = folder(&path)?;
    let limit = limit_of_services(memory());
    match fs::write(format!("{path}/memory.max"), limit.to_string()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log!(Warning, "cannot limit the memory of the services: {error}");
        }
        Ok(()) | Err(_) => {}
    }
    runtime::cgroup::enable_controllers(services.as_fd()).map_err(|error| error.to_string())?;
    Ok(services)
}

/// The machine's memory in bytes.
pub fn memory() -> u64 {
    nix::sys::sysinfo::sysinfo().map_or(u64::MAX, |information| information.ram_total())
}

/// How much memory all services together may use, of so many bytes: the rest is for
/// PID 1 and the kernel, so that the services run out of memory before the machine
/// does, and the kernel chooses among them.
fn limit_of_services(memory: u64) -> u64 {
    memory - (memory / 16).clamp(24 << 20, 256 << 20).min(memory / 2)
}

/// Opens a folder.
///
/// # Errors
/// Which and why.
pub fn folder(path: &str) -> Result<OwnedFd, String> {
    open(
        path,
        OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| format!("cannot open {path}: {}", error.desc()))
}

/// `/dev/null`, for the services' standard input.
///
/// # Errors
/// It cannot be opened.
pub fn null() -> Result<OwnedFd, String> {
    File::open("/dev/null")
        .map(OwnedFd::from)
        .map_err(|error| format!("cannot open /dev/null: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hostile: two services without limits take all memory that they get. Outcome: all services together have a limit below the machine's memory, so one of them is killed as a whole, and never PID 1.
    #[test]
    fn the_services_together_leave_memory_to_pid_1_and_the_kernel() {
        for (memory, left) in [
            (256 << 20, 24 << 20),
            (1 << 30, 64 << 20),
            (64 << 30, 256 << 20),
        ] {
            assert_eq!(limit_of_services(memory), memory - left);
        }
        assert_eq!(limit_of_services(16 << 20), 8 << 20);
        assert!(memory() > 0);
    }

    #[test]
    fn only_what_is_on_another_file_system_is_a_mount_point() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self/fd")));
        assert!(!is_mount_point(Path::new("/nonexistent")));
        assert!(!is_mount_point(Path::new("/")));
    }
}
