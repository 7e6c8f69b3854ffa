//! The container's root: its mounts, devices, masked and read-only paths, and
//! the change into it.
//!
//! Two halves: [`Sources::open`] opens what is needed from the host, with the
//! caller's privileges; [`Plan::build`] makes the root in the container's own
//! mount namespace, which may belong to a user namespace without those
//! privileges.
//!
//! Invariant: until the root is changed, openat2 resolves every path of the
//! container below a descriptor of its root, so that no symbolic link in it
//! leads to the host. Mounts go to the descriptor that was resolved; the path
//! is not resolved again.

mod attach;
mod copy;
mod devices;
mod guarded;
mod joined;
mod mask;
mod resolve;
mod sources;

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Spec};

use crate::birth::{Birth, failed};
use crate::device::{self, Node};
use crate::error::{Error, Step};
use crate::mount::{self, IdMap, Source, Surroundings};
use crate::report::{At, Failure};
use crate::sys::{self, MOUNT_ATTR_RDONLY, MountAttr};
use crate::text::absolute;
use crate::user::Mapping;

pub(crate) use guarded::Guarded;
pub use guarded::HostPaths;
pub(crate) use joined::Joined;
pub(crate) use sources::Sources;

/// The checked root of a specification.
#[derive(Debug)]
pub(crate) struct Plan {
    path: CString,
    /// How the path is opened if no link in it may be followed.
    guarded: Option<Guarded>,
    /// No link from elsewhere may lead into these.
    closed: Vec<CString>,
    read_only: bool,
    /// The propagation that the root gets at the end, and whether everything
    /// below gets it too.
    propagation: Option<(u64, bool)>,
    /// The propagation that all bind mounts get first; 0 if they stay peers of
    /// their sources.
    cut_off: u64,
    mounts: Vec<mount::Plan>,
    id_maps: Vec<IdMap>,
    /// File systems get a SELinux label.
    labelled: bool,
    nodes: Vec<Node>,
    /// Nodes are bind mounts of the host's: nobody can create one in a user
    /// namespace.
    bind_nodes: bool,
    /// `/dev` is a bind mount: it gets only what was requested, and existing
    /// nodes stay as they are.
    host_dev: bool,
    /// Created if it is missing; `None` if that is an error.
    cwd: Option<CString>,
    masked: Vec<CString>,
    read_only_paths: Vec<CString>,
}

impl Plan {
    /// Checks `root`, `mounts` and the paths and devices of `linux`.
    pub fn new(spec: &Spec) -> Result<Plan, Error> {
        let Some(root) = spec.root() else {
            return Err(Error::invalid("root", "is missing"));
        };
        let linux = spec.linux().as_ref();
        let surroundings = surroundings(linux)?;
        let mut id_maps = Vec::new();
        let mounts = spec
            .mounts()
            .as_deref()
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(index, mount)| mount::plan(index, mount, &surroundings, &mut id_maps))
            .collect::<Result<Vec<_>, _>>()?;
        let devices = linux
            .and_then(|linux| linux.devices().as_deref())
            .unwrap_or_default();
        let host_dev = mounts.iter().any(|mount| {
            let target = Path::new(OsStr::from_bytes(mount.target.as_bytes()));
            matches!(mount.source, Source::Bind(_)) && mount::lexical(target) == Path::new("/dev")
        });
        let propagation = match linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
            None | Some("") => None,
            Some(name) => Some(mount::propagation(name).ok_or_else(|| {
                Error::invalid(
                    "linux.rootfsPropagation",
                    format!("\"{name}\" is not a propagation"),
                )
            })?),
        };
        let paths = |field: &str, list: Option<&Vec<String>>| {
            list.into_iter()
                .flatten()
                .map(|path| absolute(field, path.as_ref()))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Plan {
            path: absolute("root.path", root.path())?,
            guarded: None,
            closed: Vec::new(),
            read_only: root.readonly().unwrap_or(false),
            propagation,
            // As mount(2) would do it after the whole tree got this propagation.
            cut_off: match propagation {
                None | Some((libc::MS_SLAVE, _)) => libc::MS_SLAVE,
                Some((libc::MS_SHARED, _)) => 0,
                Some(_) => libc::MS_PRIVATE,
            },
            mounts,
            id_maps,
            labelled: surroundings.label.is_some(),
            nodes: device::plan(devices, !host_dev)?,
            bind_nodes: namespace(linux, LinuxNamespaceType::User).is_some(),
            host_dev,
            cwd: match spec.process() {
                Some(process) => Some(absolute("process.cwd", process.cwd())?),
                None => None,
            },
            masked: paths(
                "linux.maskedPaths",
                linux.and_then(|linux| linux.masked_paths().as_ref()),
            )?,
            read_only_paths: paths(
                "linux.readonlyPaths",
                linux.and_then(|linux| linux.readonly_paths().as_ref()),
            )?,
        })
    }

    /// See [`crate::Prepared::guard`].
    pub fn guard(&mut self, host: &HostPaths<'_>) -> Result<(), Error> {
        self.guarded = Guarded::plan(&self.path, host, false)?;
        for (number, mount) in self.mounts.iter_mut().enumerate() {
            if let Source::Bind(bind) = &mut mount.source {
                bind.guarded = Guarded::plan(&bind.path, host, true)?;
                bind.optional = host.optional.contains(&number);
            }
        }
        self.closed = host
            .guarded
            .iter()
            .map(|folder| absolute("a guarded folder", Path::new(folder)))
            .collect::<Result<_, _>>()?;
        self.cwd = None;
        Ok(())
    }

    /// Room for what [`Sources::open`] opens on the host; the user namespaces
    /// of id-mapped mounts are passed at the birth of the process.
    pub fn sources(&self, birth: &mut Birth<'_>) -> Result<Sources, Error> {
        let namespaces = self.id_maps.iter().map(IdMap::namespace);
        let namespaces = namespaces
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed("making a user namespace for id-mapped mounts"))?;
        Ok(Sources::new(
            self.mounts.len(),
            self.nodes.len(),
            namespaces,
            birth,
        ))
    }

    /// In the container's process, in its new mount namespace: makes everything
    /// except a read-only root, in which createContainer hooks may write, and
    /// the change of the root. Leaves no source open.
    pub fn build(&self, sources: &mut Sources) -> Result<Built<'_>, Failure<'_>> {
        let path = self.path.as_bytes();
        // Modes of nodes and directories are exact, so no umask.
        nix::sys::stat::umask(Mode::empty());
        // Slave, not private: otherwise what the host unmounts later would be
        // held here.
        sys::mount_setattr_all(&propagate(libc::MS_SLAVE)).at(Step::Propagation, b"")?;

        let root = sources
            .root
            .take()
            .ok_or(Errno::EBADF)
            .at(Step::Root, path)?;
        // A root that is to be a slave is one now; all others are cut off from the host.
        let propagation = match self.propagation {
            Some((libc::MS_SLAVE, _)) => libc::MS_SLAVE,
            Some(_) | None => libc::MS_PRIVATE,
        };
        sys::mount_setattr(root.as_fd(), true, &propagate(propagation)).at(Step::Root, path)?;
        self.attach_root(&root).at(Step::Root, path)?;

        for (mount, source) in self.mounts.iter().zip(&mut sources.mounts) {
            self.attach(&root, mount, source)?;
        }
        self.make_devices(&root, &mut sources.nodes)?;
        if let Some(cwd) = &self.cwd {
            match resolve::directory(&root, cwd) {
                // It exists: whoever enters it reports what is wrong with it.
                Err(Errno::EACCES | Errno::EPERM | Errno::ELOOP | Errno::ENOTDIR) => {}
                result => drop(result.at(Step::WorkingDirectory, cwd.as_bytes())?),
            }
        }
        mask::cover(&root, &self.masked, sources.null.take())?;
        for path in &self.read_only_paths {
            mask::make_read_only(&root, path)?;
        }
        for (mount, place) in self.mounts.iter().zip(&mut sources.mounts) {
            if let Some(tree) = place.take() {
                attach::make_read_only(mount, &tree)?;
            }
        }
        Ok(Built { plan: self, root })
    }

    /// Where the root was, so that hooks find it there. A user namespace may
    /// have no access to that path, but it has access to its own `/`.
    fn attach_root(&self, root: &OwnedFd) -> Result<(), Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let place = match nix::fcntl::open(self.path.as_c_str(), flags, Mode::empty()) {
            Err(Errno::EACCES) => nix::fcntl::open(c"/", flags, Mode::empty())?,
            result => result?,
        };
        sys::move_mount(root.as_fd(), place.as_fd())
    }
}

