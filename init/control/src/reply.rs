//! What PID 1 answers. All times are microseconds of `CLOCK_BOOTTIME`, whose
//! zero is the start of the kernel; all sizes are bytes.

use serde::{Deserialize, Serialize};

/// PID 1's answer to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`crate::Request::Status`].
    Status(Box<Status>),
    /// To [`crate::Request::Show`].
    Service(Box<ServiceDetail>),
    /// To [`crate::Request::Boot`].
    Boot(BootRecord),
    /// On a watching connection: the service's state now.
    Changed(Service),
    /// On a connection that inhibits: the machine is to shut down, and waits for
    /// this connection's end.
    ShutdownWaits {
        /// Until when at the latest, in microseconds of `CLOCK_BOOTTIME`.
        until_us: u64,
    },
    /// The request was accepted.
    Done(Outcome),
    /// The request was refused.
    Refused(Refusal),
}

/// What an accepted request did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What the person who asked should read beside it, such as the errors of
    /// definitions found by a reload. Empty where all went well.
    pub notes: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Refusal {
    /// The request could not be read.
    #[error("malformed request: {message}")]
    Malformed {
        /// What was wrong with it.
        message: String,
    },
    /// The peer's user may not do this.
    #[error("not permitted: only user 0 may do this")]
    NotPermitted,
    /// There is no service of that name.
    #[error("there is no service '{service}'; `wherry service list` names them")]
    UnknownService {
        /// The name asked for.
        service: String,
    },
    /// The service's definition has an error, so that it cannot start.
    #[error("the definition of '{service}' is not valid: {message}")]
    InvalidDefinition {
        /// The service's name.
        service: String,
        /// The error with file, line and key.
        message: String,
    },
    /// A shutdown is inhibited.
    #[error("blocked by {}; `--force` shuts down in spite of it", list(by))]
    Inhibited {
        /// Who blocks it.
        by: Vec<Inhibitor>,
    },
    /// The machine is shutting down.
    #[error("the machine is shutting down")]
    ShuttingDown,
    /// It was tried and failed.
    #[error("{message}")]
    Failed {
        /// What failed.
        message: String,
    },
}

fn list(inhibitors: &[Inhibitor]) -> String {
    let all: Vec<String> = inhibitors.iter().map(ToString::to_string).collect();
    all.join(" and by ")
}

/// What a shutdown does while it is inhibited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InhibitMode {
    /// It is refused.
    Block,
    /// It waits a few seconds for the inhibitor to be released.
    Delay,
}

impl InhibitMode {
    /// The mode as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Delay => "delay",
        }
    }
}

/// Someone who inhibits a shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inhibitor {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// What a shutdown does meanwhile.
    pub mode: InhibitMode,
}

impl std::fmt::Display for Inhibitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.who, self.why)
    }
}

/// The whole machine on one screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What boots and runs.
    pub machine: Machine,
    /// The machine's memory.
    pub memory: Memory,
    /// The state partition.
    pub storage: Storage,
    /// Who inhibits a shutdown.
    #[serde(default)]
    pub inhibitors: Vec<Inhibitor>,
    /// Every service, by name.
    pub services: Vec<Service>,
}

/// What boots and runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `PRETTY_NAME` of os-release.
    pub system: String,
    /// The release's version (`IMAGE_VERSION` of os-release).
    pub version: String,
    /// The booted slot; `None` when the root is not in a slot.
    pub slot: Option<Slot>,
    /// The verity root hash that was booted, in hexadecimal.
    pub root_hash: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The host name.
    pub hostname: String,
    /// The machine id: 32 hexadecimal digits.
    pub machine_id: String,
    /// The boot id: 32 hexadecimal digits.
    pub boot_id: String,
    /// How long the machine has been up, in microseconds.
    pub uptime_us: u64,
    /// How far it is.
    pub phase: Phase,
    /// Why the machine is degraded, a sentence each; empty where it is not.
    pub degraded: Vec<String>,
    /// How often PID 1 has re-executed itself since boot.
    pub reexecuted: u32,
    /// Where the release is on trial.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// Whether the hardware watchdog has restarted the machine.
    #[serde(default)]
    pub watchdog_reset: bool,
}

/// One of the two places for a release on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The slot of that letter, lower case.
    pub fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "a" => Some(Self::A),
            "b" => Some(Self::B),
            _ => None,
        }
    }

    /// Its letter, lower case, as JSON has it.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// How far the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Services are being started.
    Booting,
    /// All services have settled.
    Ready,
    /// Something has failed: [`Machine::degraded`] says what.
    Degraded,
    /// Services are being stopped.
    Stopping,
}

