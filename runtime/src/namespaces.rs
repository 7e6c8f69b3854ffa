//! The namespaces of a container: new, joined by path, or the caller's.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType};

use crate::error::{Error, Step};
use crate::report::{At, Failure};
use crate::sys;
use crate::text::absolute;
use crate::user::Mapping;

/// Which namespaces the container's process gets.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Those that clone3 makes.
    pub clone: u64,
    /// Those that are joined by path, before anything else.
    pub join: Vec<Join>,
    /// A pid namespace to be born in.
    pub pid: Option<CString>,
    /// A mount namespace that is joined with its root.
    pub mount: Option<CString>,
    /// A cgroup namespace is made by the process: its root is the cgroup it is in then.
    pub new_cgroup: bool,
    /// The user namespace, if it is not the caller's.
    pub user: Option<User>,
    /// What is written to `timens_offsets` of a new time namespace.
    time_offsets: Option<String>,
    /// All that are not the caller's: what another process has to join.
    own: CloneFlags,
}

#[derive(Debug)]
pub(crate) struct Join {
    path: CString,
    kind: CloneFlags,
}

/// A container's user namespace.
#[derive(Debug)]
pub(crate) enum User {
    /// clone3 makes it; the maps are written from outside.
    New(Mapping),
    /// It is joined by path. Without a mapping in the specification its root is 0.
    Joined { path: CString, root: (u32, u32) },
}

impl User {
    /// Inside the namespace: the user and group that set the container up.
    pub fn root(&self) -> (u32, u32) {
        match self {
            User::New(mapping) => mapping.root(),
            User::Joined { root, .. } => *root,
        }
    }
}

const TIME: CloneFlags = CloneFlags::from_bits_retain(sys::CLONE_NEWTIME as i32);

