//! What happens to the machine, and the words that events and actions share.

use std::time::Duration;

use jiff::Timestamp;
use policy::{Answer as LockAnswer, Config};
use release::{Channel, Manifest, RootHash, Version};
use serde::{Deserialize, Serialize};
use slots::View;

use crate::decision::Decision;
use crate::health::Condition;

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the kernel's start, suspended time included. Deadlines go by it.
    pub boot: Duration,
    /// The wall clock, which may jump. Windows, holds and the history go by it.
    pub clock: Timestamp,
}

/// What runs, as far as it does not change within a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The running release.
    pub version: Version,
    /// Its root hash; `None` where it runs from no slot.
    pub root_hash: Option<RootHash>,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// Who this machine is.
    pub id: policy::MachineId,
}

/// What kernel, hardware and PID 1 left of the boot before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The last words of a kernel that panicked.
    pub panic: Option<String>,
    /// Whether the hardware watchdog has reset the machine.
    pub watchdog_reset: bool,
    /// Why PID 1 gave up a release that nobody confirmed.
    pub trial_expired: Option<String>,
}

/// Something has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Nothing but time has passed.
    Tick,
    /// The settings that hold from now on. Nothing follows before the next event.
    Settings(Box<Config>),
    /// The names of the lock files of software on the machine, sorted. Nothing
    /// follows before the next event.
    Locks(Vec<String>),
    /// PID 1 reports a service.
    Service {
        /// Its name.
        name: String,
        /// How it is; a service that is not essential is always
        /// [`Condition::Well`].
        condition: Condition,
    },
    /// A client asks.
    Asked {
        /// Who; no two requests have the same.
        client: ClientId,
        /// What.
        request: Request,
    },
    /// The worker reports.
    Worker(News),
    /// The answer to [`crate::Action::AskLock`].
    LockAnswered(LockAnswer),
    /// The answer to [`crate::Action::Restart`]: whether PID 1 accepts, or why not.
    RestartAnswered(Result<(), String>),
    /// The answer to [`crate::Action::ConfirmBoot`].
    BootConfirmed(Result<(), String>),
    /// This process is asked to end.
    Terminated {
        /// Whether PID 1 is stopping the whole machine.
        machine_stops: bool,
    },
}

/// One request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// When the machine restarts into what was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// At once, whatever windows and the FleetLock server say.
    Now,
    /// When the policy allows it.
    #[default]
    Policy,
    /// Not by the updater: whoever asked restarts it.
    Never,
}

/// What a client asks for. Requests that change nothing do not come here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Ask the repositories what there is.
    Check,
    /// Install a release.
    Apply {
        /// Which; `None`: the one that the policy takes.
        version: Option<Version>,
        /// When to restart into it.
        restart: RestartWhen,
        /// Whether it may be older than what runs.
        allow_downgrade: bool,
    },
    /// Make the release in the other slot the one that boots next.
    RollBack {
        /// When to restart into it.
        restart: RestartWhen,
    },
    /// Take only this release.
    Pin(Version),
    /// Take what the channel offers again.
    Unpin,
    /// Install nothing and do not restart.
    Hold {
        /// Until when; `None`: until [`Request::Resume`].
        until: Option<Timestamp>,
        /// Why, for people.
        reason: Option<String>,
    },
    /// End a hold.
    Resume,
}

/// What the worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing, or looking at the disk.
    Idle,
    /// It asks the repositories.
    Checking,
    /// It makes room on the disk.
    Preparing,
    /// It fills the slot.
    Writing,
    /// It reads a slot.
    Proving,
    /// It fetches the kernel image.
    FetchingKernel,
    /// It changes what boots next.
    Switching,
}

/// How far the worker is, in bytes of the phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// The release that is being installed.
    pub version: Option<Version>,
    /// Bytes that came from repositories.
    pub fetched: u64,
    /// Bytes that were on this machine.
    pub reused: u64,
    /// Bytes that are proven right.
    pub verified: u64,
    /// Bytes in all; 0 where it is not known yet.
    pub total: u64,
}

impl Progress {
    /// At the beginning of a phase.
    pub fn begun(phase: Phase) -> Self {
        Self {
            phase,
            version: None,
            fetched: 0,
            reused: 0,
            verified: 0,
            total: 0,
        }
    }
}

/// What the worker reports: any number of the others, then one
/// [`News::Ended`] for each [`crate::Action::Work`].
#[derive(Clone, Debug)]
pub enum News {
    /// How far it is.
    Progress(Progress),
    /// A repository gave metadata that can be trusted.
    Answered,
    /// It begins to install this release.
    Installing(Version),
    /// It has done what was asked for, or failed.
    Ended {
        /// What came of it.
        result: Result<Done, Failed>,
        /// The disk as it is now, or why it cannot be read.
        view: Result<Box<View>, String>,
    },
}

/// What the worker has done.
#[derive(Clone, Debug)]
pub enum Done {
    /// It looked at the disk.
    Looked,
    /// It asked the repositories, and there was nothing to install.
    Checked {
        /// What is on offer.
        channel: Channel,
        /// What follows.
        decision: Box<Decision>,
    },
    /// It installed a release.
    Installed {
        /// What is on offer.
        channel: Channel,
        /// The release.
        manifest: Box<Manifest>,
        /// What it took.
        spent: Spent,
    },
    /// It changed the disk.
    Changed(Spent),
    /// It read a slot.
    Examined {
        /// Whether the slot is what it was.
        whole: bool,
    },
}

/// What a change took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Bytes from repositories.
    pub fetched: u64,
    /// Bytes that were on this machine.
    pub reused: u64,
    /// Whether anything was changed; `false`: it was so already.
    pub has_changed: bool,
    /// Mirrors that were dropped, and why.
    pub dropped: Vec<String>,
    /// Whether the boot loader has yet to be told.
    pub is_withheld: bool,
}

/// Why the worker has not done it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why, a sentence.
    pub reason: String,
    /// Whether it was not even tried: policy, settings or the disk forbid it.
    pub is_declined: bool,
    /// The release that was being installed.
    pub installing: Option<Version>,
}
