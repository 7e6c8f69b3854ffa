//! The laws of the specification, held against each action and each state.

use super::Model;
use super::world::{Choice, LIMITS, Process, SECOND, World};
use crate::service::Phase;
use crate::{
    Action, Event, Exit, Failure, Notice, Policy, Ready, RestartPolicy, Service, ServiceName,
    Shutdown, State, Supervisor,
};
use std::collections::BTreeSet;

/// An error that names the law, unless it holds.
fn law(holds: bool, name: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(name.to_owned()) }
}

impl World<'_> {
    /// Does what the supervisor said after `event`, if it may.
    pub(super) fn perform(&mut self, action: Action, event: &Event) -> Result<(), String> {
        law(!self.finished, "nothing follows on the end")?;
        match action {
            Action::Start { service, run } => self.start(self.place(&service)?, run),
            Action::Terminate { service, run } => self.terminate(self.place(&service)?, run),
            Action::Kill { service, run } => self.kill(self.place(&service)?, run),
            Action::Probe { service, run } => {
                let process = self.process(self.place(&service)?, run)?;
                law(process.executed, "only what runs is probed")?;
                law(!process.probe, "there is one probe at a time")?;
                process.probe = true;
                Ok(())
            }
            Action::Refuse { service } => {
                let state = self.supervisor.state(&service);
                law(
                    matches!(state, Some(State::Failed(_))),
                    "only what has failed refuses its clients",
                )
            }
            Action::CancelProbe { service, run } => {
                let at = self.place(&service)?;
                if let Some(process) = &mut self.processes[at] {
                    law(process.run == run, "actions name the run that is")?;
                    law(process.probe, "only a probe that is made is cancelled")?;
                    process.probe = false;
                }
                Ok(())
            }
            Action::Changed { service, state } => self.changed(self.place(&service)?, state, event),
            Action::Settled { failed } => {
                law(!self.settled, "settled is said once")?;
                law(self.shutdown.is_none(), "settled is not said at the end")?;
                self.settled = true;
                self.check_settled(&failed)
            }
            Action::Finish(kind) => self.finish(kind),
        }
    }

    fn process(&mut self, at: usize, run: u32) -> Result<&mut Process, String> {
        match &mut self.processes[at] {
            Some(process) if process.run == run => Ok(process),
            _ => Err("actions name the run that is".into()),
        }
    }

    fn start(&mut self, at: usize, run: u32) -> Result<(), String> {
        law(self.shutdown.is_none(), "nothing starts during a shutdown")?;
        law(
            self.processes[at].is_none(),
            "at most one run of a service at a time",
        )?;
        law(run > self.last_run, "each run has its own number")?;
        let Some(policy) = self.definitions.get(&self.names[at]) else {
            return Err("only what is defined starts".into());
        };
        for name in &policy.requires {
            let dependency = self.place(name)?;
            law(
                self.is_up(dependency),
                "nothing starts before its hard dependencies are ready",
            )?;
        }
        if self.unchanged {
            for dependent in self.requiring(at) {
                law(
                    self.has_gone(dependent),
                    "no run sees two runs of what it requires",
                )?;
            }
        }
        let ready_by = match policy.ready {
            Ready::Health if policy.health.is_none() => Ready::Started,
            ready => ready,
        };
        self.check_restart(at)?;
        self.last_run = run;
        self.records[at].succeeded = false;
        self.processes[at] = Some(Process {
            run,
            ready_by,
            executed: false,
            ready: false,
            stopping: None,
            signalled: false,
            said_stopping: false,
            failed: false,
            own_end: false,
            killed: None,
            probe: false,
        });
        Ok(())
    }

    /// Whether what requires it may run, as far as can be seen from outside
    /// and as the supervisor says.
    fn is_up(&self, at: usize) -> bool {
        let state = self.supervisor.state(&self.names[at]);
        match &self.processes[at] {
            Some(process) => {
                process.ready && process.stopping.is_none() && state == Some(State::Ready)
            }
            None => self.records[at].succeeded && state == Some(State::Ended),
        }
    }

    /// Whether no process of it is left that anyone waits for.
    fn has_gone(&self, at: usize) -> bool {
        let given_up = Some(State::Failed(Failure::StopTimeout));
        self.processes[at].is_none() || self.supervisor.state(&self.names[at]) == given_up
    }

    /// The services that require one.
    fn requiring(&self, at: usize) -> Vec<usize> {
        self.whose_policy(|policy| policy.requires.contains(&self.names[at]))
    }

    /// The services that are to stop before one, by way of others too.
    /// Inside a cycle nothing is ordered.
    fn dependents(&self, at: usize) -> Vec<usize> {
        let all_after = |at| self.closure(at, |before| self.coming_after(before));
        self.closure(at, |before| {
            let mut after = self.coming_after(before);
            after.retain(|&after| !all_after(after).contains(&before));
            after
        })
    }

    /// The services that name this one in `requires` or `after`.
    fn coming_after(&self, at: usize) -> Vec<usize> {
        let name = &self.names[at];
        self.whose_policy(|policy| policy.requires.contains(name) || policy.after.contains(name))
    }

    /// All that can be reached in one or more steps.
    fn closure(&self, at: usize, step: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
        let mut found = step(at);
        let mut next = 0;
        while let Some(&at) = found.get(next) {
            next += 1;
            for other in step(at) {
                if !found.contains(&other) {
                    found.push(other);
                }
            }
        }
        found
    }

    fn whose_policy(&self, is_such: impl Fn(&Policy) -> bool) -> Vec<usize> {
        let policies = self.names.iter().map(|name| self.definitions.get(name));
        let such = policies
            .enumerate()
            .filter(|(_, policy)| policy.is_some_and(&is_such));
        such.map(|(at, _)| at).collect()
    }

    fn check_restart(&mut self, at: usize) -> Result<(), String> {
        let record = &mut self.records[at];
        let Some((end, success)) = record.own_end.take() else {
            return Ok(());
        };
        let Some(policy) = self.definitions.get(&self.names[at]) else {
            return Ok(());
        };
        let restart = &policy.restart;
        let may = match restart.policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !success,
            RestartPolicy::Always => true,
        };
        law(may, "restarts stay within policy: not after this end")?;
        law(
            self.now - end >= restart.backoff_min,
            "restarts stay within policy: not before the backoff",
        )?;
        if let Some(limit) = restart.limit {
            record.restarts.push(end);
            record
                .restarts
                .retain(|restart| end - *restart < limit.window);
            law(
                record.restarts.len() <= limit.count as usize,
                "restarts stay within policy: not above the limit",
            )?;
        }
        Ok(())
    }

    fn terminate(&mut self, at: usize, run: u32) -> Result<(), String> {
        let now = self.now;
        let process = self.process(at, run)?;
        law(!process.signalled, "the stop signal is sent once")?;
        process.signalled = true;
        process.stopping = Some(now);
        if !self.unchanged {
            return Ok(());
        }
        for dependent in self.dependents(at) {
            let stopping = self.supervisor.state(&self.names[dependent]) == Some(State::Stopping);
            let in_its_way = match &self.processes[dependent] {
                Some(_) if self.shutdown.is_some() => !self.has_gone(dependent),
                Some(_) => stopping,
                None => false,
            };
            law(!in_its_way, "stop order reverses start order")?;
        }
        for dependent in self.requiring(at) {
            law(self.has_gone(dependent), "stop order reverses start order")?;
        }
        Ok(())
    }

    fn kill(&mut self, at: usize, run: u32) -> Result<(), String> {
        let now = self.now;
        let timeout = self
            .supervisor
            .policy(&self.names[at])
            .map(|policy| policy.stop_timeout);
        let all_are_killed = self
            .shutdown
            .is_some_and(|(at, _)| now >= at + LIMITS.shutdown);
        let process = self.process(at, run)?;
        let waited = process.stopping.map(|since| now - since);
        law(process.killed.is_none(), "each run is killed once")?;
        law(
            all_are_killed || waited.is_some() && waited >= timeout,
            "the kill comes when the stop timeout is over",
        )?;
        process.killed = Some(now);
        Ok(())
    }

    fn changed(&mut self, at: usize, state: State, event: &Event) -> Result<(), String> {
        let told = self.records[at].told.replace(state.clone());
        law(
            told.as_ref() != Some(&state),
            "a change of state is a change",
        )?;
        if self.commands == self.setup.commands {
            let own_end = self.records[at].own_end.map(|(_, success)| success);
            let follows = match &state {
                State::Backoff { .. } => own_end.is_some(),
                State::Ended => own_end == Some(true),
                State::Failed(failure) => failure.mends_itself() || own_end == Some(false),
                State::Stopped
                | State::Waiting { .. }
                | State::Starting
                | State::Ready
                | State::Stopping => true,
            };
            let given_up = state == State::Failed(Failure::StopTimeout);
            law(follows || given_up, "what follows on an end is as it ended")?;
        }
        let by_itself = matches!(event, Event::Tick | Event::Probed { .. });
        if by_itself
            && state == State::Stopping
            && self.requirements_are_up(at)
            && let Some(process) = &mut self.processes[at]
        {
            process.failed = true;
            process.own_end = true;
        }
        Ok(())
    }

    fn requirements_are_up(&self, at: usize) -> bool {
        let Some(policy) = self.definitions.get(&self.names[at]) else {
            return false;
        };
        policy.requires.iter().all(|name| {
            let state = self.supervisor.state(name);
            state == Some(State::Ready) || state == Some(State::Ended)
        })
    }

    fn check_settled(&self, failed: &[ServiceName]) -> Result<(), String> {
        for service in self.supervisor.services() {
            let name = service.name();
            if !self.definitions.contains_key(name) {
                continue;
            }
            if !service.policy().enabled {
                law(!failed.contains(name), "settled is about enabled services")?;
                continue;
            }
            let is_fine = match service.state() {
                State::Ready | State::Ended | State::Stopped => Some(true),
                State::Failed(_) => Some(false),
                State::Starting | State::Stopping | State::Backoff { .. } => {
                    let success = service.failure().is_none();
                    law(service.restarts() > 0, "settled waits for the first try")?;
                    Some(success)
                }
                State::Waiting { .. } => None,
            };
            if let Some(is_fine) = is_fine {
                law(
                    failed.contains(name) != is_fine,
                    "settled names what failed",
                )?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, kind: Shutdown) -> Result<(), String> {
        let asked = self.shutdown.map(|(_, kind)| kind);
        law(asked == Some(kind), "the end is the one last asked for")?;
        for process in self.processes.iter().flatten() {
            let given_up = process
                .killed
                .is_some_and(|killed| self.now - killed >= LIMITS.kill);
            law(given_up, "the end comes when all has ended or is given up")?;
        }
        self.finished = true;
        Ok(())
    }

    /// The supervisor and the world agree on what runs.
    pub(super) fn check_agreement(&self) -> Result<(), String> {
        for (at, name) in self.names.iter().enumerate() {
            let service = self.supervisor.service(name);
            let run = service.filter(|service| service.has_run()).map(|s| s.run());
            let process = self.processes[at].as_ref();
            law(run == process.map(|process| process.run), "no exit is lost")?;
            if let (Some(service), Some(process)) = (service, process) {
                let probed = service.phase.probing().is_some_and(|p| p.is_running());
                law(
                    probed == process.probe,
                    "a probe ends with the run that it is of",
                )?;
            }
            if let Some(service) = service {
                let told = self.records[at].told.clone().unwrap_or(State::Stopped);
                law(told == service.state(), "each change of state is told")?;
            }
        }
        Ok(())
    }

    /// The laws that hold in each state, whatever led to it.
    pub(super) fn check_state(&self) -> Result<(), String> {
        if self.unchanged {
            self.check_dependents_stop()?;
        }
        self.check_nothing_is_left_to_do()?;
        if self.setup.thorough {
            self.check_strange_events()?;
            self.check_serialization()?;
        }
        self.check_shutdown_ends()?;
        self.check_good_luck()
    }

    fn check_dependents_stop(&self) -> Result<(), String> {
        for (at, name) in self.names.iter().enumerate() {
            let state = self.supervisor.state(name);
            if state == Some(State::Starting) || state == Some(State::Ready) {
                let up = self.requirements_are_up(at);
                law(up, "nothing runs on without what it requires")?;
            }
        }
        Ok(())
    }

    /// A tick without time passing finds nothing to do.
    fn check_nothing_is_left_to_do(&self) -> Result<(), String> {
        let mut supervisor = self.supervisor.clone();
        let actions = supervisor.step(self.now, Event::Tick);
        law(actions.is_empty(), "a step does all that there is to do")?;
        law(
            supervisor == self.supervisor,
            "a step does all that there is to do",
        )?;
        let next = self.supervisor.next_deadline();
        law(
            next.is_none_or(|next| next > self.now),
            "no deadline is left in the past",
        )
    }

    /// Events of other runs and of unknown services change nothing.
    fn check_strange_events(&self) -> Result<(), String> {
        let mut supervisor = self.supervisor.clone();
        let nobody = "nobody".parse::<ServiceName>().map_err(|e| e.to_string())?;
        let mut strange = vec![
            Event::Start(nobody.clone()),
            Event::Stop(nobody.clone()),
            Event::Restart(nobody.clone()),
            Event::Remove(nobody.clone()),
        ];
        for name in self.names.iter().chain([&nobody]) {
            let current = self.supervisor.service(name).map_or(0, |s| s.run());
            for run in [current.wrapping_sub(1), current + 1] {
                strange.extend(events_of_run(name, run));
            }
            let has_run = self.supervisor.service(name).is_some_and(|s| s.has_run());
            if !has_run {
                strange.extend(events_of_run(name, current));
            }
        }
        for event in strange {
            let actions = supervisor.step(self.now, event);
            law(actions.is_empty(), "strange events change nothing")?;
        }
        law(
            supervisor == self.supervisor,
            "strange events change nothing",
        )
    }

    fn check_serialization(&self) -> Result<(), String> {
        let json = serde_json::to_string(&self.supervisor).map_err(|e| e.to_string())?;
        let read: Supervisor = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        law(read == self.supervisor, "serialization changes nothing")
    }

    /// With no event but the passing of time, and no process that ends.
    fn check_shutdown_ends(&self) -> Result<(), String> {
        let mut world = self.clone();
        if world.shutdown.is_none() {
            world.take(&Choice::Shutdown(Shutdown::Poweroff))?;
        }
        let begin = world.shutdown.map_or(world.now, |(at, _)| at);
        while !world.finished {
            // As a shell that sleeps until the deadline.
            let Some(deadline) = world.supervisor.next_deadline() else {
                return Err("shutdown always ends".into());
            };
            law(deadline > world.now, "shutdown always ends")?;
            world.now = deadline;
            world.tell(Event::Tick)?;
            law(
                world.now <= begin + LIMITS.shutdown + LIMITS.kill,
                "shutdown always ends",
            )?;
        }
        Ok(())
    }

    /// When from now on each start succeeds and each process ends when it is
    /// asked to, then in bounded time all that is wanted is up, unless an
    /// operator or a failure that lasts keeps it down.
    fn check_good_luck(&self) -> Result<(), String> {
        if self.shutdown.is_some() {
            return Ok(());
        }
        let mut world = self.clone();
        for _ in 0..200 {
            let Some(lucky) = world.lucky_choice() else {
                law(world.settled, "it settles in the end")?;
                world.check_what_is_removed()?;
                return world.check_what_is_down();
            };
            world.take(&lucky)?;
        }
        Err("with good luck all comes up in the end".into())
    }

    /// A service without a definition was stopped, and nothing is known of it.
    fn check_what_is_removed(&self) -> Result<(), String> {
        for service in self.supervisor.services() {
            law(
                self.definitions.contains_key(service.name()),
                "what is removed is stopped and forgotten in the end",
            )?;
        }
        Ok(())
    }

    /// Nothing is down without a reason that still holds.
    fn check_what_is_down(&self) -> Result<(), String> {
        for service in self.supervisor.services() {
            let holds = match service.state() {
                State::Waiting { on } => !self.can_come(&on, &mut BTreeSet::new()),
                State::Failed(Failure::Dependency(on)) => matches!(
                    self.supervisor.state(&on),
                    Some(State::Failed(_) | State::Ended)
                ),
                State::Failed(Failure::MissingDependency(on)) => {
                    !self.definitions.contains_key(&on)
                }
                State::Failed(_)
                | State::Stopped
                | State::Starting
                | State::Ready
                | State::Stopping
                | State::Backoff { .. }
                | State::Ended => true,
            };
            law(holds, "with good luck all comes up in the end")?;
        }
        Ok(())
    }

    /// Nothing when all is up that can be.
    fn lucky_choice(&self) -> Option<Choice> {
        for (at, process) in self.processes.iter().enumerate() {
            let Some(process) = process else { continue };
            if process.killed.is_some() {
                return Some(Choice::Exits(at, Exit::Signal(9)));
            }
            if process.stopping.is_some() {
                return Some(Choice::Exits(at, Exit::Signal(15)));
            }
            if !process.executed {
                return Some(Choice::Executed(at));
            }
            if process.probe {
                return Some(Choice::Probed(at, true));
            }
            if process.ready_by == Ready::Notify && !process.ready {
                return Some(Choice::Says(at, Notice::Ready));
            }
            if process.ready_by == Ready::Exit {
                return Some(Choice::Exits(at, Exit::Code(0)));
            }
        }
        let is_moving = |service: &Service| match service.state() {
            State::Starting | State::Stopping => true,
            // Without a failure it runs ever again.
            State::Backoff { .. } => service.failure().is_some(),
            State::Waiting { on } => self.can_come(&on, &mut BTreeSet::new()),
            State::Stopped | State::Ready | State::Ended | State::Failed(_) => false,
        };
        if !self.supervisor.services().any(is_moving) {
            return None;
        }
        for (at, name) in self.names.iter().enumerate() {
            let phase = self.supervisor.service(name).map(|service| &service.phase);
            if let Some(Phase::Ready { watchdog, .. }) = phase
                && watchdog.is_some_and(|until| until <= self.now + SECOND)
            {
                return Some(Choice::Says(at, Notice::Watchdog));
            }
        }
        Some(Choice::Passes)
    }

    /// Whether a service that is waited for is not kept down by an operator.
    fn can_come(&self, name: &ServiceName, seen: &mut BTreeSet<ServiceName>) -> bool {
        match self.supervisor.state(name) {
            Some(State::Waiting { on }) => seen.insert(on.clone()) && self.can_come(&on, seen),
            Some(State::Stopped) | None => false,
            Some(_) => true,
        }
    }
}

fn events_of_run(name: &ServiceName, run: u32) -> Vec<Event> {
    let service = || name.clone();
    vec![
        Event::Executed {
            service: service(),
            run,
        },
        Event::StartFailed {
            service: service(),
            run,
            reason: "no memory".into(),
        },
        Event::Exited {
            service: service(),
            run,
            exit: Exit::Code(1),
        },
        Event::Notified {
            service: service(),
            run,
            notice: Notice::Stopping,
        },
        Event::Probed {
            service: service(),
            run,
            healthy: false,
        },
    ]
}
