//! What clients are told of the machine and its services. It looks at PID 1's
//! parts and changes none.

use std::fs;

use control::{
    Disk, Health, Memory, Phase, Refusal, Reply, ServiceDetail, ServiceState, Slot, Status,
    Storage, StorageState,
};
use supervisor::{ServiceName, State, Supervisor};

use crate::boot_record::BootRecord;
use crate::cmdline::Cmdline;
use crate::inhibit::Inhibitors;
use crate::machine::{self, Machine};
use crate::mount::SERVICES;
use crate::service::Service;
use crate::services::Services;
use crate::state_partition::{Mounted, StatePartition};
use crate::trial::Trial;
use crate::watchdog::Watchdog;

/// The parts of PID 1 that are told of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub cmdline: &'a Cmdline,
    pub machine: &'a Machine,
    pub boot: &'a BootRecord,
    pub supervisor: &'a Supervisor,
    pub services: &'a Services,
    pub state: &'a StatePartition,
    pub trial: &'a Trial,
    pub inhibitors: &'a Inhibitors,
    pub watchdog: Option<&'a Watchdog>,
    pub reexecuted: u32,
}

impl<'a> View<'a> {
    /// The machine and all services.
    pub fn status(&self) -> Status {
        let lines = self.lines();
        let mut degraded = self.state.problems.clone();
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
        } else if self.boot.is_settled() {
            Phase::Ready
        } else {
            Phase::Booting
        };
        let machine = self.machine;
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
                watchdog_reset: self.watchdog.is_some_and(Watchdog::has_reset),
            },
            memory: memory(),
            storage: self.storage(),
            inhibitors: self.inhibitors.all().cloned().collect(),
            services: lines,
        }
    }

    fn storage(&self) -> Storage {
        let (state, device) = match &self.state.mounted {
            Mounted::Pending => (StorageState::Pending, None),
            Mounted::Persistent { device } => (StorageState::Persistent, Some(device.clone())),
            Mounted::Volatile => (StorageState::Volatile, None),
        };
        let disk = (self.state.mounted != Mounted::Pending)
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
            notes: self.state.notes.clone(),
        }
    }

    /// Every service, by name.
    pub fn lines(&self) -> Vec<control::Service> {
        let services = self.services.iter();
        let mut lines: Vec<control::Service> = services
            .map(|(_, service)| self.service_line(service))
            .collect();
        lines.extend(
            self.services
                .invalid()
                .iter()
                // One that runs under an older definition is listed as it runs.
                .filter(|(name, _)| self.services.by_name(name).is_none())
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
    pub fn line(&self, name: &str) -> Option<control::Service> {
        Some(self.service_line(self.services.by_name(name)?))
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
        let detail = match self.services.invalid().get(service.name()) {
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
            pid: service
                .process()
                .and_then(|pid| u32::try_from(pid.as_raw()).ok()),
            restarts: supervised.map_or(0, supervisor::Service::restarts),
            memory: run
                .and_then(|run| run.cgroup.as_ref())
                .and_then(|cgroup| cgroup.memory_current().ok()),
            essential: service.entry.definition.policy.essential,
            operator: service.operator,
            for_this_boot: service.for_this_boot,
        }
    }

    /// A service that can be run.
    ///
    /// # Errors
    /// There is none of that name, or its definition has an error.
    pub fn known(&self, name: &str) -> Result<&'a Service, Refusal> {
        if let Some(service) = self.services.by_name(name) {
            return Ok(service);
        }
        Err(match self.services.invalid().get(name) {
            Some((error, _)) => Refusal::InvalidDefinition {
                service: name.to_owned(),
                message: error.to_string(),
            },
            None => Refusal::UnknownService {
                service: name.to_owned(),
            },
        })
    }

    /// All of one service.
    ///
    /// # Errors
    /// As [`Self::known`].
    pub fn show(&self, name: &str) -> Result<Reply, Refusal> {
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
