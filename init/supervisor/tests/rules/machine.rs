//! The machine under test, and services of the usual kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use supervisor::{
    Action, Event, Exit, Failure, Limits, Notice, Policy, Ready, Restart, RestartLimit,
    RestartPolicy, Service, ServiceName, State, Supervisor,
};

pub const LIMITS: Limits = Limits {
    shutdown: secs(60),
    kill: secs(5),
};

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn name(text: &str) -> ServiceName {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

pub fn names(text: &str) -> BTreeSet<ServiceName> {
    text.split_whitespace().map(name).collect()
}

pub fn names_in_order(text: &str) -> Vec<ServiceName> {
    text.split_whitespace().map(name).collect()
}

/// Ready as soon as it runs, enabled, restarted after a failure.
pub fn daemon(requires: &str) -> Policy {
    Policy {
        requires: names(requires),
        after: BTreeSet::new(),
        ready: Ready::Started,
        start_timeout: Some(secs(30)),
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            backoff_min: secs(1),
            backoff_max: secs(8),
            limit: None,
        },
        stop_timeout: secs(10),
        health: None,
        watchdog: None,
        essential: false,
        enabled: true,
    }
}

pub fn one_shot(requires: &str) -> Policy {
    Policy {
        ready: Ready::Exit,
        ..daemon(requires)
    }
}

pub fn notifying(requires: &str) -> Policy {
    Policy {
        ready: Ready::Notify,
        ..daemon(requires)
    }
}

pub fn on_demand(policy: Policy) -> Policy {
    Policy {
        enabled: false,
        ..policy
    }
}

pub fn after(names_before: &str, policy: Policy) -> Policy {
    Policy {
        after: names(names_before),
        ..policy
    }
}

pub fn restarting(policy: RestartPolicy, of: Policy) -> Policy {
    Policy {
        restart: Restart {
            policy,
            ..of.restart
        },
        ..of
    }
}

pub fn limited(count: u32, window: Duration, policy: Policy) -> Policy {
    Policy {
        restart: Restart {
            limit: Some(RestartLimit { count, window }),
            ..policy.restart
        },
        ..policy
    }
}

/// A machine on which things happen at times that the test chooses.
pub struct Machine {
    pub supervisor: Supervisor,
    pub now: Duration,
    pub actions: Vec<Action>,
}

impl Machine {
    pub fn empty() -> Self {
        Self {
            supervisor: Supervisor::new(LIMITS),
            now: secs(1),
            actions: Vec::new(),
        }
    }

    /// With these services, just defined.
    pub fn with<const N: usize>(services: [(&str, Policy); N]) -> Self {
        let mut machine = Self::empty();
        machine.define(services);
        machine.event(Event::AllDefined);
        machine
    }

    /// With these services, each ready or ended.
    pub fn running<const N: usize>(services: [(&str, Policy); N]) -> Self {
        let mut machine = Self::with(services);
        machine.come_up();
        machine
    }

    /// Each start succeeds, until nothing starts any more.
    pub fn come_up(&mut self) {
        loop {
            let starting: Vec<_> = self
                .supervisor
                .services()
                .filter(|service| service.state() == State::Starting)
                .map(|service| (service.name().to_string(), service.policy().ready))
                .collect();
            if starting.is_empty() {
                break;
            }
            for (service, ready) in starting {
                self.executed(&service);
                match ready {
                    Ready::Started => {}
                    Ready::Exit => self.exits(&service, 0),
                    Ready::Notify => self.notifies(&service, Notice::Ready),
                    Ready::Health => self.probed(&service, true),
                }
            }
        }
        self.actions.clear();
    }

    pub fn define<const N: usize>(&mut self, services: [(&str, Policy); N]) {
        let definitions = services.map(|(text, policy)| (name(text), policy));
        self.event(Event::Define(BTreeMap::from(definitions)));
    }

    pub fn event(&mut self, event: Event) {
        self.actions = self.supervisor.step(self.now, event);
    }

    pub fn start(&mut self, service: &str) {
        self.event(Event::Start(name(service)));
    }

    pub fn stop(&mut self, service: &str) {
        self.event(Event::Stop(name(service)));
    }

    pub fn restart(&mut self, service: &str) {
        self.event(Event::Restart(name(service)));
    }

    pub fn service(&self, service: &str) -> &Service {
        let found = self.supervisor.service(&name(service));
        found.unwrap_or_else(|| panic!("{service} is not defined"))
    }

    pub fn run_of(&self, service: &str) -> u32 {
        self.service(service).run()
    }

    pub fn executed(&mut self, service: &str) {
        let run = self.run_of(service);
        let service = name(service);
        self.event(Event::Executed { service, run });
    }

    pub fn start_failed(&mut self, service: &str, reason: &str) {
        let run = self.run_of(service);
        self.event(Event::StartFailed {
            service: name(service),
            run,
            reason: reason.into(),
        });
    }

    pub fn exits(&mut self, service: &str, code: i32) {
        self.ends(service, Exit::Code(code));
    }

    pub fn ends(&mut self, service: &str, exit: Exit) {
        let run = self.run_of(service);
        let service = name(service);
        self.event(Event::Exited { service, run, exit });
    }

    pub fn notifies(&mut self, service: &str, notice: Notice) {
        let run = self.run_of(service);
        let service = name(service);
        self.event(Event::Notified {
            service,
            run,
            notice,
        });
    }

    pub fn probed(&mut self, service: &str, healthy: bool) {
        let run = self.run_of(service);
        let service = name(service);
        self.event(Event::Probed {
            service,
            run,
            healthy,
        });
    }

    pub fn client(&mut self, service: &str, left: bool) {
        let service = name(service);
        self.event(Event::Client { service, left });
    }

    pub fn passes(&mut self, time: Duration) {
        self.now += time;
        self.event(Event::Tick);
    }

    pub fn state(&self, service: &str) -> State {
        self.service(service).state()
    }

    pub fn failure(&self, service: &str) -> Failure {
        match self.state(service) {
            State::Failed(failure) => failure,
            state => panic!("{service} has not failed: {state}"),
        }
    }

    pub fn waits_for(&self, service: &str) -> String {
        match self.state(service) {
            State::Waiting { on } => on.to_string(),
            state => panic!("{service} does not wait: {state}"),
        }
    }

    /// What the last event led to, without the reports, as text.
    pub fn done(&self) -> String {
        let done = self.actions.iter().filter_map(|action| match action {
            Action::Start { service, .. } => Some(format!("start {service}")),
            Action::Terminate { service, .. } => Some(format!("terminate {service}")),
            Action::Kill { service, .. } => Some(format!("kill {service}")),
            Action::Probe { service, .. } => Some(format!("probe {service}")),
            Action::Refuse { service } => Some(format!("refuse {service}")),
            Action::CancelProbe { service, .. } => Some(format!("cancel {service}")),
            Action::Changed { .. } => None,
            Action::Settled { failed } => {
                let failed: Vec<_> = failed.iter().map(|name| format!(" {name}")).collect();
                Some(format!("settled{}", failed.concat()))
            }
            Action::Finish(kind) => Some(format!("finish {kind:?}").to_lowercase()),
        });
        done.collect::<Vec<_>>().join(", ")
    }
}
