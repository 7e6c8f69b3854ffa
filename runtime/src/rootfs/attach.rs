//! One mount, made and put in its place.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::copy::copy_contents;
use super::resolve::{Make, existing, is_directory, kind, make, resolve};
use super::{Plan, propagate};
use crate::error::Step;
use crate::mount::{self, Bind, Classic, FsOption, New, Source};
use crate::report::{At, Failure};
use crate::sys::{self, MOUNT_ATTR_RDONLY, MountAttr};

impl Plan {
    /// Makes a mount. `place` has the clone of its source, and gets the mount
    /// back if it becomes read-only at the end.
    pub(super) fn attach<'a>(
        &self,
        root: &OwnedFd,
        mount: &'a mount::Plan,
        place: &mut Option<OwnedFd>,
    ) -> Result<(), Failure<'a>> {
        let label = mount.label.as_bytes();
        match &mount.source {
            Source::Bind(bind) => match place.take() {
                Some(tree) => self.attach_bind(root, mount, bind, tree),
                None if bind.optional => Ok(()),
                None => Err(Errno::EBADF).at(Step::MountSource, label),
            },
            Source::HostCgroup => {
                let tree = place
                    .take()
                    .ok_or(Errno::EBADF)
                    .at(Step::MountSource, label)?;
                sys::mount_setattr(tree.as_fd(), true, &propagate(libc::MS_SLAVE))
                    .at(Step::MountAttributes, label)?;
                finish(root, mount, &tree, false)
            }
            Source::New(new) => {
                if let Some(classic) = &new.classic {
                    return attach_classic(root, mount, &new.kind, classic);
                }
                let covered =
                    existing(root, &mount.target, new.plain_target).at(Step::MountTarget, label)?;
                let tree = make_file_system(mount, new, covered.as_ref())?;
                if let (true, Some(covered)) = (new.copy_up, &covered) {
                    copy_contents(covered, &tree).at(Step::CopyUp, label)?;
                }
                finish(root, mount, &tree, new.plain_target)?;
                if new.read_only_last {
                    *place = Some(tree);
                }
                Ok(())
            }
            Source::Remount { options } => remount(root, mount, options),
        }
    }

    fn attach_bind<'a>(
        &self,
        root: &OwnedFd,
        mount: &'a mount::Plan,
        bind: &Bind,
        tree: OwnedFd,
    ) -> Result<(), Failure<'a>> {
        let label = mount.label.as_bytes();
        if bind.copy_link {
            let file = fstat(&tree).at(Step::MountSource, label)?;
            if kind(&file) == SFlag::S_IFLNK {
                return copy_link(root, &mount.target, &tree).at(Step::MountPoint, label);
            }
        }
        if bind.proc && is_proc(&tree) != Ok(true) {
            return Err(Errno::EINVAL).at(Step::MountProc, label);
        }
        let cut_off = bind.cut_off.unwrap_or(self.cut_off);
        if cut_off != 0 {
            sys::mount_setattr(tree.as_fd(), true, &propagate(cut_off))
                .at(Step::MountAttributes, label)?;
        }
        finish(root, mount, &tree, bind.proc)
    }
}

/// Sets the attributes of a detached mount and attaches it.
fn finish<'a>(
    root: &OwnedFd,
    mount: &'a mount::Plan,
    tree: &OwnedFd,
    plain: bool,
) -> Result<(), Failure<'a>> {
    let label = mount.label.as_bytes();
    change(mount, tree)?;
    let target = mount_point(
        root,
        mount,
        plain,
        is_directory(tree).at(Step::MountPoint, label)?,
    )?;
    sys::move_mount(tree.as_fd(), target.as_fd()).at(Step::MountAttach, label)
}

fn change<'a>(mount: &'a mount::Plan, tree: &OwnedFd) -> Result<(), Failure<'a>> {
    for change in &mount.changes {
        sys::mount_setattr(tree.as_fd(), change.recursive, &change.attributes)
            .at(Step::MountAttributes, mount.label.as_bytes())?;
    }
    Ok(())
}

fn is_proc(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstatfs(fd)?.filesystem_type() == PROC_SUPER_MAGIC)
}

/// Where a mount goes; created, as a directory or a file, if nothing is there.
fn mount_point<'a>(
    root: &OwnedFd,
    mount: &'a mount::Plan,
    plain: bool,
    directory: bool,
) -> Result<OwnedFd, Failure<'a>> {
    let label = mount.label.as_bytes();
    match resolve(root, &mount.target, plain) {
        Err(Errno::ENOENT) => {}
        result => {
            let place = result.at(Step::MountTarget, label)?;
            // Wherever the target's links lead: no link leads to `/proc`
            // itself.
            if !mount.in_proc && !plain && is_proc(&place).at(Step::MountTarget, label)? {
                return Err(Errno::EPERM).at(Step::MountInProc, label);
            }
            return Ok(place);
        }
    }
    let kind = if directory {
        Make::Directory
    } else {
        Make::File
    };
    let made = make(root, &mount.target, kind).at(Step::MountPoint, label)?;
    if plain {
        // A dangling link would have led elsewhere.
        return resolve(root, &mount.target, true).at(Step::MountTarget, label);
    }
    Ok(made)
}

