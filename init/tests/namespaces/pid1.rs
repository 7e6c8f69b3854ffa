//! The real `init`, unchanged, as PID 1 of namespaces of its own.
//!
//! Its root is laid out as the image's is: [`Pid1::boot`] takes the definitions
//! of `/usr/lib/wherry/services`, [`Pid1::define`] puts an operator's into
//! `/state/services`. All services run [`crate::program`].
//!
//! There is no disk, so the state is volatile and the machine is never more than
//! degraded.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use control::{
    Client, ClientError, FrameBuffer, Hello, Refusal, Reply, Request, Service, ServiceDetail,
    ServiceState, Status, encode,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use runtime::cgroup::{Cgroup, Hierarchy};
use tempfile::TempDir;

use crate::enter;

/// What is waited for takes milliseconds; a host that does something else beside
/// may need longer.
const LIMIT: Duration = Duration::from_secs(60);

/// How the machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Power off or halt.
    Poweroff,
    /// Restart.
    Restart,
}

/// A running `init`.
pub struct Pid1 {
    outside: Outside,
    reports: BufReader<ChildStdout>,
    cgroup: OwnCgroup,
    /// Its process, in the host's numbers.
    pid: Pid,
    /// Its root.
    root: File,
    console: Pipe,
    log: Pipe,
    _folder: TempDir,
}

/// Why the tests cannot run here.
pub fn missing() -> Option<&'static str> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let answer = ANSWER.get_or_init(|| {
        if !geteuid().is_root() {
            return Some("needs root".to_owned());
        }
        // Devices are what has to be kept away.
        Hierarchy::find()
            .and_then(|hierarchy| own_cgroup(&hierarchy))
            .err()
            .map(|error| format!("needs a cgroup (v2) with device rules: {error}"))
    });
    answer.as_deref()
}

/// A cgroup in which only harmless devices can be opened.
fn own_cgroup(hierarchy: &Hierarchy) -> Result<OwnCgroup, runtime::Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut rules = vec![deny];
    // null, zero, full, random, urandom; tty, ptmx; pts (devices.txt).
    for (major, minor) in [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(2)),
        (136, None),
    ] {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(LinuxDeviceType::C))
            .set_major(Some(major))
            .set_minor(minor)
            .set_access(Some("rwm".to_owned()));
        rules.push(rule);
    }
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(rules));
    let name = format!("wherry-init-{}-{number}", std::process::id());
    hierarchy
        .create(Path::new(&name), &resources)
        .map(OwnCgroup)
}

/// The limits of a service that names none, as far as this host can set them:
/// what the kernel cannot limit is an error.
fn limits() -> &'static str {
    static LIMITS: OnceLock<String> = OnceLock::new();
    LIMITS.get_or_init(|| {
        let path = Hierarchy::find().unwrap().mount_point().to_owned();
        let controllers = fs::read_to_string(path.join("cgroup.controllers")).unwrap();
        let mut limits = Vec::new();
        for (controller, limit) in [("pids", "pids = \"none\""), ("memory", "memory = \"none\"")] {
            if !controllers
                .split_whitespace()
                .any(|name| name == controller)
            {
                limits.push(limit);
            }
        }
        let (_, open_files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if open_files < 524_288 {
            limits.push("open-files = 1024");
        }
        format!("limits = {{ {} }}\n", limits.join(", "))
    })
}

/// The definition of a service that does `steps`; `keys` are added to it.
pub fn service(steps: &[&str], keys: &str) -> String {
    let mut command = vec!["/program"];
    command.extend(steps);
    format!(
        "description = \"x\"\nimage = \"program\"\ncommand = {command:?}\n{}{keys}\n",
        limits()
    )
}

/// What all machines have: `init`, the program with a container's root around
/// it, and the libraries of both, made once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let image = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("namespaces-{}", std::process::id()));
        let _ = fs::remove_dir_all(&image);
        let program = image.join("program");
        for folder in [
            "dev", "etc", "lib", "proc", "run", "state", "sys", "tmp", "var",
        ] {
            fs::create_dir_all(program.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("lib", program.join("lib64")).unwrap();
        fs::create_dir(image.join("lib")).unwrap();
        // The libraries of this program are those of both.
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut libraries: Vec<&str> = maps
            .lines()
            .filter_map(|line| {
                line.split_once('/')
                    .map(|_| line.rsplit(' ').next().unwrap())
            })
            .filter(|path| path.contains(".so"))
            .collect();
        libraries.dedup();
        for library in libraries {
            let name = Path::new(library).file_name().unwrap();
            fs::copy(library, image.join("lib").join(name)).unwrap();
            fs::copy(library, program.join("lib").join(name)).unwrap();
        }
        fs::copy("/proc/self/exe", program.join("program")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_init"), image.join("init")).unwrap();
        image
    })
}

/// Removes what [`image`] made.
pub fn remove_image() {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("namespaces-{}", std::process::id()));
    let _ = fs::remove_dir_all(path);
}

