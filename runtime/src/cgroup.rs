//! The container's own cgroup (v2): creates, limits, watches, kills and removes
//! it.
//!
//! Invariant: a [`Cgroup`] holds only descriptors and a name; the kernel has
//! the state, so [`open`] after a re-execution gives the same thing.

mod devices;
mod hierarchy;
mod limits;
mod placeholder;
mod processes;
mod statistics;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use oci_spec::runtime::LinuxResources;

use crate::{Error, sys};

pub use hierarchy::{Hierarchy, unprivileged};
pub use limits::Setting;
pub use placeholder::Placeholder;
pub(crate) use processes::inner_cgroup;
pub use statistics::{
    BlockIo, BlockIoEntry, Cpu, CpuSet, CpuUsage, Empty, HugePages, Memory, MemoryEntry,
    MemoryEvents, Pids, Pressure, PressureLine, Rdma, Statistics, Throttling,
};

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    parent: OwnedFd,
    name: String,
    directory: OwnedFd,
    /// Its path, if it was opened by path.
    path: Option<PathBuf>,
}

/// What a cgroup uses. A missing controller counts as zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of memory, page cache included.
    pub memory: u64,
    /// Peak bytes of memory.
    pub memory_peak: u64,
    /// Processes and threads.
    pub pids: u64,
    /// CPU time, microseconds.
    pub cpu_usec: u64,
    /// How often a process was killed because memory ran out.
    pub oom_kills: u64,
}

/// Creates the cgroup `name` below `parent`, or opens it if it exists, and sets
/// its limits and device rules.
///
/// `parent` must delegate the controllers that the limits need
/// ([`enable_controllers`]) and must not hold a process itself. If this fails, a
/// cgroup that it has created is removed.
pub fn create(
    parent: BorrowedFd<'_>,
    name: &str,
    resources: &LinuxResources,
) -> Result<Cgroup, Error> {
    let made = match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(error(name, "mkdir".into(), errno)),
    };
    let configured = open(parent, name).and_then(|cgroup| {
        cgroup.configure(resources)?;
        Ok(cgroup)
    });
    if configured.is_err() && made {
        // The first error is the one reported.
        let _ = unlinkat(parent, name, UnlinkatFlags::RemoveDir);
    }
    configured
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
        path: None,
    })
}

/// Delegates every controller of the cgroup `directory` to its children.
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
    settings(resources)?;
    devices::compile(resources.devices().as_deref().unwrap_or_default()).map(drop)
}

