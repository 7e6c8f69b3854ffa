//! What a container's mounts need from the host: clones of bind sources, of
//! `/dev/null`, and in a user namespace of device nodes.
//!
//! They are opened with the caller's privileges and in the caller's mounts,
//! before the container's process loses both; they are detached, so that any
//! process that may mount can attach them in its own namespace.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::AccessFlags;

use super::Plan;
use super::guarded::open_outside;
use super::resolve::kind;
use crate::birth::{Birth, Kept};
use crate::device::Node;
use crate::error::Step;
use crate::mount::{Bind, Source};
use crate::report::{At, Failure};
use crate::sys::{self, MOUNT_ATTR_IDMAP, MountAttr};

/// Exists if the kernel has SELinux and it was not switched off.
const SELINUX: &CStr = c"/sys/fs/selinux/enforce";

/// Room for one descriptor each; [`Sources::open`] fills it.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(super) root: Option<OwnedFd>,
    /// As long as the plan's mounts; those that are not bind mounts stay empty.
    pub(super) mounts: Vec<Option<OwnedFd>>,
    /// As long as the plan's nodes; filled in a user namespace.
    pub(super) nodes: Vec<Option<OwnedFd>>,
    /// For masks.
    pub(super) null: Option<OwnedFd>,
    /// User namespaces, by the numbers of the plan's mappings.
    id_maps: Vec<Kept>,
    /// The caller's own descriptors of them.
    _namespaces: Vec<OwnedFd>,
}

impl Sources {
    pub(super) fn new(
        mounts: usize,
        nodes: usize,
        namespaces: Vec<OwnedFd>,
        birth: &mut Birth<'_>,
    ) -> Sources {
        let room = |length| std::iter::repeat_with(|| None).take(length).collect();
        Sources {
            root: None,
            mounts: room(mounts),
            nodes: room(nodes),
            null: None,
            id_maps: namespaces.iter().map(|fd| birth.keep(fd.as_fd())).collect(),
            _namespaces: namespaces,
        }
    }

    /// Whether [`Sources::open`] was called.
    pub fn are_open(&self) -> bool {
        self.root.is_some()
    }

    /// Opens what `plan` needs from the host. Does not allocate.
    ///
    /// For a process with the caller's privileges whose mounts are the
    /// caller's, or a copy of them that is not cut off yet: a clone is in the
    /// peer group of its source.
    pub fn open<'a>(&mut self, plan: &'a Plan) -> Result<(), Failure<'a>> {
        if plan.labelled {
            nix::unistd::access(SELINUX, AccessFlags::F_OK)
                .map_err(|_| Errno::EOPNOTSUPP)
                .at(Step::MountLabel, b"(this kernel has no SELinux)")?;
        }
        let root = match &plan.guarded {
            Some(guarded) => guarded
                .open()
                .and_then(|place| sys::clone_tree_of(place.as_fd(), true)),
            None => sys::clone_tree(&plan.path, true),
        };
        let root = root.map_err(|errno| Failure {
            step: match errno {
                Errno::ELOOP if plan.guarded.is_some() => Step::RootLink,
                _ => Step::Root,
            },
            subject: plan.path.as_bytes(),
            errno,
        });
        self.root = Some(root?);
        for (mount, place) in plan.mounts.iter().zip(&mut self.mounts) {
            let label = mount.label.as_bytes();
            *place = match &mount.source {
                Source::Bind(bind) => match open_bind(bind, &plan.closed, &self.id_maps, label) {
                    // What is optional and cannot even be made is not there.
                    Err(failure)
                        if bind.optional
                            && matches!(
                                failure.errno,
                                Errno::ENOENT | Errno::ENOTDIR | Errno::EROFS
                            ) =>
                    {
                        None
                    }
                    opened => Some(opened?),
                },
                Source::HostCgroup => Some(clone_cgroup().at(Step::MountSource, label)?),
                Source::New(_) | Source::Remount { .. } => None,
            };
        }
        if plan.bind_nodes {
            for (node, place) in plan.nodes.iter().zip(&mut self.nodes) {
                *place = clone_node(node).at(Step::Device, node.path.as_bytes())?;
            }
        }
        if !plan.masked.is_empty() {
            self.null = Some(clone_null().at(Step::Mask, b"with /dev/null")?);
        }
        Ok(())
    }
}

fn open_bind<'a>(
    bind: &Bind,
    closed: &[CString],
    maps: &[Kept],
    label: &'a [u8],
) -> Result<OwnedFd, Failure<'a>> {
    if bind.copy_link {
        let link = nix::fcntl::open(
            bind.path.as_c_str(),
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .at(Step::MountSource, label)?;
        if kind(&fstat(&link).at(Step::MountSource, label)?) == SFlag::S_IFLNK {
            return Ok(link);
        }
    }
    let tree = match &bind.guarded {
        None if closed.is_empty() => sys::clone_tree(&bind.path, bind.recursive),
        guarded => {
            let place = match guarded {
                Some(guarded) => guarded.open(),
                None => open_outside(&bind.path, closed),
            };
            let place = place.map_err(|errno| Failure {
                step: match errno {
                    Errno::ELOOP => Step::MountSourceLink,
                    _ => Step::MountSource,
                },
                subject: label,
                errno,
            })?;
            sys::clone_tree_of(place.as_fd(), bind.recursive)
        }
    };
    let tree = tree.at(Step::MountSource, label)?;
    if let Some((index, recursive)) = bind.id_map {
        maps.get(index)
            .ok_or(Errno::EBADF)
            .and_then(|kept| {
                let attributes = MountAttr {
                    set: MOUNT_ATTR_IDMAP,
                    userns_fd: kept.fd().as_raw_fd() as u64,
                    ..MountAttr::default()
                };
                match sys::mount_setattr(tree.as_fd(), recursive, &attributes) {
                    // A file system whose mounts cannot be mapped, such as overlay.
                    Err(Errno::EINVAL) => Err(Errno::EOPNOTSUPP),
                    result => result,
                }
            })
            .at(Step::IdMap, label)?;
    }
    Ok(tree)
}

/// The host's cgroup2, even if it is beside the controllers of v1.
fn clone_cgroup() -> Result<OwnedFd, Errno> {
    for path in [c"/sys/fs/cgroup", c"/sys/fs/cgroup/unified"] {
        let tree = sys::clone_tree(path, false)?;
        if fstatfs(&tree)?.filesystem_type() == CGROUP2_SUPER_MAGIC {
            return Ok(tree);
        }
    }
    Err(Errno::ENODEV)
}

/// A clone of the host's node at the same path, if it is the same device. A
/// FIFO has none: any user may create one.
pub(super) fn clone_node(node: &Node) -> Result<Option<OwnedFd>, Errno> {
    if node.kind == SFlag::S_IFIFO {
        return Ok(None);
    }
    clone_device(&node.path, node.kind, node.number).map(Some)
}

fn clone_null() -> Result<OwnedFd, Errno> {
    clone_device(c"/dev/null", SFlag::S_IFCHR, makedev(1, 3))
}

/// ENODEV: what is at the path is not this device.
fn clone_device(path: &CStr, kind: SFlag, number: u64) -> Result<OwnedFd, Errno> {
    let tree = sys::clone_tree(path, false)?;
    let found = fstat(tree.as_fd())?;
    if found.st_mode & SFlag::S_IFMT.bits() == kind.bits() && found.st_rdev == number {
        Ok(tree)
    } else {
        Err(Errno::ENODEV)
    }
}
