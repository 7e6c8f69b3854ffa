//! Who owns a container's cgroup (runtime-spec, config-linux.md, "Cgroup ownership").

use std::ffi::CString;
use std::fs;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::Error;
use crate::mount::read_only;

/// Which files of a cgroup can be given away (cgroups(7)).
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
const ALWAYS: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

/// The user outside that is the container's own user, if the container has a
/// new cgroup namespace and can write its cgroup file system.
pub(crate) fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let own = |kind: LinuxNamespaceType| {
        let namespaces = linux.namespaces().iter().flatten();
        namespaces
            .filter(|namespace| namespace.typ() == kind)
            .map(|namespace| namespace.path().as_deref().unwrap_or("".as_ref()))
            .next()
    };
    if own(LinuxNamespaceType::Cgroup).is_none_or(|path| !path.as_os_str().is_empty()) {
        return None;
    }
    let writable = spec.mounts().iter().flatten().any(|mount| {
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) && !read_only(mount)
    });
    let uid = spec.process().as_ref()?.user().uid();
    if !writable {
        return None;
    }
    match own(LinuxNamespaceType::User) {
        None => Some(uid),
        Some(_) => linux.uid_mappings().iter().flatten().find_map(|mapping| {
            let place = uid.checked_sub(mapping.container_id())?;
            (place < mapping.size()).then(|| mapping.host_id() + place)
        }),
    }
}

/// Gives a cgroup, and the files of it that may be given away, to a user.
pub(crate) fn give(cgroup: BorrowedFd<'_>, owner: u32) -> Result<(), Error> {
    let files = fs::read_to_string(DELEGATE).unwrap_or_else(|_| ALWAYS.to_string());
    for name in std::iter::once(".").chain(files.lines()) {
        let path = CString::new(name).unwrap_or_default();
        match fchownat(
            cgroup,
            path.as_c_str(),
            Some(Uid::from_raw(owner)),
            None,
            AtFlags::empty(),
        ) {
            // A missing controller, or a caller who may not give it away; the
            // specification accepts both.
            Ok(()) | Err(Errno::ENOENT | Errno::EPERM) => {}
            Err(errno) => {
                return Err(Error::Start {
                    call: "giving the cgroup to its user",
                    errno,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn owner_of(options: &[&str], namespaces: &[&str], uid: u32) -> Option<u32> {
        let namespaces: Vec<Value> = namespaces
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": { "user": { "uid": uid, "gid": 0 }, "cwd": "/" },
            "mounts": [{ "destination": "/c", "type": "cgroup", "source": "cgroup", "options": options }],
            "linux": {
                "namespaces": namespaces,
                "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
            },
        });
        owner(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn a_cgroup_that_can_be_written_belongs_to_the_containers_user() {
        assert_eq!(owner_of(&["nosuid"], &["cgroup", "user"], 3), Some(1003));
        assert_eq!(owner_of(&["ro", "rw"], &["cgroup"], 3), Some(3));
        assert_eq!(owner_of(&["ro"], &["cgroup", "user"], 3), None);
        assert_eq!(owner_of(&[], &["user"], 3), None);
        // Nobody outside.
        assert_eq!(owner_of(&[], &["cgroup", "user"], 10), None);
    }
}
