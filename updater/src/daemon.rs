//! The service: one loop that waits, translates and performs. What is done next
//! is decided by [`lifecycle`].
//!
//! What happens comes as one stream of [`Event`]s: requests of clients, services
//! that PID 1 reports, the [`crate::worker`]'s news, answers of PID 1 and of the
//! FleetLock server. Each is translated and handed to [`Lifecycle::step`]; the
//! record is written, and then the actions are performed ([`perform`]).

mod clients;
mod log;
mod perform;
mod status;

use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;
use lifecycle::{Lifecycle, Machine, Now, Order, Traces};
use nix::time::{ClockId, clock_gettime};
use policy::MachineId;
use service::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use updater_control::Updater;

use crate::arguments::Run;
use crate::event::Event;
use crate::record::Keeper;
use crate::say::{self, Level, Notify};
use crate::settings::{self, Loaded};
use crate::worker::{self, Place};
use crate::{health, pid1, pstore};

use clients::Clients;

/// Between two attempts to reach PID 1 at the start.
const RETRY_PID1: Duration = Duration::from_secs(1);
/// No wait is longer, so that a clock that jumps is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// No wait is shorter.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// How long this process may delay its end to update the boot entries. What is
/// unfinished then is done at the next opportunity.
const LAST_PUBLISH: Duration = Duration::from_secs(20);
/// Why PID 1 gave up a release that nobody confirmed: PID 1 writes it.
const TRIAL_EXPIRED: &str = "trial-expired";

struct Daemon {
    arguments: Run,
    /// The running release's slot, as PID 1 says.
    slot: Option<String>,
    settings: Loaded,
    keeper: Keeper,
    notify: Notify,
    events: UnboundedSender<Event>,
    orders: Sender<Order>,
    clients: Clients,
    lifecycle: Lifecycle,
    /// The names of the lock files, as last told.
    locks: Vec<String>,
    /// What the marker says.
    marked: Option<String>,
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
    // Where other software puts its locks: it must exist before anyone needs it.
    let locks = arguments.run.join(perform::LOCKS);
    if let Err(error) = std::fs::create_dir_all(&locks) {
        let why = format!("cannot make {}: {error}", locks.display());
        say::event(Level::Warning, "locks", &[], &why);
    }
    let socket = arguments.run.join("updater.sock");
    let server = Server::<Updater>::listen(&socket).map_err(|error| error.to_string())?;
    // From now on clients get an answer; nothing in the boot waits for the first
    // look at the disk.
    notify.ready();
    let status = ask_pid1(&arguments).await;
    let machine = machine(&status)?;
    let (events, received) = unbounded_channel();
    let asked = events.clone();
    tokio::spawn(server.serve(move |request, answers| {
        // When the daemon ends, so does the client's connection.
        let _ = asked.send(Event::Asked { request, answers });
    }));
    tokio::spawn(pid1::watch(arguments.pid1.clone(), events.clone()));
    let orders = worker::start(place(&arguments, &machine), events.clone())
        .map_err(|error| format!("cannot start the worker: {error}"))?;
    let settings = settings::load(&arguments);
    settings.complain(None);
    let (keeper, record) = Keeper::open(&arguments.state, &machine.version);
    if let Some(problem) = &keeper.problem {
        say::event(Level::Error, "record", &[], problem);
    }
    let traces = traces(&arguments, &status);
    let config = settings.config.clone();
    let daemon = Daemon {
        arguments,
        slot: status.slot.map(|slot| slot.letter().to_owned()),
        settings,
        keeper,
        notify,
        events,
        orders,
        clients: Clients::default(),
        lifecycle: Lifecycle::new(now(), machine, traces, config, record),
        locks: Vec::new(),
        // Corrects what an earlier run has left there.
        marked: Some(String::new()),
    };
    Ok((daemon, received))
}

