//! From an OCI seccomp profile to a classic BPF program.
//!
//! `profile` interprets a profile, `bpf` generates the program. A call of an
//! architecture that the profile does not list kills the process.
//!
//! Compiled programs are cached while somebody uses them, by a digest of the
//! profile: most services share one.

mod bpf;
mod default;
mod profile;
mod syscalls;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use nix::errno::Errno;
use oci_spec::runtime::{Arch, LinuxSeccomp};

use crate::Error;
use crate::sys::{self, Instruction};
use profile::Profile;
use syscalls::Abi;

pub use default::default_seccomp;

/// The architectures whose programs this machine runs, its own first.
#[cfg(target_arch = "x86_64")]
const NATIVE: &[(Arch, Abi)] = X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: &[(Arch, Abi)] = AARCH64;

#[cfg(any(test, target_arch = "x86_64"))]
const X86_64: &[(Arch, Abi)] = &[
    (Arch::ScmpArchX86_64, Abi::X86_64),
    (Arch::ScmpArchX86, Abi::I386),
    (Arch::ScmpArchX32, Abi::X32),
];
#[cfg(any(test, target_arch = "aarch64"))]
const AARCH64: &[(Arch, Abi)] = &[
    (Arch::ScmpArchAarch64, Abi::Aarch64),
    (Arch::ScmpArchArm, Abi::Arm),
];

const RET_KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;
/// The kernel's limit for a program (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// A compiled profile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    instructions: Vec<Instruction>,
    flags: u64,
}

impl Program {
    /// Whether [`Program::load`] returns a descriptor that an agent must
    /// receive.
    pub fn needs_listener(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
    }

    /// Loads the program for the calling thread. Does not allocate.
    ///
    /// The descriptor, which is close-on-exec, receives the notifications of
    /// `SCMP_ACT_NOTIFY`; those calls fail with ENOSYS once it is closed.
    pub fn load(&self) -> Result<Option<OwnedFd>, Errno> {
        sys::load_seccomp(&self.instructions, self.flags)
    }
}

/// What the filter does with a call: the value that it returns to the kernel.
type Action = u32;

/// What an entry says about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    conditions: Vec<Condition>,
    action: Action,
}

/// A comparison of one argument; with only the low half if arguments have 32
/// bits.
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

/// Compiles a profile, or returns the cached program of an equal one.
pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Arc<Program>, Error> {
    static PROGRAMS: Mutex<Vec<(u64, Weak<Program>)>> = Mutex::new(Vec::new());

    let digest = digest(profile)?;
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    programs.retain(|(_, program)| program.strong_count() > 0);
    let known = programs.iter().find(|(known, _)| *known == digest);
    if let Some(program) = known.and_then(|(_, program)| program.upgrade()) {
        return Ok(program);
    }
    let program = Arc::new(Profile::check(profile, NATIVE)?.compile()?);
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

#[cfg(test)]
mod tests;
