//! The root in an existing mount namespace: one joined by path, or the caller's,
//! which a container inherits if its specification lists none (runtime-spec,
//! config-linux.md, "Namespaces").
//!
//! Mounts, devices and masks of the specification would affect all processes of
//! that namespace, and stay when the container is gone, so they are refused. For the same reason the root is changed
//! by chroot(2), not pivot_root(2).

use std::ffi::CString;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use crate::error::{Error, Step};
use crate::namespaces::open_namespace;
use crate::report::{At, Failure};
use crate::text::absolute;

/// A mount namespace, and the root directory in it.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The caller's, without a path.
    namespace: Option<CString>,
    root: CString,
}

impl Joined {
    /// Checks `root`, and that nothing has to be made.
    pub fn new(spec: &Spec, namespace: Option<CString>) -> Result<Joined, Error> {
        let Some(root) = spec.root() else {
            return Err(Error::invalid("root", "is missing"));
        };
        let linux = spec.linux().as_ref();
        let length = |list: Option<&Vec<String>>| list.map_or(0, Vec::len);
        for (field, is_set) in [
            ("root.readonly", root.readonly() == Some(true)),
            (
                "mounts",
                spec.mounts().as_ref().is_some_and(|list| !list.is_empty()),
            ),
            (
                "linux.devices",
                linux
                    .and_then(|linux| linux.devices().as_ref())
                    .is_some_and(|list| !list.is_empty()),
            ),
            (
                "linux.maskedPaths",
                length(linux.and_then(|linux| linux.masked_paths().as_ref())) > 0,
            ),
            (
                "linux.readonlyPaths",
                length(linux.and_then(|linux| linux.readonly_paths().as_ref())) > 0,
            ),
            (
                "linux.rootfsPropagation",
                linux
                    .and_then(|linux| linux.rootfs_propagation().as_deref())
                    .is_some_and(|name| !name.is_empty()),
            ),
        ] {
            if is_set {
                return Err(Error::invalid(
                    field,
                    match namespace {
                        Some(_) => "would change a joined mount namespace for all its processes",
                        None => {
                            "would change the caller's own mounts: linux.namespaces has no mount namespace"
                        }
                    },
                ));
            }
        }
        Ok(Joined {
            namespace,
            root: absolute("root.path", root.path())?,
        })
    }

    /// In the container's process: joins the namespace, and changes the root in it.
    pub fn enter(&self) -> Result<(), Failure<'_>> {
        if let Some(namespace) = &self.namespace {
            open_namespace(namespace)
                .and_then(|fd| nix::sched::setns(fd, CloneFlags::CLONE_NEWNS))
                .at(Step::JoinNamespace, namespace.as_bytes())?;
        }
        self.change_root().at(Step::Root, self.root.as_bytes())
    }

    fn change_root(&self) -> Result<(), Errno> {
        let root = openat2(
            nix::fcntl::AT_FDCWD,
            self.root.as_c_str(),
            OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS),
        )?;
        nix::unistd::fchdir(&root)?;
        if self.root.as_bytes() != b"/" {
            nix::unistd::chroot(c".")?;
        }
        nix::unistd::chdir(c"/")
    }
}
