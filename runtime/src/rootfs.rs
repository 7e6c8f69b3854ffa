//! The container's root: its mounts, devices, masked and read-only paths, and
//! the change into it.
//!
//! Invariant: until the root is changed, every path of the container is
//! resolved by openat2 below a descriptor of its root, so that no symbolic
//! link in it leads to the host; what is mounted goes to the descriptor that
//! was resolved, not to the path again.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use oci_spec::runtime::Spec;

use crate::device::{self, LINKS, Node};
use crate::error::{Error, Step};
use crate::mount::{self, Source, absolute};
use crate::report::{At, Failure};
use crate::sys::{self, MOUNT_ATTR_RDONLY, MountAttr};

/// The checked root of a specification.
#[derive(Debug)]
pub(crate) struct Plan {
    path: CString,
    read_only: bool,
    /// What happens to the propagation of the root in the end, and whether to all below it too.
    propagation: Option<(u64, bool)>,
    mounts: Vec<mount::Plan>,
    /// Nodes and links; none where the container has a `/dev` of the host.
    nodes: Vec<Node>,
    links: bool,
    masked: Vec<CString>,
    read_only_paths: Vec<CString>,
}

impl Plan {
    /// Checks `root`, `mounts` and what `linux` says of paths and devices.
    pub fn new(spec: &Spec) -> Result<Plan, Error> {
        let Some(root) = spec.root() else {
            return Err(Error::invalid("root", "is missing"));
        };
        let mounts = spec
            .mounts()
            .as_deref()
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(index, mount)| mount::plan(index, mount))
            .collect::<Result<Vec<_>, _>>()?;
        let linux = spec.linux().as_ref();
        let devices = linux
            .and_then(|linux| linux.devices().as_deref())
            .unwrap_or_default();
        let host_dev = mounts.iter().any(|mount| {
            matches!(mount.source, Source::Bind { .. }) && mount.target.as_bytes() == b"/dev"
        });
        if host_dev && !devices.is_empty() {
            return Err(Error::invalid(
                "linux.devices",
                "cannot be made in a /dev that is a bind mount",
            ));
        }
        let propagation = match linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
            None | Some("") => None,
            Some(name) => Some(mount::propagation(name).ok_or_else(|| {
                Error::invalid(
                    "linux.rootfsPropagation",
                    format!("\"{name}\" is no propagation"),
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
            read_only: root.readonly().unwrap_or(false),
            propagation,
            mounts,
            nodes: if host_dev {
                Vec::new()
            } else {
                device::plan(devices)?
            },
            links: !host_dev,
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

    /// In the container's process, in its new mount namespace: makes everything.
    pub fn build(&self) -> Result<Built<'_>, Failure<'_>> {
        let path = self.path.as_bytes();
        // Modes of nodes and directories are meant as they are written.
        nix::sys::stat::umask(Mode::empty());
        // Slave, not private: what the host unmounts later is not held here.
        sys::mount_setattr_all(&MountAttr {
            propagation: libc::MS_SLAVE,
            ..MountAttr::default()
        })
        .at(Step::Propagation, b"")?;

        let root = sys::clone_tree(&self.path, true).at(Step::Root, path)?;
        // A root that is to be a slave is one now; all others are cut off from the host.
        if !matches!(self.propagation, Some((libc::MS_SLAVE, _))) {
            sys::mount_setattr(
                root.as_fd(),
                true,
                &MountAttr {
                    propagation: libc::MS_PRIVATE,
                    ..MountAttr::default()
                },
            )
            .at(Step::Root, path)?;
        }
        nix::fcntl::open(
            self.path.as_c_str(),
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .and_then(|place| sys::move_mount(root.as_fd(), place.as_fd()))
        .at(Step::Root, path)?;

        for mount in &self.mounts {
            attach(&root, mount)?;
        }
        self.make_devices(&root)?;
        self.mask(&root)?;
        for path in &self.read_only_paths {
            make_read_only(&root, path)?;
        }
        if self.read_only {
            sys::mount_setattr(
                root.as_fd(),
                false,
                &MountAttr {
                    set: MOUNT_ATTR_RDONLY,
                    ..MountAttr::default()
                },
            )
            .at(Step::ReadOnlyRoot, b"")?;
        }
        Ok(Built { plan: self, root })
    }

    fn make_devices(&self, root: &OwnedFd) -> Result<(), Failure<'_>> {
        let mut opened: Option<(&CStr, OwnedFd)> = None;
        for node in &self.nodes {
            let directory = match opened.take() {
                Some((path, fd)) if path == node.directory.as_c_str() => fd,
                Some(_) | None => {
                    directory(root, &node.directory).at(Step::Device, node.path.as_bytes())?
                }
            };
            make_node(&directory, node).at(Step::Device, node.path.as_bytes())?;
            opened = Some((&node.directory, directory));
        }
        if !self.links {
            return Ok(());
        }
        let dev = directory(root, c"/dev").at(Step::Device, b"/dev")?;
        for link in LINKS {
            match symlinkat(link.target, &dev, link.name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).at(Step::Link, link.name.to_bytes()),
            }
        }
        Ok(())
    }

    /// A masked file becomes the host's `/dev/null` (not the container's, which
    /// might be anything), a masked directory an empty read-only one.
    fn mask(&self, root: &OwnedFd) -> Result<(), Failure<'_>> {
        let mut empty: Option<OwnedFd> = None;
        for path in &self.masked {
            let subject = path.as_bytes();
            let Some(target) = existing(root, path).at(Step::Mask, subject)? else {
                continue;
            };
            if !is_directory(&target).at(Step::Mask, subject)? {
                sys::clone_tree(c"/dev/null", false)
                    .and_then(|null| sys::move_mount(null.as_fd(), target.as_fd()))
                    .at(Step::Mask, subject)?;
                continue;
            }
            // One empty file system for all of them; only an attached mount can be cloned.
            let tree = match &empty {
                Some(first) => sys::clone_tree_of(first.as_fd(), false),
                None => empty_directory(),
            }
            .at(Step::Mask, subject)?;
            sys::move_mount(tree.as_fd(), target.as_fd()).at(Step::Mask, subject)?;
            empty.get_or_insert(tree);
        }
        Ok(())
    }
}

/// A container's root that is made, and not yet changed into.
pub(crate) struct Built<'a> {
    plan: &'a Plan,
    root: OwnedFd,
}

impl<'a> Built<'a> {
    /// Changes the root. The old one is mounted over the new one and then taken away: no
    /// directory for it is needed, so the root may be read-only.
    pub fn pivot(self) -> Result<(), Failure<'a>> {
        let root = self.root;
        nix::unistd::fchdir(&root)
            .and_then(|()| nix::unistd::pivot_root(c".", c"."))
            .and_then(|()| nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH))
            .and_then(|()| nix::unistd::chdir(c"/"))
            .and_then(|()| match self.plan.propagation {
                Some((propagation, recursive)) => sys::mount_setattr(
                    root.as_fd(),
                    recursive,
                    &MountAttr {
                        propagation,
                        ..MountAttr::default()
                    },
                ),
                None => Ok(()),
            })
            .at(Step::Pivot, self.plan.path.as_bytes())
    }
}

