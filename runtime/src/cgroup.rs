//! The container's own cgroup (v2): made, limited, watched, killed, removed.
//!
//! Invariant: a [`Cgroup`] holds nothing but descriptors and a name; the kernel
//! has the state, so [`open`] after a re-execution gives the same thing.

mod devices;
mod limits;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use oci_spec::runtime::LinuxResources;

use crate::{Error, sys};

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    parent: OwnedFd,
    name: String,
    directory: OwnedFd,
}

/// What a cgroup uses. A controller that is not there counts as zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of memory, page cache included.
    pub memory: u64,
    /// The most bytes of memory there were.
    pub memory_peak: u64,
    /// Processes and threads.
    pub pids: u64,
    /// CPU time, microseconds.
    pub cpu_usec: u64,
    /// Times a process was killed because memory was out.
    pub oom_kills: u64,
}

/// Makes the cgroup `name` below `parent`, or opens it where it exists, and
/// sets its limits and device rules.
///
/// `parent` must hand down the controllers that the limits need
/// ([`enable_controllers`]) and hold no process itself.
pub fn create(
    parent: BorrowedFd<'_>,
    name: &str,
    resources: &LinuxResources,
) -> Result<Cgroup, Error> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(error(name, "mkdir".into(), errno)),
    }
    let cgroup = open(parent, name)?;
    cgroup.update(resources)?;
    Ok(cgroup)
}

/// Opens the existing cgroup `name` below `parent`.
pub fn open(parent: BorrowedFd<'_>, name: &str) -> Result<Cgroup, Error> {
    let failed = |errno| error(name, "open".into(), errno);
    Ok(Cgroup {
        directory: openat(
            parent,
            name,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed)?,
        parent: parent.try_clone_to_owned().map_err(|source| {
            failed(source.raw_os_error().map_or(Errno::EMFILE, Errno::from_raw))
        })?,
        name: name.to_string(),
    })
}

/// Hands every controller that the cgroup `directory` has down to its children.
pub fn enable_controllers(directory: BorrowedFd<'_>) -> Result<(), Error> {
    let file = "cgroup.controllers";
    let controllers = read(directory, file).map_err(|errno| error(file, "read".into(), errno))?;
    let words: Vec<String> = controllers
        .split_ascii_whitespace()
        .map(|controller| format!("+{controller}"))
        .collect();
    let (file, words) = ("cgroup.subtree_control", words.join(" "));
    write(directory, file, &words).map_err(|errno| error(file, format!("write {words}"), errno))
}

/// Refuses what [`create`] could not enforce, without touching anything.
pub(crate) fn check(resources: &LinuxResources) -> Result<(), Error> {
    limits::plan(resources)?;
    devices::compile(resources.devices().as_deref().unwrap_or_default()).map(drop)
}

fn error(path: impl AsRef<Path>, operation: String, errno: Errno) -> Error {
    Error::Cgroup {
        path: path.as_ref().to_path_buf(),
        operation,
        errno,
    }
}

