//! The service: one loop that waits for whatever happens next and then puts right
//! what is not as it should be.
//!
//! What happens comes as one stream of [`Event`]s: requests of clients, changes of
//! services that PID 1 tells of, the [`crate::worker`]'s news, answers of the
//! FleetLock server. After each, and when a moment has come, [`Daemon::turn`]
//! looks at everything anew.
//!
//! The parts are in files of their own: what this boot is, [`boots`]; clients,
//! [`requests`]; the worker's news, [`outcomes`]; the restart, [`reboot`]; what is
//! shown, [`status`].

mod boots;
mod outcomes;
mod reboot;
mod requests;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use policy::{FleetLock, MachineId, Mode};
use release::{Channel, RootHash, Version};
use slots::View;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use updater_control::{Phase, Progress, Reboot, Reply, Request};

use crate::arguments::Run;
use crate::health::Trial;
use crate::record::Keeper;
use crate::say::{self, Level, Notify};
use crate::settings::{self, Loaded};
use crate::source::Asking;
use crate::worker::{self, News, Order, Place};
use crate::{listener, pid1};

/// Something has happened.
#[derive(Debug)]
pub enum Event {
    /// A client asks.
    Asked {
        /// What.
        request: Request,
        /// Where the answers go.
        answers: UnboundedSender<Reply>,
    },
    /// PID 1 tells of a service.
    Service(Box<control::Service>),
    /// The worker reports.
    Worker(News),
    /// The FleetLock server has answered, or not.
    Lock(policy::Answer),
}

/// After the start, before the first check: services and network settle.
const FIRST_CHECK: Duration = Duration::from_secs(10);
/// After a check that failed.
const RETRY_CHECK: Duration = Duration::from_secs(300);
/// On trial the answer of a repository is needed soon.
const RETRY_ON_TRIAL: Duration = Duration::from_secs(15);
/// Between two tries to reach PID 1 at the start.
const RETRY_PID1: Duration = Duration::from_secs(1);
/// No wait is longer, so that a clock that jumps is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What this machine is, as PID 1 says.
struct Machine {
    version: Version,
    root_hash: Option<RootHash>,
    slot: Option<String>,
    boot_id: String,
    id: MachineId,
    watchdog_reset: bool,
}

/// What the worker is busy with.
struct Job {
    purpose: Purpose,
    progress: Progress,
    /// Who waits for it.
    client: Option<UnboundedSender<Reply>>,
}

/// Why the worker does something.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    Look,
    Check,
    Update { reboot: Reboot },
    Mend,
    Publish,
    Withdraw,
    Bless,
    RollBack { reboot: Reboot },
    Credit,
    Examine,
}

struct Daemon {
    arguments: Run,
    machine: Machine,
    settings: Loaded,
    keeper: Keeper,
    notify: Notify,
    events: UnboundedSender<Event>,
    orders: Sender<Order>,
    job: Option<Job>,
    /// What comes after the job: said by the beginning of the boot.
    queue: VecDeque<(Purpose, Order)>,
    /// Requests that come after that.
    waiting: VecDeque<(Request, UnboundedSender<Reply>)>,
    /// The services as PID 1 last told of them.
    services: BTreeMap<String, control::Service>,
    view: Option<View>,
    disk_problem: Option<String>,
    /// Whether the beginning of the boot was judged.
    judged: bool,
    on_trial: bool,
    /// The judgement of what runs, until it is over.
    trial: Option<Trial>,
    /// Whether something else was made to boot next in this boot: then the count
    /// of what runs is not renewed.
    switched: bool,
    /// When the next check is due, in time since the kernel's start.
    next_check: Duration,
    /// What was on offer at the last check that worked.
    channel: Option<Channel>,
    /// Whether a repository was asked since the start, in vain or not.
    has_asked: bool,
    lock: FleetLock,
    /// When the FleetLock client wants to be woken.
    lock_tick: Option<Duration>,
    /// Whether the release that runs is given up: the restart is not taken back.
    given_up: bool,
    /// Whether a restart is under way.
    rebooting: bool,
    /// Whether PID 1 has accepted it.
    asked_for_reboot: bool,
    /// What the marker says.
    marked: Option<String>,
    /// What the restart waits for.
    reboot_waits_for: Option<String>,
    /// When it is worth looking at the restart again.
    reboot_again: Option<Timestamp>,
}

/// Runs until SIGTERM.
pub async fn run(arguments: Run) -> ExitCode {
    match begin(arguments).await {
        Ok((daemon, received)) => daemon.run(received).await,
        Err(error) => {
            say::event(Level::Error, "not-started", &[], &error);
            ExitCode::FAILURE
        }
    }
}

