//! Stays in front of a process until it ends: passes signals on to it, relays
//! its terminal, and exits with its exit status.

use std::io::{Write, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
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
        let (mut input, mut output) = (false, false);
        {
            let mut fds = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
            let stdin = stdin();
            if let Some(relay) = &relay {
                fds.push(PollFd::new(relay.master.as_fd(), relay.wanted()));
                if relay.reads_input() {
                    fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
                }
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("wait for the container"),
            }
            let ready = |index: usize| fds.get(index).is_some_and(|fd| fd.any() == Some(true));
            if relay.is_some() {
                (output, input) = (ready(1), ready(2));
            }
        }
        // First: a new size of the terminal applies to what is typed after it.
        while let Ok(Some(info)) = signals.0.read_signal() {
            if let Some(status) = handle(info.ssi_signo as i32, started, relay.as_ref())? {
                if let Some(relay) = &mut relay {
                    relay.drain();
                }
                return Ok(status);
            }
        }
        if let Some(relay) = &mut relay {
            if input {
                relay.read_input();
            }
            if output {
                relay.exchange();
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
    /// This program's own terminal as it was.
    before: Option<Termios>,
    /// Input that the container has not read yet.
    typed: Vec<u8>,
    input_ended: bool,
    /// All ends of the container's terminal were closed.
    hung_up: bool,
}

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
            master,
            before,
            typed: Vec::new(),
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
        match (self.hung_up, self.typed.is_empty()) {
            (true, _) => PollFlags::empty(),
            (false, true) => PollFlags::POLLIN,
            (false, false) => PollFlags::POLLIN | PollFlags::POLLOUT,
        }
    }

    fn reads_input(&self) -> bool {
        !self.input_ended && !self.hung_up && self.typed.is_empty()
    }

    fn read_input(&mut self) {
        let mut part = [0; 4096];
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

    fn exchange(&mut self) {
        self.write_typed();
        self.read_output();
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

    /// Copies available data; `false` if there was none.
    fn read_output(&mut self) -> bool {
        let mut part = [0; 4096];
        match nix::unistd::read(&self.master, &mut part) {
            Ok(length) if length > 0 => {
                let mut out = stdout().lock();
                // A reader that is gone must not stop the container.
                let _ = out.write_all(&part[..length]).and_then(|()| out.flush());
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            // EIO: no process has it open any more.
            Ok(_) | Err(_) => {
                self.hung_up = true;
                false
            }
        }
    }

    fn drain(&mut self) {
        while self.read_output() {}
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
