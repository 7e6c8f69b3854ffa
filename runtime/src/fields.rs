//! Which fields of a specification are enforced.
//!
//! Invariant: a field that is set and not in [`ENFORCED`] is an error. The
//! specification is walked as it would be written to `config.json`, so a field
//! that a later `oci-spec` adds is refused until somebody enforces it here.

mod walk;

use oci_spec::runtime::Spec;
use serde::Serialize;

use crate::Error;

/// Every field that is enforced; `[]` stands for an item of a list, `*` for a key of a map.
///
/// A list of strings counts as one field. `docs/runtime.md` says what each does.
/// Sorted as bytes.
pub const ENFORCED: &[&str] = &[
    "annotations.*",
    "domainname",
    "hooks.createContainer[].args",
    "hooks.createContainer[].env",
    "hooks.createContainer[].path",
    "hooks.createContainer[].timeout",
    "hooks.createRuntime[].args",
    "hooks.createRuntime[].env",
    "hooks.createRuntime[].path",
    "hooks.createRuntime[].timeout",
    "hooks.poststart[].args",
    "hooks.poststart[].env",
    "hooks.poststart[].path",
    "hooks.poststart[].timeout",
    "hooks.poststop[].args",
    "hooks.poststop[].env",
    "hooks.poststop[].path",
    "hooks.poststop[].timeout",
    "hooks.prestart[].args",
    "hooks.prestart[].env",
    "hooks.prestart[].path",
    "hooks.prestart[].timeout",
    "hooks.startContainer[].args",
    "hooks.startContainer[].env",
    "hooks.startContainer[].path",
    "hooks.startContainer[].timeout",
    "hostname",
    "linux.devices[].fileMode",
    "linux.devices[].gid",
    "linux.devices[].major",
    "linux.devices[].minor",
    "linux.devices[].path",
    "linux.devices[].type",
    "linux.devices[].uid",
    "linux.gidMappings[].containerID",
    "linux.gidMappings[].hostID",
    "linux.gidMappings[].size",
    "linux.maskedPaths",
    "linux.mountLabel",
    "linux.namespaces[].path",
    "linux.namespaces[].type",
    "linux.personality.domain",
    "linux.personality.flags",
    "linux.readonlyPaths",
    "linux.resources.blockIO.throttleReadBpsDevice[].major",
    "linux.resources.blockIO.throttleReadBpsDevice[].minor",
    "linux.resources.blockIO.throttleReadBpsDevice[].rate",
    "linux.resources.blockIO.throttleReadIOPSDevice[].major",
    "linux.resources.blockIO.throttleReadIOPSDevice[].minor",
    "linux.resources.blockIO.throttleReadIOPSDevice[].rate",
    "linux.resources.blockIO.throttleWriteBpsDevice[].major",
    "linux.resources.blockIO.throttleWriteBpsDevice[].minor",
    "linux.resources.blockIO.throttleWriteBpsDevice[].rate",
    "linux.resources.blockIO.throttleWriteIOPSDevice[].major",
    "linux.resources.blockIO.throttleWriteIOPSDevice[].minor",
    "linux.resources.blockIO.throttleWriteIOPSDevice[].rate",
    "linux.resources.blockIO.weight",
    "linux.resources.blockIO.weightDevice[].major",
    "linux.resources.blockIO.weightDevice[].minor",
    "linux.resources.blockIO.weightDevice[].weight",
    "linux.resources.cpu.burst",
    "linux.resources.cpu.cpus",
    "linux.resources.cpu.idle",
    "linux.resources.cpu.mems",
    "linux.resources.cpu.period",
    "linux.resources.cpu.quota",
    "linux.resources.cpu.shares",
    "linux.resources.devices[].access",
    "linux.resources.devices[].allow",
    "linux.resources.devices[].major",
    "linux.resources.devices[].minor",
    "linux.resources.devices[].type",
    "linux.resources.hugepageLimits[].limit",
    "linux.resources.hugepageLimits[].pageSize",
    "linux.resources.memory.checkBeforeUpdate",
    "linux.resources.memory.limit",
    "linux.resources.memory.reservation",
    "linux.resources.memory.swap",
    "linux.resources.memory.useHierarchy",
    "linux.resources.pids.limit",
    "linux.resources.rdma.*.hcaHandles",
    "linux.resources.rdma.*.hcaObjects",
    "linux.resources.unified.*",
    "linux.rootfsPropagation",
    "linux.seccomp.architectures",
    "linux.seccomp.defaultAction",
    "linux.seccomp.defaultErrnoRet",
    "linux.seccomp.flags",
    "linux.seccomp.listenerMetadata",
    "linux.seccomp.listenerPath",
    "linux.seccomp.syscalls[].action",
    "linux.seccomp.syscalls[].args[].index",
    "linux.seccomp.syscalls[].args[].op",
    "linux.seccomp.syscalls[].args[].value",
    "linux.seccomp.syscalls[].args[].valueTwo",
    "linux.seccomp.syscalls[].errnoRet",
    "linux.seccomp.syscalls[].names",
    "linux.sysctl.*",
    "linux.timeOffsets.*.nanosecs",
    "linux.timeOffsets.*.secs",
    "linux.uidMappings[].containerID",
    "linux.uidMappings[].hostID",
    "linux.uidMappings[].size",
    "mounts[].destination",
    "mounts[].gidMappings[].containerID",
    "mounts[].gidMappings[].hostID",
    "mounts[].gidMappings[].size",
    "mounts[].options",
    "mounts[].source",
    "mounts[].type",
    "mounts[].uidMappings[].containerID",
    "mounts[].uidMappings[].hostID",
    "mounts[].uidMappings[].size",
    "ociVersion",
    "process.apparmorProfile",
    "process.args",
    "process.capabilities.ambient",
    "process.capabilities.bounding",
    "process.capabilities.effective",
    "process.capabilities.inheritable",
    "process.capabilities.permitted",
    "process.consoleSize.height",
    "process.consoleSize.width",
    "process.cwd",
    "process.env",
    "process.execCPUAffinity.final",
    "process.execCPUAffinity.initial",
    "process.ioPriority.class",
    "process.ioPriority.priority",
    "process.noNewPrivileges",
    "process.oomScoreAdj",
    "process.rlimits[].hard",
    "process.rlimits[].soft",
    "process.rlimits[].type",
    "process.scheduler.deadline",
    "process.scheduler.flags",
    "process.scheduler.nice",
    "process.scheduler.period",
    "process.scheduler.policy",
    "process.scheduler.priority",
    "process.scheduler.runtime",
    "process.selinuxLabel",
    "process.terminal",
    "process.user.additionalGids",
    "process.user.gid",
    "process.user.uid",
    "process.user.umask",
    "root.path",
    "root.readonly",
];

