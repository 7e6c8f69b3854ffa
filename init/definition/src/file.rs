//! The file's own types and defaults, and their translation into a
//! [`Definition`].

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;
use oci_spec::runtime::Capabilities;
use serde::{Deserialize, Serialize};
use supervisor::{Health, Policy, Ready, Restart, RestartPolicy, ServiceName};

use super::value::{Backoff, Bytes, CpuLimit, Listen, RestartLimit, Time, User};
use super::{Definition, Limits};

/// `service.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    description: String,
    image: Option<String>,
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    working_directory: Option<String>,
    user: Option<User>,
    #[serde(default)]
    requires: BTreeSet<String>,
    #[serde(default)]
    after: BTreeSet<String>,
    #[serde(default)]
    ready: ReadyKey,
    start_timeout: Option<Time>,
    #[serde(default)]
    restart: RestartTable,
    #[serde(default)]
    stop: StopTable,
    watchdog: Option<Time>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    namespaces: NamespacesTable,
    #[serde(default)]
    mounts: Vec<Mount>,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    sockets: Vec<Listen>,
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
    limit: Option<RestartLimit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StopTable {
    signal: Option<String>,
    timeout: Option<Time>,
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
    pub source: String,
    /// Its absolute path in the container.
    pub target: String,
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
    memory: Option<Bytes>,
    swap: Option<Bytes>,
    pids: Option<u64>,
    cpu: Option<CpuLimit>,
    open_files: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HealthTable {
    command: Vec<String>,
    interval: Option<Time>,
    timeout: Option<Time>,
    retries: Option<u32>,
}

/// A service that is not ready by then is stopped and counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a service may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit of tasks where the definition names none: a fork bomb stays in
/// its container.
const PIDS: u64 = 512;

impl File {
    /// Checks what the types could not. The error is the key and what is wrong
    /// with it.
    pub fn into_definition(self) -> Result<Definition, (&'static str, String)> {
        check_command("command", &self.command)?;
        if let Some(health) = &self.health {
            check_command("health", &health.command)?;
        }
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(("environment", format!("'{name}' is not a variable's name")));
            }
        }
        for mount in &self.mounts {
            for path in [&mount.source, &mount.target] {
                check_path("mounts", path)?;
            }
        }
        for device in &self.devices {
            if device != STATE_DISK && device != BOOT_DISK {
                check_path("devices", device)?;
                if !device.starts_with("/dev/") {
                    return Err(("devices", format!("'{device}' is not below /dev")));
                }
            }
        }
        let working_directory = self.working_directory.unwrap_or_else(|| "/".to_owned());
        check_path("working-directory", &working_directory)?;
        let mut capabilities = Capabilities::new();
        for name in self.capabilities {
            let capability = name.strip_prefix("CAP_").unwrap_or("").parse();
            capabilities.insert(capability.map_err(|_| {
                (
                    "capabilities",
                    format!("there is no capability '{name}'; write it as CAP_NET_ADMIN"),
                )
            })?);
        }
        let stop_signal = match &self.stop.signal {
            None => Signal::SIGTERM,
            Some(name) => Signal::from_str(name).map_err(|_| {
                (
                    "stop",
                    format!("there is no signal '{name}'; write it as SIGTERM"),
                )
            })?,
        };
        if matches!(self.ready, ReadyKey::Health) && self.health.is_none() {
            return Err(("ready", "\"health\" needs a table `health`".to_owned()));
        }
        if matches!(self.ready, ReadyKey::Exit)
            && matches!(self.restart.policy, Some(RestartPolicyKey::Always))
        {
            return Err((
                "restart",
                "a one-shot (ready = \"exit\") that always runs again is never done; \
                 use policy \"on-failure\", or another `ready`"
                    .to_owned(),
            ));
        }
        if let Some(Time(time)) = self.watchdog
            && time.is_zero()
        {
            return Err(("watchdog", "must be longer than 0".to_owned()));
        }
        Ok(Definition {
            policy: Policy {
                requires: names("requires", self.requires)?,
                after: names("after", self.after)?,
                ready: match self.ready {
                    ReadyKey::Started => Ready::Started,
                    ReadyKey::Exit => Ready::Exit,
                    ReadyKey::Notify => Ready::Notify,
                    ReadyKey::Health => Ready::Health,
                },
                start_timeout: Some(self.start_timeout.map_or(START_TIMEOUT, |time| time.0)),
                restart: restart(&self.restart),
                stop_timeout: self.stop.timeout.map_or(STOP_TIMEOUT, |time| time.0),
                health: self.health.as_ref().map(|health| Health {
                    interval: health
                        .interval
                        .map_or(Duration::from_secs(30), |time| time.0),
                    timeout: health.timeout.map_or(Duration::from_secs(5), |time| time.0),
                    retries: health.retries.unwrap_or(3),
                }),
                watchdog: self.watchdog.map(|time| time.0),
                essential: self.essential,
                enabled: self.enabled,
            },
            description: self.description,
            image: self.image,
            command: self.command,
            environment: self.environment,
            working_directory,
            user: self.user.unwrap_or_default(),
            stop_signal,
            probe: self.health.map(|health| health.command),
            capabilities,
            network: self.namespaces.network,
            pid: self.namespaces.pid,
            ipc: self.namespaces.ipc,
            mounts: self.mounts,
            devices: self.devices,
            sockets: self.sockets,
            stored_descriptors: self.stored_descriptors,
            limits: Limits {
                memory: self.limits.memory.map(|bytes| bytes.0),
                swap: self.limits.swap.map(|bytes| bytes.0),
                pids: Some(self.limits.pids.unwrap_or(PIDS)),
                cpu: self.limits.cpu,
                open_files: self.limits.open_files,
            },
        })
    }
}