async fn begin(arguments: Run) -> Result<(Daemon, UnboundedReceiver<Event>), String> {
    let notify = Notify::from_environment();
    std::fs::create_dir_all(&arguments.run)
        .map_err(|error| format!("cannot make {}: {error}", arguments.run.display()))?;
    // Where software on the machine puts its locks: there before anyone needs it.
    let locks = arguments.run.join(reboot::LOCKS);
    if let Err(error) = std::fs::create_dir_all(&locks) {
        let why = format!("cannot make {}: {error}", locks.display());
        say::event(Level::Warning, "locks", &[], &why);
    }
    let socket = arguments.run.join("updater.sock");
    let listener = listener::listen(&socket)
        .map_err(|error| format!("cannot listen at {}: {error}", socket.display()))?;
    // Whoever asks from now on gets an answer; nothing of the boot waits for the
    // disk to be looked at.
    notify.send("READY=1");
    let machine = Machine::ask(&arguments).await?;
    let (events, received) = unbounded_channel();
    tokio::spawn(listener::serve(listener, events.clone()));
    tokio::spawn(pid1::watch(arguments.pid1.clone(), events.clone()));
    let place = Place {
        disk: arguments.disk.clone(),
        booted: machine.root_hash,
    };
    let orders = worker::start(place, events.clone())
        .map_err(|error| format!("the worker does not start: {error}"))?;
    let settings = settings::load(&arguments);
    let keeper = Keeper::open(&arguments.state, &machine.version);
    let mut lock = FleetLock::default();
    lock.step(policy::Event::Booted {
        record: keeper.record.lock.clone(),
    });
    let daemon = Daemon {
        arguments,
        machine,
        settings,
        keeper,
        notify,
        events,
        orders,
        job: None,
        queue: VecDeque::from([(Purpose::Look, Order::Look)]),
        waiting: VecDeque::new(),
        services: BTreeMap::new(),
        view: None,
        disk_problem: None,
        judged: false,
        on_trial: false,
        trial: None,
        switched: false,
        next_check: now() + FIRST_CHECK,
        channel: None,
        has_asked: false,
        lock,
        lock_tick: None,
        given_up: false,
        rebooting: false,
        asked_for_reboot: false,
        // Whatever an earlier run has left there is put right.
        marked: Some(String::new()),
        reboot_waits_for: None,
        reboot_again: None,
    };
    Ok((daemon, received))
}

impl Machine {
    /// Asks PID 1, which knows, until it answers.
    async fn ask(arguments: &Run) -> Result<Self, String> {
        let mut said = String::new();
        loop {
            match pid1::status(&arguments.pid1).await {
                Ok(status) => return Self::of(&status.machine),
                Err(error) => {
                    if error != said {
                        say::event(Level::Warning, "pid1-unreachable", &[], &error);
                        said = error;
                    }
                }
            }
            tokio::time::sleep(RETRY_PID1).await;
        }
    }

    fn of(machine: &control::Machine) -> Result<Self, String> {
        let version = machine
            .version
            .parse()
            .map_err(|error| format!("the running release's version: {error}"))?;
        let root_hash = match &machine.root_hash {
            None => None,
            Some(text) => match text.parse() {
                Ok(root_hash) => Some(root_hash),
                Err(error) => return Err(format!("the running release's root hash: {error}")),
            },
        };
        // Until the state is mounted there is none, and without one no wave.
        let id = machine
            .machine_id
            .parse()
            .or_else(|_| machine.boot_id.parse())
            .unwrap_or_else(|_| MachineId::from(1));
        Ok(Self {
            version,
            root_hash,
            slot: machine.slot.clone(),
            boot_id: machine.boot_id.clone(),
            id,
            watchdog_reset: machine.watchdog_reset,
        })
    }
}

