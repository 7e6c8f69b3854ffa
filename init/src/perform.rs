//! What the supervisor asks for, done: containers started, signalled, killed
//! and probed, changes told.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use control::Reply;
use definition::Share;
use definition::spec::{self, Provided};
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use runtime::{Exec, ExecProcess, Setup, Start, Stdio};
use supervisor::{Action, Event, Notice, ServiceName, State};

use crate::init::Init;
use crate::kernel_log::log;
use crate::machine;
use crate::notify;
use crate::outputs::{self, LOG};
use crate::reap::Child;
use crate::service::{Id, Run, Service, notify_path};
use crate::source::Source;
use crate::state_partition::STATE;
use crate::{needs, sys};

impl Init {
    /// Does one thing. What fails comes back to the supervisor as an event.
    pub(crate) fn perform(&mut self, action: Action, now: Duration) {
        match action {
            Action::Start { service, run } => self.start(service, run),
            Action::Terminate { service, run } => {
                if let Some(id) = self.running(&service, run) {
                    self.terminate(id);
                }
            }
            Action::Kill { service, run } => {
                if let Some(id) = self.running(&service, run) {
                    self.kill(id);
                }
            }
            Action::Probe { service, run } => {
                let result = match self.running(&service, run) {
                    Some(id) => self.probe(id, run),
                    None => Err("it does not run".to_owned()),
                };
                if let Err(reason) = result {
                    log!(Warning, "{service}: cannot be probed: {reason}");
                    self.events.push_back(Event::Probed {
                        service,
                        run,
                        healthy: false,
                    });
                }
            }
            Action::CancelProbe { service, run } => {
                if let Some(id) = self.running(&service, run)
                    && let Some(service) = self.service_mut(id)
                    && let Some(pid) = service.probe.take()
                {
                    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                }
            }
            Action::Changed { service, state } => self.tell(&service, &state, now),
            Action::Settled { failed } => self.settle(&failed, now),
            Action::Finish(shutdown) => self.finish(shutdown, now),
        }
    }

    /// The place of a service whose current run has this number.
    fn running(&self, name: &ServiceName, run: u32) -> Option<Id> {
        let id = self.by_name(name.as_str())?;
        let current = self.service(id)?.run.as_ref()?.number;
        (current == run).then_some(id)
    }

    fn start(&mut self, name: ServiceName, run: u32) {
        let result = if name.as_str() == STATE {
            self.prepare_state(run)
        } else {
            match self.by_name(name.as_str()) {
                Some(id) => self.start_container(id, run, &[]),
                None => Err("its definition is gone".to_owned()),
            }
        };
        if let Err(reason) = result {
            self.events.push_back(Event::StartFailed {
                service: name,
                run,
                reason,
            });
        }
    }

