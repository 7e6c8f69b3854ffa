//! A bundle with the machine's programs, and the runtime with a folder of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Whether containers can be made here; if not, the test is skipped.
pub fn can_run() -> bool {
    requirement::root()
}

/// A bundle and the runtime's root.
pub struct Box {
    pub folder: TempDir,
    pub spec: Value,
    /// Unique on this machine, because the cgroup is named after it.
    pub id: String,
}

impl Box {
    /// A container that runs a shell script.
    pub fn new(script: &str) -> Box {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let folder = TempDir::new().unwrap();
        let root = folder.path().join("rootfs");
        fs::create_dir(&root).unwrap();
        for name in ["usr", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(name), root.join(name)).unwrap();
        }
        let spec = json!({
            "ociVersion": "1.2.0",
            "root": { "path": "rootfs", "readonly": true },
            "hostname": "box",
            "annotations": { "test": "yes" },
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["sh", "-c", script],
                "env": ["PATH=/usr/bin:/bin", "LC_ALL=C"],
                "cwd": "/",
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                {
                    "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "mode=755"],
                },
                {
                    "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
                },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
                {
                    "destination": "/usr", "type": "bind", "source": "/usr",
                    "options": ["rbind", "ro"],
                },
            ],
            "linux": {
                "namespaces": [
                    { "type": "mount" }, { "type": "pid" }, { "type": "network" },
                    { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" },
                ],
            },
        });
        Box {
            folder,
            spec,
            id: format!(
                "cli-test-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            ),
        }
    }

    /// Sets a field by its JSON pointer.
    pub fn set(mut self, pointer: &str, value: Value) -> Box {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.spec.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The folder of this container's state.
    pub fn state_folder(&self) -> PathBuf {
        self.root().join(&self.id)
    }

    /// Writes the bundle, and returns the runtime's command with these
    /// arguments, in which `ID` and `BUNDLE` stand for this container's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.folder.path().join("config.json");
        fs::write(config, self.spec.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wherry-runtime"));
        command.arg("--root").arg(self.root());
        for argument in arguments {
            match *argument {
                "ID" => command.arg(&self.id),
                "BUNDLE" => command.arg(self.folder.path()),
                other => command.arg(other),
            };
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end. Its output is only the command's: containers that
    /// stay get none.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command after which a container stays: without pipes, which the
    /// container would keep open. The log receives the message.
    pub fn begin(&self, arguments: &[&str]) -> Result<(), String> {
        let log = self.folder.path().join("log");
        let _ = fs::remove_file(&log);
        let log_argument = format!("--log={}", log.display());
        let all = [&[log_argument.as_str()], arguments].concat();
        let status = self
            .command(&all)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        match status.success() {
            true => Ok(()),
            false => Err(fs::read_to_string(log).unwrap_or_default()),
        }
    }

    /// Runs a command that must succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; returns its message.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Creates the container, with its output in the file `output`.
    pub fn create(&self) {
        self.create_with(&[]);
    }

    pub fn create_with(&self, options: &[&str]) {
        let arguments = [&["create", "--bundle", "BUNDLE"], options, &["ID"]].concat();
        let output = fs::File::create(self.output_path()).unwrap();
        let status = self
            .command(&arguments)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .status()
            .unwrap();
        assert!(status.success(), "{}", self.output());
    }

    fn output_path(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// What the container has written.
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_path()).unwrap()
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.must(&["state", "ID"])).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_string()
    }

    /// Waits until the container has this status.
    pub fn wait_for(&self, status: &str) {
        until(|| self.status() == status);
    }

    /// Its cgroup's path, if it exists.
    pub fn cgroup(&self) -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts
            .lines()
            .filter(|line| line.split(' ').nth(2) == Some("cgroup2"))
            .filter_map(|line| line.split(' ').nth(1))
            .flat_map(|mount| find(Path::new(mount), &self.id, 3))
            .next()
    }
}

fn find(directory: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let place = directory.join(name);
    if place.is_dir() {
        return Some(place);
    }
    if depth == 0 {
        return None;
    }
    fs::read_dir(directory)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| find(&entry.path(), name, depth - 1))
}

impl Drop for Box {
    fn drop(&mut self) {
        let _ = self.run(&["delete", "--force", "ID"]);
    }
}

/// Waits until a condition holds; 20 seconds at most.
pub fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process exists and has not ended.
pub fn is_alive(pid: i64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}
