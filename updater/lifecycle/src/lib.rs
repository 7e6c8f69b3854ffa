//! The life of an update on a machine, as a pure state machine.
//!
//! [`Lifecycle::step`] takes the time and one [`Event`], and says which
//! [`Action`]s follow. It does no input or output, has no clock, no randomness
//! and no tasks: the shell around it (the updater's daemon) waits, tells it what
//! happened, writes the record, and does what it says. What could not be done
//! comes back as an event. [`slots`] decides the order of the changes to the disk
//! on the way to one goal, [`policy`] which release is taken and when the machine
//! may restart; this crate decides which goal comes when.
//!
//! This page is the specification. `src/explore` walks through all that can happen
//! to a machine with a small disk and checks the laws below at each step.
//!
//! # Order
//!
//! The shell takes one event in, writes [`Lifecycle::record`] where it has changed,
//! and performs the actions in their order. So nothing is done that a crash right
//! after it would forget. After each event all of the following is looked at, in
//! this order: the FleetLock client's timer, the first look at the disk, work in
//! the queue, clients that wait, what PID 1 has to be told, the trial, the check
//! that is due, the restart.
//!
//! # The boot
//!
//! Nothing is decided before the disk has been seen. A disk that cannot be read is
//! looked at again a few times: a slow one must not hide a fall-back or a trial.
//! Then, once in the life of the process, the boot is judged: which release gave
//! way to the one that runs and why, whether it is given a try back, whether it is
//! on trial. What kernel and PID 1 left of the boot before is forgotten only
//! after the record has it.
//!
//! A release that gave way and had never been blessed has failed, and is not taken
//! again by itself; one that lacked nothing but a server may be tried once more
//! after a day. One that had been blessed may have a damaged slot: the slot is read,
//! and if it is damaged and the mode is not `manual`, the next check repairs it
//! before any update. A slot that is whole means that the release has failed.
//!
//! # The running release
//!
//! ```text
//! Unknown ─ disk seen ─┬─ counted as a trial ─▶ OnTrial ─ healthy ─▶ Blessing ─▶ Proven
//!                      │                         │  │ ▲               │
//!                      │                         │  │ └── not taken ──┘
//!                      │                         │  └─ rolled back ─▶ Leaving ─▶ Proven
//!                      │                         └─ ill ─▶ GivenUp ◀─ ill ┘
//!                      ├─ given up earlier in this boot ─────▶ GivenUp
//!                      └─ all else ──────────────────────────▶ Proven
//! ```
//!
//! A release on trial is healthy when every essential service has been well for
//! `health-time` without a break and a repository has answered. It is ill when an
//! essential service has failed for good, or when it is not healthy at
//! `health-limit`. Healthy, it is blessed on the disk, then PID 1 is told, until it
//! has heard. Ill, it is given up: the record says why, and the machine restarts
//! whatever windows, holds and locks say, again each minute until PID 1 does it.
//! While the disk takes the blessing, the judgement rests.
//!
//! A roll-back by hand during a trial leaves the release: it is not blessed, which
//! would undo the roll-back, but judged on, so that an ill one restarts.
//!
//! A proven release that is healthy in this boot gets its guard renewed, unless
//! another release boots next.
//!
//! # Checks
//!
//! A check begins when it is due and the worker is idle. On trial and in mode
//! `manual` it only asks; else it repairs what is damaged, or installs what the
//! policy takes, up to the point where the boot loader does not know of it. After a
//! failure the next check comes in 5 minutes, on trial in 15 seconds.
//!
//! # The restart
//!
//! ```text
//! NotWanted ◀─▶ Waiting ─ policy says yes ─▶ Locking ─ slot granted ─▶ Granted
//!    ▲             ▲ ▲                          │                        │ published
//!    └─────────────┘ └───── not wanted now ─────┴────────────────────────┤
//!                  ▲                                                     ▼
//!                  └────────────────── PID 1 refuses ──────────────── Asking ─▶ Accepted
//! ```
//!
//! What is staged is restarted into when the worker is idle, the release is still
//! offered (a repository was asked since the start, if there is one), the policy
//! allows it, and the FleetLock server has granted a slot; an operator's
//! `--reboot now` needs no slot and no window. Only then the boot loader is told,
//! and everything is looked at once more before PID 1 is asked. A restart that is
//! not wanted any more is taken back up to that moment, and the FleetLock server
//! hears of it. Once a restart is granted, no other work begins. What is found not
//! to be offered any more is withdrawn from the disk, if the loader does not know
//! of it.
//!
//! The slot of the FleetLock server is given back when what runs is blessed, or is
//! the old release.
//!
//! # Clients
//!
//! Each request is answered once: pin, hold and their ends at once, the others when
//! their task has ended, with progress before. What the machine does by itself and
//! is soon done is waited for; else a second request is refused, as is any while the
//! machine restarts.
//!
//! # The end
//!
//! When PID 1 stops the machine, the record says that the end of this boot is no
//! fault of what runs, and in the modes `download` and `manual` what is staged is
//! published: an operator's restart boots it.
//!
//! # Laws
//!
//! - A release on trial is confirmed, or given up and restarted; never both in one
//!   boot, also not when the process is restarted within it.
//! - The machine restarts only when the policy allows it, a client forces it, or the
//!   release is given up; with a slot of the fleet, unless forced.
//! - A restart that is not wanted any more is taken back.
//! - A request is answered exactly once, and nothing is said to a client after that.
//! - The worker has one task at a time, and none while PID 1 restarts the machine.
//! - A check that is due begins as soon as the worker is idle.
//! - A damaged slot is repaired before any update, if the mode is not `manual`;
//!   nothing is installed by itself in mode `manual`.
//! - A release that somebody left is not blessed, and the renewal of a guard does not
//!   change what boots next.
//! - A disk that is seen late hides no trial.
//! - While a FleetLock server may hold a slot, the record says so.
//! - A tick never leaves a deadline in the past: the shell cannot spin.
//! - From every state, in a calm future: clients are answered, the trial is decided
//!   and PID 1 knows, the slot of the fleet is given back, damage is repaired, and
//!   what may be restarted into runs.

mod action;
mod boot;
mod boot_evidence;
mod checks;
mod decision;
mod disk;
mod event;
mod health;
mod lifecycle;
mod offers;
mod orders;
mod outcomes;
mod record;
mod requests;
mod restart;
mod restarting;
mod running;
mod trial;
mod work;

#[cfg(test)]
mod explore;

pub use action::{Action, Applied, Asking, Extent, Notice, Order, Refusal, Reply};
pub use decision::{Decision, Found};
pub use event::{
    ClientId, Done, Event, Failed, Machine, News, Now, Phase, Progress, Request, RestartWhen,
    Spent, Traces,
};
pub use health::Condition;
pub use lifecycle::{Lifecycle, OnTrial};
pub use outcomes::seconds;
pub use record::{Check, Damaged, HistoryEntry, Kind, Record, RecordError, Staged};
