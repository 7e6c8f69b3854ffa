//! The namespaces of a container: made new, joined by path, or the caller's.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::error::{Error, Step};
use crate::mount::absolute;
use crate::report::{At, Failure};
use crate::sys;

/// Which namespaces the container's process gets.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Those that clone3 makes.
    pub clone: u64,
    /// Those that the process joins, by path, before anything else.
    pub join: Vec<Join>,
    /// A pid namespace to be born in.
    pub pid: Option<CString>,
    /// A cgroup namespace is made by the process: its root is the cgroup it is in then.
    pub new_cgroup: bool,
    /// All that are not the caller's: what another process has to join.
    own: CloneFlags,
}

#[derive(Debug)]
pub(crate) struct Join {
    path: CString,
    kind: CloneFlags,
}

impl Namespaces {
    /// Checks `linux.namespaces`.
    pub fn plan(namespaces: &[LinuxNamespace]) -> Result<Namespaces, Error> {
        let mut plan = Namespaces {
            clone: 0,
            join: Vec::new(),
            pid: None,
            new_cgroup: false,
            own: CloneFlags::empty(),
        };
        for (index, namespace) in namespaces.iter().enumerate() {
            let field = format!("linux.namespaces[{index}]");
            let kind = match namespace.typ() {
                LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
                LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
                LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
                LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
                LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
                LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
                LinuxNamespaceType::Time => CloneFlags::from_bits_retain(sys::CLONE_NEWTIME as i32),
                LinuxNamespaceType::User => {
                    return Err(Error::Unsupported {
                        field: format!("{field} (user)"),
                    });
                }
            };
            if plan.own.contains(kind) {
                return Err(Error::invalid(
                    field,
                    "this namespace was already asked for",
                ));
            }
            plan.own |= kind;
            let path = match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => path,
                Some(_) | None => {
                    if kind == CloneFlags::CLONE_NEWCGROUP {
                        plan.new_cgroup = true;
                    } else {
                        plan.clone |= kind.bits() as u32 as u64;
                    }
                    continue;
                }
            };
            let path = absolute(&format!("{field}.path"), path)?;
            match namespace.typ() {
                LinuxNamespaceType::Pid => plan.pid = Some(path),
                LinuxNamespaceType::Mount => {
                    return Err(Error::invalid(
                        format!("{field}.path"),
                        "a mount namespace cannot be joined: the root is set up in a new one",
                    ));
                }
                LinuxNamespaceType::Cgroup
                | LinuxNamespaceType::Uts
                | LinuxNamespaceType::Ipc
                | LinuxNamespaceType::User
                | LinuxNamespaceType::Network
                | LinuxNamespaceType::Time => plan.join.push(Join { path, kind }),
            }
        }
        if plan.clone & CloneFlags::CLONE_NEWNS.bits() as u64 == 0 {
            return Err(Error::invalid(
                "linux.namespaces",
                "a container needs a mount namespace of its own",
            ));
        }
        Ok(plan)
    }

    /// Whether clone3 makes this namespace.
    pub fn makes(&self, kind: CloneFlags) -> bool {
        self.clone & kind.bits() as u32 as u64 != 0
    }

    /// Whether the container shares this namespace with the caller.
    pub fn shares(&self, kind: CloneFlags) -> bool {
        !self.own.contains(kind)
    }

    /// In the container's process: joins and makes what clone3 did not.
    pub fn enter(&self) -> Result<(), Failure<'_>> {
        for join in &self.join {
            let subject = join.path.as_bytes();
            open_namespace(&join.path)
                .and_then(|fd| nix::sched::setns(fd, join.kind))
                .at(Step::JoinNamespace, subject)?;
        }
        if self.new_cgroup {
            nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).at(Step::NewNamespace, b"cgroup")?;
        }
        if self.makes(CloneFlags::CLONE_NEWNET) {
            sys::bring_up_loopback().at(Step::Loopback, b"")?;
        }
        Ok(())
    }

    /// In a process to be run in a running container: joins all that are its own.
    pub fn join_of(&self, container: BorrowedFd<'_>) -> Result<(), Failure<'_>> {
        // The pid namespace is the one this process was born in.
        let kinds = self.own - CloneFlags::CLONE_NEWPID;
        nix::sched::setns(container, kinds).at(Step::JoinNamespace, b"of the container")
    }
}

/// Opens a namespace by its path.
pub(crate) fn open_namespace(path: &CString) -> Result<std::os::fd::OwnedFd, Errno> {
    open(
        path.as_c_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// Makes the caller's next child be born in a pid namespace.
pub(crate) fn next_child_in(namespace: impl AsFd) -> Result<(), Errno> {
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWPID)
}
