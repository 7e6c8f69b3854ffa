//! Stays in front of a process until it ends: passes signals on to it, relays
//! its terminal, and exits with its exit status.
//!
//! Invariant: it waits for nothing but poll. A reader that stops holds up the
//! container's output, never its signals.

use std::fs::{File, OpenOptions};
use std::io::{Stdout, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use runtime::Started;

use crate::log;
use crate::sys;

/// Signals that come to this program from now on, until it ends.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes over all signals, before the process is started so that none is
    /// lost. A process that the library starts does not inherit this.
    pub fn take() -> Result<Signals> {
        let mut set = SigSet::all();
        // These report errors in this program itself.
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
        ] {
            set.remove(fault);
        }
        set.thread_block().context("block signals")?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("signalfd")
            .map(Signals)
    }
}

/// Waits for the end of a process that this program has started.
///
/// The result is its exit status, or 128 plus the signal's number if a signal
/// has killed it.
pub fn wait(started: &Started, terminal: Option<OwnedFd>, signals: &Signals) -> Result<i32> {
    let mut relay = terminal.map(Relay::new).transpose()?;
    loop {
        let ready = wait_for_any(signals, relay.as_ref())?;
        // First: a new size of the terminal applies to what is typed after it.
        while let Ok(Some(info)) = signals.0.read_signal() {
            if let Some(status) = handle(info.ssi_signo as i32, started, relay.as_ref())? {
                if let Some(relay) = &mut relay {
                    finish(relay, signals)?;
                }
                return Ok(status);
            }
        }
        if let Some(relay) = &mut relay {
            relay.exchange(ready);
        }
    }
}

/// What can be read or written now.
#[derive(Debug, Default, Clone, Copy)]
struct Ready {
    input: bool,
    output: bool,
    master: bool,
}

fn wait_for_any(signals: &Signals, relay: Option<&Relay>) -> Result<Ready> {
    let stdin = stdin();
    let mut fds = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
    if let Some(relay) = relay {
        // A descriptor that nothing is wanted of would still report its end.
        let mut add = |wanted: PollFlags, fd| match wanted.is_empty() {
            true => None,
            false => {
                fds.push(PollFd::new(fd, wanted));
                Some(fds.len() - 1)
            }
        };
        let when = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        let master = add(relay.wanted(), relay.master.as_fd());
        let input = add(when(relay.reads_input(), PollFlags::POLLIN), stdin.as_fd());
        let output = add(
            when(relay.has_output(), PollFlags::POLLOUT),
            relay.output.as_fd(),
        );
        poll_again(&mut fds)?;
        let any = |index: Option<usize>| index.is_some_and(|index| fds[index].any() == Some(true));
        return Ok(Ready {
            input: any(input),
            output: any(output),
            master: any(master),
        });
    }
    poll_again(&mut fds)?;
    Ok(Ready::default())
}

fn poll_again(fds: &mut [PollFd<'_>]) -> Result<()> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("wait for the container"),
    }
}

/// The process has ended: passes on what it has written, unless this program is
/// told to end.
fn finish(relay: &mut Relay, signals: &Signals) -> Result<()> {
    relay.close_input();
    loop {
        while !relay.has_output() && relay.read_output() {}
        relay.write_output();
        if !relay.has_output() {
            if relay.read_output() {
                continue;
            }
            return Ok(());
        }
        wait_for_any(signals, Some(relay))?;
        while let Ok(Some(info)) = signals.0.read_signal() {
            if matches!(
                info.ssi_signo as i32,
                libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT
            ) {
                return Ok(());
            }
        }
    }
}

/// Passes a signal on; returns the exit status if the process has ended.
fn handle(signal: i32, started: &Started, relay: Option<&Relay>) -> Result<Option<i32>> {
    match (signal, relay) {
        (libc::SIGCHLD, _) => reap(started.pid),
        (libc::SIGWINCH, Some(relay)) => {
            relay.resize();
            Ok(None)
        }
        _ => {
            match sys::send_signal(started.pidfd.as_fd(), signal) {
                // Ended: SIGCHLD follows.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => log::warn(&format!("pass signal {signal} on: {}", errno.desc())),
            }
            Ok(None)
        }
    }
}

/// The exit status of the process, if it has ended; other children are reaped
/// too.
fn reap(process: Pid) -> Result<Option<i32>> {
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == process => status = Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == process => {
                status = Some(128 + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for the container's process"),
        }
    }
}

/// Carries bytes between this program's terminal and the container's.
struct Relay {
    master: OwnedFd,
    /// The container's end: while it is open, the master does not report that
    /// all others have closed it, after which it would have to be asked again
    /// and again whether somebody has opened it.
    other_end: Option<OwnedFd>,
    output: Output,
    /// This program's own terminal as it was.
    before: Option<Termios>,
    /// Input that the container has not read yet.
    typed: Vec<u8>,
    /// Output that nobody has read yet.
    shown: Vec<u8>,
    input_ended: bool,
    /// The terminal can no longer be opened.
    hung_up: bool,
}

