//! The world around a supervisor: processes that run, end and hang, probes,
//! an operator, time.
//!
//! It knows by itself what is true of the processes, and holds each action
//! of the supervisor against that (`laws`).

use super::Model;
use super::relative::relative;
use crate::{
    Action, Event, Exit, Limits, Notice, Policy, Ready, ServiceName, Shutdown, State, Supervisor,
};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

pub(super) type Definitions = BTreeMap<ServiceName, Policy>;

/// The time passes in steps of this; all durations are multiples of it.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// What may happen in a world.
pub(super) struct Setup {
    /// Defined in the beginning.
    pub(super) definitions: Definitions,
    /// These may take the place of one in use, or be removed.
    pub(super) changes: Vec<Definitions>,
    pub(super) removable: Vec<ServiceName>,
    /// How many commands, changes and removals there may be in all.
    pub(super) commands: u32,
    /// Whether processes may end with success before they are asked to.
    pub(super) succeeds: bool,
    /// Whether they may fail.
    pub(super) fails: bool,
    /// Whether each state is serialized and hears of what never was: slow.
    pub(super) thorough: bool,
    /// What is wrong with this world, so that a law must be broken.
    pub(super) fault: Option<Fault>,
}

pub(super) const LIMITS: Limits = Limits {
    shutdown: Duration::from_secs(4),
    kill: SECOND,
};

/// What can be wrong between the supervisor and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The supervisor does not hear of exits.
    ExitsAreLost,
    /// Each start is made twice.
    StartsAreDoubled,
    /// The supervisor does not know of dependencies.
    DependenciesAreUnknown,
    /// It does not know any order when the shutdown begins.
    OrderIsForgotten,
    /// The end is not heard of.
    FinishIsLost,
    /// Settled is said twice.
    SettledIsDoubled,
    /// The supervisor does not know of the restart limit.
    LimitIsUnknown,
    /// It does not know of the backoff.
    BackoffIsUnknown,
    /// Nothing is ever killed.
    KillsAreLost,
    /// Changes of state are not told.
    ChangesAreLost,
}

/// Something that can happen.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    Executed(usize),
    NotStarted(usize),
    Exits(usize, Exit),
    Says(usize, Notice),
    Probed(usize, bool),
    /// The time passes up to the next deadline, a second at most.
    Passes,
    Start(usize),
    Stop(usize),
    Restart(usize),
    /// A client waits; it may have waited since the last run.
    Client(usize, bool),
    Change(usize),
    Remove(ServiceName),
    Shutdown(Shutdown),
}

/// A process that has not ended.
#[derive(Clone, Hash)]
pub(super) struct Process {
    pub(super) run: u32,
    pub(super) ready_by: Ready,
    pub(super) executed: bool,
    pub(super) ready: bool,
    /// Since when it has been asked to stop, or said that it stops.
    pub(super) stopping: Option<Duration>,
    pub(super) said_stopping: bool,
    pub(super) signalled: bool,
    /// It is stopped because of a failure of its own.
    pub(super) failed: bool,
    /// Its end will be by its own doing, though it is stopping.
    pub(super) own_end: bool,
    pub(super) killed: Option<Duration>,
    pub(super) probe: bool,
}

/// What is known of a service, besides its process.
#[derive(Clone, Default, Hash)]
pub(super) struct Record {
    /// Its last run was a one-shot's and exited with success.
    pub(super) succeeded: bool,
    /// When its last run ended by its own doing, and whether with success.
    pub(super) own_end: Option<(Duration, bool)>,
    /// When such ends were followed by a start.
    pub(super) restarts: Vec<Duration>,
    /// What the last `Changed` said.
    pub(super) told: Option<State>,
}

/// The supervisor and all around it.
#[derive(Clone)]
pub(super) struct World<'a> {
    pub(super) setup: &'a Setup,
    pub(super) supervisor: Supervisor,
    pub(super) now: Duration,
    /// The names of all services that are or may be defined.
    pub(super) names: &'a [ServiceName],
    pub(super) definitions: Rc<Definitions>,
    pub(super) processes: Vec<Option<Process>>,
    pub(super) records: Vec<Record>,
    pub(super) last_run: u32,
    pub(super) commands: u32,
    /// Whether the definitions are still those of the beginning.
    pub(super) unchanged: bool,
    pub(super) settled: bool,
    pub(super) shutdown: Option<(Duration, Shutdown)>,
    pub(super) finished: bool,
}

