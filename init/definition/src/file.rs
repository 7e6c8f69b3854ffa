//! The file's own types and defaults, and their translation into a
//! [`Definition`].

use std::collections::BTreeMap;

use config::Fault;
use config::value::{AbsolutePath, Duration, OrNone, Size, within};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use supervisor::{Health, Policy, Ready, Restart, RestartPolicy, ServiceName};

use crate::value::{
    Backoff, CapabilityName, CpuLimit, Dependency, Device, Listen, RestartLimit, SocketMode,
    StopSignal, User, Variable,
};
use crate::{Definition, Limits, MemoryLimit};

/// `service.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    description: String,
    role: Option<Role>,
    image: Option<String>,
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<Variable, String>,
    working_directory: Option<AbsolutePath>,
    user: Option<User>,
    #[serde(default)]
    requires: Vec<Dependency>,
    #[serde(default)]
    after: Vec<Dependency>,
    #[serde(default)]
    ready: ReadyKey,
    start_timeout: Option<Duration>,
    #[serde(default)]
    restart: RestartTable,
    #[serde(default)]
    stop: StopTable,
    watchdog: Option<Duration>,
    #[serde(default)]
    capabilities: Vec<CapabilityName>,
    #[serde(default)]
    namespaces: NamespacesTable,
    #[serde(default)]
    mounts: Vec<Mount>,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    sockets: Vec<Listen>,
    socket_mode: Option<SocketMode>,
    #[serde(default)]
    stored_descriptors: u32,
    #[serde(default)]
    limits: LimitsTable,
    health: Option<HealthTable>,
    #[serde(default)]
    essential: bool,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReadyKey {
    #[default]
    Started,
    Exit,
    Notify,
    Health,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RestartPolicyKey {
    Never,
    OnFailure,
    Always,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RestartTable {
    policy: Option<RestartPolicyKey>,
    backoff: Option<Backoff>,
    limit: Option<OrNone<RestartLimit>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StopTable {
    signal: Option<StopSignal>,
    timeout: Option<Duration>,
}

/// What a service of the OS image is to PID 1 and to all other services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It prepares the state partition: its start is the partition's mounting,
    /// and whoever uses the state requires it.
    State,
    /// It gets the output of every service, starts before and stops after all
    /// others.
    Log,
}

/// Whether something is the container's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// The container has its own.
    #[default]
    Private,
    /// It is the machine's.
    Host,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NamespacesTable {
    #[serde(default)]
    network: Share,
    #[serde(default)]
    pid: Share,
    #[serde(default)]
    ipc: Share,
}

/// A file or folder of the machine that the container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mount {
    /// Its absolute path on the machine.
    pub source: AbsolutePath,
    /// Its absolute path in the container.
    pub target: AbsolutePath,
    /// Whether the container may only read it.
    #[serde(default)]
    pub read_only: bool,
    /// Whether what is mounted below the source comes with it.
    #[serde(default)]
    pub recursive: bool,
    /// Whether a source that does not exist is left out.
    #[serde(default)]
    pub optional: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsTable {
    memory: Option<OrNone<Size>>,
    swap: Option<Size>,
    pids: Option<OrNone<u64>>,
    cpu: Option<CpuLimit>,
    open_files: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HealthTable {
    command: Vec<String>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    retries: Option<u32>,
}

/// A service that is not ready by then is stopped and counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a service may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit of tasks where the definition names none: a fork bomb stays in
/// its container.
const PIDS: u64 = 512;
/// The most descriptors that a service may store: they count among PID 1's.
const STORED: u32 = 256;
/// The shortest time that a machine under load can keep: below it, probes would
/// follow each other without a pause, and nothing would be ready in time.
const LEAST_TIME: Duration = Duration(std::time::Duration::from_millis(50));

impl File {
    /// Checks what the types could not.
    pub fn into_definition(self) -> Result<Definition, Fault> {
        check_command(&self.command).map_err(|fault| fault.at("command"))?;
        if let Some(health) = &self.health {
            check_command(&health.command).map_err(|fault| fault.at("command").at("health"))?;
        }
        for (Variable(name), value) in &self.environment {
            if value.contains('\0') {
                let fault = Fault::new("the value holds a zero byte");
                return Err(fault.at(name.as_str()).at("environment"));
            }
        }
        let memory = match self.limits.memory {
            None => MemoryLimit::Half,
            Some(OrNone(Some(Size(bytes)))) => MemoryLimit::Bytes(bytes),
            Some(OrNone(None)) => MemoryLimit::None,
        };
        let swap = self.limits.swap.map(|size| size.0);
        for (key, is_zero) in [
            ("memory", memory == MemoryLimit::Bytes(0)),
            ("swap", swap == Some(0)),
        ] {
            if is_zero {
                let fault = Fault::new("0 is no limit that can be kept, expected more");
                return Err(fault.at(key).at("limits"));
            }
        }
        if swap.is_some() && memory == MemoryLimit::None {
            let fault = Fault::new("swap is limited only in addition to a limit of the memory");
            return Err(fault.at("swap").at("limits"));
        }
        let pids = self.limits.pids.unwrap_or(OrNone(Some(PIDS))).0;
        for (key, number, least) in [
            // Every process would be one too many.
            ("pids", pids, 1),
            // The three standard ones, and one to load the program with.
            ("open-files", self.limits.open_files, 4),
        ] {
            if let Some(number) = number {
                within(number, least..=i64::MAX as u64)
                    .map_err(|fault| fault.at(key).at("limits"))?;
            }
        }
        within(self.stored_descriptors, 0..=STORED)
            .map_err(|fault| fault.at("stored-descriptors"))?;
        if let Some(health) = &self.health {
            let least = |time: Option<Duration>| at_least(time, LEAST_TIME);
            least(health.interval).map_err(|fault| fault.at("interval").at("health"))?;
            least(health.timeout).map_err(|fault| fault.at("timeout").at("health"))?;
            within(health.retries.unwrap_or(1), 1..=u32::MAX)
                .map_err(|fault| fault.at("retries").at("health"))?;
        }
        at_least(self.start_timeout, LEAST_TIME).map_err(|fault| fault.at("start-timeout"))?;
        at_least(self.watchdog, LEAST_TIME).map_err(|fault| fault.at("watchdog"))?;
        if matches!(self.ready, ReadyKey::Health) && self.health.is_none() {
            return Err(Fault::new("\"health\" needs a table `health`").at("ready"));
        }
        if matches!(self.ready, ReadyKey::Exit)
            && matches!(self.restart.policy, Some(RestartPolicyKey::Always))
        {
            let fault = Fault::new(
                "a one-shot (ready = \"exit\") that always runs again is never done; \
                 use policy \"on-failure\", or another `ready`",
            );
            return Err(fault.at("policy").at("restart"));
        }
        Ok(Definition {
            policy: Policy {
                requires: names(self.requires),
                after: names(self.after),
                ready: match self.ready {
                    ReadyKey::Started => Ready::Started,
                    ReadyKey::Exit => Ready::Exit,
                    ReadyKey::Notify => Ready::Notify,
                    ReadyKey::Health => Ready::Health,
                },
                start_timeout: Some(self.start_timeout.unwrap_or(START_TIMEOUT).0),
                restart: restart(&self.restart),
                stop_timeout: self.stop.timeout.unwrap_or(STOP_TIMEOUT).0,
                health: self.health.as_ref().map(|health| Health {
                    interval: health.interval.unwrap_or(Duration::from_secs(30)).0,
                    timeout: health.timeout.unwrap_or(Duration::from_secs(5)).0,
                    retries: health.retries.unwrap_or(3),
                }),
                watchdog: self.watchdog.map(|time| time.0),
                essential: self.essential,
                enabled: self.enabled,
            },
            description: self.description,
            role: self.role,
            image: self.image,
            command: self.command,
            environment: self
                .environment
                .into_iter()
                .map(|(Variable(name), value)| (name, value))
                .collect(),
            working_directory: self
                .working_directory
                .map_or_else(|| "/".to_owned(), Into::into),
            user: self.user.unwrap_or_default(),
            stop_signal: self
                .stop
                .signal
                .unwrap_or(StopSignal(Signal::SIGTERM as i32)),
            probe: self.health.map(|health| health.command),
            capabilities: self.capabilities.into_iter().map(|name| name.0).collect(),
            network: self.namespaces.network,
            pid: self.namespaces.pid,
            ipc: self.namespaces.ipc,
            mounts: self.mounts,
            devices: self.devices.into_iter().map(|device| device.0).collect(),
            sockets: self.sockets,
            socket_mode: self.socket_mode.unwrap_or_default().0,
            stored_descriptors: self.stored_descriptors,
            limits: Limits {
                memory,
                swap,
                pids,
                cpu: self.limits.cpu,
                open_files: self.limits.open_files,
            },
        })
    }
}

fn restart(table: &RestartTable) -> Restart {
    let backoff = table.backoff.unwrap_or(Backoff {
        min: std::time::Duration::from_millis(250),
        max: std::time::Duration::from_secs(30),
    });
    let limit = table.limit.unwrap_or(OrNone(Some(RestartLimit {
        count: 10,
        window: std::time::Duration::from_secs(3600),
    })));
    Restart {
        policy: match table.policy.unwrap_or(RestartPolicyKey::OnFailure) {
            RestartPolicyKey::Never => RestartPolicy::Never,
            RestartPolicyKey::OnFailure => RestartPolicy::OnFailure,
            RestartPolicyKey::Always => RestartPolicy::Always,
        },
        backoff_min: backoff.min,
        backoff_max: backoff.max,
        limit: limit
            .0
            .map(|RestartLimit { count, window }| supervisor::RestartLimit { count, window }),
    }
}

fn at_least(time: Option<Duration>, least: Duration) -> Result<(), Fault> {
    match time {
        Some(time) if time < least => Err(Fault::new(format!(
            "{time} is too short, expected {least} at least"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn check_command(command: &[String]) -> Result<(), Fault> {
    let Some(program) = command.first() else {
        return Err(Fault::new("the command is empty"));
    };
    if !program.starts_with('/') {
        return Err(Fault::new(format!(
            "'{program}' is not an absolute path, expected one that begins with '/'"
        ))
        .at(0));
    }
    match command.iter().position(|argument| argument.contains('\0')) {
        Some(index) => Err(Fault::new("the argument holds a zero byte").at(index)),
        None => Ok(()),
    }
}

fn names(dependencies: Vec<Dependency>) -> std::collections::BTreeSet<ServiceName> {
    dependencies.into_iter().map(|name| name.0).collect()
}
