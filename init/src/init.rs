//! PID 1's parts, and what connects them: each event goes to the supervisor,
//! each action that it gives back is done by the part that it concerns, and what
//! a part has to tell the others becomes the next event.
//!
//! Above this are [`crate::requests`], [`crate::reexec`] and the loop that waits
//! ([`crate::event_loop`]); below it every part owns its state and knows only of
//! those that it needs.

use std::collections::VecDeque;

use control::{Outcome, Refusal, Reply};
use definition::Role;
use nix::sys::epoll::EpollFlags;
use supervisor::{Action, Event, Exit, Limits, Notice, ServiceName, Shutdown, State, Supervisor};

use crate::boot_record::BootRecord;
use crate::catalog::{self, Reading};
use crate::children::{Child, Children, Ended, describe};
use crate::cmdline::Cmdline;
use crate::connection::Clients;
use crate::container::{self, Containers};
use crate::foreign;
use crate::inhibit::{self, Inhibitors, Verdict};
use crate::kernel_log::log;
use crate::listening;
use crate::machine::{self, Machine};
use crate::service::{Id, Run, Service};
use crate::services::Services;
use crate::shutdown::{Announcements, Ending};
use crate::source::{Source, Sources};
use crate::state_partition::{News, StatePartition};
use crate::status::View;
use crate::sys;
use crate::trial::Trial;
use crate::watchdog::Watchdog;

/// How many notifications of one service are taken in one turn of the loop.
const NOTIFICATIONS: usize = 16;

/// PID 1.
#[derive(Debug)]
pub struct Init {
    /// The kernel's command line.
    pub cmdline: Cmdline,
    /// What boots and runs.
    pub machine: Machine,
    /// When what was ready.
    pub boot: BootRecord,
    /// Which service is started and stopped when.
    pub supervisor: Supervisor,
    /// The services and what is held for each.
    pub services: Services,
    /// What containers are started with.
    pub containers: Containers,
    /// The processes that PID 1 has started.
    pub children: Children,
    /// The state partition.
    pub state: StatePartition,
    /// The trial of the release.
    pub trial: Trial,
    /// The control socket.
    pub clients: Clients,
    /// Who inhibits a shutdown.
    pub inhibitors: Inhibitors,
    /// What the loop waits for.
    pub sources: Sources,
    /// The hardware watchdog, where there is one.
    pub watchdog: Option<Watchdog>,
    /// The end, once the services are stopped.
    pub ending: Option<Ending>,
    /// What is said while the services stop.
    pub announcements: Announcements,
    /// How often a fresh program has taken over.
    pub reexecuted: u32,
    /// Whether one is to take over at the end of this turn of the loop.
    pub reexecution_wanted: bool,
    /// Events that actions gave rise to.
    events: VecDeque<Event>,
}

/// The parts that an earlier run of PID 1 leaves to the next one.
#[derive(Debug)]
pub struct Inheritance {
    pub machine: Machine,
    pub boot: BootRecord,
    pub supervisor: Supervisor,
    pub services: Services,
    pub containers: Containers,
    pub children: Children,
    pub state: StatePartition,
    pub trial: Trial,
    pub clients: Clients,
    pub sources: Sources,
    pub watchdog: Option<Watchdog>,
    pub reexecuted: u32,
}

impl Init {
    /// PID 1 with nothing defined yet.
    ///
    /// # Errors
    /// What the machine cannot run without.
    pub fn new(cmdline: Cmdline, machine: Machine, boot: BootRecord) -> Result<Self, String> {
        let sources = Sources::new()?;
        let clients = Clients::listen(control::SOCKET)?;
        clients.watch(&sources)?;
        let inheritance = Inheritance {
            machine,
            boot,
            supervisor: Supervisor::new(Limits::default()),
            services: Services::default(),
            containers: Containers::open()?,
            children: Children::default(),
            state: StatePartition::default(),
            trial: Trial::default(),
            clients,
            sources,
            watchdog: Watchdog::open(),
            reexecuted: 0,
        };
        Ok(Self::inheriting(cmdline, inheritance))
    }

