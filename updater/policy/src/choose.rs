//! Which release, of those on offer, this machine takes.
//!
//! Rules, from the strongest:
//! 1. On hold, nothing is taken, not even at the operator's request.
//! 2. A halted release is never taken.
//! 3. A barrier (`min_version`) is never skipped: the way to a release leads by an
//!    intermediate one. Downwards too: a machine does not go below the
//!    `min_version` of any release that it leaves behind.
//! 4. With a pin nothing newer is taken.
//! 5. Nothing older than what runs, unless the wish allows it.
//! 6. Nothing that has failed here, unless the wish names it, or the release need
//!    not be at fault and the time for another attempt has come.
//! 7. A release waits for the machine's wave, unless it is the pin or wished for.
//!
//! Of what is left the newest is taken.

use std::fmt;

use jiff::Timestamp;
use release::{Channel, Offer, Version};

use crate::wave::wave_start;
use crate::{Config, Failure, Hold, MachineId, Mode, Standing};

/// What to do about the channel's offers.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice<'a> {
    /// The machine runs the newest release that it may have.
    UpToDate,
    /// This one is fetched and staged.
    Take {
        /// The release.
        offer: &'a Offer,
        /// Why this one.
        reason: Reason,
        /// The newer ones, and why none of them.
        passed: Vec<Passed>,
    },
    /// This one would be taken, but the mode is `manual`: the operator has to
    /// ask.
    Available {
        /// The release.
        offer: &'a Offer,
        /// The newer ones, and why none of them.
        passed: Vec<Passed>,
    },
    /// Nothing now; this one when its wave comes, if nothing changes.
    Wait {
        /// Which release.
        version: Version,
        /// When its wave reaches this machine.
        until: Timestamp,
        /// All newer ones, and why none of them.
        passed: Vec<Passed>,
    },
    /// Nothing, until something changes.
    Nothing {
        /// Why.
        cause: Cause,
        /// The newer ones, and why none of them.
        passed: Vec<Passed>,
    },
}

/// Why an offer is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the newest that this machine may have.
    Newest,
    /// The machine is pinned to it.
    Pinned,
    /// The operator asked for it.
    Wished,
    /// It is the way past a barrier to a newer release.
    Intermediate {
        /// The newer release.
        to: Version,
    },
}

/// A release that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Which.
    pub version: Version,
    /// Why not.
    pub why: Why,
}

/// Why a release is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The operator of the fleet has stopped it, and says why.
    Halted(String),
    /// It has failed on this machine.
    Failed(Failure),
    /// Its wave reaches this machine later.
    Wave(Timestamp),
    /// None of its waves reaches this machine.
    NoWave,
    /// A machine must run this one or a newer one first.
    Barrier(Version),
    /// A downgrade: a release in between does not allow going below this one in
    /// one step.
    BarrierDown(Version),
    /// The machine is pinned to this older one.
    Pinned(Version),
    /// It is older than the running release, and a downgrade is not allowed.
    Older(Version),
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The operator has put updates on hold.
    Held(Hold),
    /// There are newer releases, but the machine may take none of them.
    NoneTakable,
    /// This release was asked for, or is pinned, and the channel does not have it.
    NotOffered(Version),
    /// This release was asked for.
    Refused(Passed),
}

/// Chooses from the channel.
pub fn choose<'a>(
    config: &Config,
    standing: &Standing,
    channel: &'a Channel,
    machine: &MachineId,
    now: Timestamp,
) -> Choice<'a> {
    let judge = Judge {
        standing,
        channel,
        machine,
        now,
    };
    if let Some(hold) = standing.held(now) {
        return Choice::Nothing {
            cause: Cause::Held(hold.clone()),
            passed: Vec::new(),
        };
    }
    if let Some(version) = standing
        .wish
        .as_ref()
        .and_then(|wish| wish.version.as_ref())
    {
        return judge.wished(version);
    }
    judge.newest(config.mode)
}

/// Why the staged release must not be booted any more, if so: the channel has
/// halted it or no longer has it.
pub fn withdrawn(channel: &Channel, version: &Version) -> Option<String> {
    match channel
        .offers
        .iter()
        .find(|offer| offer.manifest.version == *version)
    {
        None => Some(format!(
            "channel '{}' does not offer {version} any more",
            channel.name
        )),
        Some(offer) => offer
            .halted
            .as_ref()
            .map(|why| format!("{version} was halted: {why}")),
    }
}

