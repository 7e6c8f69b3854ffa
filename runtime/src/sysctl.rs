//! Kernel parameters that belong to a namespace. Pure, except [`Sysctl::set`].

use std::collections::HashMap;
use std::ffi::CString;

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use crate::error::{Error, Step};
use crate::namespaces::Namespaces;
use crate::report::{At, Failure};
use crate::text::c_string;

/// A parameter and its value.
#[derive(Debug)]
pub(crate) struct Sysctl {
    path: CString,
    value: Vec<u8>,
}

const IPC: &[&str] = &[
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Those of user namespaces (namespaces(7)).
const USER: &[&str] = &[
    "user.max_cgroup_namespaces",
    "user.max_fanotify_groups",
    "user.max_fanotify_marks",
    "user.max_inotify_instances",
    "user.max_inotify_watches",
    "user.max_ipc_namespaces",
    "user.max_mnt_namespaces",
    "user.max_net_namespaces",
    "user.max_pid_namespaces",
    "user.max_time_namespaces",
    "user.max_user_namespaces",
    "user.max_uts_namespaces",
];

/// The namespace that a parameter belongs to; `None` for those of the whole
/// machine.
///
/// `kernel.pid_max` belongs to the machine before Linux 6.14 and is not among
/// them.
fn namespace(name: &str) -> Option<CloneFlags> {
    if name.starts_with("net.") {
        Some(CloneFlags::CLONE_NEWNET)
    } else if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(CloneFlags::CLONE_NEWIPC)
    } else if name == "kernel.domainname" {
        Some(CloneFlags::CLONE_NEWUTS)
    } else if matches!(name, "kernel.ns_last_pid" | "vm.memfd_noexec") {
        Some(CloneFlags::CLONE_NEWPID)
    } else if USER.contains(&name) {
        Some(CloneFlags::CLONE_NEWUSER)
    } else {
        None
    }
}

/// Checks `linux.sysctl`: only parameters of the container's own namespaces can be set.
pub(crate) fn plan(
    sysctls: &HashMap<String, String>,
    namespaces: &Namespaces,
) -> Result<Vec<Sysctl>, Error> {
    let mut plan = sysctls
        .iter()
        .map(|(written, value)| {
            let field = format!("linux.sysctl[{written}]");
            // Both spellings are in use; with slashes a dot belongs to a name (eth0.100).
            let (name, path) = match written.split('/').next() {
                Some(first) if first.contains('.') || first == written => {
                    (written.replace('/', ":"), written.replace('.', "/"))
                }
                _ => (written.replace('/', "."), written.clone()),
            };
            if path.split('/').any(|part| part.is_empty() || part == ".." || part == ".") {
                return Err(Error::invalid(field, "is not the name of a parameter"));
            }
            match namespace(&name) {
                Some(kind) if namespaces.shares(kind) => Err(Error::invalid(
                    field,
                    "would be set for the host: the container does not have this namespace of its own",
                )),
                Some(_) => Ok(Sysctl {
                    path: c_string(&field, format!("/proc/sys/{path}"))?,
                    value: value.clone().into_bytes(),
                }),
                None if name == "kernel.hostname" => Err(Error::invalid(
                    field,
                    "is what the field hostname is for",
                )),
                None => Err(Error::invalid(field, "belongs to the whole machine")),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    plan.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(plan)
}

impl Sysctl {
    /// In the container's process, with its namespaces, while the host's
    /// `/proc` is in place.
    pub fn set(&self) -> Result<(), Failure<'_>> {
        write(&self.path, &self.value).at(Step::Sysctl, self.path.as_bytes())
    }
}

/// Writes a whole value to an existing file of the kernel's.
pub(crate) fn write(path: &CString, value: &[u8]) -> Result<(), nix::errno::Errno> {
    let file = open(
        path.as_c_str(),
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    nix::unistd::write(&file, value).map(drop)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, LinuxNamespaceBuilder, LinuxNamespaceType};

    use super::*;

    fn check(name: &str, private: LinuxNamespaceType) -> Result<Vec<Sysctl>, String> {
        let namespaces = [LinuxNamespaceType::Mount, private]
            .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build().unwrap());
        let linux = LinuxBuilder::default().namespaces(namespaces).build();
        let namespaces = Namespaces::plan(Some(&linux.unwrap())).unwrap();
        plan(&HashMap::from([(name.into(), "1".into())]), &namespaces)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn both_spellings_name_the_same_file() {
        for name in ["net.ipv4.ip_forward", "net/ipv4/ip_forward"] {
            let plan = check(name, LinuxNamespaceType::Network).unwrap();
            assert_eq!(plan[0].path.as_c_str(), c"/proc/sys/net/ipv4/ip_forward");
        }
        let plan = check(
            "net/ipv4/conf/eth0.100/rp_filter",
            LinuxNamespaceType::Network,
        )
        .unwrap();
        assert_eq!(
            plan[0].path.as_c_str(),
            c"/proc/sys/net/ipv4/conf/eth0.100/rp_filter"
        );
    }

    #[test]
    fn what_would_change_the_host_is_refused_by_name() {
        for (name, private) in [
            ("net.ipv4.ip_forward", LinuxNamespaceType::Ipc),
            ("kernel.shmmax", LinuxNamespaceType::Network),
            ("kernel.core_pattern", LinuxNamespaceType::Network),
            ("vm.swappiness", LinuxNamespaceType::Network),
            ("kernel.hostname", LinuxNamespaceType::Uts),
            ("kernel.pid_max", LinuxNamespaceType::Pid),
            ("user.max_user_namespaces", LinuxNamespaceType::Pid),
            ("user.unknown", LinuxNamespaceType::Ipc),
            ("net/../kernel/core_pattern", LinuxNamespaceType::Network),
            ("net...kernel.core_pattern", LinuxNamespaceType::Network),
        ] {
            let text = check(name, private).unwrap_err();
            assert!(text.contains(name), "{text}");
        }
    }
}
