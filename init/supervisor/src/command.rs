//! Definitions that come and go, and what an operator asks for.

use crate::graph::{Graph, find};
use crate::service::{Cause, Goal, Phase};
use crate::step::{Step, Supervisor};
use crate::{Action, Failure, Policy, Service, ServiceName};
use std::collections::BTreeMap;

impl Supervisor {
    pub(crate) fn define(&mut self, definitions: BTreeMap<ServiceName, Policy>, step: &mut Step) {
        if self.ending.is_some() {
            return;
        }
        for (name, policy) in definitions {
            match self.services.binary_search_by(|old| old.name.cmp(&name)) {
                Ok(at) => self.redefine(at, policy, step),
                Err(at) => {
                    let service = Service::new(name, policy, step.now);
                    self.services.insert(at, service);
                }
            }
        }
        self.graph = Graph::new(&self.services);
        self.pull_in_on_demand();
    }

    fn redefine(&mut self, at: usize, policy: Policy, step: &mut Step) {
        let service = &mut self.services[at];
        let was_enabled = service.policy.enabled;
        service.policy = policy;
        if service.removed {
            service.removed = false;
            service.goal = Goal::first(&service.policy);
        } else if service.policy.enabled && !was_enabled {
            service.goal = Goal::Up;
        } else if was_enabled && !service.policy.enabled && !service.phase.has_run() {
            service.goal = Goal::OnDemand;
        }
        let begins_anew = match service.phase {
            Phase::Failed(_) => true,
            Phase::Waiting { .. } | Phase::Backoff { .. } => service.goal != Goal::Up,
            Phase::Stopped
            | Phase::Ended
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Stopping { .. } => false,
        };
        if begins_anew {
            service.forget_failures();
            self.enter(at, Phase::Stopped, step);
        }
    }

    /// Wants all that is required by what is wanted, except what an operator
    /// stopped.
    fn pull_in_on_demand(&mut self) {
        for &at in self.graph.order.iter().rev() {
            if self.services[at].goal != Goal::Up {
                continue;
            }
            for dependency in self.requirements(at) {
                let goal = &mut self.services[dependency].goal;
                if *goal == Goal::OnDemand {
                    *goal = Goal::Up;
                }
            }
        }
    }

    /// The services that this one requires, as far as they are defined.
    fn requirements(&self, at: usize) -> Vec<usize> {
        let names = self.services[at].policy.requires.iter();
        names
            .filter_map(|name| find(&self.services, name))
            .filter(|&dependency| !self.services[dependency].removed)
            .collect()
    }

    /// The service of this name, unless its definition is gone.
    fn find_defined(&self, name: &ServiceName) -> Option<usize> {
        find(&self.services, name).filter(|&at| !self.services[at].removed)
    }

    pub(crate) fn remove(&mut self, name: &ServiceName, step: &mut Step) {
        if let Some(at) = self.find_defined(name) {
            self.bring_down(at, step);
            self.services[at].removed = true;
        }
    }

    pub(crate) fn start_asked(&mut self, name: &ServiceName, step: &mut Step) {
        if let Some(at) = self.find_defined(name) {
            self.bring_up(at, step);
        }
    }

    /// What has failed for good turns its client away; what only rests is started
    /// for it, and what left it waiting is restarted as after a failure.
    pub(crate) fn client_waits(&mut self, name: &ServiceName, left: bool, step: &mut Step) {
        let Some(at) = self.find_defined(name).filter(|_| self.ending.is_none()) else {
            return;
        };
        let service = &mut self.services[at];
        let has_room = service.may_restart(step.now);
        let next = match &service.phase {
            Phase::Stopped | Phase::Ended if left => {
                service.failure = Some(Failure::ClientLeft);
                service.after_end(step.now)
            }
            Phase::Stopped | Phase::Ended => Phase::Stopped,
            // Its window may be over.
            Phase::Failed(Failure::RestartLimit) if has_room => Phase::Stopped,
            Phase::Failed(_) => {
                return step.actions.push(Action::Refuse {
                    service: name.clone(),
                });
            }
            Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Starting { .. }
            | Phase::Ready { .. }
            | Phase::Stopping { .. } => return,
        };
        service.goal = Goal::Up;
        if service.phase != next {
            self.enter(at, next, step);
        }
        for dependency in self.requirements(at) {
            self.bring_up(dependency, step);
        }
    }

    pub(crate) fn stop_asked(&mut self, name: &ServiceName, step: &mut Step) {
        if let Some(at) = self.find_defined(name) {
            self.bring_down(at, step);
        }
    }

    pub(crate) fn restart_asked(&mut self, name: &ServiceName, step: &mut Step) {
        if self.ending.is_some() {
            return;
        }
        if let Some(at) = self.find_defined(name) {
            self.bring_up(at, step);
            self.stop_run(at, Cause::Asked, step);
            if self.services[at].phase == Phase::Ended {
                self.enter(at, Phase::Stopped, step);
            }
        }
    }

    /// Wants the service and all that it requires, and takes away what keeps
    /// them down.
    fn bring_up(&mut self, at: usize, step: &mut Step) {
        if self.ending.is_some() {
            return;
        }
        let mut seen = vec![false; self.services.len()];
        seen[at] = true;
        let mut left = vec![at];
        while let Some(at) = left.pop() {
            self.want(at, step);
            for dependency in self.requirements(at) {
                if !seen[dependency] {
                    seen[dependency] = true;
                    left.push(dependency);
                }
            }
        }
    }

    fn want(&mut self, at: usize, step: &mut Step) {
        let service = &mut self.services[at];
        service.goal = Goal::Up;
        if service.is_up() {
            return;
        }
        match &mut service.phase {
            Phase::Starting { .. } | Phase::Ready { .. } => {}
            Phase::Stopping { cause, .. } => {
                *cause = Cause::Asked;
                service.forget_failures();
            }
            Phase::Stopped | Phase::Waiting { .. } => service.forget_failures(),
            Phase::Backoff { .. } | Phase::Failed(_) | Phase::Ended => {
                service.forget_failures();
                self.enter(at, Phase::Stopped, step);
            }
        }
    }

    fn bring_down(&mut self, at: usize, step: &mut Step) {
        let service = &mut self.services[at];
        service.goal = Goal::Down;
        match &service.phase {
            Phase::Stopped | Phase::Stopping { .. } => {}
            Phase::Waiting { .. } | Phase::Backoff { .. } | Phase::Ended | Phase::Failed(_) => {
                self.enter(at, Phase::Stopped, step);
            }
            Phase::Starting { .. } | Phase::Ready { .. } => {
                self.stop_run(at, Cause::Asked, step);
            }
        }
    }
}
