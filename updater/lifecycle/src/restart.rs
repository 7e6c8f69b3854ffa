//! How far the restart of the machine is.

use std::time::Duration;

use policy::FleetLock;

/// The restart into what is staged, or away from what is given up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Restart {
    /// There is nothing to restart for.
    NotWanted,
    /// Something stands against it.
    Waiting {
        /// What.
        reason: String,
        /// Nothing changes before this time since the kernel's start; `None`: it
        /// is looked at after each event.
        again: Option<Duration>,
    },
    /// The FleetLock client decides.
    Locking,
    /// Nothing stands against it but the work to be done before.
    Granted,
    /// PID 1 is being asked.
    Asking,
    /// PID 1 restarts the machine.
    Accepted,
}

impl Restart {
    /// Whether nothing else is begun any more.
    pub(crate) fn is_under_way(&self) -> bool {
        match self {
            Self::Granted | Self::Asking | Self::Accepted => true,
            Self::NotWanted | Self::Waiting { .. } | Self::Locking => false,
        }
    }

    pub(crate) fn again(&self) -> Option<Duration> {
        match self {
            Self::Waiting { again, .. } => *again,
            Self::NotWanted | Self::Locking | Self::Granted | Self::Asking | Self::Accepted => None,
        }
    }

    /// Something has changed: it is looked at now.
    pub(crate) fn reconsider(&mut self) {
        match self {
            Self::Waiting { again, .. } => *again = None,
            Self::NotWanted | Self::Locking | Self::Granted | Self::Asking | Self::Accepted => {}
        }
    }

    pub(crate) fn waits_for(&self, lock: &FleetLock) -> Option<String> {
        match self {
            Self::Waiting { reason, .. } => Some(reason.clone()),
            Self::Locking => {
                let refusal = lock.refusal().unwrap_or("it was not asked yet");
                Some(format!("the FleetLock server: {refusal}"))
            }
            Self::NotWanted | Self::Granted | Self::Asking | Self::Accepted => None,
        }
    }

    pub(crate) fn waiting(reason: &str) -> Self {
        Self::Waiting {
            reason: reason.to_owned(),
            again: None,
        }
    }
}
