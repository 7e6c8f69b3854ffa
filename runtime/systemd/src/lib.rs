//! Containers' cgroups as systemd scopes (`--systemd-cgroup`).
//!
//! systemd owns the tree on its hosts: it may empty or remove a cgroup that
//! others create. So this crate asks it over D-Bus for a scope with a delegated
//! cgroup, and passes the limits too, so that systemd does not set others.
//!
//! A scope starts with a process in it and ends with its last one, but a
//! container's process is born directly in its cgroup. In between, a process of
//! the runtime that does nothing ([`Placeholder`]) holds the scope, from
//! [`place`] until [`Scope::release`]; it ends by itself when the runtime does.
//!
//! This is not part of the library `runtime`, which PID 1 links: PID 1 has no
//! use for D-Bus.

mod bus;
mod message;
mod properties;
mod unit;

use std::path::PathBuf;
use std::{fmt, fs, io};

use oci_spec::runtime::{LinuxPids, LinuxResources};
use runtime::cgroup::{Cgroup, Hierarchy, Placeholder};

pub use bus::{Bus, user_socket};
pub use unit::Unit;

/// Why systemd did not do it.
#[derive(Debug)]
pub enum Error {
    /// `linux.cgroupsPath` is not the name of a scope.
    Path {
        /// What it is.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No systemd answers at any of these sockets.
    Connect {
        /// What was tried, and the results.
        tried: Vec<(PathBuf, io::Error)>,
    },
    /// The connection failed.
    Connection {
        /// What it was used for.
        call: &'static str,
        /// The failure.
        source: io::Error,
    },
    /// systemd refused a call.
    Refused {
        /// The call.
        call: &'static str,
        /// The unit it was about.
        unit: String,
        /// D-Bus name of the error.
        name: String,
        /// What systemd says.
        message: String,
    },
    /// A systemd job did not succeed.
    Job {
        /// The unit.
        unit: String,
        /// `failed`, `timeout`, `canceled` …
        result: String,
    },
    /// The scope exists, but not where it should be.
    Cgroup {
        /// The unit.
        unit: String,
        /// Where its process is.
        found: PathBuf,
    },
    /// The cgroup could not be set up.
    Runtime(runtime::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Path { path, why } => write!(
                f,
                "linux.cgroupsPath: \"{path}\" {why}: with systemd it is slice:prefix:name, \
                 as system.slice:docker:1234"
            ),
            Error::Connect { tried } => {
                write!(f, "no systemd answers (try without --systemd-cgroup)")?;
                for (path, error) in tried {
                    write!(f, "; {}: {error}", path.display())?;
                }
                Ok(())
            }
            Error::Connection { call, .. } => write!(f, "systemd: {call}"),
            Error::Refused {
                call,
                unit,
                name,
                message,
            } => write!(f, "systemd: {call} {unit}: {message} ({name})"),
            Error::Job { unit, result } => write!(f, "systemd: job for {unit}: {result}"),
            Error::Cgroup { unit, found } => write!(
                f,
                "systemd: {unit} was started, but its process is in {}",
                found.display()
            ),
            Error::Runtime(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connection { source, .. } => Some(source),
            Error::Runtime(error) => error.source(),
            Error::Path { .. }
            | Error::Connect { .. }
            | Error::Refused { .. }
            | Error::Job { .. }
            | Error::Cgroup { .. } => None,
        }
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Error {
        Error::Runtime(error)
    }
}

/// A scope that was started for a container.
#[derive(Debug)]
pub struct Scope {
    /// Its cgroup, with limits and device rules, in which the container's process is to be born.
    pub cgroup: Cgroup,
    placeholder: Placeholder,
    /// `linux.resources.pids`, which must not count the placeholder.
    pids: Option<LinuxPids>,
}

/// Starts a scope and sets its cgroup up. Blocks until systemd has done its
/// part.
pub fn place(
    bus: &mut Bus,
    hierarchy: &Hierarchy,
    unit: &Unit,
    resources: &LinuxResources,
) -> Result<Scope, Error> {
    let placeholder = Placeholder::new()?;
    let settings = runtime::cgroup::settings(resources)?;
    let pid = placeholder.pid().as_raw().unsigned_abs();
    bus.start_scope(unit, pid, properties::of(&settings))?;
    match adopt(hierarchy, unit, resources, &placeholder) {
        Ok(cgroup) => Ok(Scope {
            cgroup,
            placeholder,
            pids: *resources.pids(),
        }),
        Err(error) => {
            drop(placeholder);
            // The first error is the one reported.
            let _ = bus.stop(unit);
            Err(error)
        }
    }
}

fn adopt(
    hierarchy: &Hierarchy,
    unit: &Unit,
    resources: &LinuxResources,
    placeholder: &Placeholder,
) -> Result<Cgroup, Error> {
    let path = cgroup_of(placeholder.pid().as_raw())?;
    if path.file_name().and_then(|name| name.to_str()) != Some(unit.name()) {
        return Err(Error::Cgroup {
            unit: unit.name().to_string(),
            found: path,
        });
    }
    let mut with_placeholder = resources.clone();
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() > 0) {
        let mut more = pids;
        more.set_limit(pids.limit().saturating_add(1));
        with_placeholder.set_pids(Some(more));
    }
    let path = hierarchy.below_mount(&path)?;
    Ok(hierarchy.adopt(&path, &with_placeholder)?)
}

/// The cgroup of a process, named from the root of the tree.
fn cgroup_of(pid: i32) -> Result<PathBuf, Error> {
    let call = "reading /proc/<pid>/cgroup";
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_err(|source| Error::Connection { call, source })?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(PathBuf::from)
        .ok_or_else(|| Error::Connection {
            call,
            source: io::Error::from(io::ErrorKind::NotFound),
        })
}

impl Scope {
    /// Releases the placeholder: the container's process exists now.
    ///
    /// The path of its cgroup stays valid, as does the limit of processes,
    /// which from here on counts only the container's.
    pub fn release(self) -> Result<Cgroup, Error> {
        self.placeholder.end();
        if self.pids.is_some_and(|pids| pids.limit() > 0) {
            let mut resources = LinuxResources::default();
            resources.set_devices(None).set_pids(self.pids);
            self.cgroup.update(&resources)?;
        }
        Ok(self.cgroup)
    }
}

/// Changes the named limits, in the unit and then in its cgroup.
pub fn update(
    bus: &mut Bus,
    unit: &Unit,
    cgroup: &Cgroup,
    resources: &LinuxResources,
) -> Result<(), Error> {
    let properties = properties::of(&cgroup.settings(resources)?);
    if !properties.is_empty() {
        bus.set_properties(unit, properties)?;
    }
    // After it: systemd rounds CPU quotas up, and does not know all limits.
    Ok(cgroup.update(resources)?)
}

/// Ends the scope, with every process in it. A missing one is not an error.
pub fn remove(bus: &mut Bus, unit: &Unit) -> Result<(), Error> {
    bus.stop(unit)
}

#[cfg(test)]
mod tests;