struct Judge<'s, 'a> {
    standing: &'s Standing,
    channel: &'a Channel,
    machine: &'s MachineId,
    now: Timestamp,
}

impl<'a> Judge<'_, 'a> {
    /// Without a release that somebody named: the newest.
    fn newest(&self, mode: Mode) -> Choice<'a> {
        let newer = self.newer();
        if newer.is_empty() {
            return match &self.standing.pin {
                Some(pin) if *pin > self.standing.running => Choice::Nothing {
                    cause: Cause::NotOffered(pin.clone()),
                    passed: Vec::new(),
                },
                Some(_) | None => Choice::UpToDate,
            };
        }
        let by_hand = self.standing.wish.is_some();
        let mut passed = Vec::new();
        for offer in newer {
            let Some(why) = self.against(offer, by_hand, false) else {
                let reason = self.reason(offer, by_hand, &passed);
                return if mode == Mode::Manual && !by_hand {
                    Choice::Available { offer, passed }
                } else {
                    Choice::Take {
                        offer,
                        reason,
                        passed,
                    }
                };
            };
            passed.push(Passed {
                version: offer.manifest.version.clone(),
                why,
            });
        }
        let next = passed.iter().filter_map(|passed| match passed.why {
            Why::Wave(start) => Some((start, &passed.version)),
            Why::Halted(_)
            | Why::Failed(_)
            | Why::NoWave
            | Why::Barrier(_)
            | Why::BarrierDown(_)
            | Why::Pinned(_)
            | Why::Older(_) => None,
        });
        match next.min_by_key(|(start, _)| *start) {
            Some((until, version)) => Choice::Wait {
                version: version.clone(),
                until,
                passed,
            },
            None if passed
                .iter()
                .all(|passed| matches!(passed.why, Why::Pinned(_)))
                && self.standing.pin.as_ref() == Some(&self.standing.running) =>
            {
                Choice::UpToDate
            }
            None => Choice::Nothing {
                cause: Cause::NoneTakable,
                passed,
            },
        }
    }

    /// A release that the operator named.
    fn wished(&self, version: &Version) -> Choice<'a> {
        let running = &self.standing.running;
        if version == running {
            return Choice::UpToDate;
        }
        let Some(offer) = self.offer(version) else {
            return Choice::Nothing {
                cause: Cause::NotOffered(version.clone()),
                passed: Vec::new(),
            };
        };
        let Some(why) = self.against(offer, true, true) else {
            return Choice::Take {
                offer,
                reason: Reason::Wished,
                passed: Vec::new(),
            };
        };
        let passed = Passed {
            version: version.clone(),
            why,
        };
        let by_a_way = match &passed.why {
            Why::Barrier(_) => self
                .newer()
                .into_iter()
                .filter(|step| step.manifest.version < *version)
                .find(|step| self.against(step, true, false).is_none()),
            Why::BarrierDown(_) => self
                .between(version, running)
                .into_iter()
                .find(|step| self.against(step, true, false).is_none()),
            Why::Halted(_)
            | Why::Failed(_)
            | Why::Wave(_)
            | Why::NoWave
            | Why::Pinned(_)
            | Why::Older(_) => None,
        };
        match by_a_way {
            Some(offer) => Choice::Take {
                offer,
                reason: Reason::Intermediate {
                    to: version.clone(),
                },
                passed: vec![passed],
            },
            None => Choice::Nothing {
                cause: Cause::Refused(passed),
                passed: Vec::new(),
            },
        }
    }

    /// What prevents the offer. `by_hand`: the operator asked for an update.
    /// `named`: for this release.
    fn against(&self, offer: &Offer, by_hand: bool, named: bool) -> Option<Why> {
        let version = &offer.manifest.version;
        let running = &self.standing.running;
        if let Some(why) = &offer.halted {
            return Some(Why::Halted(why.clone()));
        }
        if let Some(pin) = self.standing.pin.as_ref().filter(|pin| version > *pin) {
            return Some(Why::Pinned(pin.clone()));
        }
        if version < running {
            let wish = self.standing.wish.as_ref();
            if !wish.is_some_and(|wish| wish.allow_downgrade) {
                return Some(Why::Older(running.clone()));
            }
        }
        if let Some(failure) = self.standing.failure(version, self.now).filter(|_| !named) {
            return Some(Why::Failed(failure.clone()));
        }
        if let Some(barrier) = self.barrier(offer) {
            return Some(barrier);
        }
        if by_hand || self.standing.pin.as_ref() == Some(version) {
            return None;
        }
        match wave_start(offer, self.machine) {
            Some(start) if start <= self.now => None,
            Some(start) => Some(Why::Wave(start)),
            None => Some(Why::NoWave),
        }
    }

    fn barrier(&self, offer: &Offer) -> Option<Why> {
        let version = &offer.manifest.version;
        let running = &self.standing.running;
        if let Some(min) = offer
            .manifest
            .min_version
            .as_ref()
            .filter(|min| running < *min)
        {
            return Some(Why::Barrier(min.clone()));
        }
        // Upwards this is empty.
        let left_behind = self.channel.offers.iter().filter(|left| {
            let left = &left.manifest.version;
            version < left && left <= running
        });
        left_behind
            .filter_map(|left| left.manifest.min_version.as_ref())
            .filter(|min| version < *min)
            .max()
            .map(|min| Why::BarrierDown(min.clone()))
    }

    fn reason(&self, offer: &Offer, by_hand: bool, passed: &[Passed]) -> Reason {
        let barred = passed
            .iter()
            .find(|passed| matches!(passed.why, Why::Barrier(_)));
        if let Some(barred) = barred {
            return Reason::Intermediate {
                to: barred.version.clone(),
            };
        }
        if self.standing.pin.as_ref() == Some(&offer.manifest.version) {
            Reason::Pinned
        } else if by_hand {
            Reason::Wished
        } else {
            Reason::Newest
        }
    }

    fn offer(&self, version: &Version) -> Option<&'a Offer> {
        self.channel
            .offers
            .iter()
            .find(|offer| offer.manifest.version == *version)
    }

    /// What is newer than what runs, the newest first.
    fn newer(&self) -> Vec<&'a Offer> {
        let mut newer: Vec<_> = self
            .channel
            .offers
            .iter()
            .filter(|offer| offer.manifest.version > self.standing.running)
            .collect();
        newer.sort_by(|a, b| b.manifest.version.cmp(&a.manifest.version));
        newer
    }

    /// What lies between the two, the oldest first.
    fn between(&self, low: &Version, high: &Version) -> Vec<&'a Offer> {
        let mut between: Vec<_> = self
            .channel
            .offers
            .iter()
            .filter(|offer| *low < offer.manifest.version && offer.manifest.version < *high)
            .collect();
        between.sort_by(|a, b| a.manifest.version.cmp(&b.manifest.version));
        between
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("the newest release for this machine"),
            Self::Pinned => f.write_str("this machine is pinned to it"),
            Self::Wished => f.write_str("asked for by hand"),
            Self::Intermediate { to } => write!(f, "on the way to {to}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halted(why) => write!(f, "halted by the fleet's operator: {why}"),
            Self::Failed(Failure {
                version,
                reason,
                at,
                again: Some(again),
            }) => write!(
                f,
                "failed on this machine at {at}: {reason} (it is tried again at {again}, or by \
                 `wherry update apply {version}`)"
            ),
            Self::Failed(failure) => write!(
                f,
                "failed on this machine at {}: {} (`wherry update apply {}` tries it again)",
                failure.at, failure.reason, failure.version
            ),
            Self::Wave(start) => write!(f, "its wave reaches this machine at {start}"),
            Self::NoWave => f.write_str("none of its waves reaches this machine yet"),
            Self::Barrier(min) => write!(f, "{min} or a newer release must run first"),
            Self::BarrierDown(min) => write!(
                f,
                "a release in between does not allow going below {min} in one step"
            ),
            Self::Pinned(pin) => write!(
                f,
                "this machine is pinned to {pin} (`wherry update unpin` ends that)"
            ),
            Self::Older(running) => write!(
                f,
                "older than {running}, which runs (`--allow-downgrade` takes it anyway)"
            ),
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.version, self.why)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(hold) => hold.fmt(f),
            Self::NoneTakable => f.write_str("no newer release is for this machine now"),
            Self::NotOffered(version) => write!(f, "the channel does not offer {version}"),
            Self::Refused(passed) => passed.fmt(f),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "updates are on hold since {}", self.since)?;
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        f.write_str(" (`wherry update resume` ends that)")
    }
}

#[cfg(test)]
pub(crate) mod tests;