impl Pid1 {
    /// Boots with these system services, by name, and waits until all has
    /// settled.
    pub fn boot(services: &[(&str, String)]) -> Self {
        let mut pid1 = Self::start("", services);
        pid1.wait_for_console(" s (kernel ");
        pid1
    }

    /// Boots without waiting; `cmdline` is the kernel's command line.
    pub fn start(cmdline: &str, services: &[(&str, String)]) -> Self {
        let folder = TempDir::with_prefix("wherry-init-").unwrap();
        let path = folder.path();
        for name in [
            "root",
            "services",
            "services/program",
            "services/program/root",
        ] {
            fs::create_dir(path.join(name)).unwrap();
        }
        let state = "description = \"state\"\nrole = \"state\"\nimage = \"program\"\ncommand = [\"/program\"]\n\
                     ready = \"exit\"\nrestart = { policy = \"never\" }\n"
            .to_owned();
        for (name, text) in services.iter().chain(&[("state", state)]) {
            fs::create_dir(path.join("services").join(name)).unwrap();
            fs::write(path.join(format!("services/{name}/service.toml")), text).unwrap();
        }
        fs::write(path.join("cmdline"), format!("{cmdline}\n")).unwrap();
        fs::write(path.join("empty"), "").unwrap();
        let console = Pipe::make(&path.join("console"));
        let mut log = Pipe::make(&path.join("kmsg"));

        let cgroup = own_cgroup(&Hierarchy::find().unwrap()).unwrap();
        let outside = Command::new("/proc/self/exe")
            .arg(enter::OUTSIDE)
            .arg(cgroup.0.path().unwrap())
            .arg(path)
            .arg(image())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut outside = Outside(outside.unwrap());
        let mut reports = BufReader::new(outside.0.stdout.take().unwrap());
        let mut line = String::new();
        reports.read_line(&mut line).unwrap();
        let pid = Pid::from_raw(line.trim().parse().unwrap());
        // Its root is not the host's any more once it says something.
        until("PID 1's first line", || {
            assert_eq!(outside.0.try_wait().unwrap(), None, "PID 1 does not start");
            log.drain();
            log.text.contains(" on Linux ")
        });
        let root = File::open(format!("/proc/{pid}/root")).unwrap();
        let pid1 = Self {
            outside,
            reports,
            cgroup,
            pid,
            root,
            console,
            log,
            _folder: folder,
        };
        let release = fs::read_to_string(pid1.path("/usr/lib/os-release")).unwrap();
        assert!(release.contains("Wherry in namespaces"), "{release}");
        until("the control socket", || pid1.path(control::SOCKET).exists());
        pid1
    }

