//! The nodes and links of a container, made in its root.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::Plan;
use super::resolve::directory;
use super::sources::clone_node;
use crate::device::{LINKS, Link, Node};
use crate::error::Step;
use crate::report::{At, Failure};
use crate::sys;

impl Plan {
    /// Makes nodes and links; `clones` are the host's nodes in a user namespace.
    pub(super) fn make_devices(
        &self,
        root: &OwnedFd,
        clones: &mut [Option<OwnedFd>],
    ) -> Result<(), Failure<'_>> {
        let mut opened: Option<(&CStr, OwnedFd)> = None;
        for (node, clone) in self.nodes.iter().zip(clones) {
            let directory = match opened.take() {
                Some((path, fd)) if path == node.directory.as_c_str() => fd,
                Some(_) | None => {
                    directory(root, &node.directory).at(Step::Device, node.path.as_bytes())?
                }
            };
            match clone.take() {
                Some(tree) => bind_node(&directory, &node.name, &tree),
                None => make_node(&directory, node, self.host_dev),
            }
            .at(Step::Device, node.path.as_bytes())?;
            opened = Some((&node.directory, directory));
        }
        if self.host_dev {
            return Ok(());
        }
        let dev = directory(root, c"/dev").at(Step::Device, b"/dev")?;
        for link in LINKS {
            match symlinkat(link.target, &dev, link.name) {
                // What an image or a privileged container has there could be of
                // another devpts.
                Err(Errno::EEXIST) if link.name == c"ptmx" => {
                    replace(&dev, link).at(Step::Link, link.name.to_bytes())?;
                }
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).at(Step::Link, link.name.to_bytes()),
            }
        }
        Ok(())
    }
}

/// Replaces what is there with a link, unless it is that link.
fn replace(directory: &OwnedFd, link: &Link) -> Result<(), Errno> {
    let mut text = [0; 64];
    if sys::read_link(directory.as_fd(), link.name, &mut text) == Ok(link.target.to_bytes()) {
        return Ok(());
    }
    match unlinkat(directory, link.name, UnlinkatFlags::NoRemoveDir) {
        // A bind mount, or a root that cannot be written.
        Err(Errno::EBUSY | Errno::EROFS) => Ok(()),
        result => result.and_then(|()| symlinkat(link.target, directory, link.name)),
    }
}

/// Mounts the host's node over a file of its name, which is created if it is
/// missing.
fn bind_node(directory: &OwnedFd, name: &CStr, tree: &OwnedFd) -> Result<(), Errno> {
    match mknodat(
        directory,
        name,
        SFlag::S_IFREG,
        Mode::from_bits_truncate(0o644),
        0,
    ) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let target = openat2(
        directory,
        name,
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS),
    )?;
    sys::move_mount(tree.as_fd(), target.as_fd())
}

/// Creates a node, or finds an identical one, which keeps its owner and mode if
/// asked; a link in its place is an error.
fn make_node(directory: &OwnedFd, node: &Node, keep: bool) -> Result<(), Errno> {
    match mknodat(
        directory,
        node.name.as_c_str(),
        node.kind,
        node.mode,
        node.number,
    ) {
        Ok(()) if node.owner == (0, 0) => return Ok(()),
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let there = openat(
                directory,
                node.name.as_c_str(),
                OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            return adopt_node(&there, node, keep);
        }
        // The caller itself is in a user namespace, where the host's node is
        // still visible.
        Err(Errno::EPERM) => {
            return match clone_node(node)? {
                Some(tree) => bind_node(directory, &node.name, &tree),
                None => Err(Errno::EPERM),
            };
        }
        Err(errno) => return Err(errno),
    }
    fchownat(
        directory,
        node.name.as_c_str(),
        Some(Uid::from_raw(node.owner.0)),
        Some(Gid::from_raw(node.owner.1)),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
}

/// Gives an identical node its mode and owner. By its descriptor: a container
/// that shares the root could put a link in its place meanwhile.
fn adopt_node(there: &OwnedFd, node: &Node, keep: bool) -> Result<(), Errno> {
    let found = fstat(there)?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    if kind != node.kind || found.st_rdev != node.number {
        return Err(Errno::EEXIST);
    }
    if keep {
        return Ok(());
    }
    if found.st_mode & 0o7777 != node.mode.bits() {
        sys::change_mode(there.as_fd(), node.mode.bits())?;
    }
    if (found.st_uid, found.st_gid) == node.owner {
        return Ok(());
    }
    fchownat(
        there,
        c"",
        Some(Uid::from_raw(node.owner.0)),
        Some(Gid::from_raw(node.owner.1)),
        AtFlags::AT_EMPTY_PATH,
    )
}
