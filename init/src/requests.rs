//! The control socket's requests, answered.

use std::fs;
use std::time::Duration;

use control::{
    Disk, Health, Inhibitor, Memory, Outcome, Phase, Refusal, Reply, Request, ServiceDetail,
    ServiceState, Slot, Status, Storage, StorageState,
};
use nix::sys::epoll::EpollFlags;
use supervisor::{Event, ServiceName, Shutdown, State};

use crate::catalog::Reading;
use crate::inhibit::{self, Verdict};
use crate::init::Init;
use crate::kernel_log::log;
use crate::machine;
use crate::mount::SERVICES;
use crate::service::Service;
use crate::source::Source;
use crate::state_partition::{Mounted, STATE};
use crate::watchdog::Watchdog;

impl Init {
    /// Takes the clients that wait.
    pub(crate) fn accept(&mut self) {
        while let Some(number) = self.connections.accept() {
            let watched = match self.connections.get_mut(number) {
                Some(client) => self.sources.add(
                    client.stream(),
                    Source::Connection(number),
                    EpollFlags::EPOLLIN,
                ),
                None => continue,
            };
            if let Err(error) = watched {
                log!(Error, "{error}");
                self.connections.close(number);
                continue;
            }
            // The first frame, which is the same for all.
            self.flush_client(number);
        }
        if !self.connections.has_room() {
            // The others wait in the kernel until one goes.
            self.sources.modify(
                self.connections.listener(),
                Source::Listener,
                EpollFlags::empty(),
            );
        }
    }