    /// A path of the machine, as this process reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()));
        root.join(path.trim_start_matches('/'))
    }

    /// A file of the machine.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A connection to the control socket.
    pub fn client(&self) -> Client {
        Client::connect(self.path(control::SOCKET)).unwrap()
    }

    /// Asks over a connection of its own.
    pub fn try_ask(&self, request: &Request) -> Result<Reply, ClientError> {
        self.client().ask(request)
    }

    /// Whether PID 1 answers a request within that time.
    pub fn answers_within(&self, limit: Duration) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.path(control::SOCKET)) else {
            return false;
        };
        stream.set_read_timeout(Some(limit)).unwrap();
        for frame in [
            encode(&Hello::of::<control::Init>(), control::MAX_REQUEST),
            encode(&Request::Status, control::MAX_REQUEST),
        ] {
            stream.write_all(&frame.unwrap()).unwrap();
        }
        // The greeting, then the answer.
        let mut buffer = FrameBuffer::new(control::MAX_REPLY);
        let mut frames = 0;
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            buffer.push(&bytes[..count]);
            while let Ok(Some(_)) = buffer.next_frame() {
                frames += 1;
            }
            if frames == 2 {
                return true;
            }
        }
        false
    }

    /// Asks for what must be granted.
    pub fn ask(&self, request: &Request) -> Reply {
        self.try_ask(request)
            .unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    /// Asks for what must be refused.
    pub fn refused(&self, request: &Request) -> Refusal {
        match self.try_ask(request) {
            Err(ClientError::Refused(refusal)) => refusal,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// The machine and all services.
    pub fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// A service's line.
    pub fn service(&self, name: &str) -> Service {
        let status = self.status();
        let line = status.services.iter().find(|line| line.name == name);
        line.unwrap_or_else(|| panic!("no service {name}: {status:#?}"))
            .clone()
    }

    /// All of a service.
    pub fn show(&self, name: &str) -> ServiceDetail {
        let service = name.to_owned();
        match self.ask(&Request::Show { service }) {
            Reply::Service(detail) => *detail,
            other => panic!("{other:?}"),
        }
    }

    /// Puts an operator's definition where the next reload finds it.
    pub fn define(&self, name: &str, text: &str) {
        let folder = self.path("/state/services").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("service.toml"), text).unwrap();
    }

    /// Removes an operator's definition.
    pub fn undefine(&self, name: &str) {
        fs::remove_dir_all(self.path("/state/services").join(name)).unwrap();
    }

    /// Has the definitions read again; returns the complaints. PID 1 refuses while
    /// the child that read them before is still there.
    pub fn reload(&self) -> Vec<String> {
        let end = Instant::now() + LIMIT;
        loop {
            match self.try_ask(&Request::Reload) {
                Ok(Reply::Done(outcome)) => return outcome.notes,
                Err(ClientError::Refused(Refusal::Failed { message }))
                    if message.contains("try again") && Instant::now() < end =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Starts, stops or restarts a service.
    pub fn order(&self, order: fn(String) -> Request, name: &str) {
        self.ask(&order(name.to_owned()));
    }

    /// Waits until a service is in a state; returns its line.
    pub fn wait_for_state(&mut self, name: &str, state: ServiceState) -> Service {
        let end = Instant::now() + LIMIT;
        loop {
            let line = self.service(name);
            if line.state == state {
                return line;
            }
            self.log.drain();
            assert!(
                Instant::now() < end,
                "{name} is not {state:?}: {line:#?}\n{}",
                self.log.text
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a file of the machine holds a text; returns all of it.
    pub fn wait_for_text(&self, path: &str, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let held = self.read(path);
            if held.contains(text) {
                return held;
            }
            assert!(Instant::now() < end, "no '{text}' in {path}: {held}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a text on the console.
    pub fn wait_for_console(&mut self, text: &str) {
        self.console.wait_for(text);
    }

    /// Waits for a text in the log; returns the log up to now.
    pub fn wait_for_log(&mut self, text: &str) -> &str {
        self.log.wait_for(text);
        &self.log.text
    }

    /// The log up to now.
    pub fn log(&mut self) -> &str {
        self.log.drain();
        &self.log.text
    }

    /// The console up to now.
    pub fn console(&mut self) -> &str {
        self.console.drain();
        &self.console.text
    }

    /// Sends PID 1 a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Kills a process of the machine by its number there.
    pub fn kill(&self, pid: u32) {
        self.send(pid, Signal::SIGKILL);
    }

    /// Sends a signal to a process of the machine by its number there.
    pub fn send(&self, pid: u32, signal: Signal) {
        let is_meant = |host: &u32| {
            fs::read_to_string(format!("/proc/{host}/status"))
                .unwrap_or_default()
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                // The host's number, then that in PID 1's namespace.
                .and_then(|numbers| numbers.split_whitespace().nth(1)?.parse().ok())
                == Some(pid)
        };
        let host = self.processes().into_iter().find(is_meant);
        let host = host.unwrap_or_else(|| panic!("no process {pid}"));
        kill(Pid::from_raw(i32::try_from(host).unwrap()), signal).unwrap();
    }

    /// All processes of the machine, in the host's numbers.
    pub fn processes(&self) -> Vec<u32> {
        fn walk(folder: &Path, found: &mut Vec<u32>) {
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.cgroup.0.path().unwrap(), &mut found);
        found
    }

    /// How many descriptors PID 1 has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid))
            .unwrap()
            .count()
    }

    /// How many ended processes nobody has reaped, in PID 1's namespace.
    pub fn zombies(&self) -> usize {
        fs::read_dir(self.path("/proc"))
            .unwrap()
            .flatten()
            .filter(|entry| {
                fs::read_to_string(entry.path().join("stat"))
                    .is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
            })
            .count()
    }

    /// Waits for the end.
    pub fn end(&mut self) -> End {
        // Closed by the process outside, which ends with the machine.
        let end = Instant::now() + LIMIT * 3;
        while self.outside.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "it does not end: {}", self.log());
            self.console.drain();
            self.log.drain();
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut how = String::new();
        self.reports.read_to_string(&mut how).unwrap();
        match how.trim() {
            "poweroff" => End::Poweroff,
            "restart" => End::Restart,
            other => panic!("PID 1 ended otherwise: {other}: {}", self.log()),
        }
    }
}

/// The process that waits for the end of the namespaces.
struct Outside(Child);

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cgroup that goes with all its processes.
struct OwnCgroup(Cgroup);

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let end = Instant::now() + LIMIT;
        let _ = self.0.kill();
        while self.0.remove().is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What PID 1 writes to the console or the kernel's log.
struct Pipe {
    file: File,
    text: String,
}

impl Pipe {
    fn make(path: &Path) -> Self {
        mkfifo(path, Mode::from_bits_truncate(0o666)).unwrap();
        // Both ends, so that it is never at its end.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .unwrap();
        fcntl(&file, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        Self {
            file,
            text: String::new(),
        }
    }

    fn drain(&mut self) {
        let mut bytes = [0; 64 * 1024];
        while let Ok(count @ 1..) = self.file.read(&mut bytes) {
            self.text
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            self.drain();
            if self.text.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "no '{text}' in: {}", self.text);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
