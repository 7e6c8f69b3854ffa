//! The real program on pseudo-terminals, as a person at a console meets it.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use control::{Phase, ServiceState};
use fake_init::{FakeInit, service};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, ttyname};

/// Longer than anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A terminal with a person at it.
struct Person {
    line: File,
    /// Kept open, so that the line stays when no shell has it.
    _terminal: File,
    path: PathBuf,
    seen: String,
}

impl Person {
    fn new() -> Self {
        let pair = openpty(None, None).unwrap();
        // A shell that inherited a terminal's other end would never be hung up.
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        Self {
            path: ttyname(&pair.slave).unwrap(),
            line: File::from(pair.master),
            _terminal: File::from(pair.slave),
            seen: String::new(),
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.line.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until `text` has come, and forgets what came up to its end.
    fn read_until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(
                self.read_within(deadline.saturating_duration_since(Instant::now())),
                "{text:?} has not come, but {:?}",
                self.seen
            );
        }
    }

    /// Reads once; whether something came.
    fn read_within(&mut self, limit: Duration) -> bool {
        let mut polled = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap();
        if poll(&mut polled, limit).unwrap() == 0 {
            return false;
        }
        let mut bytes = [0; 1024];
        let count = self.line.read(&mut bytes).unwrap();
        self.seen += &String::from_utf8_lossy(&bytes[..count]);
        true
    }
}

/// The program, killed when the test ends.
struct Running(Child);

impl Running {
    fn start(socket: &Path, people: &[&Person]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_console"));
        command.args(["--shell", "/bin/sh", "--socket"]).arg(socket);
        for person in people {
            command.arg(&person.path);
        }
        command.env("NOTIFY_SOCKET", socket.with_file_name("notify"));
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine that boots.
fn booting(socket: &Path) -> FakeInit {
    let pid1 = FakeInit::listen(socket);
    pid1.edit(|status| status.machine.phase = Phase::Booting);
    pid1.change(service("network", ServiceState::Starting));
    pid1
}

#[test]
fn a_person_gets_a_greeting_and_a_shell_with_job_control() {
    let folder = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let mut person = Person::new();
    // Nobody listens there: PID 1 cannot be asked, so there is nothing to wait for.
    let _console = Running::start(&folder.path().join("init.sock"), &[&person]);

    notify.set_read_timeout(Some(LIMIT)).unwrap();
    let mut told = [0; 32];
    let count = notify.recv(&mut told).unwrap();
    assert_eq!(&told[..count], b"READY=1");

    let greeting = person.read_until("wherry status");
    assert!(greeting.contains("cannot reach PID 1"), "{greeting}");
    person.read_until("# ");
    person.type_keys("tty; echo \"$TERM-$HOME-$NOTIFY_SOCKET-\"; stty size\r");
    let answer = person.read_until("24 80");
    assert!(answer.contains(person.path.to_str().unwrap()), "{answer}");
    assert!(answer.contains("vt220-/state--"), "{answer}");

    // Ctrl-C reaches what runs in the foreground, and not the shell.
    person.read_until("# ");
    // By its own word it is in the foreground: the shell has let go.
    person.type_keys("sh -c 'echo begun-$((1 + 1)); exec sleep 1000'\r");
    person.read_until("begun-2");
    person.type_keys("\x03");
    person.read_until("# ");
    person.type_keys("echo alive-$((1 + 1))\r");
    person.read_until("alive-2");
}

#[test]
fn a_shell_that_ends_is_followed_by_the_next_one_without_spinning() {
    let folder = tempfile::tempdir().unwrap();
    let mut person = Person::new();
    let _console = Running::start(&folder.path().join("init.sock"), &[&person]);
    person.read_until("# ");
    let begun = Instant::now();
    person.type_keys("exit\r");
    person.read_until("wherry status");
    person.read_until("# ");
    person.type_keys("exit\r");
    person.read_until("wherry status");
    person.read_until("# ");
    // Both ended at once: they rested one second and two.
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[test]
fn every_console_has_its_own_shell_and_a_missing_one_disturbs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (Person::new(), Person::new());
    let mut missing = Person::new();
    missing.path = PathBuf::from("/dev/pts/no-such-terminal");
    let _console = Running::start(
        &folder.path().join("init.sock"),
        &[&missing, &first, &second],
    );
    for person in [&mut first, &mut second] {
        person.read_until("# ");
        person.type_keys("tty\r");
        let path = person.path.display().to_string();
        person.read_until(&path);
    }
}

#[test]
fn when_the_service_is_stopped_it_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut person = Person::new();
    let mut console = Running::start(&folder.path().join("init.sock"), &[&person]);
    person.read_until("# ");
    person.type_keys("echo shell=$$.; sleep 1000\r");
    person.read_until("\nshell=");
    let shell = person.read_until(".");
    console.signal(Signal::SIGTERM);
    assert!(console.0.wait().unwrap().success());
    let stat = PathBuf::from(format!("/proc/{}/stat", shell.trim_end_matches('.')));
    let deadline = Instant::now() + LIMIT;
    // A process that has ended may wait for whoever collects orphans here.
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the shell goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_prompt_comes_when_the_machine_has_settled() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("init.sock");
    let pid1 = booting(&socket);
    let mut person = Person::new();
    let _console = Running::start(&socket, &[&person]);
    assert!(
        !person.read_within(Duration::from_millis(500)),
        "while the machine boots the console says nothing: {:?}",
        person.seen
    );
    pid1.edit(|status| status.machine.phase = Phase::Ready);
    pid1.change(service("network", ServiceState::Ready));
    let greeting = person.read_until("wherry status");
    assert!(greeting.contains("Wherry 1.2.3 on boat-7"), "{greeting}");
    assert!(greeting.contains("ready: 1 service ready"), "{greeting}");
    person.read_until("boat-7:");
}

#[test]
fn a_key_brings_the_shell_before_the_machine_has_settled_and_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("init.sock");
    // It never settles: only the key can bring the shell.
    let _pid1 = booting(&socket);
    let mut person = Person::new();
    let _console = Running::start(&socket, &[&person]);
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    person.type_keys("echo typed-$((1 + 1))\r");
    person.read_until("typed-2");
    assert!(begun.elapsed() < Duration::from_secs(4));
}
