//! All services: those that can be run, with what is held for each, and the
//! definitions that cannot. What is special about the services with a role is
//! decided here, where definitions are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use definition::{Entry, Role};
use nix::sys::epoll::EpollFlags;
use supervisor::{Policy, ServiceName};

use crate::catalog::Reading;
use crate::kernel_log::log;
use crate::listening;
use crate::outputs::Outputs;
use crate::service::{Id, Service, notify_path};
use crate::source::{Source, Sources};

/// The services and what is wrong with the others.
#[derive(Debug, Default)]
pub struct Services {
    /// One that is removed leaves its place empty: a service's place stays the
    /// same as long as PID 1 runs.
    table: Vec<Option<Service>>,
    /// Definitions that cannot be run, by the name of their folder, and whether
    /// they are the operator's.
    invalid: BTreeMap<String, (config::Error, bool)>,
    outputs: Outputs,
}

/// What became of definitions.
#[derive(Debug, Default)]
pub struct Defined {
    /// For the supervisor: those that can be run.
    pub policies: BTreeMap<ServiceName, Policy>,
    /// Their places.
    pub places: Vec<Id>,
    /// What is wrong with the others.
    pub complaints: Vec<String>,
}

impl Services {
    /// As an earlier run of PID 1 left them.
    pub fn inherited(
        table: Vec<Option<Service>>,
        invalid: BTreeMap<String, (config::Error, bool)>,
        outputs: Outputs,
    ) -> Self {
        Self {
            table,
            invalid,
            outputs,
        }
    }

    /// The places, whether empty or not.
    pub fn table(&self) -> &[Option<Service>] {
        &self.table
    }

    /// The definitions that cannot be run, and whether they are the operator's.
    pub fn invalid(&self) -> &BTreeMap<String, (config::Error, bool)> {
        &self.invalid
    }

