//! Where containers' cgroups are.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::LinuxResources;
use runtime::cgroup::{self, Cgroup, Hierarchy};
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::id::Id;

/// How long processes that were killed may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// The place of a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// Its directory.
    pub directory: PathBuf,
}

/// The way to a place that is not made yet.
#[derive(Debug)]
pub struct Planned {
    hierarchy: Hierarchy,
    cgroups_path: Option<PathBuf>,
}

impl Planned {
    /// What a configuration asks for. Touches nothing.
    pub fn new(bundle: &Bundle) -> Result<Planned> {
        Ok(Planned {
            hierarchy: Hierarchy::find()?,
            cgroups_path: bundle.cgroups_path.clone(),
        })
    }

    /// Where the cgroup will be.
    pub fn place(&self, id: &Id) -> Result<Place> {
        let path = self
            .hierarchy
            .resolve(self.cgroups_path.as_deref(), id.as_str())?;
        Ok(Place {
            directory: self.hierarchy.mount_point().join(path),
        })
    }

    /// Makes the cgroup and sets its limits. There is none where the caller may
    /// not make one and asks for nothing that needs one.
    pub fn create(&self, id: &Id, resources: &LinuxResources) -> Result<Option<Cgroup>> {
        Ok(self
            .hierarchy
            .place(self.cgroups_path.as_deref(), id.as_str(), resources)?)
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
        Ok(Place { directory })
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

/// Kills what is in the cgroup, waits until it is gone, and removes the cgroup.
pub fn destroy(cgroup: &Cgroup) -> Result<()> {
    if cgroup.populated()? {
        cgroup.kill()?;
        let events = cgroup.events()?;
        let deadline = Instant::now() + GONE_LIMIT;
        while cgroup.populated()? && Instant::now() < deadline {
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            // What changed before the first poll is not told.
            poll(&mut fds, PollTimeout::from(20_u16)).context("wait for the cgroup's end")?;
        }
    }
    Ok(cgroup.remove()?)
}