impl<'a> World<'a> {
    /// With all services of the beginning just defined.
    pub(super) fn new(setup: &'a Setup, names: &'a [ServiceName]) -> Result<Self, String> {
        let mut world = Self {
            setup,
            supervisor: Supervisor::new(LIMITS),
            now: SECOND,
            names,
            definitions: Rc::new(setup.definitions.clone()),
            processes: vec![None; names.len()],
            records: vec![Record::default(); names.len()],
            last_run: 0,
            commands: setup.commands,
            unchanged: true,
            settled: false,
            shutdown: None,
            finished: false,
        };
        world.tell(Event::Define(setup.definitions.clone()))?;
        world.tell(Event::AllDefined)?;
        Ok(world)
    }

    pub(super) fn place(&self, name: &ServiceName) -> Result<usize, String> {
        let place = self.names.iter().position(|known| known == name);
        place.ok_or_else(|| format!("an action names {name}, which does not exist"))
    }

    /// Gives the event to the supervisor and does what it says.
    pub(super) fn tell(&mut self, event: Event) -> Result<(), String> {
        if let Some(event) = self.spoil_event(event) {
            let actions = self.supervisor.step(self.now, event.clone());
            for action in self.spoil_actions(actions) {
                self.perform(action, &event)?;
            }
        }
        self.check_agreement()
    }

    fn spoil_event(&mut self, event: Event) -> Option<Event> {
        let Some(fault) = self.setup.fault else {
            return Some(event);
        };
        let spoil = |definitions: &Definitions, spoil: fn(&mut Policy)| {
            let mut definitions = definitions.clone();
            definitions.values_mut().for_each(spoil);
            Event::Define(definitions)
        };
        match (fault, &event) {
            (Fault::ExitsAreLost, Event::Exited { .. }) => return None,
            (Fault::DependenciesAreUnknown, Event::Define(all)) => {
                return Some(spoil(all, |policy| policy.requires.clear()));
            }
            (Fault::LimitIsUnknown, Event::Define(all)) => {
                return Some(spoil(all, |policy| policy.restart.limit = None));
            }
            (Fault::BackoffIsUnknown, Event::Define(all)) => {
                return Some(spoil(all, |policy| {
                    policy.restart.backoff_min = Duration::ZERO;
                    policy.restart.backoff_max = Duration::ZERO;
                }));
            }
            (Fault::OrderIsForgotten, Event::Shutdown(_)) => {
                let order = &mut self.supervisor.graph.before;
                order.iter_mut().for_each(Vec::clear);
            }
            _ => {}
        }
        Some(event)
    }

    fn spoil_actions(&self, actions: Vec<Action>) -> Vec<Action> {
        let Some(fault) = self.setup.fault else {
            return actions;
        };
        let spoil = |action: Action| match (fault, &action) {
            (Fault::StartsAreDoubled, Action::Start { .. })
            | (Fault::SettledIsDoubled, Action::Settled { .. }) => vec![action.clone(), action],
            (Fault::FinishIsLost, Action::Finish(_))
            | (Fault::KillsAreLost, Action::Kill { .. })
            | (Fault::ChangesAreLost, Action::Changed { .. }) => Vec::new(),
            _ => vec![action],
        };
        actions.into_iter().flat_map(spoil).collect()
    }

    fn process_choices(&self, at: usize, choices: &mut Vec<Choice>) {
        let Some(process) = &self.processes[at] else {
            return;
        };
        if !process.executed {
            choices.push(Choice::Executed(at));
            if self.setup.fails {
                choices.push(Choice::NotStarted(at));
            }
        }
        if process.killed.is_some() {
            choices.push(Choice::Exits(at, Exit::Signal(9)));
            return;
        }
        if process.signalled {
            choices.push(Choice::Exits(at, Exit::Signal(15)));
        } else {
            if self.setup.fails {
                choices.push(Choice::Exits(at, Exit::Code(1)));
            }
            if self.setup.succeeds || process.ready_by == Ready::Exit {
                choices.push(Choice::Exits(at, Exit::Code(0)));
            }
        }
        if process.executed && process.stopping.is_none() {
            match process.ready_by {
                Ready::Notify if !process.ready => choices.push(Choice::Says(at, Notice::Ready)),
                Ready::Notify => {
                    choices.push(Choice::Says(at, Notice::Stopping));
                    choices.push(Choice::Says(at, Notice::Watchdog));
                }
                Ready::Started | Ready::Exit | Ready::Health => {}
            }
        }
        if process.probe {
            choices.push(Choice::Probed(at, true));
            choices.push(Choice::Probed(at, false));
        }
    }