/// The word in `devices` for the disk of the state partition with all its
/// partitions: only PID 1 knows which that is.
pub const STATE_DISK: &str = "state-disk";

/// The word in `devices` for the disk that the system booted from, without its
/// partitions.
pub const BOOT_DISK: &str = "boot-disk";

fn restart(table: &RestartTable) -> Restart {
    let backoff = table.backoff.unwrap_or(Backoff {
        min: Duration::from_millis(250),
        max: Duration::from_secs(30),
    });
    let limit = table
        .limit
        .map_or(Some((10, Duration::from_secs(3600))), |limit| limit.0);
    Restart {
        policy: match table.policy.unwrap_or(RestartPolicyKey::OnFailure) {
            RestartPolicyKey::Never => RestartPolicy::Never,
            RestartPolicyKey::OnFailure => RestartPolicy::OnFailure,
            RestartPolicyKey::Always => RestartPolicy::Always,
        },
        backoff_min: backoff.min,
        backoff_max: backoff.max,
        limit: limit.map(|(count, window)| supervisor::RestartLimit { count, window }),
    }
}

fn check_command(key: &'static str, command: &[String]) -> Result<(), (&'static str, String)> {
    match command.first() {
        None => Err((key, "the command is empty".to_owned())),
        Some(program) if !program.starts_with('/') => {
            Err((key, format!("'{program}' is not an absolute path")))
        }
        Some(_) if command.iter().any(|argument| argument.contains('\0')) => {
            Err((key, "an argument holds a zero byte".to_owned()))
        }
        Some(_) => Ok(()),
    }
}

fn check_path(key: &'static str, path: &str) -> Result<(), (&'static str, String)> {
    if !path.starts_with('/') {
        return Err((key, format!("'{path}' is not an absolute path")));
    }
    if path.split('/').any(|part| part == "..") || path.contains('\0') {
        return Err((key, format!("'{path}' holds '..' or a zero byte")));
    }
    Ok(())
}

fn names(
    key: &'static str,
    names: BTreeSet<String>,
) -> Result<BTreeSet<ServiceName>, (&'static str, String)> {
    names
        .into_iter()
        .map(|name| {
            ServiceName::from_str(&name)
                .map_err(|_| (key, format!("'{name}' is not a service's name")))
        })
        .collect()
}
