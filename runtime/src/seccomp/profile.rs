//! A profile, checked, with the rules of each architecture by number.
//!
//! Where the specification leaves a choice, this follows runc and libseccomp,
//! since existing profiles were made with them:
//!
//! - An entry whose action is the default one has no effect.
//! - An entry without arguments decides the call (the first one if there are
//!   several), whatever entries with arguments come before or after it.
//! - Of entries with arguments the first whose arguments all match decides. An
//!   entry that names one argument more than once stands for as many entries as
//!   it has conditions.
//! - Names that the kernel does not have are skipped, and so are architectures
//!   of machines other than this one, whose calls cannot occur.
//! - If the default action is an error, a call with a higher number than any
//!   that the profile names fails with ENOSYS: the profile is older than the
//!   call, and programs fall back from a missing call, not from a forbidden
//!   one.

use std::collections::BTreeMap;

use nix::errno::Errno;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::syscalls::{Abi, Syscall, multiplexed};
use super::{Action, Condition, Operator, Rule};
use crate::Error;

/// SECCOMP_FILTER_FLAG_TSYNC_ESRCH: the result is a descriptor, not a thread.
const FLAG_TSYNC_ESRCH: u64 = 1 << 4;
/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
const FLAG_WAIT_KILLABLE: u64 = 1 << 5;

/// A checked profile.
#[derive(Debug)]
pub(super) struct Profile {
    pub default: Action,
    /// For numbers above those of the profile.
    pub unknown: Action,
    /// The native one first.
    pub tables: Vec<Table>,
    /// Whether an action notifies a listener.
    pub notifies: bool,
    pub flags: u64,
}

/// The rules for one way to call the kernel.
#[derive(Debug)]
pub(super) struct Table {
    pub abi: Abi,
    pub calls: BTreeMap<u32, Rules>,
    /// The highest number that the profile names.
    pub last: Option<u32>,
}

/// What the profile says about a call.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// Checked in this order; empty if `always` is set.
    pub conditional: Vec<Rule>,
    /// What an entry without arguments says.
    pub always: Option<Action>,
}

impl Rules {
    fn add(&mut self, rule: &Rule) {
        if self.always.is_some() {
            return;
        }
        if rule.conditions.is_empty() {
            self.always = Some(rule.action);
            self.conditional.clear();
        } else {
            self.conditional.push(rule.clone());
        }
    }
}

impl Profile {
    /// Checks a profile for a machine that knows these architectures, its own first.
    pub fn check(profile: &LinuxSeccomp, machine: &[(Arch, Abi)]) -> Result<Profile, Error> {
        let default = action(
            "linux.seccomp.defaultAction",
            profile.default_action(),
            "linux.seccomp.defaultErrnoRet",
            profile.default_errno_ret(),
        )?;
        if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
            return Err(Error::invalid(
                "linux.seccomp.defaultAction",
                "is SCMP_ACT_NOTIFY: the process could not hand the listener over",
            ));
        }
        if profile.listener_metadata().is_some() && profile.listener_path().is_none() {
            return Err(Error::invalid(
                "linux.seccomp.listenerMetadata",
                "is set without linux.seccomp.listenerPath",
            ));
        }
        let listed = profile.architectures().as_deref().unwrap_or_default();
        let mut checked = Profile {
            default,
            unknown: match profile.default_action() {
                LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | Errno::ENOSYS as u32,
                _ => default,
            },
            tables: machine
                .iter()
                .enumerate()
                .filter(|(index, (arch, _))| *index == 0 || listed.contains(arch))
                .map(|(_, (_, abi))| Table {
                    abi: *abi,
                    calls: BTreeMap::new(),
                    last: None,
                })
                .collect(),
            notifies: false,
            flags: 0,
        };
        let entries = profile.syscalls().as_deref().unwrap_or_default();
        for (index, entry) in entries.iter().enumerate() {
            checked.add(&format!("linux.seccomp.syscalls[{index}]"), entry)?;
        }
        if checked.notifies && profile.listener_path().is_none() {
            return Err(Error::invalid(
                "linux.seccomp.listenerPath",
                "is missing: an action is SCMP_ACT_NOTIFY",
            ));
        }
        checked.flags = flags(profile, checked.notifies);
        Ok(checked)
    }

    fn add(&mut self, field: &str, entry: &LinuxSyscall) -> Result<(), Error> {
        if entry.names().is_empty() {
            return Err(Error::invalid(format!("{field}.names"), "is empty"));
        }
        let action = action(
            &format!("{field}.action"),
            entry.action(),
            &format!("{field}.errnoRet"),
            entry.errno_ret(),
        )?;
        let rules: Vec<Rule> = conditions(field, entry.args().as_deref().unwrap_or_default())?
            .into_iter()
            .map(|conditions| Rule { conditions, action })
            .collect();
        if action == libc::SECCOMP_RET_USER_NOTIF {
            self.notifies = true;
        }
        for name in entry.names() {
            let Some(call) = Syscall::find(name) else {
                continue;
            };
            for table in &mut self.tables {
                if let Some(number) = call.number(table.abi) {
                    table.last = table.last.max(Some(number));
                    if action != self.default {
                        let known = table.calls.entry(number).or_default();
                        rules.iter().for_each(|rule| known.add(rule));
                    }
                }
                if table.abi == Abi::I386 && action != self.default {
                    table.add_multiplexed(name, &rules);
                }
            }
        }
        Ok(())
    }
}