/// The limits of a new cgroup, file by file.
pub fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    limits::plan(resources, &limits::Current::default())
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

    /// Its path, if a [`Hierarchy`] created or opened it.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
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

    /// Changes what is named and leaves everything else: limits that are not
    /// named, and the device rules if there are none.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let rules = resources.devices().as_deref().unwrap_or_default();
        let program = devices::compile(rules)?;
        self.set_limits(resources)?;
        if rules.is_empty() {
            return Ok(());
        }
        self.set_devices(program.as_deref())
    }

    /// Sets a new container's limits and device rules.
    fn configure(&self, resources: &LinuxResources) -> Result<(), Error> {
        let rules = resources.devices().as_deref().unwrap_or_default();
        let program = devices::compile(rules)?;
        self.set_limits(resources)?;
        self.set_devices(program.as_deref())
    }

    /// What an update with these limits writes, file by file.
    pub fn settings(&self, resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
        let (memory, cpu) = limits::depends_on(resources);
        // A missing controller limits nothing.
        let text = |file: &str| read(self.fd(), file).unwrap_or_default();
        let words = |text: &str| {
            let (quota, period) = text.trim().split_once(' ')?;
            Some((quota.to_string(), period.to_string()))
        };
        let current = limits::Current {
            memory_max: memory
                .then(|| text("memory.max").trim().parse().ok())
                .flatten(),
            cpu_max: cpu.then(|| words(&text("cpu.max"))).flatten(),
        };
        limits::plan(resources, &current)
    }

    fn set_limits(&self, resources: &LinuxResources) -> Result<(), Error> {
        let settings = self.settings(resources)?;
        self.check_memory_in_use(resources)?;
        let mut burst = None;
        for setting in &settings {
            match self.set(setting) {
                // Above the quota in force, but perhaps not above the new one.
                Err(Error::Cgroup {
                    errno: Errno::EINVAL,
                    ..
                }) if setting.file == limits::BURST => burst = Some(setting),
                other => other?,
            }
        }
        burst.map_or(Ok(()), |setting| self.set(setting))
    }

    /// `linux.resources.memory.checkBeforeUpdate`: refuses a limit that would
    /// kill at once.
    fn check_memory_in_use(&self, resources: &LinuxResources) -> Result<(), Error> {
        let memory = resources.memory().unwrap_or_default();
        if memory.check_before_update() != Some(true) {
            return Ok(());
        }
        // Missing: nothing is in use that could exceed a limit.
        let used = read(self.fd(), "memory.current").unwrap_or_default();
        let used: i64 = used.trim().parse().unwrap_or(0);
        for (name, limit) in [("swap", memory.swap()), ("limit", memory.limit())] {
            if limit.is_some_and(|limit| limit > 0 && limit <= used) {
                return Err(Error::invalid(
                    format!("linux.resources.memory.{name}"),
                    format!("is not above the {used} bytes in use"),
                ));
            }
        }
        Ok(())
    }

    fn set(&self, setting: &Setting) -> Result<(), Error> {
        let write_lines = |file: &str, value: &str| {
            value
                .lines()
                .try_for_each(|line| write(self.fd(), file, line))
        };
        let (mut file, mut value) = (&setting.file, &setting.value);
        let mut result = write_lines(file, value);
        if let (Err(Errno::ENOENT), Some((other, other_value))) = (result, &setting.otherwise) {
            (file, value) = (other, other_value);
            result = write_lines(file, value);
        }
        match result {
            Err(Errno::ENOENT) if setting.needless_without_file => Ok(()),
            Ok(()) => Ok(()),
            Err(errno) => {
                let mut operation = format!("set {}: write {value}", setting.field);
                let controller = file.split('.').next().unwrap_or_default();
                let there = read(self.fd(), "cgroup.controllers").unwrap_or_default();
                if errno == Errno::ENOENT
                    && !there
                        .split_ascii_whitespace()
                        .any(|word| word == controller)
                {
                    operation.push_str(&format!(
                        " (the controller {controller} is not delegated to this cgroup)"
                    ));
                }
                Err(self.error(file, operation, errno))
            }
        }
    }

    fn set_devices(&self, program: Option<&[sys::Extended]>) -> Result<(), Error> {
        match self.set_device_program(program) {
            Ok(()) => Ok(()),
            // A caller that may not attach programs cannot make a device
            // either: the container has the devices that its caller can open.
            Err(Errno::EPERM) if hierarchy::unprivileged() => Ok(()),
            Err(errno) => Err(self.error("", "set linux.resources.devices: bpf".into(), errno)),
        }
    }

    /// The new program is attached before the old one is removed: at no time
    /// can a device be opened that either forbids. `None` allows everything.
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
            Err(errno) => Err(self.error("", "remove".into(), errno)),
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
        let mut path = self.path.clone().unwrap_or_else(|| (&self.name).into());
        if !file.is_empty() {
            path.push(file);
        }
        error(path, operation, errno)
    }
}

/// The names of the files in a cgroup's directory.
fn files(directory: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut entries = entries(directory)?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn entries(directory: BorrowedFd<'_>) -> Result<Dir, Errno> {
    Dir::openat(
        directory,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// How many cgroups are visited; a container that makes more than the kernel
/// has numbers for does so while they are counted.
const MOST_VISITED: usize = 1 << 20;

/// Visits every cgroup below `top`: `enter` on the way down, `leave`, with its
/// parent and its name, when everything below it was visited.
///
/// The container decides how wide and how deep its tree is, so this needs three
/// descriptors and no stack for it.
fn walk(
    top: BorrowedFd<'_>,
    mut enter: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut here = open_directory(top, c".")?;
    let mut left = children(here.as_fd())?;
    // The name of each level, and its siblings that are still to be visited.
    let mut above: Vec<(CString, Vec<CString>)> = Vec::new();
    let mut visited = 0;
    loop {
        if let Some(name) = left.pop() {
            let below = match open_directory(here.as_fd(), &name) {
                Ok(below) => below,
                // Removed in the meantime.
                Err(Errno::ENOENT | Errno::ENODEV) => continue,
                Err(errno) => return Err(errno),
            };
            visited += 1;
            if visited > MOST_VISITED {
                return Err(Errno::E2BIG);
            }
            enter(below.as_fd())?;
            above.push((name, std::mem::replace(&mut left, children(below.as_fd())?)));
            here = below;
        } else {
            let Some((name, siblings)) = above.pop() else {
                return Ok(());
            };
            // cgroup v2 has no rename, so this is where it came from.
            here = open_directory(here.as_fd(), c"..")?;
            leave(here.as_fd(), &name)?;
            left = siblings;
        }
    }
}

fn open_directory(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(
        directory,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// The names of a cgroup's direct children; none of one that was removed.
fn children(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut entries = match entries(directory) {
        Ok(entries) => entries,
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::ENOENT | Errno::ENODEV) => break,
            Err(errno) => return Err(errno),
        };
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes the cgroups that the container has created in its own.
fn remove_below(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    walk(
        directory,
        |_| Ok(()),
        |parent, name| match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(errno),
        },
    )
}
