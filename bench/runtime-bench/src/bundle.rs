//! The containers that are started: the usual namespaces, limits, default
//! seccomp profile and a read-only root with one static program.

use anyhow::{Context, Result};
use oci_spec::runtime::{Capabilities, Spec};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Bundles for each purpose.
pub struct Bundles {
    folder: PathBuf,
    controllers: Vec<String>,
}

/// The capabilities that Docker gives a container.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Bundles {
    /// Makes the root that all of them share.
    pub fn make(controllers: &[String]) -> Result<Self> {
        let folder = PathBuf::from("/run/runtime-bench");
        let root = folder.join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .context("copy /bin/busybox (it has to be the static one)")?;
        symlink("busybox", root.join("bin/sleep"))?;
        let program = root.join("bin/true");
        fs::write(&program, exit_zero())?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            folder,
            controllers: controllers.to_owned(),
        })
    }

    /// Those that were made before, for a process that shall not make them.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            controllers: Vec::new(),
        }
    }

    /// Their folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root's path.
    pub fn root(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// A bundle that runs `args`, in the cgroup `id`. Made where it is missing.
    pub fn bundle(&self, id: &str, args: &[&str]) -> Result<PathBuf> {
        let bundle = self.folder.join("bundles").join(id);
        if !bundle.exists() {
            fs::create_dir_all(&bundle)?;
            let mut spec = self.spec(id, args)?;
            spec["linux"]["cgroupsPath"] = json!(format!("/runtime-bench/{id}"));
            fs::write(bundle.join("config.json"), spec.to_string())?;
        }
        Ok(bundle)
    }

    /// The same for the library, which is handed the cgroup.
    pub fn parsed(&self, args: &[&str]) -> Result<Spec> {
        Ok(serde_json::from_value(self.spec("library", args)?)?)
    }

    fn spec(&self, id: &str, args: &[&str]) -> Result<Value> {
        let capabilities: Capabilities = CAPABILITIES
            .iter()
            .filter_map(|name| name.strip_prefix("CAP_")?.parse().ok())
            .collect();
        let has = |controller: &str| self.controllers.iter().any(|name| name == controller);
        let mut resources = json!({
            "devices": [
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 9, "access": "rwm" },
            ],
        });
        if has("memory") {
            resources["memory"] = json!({ "limit": 67_108_864, "reservation": 33_554_432 });
        }
        if has("pids") {
            resources["pids"] = json!({ "limit": 64 });
        }
        if has("cpu") {
            resources["cpu"] = json!({ "shares": 512, "quota": 100_000, "period": 100_000 });
        }
        let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
        Ok(json!({
            "ociVersion": "1.0.2",
            "root": { "path": self.root(), "readonly": true },
            "hostname": id,
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": args,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": CAPABILITIES,
                    "effective": CAPABILITIES,
                    "permitted": CAPABILITIES,
                },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
            },
            "mounts": [
                mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
                mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
                mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
                mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
            ],
            "linux": {
                "resources": resources,
                "namespaces": [
                    { "type": "mount" }, { "type": "pid" }, { "type": "network" },
                    { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" },
                ],
                "maskedPaths": [
                    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                    "/sys/firmware",
                ],
                "readonlyPaths": [
                    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
                ],
                "seccomp": serde_json::to_value(runtime::default_seccomp(&capabilities))?,
            },
        }))
    }
}

/// A static program that does nothing but `exit(0)`.
///
/// With a C library in it, `/bin/true` takes as long to begin as a third of the
/// fastest runtime's whole work, and that is not what is measured here.
fn exit_zero() -> Vec<u8> {
    const ADDRESS: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // mov edi, 0; mov eax, 60 (exit); syscall
    const CODE: [u8; 12] = [0xbf, 0, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    let size = HEADERS + CODE.len() as u64;
    // elf(5): an executable of x86-64, then its one loadable segment.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([ADDRESS + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    let segment = [0, ADDRESS, ADDRESS, size, size, 0x1000];
    file.extend(segment.map(u64::to_le_bytes).concat());
    file.extend(CODE);
    file
}