fn attach<'a>(root: &OwnedFd, mount: &'a mount::Plan) -> Result<(), Failure<'a>> {
    let label = mount.label.as_bytes();
    let (tree, plain) = match &mount.source {
        Source::Bind { path, recursive } => (
            sys::clone_tree(path, *recursive).at(Step::MountSource, label)?,
            false,
        ),
        Source::New {
            kind,
            options,
            attributes,
            plain_target,
        } => {
            let context = sys::fsopen(kind).at(Step::MountCreate, label)?;
            for option in options {
                sys::fsconfig_set(context.as_fd(), &option.key, option.value.as_deref())
                    .at(Step::MountOption, option.label.as_bytes())?;
            }
            sys::fsconfig_create(context.as_fd()).at(Step::MountCreate, label)?;
            let tree = sys::fsmount(context.as_fd(), *attributes).at(Step::MountCreate, label)?;
            (tree, *plain_target)
        }
    };
    for change in &mount.changes {
        sys::mount_setattr(tree.as_fd(), change.recursive, &change.attributes)
            .at(Step::MountAttributes, label)?;
    }
    let target = mount_point(root, &mount.target, plain, &tree, label)?;
    sys::move_mount(tree.as_fd(), target.as_fd()).at(Step::MountAttach, label)
}

/// Resolves a path inside the root, following links inside it only.
fn resolve(root: &OwnedFd, path: &CStr, plain: bool) -> Result<OwnedFd, Errno> {
    let mut how = ResolveFlag::RESOLVE_IN_ROOT;
    if plain {
        how |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    openat2(
        root,
        path,
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(how),
    )
}

/// Resolves a path that need not be there.
fn existing(root: &OwnedFd, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match resolve(root, path, false) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// The mount point of `tree`, made like its root (a directory or a file) where there is none.
fn mount_point<'a>(
    root: &OwnedFd,
    target: &CStr,
    plain: bool,
    tree: &OwnedFd,
    label: &'a [u8],
) -> Result<OwnedFd, Failure<'a>> {
    match resolve(root, target, plain) {
        Err(Errno::ENOENT) => {}
        result => return result.at(Step::MountTarget, label),
    }
    is_directory(tree)
        .and_then(|directory| make(root, target, directory))
        .at(Step::MountPoint, label)?;
    resolve(root, target, plain).at(Step::MountTarget, label)
}