impl Table {
    /// The call's other entry point. Conditions on arguments cannot apply to
    /// it: its arguments are in memory, where a filter cannot look.
    fn add_multiplexed(&mut self, name: &str, rules: &[Rule]) {
        let Some((way, value)) = multiplexed(name) else {
            return;
        };
        let Some(number) = Syscall::find(way).and_then(|call| call.number(self.abi)) else {
            return;
        };
        for rule in rules.iter().filter(|rule| rule.conditions.is_empty()) {
            let condition = Condition {
                argument: 0,
                operator: match way {
                    // The high half is a version.
                    "ipc" => Operator::Masked(0xffff),
                    _ => Operator::Equal,
                },
                value,
            };
            self.calls.entry(number).or_default().add(&Rule {
                conditions: vec![condition],
                action: rule.action,
            });
        }
    }
}

fn flags(profile: &LinuxSeccomp, notifies: bool) -> u64 {
    let mut flags = 0;
    for flag in profile.flags().as_deref().unwrap_or_default() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync if notifies => {
                libc::SECCOMP_FILTER_FLAG_TSYNC | FLAG_TSYNC_ESRCH
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => {
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => {
                FLAG_WAIT_KILLABLE
            }
            // Nothing notifies, so nothing waits; the kernel would reject the
            // flag.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    if notifies {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    flags
}

fn action(
    field: &str,
    action: LinuxSeccompAction,
    errno_field: &str,
    errno: Option<u32>,
) -> Result<Action, Error> {
    // MAX_ERRNO: a program could not tell a larger one from a result.
    if errno.is_some_and(|errno| errno > 4095) {
        return Err(Error::invalid(errno_field, "is not an error number"));
    }
    let with_errno = |base: u32| Ok(base | errno.unwrap_or(Errno::EPERM as u32));
    let base = match action {
        LinuxSeccompAction::ScmpActErrno => return with_errno(libc::SECCOMP_RET_ERRNO),
        LinuxSeccompAction::ScmpActTrace => return with_errno(libc::SECCOMP_RET_TRACE),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
    };
    // runtime-spec, config-linux, "Seccomp": an action that takes none must not have one.
    if errno.is_some() {
        return Err(Error::invalid(
            errno_field,
            format!("is set, but {field} returns no error number"),
        ));
    }
    Ok(base)
}

/// The alternatives of an entry, each with the conditions that must all hold.
fn conditions(field: &str, arguments: &[LinuxSeccompArg]) -> Result<Vec<Vec<Condition>>, Error> {
    let mut all: Vec<Condition> = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        all.push(condition(&format!("{field}.args[{index}]"), argument)?);
    }
    let again = |(index, condition): (usize, &Condition)| {
        all[..index]
            .iter()
            .any(|known| known.argument == condition.argument)
    };
    Ok(if all.iter().enumerate().any(again) {
        all.into_iter().map(|condition| vec![condition]).collect()
    } else {
        vec![all]
    })
}

fn condition(field: &str, argument: &LinuxSeccompArg) -> Result<Condition, Error> {
    let number = u8::try_from(argument.index())
        .ok()
        .filter(|number| *number < 6)
        .ok_or_else(|| Error::invalid(format!("{field}.index"), "is above 5"))?;
    let (value, two) = (argument.value(), argument.value_two());
    let (operator, value) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Operator::NotEqual, value),
        LinuxSeccompOperator::ScmpCmpLt => (Operator::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (Operator::LessOrEqual, value),
        LinuxSeccompOperator::ScmpCmpEq => (Operator::Equal, value),
        LinuxSeccompOperator::ScmpCmpGe => (Operator::GreaterOrEqual, value),
        LinuxSeccompOperator::ScmpCmpGt => (Operator::Greater, value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (Operator::Masked(value), two.unwrap_or(0) & value)
        }
    };
    if !matches!(operator, Operator::Masked(_)) && two.unwrap_or(0) != 0 {
        return Err(Error::invalid(
            format!("{field}.valueTwo"),
            "is set, but the operator compares with one value",
        ));
    }
    Ok(Condition {
        argument: number,
        operator,
        value,
    })
}
