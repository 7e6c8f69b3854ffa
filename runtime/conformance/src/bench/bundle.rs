//! A bundle: a root file system with the probe in it, and a specification.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Bench;
use crate::clause::Try;
use crate::probe::{self, Step, world};
use crate::sys;

/// A directory with `config.json` and `rootfs`.
pub struct Bundle {
    folder: PathBuf,
    pub config: Value,
}

impl Bundle {
    pub(super) fn new(bench: &Bench) -> Try<Bundle> {
        let folder = bench.directory("bundle")?;
        let root = folder.join("rootfs");
        for name in ["", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir(root.join(name))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        fs::copy(bench.program(), root.join("probe"))?;
        Ok(Bundle {
            config: usual(),
            folder,
        })
    }

    /// The bundle's directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root file system.
    pub fn root(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Makes a file in the root, with the directories above it.
    pub fn file(&self, path: &str, text: &str) -> Try<PathBuf> {
        let path = self.root().join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Makes a directory in the root, with those above it.
    pub fn directory(&self, path: &str) -> Try<PathBuf> {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Makes a symbolic link in the root.
    pub fn link(&self, path: &str, target: &str) -> Try<()> {
        let path = self.root().join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(std::os::unix::fs::symlink(target, path)?)
    }

    /// Gives the root with everything in it to a user.
    pub fn give_to(&self, uid: u32, gid: u32) -> Try<()> {
        give(&self.root(), uid, gid)
    }

    /// What the container's program does.
    pub fn steps(&mut self, steps: &[Step]) {
        self.set("/process/args", json!(probe::arguments(steps)));
    }

    /// Sets a field by its JSON pointer, with the objects above it.
    pub fn set(&mut self, pointer: &str, value: Value) {
        let mut at = &mut self.config;
        for name in pointer.split('/').skip(1) {
            at = &mut at[name];
        }
        *at = value;
    }

    /// Removes a field of an object.
    pub fn remove(&mut self, pointer: &str) {
        let Some((parent, name)) = pointer.rsplit_once('/') else {
            return;
        };
        if let Some(object) = self
            .config
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
        {
            object.remove(name);
        }
    }

    /// Adds to a list.
    pub fn push(&mut self, pointer: &str, value: Value) {
        if self.config.pointer(pointer).is_none_or(Value::is_null) {
            self.set(pointer, json!([]));
        }
        if let Some(list) = self
            .config
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut)
        {
            list.push(value);
        }
    }

    /// Adds a mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        self.push(
            "/mounts",
            json!({
                "destination": destination,
                "type": kind,
                "source": source,
                "options": options,
            }),
        );
    }

    /// Adds a bind mount.
    pub fn bind(&mut self, destination: &str, source: &Path, options: &[&str]) {
        let source = source.to_string_lossy();
        self.mount(destination, "bind", &source, options);
    }

    /// Removes a mount.
    pub fn without_mount(&mut self, destination: &str) {
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["destination"] != destination);
        }
    }

    /// Removes a namespace: then it is the runtime's.
    pub fn without_namespace(&mut self, kind: &str) {
        if let Some(namespaces) = self.config["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != kind);
        }
    }

    /// Makes or joins a namespace.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) {
        self.without_namespace(kind);
        let namespace = match path {
            Some(path) => json!({ "type": kind, "path": path }),
            None => json!({ "type": kind }),
        };
        self.push("/linux/namespaces", namespace);
    }

    /// A user namespace whose root is this user, and the root file system for
    /// it.
    pub fn user_namespace(&mut self, host: u32) -> Try<()> {
        self.namespace("user", None);
        let mapping = json!([{ "containerID": 0, "hostID": host, "size": 65536 }]);
        self.set("/linux/uidMappings", mapping.clone());
        self.set("/linux/gidMappings", mapping);
        self.give_to(host, host)
    }

    /// Writes `config.json`.
    pub fn save(&self) -> Try<()> {
        let text = serde_json::to_string_pretty(&self.config)?;
        Ok(fs::write(self.folder.join("config.json"), text)?)
    }
}

/// Gives a directory with everything in it to a user.
pub fn give(path: &Path, uid: u32, gid: u32) -> Try<()> {
    lchown(path, Some(uid), Some(gid))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// The usual settings of a container. Its capabilities are all that can be
/// granted here: the suite itself may lack some.
fn usual() -> Value {
    let all = world::capability_names(sys::bounding());
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/probe", "do", "[]"],
            "env": ["PATH=/usr/bin:/bin:/"],
            "cwd": "/",
            "capabilities": { "bounding": all, "effective": all, "permitted": all },
        },
        "root": { "path": "rootfs" },
        "hostname": "conformance",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "network" }, { "type": "cgroup" },
            ],
        },
    })
}
