//! The machine: one event in, the actions it leads to out.

use crate::graph::{Graph, find};
use crate::service::{Cause, Phase, Stage};
use crate::{Action, Event, Limits, Policy, Service, ServiceName, Shutdown, State};
use serde::{Deserialize, Serialize};
use std::mem;
use std::time::Duration;

/// All services and their states.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Supervisor {
    pub(crate) limits: Limits,
    /// Sorted by name; inside the machine a service is its place here.
    pub(crate) services: Vec<Service>,
    pub(crate) graph: Graph,
    /// The number of the last run of any service.
    pub(crate) last_run: u32,
    pub(crate) all_defined: bool,
    pub(crate) settled: bool,
    pub(crate) ending: Option<Ending>,
}

/// A shutdown under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) kind: Shutdown,
    /// When all that is left is killed.
    pub(crate) deadline: Duration,
    /// Whether nothing is left to stop.
    pub(crate) finished: bool,
}

/// What one step gathers.
pub(crate) struct Step {
    pub(crate) now: Duration,
    pub(crate) actions: Vec<Action>,
    /// Services that were up and are not any more.
    fallen: Vec<usize>,
}

impl Supervisor {
    /// Without any service.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            services: Vec::new(),
            graph: Graph::default(),
            last_run: 0,
            all_defined: false,
            settled: false,
            ending: None,
        }
    }

    /// What is to be done, in this order, after `event` at the time `now`
    /// (since boot, monotonic). Never panics, whatever comes.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut step = Step {
            now,
            actions: Vec::new(),
            fallen: Vec::new(),
        };
        if !self.has_finished() {
            self.take(event, &mut step);
            self.expire(&mut step);
            self.stop_with_the_fallen(&mut step);
            self.forget_removed();
            self.terminate(&mut step);
            self.start(&mut step);
            self.settle(&mut step);
            self.finish(&mut step);
        }
        step.actions
    }

    fn take(&mut self, event: Event, step: &mut Step) {
        match event {
            Event::Define(definitions) => self.define(definitions, step),
            Event::AllDefined => self.all_defined = true,
            Event::Remove(name) => self.remove(&name, step),
            Event::Start(name) => self.start_asked(&name, step),
            Event::Stop(name) => self.stop_asked(&name, step),
            Event::Restart(name) => self.restart_asked(&name, step),
            Event::Client { service, left } => self.client_waits(&service, left, step),
            Event::Executed { service, run } => {
                if let Some(at) = self.find_run(&service, run) {
                    self.executed(at, step);
                }
            }
            Event::StartFailed {
                service,
                run,
                reason,
            } => {
                if let Some(at) = self.find_run(&service, run) {
                    self.start_failed(at, reason, step);
                }
            }
            Event::Exited { service, run, exit } => {
                if let Some(at) = self.find_run(&service, run) {
                    self.exited(at, exit, step);
                }
            }
            Event::Notified {
                service,
                run,
                notice,
            } => {
                if let Some(at) = self.find_run(&service, run) {
                    self.notified(at, notice, step);
                }
            }
            Event::Probed {
                service,
                run,
                healthy,
            } => {
                if let Some(at) = self.find_run(&service, run) {
                    self.probed(at, healthy, step);
                }
            }
            Event::Tick => {}
            Event::Shutdown(kind) => self.shut_down(kind, step),
        }
    }

    /// The service, if this is its run and has not ended.
    fn find_run(&self, name: &ServiceName, run: u32) -> Option<usize> {
        let at = find(&self.services, name)?;
        let service = &self.services[at];
        (service.run == run && service.phase.has_run()).then_some(at)
    }

    /// The only way from one phase to another.
    pub(crate) fn enter(&mut self, at: usize, phase: Phase, step: &mut Step) {
        let service = &mut self.services[at];
        let was_up = service.is_up();
        let old_state = service.state();
        let old = mem::replace(&mut service.phase, phase);
        if old.probing().is_some_and(|probing| probing.is_running())
            && !service.phase.probing().is_some_and(|p| p.is_running())
        {
            step.actions.push(Action::CancelProbe {
                service: service.name.clone(),
                run: service.run,
            });
        }
        let state = service.state();
        if state != old_state {
            service.since = step.now;
            step.actions.push(Action::Changed {
                service: service.name.clone(),
                state,
            });
        }
        if was_up && !service.is_up() {
            step.fallen.push(at);
        }
    }

    /// What required a service that is not up any more stops too; and so on.
    fn stop_with_the_fallen(&mut self, step: &mut Step) {
        while let Some(at) = step.fallen.pop() {
            for next in 0..self.graph.required_by[at].len() {
                self.stop_run(self.graph.required_by[at][next], Cause::Asked, step);
            }
        }
    }

    /// Makes the run of a service stop that is not stopping yet.
    pub(crate) fn stop_run(&mut self, at: usize, cause: Cause, step: &mut Step) {
        let service = &self.services[at];
        let (terms, ready) = match &service.phase {
            Phase::Starting { terms, .. } => (*terms, None),
            Phase::Ready { terms, .. } => (*terms, Some(service.since)),
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_)
            | Phase::Stopping { .. } => return,
        };
        // It is on its way already: no signal, but no more time either.
        let stage = match cause {
            Cause::Itself => Stage::Terminated {
                until: step.now.saturating_add(service.policy.stop_timeout),
            },
            Cause::Asked | Cause::Failed(_) => Stage::Held,
        };
        let stopping = Phase::Stopping {
            terms,
            ready,
            cause,
            stage,
        };
        self.enter(at, stopping, step);
    }

    /// One service.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(find(&self.services, name)?)
    }

    /// What one service is doing.
    pub fn state(&self, name: &ServiceName) -> Option<State> {
        self.service(name).map(Service::state)
    }

    /// How one service is supervised.
    pub fn policy(&self, name: &ServiceName) -> Option<&Policy> {
        self.service(name).map(Service::policy)
    }

    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// How the machine is to end, once it is asked to.
    pub fn shutdown(&self) -> Option<Shutdown> {
        self.ending.as_ref().map(|ending| ending.kind)
    }
}