/// An existing or new directory inside the root.
fn directory(root: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    match resolve(root, path, false) {
        Err(Errno::ENOENT) => make(root, path, true).and_then(|()| resolve(root, path, false)),
        result => result,
    }
}

/// Makes what is missing of a path inside the root; the last part is a directory or an empty file.
///
/// Each part is resolved anew from the root, so links among the existing parts
/// count; what is made is made by its bare name in the directory that was
/// resolved, where a link, even a dangling one, is not followed.
fn make(root: &OwnedFd, path: &CStr, last_is_directory: bool) -> Result<(), Errno> {
    let bytes = path.to_bytes();
    let mut prefix = [0_u8; libc::PATH_MAX as usize];
    let mut parent: Option<OwnedFd> = None;
    let mut start = 0;
    while start < bytes.len() {
        if bytes[start] == b'/' {
            start += 1;
            continue;
        }
        let end = bytes[start..]
            .iter()
            .position(|byte| *byte == b'/')
            .map_or(bytes.len(), |length| start + length);
        let last = bytes[end..].iter().all(|byte| *byte == b'/');
        prefix[..end].copy_from_slice(&bytes[..end]);
        prefix[end] = 0;
        let Ok(whole) = CStr::from_bytes_with_nul(&prefix[..=end]) else {
            return Err(Errno::EINVAL);
        };
        let Ok(name) = CStr::from_bytes_with_nul(&prefix[start..=end]) else {
            return Err(Errno::EINVAL);
        };
        let found = match resolve(root, whole, false) {
            Err(Errno::ENOENT) => {
                let directory = parent.as_ref().unwrap_or(root);
                if last && !last_is_directory {
                    let mode = Mode::from_bits_truncate(0o644);
                    return mknodat(directory, name, SFlag::S_IFREG, mode, 0);
                }
                mkdirat(directory, name, Mode::from_bits_truncate(0o755))?;
                resolve(root, whole, false)?
            }
            result => result?,
        };
        parent = Some(found);
        start = end;
    }
    Ok(())
}

/// Makes a node, or finds that an equal one is there; a link in its place is an error.
fn make_node(directory: &OwnedFd, node: &Node) -> Result<(), Errno> {
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
            let there = fstatat(
                directory,
                node.name.as_c_str(),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )?;
            let kind = SFlag::from_bits_truncate(there.st_mode) & SFlag::S_IFMT;
            if kind != node.kind || there.st_rdev != node.number {
                return Err(Errno::EEXIST);
            }
            if there.st_mode & 0o7777 != node.mode.bits() {
                // No link: it was just seen to be a device.
                fchmodat(
                    directory,
                    node.name.as_c_str(),
                    node.mode,
                    FchmodatFlags::FollowSymlink,
                )?;
            }
            if (there.st_uid, there.st_gid) == node.owner {
                return Ok(());
            }
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

fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = sys::fsopen(c"tmpfs")?;
    sys::fsconfig_set(context.as_fd(), c"mode", Some(c"0"))?;
    sys::fsconfig_set(context.as_fd(), c"nr_inodes", Some(c"1"))?;
    sys::fsconfig_create(context.as_fd())?;
    sys::fsmount(
        context.as_fd(),
        MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC,
    )
}

fn make_read_only<'a>(root: &OwnedFd, path: &'a CString) -> Result<(), Failure<'a>> {
    let subject = path.as_bytes();
    let Some(target) = existing(root, path).at(Step::ReadOnlyPath, subject)? else {
        return Ok(());
    };
    sys::clone_tree_of(target.as_fd(), true)
        .and_then(|tree| {
            sys::mount_setattr(
                tree.as_fd(),
                true,
                &MountAttr {
                    set: MOUNT_ATTR_RDONLY,
                    ..MountAttr::default()
                },
            )?;
            sys::move_mount(tree.as_fd(), target.as_fd())
        })
        .at(Step::ReadOnlyPath, subject)
}