    /// A client has sent something, or takes something.
    pub(crate) fn serve(&mut self, number: u32, flags: EpollFlags) {
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            let requests = match self.connections.get_mut(number) {
                Some(client) => client.read(),
                None => return,
            };
            for request in requests {
                let may_change = self
                    .connections
                    .get_mut(number)
                    .is_some_and(|client| client.may_change());
                let reply = if may_change || request.is_read_only() {
                    self.answer(request, number)
                } else {
                    Some(Reply::Refused(Refusal::NotPermitted))
                };
                if let (Some(reply), Some(client)) = (reply, self.connections.get_mut(number)) {
                    client.reply(&reply);
                }
            }
        }
        self.flush_client(number);
    }

    /// Sends what waits for a client, and lets it go when it is done with.
    pub(crate) fn flush_client(&mut self, number: u32) {
        let Some(client) = self.connections.get_mut(number) else {
            return;
        };
        if client.flush() {
            self.sources.remove(client.stream());
            self.connections.close(number);
            self.inhibitors.release(number);
            self.sources.modify(
                self.connections.listener(),
                Source::Listener,
                EpollFlags::EPOLLIN,
            );
            return;
        }
        let mut wanted = EpollFlags::EPOLLIN;
        if client.has_outgoing() {
            wanted |= EpollFlags::EPOLLOUT;
        }
        self.sources
            .modify(client.stream(), Source::Connection(number), wanted);
    }

    /// The answer to a request; `None` where it comes later.
    fn answer(&mut self, request: Request, client: u32) -> Option<Reply> {
        let result = match request {
            Request::Status => Ok(Reply::Status(Box::new(self.status()))),
            Request::Show { service } => self.show(&service),
            Request::Start { service } => self.order(&service, Event::Start),
            Request::Stop { service } => self.order(&service, Event::Stop),
            Request::Restart { service } => self.order(&service, Event::Restart),
            Request::Reload => {
                self.reload(Some(client));
                return None;
            }
            Request::Boot => Ok(Reply::Boot(self.boot.reply(&self.machine.version))),
            Request::Watch => {
                self.begin_watch(client);
                return None;
            }
            Request::Define {
                service,
                text,
                root,
            } => match self.define_for_boot(client, service, text, root) {
                Ok(()) => return None,
                Err(refusal) => Err(refusal),
            },
            Request::Remove { service } => self.remove_for_boot(&service),
            Request::SetHostname { hostname } => self.set_hostname(hostname),
            Request::Inhibit { who, why, mode } => {
                self.inhibit(client, Inhibitor { who, why, mode })
            }
            Request::Poweroff => self.shut_down(Shutdown::Poweroff),
            Request::Reboot => self.shut_down(Shutdown::Reboot),
            Request::Halt => self.shut_down(Shutdown::Halt),
            Request::ForceShutdown { shutdown } => Ok(self.force_shutdown(shutdown)),
            Request::Reexec => self.ask_reexec(),
            Request::ConfirmBoot => {
                self.confirm_boot();
                Ok(Reply::Done(Outcome::default()))
            }
            Request::ExtendTrial { until_us } => {
                self.extend_trial(Duration::from_micros(until_us));
                Ok(Reply::Done(Outcome::default()))
            }
        };
        Some(result.unwrap_or_else(Reply::Refused))
    }

    fn order(
        &mut self,
        name: &str,
        event: impl FnOnce(ServiceName) -> Event,
    ) -> Result<Reply, Refusal> {
        if self.supervisor.shutdown().is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let service = self.known(name)?.entry.name.clone();
        if name == STATE {
            return Err(Refusal::Failed {
                message: "the state partition is mounted once, at boot; restart the machine to mount it anew"
                    .to_owned(),
            });
        }
        self.feed(event(service));
        Ok(Reply::Done(Outcome::default()))
    }

    fn known(&self, name: &str) -> Result<&Service, Refusal> {
        if let Some(service) = self.by_name(name).and_then(|id| self.service(id)) {
            return Ok(service);
        }
        Err(match self.invalid.get(name) {
            Some((error, _)) => Refusal::InvalidDefinition {
                service: name.to_owned(),
                message: error.to_string(),
            },
            None => Refusal::UnknownService {
                service: name.to_owned(),
            },
        })
    }

    fn shut_down(&mut self, shutdown: Shutdown) -> Result<Reply, Refusal> {
        if self.supervisor.shutdown().is_none()
            && let Verdict::Blocked(by) = self.inhibitors.ask(shutdown, machine::now())
        {
            return Err(Refusal::Inhibited { by });
        }
        log!(Notice, "asked to end the machine: {shutdown:?}");
        let notes = self.begin_shutdown(shutdown);
        Ok(Reply::Done(Outcome { notes }))
    }

    fn force_shutdown(&mut self, shutdown: control::Shutdown) -> Reply {
        let shutdown = match shutdown {
            control::Shutdown::Poweroff => Shutdown::Poweroff,
            control::Shutdown::Reboot => Shutdown::Reboot,
            control::Shutdown::Halt => Shutdown::Halt,
        };
        log!(Notice, "asked to end the machine by force: {shutdown:?}");
        self.inhibitors.cancel();
        self.feed(Event::Shutdown(shutdown));
        Reply::Done(Outcome::default())
    }

    /// Ends the machine, after a delay where someone has asked for one. Returns
    /// what it waits for, a sentence each.
    pub(crate) fn begin_shutdown(&mut self, shutdown: Shutdown) -> Vec<String> {
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
            if let Some(connection) = self.connections.get_mut(number) {
                connection.reply(&Reply::ShutdownWaits { until_us });
            }
            self.flush_client(number);
        }
        let limit = inhibit::LIMIT.as_secs();
        let note = |inhibitor| format!("waits up to {limit} s for {inhibitor}");
        self.inhibitors.all().map(note).collect()
    }

    /// Ends the machine where a delay is over.
    pub(crate) fn end_delay(&mut self) {
        if let Some(shutdown) = self.inhibitors.due(machine::now()) {
            self.feed(Event::Shutdown(shutdown));
        }
    }

    fn inhibit(&mut self, client: u32, inhibitor: Inhibitor) -> Result<Reply, Refusal> {
        if self.supervisor.shutdown().is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let said = format!("a shutdown is inhibited by {inhibitor}");
        self.inhibitors
            .hold(client, inhibitor)
            .map_err(|message| Refusal::Failed { message })?;
        log!(Info, "{said}");
        Ok(Reply::Done(Outcome::default()))
    }

    fn set_hostname(&mut self, hostname: String) -> Result<Reply, Refusal> {
        if !machine::is_hostname(&hostname) {
            let message =
                format!("'{hostname}' is not a host name: 1 to 63 letters, digits and '-'");
            return Err(Refusal::Failed { message });
        }
        nix::unistd::sethostname(&hostname).map_err(|error| Refusal::Failed {
            message: format!("cannot set the host name: {}", error.desc()),
        })?;
        self.machine.hostname = hostname;
        Ok(Reply::Done(Outcome::default()))
    }

    /// Has a child understand a definition, since its root may be on a disk; the
    /// answer comes when it has.
    fn define_for_boot(
        &mut self,
        client: u32,
        service: String,
        text: String,
        root: Option<String>,
    ) -> Result<(), Refusal> {
        if self.supervisor.shutdown().is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let other = match self.by_name(&service).and_then(|id| self.service(id)) {
            Some(known) => !known.for_this_boot,
            None => self.invalid.contains_key(&service),
        };
        let refused = |message| Refusal::Failed { message };
        if other {
            return Err(refused(format!(
                "there is a service '{service}' already; give this one another name"
            )));
        }
        self.read_for_boot(client, service, text, root)
            .map_err(refused)
    }

    /// The definition has been understood, or has not.
    pub(crate) fn take_for_boot(&mut self, client: u32, reading: Reading) {
        let service = reading.name.clone();
        let invalid = |message| Refusal::InvalidDefinition {
            service: service.clone(),
            message,
        };
        let result = match &reading.entry {
            Err(error) => Err(invalid(error.to_string())),
            Ok(_) => match self.define(vec![reading], true).first() {
                Some(complaint) => {
                    // It is not the operator's: nothing of it is left.
                    self.invalid.remove(&service);
                    Err(invalid(complaint.clone()))
                }
                None => {
                    if let Some(id) = self.by_name(&service)
                        && let Some(service) = self.service_mut(id)
                    {
                        service.for_this_boot = true;
                    }
                    log!(Notice, "{service}: defined until the next boot");
                    Ok(Vec::new())
                }
            },
        };
        self.answer_later(
            client,
            match result {
                Ok(notes) => Reply::Done(Outcome { notes }),
                Err(refusal) => Reply::Refused(refusal),
            },
        );
    }

    fn remove_for_boot(&mut self, name: &str) -> Result<Reply, Refusal> {
        let service = self.known(name)?;
        if !service.for_this_boot {
            return Err(Refusal::Failed {
                message: format!(
                    "'{name}' was not defined by `wherry service define`: an operator's service goes with its folder"
                ),
            });
        }
        let name = service.entry.name.clone();
        log!(Notice, "{name}: removed");
        self.feed(Event::Remove(name));
        Ok(Reply::Done(Outcome::default()))
    }

    fn ask_reexec(&mut self) -> Result<Reply, Refusal> {
        if self.state_partition.is_busy()
            || self.trial.is_busy()
            || self.ending.is_some()
            || self.inhibitors.is_waiting()
        {
            return Err(Refusal::Failed {
                message: "PID 1 is busy with a child or a shutdown; try again in a moment"
                    .to_owned(),
            });
        }
        self.reexec_wanted = true;
        Ok(Reply::Done(Outcome::default()))
    }

    /// The definitions have been read again.
    pub(crate) fn answer_reload(
        &mut self,
        client: Option<u32>,
        result: Result<Vec<String>, String>,
    ) {
        let Some(client) = client else {
            return;
        };
        let reply = match result {
            Ok(notes) => Reply::Done(Outcome { notes }),
            Err(message) => Reply::Refused(Refusal::Failed { message }),
        };
        self.answer_later(client, reply);
    }

    /// Answers a request whose answer had to wait.
    pub(crate) fn answer_later(&mut self, client: u32, reply: Reply) {
        if let Some(connection) = self.connections.get_mut(client) {
            connection.reply(&reply);
        }
        self.flush_client(client);
    }

    fn begin_watch(&mut self, client: u32) {
        let lines = self.lines();
        if let Some(connection) = self.connections.get_mut(client) {
            connection.watches = true;
            for line in lines {
                connection.reply(&Reply::Changed(line));
            }
        }
    }

    fn lines(&self) -> Vec<control::Service> {
        let mut lines: Vec<control::Service> = self
            .services
            .iter()
            .flatten()
            .map(|service| self.service_line(service))
            .collect();
        lines.extend(
            self.invalid
                .iter()
                // One that runs under an older definition is listed as it runs.
                .filter(|(name, _)| self.by_name(name).is_none())
                .map(|(name, (error, operator))| control::Service {
                    name: name.clone(),
                    description: String::new(),
                    state: ServiceState::Invalid,
                    since_us: 0,
                    detail: error.to_string(),
                    health: Health::Unknown,
                    pid: None,
                    restarts: 0,
                    memory: None,
                    essential: false,
                    operator: *operator,
                    for_this_boot: false,
                }),
        );
        lines.sort_by(|a, b| a.name.cmp(&b.name));
        lines
    }

    /// One service's line.
    pub(crate) fn line(&self, name: &str) -> Option<control::Service> {
        let service = self.service(self.by_name(name)?)?;
        Some(self.service_line(service))
    }

    fn service_line(&self, service: &Service) -> control::Service {
        let supervised = self.supervisor.service(&service.entry.name);
        let state = supervised.map_or(State::Stopped, supervisor::Service::state);
        let run = service.run.as_ref();
        let detail = match &state {
            State::Waiting { .. } | State::Failed(_) => state.to_string(),
            State::Backoff { .. } => supervised
                .and_then(|supervised| supervised.failure().map(ToString::to_string))
                .unwrap_or_default(),
            State::Stopped | State::Starting | State::Ready | State::Stopping | State::Ended => {
                service.status.clone()
            }
        };
        let detail = match self.invalid.get(service.name()) {
            Some((error, _)) => format!("runs under an older definition; {error}"),
            None => detail,
        };
        control::Service {
            name: service.name().to_owned(),
            description: service.entry.definition.description.clone(),
            state: wire_state(&state),
            since_us: supervised.map_or(0, |supervised| {
                u64::try_from(supervised.since().as_micros()).unwrap_or(u64::MAX)
            }),
            detail,
            health: match supervised.and_then(supervisor::Service::healthy) {
                None => Health::Unknown,
                Some(true) => Health::Healthy,
                Some(false) => Health::Unhealthy,
            },
            pid: run
                .and_then(|run| run.process.as_ref())
                .and_then(|(pid, _)| u32::try_from(pid.as_raw()).ok()),
            restarts: supervised.map_or(0, supervisor::Service::restarts),
            memory: run
                .and_then(|run| run.cgroup.as_ref())
                .and_then(|cgroup| cgroup.memory_current().ok()),
            essential: service.entry.definition.policy.essential,
            operator: service.operator,
            for_this_boot: service.for_this_boot,
        }
    }

    fn show(&self, name: &str) -> Result<Reply, Refusal> {
        let service = self.known(name)?;
        let own = &service.entry.name;
        let policy = self.supervisor.policy(own);
        let names = |set: Option<&std::collections::BTreeSet<ServiceName>>| {
            set.into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let stats = service
            .run
            .as_ref()
            .and_then(|run| run.cgroup.as_ref())
            .and_then(|cgroup| cgroup.stats().ok());
        Ok(Reply::Service(Box::new(ServiceDetail {
            service: self.service_line(service),
            definition: service.entry.path.clone(),
            text: service.entry.text.clone(),
            requires: names(policy.map(|policy| &policy.requires)),
            after: names(policy.map(|policy| &policy.after)),
            required_by: self
                .supervisor
                .services()
                .filter(|other| other.policy().requires.contains(own))
                .map(|other| other.name().to_string())
                .collect(),
            cgroup: format!("/{SERVICES}/{own}"),
            tasks: stats.map(|stats| stats.pids),
            cpu_us: stats.map(|stats| stats.cpu_usec),
            last_exit: service.last_exit.clone(),
            stored_descriptors: u32::try_from(service.stored.len()).unwrap_or(u32::MAX),
        })))
    }

    fn status(&self) -> Status {
        let lines = self.lines();
        let mut degraded = self.degraded.clone();
        degraded.extend(
            lines
                .iter()
                .filter(|line| matches!(line.state, ServiceState::Failed | ServiceState::Invalid))
                .map(|line| match line.state {
                    ServiceState::Invalid => line.detail.clone(),
                    _ => format!("{}: {}", line.name, line.detail),
                }),
        );
        let phase = if self.supervisor.shutdown().is_some() {
            Phase::Stopping
        } else if !degraded.is_empty() {
            Phase::Degraded
        } else if self.settled {
            Phase::Ready
        } else {
            Phase::Booting
        };
        let machine = &self.machine;
        Status {
            machine: control::Machine {
                system: machine.system.clone(),
                version: machine.version.clone(),
                slot: machine.slot.as_deref().and_then(Slot::from_letter),
                root_hash: self.cmdline.root_hash.clone(),
                kernel: machine.kernel.clone(),
                hostname: machine.hostname.clone(),
                machine_id: machine.machine_id.clone(),
                boot_id: machine.boot_id.clone(),
                uptime_us: u64::try_from(machine::now().as_micros()).unwrap_or(u64::MAX),
                phase,
                degraded,
                reexecuted: self.reexecuted,
                trial: self.trial.waiting.as_ref().map(|waiting| control::Trial {
                    entry: waiting.entry.clone(),
                    until_us: u64::try_from(waiting.until.as_micros()).unwrap_or(u64::MAX),
                }),
                watchdog_reset: self.watchdog.as_ref().is_some_and(Watchdog::has_reset),
            },
            memory: memory(),
            storage: self.storage(),
            inhibitors: self.inhibitors.all().cloned().collect(),
            services: lines,
        }
    }

    fn storage(&self) -> Storage {
        let (state, device) = match &self.state_partition.mounted {
            Mounted::Pending => (StorageState::Pending, None),
            Mounted::Persistent { device } => (StorageState::Persistent, Some(device.clone())),
            Mounted::Volatile => (StorageState::Volatile, None),
        };
        let disk = (self.state_partition.mounted != Mounted::Pending)
            .then(|| nix::sys::statvfs::statvfs(crate::storage::STATE).ok())
            .flatten()
            .map(|space| Disk {
                total: space.blocks() * space.fragment_size(),
                available: space.blocks_available() * space.fragment_size(),
            });
        Storage {
            state,
            device,
            disk,
            notes: self.state_partition.notes.clone(),
        }
    }
}

fn wire_state(state: &State) -> ServiceState {
    match state {
        State::Stopped => ServiceState::Stopped,
        State::Waiting { .. } => ServiceState::Waiting,
        State::Starting => ServiceState::Starting,
        State::Ready => ServiceState::Ready,
        State::Stopping => ServiceState::Stopping,
        State::Backoff { .. } => ServiceState::Backoff,
        State::Ended => ServiceState::Ended,
        State::Failed(_) => ServiceState::Failed,
    }
}

/// The kernel gives sizes in KiB.
fn memory() -> Memory {
    let information = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    Memory {
        total: kib(&information, "MemTotal:") << 10,
        available: kib(&information, "MemAvailable:") << 10,
        free: kib(&information, "MemFree:") << 10,
        init_private: (kib(&own, "Private_Clean:") + kib(&own, "Private_Dirty:")) << 10,
    }
}

fn kib(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_sizes_are_read_in_kib() {
        let text = "MemTotal:         512 kB\nMemFree:            7 kB\n";
        assert_eq!(kib(text, "MemFree:"), 7);
        assert_eq!(kib(text, "MemAvailable:"), 0);
        assert!(memory().total > 0);
    }
}