fn namespace(linux: Option<&Linux>, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    linux
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default()
        .iter()
        .find(|namespace| namespace.typ() == kind)
}

fn surroundings(linux: Option<&Linux>) -> Result<Surroundings, Error> {
    let mut surroundings = Surroundings {
        cgroup_namespace: namespace(linux, LinuxNamespaceType::Cgroup).is_some(),
        foreign_network: namespace(linux, LinuxNamespaceType::User).is_some()
            && namespace(linux, LinuxNamespaceType::Network).is_none(),
        ..Surroundings::default()
    };
    let Some(linux) = linux else {
        return Ok(surroundings);
    };
    let label = linux.mount_label().as_deref();
    surroundings.label = label.filter(|label| !label.is_empty()).map(String::from);
    if let Some(user) = namespace(Some(linux), LinuxNamespaceType::User) {
        let list = |list: &Option<Vec<_>>| list.clone().unwrap_or_default();
        let path = user.path().as_deref();
        surroundings.id_map = Some(match path.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => IdMap::At(absolute("linux.namespaces[].path", path)?),
            None => IdMap::New(Mapping::plan(
                "linux",
                &list(linux.uid_mappings()),
                &list(linux.gid_mappings()),
            )?),
        });
    }
    Ok(surroundings)
}

fn propagate(propagation: u64) -> MountAttr {
    MountAttr {
        propagation,
        ..MountAttr::default()
    }
}

/// A root that is made, but not yet entered.
#[derive(Debug)]
pub(crate) struct Built<'a> {
    plan: &'a Plan,
    root: OwnedFd,
}

impl<'a> Built<'a> {
    /// Changes the root. The old one is mounted over the new one and then
    /// unmounted: no directory for it is needed, so the root may be read-only.
    pub fn pivot(self) -> Result<(), Failure<'a>> {
        if self.plan.read_only {
            let attributes = MountAttr {
                set: MOUNT_ATTR_RDONLY,
                ..MountAttr::default()
            };
            sys::mount_setattr(self.root.as_fd(), false, &attributes)
                .at(Step::ReadOnlyRoot, b"")?;
        }
        nix::unistd::fchdir(&self.root)
            .and_then(|()| nix::unistd::pivot_root(c".", c"."))
            .and_then(|()| nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH))
            .and_then(|()| nix::unistd::chdir(c"/"))
            .and_then(|()| match self.plan.propagation {
                Some((propagation, recursive)) => {
                    sys::mount_setattr(self.root.as_fd(), recursive, &propagate(propagation))
                }
                None => Ok(()),
            })
            .at(Step::Pivot, self.plan.path.as_bytes())
    }
}
