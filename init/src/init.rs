//! PID 1's state and its loop: wait, translate what happened into an event for
//! the supervisor, perform the actions it gives back.
//!
//! The parts of the loop are in files of their own: what the supervisor asks
//! for in [`crate::perform`], ended children in [`crate::reap`], requests in
//! [`crate::requests`], the state partition in [`crate::state_partition`], the
//! end in [`crate::shutdown`] and the change to a fresh program in
//! [`crate::reexec`].

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Duration;

use definition::Entry;
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use supervisor::{Event, Limits, ServiceName, Shutdown, Supervisor};

use crate::boot_record::BootRecord;
use crate::catalog::{self, Reading};
use crate::cmdline::Cmdline;
use crate::connection::Connections;
use crate::inhibit::Inhibitors;
use crate::kernel_log::log;
use crate::machine::{self, Machine};
use crate::outputs::{LOG, Outputs};
use crate::power::PowerKeys;
use crate::reap::Child;
use crate::service::{Id, Service};
use crate::shutdown::Ending;
use crate::source::{Source, Sources};
use crate::state_partition::{STATE, StatePartition};
use crate::trial::Trial;
use crate::watchdog::Watchdog;

/// PID 1.
#[derive(Debug)]
pub struct Init {
    pub(crate) cmdline: Cmdline,
    pub(crate) machine: Machine,
    pub(crate) supervisor: Supervisor,
    /// Every service with a definition that can be run; one that is removed
    /// leaves its place empty.
    pub(crate) services: Vec<Option<Service>>,
    /// Definitions that cannot be run, by the name of their folder.
    pub(crate) invalid: BTreeMap<String, (config::Error, bool)>,
    pub(crate) children: BTreeMap<Pid, Child>,
    pub(crate) sources: Sources,
    pub(crate) signals: SignalFd,
    pub(crate) connections: Connections,
    pub(crate) inhibitors: Inhibitors,
    pub(crate) outputs: Outputs,
    pub(crate) watchdog: Option<Watchdog>,
    pub(crate) power_keys: PowerKeys,
    pub(crate) state_partition: StatePartition,
    pub(crate) trial: Trial,
    pub(crate) boot: BootRecord,
    pub(crate) cgroups: OwnedFd,
    pub(crate) null: OwnedFd,
    /// Events that performing actions gave rise to.
    pub(crate) events: VecDeque<Event>,
    pub(crate) settled: bool,
    /// Why the machine is degraded.
    pub(crate) degraded: Vec<String>,
    pub(crate) ending: Option<Ending>,
    pub(crate) reexecuted: u32,
    /// Whether a fresh program is to take over at the end of this turn.
    pub(crate) reexec_wanted: bool,
}

/// The signals that PID 1 takes from its descriptor instead of being
/// interrupted.
pub fn signal_set() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPWR,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGPIPE,
        Signal::SIGALRM,
        Signal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set
}

/// Blocks those signals and opens the descriptor.
///
/// # Errors
/// Which call failed.
pub fn open_signals() -> Result<SignalFd, String> {
    let set = signal_set();
    set.thread_block()
        .map_err(|error| format!("cannot block signals: {}", error.desc()))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|error| format!("signalfd: {}", error.desc()))
}

impl Init {
    /// PID 1 with nothing defined yet.
    ///
    /// # Errors
    /// What the machine cannot run without.
    pub fn new(cmdline: Cmdline, machine: Machine, boot: BootRecord) -> Result<Self, String> {
        let init = Self {
            cmdline,
            machine,
            supervisor: Supervisor::new(Limits::default()),
            services: Vec::new(),
            invalid: BTreeMap::new(),
            children: BTreeMap::new(),
            sources: Sources::new()?,
            signals: open_signals()?,
            connections: Connections::listen(control::SOCKET)?,
            inhibitors: Inhibitors::default(),
            outputs: Outputs::default(),
            watchdog: Watchdog::open(),
            power_keys: PowerKeys::open(),
            state_partition: StatePartition::default(),
            trial: Trial::default(),
            boot,
            cgroups: crate::mount::cgroup_tree()?,
            null: crate::mount::null()?,
            events: VecDeque::new(),
            settled: false,
            degraded: Vec::new(),
            ending: None,
            reexecuted: 0,
            reexec_wanted: false,
        };
        init.watch()?;
        Ok(init)
    }