    /// PID 1 with what an earlier run left.
    pub fn inheriting(cmdline: Cmdline, inheritance: Inheritance) -> Self {
        let Inheritance {
            machine,
            boot,
            supervisor,
            services,
            containers,
            children,
            state,
            trial,
            clients,
            sources,
            watchdog,
            reexecuted,
        } = inheritance;
        Self {
            cmdline,
            machine,
            boot,
            supervisor,
            services,
            containers,
            children,
            state,
            trial,
            clients,
            inhibitors: Inhibitors::default(),
            sources,
            watchdog,
            ending: None,
            announcements: Announcements::default(),
            reexecuted,
            reexecution_wanted: false,
            events: VecDeque::new(),
        }
    }

    /// What clients are told of.
    pub fn view(&self) -> View<'_> {
        View {
            cmdline: &self.cmdline,
            machine: &self.machine,
            boot: &self.boot,
            supervisor: &self.supervisor,
            services: &self.services,
            state: &self.state,
            trial: &self.trial,
            inhibitors: &self.inhibitors,
            watchdog: self.watchdog.as_ref(),
            reexecuted: self.reexecuted,
        }
    }

    /// Begins to find out whether the release is on trial.
    pub fn look_for_trial(&mut self) {
        self.trial
            .look(self.cmdline.trial, &self.sources, &mut self.children);
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
        let disabled = &self.cmdline.disabled;
        let defined = self
            .services
            .define(readings, operator, disabled, &self.sources);
        for (name, policy) in &defined.policies {
            let awaited = policy.requires.union(&policy.after);
            let awaited = awaited.map(ToString::to_string).collect();
            self.boot.defined(name.as_str(), awaited, now);
        }
        self.feed(Event::Define(defined.policies));
        // One that is started on demand has not been stopped: it never ran. One
        // whose new definition cannot be used keeps its sockets.
        for id in 0..Id::try_from(self.services.table().len()).unwrap_or(0) {
            self.watch_activation(id);
        }
        defined.complaints
    }

    /// Tells the supervisor, does what it answers, and so on until nothing is
    /// left to tell.
    pub fn feed(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            for action in self.supervisor.step(machine::now(), event) {
                self.perform(action);
            }
        }
    }

    /// Does one thing. What fails comes back to the supervisor as an event.
    fn perform(&mut self, action: Action) {
        match action {
            Action::Start { service, run } => {
                if let Err(reason) = self.start(&service, run) {
                    self.events.push_back(Event::StartFailed {
                        service,
                        run,
                        reason,
                    });
                }
            }
            Action::Terminate { service, run } => {
                let id = self.services.running(&service, run);
                match id.and_then(|id| self.services.get(id)) {
                    Some(service) if service.process().is_some() => container::terminate(service),
                    Some(_) => self.state.cancel(),
                    None => {}
                }
            }
            Action::Kill { service, run } => {
                let id = self.services.running(&service, run);
                if let Some(service) = id.and_then(|id| self.services.get(id)) {
                    container::kill(service);
                }
            }
            Action::Probe { service, run } => self.probe(service, run),
            Action::Refuse { service } => {
                if let Some(id) = self.services.find(service.as_str())
                    && let Some(service) = self.services.get(id)
                {
                    listening::refuse(id, &service.sockets);
                }
            }
            Action::CancelProbe { service, run } => {
                let id = self.services.running(&service, run);
                let service = id.and_then(|id| self.services.get_mut(id));
                if let Some(pid) = service.and_then(|service| service.probe.take()) {
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                }
            }
            Action::Changed { service, state } => self.tell(&service, &state),
            Action::Settled { failed } => self.settle(&failed),
            Action::Finish(shutdown) => {
                if self.ending.is_none() {
                    let expired = self.trial.expired.as_deref();
                    let now = machine::now();
                    let ending = Ending::begin(shutdown, now, expired, &mut self.children);
                    self.ending = Some(ending);
                }
            }
        }
    }

    fn start(&mut self, name: &ServiceName, run: u32) -> Result<(), String> {
        let id = self.services.find(name.as_str());
        let id = id.ok_or("its definition is gone")?;
        let service = self.services.get(id).ok_or("its definition is gone")?;
        match service.role() {
            Some(Role::State) => self.start_state(id, run),
            Some(Role::Log) | None => self.start_container(id, run, &[]),
        }
    }

    /// Starts the work of the service `state`, which is PID 1's own at first.
    fn start_state(&mut self, id: Id, number: u32) -> Result<(), String> {
        self.state.start(&self.sources, &mut self.children)?;
        if let Some(service) = self.services.get_mut(id) {
            service.run = Some(Run::without_process(number));
            self.events.push_back(Event::Executed {
                service: service.entry.name.clone(),
                run: number,
            });
        }
        Ok(())
    }

    fn start_container(&mut self, id: Id, number: u32, arguments: &[String]) -> Result<(), String> {
        let service = self.services.get(id).ok_or("its definition is gone")?;
        let prepared = container::prepare(service, arguments, self.state.disk())?;
        let takes_outputs = service.role() == Some(Role::Log);
        let outputs = takes_outputs
            .then(|| self.services.connect_outputs())
            .transpose()?;
        self.services.unwatch_activation(id, &self.sources);
        let service = self.services.get_mut(id).ok_or("its definition is gone")?;
        self.containers.start(
            id,
            service,
            number,
            prepared,
            outputs.as_ref(),
            &self.sources,
            &mut self.children,
        )?;
        if takes_outputs {
            self.services.hand_outputs_over(&self.sources)?;
        }
        Ok(())
    }

    fn probe(&mut self, name: ServiceName, run: u32) {
        let id = self.services.running(&name, run);
        let result = match id.and_then(|id| Some((id, self.services.get_mut(id)?))) {
            Some((id, service)) => self.containers.probe(id, service, run, &mut self.children),
            None => Err("it does not run".to_owned()),
        };
        if let Err(reason) = result {
            log!(Warning, "{name}: cannot be probed: {reason}");
            self.events.push_back(Event::Probed {
                service: name,
                run,
                healthy: false,
            });
        }
    }

    fn tell(&mut self, name: &ServiceName, state: &State) {
        self.boot.changed(name.as_str(), state, machine::now());
        match state {
            State::Failed(_) => log!(Error, "{name}: {state}"),
            State::Backoff { .. } => {
                let service = self.supervisor.service(name);
                let why = service.and_then(|service| service.failure().map(ToString::to_string));
                log!(
                    Warning,
                    "{name}: {}; it is started again",
                    why.unwrap_or_default()
                );
            }
            State::Stopped
            | State::Waiting { .. }
            | State::Starting
            | State::Ready
            | State::Stopping
            | State::Ended => log!(Info, "{name}: {state}"),
        }
        self.tell_watchers(name.as_str());
        if matches!(state, State::Stopped | State::Failed(_))
            && let Some(id) = self.services.find(name.as_str())
        {
            self.watch_activation(id);
        }
    }

    /// Sends a service's line to everyone who watches.
    fn tell_watchers(&mut self, name: &str) {
        if self.clients.has_watchers()
            && let Some(line) = self.view().line(name)
        {
            self.clients
                .tell_watchers(&Reply::Changed(line), machine::now(), &self.sources);
        }
    }

    fn settle(&mut self, failed: &[ServiceName]) {
        let (kernel, services) = self.boot.settled(machine::now());
        let mut problems = self.state.problems.clone();
        problems.extend(failed.iter().map(|name| match self.supervisor.state(name) {
            Some(state) => format!("{name}: {state}"),
            None => name.to_string(),
        }));
        let invalid = self.services.invalid().values();
        problems.extend(invalid.map(|(error, _)| error.to_string()));
        let time = format!(
            "{:.3} s (kernel {kernel:.3} s, services {services:.3} s)",
            kernel + services
        );
        let line = if problems.is_empty() {
            format!("wherry: ready in {time}")
        } else {
            format!("wherry: degraded after {time}: {}", problems.join("; "))
        };
        log!(Notice, "{line}");
        crate::console::say(&format!("{line}\n"));
        if let Err(error) = sys::release_code() {
            log!(
                Warning,
                "cannot release the memory of the code that booting needed: {error}"
            );
        }
    }

    /// A process has ended that PID 1 may have started.
    pub fn child_ended(&mut self, ended: Ended) {
        match ended.child {
            None => {} // an orphan
            Some(Child::Service(id)) => self.first_process_ended(id, ended.exit),
            Some(Child::Probe(id, run)) => {
                let Some(service) = self.services.get_mut(id) else {
                    return;
                };
                if service.probe != Some(ended.pid) {
                    return; // cancelled
                }
                service.probe = None;
                let service = service.entry.name.clone();
                self.feed(Event::Probed {
                    service,
                    run,
                    healthy: ended.exit.is_success(),
                });
            }
            Some(Child::State) => {
                let news = self.state.job_ended(ended.exit, &self.sources);
                self.hear_of_state(news);
            }
            Some(Child::Trial) => self.trial.job_ended(self.cmdline.trial, &self.sources),
            Some(Child::Ending) => {
                if let Some(ending) = &mut self.ending {
                    ending.unmounted();
                }
            }
            Some(Child::Closer(_)) => {} // counted as long as it was there
        }
    }

    fn first_process_ended(&mut self, id: Id, exit: Exit) {
        // What the container reported before it ended comes first.
        self.take_setup(id);
        let now = machine::now();
        let is_over = self.services.get_mut(id).is_some_and(|service| {
            container::first_process_ended(id, service, exit, now, &self.sources)
        });
        if is_over {
            self.run_ended(id);
        }
    }

    /// A container reports on its set-up.
    pub fn take_setup(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else {
            return;
        };
        if let Some(run) = container::take_setup(service, &self.sources) {
            let service = service.entry.name.clone();
            self.boot.executed(service.as_str(), machine::now());
            self.feed(Event::Executed { service, run });
        }
    }

    /// The population of a cgroup has changed whose first process has ended.
    pub fn take_cgroup_event(&mut self, id: Id) {
        if self.services.get(id).is_some_and(container::is_empty) {
            self.run_ended(id);
        }
    }

    /// Ends the runs whose remaining processes have not ended in time.
    pub fn give_up_remains(&mut self) {
        let now = machine::now();
        let is_late = |run: &Run| run.remains_until.is_some_and(|until| until <= now);
        let late: Vec<Id> = self
            .services
            .iter()
            .filter(|(_, service)| service.run.as_ref().is_some_and(is_late))
            .map(|(id, service)| {
                let name = service.name();
                log!(Error, "{name}: processes are left that cannot be killed");
                id
            })
            .collect();
        for id in late {
            self.run_ended(id);
        }
    }

    /// Nothing of a run is left: the supervisor hears of it.
    fn run_ended(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id) else {
            return;
        };
        // Before its cgroup goes, which counts it.
        let exit = service.run.as_ref().map(container::exit_of);
        let Some((run, exit)) = service.end_run(&self.sources).zip(exit) else {
            return;
        };
        let name = service.entry.name.clone();
        let how = run.failure.clone().unwrap_or_else(|| describe(exit));
        if service.role() == Some(Role::State) && self.state.is_preparing() {
            // The service goes on: now the partition is mounted.
            log!(Info, "{name}: the container {how}");
            service.last_exit = Some(how);
            service.run = Some(Run::without_process(run.number));
            return self.state_prepared();
        }
        let event = match run.failure {
            Some(reason) => Event::StartFailed {
                service: name,
                run: run.number,
                reason,
            },
            None => {
                service.last_exit = Some(how);
                Event::Exited {
                    service: name,
                    run: run.number,
                    exit,
                }
            }
        };
        self.feed(event);
        self.client_left(id);
        self.watch_activation(id);
    }

    /// Tells the supervisor where a client waits that the run which has just ended
    /// did not take.
    fn client_left(&mut self, id: Id) {
        let left = self.services.get(id).filter(|service| {
            self.is_on_demand(service) && listening::has_client(&service.sockets)
        });
        if let Some(service) = left.map(|service| service.entry.name.clone()) {
            self.feed(Event::Client {
                service,
                left: true,
            });
        }
    }

    /// Whether a client starts the service, which rests.
    fn is_on_demand(&self, service: &Service) -> bool {
        let state = self.supervisor.state(&service.entry.name);
        !service.entry.definition.policy.enabled
            && matches!(state, Some(State::Stopped | State::Ended))
    }

    /// A service says something of itself.
    ///
    /// A few at a time: what a service sends without a pause must not keep PID 1
    /// from everything else. The others are there at the loop's next turn.
    pub fn take_notifications(&mut self, id: Id) {
        for _ in 0..NOTIFICATIONS {
            let Some(service) = self.services.get_mut(id) else {
                return;
            };
            if foreign::is_clogged(id, &self.children) {
                service.is_muted = true;
                let (source, nothing) = (Source::Notify(id), EpollFlags::empty());
                self.sources.modify(&service.notify, source, nothing);
                return;
            }
            let Some(said) = service.hear(id) else {
                return;
            };
            let name = service.entry.name.clone();
            for notice in said.notices {
                self.notified(&name, said.run, notice);
            }
            if said.status {
                self.tell_watchers(name.as_str());
            }
        }
    }

    /// Listens again to the services whose descriptors have been closed meanwhile.
    pub fn unmute(&mut self) {
        for (id, service) in self.services.iter_mut() {
            if service.is_muted && !foreign::is_clogged(id, &self.children) {
                service.is_muted = false;
                let source = Source::Notify(id);
                self.sources
                    .modify(&service.notify, source, EpollFlags::EPOLLIN);
            }
        }
    }

    fn notified(&mut self, service: &ServiceName, run: u32, notice: Notice) {
        self.feed(Event::Notified {
            service: service.clone(),
            run,
            notice,
        });
    }

    /// A service that does not run has a client: the supervisor decides whether it
    /// is started or turns the client away.
    pub fn activate(&mut self, id: Id) {
        self.services.unwatch_activation(id, &self.sources);
        if let Some(service) = self.services.get(id) {
            let name = service.entry.name.clone();
            if self.is_on_demand(service) {
                log!(Info, "{name}: started on demand");
            }
            self.feed(Event::Client {
                service: name,
                left: false,
            });
            self.watch_activation(id);
        }
    }

    /// Watches the sockets of a service that is started on demand, and of one that
    /// has failed, where it has no run.
    pub fn watch_activation(&mut self, id: Id) {
        let is_idle = self.services.get(id).is_some_and(|service| {
            let state = self.supervisor.state(&service.entry.name);
            let has_failed = matches!(state, Some(State::Failed(_)));
            service.run.is_none() && (has_failed || self.is_on_demand(service))
        });
        if is_idle && self.ending.is_none() && self.supervisor.shutdown().is_none() {
            self.services.watch_activation(id, &self.sources);
        }
    }

    /// Closes what is held for services that the supervisor has forgotten.
    pub fn forget_removed(&mut self) {
        let supervisor = &self.supervisor;
        self.services
            .forget(&self.sources, |name| supervisor.service(name).is_some());
    }

    /// Reads the operator's definitions again, for the client of that number.
    pub fn reload(&mut self, client: Option<u32>) {
        let begun = self.state.reload(client, &self.sources, &mut self.children);
        if let Err(message) = begun {
            self.answer_later(client, &Reply::Refused(Refusal::Failed { message }));
        }
    }

    /// Answers a request whose answer had to wait.
    fn answer_later(&mut self, client: Option<u32>, reply: &Reply) {
        if let Some(client) = client {
            self.clients.reply(client, reply);
            self.clients.flush(client, machine::now(), &self.sources);
        }
    }

    /// The child that works on the state partition reports.
    pub fn take_state_reports(&mut self) {
        let news = self.state.take_reports(&self.sources);
        self.hear_of_state(news);
    }

    fn hear_of_state(&mut self, news: Vec<News>) {
        let mut complaints = Vec::new();
        for news in news {
            match news {
                News::Kept(kept) => self.machine.adopt(&kept),
                News::Definitions(readings) => complaints = self.take_definitions(readings),
                News::Reloaded(client) => {
                    let notes = std::mem::take(&mut complaints);
                    self.answer_later(client, &Reply::Done(Outcome { notes }));
                }
                News::ForThisBoot(client, reading) => self.take_for_boot(client, *reading),
                News::Unread(client, message) => {
                    let reply = Reply::Refused(Refusal::Failed { message });
                    self.answer_later(Some(client), &reply);
                }
                News::Prepare(preparation) => {
                    let arguments = preparation.arguments(self.cmdline.erase_state);
                    if let Err(reason) = self.prepare_state(&arguments) {
                        log!(Error, "state: the container cannot be started: {reason}");
                        self.state_prepared();
                    }
                }
                News::Ended => self.state_ended(),
            }
        }
    }

    /// Takes the operator's definitions, and drops the services whose folder is
    /// gone.
    fn take_definitions(&mut self, mut readings: Vec<Reading>) -> Vec<String> {
        let mut complaints = self.services.yield_to_this_boot(&mut readings);
        let gone = self.services.gone(&readings);
        complaints.extend(self.define(readings, true));
        for name in gone {
            log!(Info, "{name}: its definition is gone");
            self.feed(Event::Remove(name));
        }
        complaints
    }

    /// The definition that a client gave for this boot has been understood, or has
    /// not.
    fn take_for_boot(&mut self, client: u32, reading: Reading) {
        let service = reading.name.clone();
        let invalid = |message| Refusal::InvalidDefinition {
            service: service.clone(),
            message,
        };
        let result = match &reading.entry {
            Err(error) => Err(invalid(error.to_string())),
            Ok(_) => match self.define(vec![reading], true).into_iter().next() {
                Some(complaint) => {
                    // It is not the operator's: nothing of it is left.
                    self.services.forget_invalid(&service);
                    Err(invalid(complaint))
                }
                None => {
                    let id = self.services.find(&service);
                    if let Some(held) = id.and_then(|id| self.services.get_mut(id)) {
                        held.for_this_boot = true;
                    }
                    log!(Notice, "{service}: defined until the next boot");
                    Ok(Reply::Done(Outcome::default()))
                }
            },
        };
        let reply = result.unwrap_or_else(Reply::Refused);
        self.answer_later(Some(client), &reply);
    }

    /// Ends the machine, after a delay where someone has asked for one. Returns
    /// what it waits for, a sentence each.
    pub fn begin_shutdown(&mut self, shutdown: Shutdown) -> Vec<String> {
        // While the services stop, a second one only changes how it ends.
        let verdict = match self.supervisor.shutdown() {
            Some(_) => Verdict::Now,
            None => self.inhibitors.begin(shutdown, machine::now()),
        };
        let Verdict::Waits(waiting, connections) = verdict else {
            self.feed(Event::Shutdown(shutdown));
            return Vec::new();
        };
        let until_us = u64::try_from(waiting.until.as_micros()).unwrap_or(u64::MAX);
        for number in connections {
            self.answer_later(Some(number), &Reply::ShutdownWaits { until_us });
        }
        let limit = inhibit::LIMIT.as_secs();
        let note = |inhibitor| format!("waits up to {limit} s for {inhibitor}");
        self.inhibitors.all().map(note).collect()
    }

    /// Ends the machine where a delay is over, or whoever asked for it is gone.
    pub fn end_delay(&mut self) {
        for client in self.clients.take_closed() {
            self.inhibitors.release(client);
        }
        if let Some(shutdown) = self.inhibitors.due(machine::now()) {
            self.feed(Event::Shutdown(shutdown));
        }
    }

    /// Says on the console which services keep the machine from ending, and for how
    /// long at most.
    pub fn announce(&mut self) {
        let awaited = self.supervisor.awaited();
        if let Some(line) = self.announcements.due(machine::now(), awaited) {
            log!(Notice, "{line}");
            crate::console::say(&format!("wherry: {line}\n"));
        }
    }

    /// Starts the container of the service `state`, in its run.
    fn prepare_state(&mut self, arguments: &[String]) -> Result<(), String> {
        let state = self.services.with_role(Role::State);
        let (id, run) = state
            .and_then(|(id, service)| Some((id, service.run.as_ref()?.number)))
            .ok_or("it is not wanted any more")?;
        self.start_container(id, run, arguments)
    }

    fn state_prepared(&mut self) {
        let news = self.state.prepared(&self.sources, &mut self.children);
        self.hear_of_state(news);
    }

    /// The service `state` has done its work.
    fn state_ended(&mut self) {
        let id = self.services.with_role(Role::State).map(|(id, _)| id);
        if let Some(service) = id.and_then(|id| self.services.get_mut(id))
            && let Some(run) = service.run.take()
        {
            self.events.push_back(Event::Exited {
                service: service.entry.name.clone(),
                run: run.number,
                exit: Exit::Code(0),
            });
        }
        self.feed(Event::AllDefined);
    }

    /// Restarts the machine when nobody has confirmed the release in time.
    pub fn watch_trial(&mut self) {
        if self.supervisor.shutdown().is_some() {
            return;
        }
        let version = &self.machine.version;
        if let Some(reason) = self.trial.expire(machine::now(), version) {
            log!(
                Error,
                "{reason}: restarting, so that the boot loader can fall back"
            );
            crate::console::say(&format!("wherry: {reason}; restarting\n"));
            self.feed(Event::Shutdown(Shutdown::Reboot));
        }
    }
}