    /// PID 1's side of the log service's socket.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Every service that can be run, with its place.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Service)> {
        (0..)
            .zip(&self.table)
            .filter_map(|(id, service)| Some((id, service.as_ref()?)))
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut Service)> {
        (0..)
            .zip(&mut self.table)
            .filter_map(|(id, service)| Some((id, service.as_mut()?)))
    }

    /// A service by its place.
    pub fn get(&self, id: Id) -> Option<&Service> {
        self.table.get(id as usize)?.as_ref()
    }

    /// A service by its place.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Service> {
        self.table.get_mut(id as usize)?.as_mut()
    }

    /// The place of the service of that name.
    pub fn find(&self, name: &str) -> Option<Id> {
        let (id, _) = self.iter().find(|(_, service)| service.name() == name)?;
        Some(id)
    }

    /// The service of that name.
    pub fn by_name(&self, name: &str) -> Option<&Service> {
        self.get(self.find(name)?)
    }

    /// The place of a service whose current run has this number.
    pub fn running(&self, name: &ServiceName, run: u32) -> Option<Id> {
        let id = self.find(name.as_str())?;
        let current = self.get(id)?.run.as_ref()?.number;
        (current == run).then_some(id)
    }

    /// The service that has this role.
    pub fn with_role(&self, role: Role) -> Option<(Id, &Service)> {
        self.iter()
            .find(|(_, service)| service.role() == Some(role))
    }

    /// Takes definitions, of the OS image or the operator's, and opens what they
    /// need. Services named in `disabled` are not started by themselves.
    pub fn define(
        &mut self,
        readings: Vec<Reading>,
        operator: bool,
        disabled: &BTreeSet<String>,
        sources: &Sources,
    ) -> Defined {
        let mut defined = Defined::default();
        for Reading { name, entry } in readings {
            let shadowing = operator && self.by_name(&name).is_some_and(|other| !other.operator);
            let result = entry.and_then(|entry| {
                let path = entry.path.clone();
                self.hold(entry, operator, sources)
                    .map_err(|message| config::Error::of_file(path, message))
            });
            match result {
                Ok(id) => {
                    defined.places.push(id);
                    self.invalid.remove(&name);
                }
                Err(error) => {
                    log!(Error, "{error}");
                    defined.complaints.push(error.to_string());
                    // The one of the image runs; only the other is wrong.
                    if !shadowing {
                        self.invalid.insert(name, (error, operator));
                    }
                }
            }
        }
        self.flush_outputs(sources);
        // Only now is it known which services have a role.
        defined.policies = defined
            .places
            .iter()
            .filter_map(|id| self.policy(*id, disabled))
            .collect();
        defined
    }

    /// Opens what a service needs, or changes what is open.
    fn hold(&mut self, entry: Entry, operator: bool, sources: &Sources) -> Result<Id, String> {
        self.check(&entry, operator)?;
        if let Some(id) = self.find(entry.name.as_str()) {
            // Its sockets may change; they are watched again afterwards.
            self.unwatch_activation(id, sources);
            if let Some(service) = self.get_mut(id) {
                service.redefine(id, entry)?;
                return Ok(id);
            }
        }
        let free = self.table.iter().position(Option::is_none);
        let place = free.unwrap_or(self.table.len());
        let id = Id::try_from(place).map_err(|error| error.to_string())?;
        let service = Service::open(id, entry, operator)?;
        sources.add(&service.notify, Source::Notify(id), EpollFlags::EPOLLIN)?;
        self.outputs.hand_over(service.name(), &service.output.read);
        match self.table.get_mut(place) {
            Some(free) => *free = Some(service),
            None => self.table.push(Some(service)),
        }
        Ok(id)
    }

    /// Whether a definition may take its name and its role.
    fn check(&self, entry: &Entry, operator: bool) -> Result<(), String> {
        let name = entry.name.as_str();
        if operator && self.by_name(name).is_some_and(|other| !other.operator) {
            return Err(format!(
                "the OS image has a service '{name}'; give the folder another name"
            ));
        }
        let Some(role) = entry.definition.role else {
            return Ok(());
        };
        if operator {
            return Err("key `role`: only services of the OS image have one".to_owned());
        }
        match self.with_role(role) {
            Some((_, other)) if other.name() != name => {
                Err(format!("key `role`: {} has this role", other.name()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A service's policy, with what every service implies.
    fn policy(&self, id: Id, disabled: &BTreeSet<String>) -> Option<(ServiceName, Policy)> {
        let service = self.get(id)?;
        let entry = &service.entry;
        let mut policy = entry.definition.policy.clone();
        if disabled.contains(service.name()) {
            policy.enabled = false;
        }
        let name = |role| Some(self.with_role(role)?.1.entry.name.clone());
        let uses_state = service.operator
            || entry
                .definition
                .mounts
                .iter()
                .any(|mount| mount.source.as_path().starts_with(crate::storage::STATE));
        match service.role() {
            // First of all: others wait for it.
            Some(Role::State) => {}
            Some(Role::Log) => {
                if uses_state {
                    policy.requires.extend(name(Role::State));
                }
            }
            None => {
                if uses_state {
                    policy.requires.extend(name(Role::State));
                }
                // So the log service stops last and nobody's last lines are lost.
                policy.after.extend(name(Role::Log));
            }
        }
        Some((entry.name.clone(), policy))
    }

    /// Drops the invalid definitions of the operator's whose folder is gone, and
    /// returns his services of which that is true.
    pub fn gone(&mut self, readings: &[Reading]) -> Vec<ServiceName> {
        let is_there = |name: &str| readings.iter().any(|reading| reading.name == name);
        self.invalid
            .retain(|name, (_, operator)| !*operator || is_there(name));
        self.iter()
            .filter(|(_, service)| {
                service.operator && !service.for_this_boot && !is_there(service.name())
            })
            .map(|(_, service)| service.entry.name.clone())
            .collect()
    }

    /// Takes those readings away whose name a service has that is defined until
    /// the next boot; returns what is said about them.
    pub fn yield_to_this_boot(&self, readings: &mut Vec<Reading>) -> Vec<String> {
        let mut complaints = Vec::new();
        readings.retain(|Reading { name, .. }| {
            let is_taken = self
                .by_name(name)
                .is_some_and(|service| service.for_this_boot);
            if is_taken {
                complaints.push(format!(
                    "{name}: a service of that name is defined until the next boot; \
                     `wherry service remove {name}` makes way"
                ));
            }
            !is_taken
        });
        complaints
    }

    /// Forgets that a definition was invalid.
    pub fn forget_invalid(&mut self, name: &str) {
        self.invalid.remove(name);
    }

    /// Closes what is held for services that do not run and that `is_known` does
    /// not know any more.
    pub fn forget(&mut self, sources: &Sources, is_known: impl Fn(&ServiceName) -> bool) {
        for place in &mut self.table {
            let is_forgotten = place
                .as_ref()
                .is_some_and(|service| service.run.is_none() && !is_known(&service.entry.name));
            if is_forgotten && let Some(service) = place.take() {
                sources.remove(&service.notify);
                for socket in &service.sockets {
                    sources.remove(socket);
                }
                let definition = &service.entry.definition;
                definition.sockets.iter().for_each(listening::remove);
                let _ = std::fs::remove_file(notify_path(service.name()));
            }
        }
    }

    /// A fresh socket for the service that gets the others' outputs.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn connect_outputs(&mut self) -> Result<OwnedFd, String> {
        self.outputs.connect()
    }

    /// Hands all outputs over to the service that has just got the socket.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn hand_outputs_over(&mut self, sources: &Sources) -> Result<(), String> {
        if let Some(socket) = self.outputs.socket() {
            sources.add(socket, Source::Outputs, EpollFlags::empty())?;
        }
        for service in self.table.iter().flatten() {
            self.outputs.hand_over(service.name(), &service.output.read);
        }
        self.flush_outputs(sources);
        Ok(())
    }

    /// Sends waiting outputs to the log service.
    pub fn flush_outputs(&mut self, sources: &Sources) {
        let waits = self.outputs.flush();
        if let Some(socket) = self.outputs.socket() {
            let flags = if waits {
                EpollFlags::EPOLLOUT
            } else {
                EpollFlags::empty()
            };
            sources.modify(socket, Source::Outputs, flags);
        }
    }

    /// Watches the sockets of a service that does not run now.
    pub fn watch_activation(&mut self, id: Id, sources: &Sources) {
        let Some(service) = self.get_mut(id) else {
            return;
        };
        if !service.sockets.is_empty() && !service.activation {
            service.activation = true;
            for socket in &service.sockets {
                let _ = sources.add(&socket.as_fd(), Source::Activation(id), EpollFlags::EPOLLIN);
            }
        }
    }

    /// Leaves its sockets to the service itself.
    pub fn unwatch_activation(&mut self, id: Id, sources: &Sources) {
        if let Some(service) = self.get_mut(id)
            && std::mem::take(&mut service.activation)
        {
            for socket in &service.sockets {
                sources.remove(socket);
            }
        }
    }
}
