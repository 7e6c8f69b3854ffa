//! States without absolute times: equal where the same can follow.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use slots::{Label, Proof, View};

use super::world::World;
use crate::action::{Extent, Order};
use crate::event::Now;
use crate::lifecycle::Lifecycle;
use crate::offers::Offers;
use crate::record::Record;
use crate::restart::Restart;
use crate::running::{Confirmation, Guard, Running};

/// A text's hash, without the text.
struct Hashing(DefaultHasher);

impl Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.hash(&mut self.0);
        Ok(())
    }
}

fn hash(value: &impl fmt::Debug) -> u64 {
    let mut hashing = Hashing(DefaultHasher::new());
    write!(hashing, "{value:?}").unwrap();
    hashing.0.finish()
}

impl World {
    /// Equal for states from which the same can follow. What never differs within
    /// an exploration, and what nothing follows from, is left out.
    pub fn key(&self) -> u64 {
        let core = relative(&self.core, self.now);
        hash(&(
            (
                &core.locks,
                &core.services,
                short_record(&core.record),
                core.disk.view().map(short_view),
                short_offers(&core.offers),
                &core.running,
                &core.confirmation,
                &core.work.progress(),
                &core.waiting,
            ),
            (
                &core.restart,
                &core.lock,
                core.lock_tick,
                core.next_check,
                core.stage,
            ),
            (
                short_view(&self.disk.view),
                self.disk.damaged,
                self.order.as_ref().map(short_order),
                self.core.work.client(),
                self.lock_request,
                self.lock_slot,
                self.pid1,
                &self.clients,
            ),
            (
                &self.service,
                self.locked,
                &self.channel,
                self.boot,
                &self.budget,
            ),
        ))
    }
}

fn short_view(view: &View) -> impl fmt::Debug {
    let entries: Vec<&str> = view.entries.iter().map(|it| it.file.as_str()).collect();
    let slots = view.slots.each_ref().map(|slot| {
        let content = match slot.proof {
            Proof::Unknown => 0,
            Proof::Whole(hash) => hash.0[0],
            Proof::Damaged => 255,
        };
        (slot.data_id[0], slot.label == Label::Empty, content)
    });
    let staged = view.staged.map(|staged| staged.sha256.0[0]);
    (view.booted.map(|hash| hash.0[0]), entries, slots, staged)
}

fn short_offers(offers: &Offers) -> impl fmt::Debug {
    match offers {
        Offers::Unasked => None,
        Offers::Unknown => Some(Vec::new()),
        Offers::Known(channel) => {
            let offers = channel.offers.iter();
            Some(
                offers
                    .map(|offer| (offer.manifest.root_hash.0[0], offer.halted.is_some()))
                    .collect(),
            )
        }
    }
}

fn short_record(record: &Record) -> impl fmt::Debug {
    let staged = record.staged.as_ref().map(|staged| {
        let is_published = staged.manifest.is_none();
        (staged.root_hash.0[0], staged.restart, is_published)
    });
    let damaged = record.damaged.as_ref().map(|it| it.root_hash.0[0]);
    let left: Vec<u8> = record.left.iter().map(|hash| hash.0[0]).collect();
    let error = record.last_check.as_ref().map(|check| check.error.clone());
    (
        record.standing.clone(),
        record.boot.clone(),
        (staged, damaged, left, error),
        record.credits.clone(),
        record.lock.is_some(),
    )
}

fn short_order(order: &Order) -> impl fmt::Debug {
    let (name, standing) = match order {
        Order::Look => ("look", None),
        Order::Check(asking) => ("check", Some(&asking.standing)),
        Order::Update { asking, extent } => match extent {
            Extent::Published => ("publish", Some(&asking.standing)),
            Extent::Staged => ("stage", Some(&asking.standing)),
        },
        Order::Repair { asking, .. } => ("repair", Some(&asking.standing)),
        Order::Publish(_) => ("publish what is staged", None),
        Order::Withdraw => ("withdraw", None),
        Order::Bless => ("bless", None),
        Order::RollBack => ("roll back", None),
        Order::Credit(_) => ("credit", None),
        Order::Examine(_) => ("examine", None),
    };
    let standing = standing.map(|standing| (standing.wish.clone(), standing.pin.clone()));
    (name, standing)
}

fn relative(core: &Lifecycle, now: Now) -> Lifecycle {
    let mut core = core.clone();
    let left = |moment: &mut Duration| *moment = moment.saturating_sub(now.boot);
    left(&mut core.next_check);
    if let Some(tick) = &mut core.lock_tick {
        left(tick);
    }
    match &mut core.restart {
        Restart::Waiting {
            again: Some(again), ..
        } => left(again),
        Restart::Waiting { again: None, .. }
        | Restart::NotWanted
        | Restart::Locking
        | Restart::Granted
        | Restart::Asking
        | Restart::Accepted => {}
    }
    match &mut core.confirmation {
        Confirmation::Due(at) => left(at),
        Confirmation::NotDue | Confirmation::Asked => {}
    }
    match &mut core.running {
        Running::Unknown { again, .. } => left(again),
        Running::OnTrial(trial)
        | Running::Blessing(trial)
        | Running::Leaving(trial)
        | Running::Proven(Guard::Due(trial) | Guard::Renewing(trial)) => trial.relative(now.boot),
        Running::GivenUp | Running::Proven(Guard::Settled) => {}
    }
    core.record = record(&core.record, now);
    core
}

fn record(record: &Record, now: Now) -> Record {
    let mut record = record.clone();
    let epoch = Timestamp::UNIX_EPOCH;
    record.history.clear();
    if let Some(check) = &mut record.last_check {
        check.time = epoch;
    }
    for failure in &mut record.standing.failed {
        failure.at = epoch;
        failure.again = failure.again.map(|again| {
            let left = again.duration_since(now.clock);
            epoch
                .checked_add(left.max(jiff::SignedDuration::ZERO))
                .unwrap()
        });
    }
    if let Some(staged) = &mut record.staged {
        staged.since = epoch;
    }
    if let Some(hold) = &mut record.standing.hold {
        hold.since = epoch;
    }
    record
}
