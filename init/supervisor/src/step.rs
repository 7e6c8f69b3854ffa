//! The machine.

use crate::{Action, Event, Limits, Service, ServiceName, Shutdown};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// All services and their states.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Supervisor {
    limits: Limits,
    /// Sorted by name.
    services: Vec<Service>,
    shutdown: Option<Shutdown>,
}

impl Supervisor {
    /// Without any service.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            services: Vec::new(),
            shutdown: None,
        }
    }

    /// What is to be done, in this order, after `event` at the time `now`
    /// (since boot, monotonic).
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        if let Event::Define(definitions) = event {
            for (name, policy) in definitions {
                match self.services.binary_search_by(|s| s.name().cmp(&name)) {
                    Ok(_) => {}
                    Err(at) => self.services.insert(at, Service::new(name, policy, now)),
                }
            }
        }
        Vec::new()
    }

    /// When the next [`Event::Tick`] is due, in time since boot; it may have
    /// passed already.
    pub fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// One service.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        let at = self.services.binary_search_by(|s| s.name().cmp(name));
        self.services.get(at.ok()?)
    }

    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// How the machine is to end, once it is asked to.
    pub fn shutdown(&self) -> Option<Shutdown> {
        self.shutdown
    }
}
