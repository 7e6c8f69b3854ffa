//! A container with the machine's programs, run to its end.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use oci_spec::runtime::{LinuxResources, Spec};
use runtime::cgroup::{self, Cgroup};
use runtime::{Exec, Prepared, Setup, Start, Started, Stdio};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Whether containers can be made here; if not, the test is skipped.
pub fn can_run() -> bool {
    requirement::root()
}

/// A root directory and a specification.
pub struct Container {
    pub root: TempDir,
    pub spec: Value,
}

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    pub setup: Setup,
    pub status: WaitStatus,
    pub output: String,
}

impl Outcome {
    /// The output of a successful run.
    pub fn success(self) -> String {
        assert_eq!(self.setup, Setup::Executed, "{self:?}");
        assert!(matches!(self.status, WaitStatus::Exited(_, 0)), "{self:?}");
        self.output
    }

    /// The message of a failed set-up.
    pub fn failure(self) -> String {
        assert!(
            matches!(self.status, WaitStatus::Exited(_, 127)),
            "{self:?}"
        );
        match self.setup {
            Setup::Failed(error) => error.to_string(),
            _ => panic!("no failure: {self:?}"),
        }
    }
}

/// A container that was started.
pub struct Running {
    pub prepared: Prepared,
    pub started: Started,
    pub cgroup: Cgroup,
    output: File,
    _root: Option<TempDir>,
}

impl Container {
    /// A container that runs a shell script, as the default services have it.
    pub fn new(script: &str) -> Container {
        let root = TempDir::new().unwrap();
        for name in ["usr", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(name), root.path().join(name)).unwrap();
        }
        let spec = json!({
            "ociVersion": "1.2.0",
            "root": { "path": root.path(), "readonly": true },
            "hostname": "box",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["sh", "-c", script],
                "env": ["PATH=/usr/bin:/bin", "LC_ALL=C"],
                "cwd": "/",
                "noNewPrivileges": true,
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=64k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
                { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmp", "options": ["nosuid", "nodev", "mode=1777"] },
                { "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"] },
            ],
            "linux": {
                "namespaces": [
                    { "type": "mount" }, { "type": "pid" }, { "type": "network" },
                    { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" },
                ],
                "maskedPaths": ["/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/nothing"],
                "readonlyPaths": ["/proc/sys", "/proc/nothing"],
            },
        });
        Container { root, spec }
    }

    /// Adds a mount.
    pub fn mount(mut self, target: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount =
            json!({ "destination": target, "type": kind, "source": source, "options": options });
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// Removes the mount at `target`.
    pub fn without_mount(mut self, target: &str) -> Self {
        let mounts = self.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != target);
        self
    }

    /// Sets the field at a JSON pointer.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.spec;
        for key in pointer.split('/').skip(1) {
            place = match key.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[key],
            };
        }
        *place = value;
        self
    }

    pub fn spec(&self) -> Spec {
        serde_json::from_value(self.spec.clone()).unwrap()
    }

    /// Starts it; its root stays until the container has ended.
    pub fn start(self, listen: &[BorrowedFd<'_>], env: &[String]) -> Running {
        let mut running = self.begin(listen, env).unwrap();
        running._root = Some(self.root);
        running
    }

    pub fn run(&self) -> Outcome {
        self.begin(&[], &[]).unwrap().finish()
    }

    /// Why the caller, not the container's process, could not start it.
    pub fn refusal(&self) -> String {
        match self.begin(&[], &[]) {
            Ok(running) => panic!("it was started: {:?}", running.finish()),
            Err(error) => error.to_string(),
        }
    }

    fn begin(&self, listen: &[BorrowedFd<'_>], env: &[String]) -> Result<Running, runtime::Error> {
        let spec = self.spec();
        let prepared = runtime::prepare(&spec).unwrap();
        let none = LinuxResources::default();
        let linux = spec.linux().as_ref().unwrap();
        let cgroup = new_cgroup(linux.resources().as_ref().unwrap_or(&none));
        let (output, write) = pipe();
        let null = File::open("/dev/null").unwrap();
        let started = prepared.start(Start {
            cgroup: Some(cgroup.fd()),
            stdio: Stdio {
                stdin: null.as_fd(),
                stdout: write.as_fd(),
                stderr: write.as_fd(),
            },
            listen,
            passed: &[],
            env,
            lifecycle: None,
        });
        match started {
            Ok(started) => Ok(Running {
                prepared,
                started,
                cgroup,
                output: output.into(),
                _root: None,
            }),
            Err(error) => {
                cgroup.remove().unwrap();
                Err(error)
            }
        }
    }
}

/// What a failed test has left.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.cgroup.kill();
            let _ = waitpid(self.started.pid, None);
            let _ = self.cgroup.remove();
        }
    }
}

