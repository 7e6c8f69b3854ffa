//! User namespaces: the mappings of a specification, written for the
//! container's own namespace, or made into separate namespaces for id-mapped
//! mounts (runtime-spec, config-linux.md, "User namespace mappings"; config.md,
//! "Mounts").

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, pipe2, read};
use oci_spec::runtime::LinuxIdMapping;

use crate::error::Error;
use crate::sys;

/// The kernel's limit of lines in a map (user_namespaces(7)).
const LINES: usize = 340;

/// How the ids of a user namespace map to those outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The files' text: lines of `inside outside count`.
    uid: String,
    gid: String,
    /// User and group that set the container up: 0, or the first mapped one.
    root: (u32, u32),
}

impl Mapping {
    /// Checks the mappings of the users and groups; `field` is what they belong to.
    pub fn plan(
        field: &str,
        users: &[LinuxIdMapping],
        groups: &[LinuxIdMapping],
    ) -> Result<Mapping, Error> {
        let (uid, first_uid) = lines(&format!("{field}.uidMappings"), users)?;
        let (gid, first_gid) = lines(&format!("{field}.gidMappings"), groups)?;
        Ok(Mapping {
            uid,
            gid,
            root: (first_uid, first_gid),
        })
    }

    /// Inside the namespace: the user and group that set the container up.
    pub fn root(&self) -> (u32, u32) {
        self.root
    }

    /// Writes the maps of the process `pid`, which is in a new user namespace
    /// and a child of one in the caller's. Does not allocate.
    pub fn write(&self, pid: Pid) -> Result<(), Errno> {
        write_map(pid, "uid_map", &self.uid)?;
        match write_map(pid, "gid_map", &self.gid) {
            // An ordinary user may map only its own group, and only after
            // giving up setgroups(2) (user_namespaces(7)).
            Err(Errno::EPERM) => {
                write_map(pid, "setgroups", "deny")?;
                write_map(pid, "gid_map", &self.gid)
            }
            result => result,
        }
    }

    /// A user namespace with this mapping, for MOUNT_ATTR_IDMAP.
    ///
    /// A process that ends before this returns creates it.
    pub fn namespace(&self) -> Result<OwnedFd, Errno> {
        let (wait, end) = pipe2(OFlag::O_CLOEXEC)?;
        let (pid, _pidfd) = sys::spawn(CloneFlags::CLONE_NEWUSER.bits() as u64, None, || {
            // Until the caller closes its end, or dies.
            let end = end.as_raw_fd();
            let _ = sys::close_range(end, end);
            let _ = read(&wait, &mut [0]);
            0
        })?;
        let namespace = self.write(pid).and_then(|()| {
            let path = ProcPath::new(pid, "ns/user");
            open(
                path.as_str(),
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
        });
        drop(end);
        loop {
            match waitpid(pid, Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => {}
                _ => return namespace,
            }
        }
    }
}

fn write_map(pid: Pid, file: &str, text: &str) -> Result<(), Errno> {
    let path = ProcPath::new(pid, file);
    let file = open(
        path.as_str(),
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    // A map is written in one call or not at all.
    nix::unistd::write(&file, text.as_bytes()).map(drop)
}

/// `/proc/<pid>/<file>` on the stack.
struct ProcPath {
    bytes: [u8; 48],
    length: usize,
}

impl ProcPath {
    fn new(pid: Pid, file: &str) -> ProcPath {
        let mut bytes = [0; 48];
        let mut rest = &mut bytes[..];
        // Ten digits and the names used here fit.
        let _ = write!(rest, "/proc/{pid}/{file}");
        let left = rest.len();
        ProcPath {
            bytes,
            length: 48 - left,
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// The text of a map, and the id inside that sets the container up.
fn lines(field: &str, mappings: &[LinuxIdMapping]) -> Result<(String, u32), Error> {
    if mappings.is_empty() {
        return Err(Error::invalid(
            field,
            "is empty: a user namespace needs at least one mapping",
        ));
    }
    if mappings.len() > LINES {
        return Err(Error::invalid(
            field,
            format!("has more than {LINES} mappings, the kernel's limit"),
        ));
    }
    let mut text = String::new();
    let mut spans: Vec<[(u64, u64); 2]> = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let (inside, outside, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        let span = |first: u32| (u64::from(first), u64::from(first) + u64::from(size));
        let new = [span(inside), span(outside)];
        if size == 0 || new.iter().any(|(_, end)| *end > u64::from(u32::MAX)) {
            return Err(Error::invalid(
                format!("{field}[{index}].size"),
                "is zero, or goes beyond the last id",
            ));
        }
        for old in &spans {
            if (0..2).any(|side| old[side].0 < new[side].1 && new[side].0 < old[side].1) {
                return Err(Error::invalid(
                    format!("{field}[{index}]"),
                    "overlaps an earlier mapping",
                ));
            }
        }
        spans.push(new);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{inside} {outside} {size}");
    }
    let first = spans.iter().map(|[inside, _]| inside.0).min().unwrap_or(0);
    Ok((text, first as u32))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxIdMappingBuilder;

    use super::*;

    fn mapping(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMappingBuilder::default()
            .container_id(inside)
            .host_id(outside)
            .size(size)
            .build()
            .unwrap()
    }

    #[test]
    fn maps_are_the_kernels_text() {
        let users = [mapping(0, 100_000, 1000), mapping(1000, 1000, 1)];
        let plan = Mapping::plan("linux", &users, &users).unwrap();
        assert_eq!(plan.uid, "0 100000 1000\n1000 1000 1\n");
        assert_eq!(plan.root(), (0, 0));
    }

    #[test]
    fn without_a_root_the_lowest_id_sets_up() {
        let users = [mapping(1000, 1000, 1), mapping(7, 70, 2)];
        let plan = Mapping::plan("linux", &users, &users[..1]).unwrap();
        assert_eq!(plan.root(), (7, 1000));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_named() {
        let good = [mapping(0, 0, 1)];
        for (users, needle) in [
            (vec![], "linux.uidMappings: is empty"),
            (vec![mapping(0, 0, 0)], "linux.uidMappings[0].size"),
            (vec![mapping(1, 0, u32::MAX)], "linux.uidMappings[0].size"),
            (
                vec![mapping(0, 0, 10), mapping(9, 50, 1)],
                "linux.uidMappings[1]: overlaps",
            ),
            (
                vec![mapping(0, 0, 10), mapping(50, 9, 1)],
                "linux.uidMappings[1]: overlaps",
            ),
            (vec![mapping(0, 0, 1); 341], "more than 340"),
        ] {
            let text = Mapping::plan("linux", &users, &good)
                .unwrap_err()
                .to_string();
            assert!(text.contains(needle), "{text}");
        }
    }

    #[test]
    fn a_namespace_outlives_the_process_that_made_it() {
        if !requirement::root() {
            return;
        }
        let ids = [mapping(0, 100_000, 10)];
        let namespace = Mapping::plan("linux", &ids, &ids)
            .unwrap()
            .namespace()
            .unwrap();
        let link = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        let name = std::fs::read_link(link).unwrap();
        assert!(name.to_str().unwrap().starts_with("user:["), "{name:?}");
        assert_ne!(name, std::fs::read_link("/proc/self/ns/user").unwrap());
    }
}