/// Fields that are not enforced, and in which zero stands for "not set".
///
/// Docker, containerd and podman write some of them in each specification.
const ZERO_IS_UNSET: &[&str] = &[
    "linux.resources.blockIO.leafWeight",
    "linux.resources.blockIO.weightDevice[].leafWeight",
    "linux.resources.cpu.realtimePeriod",
    "linux.resources.cpu.realtimeRuntime",
    "linux.resources.memory.kernel",
    "linux.resources.memory.kernelTCP",
    "linux.resources.network.classID",
];

/// Refuses the first field that is set and not enforced.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    spec.serialize(&mut walk::Walk::default())
        .map_err(|refused| Error::Unsupported {
            field: refused.field,
        })
}

#[derive(PartialEq, Eq)]
enum Found {
    /// The place is an enforced field.
    Field,
    /// Enforced fields are below it.
    Above,
    Nothing,
}

fn find(pattern: &str) -> Found {
    let first = ENFORCED.partition_point(|field| *field < pattern);
    let mut candidates = ENFORCED[first..]
        .iter()
        .map_while(|field| field.strip_prefix(pattern))
        .peekable();
    if candidates.peek() == Some(&"") {
        Found::Field
    } else if candidates.any(|rest| rest.starts_with(['.', '['])) {
        Found::Above
    } else {
        Found::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_sorted_and_none_is_above_another() {
        assert!(ENFORCED.is_sorted());
        assert!(
            ZERO_IS_UNSET
                .iter()
                .all(|field| find(field) == Found::Nothing)
        );
        for field in ENFORCED {
            assert!(find(field) == Found::Field, "{field}");
            for (end, _) in field.match_indices(['.', '[']) {
                assert!(find(&field[..end]) == Found::Above, "{field} at {end}");
            }
        }
        for nothing in ["linux.resource", "rooty", "root.path.x", "x", ""] {
            assert!(find(nothing) == Found::Nothing, "{nothing}");
        }
    }
}
