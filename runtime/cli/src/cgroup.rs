//! Where containers' cgroups are.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::LinuxResources;
use runtime::cgroup::{self, Cgroup, Hierarchy};
use serde::{Deserialize, Serialize};
use systemd_cgroup::{Bus, Unit};

use crate::arguments::{Global, Rootless};
use crate::bundle::Bundle;
use crate::id::Id;
use crate::log;

/// How long killed processes may take to disappear.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// Where a container's cgroup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// Its directory; empty until systemd has reported it.
    pub directory: PathBuf,
    /// The systemd scope that it belongs to, if systemd makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// A scope and what it is named after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// `linux.cgroupsPath`: slice, prefix and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// It belongs to the user's systemd, not to the machine's.
    pub user: bool,
}

impl Scope {
    fn unit(&self, id: &str) -> Result<Unit> {
        Ok(Unit::new(self.path.as_deref(), id)?)
    }

    fn bus(&self) -> Result<Bus> {
        Bus::connect(self.user).context("--systemd-cgroup")
    }
}

/// How to create a cgroup that does not exist yet.
#[derive(Debug)]
pub struct Planned {
    hierarchy: Hierarchy,
    cgroups_path: Option<PathBuf>,
    scope: Option<Scope>,
    required: bool,
}

impl Planned {
    /// What a configuration and the global options ask for. Changes nothing.
    pub fn new(bundle: &Bundle, global: &Global) -> Result<Planned> {
        let scope = global.systemd_cgroup.then(|| Scope {
            path: bundle
                .cgroups_path
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
            user: cgroup::unprivileged(),
        });
        Ok(Planned {
            hierarchy: Hierarchy::find()?,
            cgroups_path: bundle.cgroups_path.clone(),
            scope,
            required: global.rootless == Rootless::False,
        })
    }

    /// Where the cgroup will be, as far as known.
    pub fn place(&self, id: &Id) -> Result<Place> {
        if let Some(scope) = &self.scope {
            // Refused now rather than half-way.
            scope.unit(id.as_str())?;
            return Ok(Place {
                directory: PathBuf::new(),
                scope: Some(scope.clone()),
            });
        }
        let path = self
            .hierarchy
            .resolve(self.cgroups_path.as_deref(), id.as_str())?;
        Ok(Place {
            directory: self.hierarchy.mount_point().join(path),
            scope: None,
        })
    }

    /// Creates the cgroup and sets its limits. `None` if the caller may not
    /// create one and asks for nothing that needs one.
    pub fn create(&self, id: &Id, resources: &LinuxResources) -> Result<Fresh> {
        if let Some(scope) = &self.scope {
            let unit = scope.unit(id.as_str())?;
            let mut bus = scope.bus()?;
            let scope = systemd_cgroup::place(&mut bus, &self.hierarchy, &unit, resources)?;
            return Ok(Fresh::Scope(Box::new(scope)));
        }
        let cgroup = self
            .hierarchy
            .place(self.cgroups_path.as_deref(), id.as_str(), resources)?;
        match cgroup {
            Some(cgroup) => Ok(Fresh::Plain(cgroup)),
            None if self.required => {
                bail!("--rootless=false: there is no permission to make a cgroup")
            }
            None => Ok(Fresh::None),
        }
    }
}

/// A cgroup that no process of the container is in yet.
#[derive(Debug)]
pub enum Fresh {
    None,
    Plain(Cgroup),
    /// Has a placeholder process.
    Scope(Box<systemd_cgroup::Scope>),
}

impl Fresh {
    pub fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Fresh::None => None,
            Fresh::Plain(cgroup) => Some(cgroup),
            Fresh::Scope(scope) => Some(&scope.cgroup),
        }
    }

    /// The container's process exists.
    pub fn settle(self) -> Result<Option<Cgroup>> {
        match self {
            Fresh::None => Ok(None),
            Fresh::Plain(cgroup) => Ok(Some(cgroup)),
            Fresh::Scope(scope) => Ok(Some(scope.release()?)),
        }
    }
}

impl Place {
    /// A cgroup below this one.
    pub fn below(&self, path: &str) -> Result<Place> {
        let path = Path::new(path);
        let mut directory = self.directory.clone();
        for part in path.components() {
            match part {
                Component::Normal(name) => directory.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    bail!("--cgroup: {} is not below the container's", path.display())
                }
            }
        }
        Ok(Place {
            directory,
            scope: None,
        })
    }

    /// Opens it; `None` if it is gone.
    pub fn open(&self) -> Result<Option<Cgroup>> {
        if !self.directory.exists() {
            return Ok(None);
        }
        let (parent, name) = self.split()?;
        let parent = File::open(parent).with_context(|| format!("open {}", parent.display()))?;
        Ok(Some(cgroup::open(parent.as_fd(), name)?))
    }

    fn split(&self) -> Result<(&Path, &str)> {
        self.directory
            .parent()
            .zip(self.directory.file_name().and_then(|name| name.to_str()))
            .ok_or_else(|| anyhow!("{} is not a cgroup", self.directory.display()))
    }

    /// Whether its processes are frozen.
    pub fn is_frozen(&self) -> bool {
        fs::read_to_string(self.directory.join("cgroup.freeze"))
            .is_ok_and(|text| text.trim() == "1")
    }

    /// Lets its processes continue, so that killed ones can end.
    pub fn thaw(&self) {
        // It may be gone; and on cgroup v2 a killed process ends anyway.
        let _ = fs::write(self.directory.join("cgroup.freeze"), "0");
    }

    /// Removes it if it is empty.
    pub fn remove_empty(&self) {
        // It may be another container's, whose processes are not touched.
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Place {
    /// Changes the named limits.
    pub fn update(&self, id: &str, cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
        match &self.scope {
            None => Ok(cgroup.update(resources)?),
            Some(scope) => {
                let unit = scope.unit(id)?;
                Ok(systemd_cgroup::update(
                    &mut scope.bus()?,
                    &unit,
                    cgroup,
                    resources,
                )?)
            }
        }
    }

    /// Kills the processes in the cgroup, waits until they are gone, and
    /// removes the cgroup.
    pub fn destroy(&self, id: &str) -> Result<()> {
        let cgroup = self.open()?;
        if let Some(cgroup) = &cgroup {
            kill_all(cgroup)?;
        }
        if let Some(scope) = &self.scope {
            let unit = scope.unit(id)?;
            let removed = scope
                .bus()
                .and_then(|mut bus| Ok(systemd_cgroup::remove(&mut bus, &unit)?));
            // A scope without processes ends by itself.
            if let Err(error) = removed {
                log::warn(&format!("{error:#}"));
            }
        }
        match cgroup {
            Some(cgroup) => Ok(cgroup.remove()?),
            None => Ok(()),
        }
    }
}

fn kill_all(cgroup: &Cgroup) -> Result<()> {
    if cgroup.populated()? {
        cgroup.kill()?;
        let events = cgroup.events()?;
        let deadline = Instant::now() + GONE_LIMIT;
        while cgroup.populated()? && Instant::now() < deadline {
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            // poll does not report changes from before the first poll.
            match poll(&mut fds, PollTimeout::from(20_u16)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("wait for the cgroup's end"),
            }
        }
    }
    Ok(())
}