    /// Watches what is there from the start.
    ///
    /// # Errors
    /// What cannot be watched.
    pub fn watch(&self) -> Result<(), String> {
        let readable = EpollFlags::EPOLLIN;
        self.sources.add(&self.signals, Source::Signals, readable)?;
        self.sources
            .add(self.connections.listener(), Source::Listener, readable)?;
        for (number, key) in self.power_keys.devices() {
            self.sources.add(key, Source::PowerKey(number), readable)?;
        }
        Ok(())
    }

    /// Takes the services of the OS image.
    pub fn define_system_services(&mut self) {
        let readings = catalog::read(std::path::Path::new(catalog::SYSTEM));
        self.define(readings, false);
    }

    /// Takes definitions, and tells the supervisor of those that can be run.
    /// Returns what is wrong with the others.
    pub fn define(&mut self, readings: Vec<Reading>, operator: bool) -> Vec<String> {
        let now = machine::now();
        let mut complaints = Vec::new();
        let mut policies = BTreeMap::new();
        let mut held = Vec::new();
        for Reading { name, entry } in readings {
            let taken = operator
                && self
                    .by_name(&name)
                    .and_then(|id| self.service(id))
                    .is_some_and(|service| !service.operator);
            let result = if taken {
                let path = match &entry {
                    Ok(entry) => &entry.path,
                    Err(error) => &error.file,
                };
                Err(config::Error::of_file(
                    path,
                    format!("the OS image has a service '{name}'; give the folder another name"),
                ))
            } else {
                entry.and_then(|entry| {
                    let path = entry.path.clone();
                    self.hold(entry, operator)
                        .map_err(|message| config::Error::of_file(path, message))
                })
            };
            match result {
                Ok(id) => {
                    held.push(id);
                    self.invalid.remove(&name);
                    if let Some((name, policy)) = self.policy(id) {
                        let awaited = policy.requires.union(&policy.after);
                        let awaited = awaited.map(ToString::to_string).collect();
                        self.boot.defined(name.as_str(), awaited, now);
                        policies.insert(name, policy);
                    }
                }
                Err(error) => {
                    log!(Error, "{error}");
                    complaints.push(error.to_string());
                    // An operator's service must not shadow a built-in one.
                    if !taken {
                        self.invalid.insert(name, (error, operator));
                    }
                }
            }
        }
        self.feed(Event::Define(policies));
        // One that is started on demand has not been stopped: it never ran.
        for id in held {
            self.watch_activation(id);
        }
        complaints
    }