    /// Starts a service's container; `arguments` are added to its command.
    ///
    /// # Errors
    /// What failed, on what.
    pub(crate) fn start_container(
        &mut self,
        id: Id,
        number: u32,
        arguments: &[String],
    ) -> Result<(), String> {
        let (prepared, resources) = self.prepare(id, arguments)?;
        let is_log = self
            .service(id)
            .is_some_and(|service| service.name() == LOG);
        let outputs = is_log.then(|| self.outputs.connect()).transpose()?;
        self.unwatch_activation(id);
        let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
            return Err("its definition is gone".to_owned());
        };
        let cgroup = runtime::cgroup::create(
            self.cgroups.as_fd(),
            service.entry.name.as_str(),
            &resources,
        )
        .map_err(|error| explain(&error))?;
        let (listen, names) = descriptors(service, outputs.as_ref());
        let mut env = Vec::new();
        if !names.is_empty() {
            env.push(format!("LISTEN_FDNAMES={}", names.join(":")));
        }
        let started = prepared
            .start(Start {
                cgroup: Some(cgroup.fd()),
                stdio: Stdio {
                    stdin: self.null.as_fd(),
                    stdout: service.output.write.as_fd(),
                    stderr: service.output.write.as_fd(),
                },
                listen: &listen,
                passed: &[],
                env: &env,
                lifecycle: None,
            })
            .map_err(|error| explain(&error))?;
        let watched = self
            .sources
            .add(&started.setup, Source::Setup(id), EpollFlags::EPOLLIN);
        service.prepared = Some(prepared);
        service.run = Some(Run {
            number,
            process: Some((started.pid, started.pidfd)),
            setup: Some(started.setup),
            cgroup: Some(cgroup),
            remains: None,
            remains_until: None,
            failure: None,
            exit: None,
        });
        self.children.insert(started.pid, Child::Service(id));
        if let Err(error) = watched {
            log!(Error, "{error}");
        }
        if is_log {
            if let Some(socket) = self.outputs.socket() {
                self.sources
                    .add(socket, Source::Outputs, EpollFlags::empty())?;
            }
            let all: Vec<(String, &OwnedFd)> = self
                .services
                .iter()
                .flatten()
                .map(|service| (service.name().to_owned(), &service.output.read))
                .collect();
            for (name, pipe) in all {
                self.outputs.hand_over(&name, pipe);
            }
            self.flush_outputs();
        }
        Ok(())
    }

    /// Checks a service's definition against the machine as it is now.
    ///
    /// # Errors
    /// What the machine or the runtime cannot give it.
    fn prepare(
        &self,
        id: Id,
        arguments: &[String],
    ) -> Result<(runtime::Prepared, LinuxResources), String> {
        let service = self.service(id).ok_or("its definition is gone")?;
        let mut definition = service.entry.definition.clone();
        definition.command.extend_from_slice(arguments);
        let devices = needs::devices(&definition, self.state_partition.disk())?;
        let mounts = needs::mounts(&definition)?;
        let spec = spec::build(
            service.name(),
            &definition,
            Provided {
                root: &service.entry.root,
                notify: &notify_path(service.name()),
                mounts: &mounts,
                devices: &devices,
                seccomp: runtime::default_seccomp(&definition.capabilities),
            },
        )
        .map_err(|error| error.to_string())?;
        let prepared = runtime::prepare(&spec).map_err(|error| explain(&error))?;
        let resources = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().clone())
            .unwrap_or_default();
        Ok((prepared, resources))
    }

    /// Prepares a service that runs since before this program did, for its
    /// probes.
    pub(crate) fn prepare_again(&mut self, id: Id) {
        let is_probed = self.service(id).is_some_and(|service| {
            service.run.is_some() && service.entry.definition.probe.is_some()
        });
        if !is_probed {
            return;
        }
        match self.prepare(id, &[]) {
            Ok((prepared, _)) => {
                if let Some(service) = self.service_mut(id) {
                    service.prepared = Some(prepared);
                }
            }
            Err(reason) => {
                if let Some(service) = self.service(id) {
                    log!(Error, "{}: cannot be probed: {reason}", service.name());
                }
            }
        }
    }

    /// A container reports on its set-up.
    pub(crate) fn take_setup(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
            return;
        };
        let name = service.entry.name.clone();
        let Some(run) = &mut service.run else {
            return;
        };
        let Some(setup) = &run.setup else {
            return;
        };
        let outcome = runtime::setup_outcome(setup.as_fd());
        // The others are for containers that are created first and started later.
        if let Ok(Setup::Pending | Setup::Environment | Setup::Created) = outcome {
            return;
        }
        self.sources.remove(setup);
        run.setup = None;
        match outcome {
            Ok(Setup::Executed) => {
                let run = run.number;
                self.boot.executed(name.as_str(), machine::now());
                self.feed(Event::Executed { service: name, run });
            }
            // The process ends by itself; then the supervisor hears why.
            Ok(Setup::Failed(error)) => run.failure = Some(error.to_string()),
            Err(error) => run.failure = Some(explain(&error)),
            Ok(Setup::Pending | Setup::Environment | Setup::Created) => {}
        }
    }

    fn terminate(&mut self, id: Id) {
        let Some(service) = self.service(id) else {
            return;
        };
        let signal = service.entry.definition.stop_signal.0;
        let Some((pid, pidfd)) = service.run.as_ref().and_then(|run| run.process.as_ref()) else {
            return self.cancel_job();
        };
        // The first process of a pid namespace is not ended by a signal that it
        // has no handler for (pid_namespaces(7)). Elsewhere it would be, and
        // there is nothing to wait for.
        if service.entry.definition.pid == Share::Private && is_deaf(*pid, signal) {
            self.kill(id);
            return;
        }
        if let Err(error) = sys::signal_process(pidfd.as_fd(), signal) {
            log!(Warning, "{}: cannot send {signal}: {error}", service.name());
        }
    }

    fn kill(&mut self, id: Id) {
        let Some(service) = self.service(id) else {
            return;
        };
        let Some(run) = &service.run else {
            return;
        };
        if let Some(cgroup) = &run.cgroup
            && let Err(error) = cgroup.kill()
        {
            log!(Error, "{}: {}", service.name(), explain(&error));
        }
        if let Some((_, pidfd)) = &run.process {
            let _ = sys::signal_process(pidfd.as_fd(), Signal::SIGKILL);
        }
    }

    fn probe(&mut self, id: Id, number: u32) -> Result<(), String> {
        let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
            return Err("its definition is gone".to_owned());
        };
        let command = service
            .entry
            .definition
            .probe
            .clone()
            .ok_or("it has no probe")?;
        let run = service.run.as_ref().ok_or("it does not run")?;
        if run.setup.is_some() {
            // Until its program runs, the container still sees the machine's root.
            return Err("its container is being set up".to_owned());
        }
        let (_, pidfd) = run.process.as_ref().ok_or("it has no process")?;
        let cgroup = run.cgroup.as_ref().ok_or("it has no cgroup")?;
        let prepared = service.prepared.as_ref().ok_or("it is not prepared")?;
        let process = ExecProcess {
            args: command,
            env: Vec::new(),
            cwd: None,
        };
        let stdio = Stdio {
            stdin: self.null.as_fd(),
            stdout: service.output.write.as_fd(),
            stderr: service.output.write.as_fd(),
        };
        let exec = Exec {
            cgroup: Some(cgroup.fd()),
            stdio,
            passed: &[],
            console: None,
            listener: None,
            keep_keyring: false,
        };
        let started = prepared
            .exec(&process)
            .and_then(|prepared| prepared.start(pidfd.as_fd(), exec))
            .map_err(|error| explain(&error))?;
        // Its exit says all: where its program cannot be executed, that is 127.
        service.probe = Some(started.pid);
        self.children.insert(started.pid, Child::Probe(id, number));
        Ok(())
    }

    /// Reads what a service says of itself.
    pub(crate) fn take_notifications(&mut self, id: Id) {
        loop {
            let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
                return;
            };
            let Some((message, received)) = notify::receive(service.notify.as_fd()) else {
                return;
            };
            let Some(run) = service.run.as_ref().map(|run| run.number) else {
                continue;
            };
            if let Some(status) = &message.status {
                service.status.clone_from(status);
            }
            let descriptor_name = message.name.clone().unwrap_or_else(|| "stored".to_owned());
            if message.remove {
                service.stored.retain(|(name, _)| *name != descriptor_name);
            }
            if message.store {
                for descriptor in received {
                    if service.stored.len() < service.entry.definition.stored_descriptors as usize {
                        service.stored.push((descriptor_name.clone(), descriptor));
                    } else {
                        log!(
                            Warning,
                            "{}: may store {} descriptors and has; another one is dropped \
                             (key stored-descriptors)",
                            service.entry.name,
                            service.entry.definition.stored_descriptors
                        );
                    }
                }
            }
            let name = service.entry.name.clone();
            for (said, notice) in [
                (message.ready, Notice::Ready),
                (message.reloading, Notice::Reloading),
                (message.stopping, Notice::Stopping),
                (message.watchdog, Notice::Watchdog),
            ] {
                if said {
                    self.feed(Event::Notified {
                        service: name.clone(),
                        run,
                        notice,
                    });
                }
            }
            if message.status.is_some() {
                self.tell_watchers(name.as_str());
            }
        }
    }

    /// A service that is started on demand has a client.
    pub(crate) fn activate(&mut self, id: Id) {
        self.unwatch_activation(id);
        if let Some(service) = self.service(id) {
            let name = service.entry.name.clone();
            log!(Info, "{name}: started on demand");
            self.feed(Event::Start(name));
        }
    }

    pub(crate) fn unwatch_activation(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
            return;
        };
        if std::mem::take(&mut service.activation) {
            for socket in &service.sockets {
                self.sources.remove(socket);
            }
        }
    }

    /// Watches the sockets of a service that is started on demand and does not
    /// run.
    pub(crate) fn watch_activation(&mut self, id: Id) {
        let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
            return;
        };
        let on_demand = !service.entry.definition.policy.enabled && !service.sockets.is_empty();
        let idle = matches!(
            self.supervisor.state(&service.entry.name),
            Some(State::Stopped | State::Ended)
        );
        if on_demand && idle && !service.activation && self.ending.is_none() {
            service.activation = true;
            for socket in &service.sockets {
                let _ = self
                    .sources
                    .add(socket, Source::Activation(id), EpollFlags::EPOLLIN);
            }
        }
    }

    fn tell(&mut self, name: &ServiceName, state: &State, now: Duration) {
        self.boot.changed(name.as_str(), state, now);
        match state {
            State::Failed(_) => log!(Error, "{name}: {state}"),
            State::Backoff { .. } => {
                let why = self
                    .supervisor
                    .service(name)
                    .and_then(|service| service.failure().map(ToString::to_string))
                    .unwrap_or_default();
                log!(Warning, "{name}: {why}; it is started again");
            }
            State::Stopped
            | State::Waiting { .. }
            | State::Starting
            | State::Ready
            | State::Stopping
            | State::Ended => log!(Info, "{name}: {state}"),
        }
        self.tell_watchers(name.as_str());
        if let (State::Stopped, Some(id)) = (state, self.by_name(name.as_str())) {
            self.watch_activation(id);
        }
    }

    /// Sends a service's line to everyone who watches.
    pub(crate) fn tell_watchers(&mut self, name: &str) {
        if !self.connections.has_watchers() {
            return;
        }
        if let Some(line) = self.line(name) {
            for client in self.connections.tell_watchers(&Reply::Changed(line)) {
                self.flush_client(client);
            }
        }
    }

    fn settle(&mut self, failed: &[ServiceName], now: Duration) {
        self.settled = true;
        let (kernel, services) = self.boot.settled(now);
        let mut problems: Vec<String> = self.degraded.clone();
        problems.extend(failed.iter().map(|name| match self.supervisor.state(name) {
            Some(state) => format!("{name}: {state}"),
            None => name.to_string(),
        }));
        problems.extend(self.invalid.values().map(|(error, _)| error.to_string()));
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
                "cannot let go of the code that booting needed: {error}"
            );
        }
    }
}

