//! What a process can find out about itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, getgroups, getpgrp, getpid, getppid, getresgid, getresuid, getsid};
use serde::{Deserialize, Serialize};

use crate::sys;

/// The limits of getrlimit(2), by their names in a specification.
pub const RESOURCES: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

/// Names of capabilities, in the order of their bits.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// One line of a mount table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub root: String,
    pub point: String,
    pub options: Vec<String>,
    /// `shared:1`, `master:2`, `unbindable`.
    pub propagation: Vec<String>,
    pub kind: String,
    pub source: String,
    pub super_options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let words: Vec<&str> = line.split(' ').collect();
        let dash = words.iter().position(|&word| word == "-")?;
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        Some(Mount {
            root: (*words.get(3)?).to_owned(),
            point: words.get(4)?.replace("\\040", " "),
            options: list(words.get(5)?),
            propagation: words.get(6..dash)?.iter().map(|&w| w.to_owned()).collect(),
            kind: (*words.get(dash + 1)?).to_owned(),
            source: (*words.get(dash + 2)?).to_owned(),
            super_options: list(words.get(dash + 3)?),
        })
    }

    /// Whether the mount's own options have this one.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|have| have == option)
    }

    /// Whether it is in a peer group, or similar: `shared`, `master`.
    pub fn propagates(&self, kind: &str) -> bool {
        self.propagation.iter().any(|have| have.starts_with(kind))
    }
}

/// The mount table of this process, in the order of the kernel.
pub fn mounts() -> Vec<Mount> {
    mounts_of("self")
}

/// The mount table of a process, as far as it is visible.
pub fn mounts_of(pid: &str) -> Vec<Mount> {
    fs::read_to_string(format!("/proc/{pid}/mountinfo"))
        .unwrap_or_default()
        .lines()
        .filter_map(Mount::parse)
        .collect()
}

/// The namespaces of a process, as far as they are visible.
pub fn namespaces_of(pid: &str) -> BTreeMap<String, String> {
    entries(&format!("/proc/{pid}/ns"))
        .into_iter()
        .filter_map(|name| {
            let link = fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()?;
            Some((name, link.to_string_lossy().into_owned()))
        })
        .collect()
}

/// The command line of a process.
pub fn program_of(pid: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// A process's world. What needs `/proc` is empty without it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct World {
    /// Real, effective and saved.
    pub uid: [u32; 3],
    /// Real, effective and saved.
    pub gid: [u32; 3],
    pub groups: Vec<u32>,
    pub umask: u32,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub no_new_privileges: bool,
    /// 0 without, 2 with a filter.
    pub seccomp: u32,
    pub pid: i32,
    pub ppid: i32,
    pub session: i32,
    pub group: i32,
    pub cwd: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub hostname: String,
    pub domainname: String,
    pub machine: String,
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Number and target, without the one that lists them.
    pub descriptors: BTreeMap<i32, String>,
    pub mounts: Vec<Mount>,
    pub namespaces: BTreeMap<String, String>,
    pub cgroup: String,
    pub oom_score_adj: String,
    pub scheduling: Option<sys::Scheduling>,
    pub io_priority: Option<(i64, i64)>,
    pub affinity: Vec<usize>,
    pub personality: i64,
    pub monotonic: i64,
    pub boottime: i64,
    /// Name and whether it is up.
    pub interfaces: BTreeMap<String, bool>,
    /// The processes in `/proc`.
    pub processes: Vec<i32>,
    /// Of standard input, output and error.
    pub terminals: [bool; 3],
    pub window: Option<(u16, u16)>,
}

