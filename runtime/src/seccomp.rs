//! From an OCI seccomp profile to a program of classic BPF.
//!
//! What a profile means here: the entries that name a system call are looked
//! at in the order of the profile, and the first whose arguments all match
//! decides; where none does, the default action. A call of an architecture
//! that the profile does not list kills the process. A call with a number that
//! the kernel's table does not have fails with ENOSYS where the default action
//! is to fail, so that programs can tell a new call from a forbidden one.
//!
//! Compiled programs are kept as long as somebody uses them, by a digest of
//! the profile: services mostly share one.

mod bpf;
mod default;
mod syscalls;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use nix::errno::Errno;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use crate::Error;
use crate::sys::{self, Instruction};

pub use default::default_seccomp;

const RET_KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// Set in the number of a call of the x32 architecture, which shares x86-64's.
const X32_BIT: u32 = 0x4000_0000;
/// The kernel's limit for a program (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// A compiled profile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    instructions: Vec<Instruction>,
    flags: u64,
}

impl Program {
    /// Loads the program for the calling thread.
    pub fn load(&self) -> Result<(), Errno> {
        sys::load_seccomp(&self.instructions, self.flags)
    }
}

/// What the filter does with a call: the value that it returns to the kernel.
type Action = u32;

/// An entry's word on one call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    conditions: Vec<Condition>,
    action: Action,
}

/// A comparison of one argument, which always has 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    /// Which argument, from 0 to 5.
    argument: u8,
    operator: Operator,
    value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal under this mask.
    Masked(u64),
}

/// A checked profile.
#[derive(Debug)]
struct Profile {
    default: Action,
    /// For numbers that are in no table.
    unknown: Action,
    /// Rules by number, without those that can never be reached.
    x86_64: BTreeMap<u32, Vec<Rule>>,
    /// The same for i386, where the profile lists it.
    i386: Option<BTreeMap<u32, Vec<Rule>>>,
    /// For calls of the x32 architecture.
    x32: Action,
    flags: u64,
}

/// Compiles a profile, or takes the program that an equal one was compiled to.
pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Arc<Program>, Error> {
    static PROGRAMS: Mutex<Vec<(u64, Weak<Program>)>> = Mutex::new(Vec::new());

    let digest = digest(profile)?;
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    programs.retain(|(_, program)| program.strong_count() > 0);
    let known = programs.iter().find(|(known, _)| *known == digest);
    if let Some(program) = known.and_then(|(_, program)| program.upgrade()) {
        return Ok(program);
    }
    let program = Arc::new(Profile::check(profile)?.compile()?);
    programs.push((digest, Arc::downgrade(&program)));
    Ok(program)
}

/// A hash with a key that nobody outside knows: no profile can be made to collide.
fn digest(profile: &LinuxSeccomp) -> Result<u64, Error> {
    static KEY: OnceLock<RandomState> = OnceLock::new();

    // In one piece: hashing many small ones costs more than the copy.
    let text = serde_json::to_vec(profile).map_err(Error::Spec)?;
    Ok(KEY.get_or_init(RandomState::new).hash_one(text))
}

impl Profile {
    fn check(profile: &LinuxSeccomp) -> Result<Profile, Error> {
        let default = action(
            "linux.seccomp.defaultAction",
            profile.default_action(),
            "linux.seccomp.defaultErrnoRet",
            profile.default_errno_ret(),
        )?;
        let architectures = profile.architectures().as_deref().unwrap_or_default();
        let lists = |wanted: Arch| architectures.contains(&wanted);
        let mut checked = Profile {
            default,
            unknown: match profile.default_action() {
                LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | Errno::ENOSYS as u32,
                _ => default,
            },
            x86_64: BTreeMap::new(),
            i386: lists(Arch::ScmpArchX86).then(BTreeMap::new),
            // A listed x32 gets what a kernel without it says.
            x32: if lists(Arch::ScmpArchX32) {
                libc::SECCOMP_RET_ERRNO | Errno::ENOSYS as u32
            } else {
                RET_KILL_PROCESS
            },
            flags: 0,
        };
        for flag in profile.flags().as_deref().unwrap_or_default() {
            checked.flags |= match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => {
                    libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
                }
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                    return Err(Error::Unsupported {
                        field: format!("linux.seccomp.flags ({flag})"),
                    });
                }
            };
        }
        let entries = profile.syscalls().as_deref().unwrap_or_default();
        for (index, entry) in entries.iter().enumerate() {
            checked.add(&format!("linux.seccomp.syscalls[{index}]"), entry)?;
        }
        Ok(checked)
    }

    fn add(&mut self, field: &str, entry: &LinuxSyscall) -> Result<(), Error> {
        if entry.names().is_empty() {
            return Err(Error::invalid(format!("{field}.names"), "is empty"));
        }
        let rule = Rule {
            action: action(
                &format!("{field}.action"),
                entry.action(),
                &format!("{field}.errnoRet"),
                entry.errno_ret(),
            )?,
            conditions: conditions(field, entry.args().as_deref().unwrap_or_default())?,
        };
        for name in entry.names() {
            let numbers = syscalls::numbers(name);
            if let Some(number) = numbers.x86_64 {
                append(self.x86_64.entry(number).or_default(), &rule);
            }
            if let (Some(rules), Some(number)) = (&mut self.i386, numbers.i386) {
                append(rules.entry(number).or_default(), &rule);
            }
        }
        Ok(())
    }
}

/// Nothing after a rule without conditions is ever reached.
fn append(rules: &mut Vec<Rule>, rule: &Rule) {
    if rules.last().is_none_or(|last| !last.conditions.is_empty()) {
        rules.push(rule.clone());
    }
}

fn action(
    field: &str,
    action: LinuxSeccompAction,
    errno_field: &str,
    errno: Option<u32>,
) -> Result<Action, Error> {
    // MAX_ERRNO: a program could not tell a larger one from a result.
    if errno.is_some_and(|errno| errno > 4095) {
        return Err(Error::invalid(errno_field, "is no error number"));
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
        LinuxSeccompAction::ScmpActNotify => {
            return Err(Error::Unsupported {
                field: format!("{field} (SCMP_ACT_NOTIFY)"),
            });
        }
    };
    // runtime-spec, config-linux, "Seccomp": an action that takes none must not have one.
    if errno.is_some() {
        return Err(Error::invalid(
            errno_field,
            "is set, but the action returns no error number",
        ));
    }
    Ok(base)
}

fn conditions(field: &str, arguments: &[LinuxSeccompArg]) -> Result<Vec<Condition>, Error> {
    let mut conditions: Vec<Condition> = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        let field = |name: &str| format!("{field}.args[{index}].{name}");
        let number = u8::try_from(argument.index())
            .ok()
            .filter(|number| *number < 6)
            .ok_or_else(|| Error::invalid(field("index"), "is above 5"))?;
        // Engines disagree whether two conditions on one argument mean both or either.
        if conditions.iter().any(|known| known.argument == number) {
            return Err(Error::invalid(
                field("index"),
                "names an argument again: write a second entry",
            ));
        }
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
                field("valueTwo"),
                "is set, but the operator compares with one value",
            ));
        }
        conditions.push(Condition {
            argument: number,
            operator,
            value,
        });
    }
    Ok(conditions)
}

#[cfg(test)]
mod tests;
