//! What of the host a container's mounts are made of: clones of bind sources,
//! of `/dev/null`, and in a user namespace of device nodes.
//!
//! They are opened with the caller's privileges and in the caller's mounts,
//! before the container's process loses both; they are detached, so that any
//! process that may mount can attach them in its own namespace.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat, makedev};

use super::Plan;
use crate::device::Node;
use crate::error::Step;
use crate::mount::Source;
use crate::report::{At, Failure};
use crate::sys;

/// Room for one descriptor each; [`Sources::open`] fills it.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(super) root: Option<OwnedFd>,
    /// As long as the plan's mounts; those that are no bind mounts stay empty.
    pub(super) mounts: Vec<Option<OwnedFd>>,
    /// As long as the plan's nodes; filled in a user namespace.
    pub(super) nodes: Vec<Option<OwnedFd>>,
    /// For masks.
    pub(super) null: Option<OwnedFd>,
}

impl Sources {
    pub(super) fn new(mounts: usize, nodes: usize) -> Sources {
        let room = |length| std::iter::repeat_with(|| None).take(length).collect();
        Sources {
            root: None,
            mounts: room(mounts),
            nodes: room(nodes),
            null: None,
        }
    }

    /// Whether [`Sources::open`] was called.
    pub fn are_open(&self) -> bool {
        self.root.is_some()
    }

    /// Opens what `plan` needs of the host. Does not allocate.
    ///
    /// For a process with the caller's privileges whose mounts are the
    /// caller's, or a copy of them that was not cut off yet: a clone is in the
    /// peer group of what it was cloned from.
    pub fn open<'a>(&mut self, plan: &'a Plan) -> Result<(), Failure<'a>> {
        self.root = Some(sys::clone_tree(&plan.path, true).at(Step::Root, plan.path.as_bytes())?);
        for (mount, place) in plan.mounts.iter().zip(&mut self.mounts) {
            if let Source::Bind { path, recursive } = &mount.source {
                let tree = sys::clone_tree(path, *recursive)
                    .at(Step::MountSource, mount.label.as_bytes())?;
                *place = Some(tree);
            }
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

/// A clone of the host's node of the same path, where it is the same device.
/// There is none of a FIFO: any user may make one.
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