impl Namespaces {
    /// Checks `linux.namespaces`, and the mappings and offsets that belong to them.
    pub fn plan(linux: Option<&Linux>) -> Result<Namespaces, Error> {
        let mut plan = Namespaces {
            clone: 0,
            join: Vec::new(),
            pid: None,
            mount: None,
            new_cgroup: false,
            user: None,
            time_offsets: None,
            own: CloneFlags::empty(),
        };
        let Some(linux) = linux else {
            return Ok(plan);
        };
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            plan.add(linux, &format!("linux.namespaces[{index}]"), namespace)?;
        }
        plan.check_mappings(linux)?;
        plan.plan_time_offsets(linux)?;
        Ok(plan)
    }

    fn add(&mut self, linux: &Linux, field: &str, namespace: &LinuxNamespace) -> Result<(), Error> {
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
            LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
            LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
            LinuxNamespaceType::Time => TIME,
            LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        };
        if self.own.contains(kind) {
            return Err(Error::invalid(
                field,
                "this namespace was already requested",
            ));
        }
        self.own |= kind;
        let path = namespace.path().as_deref();
        let path = path
            .filter(|path| !path.as_os_str().is_empty())
            .map(|path| absolute(&format!("{field}.path"), path))
            .transpose()?;
        match (namespace.typ(), path) {
            (LinuxNamespaceType::Cgroup, None) => self.new_cgroup = true,
            (LinuxNamespaceType::User, None) => {
                self.user = Some(User::New(mapping(linux)?));
                self.clone |= kind.bits() as u32 as u64;
            }
            (LinuxNamespaceType::User, Some(path)) => {
                let root = if linux.uid_mappings().is_some() {
                    mapping(linux)?.root()
                } else {
                    (0, 0)
                };
                self.user = Some(User::Joined { path, root });
            }
            (_, None) => self.clone |= kind.bits() as u32 as u64,
            (LinuxNamespaceType::Pid, Some(path)) => self.pid = Some(path),
            (LinuxNamespaceType::Mount, Some(path)) => self.mount = Some(path),
            (
                LinuxNamespaceType::Cgroup
                | LinuxNamespaceType::Uts
                | LinuxNamespaceType::Ipc
                | LinuxNamespaceType::Network
                | LinuxNamespaceType::Time,
                Some(path),
            ) => self.join.push(Join { path, kind }),
        }
        Ok(())
    }

    /// Mappings without a user namespace would be dropped.
    fn check_mappings(&self, linux: &Linux) -> Result<(), Error> {
        let given = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
        for (field, list) in [
            ("linux.uidMappings", linux.uid_mappings()),
            ("linux.gidMappings", linux.gid_mappings()),
        ] {
            if self.user.is_none() && given(list) {
                return Err(Error::invalid(
                    field,
                    "maps nothing: linux.namespaces has no user namespace",
                ));
            }
        }
        Ok(())
    }

    /// runtime-spec, config-linux.md, "Offset for Time Namespace".
    fn plan_time_offsets(&mut self, linux: &Linux) -> Result<(), Error> {
        let offsets = linux.time_offsets().iter().flatten();
        let mut text = String::new();
        for (clock, offset) in offsets {
            let field = format!("linux.timeOffsets.{clock}");
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                return Err(Error::invalid(field, "is neither monotonic nor boottime"));
            }
            if !self.makes(TIME) {
                return Err(Error::invalid(
                    field,
                    "needs a new time namespace in linux.namespaces",
                ));
            }
            let nanoseconds = offset.nanosecs().unwrap_or(0);
            if nanoseconds > 999_999_999 {
                return Err(Error::invalid(
                    format!("{field}.nanosecs"),
                    "is a second or more",
                ));
            }
            text += &format!("{clock} {} {nanoseconds}\n", offset.secs().unwrap_or(0));
        }
        if !text.is_empty() {
            // A process that clone3 puts into a new time namespace can no
            // longer set its offsets: the intermediate process makes the
            // namespace.
            self.clone &= !(TIME.bits() as u64);
            self.time_offsets = Some(text);
        }
        Ok(())
    }

    /// Whether clone3, or the intermediate process, makes this namespace.
    pub fn makes(&self, kind: CloneFlags) -> bool {
        self.clone & kind.bits() as u32 as u64 != 0
    }

    /// Whether the container shares this namespace with the caller.
    pub fn shares(&self, kind: CloneFlags) -> bool {
        !self.own.contains(kind)
    }

    /// Whether an intermediate process has to prepare the birth of the
    /// container's.
    pub fn need_between(&self) -> bool {
        self.pid.is_some() || self.user.is_some() || self.time_offsets.is_some()
    }

    /// In the intermediate process, with the caller's privileges: makes its
    /// next child be born where the container's process has to be.
    ///
    /// Namespaces that only the container's own root may join are joined after
    /// its user namespace, all others before, with more privileges.
    pub fn enter_between(&self) -> Result<(), Failure<'_>> {
        if let Some(path) = &self.pid {
            open_namespace(path)
                .and_then(next_child_in)
                .at(Step::JoinNamespace, path.as_bytes())?;
        }
        let mut late = [false; 8];
        for (join, late) in self.join.iter().zip(&mut late) {
            match join.enter() {
                Err(Errno::EPERM) if matches!(self.user, Some(User::Joined { .. })) => *late = true,
                result => result.at(Step::JoinNamespace, join.path.as_bytes())?,
            }
        }
        if let Some(offsets) = &self.time_offsets {
            nix::sched::unshare(TIME).at(Step::NewNamespace, b"time")?;
            open(
                "/proc/self/timens_offsets",
                OFlag::O_WRONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
            .and_then(|file| nix::unistd::write(&file, offsets.as_bytes()))
            .at(Step::TimeOffsets, offsets.as_bytes())?;
        }
        if let Some(User::Joined { path, .. }) = &self.user {
            open_namespace(path)
                .and_then(|fd| nix::sched::setns(fd, CloneFlags::CLONE_NEWUSER))
                .at(Step::JoinNamespace, path.as_bytes())?;
        }
        for (join, late) in self.join.iter().zip(late) {
            if late {
                join.enter().at(Step::JoinNamespace, join.path.as_bytes())?;
            }
        }
        Ok(())
    }

    /// In the container's process: joins and makes what it did not have at its
    /// birth.
    pub fn enter(&self) -> Result<(), Failure<'_>> {
        if !self.need_between() {
            for join in &self.join {
                join.enter().at(Step::JoinNamespace, join.path.as_bytes())?;
            }
        }
        if let Some(user) = &self.user {
            let (uid, gid) = user.root();
            sys::become_root(uid, gid).at(Step::User, b"that sets the container up")?;
        }
        if self.new_cgroup {
            nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).at(Step::NewNamespace, b"cgroup")?;
        }
        if self.makes(CloneFlags::CLONE_NEWNET) {
            sys::bring_up_loopback().at(Step::Loopback, b"")?;
        }
        Ok(())
    }

    /// Those that another process of a running container joins only after its
    /// birth, which must be in the container's cgroup.
    ///
    /// From inside the cgroup namespace clone3 takes no process from outside it.
    /// Inside the user namespace the caller's root has no right to the cgroup;
    /// an ordinary user has rights to the others only inside.
    fn after_birth(&self, privileged: bool) -> CloneFlags {
        let mut late = CloneFlags::CLONE_NEWCGROUP;
        late.set(CloneFlags::CLONE_NEWUSER, privileged);
        self.own & late
    }

    /// In the intermediate process of another process in a running container:
    /// joins what it can, so that the new one is never seen inside with the
    /// host's mounts.
    pub fn join_before_birth(
        &self,
        container: BorrowedFd<'_>,
        privileged: bool,
    ) -> Result<(), Failure<'_>> {
        join_of(container, self.own - self.after_birth(privileged))
    }

    /// In the new process: joins the rest.
    pub fn join_after_birth(
        &self,
        container: BorrowedFd<'_>,
        privileged: bool,
    ) -> Result<(), Failure<'_>> {
        join_of(container, self.after_birth(privileged))?;
        self.become_root_inside()
    }

    /// In a new process without an intermediate one: joins all. It shares the
    /// caller's pid namespace.
    pub fn join_at_once(&self, container: BorrowedFd<'_>) -> Result<(), Failure<'_>> {
        join_of(container, self.own)?;
        self.become_root_inside()
    }

    fn become_root_inside(&self) -> Result<(), Failure<'_>> {
        match &self.user {
            Some(user) => {
                let (uid, gid) = user.root();
                sys::become_root(uid, gid).at(Step::User, b"that enters the container")
            }
            None => Ok(()),
        }
    }
}

/// Joins these namespaces of a process; the pid namespace only for children.
fn join_of(container: BorrowedFd<'_>, kinds: CloneFlags) -> Result<(), Failure<'static>> {
    if kinds.is_empty() {
        return Ok(());
    }
    nix::sched::setns(container, kinds).at(Step::JoinNamespace, b"of the container")
}

impl Join {
    fn enter(&self) -> Result<(), Errno> {
        open_namespace(&self.path).and_then(|fd| nix::sched::setns(fd, self.kind))
    }
}

fn mapping(linux: &Linux) -> Result<Mapping, Error> {
    let list = |list: &Option<Vec<LinuxIdMapping>>| list.clone().unwrap_or_default();
    Mapping::plan(
        "linux",
        &list(linux.uid_mappings()),
        &list(linux.gid_mappings()),
    )
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