impl Daemon {
    async fn run(mut self, mut received: UnboundedReceiver<Event>) -> ExitCode {
        let signals = signal(SignalKind::terminate()).and_then(|terminate| {
            let interrupt = signal(SignalKind::interrupt())?;
            Ok((terminate, interrupt, signal(SignalKind::hangup())?))
        });
        let (mut terminate, mut interrupt, mut hangup) = match signals {
            Ok(signals) => signals,
            Err(error) => {
                let why = format!("signals: {error}");
                say::event(Level::Error, "not-started", &[], &why);
                return ExitCode::FAILURE;
            }
        };
        if let Some(problem) = &self.keeper.problem {
            say::event(Level::Error, "record", &[], problem);
        }
        self.settings.complain(None);
        loop {
            self.turn().await;
            let wait = self.wait();
            tokio::select! {
                Some(event) = received.recv() => self.take(event),
                () = tokio::time::sleep(wait) => {}
                Some(()) = hangup.recv() => self.reload(),
                Some(()) = terminate.recv() => break,
                Some(()) = interrupt.recv() => break,
            }
            // What came together is taken together.
            while let Ok(event) = received.try_recv() {
                self.take(event);
            }
        }
        self.end(&mut received).await;
        ExitCode::SUCCESS
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Asked { request, answers } => self.answer(request, answers),
            Event::Service(service) => {
                if let Some(trial) = &mut self.trial {
                    trial.observe(&service, now());
                }
                self.services.insert(service.name.clone(), *service);
            }
            Event::Worker(news) => self.hear(news),
            Event::Lock(answer) => {
                let actions = self.lock.step(policy::Event::Answered(answer));
                self.act(actions);
            }
        }
    }

    /// Looks at everything, and begins what is to be done next.
    async fn turn(&mut self) {
        self.begin_next();
        self.answer_waiting();
        self.judge_trial();
        self.check_when_due();
        self.consider_reboot();
        self.save();
        self.ask_for_reboot().await;
        self.begin_next();
        self.show();
        self.notify.send("WATCHDOG=1");
    }

    /// Writes the record, and says so where that does not work.
    fn save(&mut self) {
        if let Some(problem) = self.keeper.save() {
            say::event(Level::Error, "record", &[], &problem);
        }
    }

    /// Reads the settings again.
    fn reload(&mut self) {
        let loaded = settings::load(&self.arguments);
        loaded.complain(self.settings.problem.as_deref());
        // A mistake must not change what the machine does.
        if loaded.problem.is_none() || self.settings.is_default {
            self.settings = loaded;
        } else {
            self.settings.problem = loaded.problem;
        }
    }

    /// Gives the worker what it is to do, unless it is busy.
    fn begin_next(&mut self) {
        if self.job.is_none()
            && let Some((purpose, order)) = self.queue.pop_front()
        {
            self.begin(purpose, order, None);
        }
    }

    fn begin(&mut self, purpose: Purpose, order: Order, client: Option<UnboundedSender<Reply>>) {
        let phase = match purpose {
            Purpose::Check | Purpose::Update { .. } | Purpose::Mend => Phase::Checking,
            Purpose::Examine => Phase::Proving,
            Purpose::Look => Phase::Idle,
            Purpose::Publish
            | Purpose::Withdraw
            | Purpose::Bless
            | Purpose::RollBack { .. }
            | Purpose::Credit => Phase::Switching,
        };
        self.job = Some(Job {
            purpose,
            progress: worker::phase(phase),
            client,
        });
        // The worker ends only with this process.
        let _ = self.orders.send(order);
    }

    /// Asks for news when it is time.
    fn check_when_due(&mut self) {
        if self.job.is_some() || !self.judged || self.rebooting || now() < self.next_check {
            return;
        }
        self.reload();
        if self.settings.config.repositories.is_empty() {
            // Nothing to ask: also for a release on trial, that is an answer.
            if let Some(trial) = &mut self.trial {
                trial.reached(None);
            }
            self.next_check = now() + self.settings.config.check_interval;
            return;
        }
        let asking = Box::new(self.asking());
        if self.trial_is_on() || self.settings.config.mode == Mode::Manual {
            return self.begin(Purpose::Check, Order::Check(asking), None);
        }
        if let Some(damaged) = self.keeper.record.damaged.clone() {
            let root_hash = damaged.root_hash;
            return self.begin(Purpose::Mend, Order::Mend { asking, root_hash }, None);
        }
        let order = Order::Update {
            asking,
            extent: crate::install::Extent::Staged,
        };
        let reboot = Reboot::Policy;
        self.begin(Purpose::Update { reboot }, order, None);
    }

    fn trial_is_on(&self) -> bool {
        self.on_trial && self.trial.is_some()
    }

    /// All that a check or an install goes by.
    fn asking(&self) -> Asking {
        let Run { config, image, .. } = &self.arguments;
        let anchor = |folder: &PathBuf| folder.join("update-root.json");
        Asking {
            config: self.settings.config.clone(),
            standing: self.keeper.record.standing.clone(),
            machine: self.machine.id,
            anchors: vec![anchor(config), anchor(image)],
            datastore: self.arguments.state.join("metadata"),
            spare_datastore: Some(self.arguments.run.join("metadata")),
        }
    }

    /// How long nothing has to be done.
    fn wait(&self) -> Duration {
        let now = now();
        let mut until = now + LONGEST_WAIT;
        if self.job.is_none() && self.judged && !self.rebooting {
            until = until.min(self.next_check);
        }
        if let Some(moment) = self.trial_moment(now) {
            until = until.min(moment);
        }
        if let Some(tick) = self.lock_tick {
            until = until.min(tick);
        }
        if let Some(again) = self.reboot_again {
            let wait = again.duration_since(Timestamp::now());
            until = until.min(now + Duration::try_from(wait).unwrap_or_default());
        }
        if self.job.as_ref().is_some_and(|job| job.client.is_some()) {
            // A client hears once a second that there is somebody.
            until = until.min(now + Duration::from_secs(1));
        }
        until.saturating_sub(now).max(Duration::from_millis(10))
    }
}

/// Time since the kernel's start, suspended time included.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
