//! What is to be done.

use std::time::Duration;

use policy::{Config, Hold, Request as LockRequest, Standing};
use release::{Manifest, RootHash, Version};
use slots::Tries;

use crate::decision::Found;
use crate::event::{ClientId, Phase, Progress};

/// What the shell does, in this order, after it has written the record.
#[derive(Clone, Debug)]
pub enum Action {
    /// Give the worker this order. It is not busy.
    Work(Order),
    /// Tell a client how far its request is.
    Progress(ClientId, Progress),
    /// Answer a client, for the last time.
    Answer(ClientId, Reply),
    /// Send this to the FleetLock server: [`crate::Event::LockAnswered`].
    AskLock(LockRequest),
    /// Ask PID 1 to restart the machine: [`crate::Event::RestartAnswered`].
    Restart,
    /// Tell PID 1 that what runs works: [`crate::Event::BootConfirmed`].
    ConfirmBoot,
    /// Tell PID 1 to wait until this time since the kernel's start before it gives
    /// up the release on trial. Where that fails, its own limit stays.
    ExtendTrial(Duration),
    /// Remove what kernel and PID 1 left of the boot before: the record has it.
    ForgetTraces,
    /// Write this to the log.
    Log(Notice),
}

/// What the worker is to do.
#[derive(Clone, Debug)]
pub enum Order {
    /// Look at the disk.
    Look,
    /// Ask what there is.
    Check(Box<Asking>),
    /// Install what the policy takes.
    Update {
        /// Where from, and which.
        asking: Box<Asking>,
        /// How far.
        extent: Extent,
    },
    /// Install this very release again.
    Repair {
        /// Where from.
        asking: Box<Asking>,
        /// The release.
        root_hash: RootHash,
    },
    /// Make what is staged the release that boots next.
    Publish(Box<Manifest>),
    /// Remove what is staged.
    Withdraw,
    /// The running release is good.
    Bless,
    /// The other release is what boots next.
    RollBack,
    /// The running release gets this count.
    Credit(Tries),
    /// Read a slot: is it what it was?
    Examine(RootHash),
}

/// What a check or an installation goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// The settings.
    pub config: Config,
    /// What the machine remembers.
    pub standing: Standing,
}

/// How far an installation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All the way: the release boots next.
    Published,
    /// Until the release is complete on the disk, and the loader does not know of
    /// it: after a power cut, what ran before boots.
    Staged,
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// What a check has found.
    Checked(Box<Found>),
    /// What boots next.
    Applied(Applied),
    /// It is done.
    Done,
    /// It was not done.
    Refused(Refusal),
}

/// What was made to boot next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The release.
    pub version: Version,
    /// Whether anything was changed; `false`: it was so already.
    pub changed: bool,
    /// Bytes from repositories.
    pub fetched: u64,
    /// Bytes that were on this machine.
    pub reused: u64,
    /// What becomes of the restart, a sentence.
    pub restart: String,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The worker is busy with something else.
    Busy(Phase),
    /// The policy or the state of the machine forbids it: why, and what would
    /// change it.
    Declined(String),
    /// It was tried and failed.
    Failed(String),
}

/// What the log is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The kernel panicked before this boot; its last words.
    Panicked(String),
    /// A release gave way to the one that runs.
    FellBack {
        /// Which.
        version: Version,
        /// What runs.
        running: Version,
        /// Why.
        reason: String,
    },
    /// The running release is on trial.
    OnTrial {
        /// Which.
        version: Version,
        /// Until when, since the kernel's start.
        limit: Duration,
    },
    /// It has not proven itself; the machine restarts.
    Unhealthy {
        /// Which.
        version: Version,
        /// Why.
        reason: String,
    },
    /// It has proven itself.
    Blessed(Version),
    /// It is given a try back.
    Credited(Version),
    /// A check has found something new: a sentence.
    Checked(String),
    /// A check has failed in a new way.
    CheckFailed(String),
    /// A release is being installed.
    Installing(Version),
    /// That failed.
    InstallFailed {
        /// Which.
        version: Version,
        /// Why.
        reason: String,
    },
    /// A mirror is not asked any more, and why.
    MirrorDropped(String),
    /// A release is installed.
    Installed {
        /// Which.
        version: Version,
        /// What runs.
        from: Version,
        /// Bytes from repositories.
        fetched: u64,
        /// Bytes that were on this machine.
        reused: u64,
    },
    /// The other release boots next.
    RolledBack {
        /// Which.
        version: Version,
        /// What runs.
        from: Version,
    },
    /// It does not, and why.
    RollBackFailed(String),
    /// The slot of this release is damaged.
    SlotDamaged(Version),
    /// The disk could not be read or changed.
    DiskFailed(String),
    /// The boot loader could not be told of what is staged.
    PublishFailed(String),
    /// The running release could not be blessed.
    BlessFailed(String),
    /// What was staged is not booted.
    Withdrawn {
        /// Which.
        version: Version,
        /// Why.
        why: String,
    },
    /// The machine restarts.
    Restarting {
        /// The release that is staged.
        into: Option<Version>,
    },
    /// PID 1 does not restart it.
    RestartFailed(String),
    /// PID 1 could not be told that what runs works.
    ConfirmFailed(String),
    /// Only this release is taken.
    Pinned(Version),
    /// The pin is gone.
    Unpinned,
    /// Nothing is installed.
    Held(Hold),
    /// The hold is over.
    Resumed,
}
