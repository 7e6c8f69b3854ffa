//! The part of PID 1 that the log service meets: it keeps the pipes, starts
//! the service with a fresh socket, hands the pipes out, and hears its word

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use journal::{Entry, Journal, Query};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use nix::unistd::{Pid, pipe2};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

/// No wait in a test takes longer on a machine that is not hung.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Pid1 {
    pub directory: TempDir,
    /// What runs before the service in its command line.
    pub wrapper: Vec<String>,
    pub arguments: Vec<String>,
    /// Whether descriptors are kept that the service asks to keep.
    pub keeps: bool,
    kept: Vec<(String, OwnedFd)>,
    notifications: UnixDatagram,
    pipes: Vec<(String, OwnedFd)>,
    running: Option<(Child, OwnedFd)>,
}

impl Pid1 {
    pub fn new() -> Pid1 {
        let directory = TempDir::new().unwrap();
        let notifications = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        notifications.set_read_timeout(Some(LIMIT)).unwrap();
        Pid1 {
            wrapper: Vec::new(),
            arguments: Vec::new(),
            keeps: true,
            kept: Vec::new(),
            notifications,
            pipes: Vec::new(),
            running: None,
            directory,
        }
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// Starts the service and waits until it is ready.
    pub fn start(&mut self) {
        self.spawn();
        assert!(self.word().starts_with("READY=1"));
    }

    /// Starts the service.
    pub fn spawn(&mut self) {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let mut names = "outputs".to_owned();
        let mut mappings = vec![FdMapping {
            parent_fd: theirs,
            child_fd: 3,
        }];
        for (child_fd, (name, kept)) in (4..).zip(&self.kept) {
            names = format!("{names}:{name}");
            mappings.push(FdMapping {
                parent_fd: kept.try_clone().unwrap(),
                child_fd,
            });
        }
        let log = env!("CARGO_BIN_EXE_log");
        let mut words = self.wrapper.iter().map(String::as_str).chain([log]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg("--directory")
            .arg(self.journal())
            // However full the disk is that the tests run on.
            .args(["--keep-free", "0"])
            .args(&self.arguments)
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .env("LISTEN_FDS", (1 + self.kept.len()).to_string())
            .env("LISTEN_FDNAMES", names)
            .fd_mappings(mappings)
            .unwrap();
        let child = command.spawn().unwrap();
        drop(command);
        for (service, pipe) in &self.pipes {
            hand_over(&ours, service, pipe);
        }
        self.running = Some((child, ours));
    }

    /// What the service says next.
    fn word(&mut self) -> String {
        self.hear(RecvFlags::empty()).unwrap()
    }

    /// Takes one word, and what is to be kept.
    fn hear(&mut self, flags: RecvFlags) -> rustix::io::Result<String> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(&self.notifications, &mut parts, &mut control, flags)?.bytes;
        let word = String::from_utf8_lossy(&bytes[..length]).into_owned();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                let name = word.strip_prefix("FDSTORE=1\nFDNAME=").unwrap();
                for descriptor in descriptors {
                    if self.keeps && self.kept.len() < 2 {
                        self.kept.push((name.to_owned(), descriptor));
                    }
                }
            }
        }
        Ok(word)
    }

    /// Makes a service's pipe; the result is what the service writes to.
    pub fn add(&mut self, service: &str) -> File {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        if let Some((_, socket)) = &self.running {
            hand_over(socket, service, &reader);
        }
        self.pipes.push((service.to_owned(), reader));
        File::from(writer)
    }

    /// Closes the socket, as when PID 1 executes itself anew.
    pub fn hang_up(&mut self) {
        if let Some((_, socket)) = &mut self.running {
            *socket = socket_to_nowhere();
        }
    }

    pub fn process(&self) -> u32 {
        self.running.as_ref().unwrap().0.id()
    }

    pub fn kill(&mut self) {
        let (mut child, _) = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.forget_words();
    }

    /// Waits until the service ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let (mut child, _socket) = self.running.take().unwrap();
        child.wait().unwrap()
    }

    /// Asks the service to stop.
    pub fn stop(&mut self) -> ExitStatus {
        let (mut child, _socket) = self.running.take().unwrap();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        self.forget_words();
        status
    }

    /// Hears what is still to be heard, so that an earlier run's word is not
    /// taken for the next one's.
    fn forget_words(&mut self) {
        while self.hear(RecvFlags::DONTWAIT).is_ok() {}
    }

    /// What is in the journal.
    pub fn entries(&self) -> Vec<Entry> {
        entries(&self.journal())
    }

    /// What a service said, as text.
    pub fn said(&self, service: &str) -> Vec<String> {
        let entries = self.entries().into_iter();
        entries
            .filter(|entry| entry.service == service)
            .map(|entry| entry.text().into_owned())
            .collect()
    }

    /// Waits until the journal holds what is looked for.
    pub fn wait_for(&self, what: &str, mut found: impl FnMut(&[Entry]) -> bool) -> Vec<Entry> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let entries = self.entries();
            if found(&entries) {
                return entries;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {entries:#?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a service's line is in the journal.
    pub fn wait_for_line(&self, service: &str, line: &str) -> Entry {
        let is_it = |entry: &Entry| entry.service == service && entry.text() == line;
        let entries = self.wait_for(line, |entries| entries.iter().any(is_it));
        entries.into_iter().find(is_it).unwrap()
    }
}

impl Drop for Pid1 {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn entries(directory: &Path) -> Vec<Entry> {
    let entries = Journal::open(directory).entries(&Query::default()).unwrap();
    entries.map(Result::unwrap).collect()
}

/// Writes a line.
pub fn say(output: &mut File, line: &str) {
    output.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn hand_over(socket: &OwnedFd, service: &str, pipe: &OwnedFd) {
    let text = format!("{{\"service\":\"{service}\"}}");
    let sent = sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(text.as_bytes())],
        &[ControlMessage::ScmRights(&[pipe.as_raw_fd()])],
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
    assert_eq!(sent, Ok(text.len()));
}

fn socket_to_nowhere() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}
