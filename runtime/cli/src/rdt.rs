//! Intel RDT: a container's share of the cache and of the memory bandwidth
//! (runtime-spec, config-linux.md, "IntelRdt").
//!
//! The kernel's interface is a file system of groups: a group's `schemata` says
//! what its processes may use, `tasks` lists them, and each may have groups
//! below it that only count.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

/// What was made for a container and is removed with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Made {
    /// The group of the container's own name. One that the configuration names
    /// stays: others may be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<PathBuf>,
    /// The group that only counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<PathBuf>,
}

/// Groups for a container, before its process is in them.
#[derive(Debug)]
pub struct Plan {
    root: PathBuf,
    /// The group's name, and whether the configuration names it.
    name: String,
    named: bool,
    schemata: Vec<String>,
    monitored: bool,
}

impl Plan {
    /// Checks `linux.intelRdt`, and finds the kernel's file system for it.
    pub fn new(intel_rdt: &LinuxIntelRdt, id: &str) -> Result<Plan> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
        let root = resctrl(&mounts).ok_or_else(|| {
            anyhow!("linux.intelRdt: this kernel has no resctrl file system mounted: mount it at /sys/fs/resctrl, or remove the field")
        })?;
        Plan::at(root, intel_rdt, id)
    }

    #[allow(deprecated)] // The specification's 1.2 has these two.
    fn at(root: PathBuf, intel_rdt: &LinuxIntelRdt, id: &str) -> Result<Plan> {
        let (name, named) = match intel_rdt.clos_id() {
            Some(name) => (name.as_str(), true),
            None => (id, false),
        };
        if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\n']) {
            bail!("linux.intelRdt.closID: {name:?} is not a group name");
        }
        let mut schemata = intel_rdt.schemata().clone().unwrap_or_default();
        for (field, kind, schema) in [
            ("l3CacheSchema", "L3", intel_rdt.l3_cache_schema()),
            ("memBwSchema", "MB", intel_rdt.mem_bw_schema()),
        ] {
            let Some(schema) = schema.as_deref().filter(|schema| !schema.is_empty()) else {
                continue;
            };
            // As in runc: of several lines, a schema of memory bandwidth is not
            // the cache's.
            let lines = schema
                .lines()
                .filter(|line| kind == "MB" || !line.starts_with("MB:"));
            for line in lines {
                if kind == "MB" && !line.starts_with("MB:") {
                    bail!("linux.intelRdt.{field}: {line:?} does not start with MB:");
                }
                schemata.push(line.to_string());
            }
        }
        if let Some(wrong) = schemata
            .iter()
            .find(|line| !line.contains(':') || line.contains('\n'))
        {
            bail!("linux.intelRdt: {wrong:?} is not a schema line");
        }
        Ok(Plan {
            root,
            name: name.to_string(),
            named,
            schemata,
            monitored: [
                intel_rdt.enable_monitoring(),
                intel_rdt.enable_cmt(),
                intel_rdt.enable_mbm(),
            ]
            .contains(&&Some(true)),
        })
    }

    /// Makes the groups and sets their shares. `made` lists what was made, even
    /// if this fails.
    pub fn create(&self, id: &str, made: &mut Made) -> Result<Groups> {
        let group = self.root.join(&self.name);
        let fresh = match fs::create_dir(&group) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.named => false,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("linux.intelRdt: make the group {}", group.display())
                });
            }
        };
        if !self.named {
            made.group = Some(group.clone());
        }
        let path = group.join("schemata");
        if fresh {
            for line in &self.schemata {
                fs::write(&path, format!("{line}\n")).with_context(|| {
                    format!("linux.intelRdt: write {line:?} to {}", path.display())
                })?;
            }
        } else {
            let there = fs::read_to_string(&path)
                .with_context(|| format!("linux.intelRdt: read {}", path.display()))?;
            if let Some(line) = self.schemata.iter().find(|line| !has(&there, line)) {
                bail!(
                    "linux.intelRdt: the group {} exists, but its schemata do not contain {line:?}",
                    group.display()
                );
            }
        }
        let mut groups = vec![group.clone()];
        if self.monitored {
            let below = group.join("mon_groups").join(id);
            fs::create_dir(&below)
                .with_context(|| format!("linux.intelRdt: make the group {}", below.display()))?;
            made.monitoring = Some(below.clone());
            groups.push(below);
        }
        Ok(Groups(groups))
    }
}

/// Groups that a container's process is to be in.
#[derive(Debug)]
pub struct Groups(Vec<PathBuf>);

impl Groups {
    /// Puts a process into them; processes that it starts later are in them
    /// too.
    pub fn add(&self, pid: i32) -> Result<()> {
        for group in &self.0 {
            let tasks = group.join("tasks");
            fs::write(&tasks, pid.to_string())
                .with_context(|| format!("linux.intelRdt: write {pid} to {}", tasks.display()))?;
        }
        Ok(())
    }
}

impl Made {
    pub fn is_nothing(&self) -> bool {
        self.group.is_none() && self.monitoring.is_none()
    }

