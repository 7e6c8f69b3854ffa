//! The descriptors that the caller leaves open for the container.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Uid, fchown};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use runtime::Stdio;

use crate::sys;

/// In addition to the standard ones.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Those of socket activation: LISTEN_FDS, from 3 on.
    pub listen: Vec<BorrowedFd<'static>>,
    /// Those of `--preserve-fds`, which come after them.
    pub passed: Vec<BorrowedFd<'static>>,
}

impl Inherited {
    /// Finds them; `preserve` is the option's value.
    pub fn find(preserve: u32) -> Result<Inherited> {
        let variable = |name: &str| std::env::var(name).ok();
        // LISTEN_PID says which process they are for.
        let listen = match (variable("LISTEN_FDS"), variable("LISTEN_PID")) {
            (Some(count), Some(pid)) if pid.parse() == Ok(std::process::id()) => {
                count.parse::<u32>().context("LISTEN_FDS")?
            }
            _ => 0,
        };
        let range = |first: u32, count: u32, whose: &str| {
            (first..first.saturating_add(count))
                .map(|number| {
                    let number = i32::try_from(number).unwrap_or(i32::MAX);
                    if !sys::is_inherited(number) {
                        bail!("{whose} names the descriptor {number}, which is not open");
                    }
                    Ok(sys::inherited(number))
                })
                .collect::<Result<Vec<_>>>()
        };
        Ok(Inherited {
            listen: range(3, listen, "LISTEN_FDS")?,
            passed: range(3 + listen, preserve, "--preserve-fds")?,
        })
    }
}

/// Gives pipes, sockets and files among the standard descriptors to the user of
/// the container's process, so that it can open them again by `/dev/stdout` and
/// the like. Devices keep their owner: others use terminals and `/dev/null`
/// too.
pub fn give_standard(stdio: &Stdio<'_>, spec: &Spec, uid: u32) {
    let Some(owner) = on_host(spec, uid) else {
        return;
    };
    for descriptor in [stdio.stdin, stdio.stdout, stdio.stderr] {
        let Ok(status) = fstat(descriptor) else {
            continue;
        };
        let kind = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFCHR || status.st_uid == owner {
            continue;
        }
        // Not every file system can; the process has it open in any case.
        let _ = fchown(descriptor, Some(Uid::from_raw(owner)), None);
    }
}

/// The id on the machine of a user in the container; `None` if it is unknown,
/// because the user namespace is another's.
fn on_host(spec: &Spec, uid: u32) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let is_user = |namespace: &LinuxNamespace| namespace.typ() == LinuxNamespaceType::User;
    if !namespaces.iter().any(is_user) {
        return Some(uid);
    }
    linux.uid_mappings().iter().flatten().find_map(|mapping| {
        let offset = uid.checked_sub(mapping.container_id())?;
        (offset < mapping.size()).then(|| mapping.host_id().checked_add(offset))?
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_are_found_by_the_mappings() {
        let spec = |linux| {
            let spec = json!({ "ociVersion": "1.2.0", "root": { "path": "/" }, "linux": linux });
            serde_json::from_value::<Spec>(spec).unwrap()
        };
        assert_eq!(on_host(&spec(json!({ "namespaces": [] })), 7), Some(7));
        let mapped = spec(json!({
            "namespaces": [{ "type": "user" }],
            "uidMappings": [
                { "containerID": 0, "hostID": 1000, "size": 1 },
                { "containerID": 1, "hostID": 5000, "size": 10 },
            ],
        }));
        assert_eq!(on_host(&mapped, 0), Some(1000));
        assert_eq!(on_host(&mapped, 7), Some(5006));
        assert_eq!(on_host(&mapped, 11), None);
    }
}