/// How much is read at a time, and at most kept for a reader.
const PART: usize = 4096;

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay> {
        fcntl(
            &master,
            FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK),
        )
        .context("the container's terminal")?;
        let own = stdin();
        let before = tcgetattr(&own).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&own, SetArg::TCSANOW, &raw).context("make the terminal raw")?;
        }
        let relay = Relay {
            // Without it, as before: the terminal ends when all have closed it.
            other_end: sys::open_other_end(master.as_fd()).ok(),
            output: Output::new(),
            master,
            before,
            typed: Vec::new(),
            shown: Vec::new(),
            input_ended: false,
            hung_up: false,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of this program's.
    fn resize(&self) {
        if self.before.is_some()
            && let Ok(size) = sys::window_size(stdin().as_fd())
        {
            // If this fails, the terminal has ended.
            let _ = sys::set_window_size(self.master.as_fd(), &size);
        }
    }

    fn wanted(&self) -> PollFlags {
        let mut wanted = PollFlags::empty();
        if !self.hung_up {
            wanted.set(PollFlags::POLLIN, !self.has_output());
            wanted.set(PollFlags::POLLOUT, !self.typed.is_empty());
        }
        wanted
    }

    fn reads_input(&self) -> bool {
        !self.input_ended && !self.hung_up && self.typed.is_empty()
    }

    fn has_output(&self) -> bool {
        !self.shown.is_empty()
    }

    fn close_input(&mut self) {
        self.typed.clear();
        self.input_ended = true;
    }

    fn exchange(&mut self, ready: Ready) {
        if ready.input {
            self.read_input();
        }
        if ready.output {
            self.write_output();
        }
        if ready.master {
            self.write_typed();
            if !self.has_output() {
                self.read_output();
                self.write_output();
            }
        }
    }

    fn read_input(&mut self) {
        let mut part = [0; PART];
        match nix::unistd::read(stdin().as_fd(), &mut part) {
            Ok(0) => self.input_ended = true,
            Ok(length) => {
                self.typed.extend_from_slice(&part[..length]);
                self.write_typed();
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // The terminal is gone.
            Err(_) => self.input_ended = true,
        }
    }

    fn write_typed(&mut self) {
        if self.typed.is_empty() {
            return;
        }
        match nix::unistd::write(&self.master, &self.typed) {
            Ok(length) => drop(self.typed.drain(..length)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.typed.clear(),
        }
    }

    /// Reads what the container has written; `false` if there was nothing.
    fn read_output(&mut self) -> bool {
        let mut part = [0; PART];
        match nix::unistd::read(&self.master, &mut part) {
            Ok(length) if length > 0 => {
                self.shown.extend_from_slice(&part[..length]);
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            // EIO: the container has hung it up (vhangup(2)). It can open it
            // again, and so can this program.
            Ok(_) | Err(_) => {
                self.other_end = match self.input_ended && self.other_end.is_none() {
                    true => None,
                    false => sys::open_other_end(self.master.as_fd()).ok(),
                };
                self.hung_up = self.other_end.is_none();
                false
            }
        }
    }

    fn write_output(&mut self) {
        if self.shown.is_empty() {
            return;
        }
        match self.output.write(&self.shown) {
            Ok(length) => drop(self.shown.drain(..length)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // A reader that is gone must not stop the container.
            Err(_) => self.shown.clear(),
        }
    }
}

/// This program's standard output, such that writing never waits.
///
/// Its own flags stay: other processes use the same open file.
enum Output {
    /// Opened again, not blocking: a pipe or a terminal.
    Again(File),
    Socket(Stdout),
    /// A file, which takes everything; or what cannot be opened again, to which
    /// little is written at a time.
    Plain(Stdout),
}

impl Output {
    fn new() -> Output {
        let out = stdout();
        let kind = fstat(out.as_fd()).map_or(SFlag::empty(), |file| {
            SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT
        });
        match kind {
            SFlag::S_IFSOCK => Output::Socket(out),
            SFlag::S_IFIFO | SFlag::S_IFCHR => OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open("/proc/self/fd/1")
                .map_or(Output::Plain(out), Output::Again),
            _ => Output::Plain(out),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Output::Again(file) => file.as_fd(),
            Output::Socket(out) | Output::Plain(out) => out.as_fd(),
        }
    }

    /// Writes some of it.
    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        /// What a terminal that is ready takes at once.
        const LITTLE: usize = 64;
        match self {
            Output::Again(file) => nix::unistd::write(file, bytes),
            Output::Socket(out) => send(
                out.as_fd().as_raw_fd(),
                bytes,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            ),
            Output::Plain(out) => {
                let mut ready = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut ready, PollTimeout::ZERO)? {
                    0 => Err(Errno::EAGAIN),
                    _ => nix::unistd::write(out, &bytes[..bytes.len().min(LITTLE)]),
                }
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // If this fails, the terminal is gone.
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
        }
    }
}