    /// Changes the shares of a container that has a group of its own.
    pub fn update(&self, lines: &[String]) -> Result<()> {
        let Some(group) = &self.group else {
            bail!("the container has no resctrl group of its own");
        };
        let path = group.join("schemata");
        for line in lines {
            fs::write(&path, format!("{line}\n"))
                .with_context(|| format!("write {line:?} to {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes what was made.
    pub fn remove(&self) -> Result<()> {
        for group in self.monitoring.iter().chain(&self.group) {
            match fs::remove_dir(group) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("remove {}", group.display()));
                }
            }
        }
        Ok(())
    }
}

/// Where resctrl is mounted.
fn resctrl(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next() == Some("resctrl")).then_some(())?;
        before
            .split(' ')
            .nth(4)
            .map(|path| Path::new(path).to_path_buf())
    })
}

/// Whether a group's schemata contain everything a line says; the kernel writes
/// numbers with different blanks and leading zeros.
fn has(schemata: &str, line: &str) -> bool {
    let parts = |line: &str| {
        let (kind, rest) = line.split_once(':')?;
        let mut domains: Vec<(String, String)> = rest
            .split(';')
            .filter_map(|domain| {
                let (number, value) = domain.split_once('=')?;
                let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
                Some((number.trim().to_string(), value))
            })
            .collect();
        domains.sort();
        Some((kind.trim().to_string(), domains))
    };
    let Some((kind, wanted)) = parts(line) else {
        return false;
    };
    schemata
        .lines()
        .filter_map(parts)
        .any(|(other, there)| other == kind && wanted.iter().all(|domain| there.contains(domain)))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxIntelRdt;
    use serde_json::{Value, json};

    use super::*;

    fn plan(root: &Path, intel_rdt: Value) -> Result<Plan> {
        let intel_rdt: LinuxIntelRdt = serde_json::from_value(intel_rdt).unwrap();
        Plan::at(root.to_path_buf(), &intel_rdt, "box")
    }

    #[test]
    fn the_file_system_is_found_by_the_mount_table() {
        let table = "1 2 0:3 / /sys rw - sysfs sysfs rw\n\
                     4 5 0:6 / /sys/fs/resctrl rw - resctrl resctrl rw\n";
        assert_eq!(resctrl(table), Some("/sys/fs/resctrl".into()));
        assert_eq!(resctrl("1 2 0:3 / /sys rw - sysfs sysfs rw\n"), None);
    }

    #[test]
    fn a_group_of_the_containers_name_comes_and_goes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let plan = plan(
            root.path(),
            json!({ "l3CacheSchema": "L3:0=f;1=f\nMB:0=10", "memBwSchema": "MB:0=20" }),
        )
        .unwrap();
        assert_eq!(plan.schemata, ["L3:0=f;1=f", "MB:0=20"]);
        let mut made = Made::default();
        let groups = plan.create("box", &mut made).unwrap();
        groups.add(7).unwrap();
        let group = root.path().join("box");
        assert_eq!(fs::read_to_string(group.join("tasks")).unwrap(), "7");
        assert_eq!(made.group.as_ref(), Some(&group));
        // The files of an ordinary directory do not disappear by themselves, as
        // the kernel's do.
        for file in ["tasks", "schemata"] {
            fs::remove_file(group.join(file)).unwrap();
        }
        made.remove().unwrap();
        assert!(!group.exists());
        made.remove().unwrap();
    }

    #[test]
    fn a_named_group_that_is_there_is_joined_if_it_is_as_wanted() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("gold");
        fs::create_dir(&group).unwrap();
        fs::write(
            group.join("schemata"),
            "    L3:0=00f;1=0ff\n    MB:0= 50;1=100\n",
        )
        .unwrap();
        let mut made = Made::default();
        for intel_rdt in [
            json!({ "closID": "gold" }),
            json!({ "closID": "gold", "l3CacheSchema": "L3:1=ff;0=f" }),
            json!({ "closID": "gold", "schemata": ["MB:0=50"] }),
        ] {
            plan(root.path(), intel_rdt)
                .unwrap()
                .create("box", &mut made)
                .unwrap();
        }
        assert_eq!(made, Made::default());
        let other = json!({ "closID": "gold", "l3CacheSchema": "L3:0=7" });
        assert!(
            plan(root.path(), other)
                .unwrap()
                .create("box", &mut made)
                .is_err()
        );
    }

    #[test]
    fn names_and_schemas_are_checked() {
        let root = Path::new("/nowhere");
        for wrong in [
            json!({ "closID": "../x" }),
            json!({ "closID": ".." }),
            json!({ "closID": "" }),
            json!({ "memBwSchema": "L3:0=f" }),
            json!({ "schemata": ["nothing"] }),
        ] {
            let text = plan(root, wrong.clone()).unwrap_err().to_string();
            assert!(text.starts_with("linux.intelRdt"), "{wrong}: {text}");
        }
    }
}
