//! What holds whatever happens.

use jiff::SignedDuration;
use policy::{Endpoint, Mode, Pending, Reboot, may_reboot};

use super::world::{World, lock_client};
use crate::action::{Action, Order};
use crate::boot_evidence::Ended;
use crate::event::{ClientId, Event, RestartWhen};
use crate::offers::Offers;
use crate::restart::Restart;
use crate::running::Running;

/// So much of a calm future is followed.
const CALM: usize = 400;
/// All is settled by then: a trial may fail three times, checks come each hour.
const CALM_TIME: SignedDuration = SignedDuration::from_hours(6);

impl World {
    /// Whether policy, operator and FleetLock server let the machine restart.
    fn may_restart(&self) -> Result<(), String> {
        if self.core.running.is_given_up() {
            return Ok(());
        }
        let Some(staged) = &self.saved.staged else {
            return Err("nothing is staged".to_owned());
        };
        if let Offers::Known(channel) = &self.core.offers
            && staged.manifest.is_some()
            && let Some(why) = policy::withdrawn(channel, &staged.version)
        {
            return Err(why);
        }
        let mut standing = self.saved.standing.clone();
        match staged.restart {
            RestartWhen::Never => return Err("the client did not want it".to_owned()),
            RestartWhen::Policy => {}
            RestartWhen::Now => standing.wish.get_or_insert_default().now = true,
        }
        let locks = self.lock_files();
        let pending = Pending {
            version: &staged.version,
            since: staged.since,
        };
        let machine = &self.core.machine.id;
        let clock = self.now.clock;
        match may_reboot(self.config(), &standing, machine, pending, &locks, clock) {
            Reboot::Yes => Ok(()),
            Reboot::No { why, .. } => Err(why.to_string()),
        }
    }

    fn is_forced(&self) -> bool {
        let staged = self.saved.staged.as_ref();
        self.core.running.is_given_up()
            || staged.is_some_and(|staged| staged.restart == RestartWhen::Now)
    }

    /// The release was given up just now.
    pub fn gives_up(&mut self) -> Result<(), String> {
        if !self.disk.is_on_trial() && !self.boot.on_trial {
            return Err("a release is given up that was not on trial".to_owned());
        }
        if self.boot.confirmed {
            return Err("a release is given up that was confirmed".to_owned());
        }
        self.boot.given_up = true;
        Ok(())
    }

    /// Whether an action is lawful now. The record is on the disk.
    pub fn allows(&self, action: &Action) -> Result<(), String> {
        match action {
            Action::Work(order) => self.allows_order(order),
            Action::Progress(client, _) | Action::Answer(client, _) => self.knows(*client),
            Action::AskLock(request) => {
                if self.lock_request.is_some() {
                    return Err("two requests are with the FleetLock server".to_owned());
                }
                if self.saved.lock.is_none() {
                    return Err("the record does not say that a slot may be held".to_owned());
                }
                match request.endpoint {
                    Endpoint::SteadyState => Ok(()),
                    Endpoint::PreReboot => self
                        .may_restart()
                        .map_err(|why| format!("a slot is asked for, though: {why}")),
                }
            }
            Action::Restart => {
                if self.pid1.restart || self.pid1.stops {
                    return Err("PID 1 is asked twice".to_owned());
                }
                if self.order.is_some() {
                    return Err("the machine restarts while the worker works".to_owned());
                }
                self.may_restart()
                    .map_err(|why| format!("the machine restarts, though: {why}"))?;
                let needs_slot = lock_client(self.config()).is_some() && !self.is_forced();
                if needs_slot && !self.lock_slot {
                    return Err("the machine restarts without a slot of the fleet".to_owned());
                }
                let ended = self.saved.boot.as_ref().map(|boot| &boot.ended);
                match ended {
                    Some(Ended::Asked | Ended::Unhealthy { .. }) => Ok(()),
                    Some(Ended::Unknown) | None => {
                        Err("the record does not say why the boot ends".to_owned())
                    }
                }
            }
            Action::ConfirmBoot => {
                if self.pid1.confirm {
                    Err("PID 1 is told twice".to_owned())
                } else if self.boot.given_up {
                    Err("a release that was given up is confirmed".to_owned())
                } else {
                    Ok(())
                }
            }
            Action::ExtendTrial(_) | Action::ForgetTraces | Action::Log(_) => Ok(()),
        }
    }