impl Phase {
    /// The phase as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

/// A release that nobody has confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The boot entry's file, as the boot loader named it.
    pub entry: String,
    /// When the machine restarts without a confirmation, in microseconds of
    /// `CLOCK_BOOTTIME`.
    pub until_us: u64,
}

/// The machine's memory in bytes (`/proc/meminfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `MemTotal`.
    pub total: u64,
    /// `MemAvailable`.
    pub available: u64,
    /// `MemFree`.
    pub free: u64,
    /// PID 1's private memory (`Private_Clean` and `Private_Dirty` of its
    /// `smaps_rollup`).
    pub init_private: u64,
}

/// The state partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Whether it is mounted.
    pub state: StorageState,
    /// The device that is mounted.
    pub device: Option<String>,
    /// Its size and what is left of it.
    pub disk: Option<Disk>,
    /// What was done to it at this boot (grown, repaired, made), a sentence each.
    pub notes: Vec<String>,
}

/// Where the state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageState {
    /// Not known yet: nothing is mounted.
    Pending,
    /// On the state partition.
    Persistent,
    /// In memory, since the state partition cannot be used.
    Volatile,
}

impl StorageState {
    /// The state as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Persistent => "persistent",
            Self::Volatile => "volatile",
        }
    }
}

/// A file system's space in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its size.
    pub total: u64,
    /// What is left for use.
    pub available: u64,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Not running and not asked to.
    Stopped,
    /// Waits for what it requires.
    Waiting,
    /// Runs, not ready yet.
    Starting,
    /// Ready.
    Ready,
    /// Is being stopped.
    Stopping,
    /// Failed; will be started again.
    Backoff,
    /// A one-shot that has done its work.
    Ended,
    /// Failed for good.
    Failed,
    /// Its definition has an error.
    Invalid,
}

impl ServiceState {
    /// The state's name as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}

/// A service's health by its probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It has no probe, or none has ended yet.
    Unknown,
    /// The last probe succeeded.
    Healthy,
    /// The last probe failed.
    Unhealthy,
}

/// One service as a line of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `description` of its definition.
    pub description: String,
    /// What it is doing.
    pub state: ServiceState,
    /// Since when, in microseconds of `CLOCK_BOOTTIME`.
    pub since_us: u64,
    /// Why: the failure, what it waits for, or the service's own `STATUS=`.
    pub detail: String,
    /// Its health.
    pub health: Health,
    /// The process id of its main process in PID 1's namespace.
    pub pid: Option<u32>,
    /// How often it was started again after a failure since boot.
    pub restarts: u32,
    /// `memory.current` of its cgroup in bytes.
    pub memory: Option<u64>,
    /// Whether an update needs it healthy.
    pub essential: bool,
    /// Whether it is the operator's own.
    pub operator: bool,
    /// Whether it is defined until the next boot only.
    #[serde(default)]
    pub for_this_boot: bool,
}

/// All of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDetail {
    /// The line of the list.
    pub service: Service,
    /// The path of its definition.
    pub definition: String,
    /// The text of its definition as it was read.
    pub text: String,
    /// What it requires.
    pub requires: Vec<String>,
    /// What it starts after.
    pub after: Vec<String>,
    /// What requires it.
    pub required_by: Vec<String>,
    /// Its cgroup, relative to the root of the hierarchy.
    pub cgroup: String,
    /// `pids.current` of its cgroup.
    pub tasks: Option<u64>,
    /// CPU time used by its cgroup, in microseconds.
    pub cpu_us: Option<u64>,
    /// How the last run ended, where one did.
    pub last_exit: Option<String>,
    /// How many descriptors it has stored (`FDSTORE`).
    pub stored_descriptors: u32,
}

/// A stretch of the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The stage's or service's name.
    pub name: String,
    /// When PID 1 could have begun it.
    pub defined_us: u64,
    /// When it was begun: the container was cloned.
    pub started_us: Option<u64>,
    /// When its program was executed.
    pub executed_us: Option<u64>,
    /// When it was ready, or a stage was over.
    pub ready_us: Option<u64>,
    /// When it failed, where it did.
    pub failed_us: Option<u64>,
    /// What it waited for.
    pub requires: Vec<String>,
}

/// The record of this boot, for the boot chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// The release's version.
    pub version: String,
    /// When PID 1's `main` began: until then it was the kernel.
    pub init_us: u64,
    /// When all services had settled, where they have.
    pub settled_us: Option<u64>,
    /// PID 1's own stages, in order.
    pub stages: Vec<Span>,
    /// The services in the order of their start.
    pub services: Vec<Span>,
}