fn make_file_system<'a>(
    mount: &'a mount::Plan,
    new: &'a New,
    covered: Option<&OwnedFd>,
) -> Result<OwnedFd, Failure<'a>> {
    let label = mount.label.as_bytes();
    let context = sys::fsopen(&new.kind).at(Step::MountCreate, label)?;
    if let (true, Some(covered)) = (new.mode_of_target, covered) {
        let mode = octal(&fstat(covered).at(Step::MountTarget, label)?);
        sys::fsconfig_set(
            context.as_fd(),
            c"mode",
            CStr::from_bytes_until_nul(&mode).ok(),
        )
        .at(Step::MountCreate, label)?;
    }
    for option in &new.options {
        sys::fsconfig_set(context.as_fd(), &option.key, option.value.as_deref())
            .at(Step::MountOption, option.label.as_bytes())?;
    }
    sys::fsconfig_create(context.as_fd()).at(Step::MountCreate, label)?;
    sys::fsmount(context.as_fd(), new.attributes).at(Step::MountCreate, label)
}

/// A file's mode as text: `1777`.
fn octal(file: &FileStat) -> [u8; 5] {
    let digit = |shift: u32| b'0' + (file.st_mode >> shift & 7) as u8;
    [digit(9), digit(6), digit(3), digit(0), 0]
}

/// By mount(2), which needs a directory's path: that of the working directory.
fn attach_classic<'a>(
    root: &OwnedFd,
    mount: &'a mount::Plan,
    kind: &CString,
    classic: &Classic,
) -> Result<(), Failure<'a>> {
    let label = mount.label.as_bytes();
    let target = mount_point(root, mount, false, true)?;
    nix::unistd::fchdir(&target)
        .and_then(|()| {
            nix::mount::mount(
                Some(classic.source.as_c_str()),
                c".",
                Some(kind.as_c_str()),
                nix::mount::MsFlags::from_bits_retain(classic.flags),
                Some(classic.data.as_c_str()),
            )
        })
        .and_then(|()| nix::unistd::chdir(c"/"))
        .at(Step::MountCreate, label)?;
    if mount.changes.is_empty() {
        return Ok(());
    }
    let tree = resolve(root, &mount.target, false).at(Step::MountTarget, label)?;
    change(mount, &tree)
}

/// A link with the text of the link `source`; an identical one may exist.
fn copy_link(root: &OwnedFd, target: &CStr, source: &OwnedFd) -> Result<(), Errno> {
    let mut text = [0_u8; libc::PATH_MAX as usize];
    let length = sys::read_link(source.as_fd(), c"", &mut text)?.len();
    let text = text.get(..=length).ok_or(Errno::ENAMETOOLONG)?;
    let text = CStr::from_bytes_until_nul(text).map_err(|_| Errno::EINVAL)?;
    let path = target.to_bytes();
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |last| last + 1);
    let start = path[..end]
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let mut name = [0_u8; 256];
    let part = path.get(start..end).ok_or(Errno::EINVAL)?;
    name.get_mut(..part.len())
        .ok_or(Errno::ENAMETOOLONG)?
        .copy_from_slice(part);
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| Errno::ENAMETOOLONG)?;

    let directory = make(root, target, Make::Parent)?;
    match nix::unistd::symlinkat(text, &directory, name) {
        Err(Errno::EEXIST) => {
            let mut there = [0_u8; libc::PATH_MAX as usize];
            match sys::read_link(directory.as_fd(), name, &mut there) {
                Ok(there) if there == text.to_bytes() => Ok(()),
                Ok(_) | Err(_) => Err(Errno::EEXIST),
            }
        }
        result => result,
    }
}

fn remount<'a>(
    root: &OwnedFd,
    mount: &'a mount::Plan,
    options: &'a [FsOption],
) -> Result<(), Failure<'a>> {
    let label = mount.label.as_bytes();
    let target = resolve(root, &mount.target, false).at(Step::MountTarget, label)?;
    if !options.is_empty() {
        let context = sys::fspick(target.as_fd()).at(Step::MountCreate, label)?;
        for option in options {
            sys::fsconfig_set(context.as_fd(), &option.key, option.value.as_deref())
                .at(Step::MountOption, option.label.as_bytes())?;
        }
        sys::fsconfig_reconfigure(context.as_fd()).at(Step::MountCreate, label)?;
    }
    change(mount, &target)
}

/// A mount that had to be writable while others were made on it.
pub(super) fn make_read_only<'a>(
    mount: &'a mount::Plan,
    tree: &OwnedFd,
) -> Result<(), Failure<'a>> {
    let attributes = MountAttr {
        set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    sys::mount_setattr(tree.as_fd(), false, &attributes)
        .at(Step::MountAttributes, mount.label.as_bytes())
}