/// Collects everything.
pub fn look() -> World {
    let [effective, permitted, inheritable] = sys::capabilities().unwrap_or_default();
    let user = getresuid();
    let group = getresgid();
    let mask = umask(Mode::empty());
    umask(mask);
    let names = nix::sys::utsname::uname();
    let text = |name: Result<&std::ffi::OsStr, _>| {
        name.map(|name: &std::ffi::OsStr| name.to_string_lossy().into_owned())
            .unwrap_or_else(|_: nix::Error| String::new())
    };
    let stdin = std::io::stdin();
    World {
        uid: user.map_or([u32::MAX; 3], |ids| {
            [ids.real, ids.effective, ids.saved].map(|id| id.as_raw())
        }),
        gid: group.map_or([getegid().as_raw(); 3], |ids| {
            [ids.real, ids.effective, ids.saved].map(|id| id.as_raw())
        }),
        groups: getgroups()
            .unwrap_or_default()
            .into_iter()
            .map(|id| id.as_raw())
            .collect(),
        umask: mask.bits(),
        effective,
        permitted,
        inheritable,
        bounding: sys::bounding(),
        ambient: sys::ambient(),
        no_new_privileges: sys::no_new_privileges(),
        seccomp: status("Seccomp")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        pid: getpid().as_raw(),
        ppid: getppid().as_raw(),
        session: getsid(None).map_or(-1, |pid| pid.as_raw()),
        group: getpgrp().as_raw(),
        cwd: std::env::current_dir()
            .ok()
            .map(|path| path.to_string_lossy().into_owned()),
        args: std::env::args().collect(),
        env: std::env::vars_os()
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
            .collect(),
        hostname: text(names.as_ref().map(|n| n.nodename()).map_err(|e| *e)),
        domainname: sys::domain_name().unwrap_or_default(),
        machine: text(names.as_ref().map(|n| n.machine()).map_err(|e| *e)),
        limits: RESOURCES
            .into_iter()
            .filter_map(|(name, resource)| Some((name.to_owned(), getrlimit(resource).ok()?)))
            .collect(),
        descriptors: descriptors(),
        mounts: mounts(),
        namespaces: namespaces_of("self"),
        cgroup: read("/proc/self/cgroup"),
        oom_score_adj: read("/proc/self/oom_score_adj"),
        scheduling: sys::scheduling().ok(),
        io_priority: sys::io_priority().ok(),
        affinity: sys::affinity().unwrap_or_default(),
        personality: sys::personality(),
        monotonic: sys::clock(libc::CLOCK_MONOTONIC).unwrap_or(0),
        boottime: sys::clock(libc::CLOCK_BOOTTIME).unwrap_or(0),
        interfaces: interfaces(),
        processes: entries("/proc")
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        terminals: [0, 1, 2].map(|fd| {
            let path = format!("/proc/self/fd/{fd}");
            fs::read_link(path).is_ok_and(|link| link.starts_with("/dev/pts"))
        }),
        window: sys::window_size(stdin.as_fd()).ok(),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

fn status(key: &str) -> Option<String> {
    read("/proc/self/status").lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == key).then(|| value.trim().to_owned())
    })
}

fn entries(directory: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The open descriptors and what they lead to.
pub fn descriptors() -> BTreeMap<i32, String> {
    entries("/proc/self/fd")
        .into_iter()
        .filter_map(|name| {
            // The one that listed them is closed by now.
            let link = fs::read_link(format!("/proc/self/fd/{name}")).ok()?;
            Some((name.parse().ok()?, link.to_string_lossy().into_owned()))
        })
        .collect()
}

fn interfaces() -> BTreeMap<String, bool> {
    use nix::net::if_::InterfaceFlags;
    nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .map(|interface| {
            let up = interface.flags.contains(InterfaceFlags::IFF_UP);
            (interface.interface_name, up)
        })
        .collect()
}

/// A mask of capabilities from their names.
pub fn capability_mask(names: &[&str]) -> u64 {
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(_, name)| names.contains(name))
        .fold(0, |mask, (bit, _)| mask | 1 << bit)
}

/// The names of a mask of capabilities.
pub fn capability_names(mask: u64) -> Vec<&'static str> {
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask & 1 << bit != 0)
        .map(|(_, &name)| name)
        .collect()
}