fn read(directory: BorrowedFd<'_>, file: &str) -> Result<String, Errno> {
    let file = openat(
        directory,
        file,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut text = Vec::new();
    let mut part = [0; 1024];
    loop {
        match nix::unistd::read(&file, &mut part)? {
            0 => break,
            length => text.extend_from_slice(&part[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write(directory: BorrowedFd<'_>, file: &str, value: &str) -> Result<(), Errno> {
    let file = openat(
        directory,
        file,
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    nix::unistd::write(&file, value.as_bytes()).map(drop)
}

/// The number after `key` in a file of lines `key number`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

impl Cgroup {
    /// The directory, for [`crate::Start::cgroup`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Its name below its parent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills every process in it and below it (`cgroup.kill`).
    pub fn kill(&self) -> Result<(), Error> {
        self.write("cgroup.kill", "1")
    }

    /// Stops, or lets go on, every process in it.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// `cgroup.events`, open for epoll: EPOLLPRI whenever [`Cgroup::populated`] may have changed.
    pub fn events(&self) -> Result<File, Error> {
        let file = "cgroup.events";
        openat(
            self.fd(),
            file,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map(File::from)
        .map_err(|errno| self.error(file, "open".into(), errno))
    }

    /// Whether any process is in it or below it.
    pub fn populated(&self) -> Result<bool, Error> {
        Ok(value_of(&self.read("cgroup.events")?, "populated") == Some(1))
    }

    /// Bytes of memory in use.
    pub fn memory_current(&self) -> Result<u64, Error> {
        let file = "memory.current";
        self.read(file)?
            .trim()
            .parse()
            .map_err(|_| self.error(file, "read".into(), Errno::EINVAL))
    }

    /// What it uses.
    pub fn stats(&self) -> Result<Stats, Error> {
        let text = |file: &str| match read(self.fd(), file) {
            Ok(text) => Ok(text),
            Err(Errno::ENOENT) => Ok(String::new()),
            Err(errno) => Err(self.error(file, "read".into(), errno)),
        };
        let number = |file: &str| text(file).map(|text| text.trim().parse().unwrap_or(0));
        Ok(Stats {
            memory: number("memory.current")?,
            memory_peak: number("memory.peak")?,
            pids: number("pids.current")?,
            cpu_usec: value_of(&text("cpu.stat")?, "usage_usec").unwrap_or(0),
            oom_kills: value_of(&text("memory.events")?, "oom_kill").unwrap_or(0),
        })
    }

    /// Sets the limits and device rules anew; a limit that is not named stays as it is.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let settings = limits::plan(resources)?;
        let program = devices::compile(resources.devices().as_deref().unwrap_or_default())?;
        for setting in settings {
            for line in setting.value.lines() {
                match write(self.fd(), &setting.file, line) {
                    Ok(()) => {}
                    // A kernel without swap: whatever the limit, none is used.
                    Err(Errno::ENOENT) if setting.file == limits::SWAP => {}
                    Err(errno) => {
                        let operation = format!("set {}: write {line}", setting.field);
                        return Err(self.error(&setting.file, operation, errno));
                    }
                }
            }
        }
        self.set_device_program(program.as_deref())
            .map_err(|errno| error(&self.name, "set linux.resources.devices: bpf".into(), errno))
    }

    /// The new program is there before the old one goes: at no time is a device
    /// open that either forbids. `None` allows everything.
    fn set_device_program(&self, program: Option<&[sys::Extended]>) -> Result<(), Errno> {
        let old = sys::device_programs(self.fd())?;
        if let Some(program) = program {
            let program = sys::load_device_program(program)?;
            sys::attach_device_program(self.fd(), program.as_fd())?;
        }
        for id in old {
            sys::detach_device_program(self.fd(), id)?;
        }
        Ok(())
    }

    /// Removes it and what is below it; fails with EBUSY while a process is left.
    pub fn remove(&self) -> Result<(), Error> {
        match remove_below(self.fd())
            .and_then(|()| unlinkat(&self.parent, self.name.as_str(), UnlinkatFlags::RemoveDir))
        {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(error(&self.name, "remove".into(), errno)),
        }
    }

    fn read(&self, file: &str) -> Result<String, Error> {
        read(self.fd(), file).map_err(|errno| self.error(file, "read".into(), errno))
    }

    fn write(&self, file: &str, value: &str) -> Result<(), Error> {
        write(self.fd(), file, value)
            .map_err(|errno| self.error(file, format!("write {value}"), errno))
    }

    fn error(&self, file: &str, operation: String, errno: Errno) -> Error {
        error(Path::new(&self.name).join(file), operation, errno)
    }
}

/// Removes the cgroups that the container has made in its own.
fn remove_below(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut entries = Dir::openat(
        directory,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() != Some(Type::Directory) || name == c"." || name == c".." {
            continue;
        }
        let below = openat(
            directory,
            name,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        remove_below(below.as_fd())?;
        unlinkat(directory, name, UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}
