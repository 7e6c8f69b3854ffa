//! What the updater answers. Times are RFC 3339 in UTC, sizes are bytes.

use serde::{Deserialize, Serialize};

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// How far it has come; the answer itself follows.
    Progress(Progress),
    /// To [`crate::Request::Check`].
    Checked(Box<Checked>),
    /// To [`crate::Request::Apply`] and [`crate::Request::RollBack`].
    Applied(Applied),
    /// To [`crate::Request::Status`].
    Status(Box<Status>),
    /// To [`crate::Request::History`].
    History {
        /// Oldest first.
        records: Vec<Record>,
    },
    /// It is done.
    Done {
        /// What the person who asked should read beside it.
        notes: Vec<String>,
    },
    /// It was not done.
    Refused(Refusal),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Refusal {
    /// The request could not be read, or a value in it has no meaning.
    #[error("malformed request: {message}")]
    Malformed {
        /// What is wrong with it.
        message: String,
    },
    /// The peer's user may not do this.
    #[error("not permitted: only user 0 may do this")]
    NotPermitted,
    /// Something else is under way.
    #[error("the updater is busy {doing}; `wherry update status` shows how far it is")]
    Busy {
        /// What.
        doing: String,
    },
    /// The policy or the state of the machine forbids it.
    #[error("{message}")]
    Declined {
        /// Why, and what would change it.
        message: String,
    },
    /// It was tried and failed.
    #[error("{message}")]
    Failed {
        /// What failed, on what.
        message: String,
    },
}

/// What the updater is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing.
    Idle,
    /// Asks the repositories.
    Checking,
    /// Looks at the disk, or makes room on it.
    Preparing,
    /// Fills the slot: fetches what is missing, copies what is here.
    Writing,
    /// Reads the written slot back.
    Proving,
    /// Fetches the kernel image.
    FetchingKernel,
    /// Makes it the release that boots next.
    Switching,
}

impl Phase {
    /// The phase as people read it, after "is busy".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Checking => "checking for news",
            Self::Preparing => "preparing the disk",
            Self::Writing => "writing the slot",
            Self::Proving => "reading the slot back",
            Self::FetchingKernel => "fetching the kernel",
            Self::Switching => "switching over",
        }
    }
}

/// How far it has come, in bytes of the phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// The release that is being installed.
    pub version: Option<String>,
    /// Bytes that came over the network, or from the medium that is the repository.
    pub fetched: u64,
    /// Bytes that were on this machine already.
    pub reused: u64,
    /// Bytes that are proven right.
    pub verified: u64,
    /// Bytes in all; 0 where it is not known yet.
    pub total: u64,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The release that runs.
    pub running: String,
    /// The channel that was asked.
    pub channel: String,
    /// The release that this machine takes now, where there is one.
    pub available: Option<Available>,
    /// Why there is none, or what has to be known about it.
    pub reason: String,
    /// The newest release of the channel, taken or not.
    pub newest: Option<String>,
}

/// A release that the machine can take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Available {
    /// Its version.
    pub version: String,
    /// When it was published.
    pub published: String,
    /// What is new, for people.
    pub notes: String,
    /// The size of its root and kernel image; less is fetched.
    pub size: u64,
}

/// What was made to boot next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The release that boots next.
    pub version: String,
    /// Whether anything was changed; `false`: it was so already.
    pub changed: bool,
    /// What was fetched for it.
    pub fetched: u64,
    /// What was on the machine already.
    pub reused: u64,
    /// What becomes of the restart, a sentence.
    pub reboot: String,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What runs.
    pub booted: Booted,
    /// The two slots.
    pub slots: Vec<SlotStatus>,
    /// What is under way.
    pub progress: Progress,
    /// The release that waits for a restart.
    pub reboot_required: Option<String>,
    /// What the restart waits for.
    pub reboot_waits_for: Option<String>,
    /// `automatic`, `download` or `manual`, as the policy says.
    pub mode: String,
    /// The channel.
    pub channel: Option<String>,
    /// Where releases come from, in order of preference.
    pub repositories: Vec<String>,
    /// The last check.
    pub last_check: Option<LastCheck>,
    /// When the next check is due.
    pub next_check: Option<String>,
    /// The only release that is taken.
    pub pin: Option<String>,
    /// Nothing is installed by itself.
    pub hold: Option<Hold>,
    /// Releases that failed on this machine and are not tried again by themselves.
    pub failed: Vec<Failed>,
    /// What is wrong with the updater's own files and settings, a sentence each.
    pub problems: Vec<String>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booted {
    /// Its version.
    pub version: String,
    /// Its slot, `a` or `b`.
    pub slot: Option<String>,
    /// Its root hash.
    pub root_hash: Option<String>,
    /// Where it has yet to prove itself.
    pub trial: Option<Trial>,
}

/// A release that has yet to prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// How many more times the boot loader tries it.
    pub tries_left: u32,
    /// What it still waits for, a sentence each.
    pub waits_for: Vec<String>,
    /// How many more seconds it has.
    pub seconds_left: u64,
}

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// It runs.
    Booted,
    /// It can be booted and has proven itself.
    Good,
    /// It can be booted and has yet to prove itself.
    Trial,
    /// The boot loader does not try it any more.
    Bad,
    /// Nothing, or nothing that can be booted.
    Empty,
}

impl SlotState {
    /// The state as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Booted => "booted",
            Self::Good => "good",
            Self::Trial => "on trial",
            Self::Bad => "bad",
            Self::Empty => "empty",
        }
    }
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// `a` or `b`.
    pub slot: String,
    /// The release in it.
    pub version: Option<String>,
    /// What is in it.
    pub state: SlotState,
    /// How many more times the boot loader tries it; `None`: it does not count.
    pub tries_left: Option<u32>,
    /// Whether it boots next.
    pub next: bool,
}

/// A check that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCheck {
    /// When.
    pub time: String,
    /// What went wrong, where something did.
    pub error: Option<String>,
    /// What was found, a sentence.
    pub found: String,
}

/// Nothing is installed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Until when; `None`: until somebody resumes.
    pub until: Option<String>,
    /// Why.
    pub because: String,
}

/// A release that failed on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its version.
    pub version: String,
    /// When it was noticed.
    pub time: String,
    /// Why.
    pub reason: String,
}

/// What kind of thing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A release was installed and boots next.
    Installed,
    /// A release could not be installed.
    InstallFailed,
    /// A release has proven itself.
    Blessed,
    /// A release has not proven itself, or did not come up: the machine runs
    /// another one.
    FellBack,
    /// Somebody rolled back.
    RolledBack,
    /// A slot that had gone bad was written again.
    Repaired,
    /// A boot that ended without fault of the release was not counted.
    Credited,
}

impl RecordKind {
    /// The kind as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::InstallFailed => "install failed",
            Self::Blessed => "blessed",
            Self::FellBack => "fell back",
            Self::RolledBack => "rolled back",
            Self::Repaired => "repaired",
            Self::Credited => "try given back",
        }
    }
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub time: String,
    /// What kind of thing.
    pub kind: RecordKind,
    /// The release before.
    pub from: Option<String>,
    /// The release that it is about.
    pub to: String,
    /// Why, or what went wrong.
    pub reason: String,
    /// What was fetched.
    pub fetched: u64,
    /// What was on the machine already.
    pub reused: u64,
}
