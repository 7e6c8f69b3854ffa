//! What stops and what starts now, in the order of the dependencies.

use crate::graph::{Graph, find};
use crate::service::{Goal, Phase, Service, Stage, Terms};
use crate::step::{Step, Supervisor};
use crate::{Action, Failure, Ready, ServiceName};

/// Why a service that is wanted does not start now.
enum Obstacle {
    /// It will start by itself.
    Wait(ServiceName),
    /// It cannot start until something else is repaired.
    Failure(Failure),
}

impl Supervisor {
    /// Drops the services whose definition is gone and that have no run.
    pub(crate) fn forget_removed(&mut self) {
        let is_over = |service: &Service| service.removed && !service.phase.has_run();
        if self.services.iter().any(is_over) {
            self.services.retain(|service| !is_over(service));
            self.graph = Graph::new(&self.services);
        }
    }

    /// For each service, whether one that depends on it, maybe by way of
    /// others, is still stopping.
    fn held(&self) -> Vec<bool> {
        let mut held = vec![false; self.services.len()];
        for &at in self.graph.order.iter().rev() {
            let holds = held[at] || self.services[at].phase.is_stopping();
            for &dependency in &self.graph.before[at] {
                held[dependency] |= holds;
            }
        }
        held
    }

    /// Sends the stop signal to each that no other one holds any more.
    pub(crate) fn terminate(&mut self, step: &mut Step) {
        let held = self.held();
        for place in (0..self.graph.order.len()).rev() {
            let at = self.graph.order[place];
            let service = &self.services[at];
            let Phase::Stopping { stage, .. } = &service.phase else {
                continue;
            };
            if *stage == Stage::Held && !held[at] {
                step.actions.push(Action::Terminate {
                    service: service.name.clone(),
                    run: service.run,
                });
                let until = step.now.saturating_add(service.policy.stop_timeout);
                self.set_stage(at, Stage::Terminated { until }, step);
            }
        }
    }

    /// Starts each that is wanted and that nothing keeps down any more.
    pub(crate) fn start(&mut self, step: &mut Step) {
        if self.ending.is_some() {
            return;
        }
        for place in 0..self.graph.order.len() {
            let at = self.graph.order[place];
            if !self.services[at].is_to_start(step) {
                continue;
            }
            match self.obstacle(at) {
                Some(Obstacle::Wait(on)) => self.enter(at, Phase::Waiting { on }, step),
                Some(Obstacle::Failure(failure)) => self.enter(at, Phase::Failed(failure), step),
                None => self.start_run(at, step),
            }
        }
    }

    fn start_run(&mut self, at: usize, step: &mut Step) {
        self.last_run = self.last_run.wrapping_add(1);
        let service = &mut self.services[at];
        service.run = self.last_run;
        let policy = &service.policy;
        let starting = Phase::Starting {
            terms: Terms {
                ready: match policy.ready {
                    Ready::Health if policy.health.is_none() => Ready::Started,
                    ready => ready,
                },
                watchdog: policy.watchdog,
                health: policy.health,
            },
            deadline: policy
                .start_timeout
                .map(|timeout| step.now.saturating_add(timeout)),
            probing: None,
        };
        step.actions.push(Action::Start {
            service: service.name.clone(),
            run: service.run,
        });
        self.enter(at, starting, step);
    }

    /// What waiting cannot repair goes before what can.
    fn obstacle(&self, at: usize) -> Option<Obstacle> {
        if let Some(cycle) = self.graph.cycle(at) {
            let names = cycle.iter().map(|&at| self.services[at].name.clone());
            return Some(Obstacle::Failure(Failure::Cycle(names.collect())));
        }
        let mut wait = None;
        for name in &self.services[at].policy.requires {
            let dependency = find(&self.services, name).map(|at| &self.services[at]);
            match dependency.filter(|dependency| !dependency.removed) {
                None => {
                    let failure = Failure::MissingDependency(name.clone());
                    return Some(Obstacle::Failure(failure));
                }
                Some(dependency) if dependency.is_up() => {}
                Some(dependency) if dependency.has_failed() => {
                    let failure = Failure::Dependency(name.clone());
                    return Some(Obstacle::Failure(failure));
                }
                Some(_) => wait = wait.or(Some(name)),
            }
        }
        let name = |at: &usize| &self.services[*at].name;
        let coming = |at: &&usize| self.is_coming(**at);
        let stopping = |at: &&usize| self.services[**at].phase.is_stopping();
        let graph = &self.graph;
        let wait = wait
            .or_else(|| graph.before[at].iter().find(coming).map(name))
            .or_else(|| graph.required_by[at].iter().find(stopping).map(name));
        wait.cloned().map(Obstacle::Wait)
    }

    /// Whether a service that another starts after will soon have started,
    /// or else stopped.
    fn is_coming(&self, at: usize) -> bool {
        match &self.services[self.waits_for(at)].phase {
            Phase::Starting { .. } => true,
            phase @ Phase::Stopping { .. } => phase.is_stopping(),
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_)
            | Phase::Ready { .. } => false,
        }
    }

    /// The service at the end of the chain of those that wait, this one
    /// where it does not wait.
    pub(crate) fn waits_for(&self, mut at: usize) -> usize {
        // No chain is longer than there are services.
        for _ in 0..self.services.len() {
            match &self.services[at].phase {
                Phase::Waiting { on } => match find(&self.services, on) {
                    Some(next) => at = next,
                    None => break,
                },
                Phase::Stopped
                | Phase::Backoff { .. }
                | Phase::Ended
                | Phase::Failed(_)
                | Phase::Starting { .. }
                | Phase::Ready { .. }
                | Phase::Stopping { .. } => break,
            }
        }
        at
    }
}

impl Service {
    /// Whether it is wanted, down, and not kept down by its own failure.
    fn is_to_start(&self, step: &Step) -> bool {
        self.goal == Goal::Up
            && match &self.phase {
                Phase::Stopped | Phase::Waiting { .. } => true,
                Phase::Backoff { until } => *until <= step.now,
                Phase::Failed(failure) => failure.mends_itself(),
                Phase::Ended
                | Phase::Starting { .. }
                | Phase::Ready { .. }
                | Phase::Stopping { .. } => false,
            }
    }

    /// Whether it is down and does not come up without help.
    fn has_failed(&self) -> bool {
        match &self.phase {
            Phase::Failed(_) | Phase::Ended => true,
            Phase::Stopping { stage, .. } => *stage == Stage::GivenUp,
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Starting { .. }
            | Phase::Ready { .. } => false,
        }
    }
}