/// The descriptors that a service starts with, from 3 on, and their names.
fn descriptors<'a>(
    service: &'a Service,
    outputs: Option<&'a OwnedFd>,
) -> (Vec<BorrowedFd<'a>>, Vec<String>) {
    let mut listen = Vec::new();
    let mut names = Vec::new();
    if let Some(outputs) = outputs {
        listen.push(outputs.as_fd());
        names.push(outputs::NAME.to_owned());
    }
    for (socket, wanted) in service
        .sockets
        .iter()
        .zip(&service.entry.definition.sockets)
    {
        listen.push(socket.as_fd());
        names.push(wanted.name().to_owned());
    }
    for (name, stored) in &service.stored {
        listen.push(stored.as_fd());
        names.push(name.clone());
    }
    (listen, names)
}

/// Whether the process neither handles nor blocks nor ignores the signal, nor
/// waits for it: its lines of `/proc/PID/status` are masks with bit 0 for
/// signal 1.
fn is_deaf(pid: Pid, signal: Signal) -> bool {
    // While a process waits in sigwait(3), the kernel takes the signals that it
    // waits for out of the mask of blocked ones (signal.c, do_sigtimedwait).
    let waits = fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|line| {
        line.split(' ').next() == Some(&nix::libc::SYS_rt_sigtimedwait.to_string())
    });
    if waits {
        return false;
    }
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let bit = 1u64 << (signal as u32 - 1);
    ["SigBlk:", "SigIgn:", "SigCgt:"].iter().all(|key| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & bit == 0)
    })
}

/// An error with its causes, in one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_handlers_is_deaf() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        // Until exec, the child has this process's mask.
        while !fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap()
            .starts_with("sleep")
        {
            std::thread::yield_now();
        }
        assert!(is_deaf(pid, Signal::SIGTERM));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