    fn command_choices(&self, choices: &mut Vec<Choice>) {
        if self.commands == 0 {
            return;
        }
        for (at, name) in self.names.iter().enumerate() {
            if self.supervisor.service(name).is_some() {
                choices.push(Choice::Start(at));
                choices.push(Choice::Stop(at));
                choices.push(Choice::Restart(at));
                if self.processes[at].is_none() {
                    choices.push(Choice::Client(at, false));
                    choices.push(Choice::Client(at, true));
                }
            }
        }
        choices.extend((0..self.setup.changes.len()).map(Choice::Change));
        choices.extend(self.setup.removable.iter().cloned().map(Choice::Remove));
        if self.shutdown.is_some() {
            choices.push(Choice::Shutdown(Shutdown::Reboot));
        }
    }

    /// An operator's command or a changed definition: from now on nothing is
    /// said about restarts that came before.
    fn command(&mut self, event: Event) -> Result<(), String> {
        self.forget_restarts();
        self.tell(event)
    }

    /// A run that left its client waiting has failed, whatever it said.
    fn client(&mut self, at: usize, left: bool) -> Result<(), String> {
        let service = self.names[at].clone();
        let state = self.supervisor.state(&service);
        let rests = matches!(state, Some(State::Stopped | State::Ended));
        self.forget_restarts();
        if left && rests {
            self.records[at].own_end = Some((self.now, false));
        }
        self.tell(Event::Client { service, left })
    }

    fn forget_restarts(&mut self) {
        self.commands -= 1;
        for record in &mut self.records {
            record.own_end = None;
            record.restarts.clear();
        }
        for process in self.processes.iter_mut().flatten() {
            process.own_end = false;
        }
    }

    fn exits(&mut self, at: usize, exit: Exit) -> Result<(), String> {
        let Some(process) = self.processes[at].take() else {
            return Err("the explorer ended a process that is not there".into());
        };
        let own = match self.supervisor.state(&self.names[at]) {
            Some(State::Starting | State::Ready) => true,
            _ => process.own_end,
        };
        let may_end = match process.ready_by {
            Ready::Started | Ready::Exit => true,
            Ready::Notify | Ready::Health => process.ready,
        };
        let success = exit.is_success() && !process.failed && may_end;
        let record = &mut self.records[at];
        record.succeeded = success && process.ready_by == Ready::Exit;
        record.own_end = own.then_some((self.now, success));
        self.tell(Event::Exited {
            service: self.names[at].clone(),
            run: process.run,
            exit,
        })
    }

    fn not_started(&mut self, at: usize) -> Result<(), String> {
        let Some(process) = self.processes[at].take() else {
            return Err("the explorer ended a process that is not there".into());
        };
        let starting = self.supervisor.state(&self.names[at]) == Some(State::Starting);
        let record = &mut self.records[at];
        record.succeeded = false;
        record.own_end = (starting || process.own_end).then_some((self.now, false));
        self.tell(Event::StartFailed {
            service: self.names[at].clone(),
            run: process.run,
            reason: "no memory".into(),
        })
    }
}

