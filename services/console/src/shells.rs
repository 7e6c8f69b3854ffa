//! The poll loop that keeps a shell on each console.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::arguments::Arguments;
use crate::consoles::Console;
use crate::session::Session;
use crate::settle::{self, Settling};

/// Blocks the signals that the loop handles and returns where they are read.
///
/// # Errors
/// The kernel has no more descriptors.
pub fn signals() -> Result<SignalFd, String> {
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        wanted.add(signal);
    }
    wanted
        .thread_block()
        .and_then(|()| {
            SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        })
        .map_err(|errno| format!("cannot read signals: {errno}"))
}

/// Keeps a shell on each of `consoles` until it is asked to end.
///
/// # Errors
/// The loop cannot wait.
pub fn keep(
    arguments: &Arguments,
    consoles: Vec<Console>,
    signals: &SignalFd,
) -> Result<(), String> {
    let begun = Instant::now();
    let mut settling = Settling::watch(&arguments.socket);
    let mut sessions: Vec<Session> = consoles
        .into_iter()
        .map(|console| Session::new(console, begun))
        .collect();
    loop {
        let now = Instant::now();
        if now.duration_since(begun) >= settle::LIMIT {
            settling = None;
        }
        for session in &mut sessions {
            let is_due = session.deadline().is_some_and(|deadline| deadline <= now);
            let is_awaited = session.quiet_terminal().is_some() && settling.is_none();
            if is_due || is_awaited {
                session.start(arguments, now);
            }
        }
        let limit = settling.as_ref().map(|_| begun + settle::LIMIT);
        let woken = wait(&sessions, settling.as_ref(), signals, limit)?;
        let now = Instant::now();
        for index in woken.keys {
            sessions[index].start(arguments, now);
        }
        if woken.machine
            && settling
                .as_mut()
                .is_some_and(|settling| settling.is_over(&arguments.socket))
        {
            settling = None;
        }
        if woken.signals && is_asked_to_end(signals) {
            sessions.iter().for_each(Session::hang_up);
            return Ok(());
        }
        reap(&mut sessions, now);
    }
}

/// What a wait ended with.
struct Woken {
    signals: bool,
    machine: bool,
    /// Sessions on whose quiet terminal something was typed.
    keys: Vec<usize>,
}

fn wait(
    sessions: &[Session],
    settling: Option<&Settling>,
    signals: &SignalFd,
    limit: Option<Instant>,
) -> Result<Woken, String> {
    let mut waited = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    if let Some(settling) = settling {
        waited.push(PollFd::new(settling.as_fd(), PollFlags::POLLIN));
    }
    let first_terminal = waited.len();
    let mut quiet = Vec::new();
    for (index, session) in sessions.iter().enumerate() {
        if let Some(terminal) = session.quiet_terminal() {
            waited.push(PollFd::new(terminal.as_fd(), PollFlags::POLLIN));
            quiet.push(index);
        }
    }
    let deadline = sessions
        .iter()
        .filter_map(Session::deadline)
        .chain(limit)
        .min();
    match poll(&mut waited, timeout(deadline, Instant::now())) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(format!("cannot wait for the consoles: {errno}")),
    }
    let has_event = |at: usize| waited[at].any().unwrap_or(false);
    Ok(Woken {
        signals: has_event(0),
        machine: settling.is_some() && has_event(1),
        keys: quiet
            .iter()
            .enumerate()
            .filter(|(offset, _)| has_event(first_terminal + offset))
            .map(|(_, index)| *index)
            .collect(),
    })
}

fn timeout(deadline: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    // A millisecond more, so that the wait does not end just before.
    let left = deadline.saturating_duration_since(now) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

fn is_asked_to_end(signals: &SignalFd) -> bool {
    let mut asked = false;
    while let Ok(Some(signal)) = signals.read_signal() {
        let signal = i32::try_from(signal.ssi_signo).unwrap_or(0);
        asked |= signal == Signal::SIGTERM as i32 || signal == Signal::SIGINT as i32;
    }
    asked
}

/// Collects whatever has ended: shells, and where this is the first process of
/// its namespace, orphans.
fn reap(sessions: &mut [Session], now: Instant) {
    while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
        let Some(pid) = status.pid().filter(|_| status != WaitStatus::StillAlive) else {
            return;
        };
        if let Some(session) = sessions.iter_mut().find(|session| session.is_shell(pid)) {
            session.ended(now);
        }
    }
}