/// Asks PID 1, which knows the machine, until it answers.
async fn ask_pid1(arguments: &Run) -> control::Machine {
    let mut said = String::new();
    loop {
        match pid1::status(&arguments.pid1).await {
            Ok(status) => return status.machine,
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

fn machine(status: &control::Machine) -> Result<Machine, String> {
    let version = status
        .version
        .parse()
        .map_err(|error| format!("the running release's version: {error}"))?;
    let root_hash = match &status.root_hash {
        None => None,
        Some(text) => match text.parse() {
            Ok(root_hash) => Some(root_hash),
            Err(error) => return Err(format!("the running release's root hash: {error}")),
        },
    };
    // There is none until the state is mounted, and without it no wave.
    let id = status
        .machine_id
        .parse()
        .or_else(|_| status.boot_id.parse())
        .unwrap_or_else(|_| MachineId::from(1));
    Ok(Machine {
        version,
        root_hash,
        boot_id: status.boot_id.clone(),
        id,
    })
}

/// The longest reason for an expired trial that is read, in bytes.
const LONGEST_REASON: usize = 4096;

fn place(arguments: &Run, machine: &Machine) -> Place {
    let anchor = |folder: &std::path::Path| folder.join("update-root.json");
    Place {
        disk: arguments.disk.clone(),
        booted: machine.root_hash,
        machine: machine.id,
        anchors: vec![anchor(&arguments.config), anchor(&arguments.image)],
        datastore: arguments.state.join("metadata"),
        spare_datastore: arguments.run.join("metadata"),
    }
}

fn traces(arguments: &Run, status: &control::Machine) -> Traces {
    let expired = config::read(&arguments.state.join(TRIAL_EXPIRED), LONGEST_REASON);
    Traces {
        panic: pstore::last_words(&arguments.pstore),
        watchdog_reset: status.watchdog_reset,
        trial_expired: expired.ok().flatten().map(|text| text.trim().to_owned()),
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
        loop {
            self.tick();
            self.show();
            self.notify.alive();
            tokio::select! {
                Some(event) = received.recv() => self.take(event),
                () = tokio::time::sleep(self.wait()) => {}
                Some(()) = hangup.recv() => self.reload(),
                Some(()) = terminate.recv() => break,
                Some(()) = interrupt.recv() => break,
            }
            // Events that arrived together are handled together.
            while let Ok(event) = received.try_recv() {
                self.take(event);
            }
        }
        self.end(&mut received).await;
        ExitCode::SUCCESS
    }

    fn tick(&mut self) {
        if self.lifecycle.is_check_due(now()) {
            self.reload();
        }
        self.step(lifecycle::Event::Tick);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Asked { request, answers } => self.ask(request, answers),
            Event::Service(service) => {
                let condition = health::condition(&service);
                let name = service.name;
                self.step(lifecycle::Event::Service { name, condition });
            }
            Event::Worker(news) => self.step(lifecycle::Event::Worker(news)),
            Event::LockAnswered(answer) => self.step(lifecycle::Event::LockAnswered(answer)),
            Event::RestartAnswered(result) => {
                self.step(lifecycle::Event::RestartAnswered(result));
            }
            Event::BootConfirmed(result) => self.step(lifecycle::Event::BootConfirmed(result)),
        }
    }

    /// Handles one event and performs the actions that follow.
    fn step(&mut self, event: lifecycle::Event) {
        let locks = perform::locks(&self.arguments);
        if locks != self.locks {
            self.locks.clone_from(&locks);
            self.perform(lifecycle::Event::Locks(locks));
        }
        self.perform(event);
    }

    /// Reads the settings again.
    fn reload(&mut self) {
        let loaded = settings::load(&self.arguments);
        loaded.complain(self.settings.problem.as_deref());
        // A mistake must not change what the machine does.
        if loaded.problem.is_none() || self.settings.is_default {
            self.settings = loaded;
            let config = Box::new(self.settings.config.clone());
            self.step(lifecycle::Event::Settings(config));
        } else {
            self.settings.problem = loaded.problem;
        }
    }

    /// How long to wait for the next event.
    fn wait(&self) -> Duration {
        let now = now();
        let wait = self
            .lifecycle
            .next_deadline(now)
            .map_or(LONGEST_WAIT, |until| until.saturating_sub(now.boot));
        wait.clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// Ends this process: the machine shuts down, or only the service stops.
    async fn end(&mut self, received: &mut UnboundedReceiver<Event>) {
        self.notify.stopping();
        let machine_stops = pid1::status(&self.arguments.pid1)
            .await
            .is_ok_and(|status| status.machine.phase == control::Phase::Stopping);
        self.step(lifecycle::Event::Terminated { machine_stops });
        let last_work = async {
            while !self.lifecycle.is_over() {
                match received.recv().await {
                    Some(Event::Worker(news)) => self.step(lifecycle::Event::Worker(news)),
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(LAST_PUBLISH, last_work).await.is_err() {
            say::event(
                Level::Warning,
                "publish-failed",
                &[],
                "the staged release does not boot yet: there was no time to update the boot entries",
            );
        }
    }
}

/// The time by both clocks.
fn now() -> Now {
    Now {
        // Includes suspended time.
        boot: clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from),
        clock: Timestamp::now(),
    }
}