impl Model for World<'_> {
    type Choice = Choice;

    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.finished {
            return choices;
        }
        for at in 0..self.names.len() {
            self.process_choices(at, &mut choices);
        }
        self.command_choices(&mut choices);
        if self.shutdown.is_none() {
            choices.push(Choice::Shutdown(Shutdown::Poweroff));
        }
        choices.push(Choice::Passes);
        choices
    }

    fn take(&mut self, choice: &Choice) -> Result<(), String> {
        let named = |at: &usize| self.names[*at].clone();
        let run = |at: &usize| self.processes[*at].as_ref().map_or(0, |p| p.run);
        let event = match choice {
            Choice::Exits(at, exit) => return self.exits(*at, *exit),
            Choice::NotStarted(at) => return self.not_started(*at),
            Choice::Start(at) => return self.command(Event::Start(named(at))),
            Choice::Stop(at) => return self.command(Event::Stop(named(at))),
            Choice::Restart(at) => return self.command(Event::Restart(named(at))),
            Choice::Client(at, left) => return self.client(*at, *left),
            Choice::Change(change) => {
                let definitions = self.setup.changes[*change].clone();
                self.unchanged = false;
                Rc::make_mut(&mut self.definitions).extend(definitions.clone());
                return self.command(Event::Define(definitions));
            }
            Choice::Remove(name) => {
                self.unchanged = false;
                Rc::make_mut(&mut self.definitions).remove(name);
                return self.command(Event::Remove(name.clone()));
            }
            Choice::Shutdown(kind) => {
                if let Some((_, old)) = &mut self.shutdown {
                    *old = *kind;
                    return self.command(Event::Shutdown(*kind));
                }
                self.shutdown = Some((self.now, *kind));
                Event::Shutdown(*kind)
            }
            Choice::Passes => {
                let second = self.now + SECOND;
                let deadline = self.supervisor.next_deadline().unwrap_or(second);
                self.now = second.min(deadline.max(self.now));
                Event::Tick
            }
            Choice::Executed(at) => Event::Executed {
                service: named(at),
                run: run(at),
            },
            Choice::Says(at, notice) => Event::Notified {
                service: named(at),
                run: run(at),
                notice: *notice,
            },
            Choice::Probed(at, healthy) => Event::Probed {
                service: named(at),
                run: run(at),
                healthy: *healthy,
            },
        };
        let now = self.now;
        let process = match choice {
            Choice::Executed(at) | Choice::Says(at, _) | Choice::Probed(at, _) => {
                self.processes[*at].as_mut()
            }
            _ => None,
        };
        match (choice, process) {
            (Choice::Executed(_), Some(process)) => {
                process.executed = true;
                process.ready |= process.ready_by == Ready::Started;
            }
            (Choice::Says(_, Notice::Ready), Some(process)) => process.ready = true,
            (Choice::Says(_, Notice::Stopping), Some(process)) => {
                process.stopping = Some(now);
                process.said_stopping = true;
                process.own_end = true;
            }
            (Choice::Probed(_, healthy), Some(process)) => {
                process.probe = false;
                process.ready |= *healthy && process.ready_by == Ready::Health;
            }
            _ => {}
        }
        self.tell(event)
    }

    fn check(&self) -> Result<(), String> {
        self.check_state()
    }

    fn key(&self) -> u64 {
        let mut seen = self.clone();
        let age = |time: &mut Duration| *time = self.now.saturating_sub(*time);
        for process in seen.processes.iter_mut().flatten() {
            process.run = 0;
            // No stop or kill timeout is longer than this.
            let age = |time: &mut Duration| *time = self.now.saturating_sub(*time).min(SECOND * 8);
            process.stopping.iter_mut().for_each(age);
            process.killed.iter_mut().for_each(age);
        }
        for (record, name) in seen.records.iter_mut().zip(self.names) {
            record.told = None;
            if self.shutdown.is_some() {
                // Only starts ask for it.
                *record = Record::default();
            }
            record.restarts.iter_mut().for_each(age);
            let Some(policy) = self.supervisor.policy(name) else {
                continue;
            };
            let window = policy.restart.limit.map_or(SECOND, |limit| limit.window);
            record.restarts.retain(|age| *age < window);
            if let Some((end, _)) = &mut record.own_end {
                age(end);
                *end = (*end).min(policy.restart.backoff_min.max(window));
            }
        }
        let shutdown = self.shutdown.map(|(at, kind)| (self.now - at, kind));
        let mut hasher = DefaultHasher::new();
        relative(seen.supervisor, self.now).hash(&mut hasher);
        if !self.unchanged {
            seen.definitions.hash(&mut hasher);
        }
        seen.processes.hash(&mut hasher);
        seen.records.hash(&mut hasher);
        (seen.commands, seen.unchanged, seen.settled).hash(&mut hasher);
        (shutdown, seen.finished).hash(&mut hasher);
        hasher.finish()
    }
}