    fn allows_order(&self, order: &Order) -> Result<(), String> {
        if self.order.is_some() {
            return Err(format!("the worker has work, and gets {order:?}"));
        }
        if self.pid1.restart || self.pid1.stops {
            return Err(format!(
                "the machine restarts, and the worker gets {order:?}"
            ));
        }
        match order {
            Order::Bless if self.boot.given_up => {
                Err("a release that was given up is blessed".to_owned())
            }
            Order::Update { .. }
                if self.core.work.client().is_none() && self.saved.damaged.is_some() =>
            {
                Err("an update is installed before a damaged slot is repaired".to_owned())
            }
            Order::Update { .. } | Order::Repair { .. }
                if self.core.work.client().is_none() && self.config().mode == Mode::Manual =>
            {
                Err("something is installed in manual mode".to_owned())
            }
            Order::Look
            | Order::Check(_)
            | Order::Update { .. }
            | Order::Repair { .. }
            | Order::Publish(_)
            | Order::Withdraw
            | Order::Bless
            | Order::RollBack
            | Order::Credit(_)
            | Order::Examine(_) => Ok(()),
        }
    }

    fn knows(&self, client: ClientId) -> Result<(), String> {
        if self.clients.contains(&client) {
            Ok(())
        } else {
            Err(format!("{client:?} hears something after its answer"))
        }
    }

    /// The laws that hold in each state.
    pub fn check(&self) -> Result<(), String> {
        let core = &self.core;
        for client in &self.clients {
            let waits = core.waiting.iter().any(|(waiting, _)| waiting == client);
            if waits == (core.work.client() == Some(*client)) {
                return Err(format!("{client:?} is forgotten, or waits twice"));
            }
        }
        if core.work.is_idle() != self.order.is_none() {
            return Err("the worker is not known to work".to_owned());
        }
        if !core.work.is_idle() && core.work.progress().is_none() {
            return Err("there is work that nobody begins".to_owned());
        }
        let is_left = self.saved.staged.is_some();
        if self.disk.is_on_trial() && !is_left && matches!(core.running, Running::Proven(_)) {
            return Err("a release on trial counts as proven".to_owned());
        }
        if core.is_check_due(self.now) {
            // At the next tick at the latest.
            let mut core = core.clone();
            core.step(self.now, Event::Tick);
            if core.is_check_due(self.now) {
                return Err("a check is due and does not begin".to_owned());
            }
        }
        if core.restart == Restart::Locking || core.restart == Restart::Granted {
            self.may_restart()
                .or_else(|why| {
                    // What is under way ends first, then it is looked at again.
                    let is_later = core.restart == Restart::Granted && !core.work.is_idle();
                    is_later.then_some(()).ok_or(why)
                })
                .map_err(|why| format!("the restart is not taken back, though: {why}"))?;
        }
        if core.restart == Restart::Granted && core.work.is_idle() {
            return Err("the restart is granted and does not come".to_owned());
        }
        if self.lock_slot && self.saved.lock.is_none() {
            return Err("the server holds a slot, and the record does not say so".to_owned());
        }
        Ok(())
    }

    /// A tick never leaves a deadline in the past.
    pub fn is_not_spinning(&self) -> Result<(), String> {
        let mut core = self.core.clone();
        for _ in 0..3 {
            core.step(self.now, Event::Tick);
        }
        match core.next_deadline(self.now) {
            Some(deadline) if deadline <= self.now.boot => {
                Err("the same tick comes again and again".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// In a calm future every client gets its answer, the slot of the fleet is given
    /// back, no trial stays undecided, what is damaged is repaired, and in
    /// automatic mode what can be installed runs.
    pub fn converges(&self) -> Result<(), String> {
        let mut world = self.calm()?;
        for _ in 0..CALM {
            let passed = world.now.clock.duration_since(self.now.clock);
            if passed > CALM_TIME {
                break;
            }
            if world.is_settled() {
                return Ok(());
            }
            let choice = world.calm_choice();
            world.take(&choice)?;
        }
        Err(format!(
            "a calm machine does not settle: {:?}, {:?}, {:?}, slot {}, {:?}",
            world.core.running,
            world.core.restart,
            world.clients,
            world.lock_slot,
            world.disk.view.entries
        ))
    }

    fn is_settled(&self) -> bool {
        let core = &self.core;
        let is_quiet = self.order.is_none()
            && self.lock_request.is_none()
            && !self.pid1.restart
            && !self.pid1.confirm
            && !self.pid1.stops
            && self.clients.is_empty();
        let is_decided = core.running.is_known() && !core.running.is_on_trial();
        // Or it restarts what works when its own limit is over.
        let is_confirmed = !self.boot.on_trial || self.boot.known;
        let is_repaired = self.saved.damaged.is_none() || self.config().mode == Mode::Manual;
        // A release that needs an operator's restart may wait for ever.
        let is_operators = self
            .saved
            .staged
            .as_ref()
            .is_some_and(|staged| staged.restart == RestartWhen::Never)
            || self.config().mode != Mode::Automatic
            || self.saved.standing.held(self.now.clock).is_some();
        let is_done = self.saved.staged.is_none() || is_operators;
        is_quiet
            && is_decided
            && is_confirmed
            && is_repaired
            && is_done
            && !self.lock_slot
            && self.saved.last_check.is_some()
    }
}
