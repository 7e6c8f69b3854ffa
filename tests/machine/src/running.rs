//! A machine that runs, driven from a test over its console and monitor.

use crate::disk::copy_sparse;
use crate::monitor::Monitor;
use crate::server;
use crate::{Boot, Build, Error, Fault, Qemu, Server, Snapshot, Storage, snapshot};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Size of a machine's disk: larger than the image, so that the state partition
/// has somewhere to grow.
pub(crate) const DISK: u64 = 2 << 30;

/// A machine ends after this, whatever its test does.
const HARD_LIMIT: Duration = Duration::from_secs(300);

/// Describes a machine before it starts.
#[derive(Debug)]
pub struct MachineBuilder<'a> {
    build: &'a Build,
    name: String,
    firmware: bool,
    kernel: Option<PathBuf>,
    append: Vec<String>,
    disk: Option<PathBuf>,
    snapshot: Option<&'a Snapshot>,
    storage: Storage,
    variables: Option<PathBuf>,
    memory: u32,
    network: Option<Option<String>>,
    server: Option<u16>,
    reboots: bool,
    arguments: Vec<OsString>,
    limit: Duration,
}

impl<'a> MachineBuilder<'a> {
    /// Boots through OVMF and systemd-boot. Without it QEMU loads the kernel
    /// itself, which saves seconds; the root is on the disk either way.
    pub fn firmware(mut self) -> Self {
        self.firmware = true;
        self
    }

    /// Boots this kernel directly instead of the build's.
    pub fn kernel(mut self, kernel: impl Into<PathBuf>) -> Self {
        self.kernel = Some(kernel.into());
        self
    }

    /// Adds to the kernel's command line (direct boot only: with firmware the
    /// command line is part of the unified kernel image).
    pub fn append(mut self, text: impl Into<String>) -> Self {
        self.append.push(text.into());
        self
    }

    /// Uses this raw disk, which stays as the machine leaves it. Without it the
    /// machine has a new copy of the image that is removed with it.
    pub fn disk(mut self, disk: impl Into<PathBuf>) -> Self {
        self.disk = Some(disk.into());
        self
    }

    /// Goes on where the snapshot's machine was saved, in place of a boot. Disk
    /// and firmware's variables are copies of that machine's: new ones at the
    /// paths that [`disk`](Self::disk) and [`variables`](Self::variables) name,
    /// or some that are removed with the machine.
    pub fn restore(mut self, snapshot: &'a Snapshot) -> Self {
        self.snapshot = Some(snapshot);
        self
    }

    /// Keeps the firmware's variables in this file, which is made where missing.
    /// Without it each machine has new ones.
    pub fn variables(mut self, file: impl Into<PathBuf>) -> Self {
        self.variables = Some(file.into());
        self
    }

    /// Logs each write and flush of the disk to a new file, in the format of
    /// Linux' dm-log-writes.
    pub fn log_writes(mut self, log: impl Into<PathBuf>) -> Self {
        self.storage.log = Some(log.into());
        self
    }

