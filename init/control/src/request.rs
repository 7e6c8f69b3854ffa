//! What a client may ask.

use serde::{Deserialize, Serialize};

use crate::InhibitMode;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shutdown {
    /// It is switched off.
    Poweroff,
    /// It restarts.
    Reboot,
    /// It stops without being switched off.
    Halt,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The machine and all services: [`crate::Reply::Status`].
    Status,
    /// One service with its definition: [`crate::Reply::Service`].
    Show {
        /// The service's name.
        service: String,
    },
    /// Starts a service and what it requires. Answered by
    /// [`crate::Reply::Done`] as soon as the supervisor has accepted it;
    /// watch for the outcome.
    Start {
        /// The service's name.
        service: String,
    },
    /// Stops a service and what requires it.
    Stop {
        /// The service's name.
        service: String,
    },
    /// Stops and starts a service.
    Restart {
        /// The service's name.
        service: String,
    },
    /// Defines a service until the next boot, or changes the definition of one
    /// that was defined so. Answered by [`crate::Reply::Done`] once it is taken;
    /// the service then starts as one that a reload has found.
    Define {
        /// The service's name: none of another service.
        service: String,
        /// Its definition, as `service.toml` has it.
        text: String,
        /// The folder of its container's root on the machine, where the
        /// definition names no `image`.
        #[serde(default)]
        root: Option<String>,
    },
    /// Stops and forgets a service that [`Request::Define`] has defined.
    Remove {
        /// The service's name.
        service: String,
    },
    /// Gives the machine this host name until the next boot.
    SetHostname {
        /// The name: 1 to 63 letters, digits and `-`.
        hostname: String,
    },
    /// Inhibits a shutdown for as long as the connection is open. Answered by
    /// [`crate::Reply::Done`]; where the machine is to shut down meanwhile and
    /// waits, [`crate::Reply::ShutdownWaits`] follows.
    Inhibit {
        /// Who inhibits it, for people.
        who: String,
        /// Why, for people.
        why: String,
        /// What a shutdown does meanwhile.
        mode: InhibitMode,
    },
    /// Reads the operator's definitions again: new ones are added, changed
    /// ones take effect at the service's next start, removed ones are stopped.
    Reload,
    /// When each stage of the boot and each service began and was ready:
    /// [`crate::Reply::Boot`].
    Boot,
    /// Turns the connection into a stream: first one
    /// [`crate::Reply::Changed`] for each service, then one for each change.
    Watch,
    /// Stops all services and switches the machine off. Refused with
    /// [`crate::Refusal::Inhibited`] while an inhibitor blocks it.
    Poweroff,
    /// Stops all services and restarts the machine. Refused as
    /// [`Request::Poweroff`].
    Reboot,
    /// Stops all services and halts without switching off. Refused as
    /// [`Request::Poweroff`].
    Halt,
    /// Ends the machine whatever inhibits it.
    ForceShutdown {
        /// How.
        shutdown: Shutdown,
    },
    /// Replaces the running PID 1 by a fresh copy of its program, with its
    /// state; no container notices.
    Reexec,
    /// Says that the release that runs works, so that PID 1 does not restart the
    /// machine for want of it. Done where the release is not on trial.
    ConfirmBoot,
    /// Says until when a release on trial is being judged: PID 1 waits so long
    /// for [`Request::ConfirmBoot`].
    ExtendTrial {
        /// In microseconds of `CLOCK_BOOTTIME`.
        until_us: u64,
    },
}

impl Request {
    /// Whether the request changes nothing, so that any user may make it.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Status | Self::Show { .. } | Self::Boot | Self::Watch => true,
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::Restart { .. }
            | Self::Reload
            | Self::Define { .. }
            | Self::Remove { .. }
            | Self::SetHostname { .. }
            | Self::Inhibit { .. }
            | Self::ForceShutdown { .. }
            | Self::Poweroff
            | Self::Reboot
            | Self::Halt
            | Self::Reexec
            | Self::ConfirmBoot
            | Self::ExtendTrial { .. } => false,
        }
    }
}
