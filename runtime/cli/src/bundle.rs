//! A bundle: a directory with a configuration.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{Capability, LinuxIntelRdt, Spec};
use serde_json::Value;

use crate::log;

/// A configuration, and the text that it was read from.
#[derive(Debug)]
pub struct Bundle {
    pub directory: PathBuf,
    pub text: Vec<u8>,
    /// With absolute paths, and without the two fields that this program
    /// handles itself, not the library.
    pub spec: Spec,
    pub rootfs: PathBuf,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<PathBuf>,
    /// `linux.intelRdt`.
    pub intel_rdt: Option<LinuxIntelRdt>,
}

impl Bundle {
    /// Reads the bundle in a directory.
    pub fn load(directory: &Path) -> Result<Bundle> {
        let directory = fs::canonicalize(directory)
            .with_context(|| format!("open the bundle {}", directory.display()))?;
        let path = directory.join("config.json");
        let text = read_regular(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                anyhow!("JSON specification file {} not found", path.display())
            }
            _ => anyhow::Error::from(error).context(format!("read {}", path.display())),
        })?;
        Bundle::parse(directory, text)
    }

    /// A configuration from its text.
    pub fn parse(directory: PathBuf, text: Vec<u8>) -> Result<Bundle> {
        let mut spec = parse(&text)
            .with_context(|| format!("parse config.json of {}", directory.display()))?;
        if let Some(annotations) = spec.annotations()
            && annotations.contains_key("")
        {
            bail!("annotations: a key is empty");
        }
        let Some(mut root) = spec.root().clone() else {
            bail!("root: is missing in config.json of {}", directory.display());
        };
        let rootfs = directory.join(root.path());
        root.set_path(rootfs.clone());
        spec.set_root(Some(root));
        make_sources_absolute(&mut spec, &directory);
        let (mut cgroups_path, mut intel_rdt) = (None, None);
        if let Some(linux) = spec.linux_mut() {
            cgroups_path.clone_from(linux.cgroups_path());
            intel_rdt.clone_from(linux.intel_rdt());
            linux.set_cgroups_path(None);
            linux.set_intel_rdt(None);
        }
        Ok(Bundle {
            directory,
            text,
            spec,
            rootfs,
            cgroups_path,
            intel_rdt,
        })
    }
}

/// How long a file of JSON may be; the longest seen are of some 100 KiB.
pub const LONGEST: u64 = 16 << 20;

/// Reads a file that must be a regular one, without waiting for anybody.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    read_bounded(file)
}

/// Reads all that comes, [`LONGEST`] bytes at most.
pub fn read_bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 16 MiB"));
    }
    Ok(text)
}

/// A relative source of a bind mount is relative to the bundle.
fn make_sources_absolute(spec: &mut Spec, bundle: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let binds = mount
            .options()
            .iter()
            .flatten()
            .any(|option| option == "bind" || option == "rbind")
            || mount.typ().as_deref() == Some("bind");
        if let Some(source) = mount
            .source()
            .as_ref()
            .filter(|source| binds && source.is_relative())
        {
            let source = bundle.join(source);
            mount.set_source(Some(source));
        }
    }
}

fn parse(text: &[u8]) -> Result<Spec> {
    let error = match serde_json::from_slice(text) {
        Ok(spec) => return Ok(spec),
        Err(error) => error,
    };
    // Perhaps something that the specification allows and its Rust types do not
    // know.
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else {
        return Err(error.into());
    };
    if let Some(process) = value.get_mut("process") {
        amend_process(process);
    }
    serde_json::from_value(value).map_err(|_| error.into())
}

/// A process from its text, as `exec` gets it.
pub fn parse_process(text: &[u8]) -> Result<oci_spec::runtime::Process> {
    let error = match serde_json::from_slice(text) {
        Ok(process) => return Ok(process),
        Err(error) => error,
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else {
        return Err(error.into());
    };
    amend_process(&mut value);
    serde_json::from_value(value).map_err(|_| error.into())
}

/// Removes capabilities that this program does not know, with a warning, as the
/// specification demands, and gives scheduler flags the names that the Rust
/// types have.
fn amend_process(process: &mut Value) {
    if let Some(sets) = process
        .get_mut("capabilities")
        .and_then(Value::as_object_mut)
    {
        for (set, names) in sets {
            let Some(names) = names.as_array_mut() else {
                continue;
            };
            names.retain(|name| {
                let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
                if !known && name.is_string() {
                    log::warn(&format!(
                        "process.capabilities.{set}: ignoring unknown {name}"
                    ));
                }
                known || !name.is_string()
            });
        }
    }
    let flags = process
        .pointer_mut("/scheduler/flags")
        .and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxSchedulerFlag;
    use serde_json::json;

    use super::*;

    fn bundle(spec: Value) -> Result<Bundle> {
        Bundle::parse("/bundle".into(), spec.to_string().into_bytes())
    }

    #[test]
    fn paths_begin_at_the_bundle_and_nothing_is_read_only_unasked() {
        let bundle = bundle(json!({
            "ociVersion": "1.2.0",
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/a", "source": "here", "options": ["rbind"] },
                { "destination": "/b", "source": "/there", "options": ["bind"] },
                { "destination": "/c", "source": "tmpfs", "type": "tmpfs" },
            ],
            "linux": { "cgroupsPath": "/box", "intelRdt": { "closID": "x" } },
        }))
        .unwrap();
        let root = bundle.spec.root().clone().unwrap();
        assert_eq!(root.path(), Path::new("/bundle/rootfs"));
        assert_ne!(root.readonly(), Some(true));
        let mounts = bundle.spec.mounts().clone().unwrap();
        let sources: Vec<_> = mounts
            .iter()
            .map(|mount| mount.source().clone().unwrap())
            .collect();
        assert_eq!(
            sources,
            ["/bundle/here", "/there", "tmpfs"].map(PathBuf::from)
        );
        assert_eq!(bundle.cgroups_path, Some("/box".into()));
        assert!(bundle.intel_rdt.is_some());
        let linux = bundle.spec.linux().clone().unwrap();
        assert!(linux.cgroups_path().is_none() && linux.intel_rdt().is_none());
    }

    #[test]
    fn what_the_types_do_not_know_is_amended() {
        let parsed = bundle(json!({
            "ociVersion": "1.2.0",
            "root": { "path": "/" },
            "process": {
                "cwd": "/",
                "user": { "uid": 0, "gid": 0 },
                "args": ["true"],
                "capabilities": { "bounding": ["CAP_KILL", "CAP_OF_TOMORROW"] },
                "scheduler": { "policy": "SCHED_FIFO", "flags": ["SCHED_FLAG_RESET_ON_FORK"] },
            },
        }))
        .unwrap();
        let process = parsed.spec.process().clone().unwrap();
        let bounding = process
            .capabilities()
            .clone()
            .unwrap()
            .bounding()
            .clone()
            .unwrap();
        assert_eq!(bounding, [Capability::Kill].into());
        let flags = process
            .scheduler()
            .clone()
            .unwrap()
            .flags()
            .clone()
            .unwrap();
        assert_eq!(flags, [LinuxSchedulerFlag::SchedResetOnFork]);
    }

    #[test]
    fn an_annotation_has_a_name() {
        let spec = json!({
            "ociVersion": "1.2.0", "root": { "path": "/" }, "annotations": { "": "x" },
        });
        assert!(
            bundle(spec)
                .unwrap_err()
                .to_string()
                .contains("annotations")
        );
    }
}