    /// Makes requests of the disk fail.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.storage.faults.push(fault);
        self
    }

    /// Makes the disk one that cannot be written to.
    pub fn read_only(mut self) -> Self {
        self.storage.read_only = true;
        self
    }

    /// Memory in MiB; 512 without it.
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// What follows QEMU's `-netdev`; its id has to be `net`. Without it the
    /// machine is on an isolated network; `None` leaves out the card.
    pub fn network(mut self, netdev: Option<&str>) -> Self {
        self.network = Some(netdev.map(str::to_owned));
        self
    }

    /// Lets the machine reach this server only, at
    /// [`Server::ADDRESS`].
    pub fn server(mut self, server: &Server) -> Self {
        self.server = Some(server.port());
        self
    }

    /// Lets the machine start again when it reboots. Without it a reboot, a
    /// panic's or the watchdog's included, ends the machine.
    pub fn reboots(mut self) -> Self {
        self.reboots = true;
        self
    }

    /// Adds one argument of QEMU's.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Kills the machine after this time, whatever happens; 300 s without it.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Boots the machine, has `settle` wait until it is what others shall begin
    /// with, saves it and ends it. Its disk is a copy of the one that
    /// [`disk`](Self::disk) names, or of the image.
    pub fn save(
        mut self,
        settle: impl FnOnce(&mut Machine) -> Result<(), Error>,
    ) -> Result<Snapshot, Error> {
        let snapshot = Snapshot::new(self.build, &self.name)?;
        match &self.disk {
            Some(disk) => copy_sparse(disk, &snapshot.disk(), 0)?,
            None => self.build.make_disk(&snapshot.disk(), DISK)?,
        }
        self.disk = Some(snapshot.disk());
        self.variables = Some(snapshot.variables());
        let mut machine = self.start()?;
        settle(&mut machine)?;
        snapshot.take(machine)?;
        Ok(snapshot)
    }

    /// Starts the machine. Its console is saved in the build's `console/NAME.log`.
    pub fn start(self) -> Result<Machine, Error> {
        let scratch = TempDir::with_prefix("wherry-machine-")
            .map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let boot = if self.firmware {
            let variables = match self.variables {
                Some(variables) => variables,
                None => scratch.path().join("variables"),
            };
            if let Some(snapshot) = self.snapshot {
                copy_sparse(&snapshot.variables(), &variables, 0)?;
            }
            Boot::Firmware { variables }
        } else {
            let mut words = vec![self.build.command_line()?];
            words.extend(self.append);
            Boot::Direct {
                kernel: match self.kernel {
                    Some(kernel) => kernel,
                    None => self.build.vmlinux()?,
                },
                command_line: words.join(" "),
            }
        };
        let tools = self.build.tools()?;
        let mut qemu = Qemu::new(&tools, boot);
        qemu.storage = self.storage;
        qemu.memory = self.memory;
        qemu.reboots = self.reboots;
        if let Some(network) = self.network {
            qemu.network = network;
        }
        if let Some(port) = self.server {
            qemu.network = Some(server::network(&tools, port)?);
        }
        qemu.monitor = Some(scratch.path().join("monitor"));
        qemu.arguments = self.arguments;
        qemu.disk = Some(match (self.disk, self.snapshot) {
            (Some(disk), None) => disk,
            (None, None) => {
                let disk = scratch.path().join("disk.raw");
                self.build.make_disk(&disk, DISK)?;
                disk
            }
            (disk, Some(snapshot)) => {
                let disk = disk.unwrap_or_else(|| scratch.path().join("disk.raw"));
                copy_sparse(&snapshot.disk(), &disk, 0)?;
                qemu.incoming = Some(snapshot.state());
                disk
            }
        });
        let logs = self.build.console_logs();
        fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
        let log = logs.join(format!("{}.log", self.name));
        let mut machine = Machine::spawn(&qemu, scratch, log, self.limit)?;
        if self.snapshot.is_some() {
            snapshot::go_on(&mut machine)?;
        }
        Ok(machine)
    }
}

/// What a command typed on the console printed, and its exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellOutput {
    /// Lines of standard output and error, as the terminal showed them, with
    /// `\n` as line end.
    pub text: String,
    /// The exit status.
    pub exit: i32,
}

/// A machine that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Machine {
    process: Arc<Process>,
    console: Arc<Screen>,
    keyboard: ChildStdin,
    /// How much of the console has been matched by `wait_for`.
    seen: usize,
    /// How many commands have been typed by `shell`.
    commands: u32,
    log: PathBuf,
    scratch: TempDir,
}

