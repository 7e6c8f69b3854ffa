//! The state, what an event does to it, and when the next deadline is.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use policy::{Config, Event as LockEvent, FleetLock, Mode};
use release::Version;

use crate::action::{Action, Notice, Order};
use crate::disk::Disk;
use crate::event::{ClientId, Event, Machine, Now, Phase, Progress, Request, RestartWhen, Traces};
use crate::health::Condition;
use crate::offers::Offers;
use crate::record::{HistoryEntry, Kind, Record};
use crate::restart::Restart;
use crate::running::{Confirmation, Running};
use crate::work::{Task, Work};

/// After the start, before the first check: services and network settle.
const FIRST_CHECK: Duration = Duration::from_secs(10);
/// A client hears this often that somebody is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The life of an update on one machine.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    pub(crate) machine: Machine,
    pub(crate) traces: Traces,
    pub(crate) config: Config,
    pub(crate) locks: Vec<String>,
    /// The services as PID 1 last reported them.
    pub(crate) services: BTreeMap<String, Condition>,
    pub(crate) record: Record,
    pub(crate) disk: Disk,
    pub(crate) offers: Offers,
    pub(crate) running: Running,
    pub(crate) confirmation: Confirmation,
    pub(crate) work: Work,
    /// Requests that come after the work that nobody asked for.
    pub(crate) waiting: VecDeque<(ClientId, Request)>,
    pub(crate) restart: Restart,
    pub(crate) lock: FleetLock,
    /// When the FleetLock client wants to be woken.
    pub(crate) lock_tick: Option<Duration>,
    /// When the next check is due.
    pub(crate) next_check: Duration,
    pub(crate) stage: Stage,
    /// What the step under way has decided so far.
    actions: Vec<Action>,
}

/// How far the process is in its own life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It works.
    Serving,
    /// It was asked to end, and publishes what is staged before it does.
    Closing,
    /// It may end.
    Closed,
}

impl Lifecycle {
    /// The start of the process on `machine`, with what it remembers and what the
    /// boot before has left.
    pub fn new(
        now: Now,
        machine: Machine,
        traces: Traces,
        config: Config,
        mut record: Record,
    ) -> Self {
        record.standing.running = machine.version.clone();
        let mut lock = FleetLock::default();
        // It has no actions: what there is to do, `Settled` and `Wanted` say.
        lock.step(LockEvent::Booted {
            record: record.lock.clone(),
        });
        Self {
            machine,
            traces,
            config,
            locks: Vec::new(),
            services: BTreeMap::new(),
            record,
            disk: Disk::default(),
            offers: Offers::Unasked,
            running: Running::unknown(now),
            confirmation: Confirmation::NotDue,
            work: Work::default(),
            waiting: VecDeque::new(),
            restart: Restart::NotWanted,
            lock,
            lock_tick: None,
            next_check: now.boot + FIRST_CHECK,
            stage: Stage::Serving,
            actions: Vec::new(),
        }
    }