impl Running {
    /// Waits until the container has ended.
    pub fn finish(mut self) -> Outcome {
        let outcome = wait(&self.started, &mut self.output);
        // What it left behind, and processes that are not gone yet.
        self.cgroup.kill().unwrap();
        remove(&self.cgroup);
        outcome
    }

    /// Waits until the container has written this line.
    pub fn expect_line(&mut self, wanted: &str) {
        let mut text = Vec::new();
        while !text.ends_with(format!("{wanted}\n").as_bytes()) {
            let mut byte = [0];
            let length = self.output.read(&mut byte).unwrap();
            assert_eq!(length, 1, "{:?}", wait(&self.started, &mut self.output));
            text.push(byte[0]);
        }
    }

    /// Runs a shell script in the container.
    pub fn exec(&self, script: &str) -> Outcome {
        let process = runtime::ExecProcess {
            args: ["sh", "-c", script].map(String::from).to_vec(),
            env: vec!["EXEC=1".into()],
            cwd: None,
        };
        self.run_prepared(self.prepared.exec(&process).unwrap())
    }

    /// Runs a process of its own specification in the container.
    pub fn exec_process(&self, process: Value) -> Outcome {
        let process = serde_json::from_value(process).unwrap();
        self.run_prepared(self.prepared.exec_process(&process).unwrap())
    }

    fn run_prepared(&self, prepared: runtime::PreparedExec<'_>) -> Outcome {
        let (output, write) = pipe();
        let null = File::open("/dev/null").unwrap();
        let stdio = Stdio {
            stdin: null.as_fd(),
            stdout: write.as_fd(),
            stderr: write.as_fd(),
        };
        let exec = Exec {
            cgroup: Some(self.cgroup.fd()),
            stdio,
            passed: &[],
            console: None,
            listener: None,
            keep_keyring: false,
        };
        let started = prepared.start(self.started.pidfd.as_fd(), exec).unwrap();
        drop(write);
        wait(&started, &mut File::from(output))
    }
}

fn wait(started: &Started, output: &mut File) -> Outcome {
    let mut text = String::new();
    let setup = loop {
        let mut fds = [PollFd::new(started.setup.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        match runtime::setup_outcome(started.setup.as_fd()).unwrap() {
            Setup::Pending => {}
            known => break known,
        }
    };
    output.read_to_string(&mut text).unwrap();
    Outcome {
        setup,
        status: waitpid(started.pid, None).unwrap(),
        output: text,
    }
}

pub fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

/// The directory where this machine has cgroup v2.
pub fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|words| words[2] == "cgroup2")
        .map(|words| PathBuf::from(words[1]))
        .expect("a cgroup2 hierarchy is mounted")
}

pub fn new_cgroup(resources: &LinuxResources) -> Cgroup {
    static COUNT: AtomicU32 = AtomicU32::new(0);

    let name = format!(
        "runtime-test-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    cgroup::create(File::open(cgroup2()).unwrap().as_fd(), &name, resources).unwrap()
}

/// Waits for the last process to be gone, then removes the cgroup.
pub fn remove(cgroup: &Cgroup) {
    let events = cgroup.events().unwrap();
    while cgroup.populated().unwrap() {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::from(1000_u16)).unwrap();
    }
    cgroup.remove().unwrap();
}

/// Makes a FIFO, device or file by its path.
pub fn make_node(path: &Path, kind: nix::sys::stat::SFlag, number: u64) {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(path.as_c_str(), kind, mode, number).unwrap();
}
