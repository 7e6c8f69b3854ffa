//! What is known of the release that runs.

use std::time::Duration;

use crate::event::Now;
use crate::health::{Trial, Verdict};
use crate::work::Work;

/// How often a disk that cannot be read is looked at before the boot is judged
/// without it.
const LOOKS: u32 = 4;

/// What is known of the running release.
#[derive(Clone, Debug)]
pub(crate) enum Running {
    /// Nothing: the disk has not been seen yet.
    Unknown {
        /// How often it is looked at still.
        looks: u32,
        /// When.
        again: Duration,
    },
    /// It has yet to prove itself.
    OnTrial(Trial),
    /// It has; the disk is being told.
    Blessing(Trial),
    /// It had yet to prove itself when the operator rolled back from it: it is not
    /// blessed, and restarted only if it is ill.
    Leaving(Trial),
    /// It has not proven itself: the machine restarts, whatever windows say.
    GivenUp,
    /// It has proven itself, or there is nothing to fall back to.
    Proven(Guard),
}

/// What becomes of the count that a proven release has as a guard.
#[derive(Clone, Debug)]
pub(crate) enum Guard {
    /// It is renewed when the release is healthy in this boot too.
    Due(Trial),
    /// It is being renewed.
    Renewing(Trial),
    /// Nothing is left to do: it was renewed, there is no entry that could have
    /// one, or another release boots next.
    Settled,
}

/// Whether PID 1 knows that what runs works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Confirmation {
    /// There is nothing to tell, or it knows.
    NotDue,
    /// It is told then.
    Due(Duration),
    /// It is being told.
    Asked,
}

impl Confirmation {
    pub(crate) fn moment(self) -> Option<Duration> {
        match self {
            Self::Due(at) => Some(at),
            Self::NotDue | Self::Asked => None,
        }
    }
}

impl Running {
    pub(crate) fn unknown(now: Now) -> Self {
        Self::Unknown {
            looks: LOOKS,
            again: now.boot,
        }
    }

    /// Whether the boot has been judged.
    pub(crate) fn is_known(&self) -> bool {
        match self {
            Self::Unknown { .. } => false,
            Self::OnTrial(_)
            | Self::Blessing(_)
            | Self::Leaving(_)
            | Self::GivenUp
            | Self::Proven(_) => true,
        }
    }

    /// Whether the release has not proven itself yet.
    pub(crate) fn is_on_trial(&self) -> bool {
        match self {
            Self::OnTrial(_) | Self::Blessing(_) | Self::Leaving(_) | Self::GivenUp => true,
            Self::Unknown { .. } | Self::Proven(_) => false,
        }
    }

    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self, Self::GivenUp)
    }

    /// The judgement of a release that is on trial.
    pub(crate) fn trial(&self) -> Option<&Trial> {
        match self {
            Self::OnTrial(trial) | Self::Blessing(trial) | Self::Leaving(trial) => Some(trial),
            Self::Unknown { .. } | Self::GivenUp | Self::Proven(_) => None,
        }
    }

    /// The judgement under way, of a trial or for a guard.
    pub(crate) fn judgement(&self) -> Option<&Trial> {
        match self {
            Self::OnTrial(trial)
            | Self::Blessing(trial)
            | Self::Leaving(trial)
            | Self::Proven(Guard::Due(trial) | Guard::Renewing(trial)) => Some(trial),
            Self::Unknown { .. } | Self::GivenUp | Self::Proven(Guard::Settled) => None,
        }
    }

    pub(crate) fn judgement_mut(&mut self) -> Option<&mut Trial> {
        match self {
            Self::OnTrial(trial)
            | Self::Blessing(trial)
            | Self::Leaving(trial)
            | Self::Proven(Guard::Due(trial) | Guard::Renewing(trial)) => Some(trial),
            Self::Unknown { .. } | Self::GivenUp | Self::Proven(Guard::Settled) => None,
        }
    }

    /// When there is something to do.
    pub(crate) fn moment(&self, now: Duration, work: &Work) -> Option<Duration> {
        if let Self::Unknown { again, .. } = self {
            return work.is_idle().then_some(*again);
        }
        match self.judgement()?.verdict(now) {
            Verdict::Waiting { until } => Some(until),
            Verdict::Healthy | Verdict::Ill(_) => None,
        }
    }

    /// Something else boots next than what runs.
    pub(crate) fn is_replaced(&mut self) {
        let before = std::mem::replace(self, Self::GivenUp);
        *self = match before {
            // Its count would be given back to a release that is to give way.
            Self::OnTrial(trial) | Self::Blessing(trial) | Self::Leaving(trial) => {
                Self::Leaving(trial)
            }
            Self::Proven(_) => Self::Proven(Guard::Settled),
            known @ (Self::Unknown { .. } | Self::GivenUp) => known,
        };
    }
}