/// Everything that the console has shown so far.
#[derive(Debug, Default)]
struct Screen {
    text: Mutex<Text>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

#[derive(Debug)]
struct Process {
    child: Mutex<Child>,
    over: Mutex<bool>,
    told: Condvar,
}

impl Machine {
    /// Describes a machine; `name` names its saved console.
    pub fn builder<'a>(build: &'a Build, name: &str) -> MachineBuilder<'a> {
        MachineBuilder {
            build,
            name: name.to_owned(),
            firmware: false,
            kernel: None,
            append: Vec::new(),
            disk: None,
            snapshot: None,
            storage: Storage::default(),
            variables: None,
            memory: 512,
            network: None,
            server: None,
            reboots: false,
            arguments: Vec::new(),
            limit: HARD_LIMIT,
        }
    }

    pub(crate) fn spawn(
        qemu: &Qemu,
        scratch: TempDir,
        log: PathBuf,
        limit: Duration,
    ) -> Result<Self, Error> {
        let save = File::create(&log).map_err(Error::io("create", &log))?;
        let errors = save.try_clone().map_err(Error::io("write", &log))?;
        let mut command = dies_with_its_parent(&qemu.command()?);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(Error::io("start", command.get_program()))?;
        let (Some(keyboard), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for as pipes");
        };
        let console = Arc::new(Screen::default());
        let process = Arc::new(Process {
            child: Mutex::new(child),
            over: Mutex::new(false),
            told: Condvar::new(),
        });
        thread::spawn({
            let console = Arc::clone(&console);
            move || console.follow(output, save)
        });
        thread::spawn({
            let process = Arc::clone(&process);
            move || process.end_after(limit)
        });
        Ok(Self {
            process,
            console,
            keyboard,
            seen: 0,
            commands: 0,
            log,
            scratch,
        })
    }

    /// Waits until the console shows `pattern` after the last match, and returns
    /// the line that it is in. The wait ends at once when the machine ends.
    pub fn wait_for(&mut self, pattern: &str, limit: Duration) -> Result<String, Error> {
        let deadline = Instant::now() + limit;
        let mut text = lock(&self.console.text);
        loop {
            if let Some(at) = find(&text.bytes[self.seen..], pattern.as_bytes()) {
                let start = self.seen + at;
                self.seen = start + pattern.len();
                return Ok(line_around(&text.bytes, start, self.seen));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let because = if text.ended {
                "the machine ended".to_owned()
            } else if left.is_zero() {
                format!("it did not come within {limit:?}")
            } else {
                text = self
                    .console
                    .changed
                    .wait_timeout(text, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            };
            return Err(Error::Silent {
                pattern: pattern.to_owned(),
                because,
                tail: tail(&text.bytes),
                log: self.log.clone(),
            });
        }
    }

    /// The error of a machine that did not do what was waited for.
    pub(crate) fn silent(&self, pattern: &str, because: String) -> Error {
        Error::Silent {
            pattern: pattern.to_owned(),
            because,
            tail: tail(&lock(&self.console.text).bytes),
            log: self.log.clone(),
        }
    }

    /// Everything that the console has shown, escape sequences included.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&lock(&self.console.text).bytes).into_owned()
    }

    /// Where the console is saved.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Types `text` on the console as it is.
    pub fn type_text(&mut self, text: &str) -> Result<(), Error> {
        self.keyboard
            .write_all(text.as_bytes())
            .and_then(|()| self.keyboard.flush())
            .map_err(Error::io("type on the console of", &self.log))
    }

    /// Types `text` and Enter.
    pub fn type_line(&mut self, text: &str) -> Result<(), Error> {
        self.type_text(&format!("{text}\r"))
    }

    /// Has the console's shell run `command` and returns what it printed. The
    /// shell has to be there: wait for its prompt first. `command` is one line.
    pub fn shell(&mut self, command: &str, limit: Duration) -> Result<ShellOutput, Error> {
        self.commands += 1;
        let mark = format!("{}-{}", self.commands, std::process::id());
        // The quotes keep the echo of what is typed from looking like the marks.
        self.type_line(&format!(
            "echo 'begin'-'{mark}'; {command}; echo 'end'-'{mark}' $?"
        ))?;
        let deadline = Instant::now() + limit;
        self.wait_for(&format!("begin-{mark}"), limit)?;
        let start = self.seen;
        self.wait_for(
            &format!("end-{mark} "),
            deadline.saturating_duration_since(Instant::now()),
        )?;
        let end = self.seen - format!("end-{mark} ").len();
        let exit = self.seen;
        self.wait_for("\n", deadline.saturating_duration_since(Instant::now()))?;
        let text = lock(&self.console.text);
        let part = |from: usize, to: usize| {
            String::from_utf8_lossy(&text.bytes[from..to]).replace('\r', "")
        };
        Ok(ShellOutput {
            text: part(start, end).trim_start_matches('\n').to_owned(),
            exit: part(exit, self.seen).trim().parse().unwrap_or(-1),
        })
    }

    /// Runs a QMP command of QEMU's and returns its result.
    pub fn monitor(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        let socket = self.scratch.path().join("monitor");
        // QEMU opens the socket a moment after it started.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        Monitor::connect(&socket)?.execute(command, arguments)
    }

    /// The processor time that the machine has cost the host so far. It says
    /// what the guest did, also where other programs made it wait.
    pub fn cpu_time(&self) -> Result<Duration, Error> {
        let path = format!("/proc/{}/stat", lock(&self.process.child).id());
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Ok(processor_time(&text))
    }

    /// Presses the power button.
    pub fn press_power(&mut self) -> Result<(), Error> {
        self.monitor("system_powerdown", &json!({})).map(drop)
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.monitor("system_reset", &json!({})).map(drop)
    }

    /// Takes the power away: nothing that the guest has not flushed is kept.
    pub fn cut_power(self) {}

    /// Waits until the machine has ended by itself.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let status = lock(&self.process.child)
                .try_wait()
                .map_err(Error::io("wait for the machine of", &self.log))?;
            if let Some(status) = status {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::Silent {
                    pattern: "the machine's end".to_owned(),
                    because: format!("it did not come within {limit:?}"),
                    tail: tail(&lock(&self.console.text).bytes),
                    log: self.log.clone(),
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        *lock(&self.process.over) = true;
        self.process.told.notify_all();
        self.process.kill();
    }
}

impl Process {
    /// Ends the machine once `limit` has passed, unless it is over before.
    fn end_after(&self, limit: Duration) {
        let over = lock(&self.over);
        let (over, _) = self
            .told
            .wait_timeout_while(over, limit, |over| !*over)
            .unwrap_or_else(PoisonError::into_inner);
        if !*over {
            self.kill();
        }
    }

    fn kill(&self) {
        let mut child = lock(&self.child);
        // It may have ended by itself, which is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Screen {
    fn follow(&self, mut output: ChildStdout, mut save: File) {
        let mut buffer = [0; 4096];
        loop {
            let read = output.read(&mut buffer).unwrap_or(0);
            // The test's own copy is what counts; the saved one is for people.
            let _ = save.write_all(&buffer[..read]);
            let mut text = lock(&self.text);
            text.bytes.extend_from_slice(&buffer[..read]);
            text.ended = read == 0;
            self.changed.notify_all();
            if read == 0 {
                return;
            }
        }
    }
}

/// Wraps `command` so that the kernel kills it when the thread that starts it
/// ends, a killed test included. `setpriv` (util-linux) execs, so the pid stays.
fn dies_with_its_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--pdeathsig", "KILL"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped
}

/// A panic in another thread leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// User and system time of all threads, from `/proc/PID/stat` (proc(5): fields
/// 14 and 15, in units that are a hundredth of a second on every Linux).
fn processor_time(stat: &str) -> Duration {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|part| part == pattern)
}

