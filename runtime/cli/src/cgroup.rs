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

/// How long processes that were killed may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// The place of a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// Its directory; empty until systemd has said where it is.
    pub directory: PathBuf,
    /// The scope of systemd's that it belongs to, if that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// A scope by what it is named after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// `linux.cgroupsPath`: slice, prefix and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// It is in the user's systemd, not in the machine's.
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

/// The way to a place that is not made yet.
#[derive(Debug)]
pub struct Planned {
    hierarchy: Hierarchy,
    cgroups_path: Option<PathBuf>,
    scope: Option<Scope>,
    required: bool,
}

impl Planned {
    /// What a configuration and the global options ask for. Touches nothing.
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

    /// Where the cgroup will be, as far as that is known.
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

    /// Makes the cgroup and sets its limits. There is none where the caller may
    /// not make one and asks for nothing that needs one.
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

/// A cgroup in which no process of the container is yet.
#[derive(Debug)]
pub enum Fresh {
    None,
    Plain(Cgroup),
    /// With a process that holds its place.
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

    /// The container's process is there.
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

    /// Opens it; `None` where it is gone.
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
            .ok_or_else(|| anyhow!("{} is no cgroup", self.directory.display()))
    }

    /// Whether its processes were stopped.
    pub fn is_frozen(&self) -> bool {
        fs::read_to_string(self.directory.join("cgroup.freeze"))
            .is_ok_and(|text| text.trim() == "1")
    }

    /// Lets its processes go on, so that those that were killed can end.
    pub fn thaw(&self) {
        // It may be gone; and on cgroup v2 a process that is killed ends anyway.
        let _ = fs::write(self.directory.join("cgroup.freeze"), "0");
    }

    /// Removes it where nothing is in it.
    pub fn remove_empty(&self) {
        // It may be another container's: that one's processes are not touched.
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Place {
    /// Changes the limits that are named.
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

    /// Kills what is in the cgroup, waits until it is gone, and removes the cgroup.
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
            // What changed before the first poll is not told.
            match poll(&mut fds, PollTimeout::from(20_u16)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("wait for the cgroup's end"),
            }
        }
    }
    Ok(())
}
