//! Masked and read-only paths.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::resolve::{existing, is_directory};
use crate::error::Step;
use crate::report::{At, Failure};
use crate::sys::{self, MOUNT_ATTR_RDONLY, MountAttr};

/// A masked file is covered by the host's `/dev/null` (not the container's,
/// which might be anything), a masked directory by an empty read-only one.
pub(super) fn cover<'a>(
    root: &OwnedFd,
    paths: &'a [CString],
    null: Option<OwnedFd>,
) -> Result<(), Failure<'a>> {
    let mut null = Cover {
        first: null,
        attached: false,
    };
    let mut empty = Cover {
        first: None,
        attached: false,
    };
    for path in paths {
        let subject = path.as_bytes();
        let Some(target) = existing(root, path, false).at(Step::Mask, subject)? else {
            continue;
        };
        if is_directory(&target).at(Step::Mask, subject)? {
            if empty.first.is_none() {
                empty.first = Some(empty_directory().at(Step::Mask, subject)?);
            }
            empty.attach(&target).at(Step::Mask, subject)?;
        } else {
            null.attach(&target).at(Step::Mask, subject)?;
        }
    }
    Ok(())
}

/// A mount that hides several places: it covers the first one itself, then
/// clones of it cover the others, because only an attached mount can be cloned.
struct Cover {
    first: Option<OwnedFd>,
    attached: bool,
}

impl Cover {
    fn attach(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        let first = self.first.as_ref().ok_or(Errno::EBADF)?;
        if self.attached {
            let clone = sys::clone_tree_of(first.as_fd(), false)?;
            return sys::move_mount(clone.as_fd(), target.as_fd());
        }
        self.attached = true;
        sys::move_mount(first.as_fd(), target.as_fd())
    }
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = sys::fsopen(c"tmpfs")?;
    sys::fsconfig_set(context.as_fd(), c"mode", Some(c"555"))?;
    sys::fsconfig_set(context.as_fd(), c"nr_inodes", Some(c"1"))?;
    sys::fsconfig_create(context.as_fd())?;
    sys::fsmount(
        context.as_fd(),
        MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOEXEC,
    )
}

pub(super) fn make_read_only<'a>(root: &OwnedFd, path: &'a CString) -> Result<(), Failure<'a>> {
    let subject = path.as_bytes();
    let Some(target) = existing(root, path, false).at(Step::ReadOnlyPath, subject)? else {
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
