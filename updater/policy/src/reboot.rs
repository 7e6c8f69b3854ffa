//! Whether the machine may reboot into the staged release.
//!
//! Rules, from the strongest:
//! 1. On hold it does not.
//! 2. While software on the machine holds a lock file it does not, even where the
//!    operator says `--reboot now`: the file names who would lose work.
//! 3. Where the operator says `--reboot now` it does.
//! 4. In the modes `download` and `manual` it does not by itself.
//! 5. It waits for the delay, then for a window, then for its own moment within
//!    the spread: machines that became ready together do not reboot together.
//!
//! After that the FleetLock server is asked, where there is one.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use release::Version;

use crate::{Config, Hold, MachineId, Mode, Opening, Standing};

/// The release that waits for the reboot.
#[derive(Clone, Copy, Debug)]
pub struct Pending<'a> {
    /// Which.
    pub version: &'a Version,
    /// When it was staged.
    pub since: Timestamp,
}

/// Whether the machine may reboot.
#[derive(Clone, Debug, PartialEq)]
pub enum Reboot {
    /// It may.
    Yes,
    /// Not now.
    No {
        /// When it is worth asking again; `None`: when something changes.
        until: Option<Timestamp>,
        /// Why not.
        why: Obstacle,
    },
}

/// What prevents a reboot.
#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// The operator has put updates on hold.
    Held(Hold),
    /// Software on the machine has deferred it: the lock files' names.
    Locked(Vec<String>),
    /// In this mode the machine reboots only on request.
    Mode(Mode),
    /// The release was staged just now.
    Delay,
    /// No window is open.
    Window,
    /// The machine's own time within the spread has not come.
    Spread,
}

/// Decides. `locks` are the names of the local lock files.
pub fn may_reboot(
    config: &Config,
    standing: &Standing,
    machine: &MachineId,
    pending: Pending<'_>,
    locks: &[String],
    now: Timestamp,
) -> Reboot {
    let no = |until, why| Reboot::No { until, why };
    if let Some(hold) = standing.held(now) {
        return no(hold.until, Obstacle::Held(hold.clone()));
    }
    if !locks.is_empty() {
        return no(None, Obstacle::Locked(locks.to_vec()));
    }
    if standing.wish.as_ref().is_some_and(|wish| wish.now) {
        return Reboot::Yes;
    }
    if config.mode != Mode::Automatic {
        return no(None, Obstacle::Mode(config.mode));
    }
    moment(config, machine, pending, now)
}

fn moment(config: &Config, machine: &MachineId, pending: Pending<'_>, now: Timestamp) -> Reboot {
    let ready = if pending.since <= now {
        later(pending.since, config.reboot_delay)
    } else {
        // The clock was set back, which must not delay the reboot for years.
        Timestamp::MIN
    };
    let openings = if config.windows.is_any() {
        vec![Opening {
            start: Timestamp::MIN,
            end: Timestamp::MAX,
        }]
    } else {
        config.windows.openings(now)
    };
    let mut first = None;
    for opening in openings {
        let from = ready.max(opening.start);
        if from >= opening.end {
            continue;
        }
        // All machines must also fit into the short rest of a window.
        let room = opening.end.duration_since(from) / 2;
        let spread = config
            .reboot_spread
            .min(Duration::try_from(room).unwrap_or_default());
        let mine = later(
            from,
            machine.part_of(spread, &["reboot", pending.version.as_str()]),
        );
        if mine <= now && now < opening.end {
            return Reboot::Yes;
        }
        if mine > now && first.is_none() {
            let why = if now < ready {
                Obstacle::Delay
            } else if now < opening.start {
                Obstacle::Window
            } else {
                Obstacle::Spread
            };
            first = Some((mine, why));
        }
    }
    match first {
        Some((mine, why)) => Reboot::No {
            until: Some(mine),
            why,
        },
        None => Reboot::No {
            until: None,
            why: Obstacle::Window,
        },
    }
}

pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| time.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(hold) => hold.fmt(f),
            Self::Locked(locks) => {
                write!(
                    f,
                    "deferred by lock files of this machine: {}",
                    locks.join(", ")
                )
            }
            Self::Mode(mode) => write!(f, "in mode '{mode}' this machine reboots only on request"),
            Self::Delay => f.write_str("the release was staged just now (`reboot-delay`)"),
            Self::Window => f.write_str("no maintenance window is open"),
            Self::Spread => f.write_str("machines do not reboot all at once (`reboot-spread`)"),
        }
    }
}

#[cfg(test)]
mod tests;