fn line_around(text: &[u8], start: usize, end: usize) -> String {
    let is_end = |byte: &u8| *byte == b'\n' || *byte == b'\r';
    let from = text[..start]
        .iter()
        .rposition(is_end)
        .map_or(0, |at| at + 1);
    let to = text[end..]
        .iter()
        .position(is_end)
        .map_or(text.len(), |at| end + at);
    String::from_utf8_lossy(&text[from..to]).into_owned()
}

fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{find, line_around, processor_time, tail};
    use std::time::Duration;

    #[test]
    fn processor_time_is_read_behind_a_name_with_spaces() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20";
        assert_eq!(processor_time(stat), Duration::from_millis(1750));
    }

    #[test]
    fn a_match_gives_the_whole_line() {
        let text = b"first\r\nwherry: ready in 1.2 s\r\nlast";
        let at = find(text, b"ready").unwrap();
        assert_eq!(line_around(text, at, at + 5), "wherry: ready in 1.2 s");
        assert_eq!(find(text, b"absent"), None);
        assert_eq!(line_around(text, text.len() - 1, text.len()), "last");
    }

    #[test]
    fn the_tail_is_the_last_forty_lines() {
        let text: String = (0..100).map(|n| format!("{n}\r\n")).collect();
        let tail = tail(text.as_bytes());
        assert!(tail.starts_with("60\n") && tail.ends_with("99"));
    }
}
