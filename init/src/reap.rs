//! Ended children: services' first processes, probes, the child at work, and
//! orphans of all of them.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use supervisor::{Event, Exit};

use crate::init::Init;
use crate::kernel_log::log;
use crate::machine;
use crate::service::{Id, Run};
use crate::source::Source;
use crate::state_partition::STATE;

/// A child that PID 1 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Child {
    /// The first process of a service's container.
    Service(Id),
    /// A probe of a service's health in one run.
    Probe(Id, u32),
    /// The child at work.
    Job,
    /// The child that reads the boot loader's count.
    Trial,
}

/// How many ended children are reaped before PID 1 looks at anything else.
const BATCH: usize = 1024;

/// How long the rest of a container may take to end after its first process,
/// once it is killed. A process that is not gone by then hangs in the kernel.
const REMAINS: Duration = Duration::from_secs(5);

impl Init {
    /// Reaps what has ended. A SIGCHLD stands for any number of children.
    pub(crate) fn reap(&mut self) {
        for _ in 0..BATCH {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => continue,
            };
            self.ended(pid, exit);
        }
        // More are left: the signal is raised anew, so that the loop comes back
        // after it has looked at everything else.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGCHLD);
    }

    fn ended(&mut self, pid: Pid, exit: Exit) {
        match self.children.remove(&pid) {
            None => {} // an orphan
            Some(Child::Service(id)) => self.first_process_ended(id, exit),
            Some(Child::Probe(id, run)) => self.probe_ended(id, run, pid, exit),
            Some(Child::Job) => self.job_ended(exit),
            Some(Child::Trial) => self.trial_child_ended(),
        }
    }

    fn probe_ended(&mut self, id: Id, run: u32, pid: Pid, exit: Exit) {
        let Some(service) = self.service_mut(id) else {
            return;
        };
        if service.probe != Some(pid) {
            return; // cancelled
        }
        service.probe = None;
        let service = service.entry.name.clone();
        self.events.push_back(Event::Probed {
            service,
            run,
            healthy: exit.is_success(),
        });
        self.feed(Event::Tick);
    }

    fn first_process_ended(&mut self, id: Id, exit: Exit) {
        // What the container reported before it ended comes first.
        self.take_setup(id);
        let now = machine::now();
        let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(run) = &mut service.run else {
            return;
        };
        run.exit = Some(exit);
        let populated = run
            .cgroup
            .as_ref()
            .is_some_and(|cgroup| cgroup.populated().unwrap_or(false));
        if populated && let Some(cgroup) = &run.cgroup {
            let _ = cgroup.kill();
            if let Ok(remains) = cgroup.events()
                && self
                    .sources
                    .add(&remains, Source::Cgroup(id), EpollFlags::EPOLLPRI)
                    .is_ok()
                && cgroup.populated().unwrap_or(false)
            {
                run.remains = Some(remains);
                run.remains_until = Some(now + REMAINS);
                return;
            }
        }
        self.run_ended(id);
    }

    /// The population of a cgroup changed whose first process has ended.
    pub(crate) fn take_cgroup_event(&mut self, id: Id) {
        let gone = self
            .service(id)
            .and_then(|service| service.run.as_ref())
            .and_then(|run| run.cgroup.as_ref())
            .is_some_and(|cgroup| !cgroup.populated().unwrap_or(false));
        if gone {
            self.run_ended(id);
        }
    }

    /// Ends the runs whose rest has not ended in time.
    pub(crate) fn give_up_remains(&mut self) {
        let now = machine::now();
        let late: Vec<Id> = (0..)
            .zip(&self.services)
            .filter_map(|(id, service)| {
                let until = service.as_ref()?.run.as_ref()?.remains_until?;
                (until <= now).then_some(id)
            })
            .collect();
        for id in late {
            if let Some(service) = self.service(id) {
                log!(
                    Error,
                    "{}: processes are left that cannot be killed",
                    service.name()
                );
            }
            self.run_ended(id);
        }
    }

    /// Nothing of a run is left: the supervisor hears of it.
    pub(crate) fn run_ended(&mut self, id: Id) {
        let preparing = self.is_preparing();
        let Some(service) = self.services.get_mut(id as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(mut run) = service.run.take() else {
            return;
        };
        let watched = [
            run.setup.take().map(std::fs::File::from),
            run.remains.take(),
        ];
        for descriptor in watched.iter().flatten() {
            self.sources.remove(descriptor);
        }
        service.status.clear();
        service.probe = None;
        let Run {
            number,
            cgroup,
            failure,
            exit,
            ..
        } = run;
        if let Some(cgroup) = cgroup {
            // Left for the next run where something hangs in it.
            let _ = cgroup.remove();
        }
        let name = service.entry.name.clone();
        if name.as_str() == STATE && preparing {
            // The service goes on: now the partition is mounted.
            let how = failure.unwrap_or_else(|| describe(exit.unwrap_or(Exit::Code(0))));
            log!(Info, "{name}: the container {how}");
            service.last_exit = Some(how);
            service.run = Some(Run::without_process(number));
            self.preparation_ended();
            return;
        }
        let event = match (failure, exit) {
            (Some(reason), _) => Event::StartFailed {
                service: name,
                run: number,
                reason,
            },
            (None, exit) => {
                let exit = exit.unwrap_or(Exit::Code(0));
                service.last_exit = Some(describe(exit));
                Event::Exited {
                    service: name,
                    run: number,
                    exit,
                }
            }
        };
        self.events.push_back(event);
        self.feed(Event::Tick);
        self.watch_activation(id);
    }
}

/// An end in words.
pub fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with {code}"),
        Exit::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
    }
}