    /// Opens what a service needs, or changes what is open.
    fn hold(&mut self, entry: Entry, operator: bool) -> Result<Id, String> {
        if let Some(id) = self.by_name(entry.name.as_str()) {
            // Its sockets may change; define() watches those that it has then.
            self.unwatch_activation(id);
            if let Some(service) = self.service_mut(id) {
                service.redefine(entry)?;
                return Ok(id);
            }
        }
        let service = Service::open(entry, operator)?;
        let place = match self.services.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.services.push(None);
                self.services.len() - 1
            }
        };
        let id = Id::try_from(place).map_err(|error| error.to_string())?;
        self.sources
            .add(&service.notify, Source::Notify(id), EpollFlags::EPOLLIN)?;
        self.outputs.hand_over(service.name(), &service.output.read);
        self.services[place] = Some(service);
        self.flush_outputs();
        Ok(id)
    }

    /// A service's policy, with what every service implies.
    fn policy(&self, id: Id) -> Option<(ServiceName, supervisor::Policy)> {
        let service = self.service(id)?;
        let entry = &service.entry;
        let mut policy = entry.definition.policy.clone();
        if self.cmdline.disabled.contains(service.name()) {
            policy.enabled = false;
        }
        let uses_state = service.operator
            || entry
                .definition
                .mounts
                .iter()
                .any(|mount| mount.source.as_path().starts_with(crate::storage::STATE));
        if service.name() != STATE {
            if uses_state && let Ok(state) = STATE.parse() {
                policy.requires.insert(state);
            }
            // The log service stops last, so that nobody's last lines are lost.
            if service.name() != LOG
                && let Ok(log) = LOG.parse()
            {
                policy.after.insert(log);
            }
        }
        Some((entry.name.clone(), policy))
    }

    /// Runs for ever.
    pub fn run(mut self) -> ! {
        loop {
            let now = machine::now();
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.feed(now);
            }
            let limit = self.deadline().map(|deadline| deadline.saturating_sub(now));
            for (source, flags) in self.sources.wait(limit) {
                self.dispatch(source, flags);
            }
            self.feed(Event::Tick);
            self.watch_trial();
            self.give_up_remains();
            self.forget_removed();
            self.end_delay();
            self.continue_ending();
            if std::mem::take(&mut self.reexec_wanted) {
                self.reexecute();
            }
        }
    }

    /// When the loop must turn at the latest.
    fn deadline(&self) -> Option<Duration> {
        let remains = self
            .services
            .iter()
            .flatten()
            .filter_map(|service| service.run.as_ref()?.remains_until);
        self.supervisor
            .next_deadline()
            .into_iter()
            .chain(self.watchdog.as_ref().map(Watchdog::deadline))
            .chain(self.ending.as_ref().map(Ending::deadline))
            .chain(self.trial.deadline())
            .chain(self.inhibitors.deadline())
            .chain(remains)
            .min()
    }

    fn dispatch(&mut self, source: Source, flags: EpollFlags) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => self.accept(),
            Source::Connection(number) => self.serve(number, flags),
            Source::Setup(id) => self.take_setup(id),
            Source::Notify(id) => self.take_notifications(id),
            Source::Cgroup(id) => self.take_cgroup_event(id),
            Source::Activation(id) => self.activate(id),
            Source::Outputs => self.flush_outputs(),
            Source::Job => self.take_job_reports(),
            Source::Trial => self.take_trial_reports(),
            Source::PowerKey(number) => {
                if self.power_keys.pressed(number) {
                    log!(Notice, "the power key was pressed");
                    self.begin_shutdown(Shutdown::Poweroff);
                }
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => {}
                // Ctrl-Alt-Del, and what `kill 1` sends.
                Ok(Signal::SIGINT | Signal::SIGTERM) => {
                    log!(
                        Notice,
                        "asked to restart by a signal from process {}",
                        info.ssi_pid
                    );
                    self.begin_shutdown(Shutdown::Reboot);
                }
                // The signals of other systems' power programs.
                Ok(Signal::SIGUSR2 | Signal::SIGPWR) => {
                    log!(
                        Notice,
                        "asked to power off by a signal from process {}",
                        info.ssi_pid
                    );
                    self.begin_shutdown(Shutdown::Poweroff);
                }
                Ok(Signal::SIGHUP) => self.reload(None),
                Ok(_) | Err(_) => {}
            }
        }
        self.reap();
    }

    /// Tells the supervisor, performs what it answers, and so on until nothing
    /// is left to tell.
    pub(crate) fn feed(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let now = machine::now();
            for action in self.supervisor.step(now, event) {
                self.perform(action, now);
            }
        }
    }

    /// A service by its place.
    pub(crate) fn service(&self, id: Id) -> Option<&Service> {
        self.services.get(id as usize)?.as_ref()
    }

    /// A service by its place.
    pub(crate) fn service_mut(&mut self, id: Id) -> Option<&mut Service> {
        self.services.get_mut(id as usize)?.as_mut()
    }

    /// The place of a service.
    pub(crate) fn by_name(&self, name: &str) -> Option<Id> {
        let place = self.services.iter().position(|service| {
            service
                .as_ref()
                .is_some_and(|service| service.name() == name)
        })?;
        Id::try_from(place).ok()
    }

    /// Lets go of what is held for services that the supervisor has forgotten.
    fn forget_removed(&mut self) {
        for place in &mut self.services {
            let forgotten = place.as_ref().is_some_and(|service| {
                service.run.is_none() && self.supervisor.service(&service.entry.name).is_none()
            });
            if forgotten && let Some(service) = place.take() {
                self.sources.remove(&service.notify);
                for socket in &service.sockets {
                    self.sources.remove(socket);
                }
            }
        }
    }

    /// Sends waiting pipes to the log service.
    pub(crate) fn flush_outputs(&mut self) {
        let waits = self.outputs.flush();
        if let Some(socket) = self.outputs.socket() {
            let flags = if waits {
                EpollFlags::EPOLLOUT
            } else {
                EpollFlags::empty()
            };
            self.sources.modify(socket, Source::Outputs, flags);
        }
    }
}