    /// Takes an event in. The record is to be on the disk before the first action
    /// is done.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        match event {
            Event::Tick => {}
            // Looked at with the event that follows.
            Event::Settings(config) => {
                self.config = *config;
                return Vec::new();
            }
            Event::Locks(names) => {
                self.locks = names;
                return Vec::new();
            }
            Event::Service { name, condition } => self.observe(now, name, condition),
            Event::Asked { client, request } => self.asked(now, client, request),
            Event::Worker(news) => self.hear(now, news),
            Event::LockAnswered(answer) => self.step_lock(now, LockEvent::Answered(answer)),
            Event::RestartAnswered(result) => self.restart_answered(now, result),
            Event::BootConfirmed(result) => self.boot_confirmed(now, result),
            Event::Terminated { machine_stops } => self.terminate(now, machine_stops),
        }
        match self.stage {
            Stage::Serving => self.settle(now),
            Stage::Closing if self.work.is_idle() => self.stage = Stage::Closed,
            Stage::Closing | Stage::Closed => {}
        }
        self.tell_client();
        std::mem::take(&mut self.actions)
    }

    /// Looks at everything, and begins what is to be done next.
    fn settle(&mut self, now: Now) {
        self.wake_lock(now);
        self.look_when_due(now);
        self.begin_next();
        self.answer_waiting(now);
        self.confirm_when_due(now);
        self.judge(now);
        self.check_when_due(now);
        self.consider_restart(now);
        self.begin_next();
    }

    /// The process is asked to end: that of the service alone, or the machine.
    fn terminate(&mut self, now: Now, machine_stops: bool) {
        self.stage = Stage::Closed;
        if !machine_stops {
            return;
        }
        self.boot_ends_as_asked();
        if let Some(manifest) = self.to_be_published_at_last(now) {
            self.begin(Task::Publish(manifest), None);
            self.stage = Stage::Closing;
        }
    }

    /// What an operator's restart of the machine makes known to the boot loader:
    /// in the modes `download` and `manual`, what is staged.
    fn to_be_published_at_last(&self, now: Now) -> Option<Box<release::Manifest>> {
        let staged = self.record.staged.as_ref()?;
        let is_operators = self.config.mode != Mode::Automatic;
        let is_held = self.record.standing.held(now.clock).is_some();
        let is_offered = self.offers.withdrawn(&staged.version).is_none();
        (is_operators && !is_held && is_offered && self.work.is_idle())
            .then(|| staged.manifest.clone())
            .flatten()
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn log(&mut self, notice: Notice) {
        self.actions.push(Action::Log(notice));
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.actions.push(Action::Work(order));
    }

    /// Whether the process may end.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// When [`Event::Tick`] is due at the latest, since the kernel's start; `None`:
    /// only when something happens. A wall clock that jumps is not foreseen: ask
    /// again each minute.
    pub fn next_deadline(&self, now: Now) -> Option<Duration> {
        let client = self.work.client().map(|_| now.boot + SIGN_OF_LIFE);
        [
            self.check_moment(),
            self.running.moment(now.boot, &self.work),
            self.confirmation.moment(),
            self.lock_tick,
            self.restart.again(),
            client,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether a check begins at the next tick: then the settings should be fresh.
    pub fn is_check_due(&self, now: Now) -> bool {
        self.check_moment().is_some_and(|moment| moment <= now.boot)
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The settings that hold.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is remembered.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The disk as it was last seen.
    pub fn view(&self) -> Option<&slots::View> {
        self.disk.view()
    }

    /// What is wrong with the disk.
    pub fn disk_problem(&self) -> Option<&str> {
        self.disk.problem()
    }

    /// How far the work under way is.
    pub fn progress(&self) -> Progress {
        self.work
            .progress()
            .cloned()
            .unwrap_or_else(|| Progress::begun(Phase::Idle))
    }

    /// What the restart waits for.
    pub fn restart_waits_for(&self) -> Option<String> {
        self.restart.waits_for(&self.lock)
    }

    /// Why the FleetLock server has not granted what it was last asked for.
    pub fn lock_refusal(&self) -> Option<&str> {
        self.lock.refusal()
    }

    /// When the next check is due, since the kernel's start.
    pub fn next_check(&self) -> Duration {
        self.next_check
    }

    /// What the running release still has to prove, where it is on trial.
    pub fn trial(&self, now: Now) -> Option<OnTrial> {
        let trial = self.running.trial()?;
        let tries = self.view().and_then(|view| view.booted_entry()?.tries);
        Some(OnTrial {
            tries_left: tries.map_or(0, |tries| tries.left),
            waits_for: trial.waits_for(now.boot),
            left: trial.limit().saturating_sub(now.boot),
        })
    }

    /// Whether the running release has not proven itself yet.
    pub fn is_on_trial(&self) -> bool {
        self.running.is_on_trial()
    }

    /// Adds to the history.
    pub(crate) fn note(
        &mut self,
        now: Now,
        kind: Kind,
        from: Option<Version>,
        to: Version,
        reason: &str,
        (fetched, reused): (u64, u64),
    ) {
        self.record.note(HistoryEntry {
            time: now.clock,
            kind,
            from,
            to,
            reason: reason.to_owned(),
            fetched,
            reused,
        });
    }

    pub(crate) fn version(&self) -> Version {
        self.machine.version.clone()
    }
}

/// A release that is on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnTrial {
    /// How often the boot loader tries it still.
    pub tries_left: u32,
    /// What it waits for, a sentence each.
    pub waits_for: Vec<String>,
    /// How much time it has left.
    pub left: Duration,
}

impl RestartWhen {
    /// How far an installation goes before that restart.
    pub(crate) fn extent(self) -> crate::action::Extent {
        match self {
            // Also `Now` can be put off, by a lock of other software.
            Self::Now | Self::Policy => crate::action::Extent::Staged,
            // Whoever restarts by hand wants the boot loader to know at once.
            Self::Never => crate::action::Extent::Published,
        }
    }
}
