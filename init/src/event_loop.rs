//! The loop: wait until something happens, hand it to whom it concerns, and do
//! what is due.

use std::time::Duration;

use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use supervisor::{Event, Shutdown};

use crate::children::{self, BATCH};
use crate::foreign;
use crate::init::Init;
use crate::kernel_log::log;
use crate::machine;
use crate::power::PowerKeys;
use crate::shutdown::Ending;
use crate::source::Source;
use crate::watchdog::Watchdog;

/// PID 1, and who presses its keys and sends it signals.
#[derive(Debug)]
pub struct EventLoop {
    /// What is looped over.
    pub init: Init,
    signals: SignalFd,
    power_keys: PowerKeys,
}

/// The signals that PID 1 takes from its descriptor instead of being
/// interrupted.
const SIGNALS: [Signal; 10] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGPWR,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGQUIT,
];

/// Blocks those signals and opens the descriptor. Before anything is started
/// whose end is told by a signal, and before anyone can know of PID 1: a signal
/// without a handler that it does not block is lost.
///
/// # Errors
/// Which call failed.
pub fn open_signals() -> Result<SignalFd, String> {
    let set: SigSet = SIGNALS.into_iter().collect();
    set.thread_block()
        .map_err(|error| format!("cannot block signals: {}", error.desc()))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|error| format!("signalfd: {}", error.desc()))
}

impl EventLoop {
    /// Watches signals and keys too.
    ///
    /// # Errors
    /// What cannot be watched.
    pub fn new(init: Init, signals: SignalFd) -> Result<Self, String> {
        let power_keys = PowerKeys::open();
        let readable = EpollFlags::EPOLLIN;
        init.sources.add(&signals, Source::Signals, readable)?;
        for (number, key) in power_keys.devices() {
            init.sources.add(key, Source::PowerKey(number), readable)?;
        }
        Ok(Self {
            init,
            signals,
            power_keys,
        })
    }

    /// Runs for ever.
    pub fn run(mut self) -> ! {
        loop {
            let now = machine::now();
            if let Some(watchdog) = &mut self.init.watchdog {
                watchdog.feed(now);
            }
            let limit = self.deadline().map(|deadline| deadline.saturating_sub(now));
            for (source, flags) in self.init.sources.wait(limit) {
                self.dispatch(source, flags);
            }
            let init = &mut self.init;
            init.feed(Event::Tick);
            init.watch_trial();
            init.give_up_remains();
            init.forget_removed();
            init.clients.disconnect_idle(machine::now(), &init.sources);
            init.end_delay();
            foreign::close_dropped(&mut init.children);
            init.unmute();
            init.announce();
            if let Some(ending) = &init.ending {
                ending.end(machine::now(), init.watchdog.as_mut());
            }
            // What waits for a child would be closed by execve(2), in this process.
            if init.reexecution_wanted && !foreign::is_waiting() {
                init.reexecution_wanted = false;
                init.reexecute();
            }
        }
    }

    /// When the loop must turn at the latest.
    fn deadline(&self) -> Option<Duration> {
        let init = &self.init;
        let remains = init
            .services
            .iter()
            .filter_map(|(_, service)| service.run.as_ref()?.remains_until);
        init.supervisor
            .next_deadline()
            .into_iter()
            .chain(init.watchdog.as_ref().map(Watchdog::deadline))
            .chain(init.ending.as_ref().map(Ending::deadline))
            .chain(init.trial.deadline())
            .chain(init.inhibitors.deadline())
            .chain(init.clients.deadline())
            .chain(init.announcements.deadline())
            .chain(remains)
            .min()
    }

    fn dispatch(&mut self, source: Source, flags: EpollFlags) {
        let init = &mut self.init;
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => init.clients.accept(machine::now(), &init.sources),
            Source::Connection(number) => init.serve(number, flags),
            Source::Setup(id) => init.take_setup(id),
            Source::Notify(id) => init.take_notifications(id),
            Source::Cgroup(id) => init.take_cgroup_event(id),
            Source::Activation(id) => init.activate(id),
            Source::Outputs => init.services.flush_outputs(&init.sources),
            Source::Job => init.take_state_reports(),
            Source::Trial => init.trial.take_reports(init.cmdline.trial, &init.sources),
            Source::PowerKey(number) => {
                if self.power_keys.pressed(number) {
                    log!(Notice, "the power key was pressed");
                    init.begin_shutdown(Shutdown::Poweroff);
                }
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let sender = info.ssi_pid;
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => {}
                // Ctrl-Alt-Del, and what `kill 1` sends.
                Ok(Signal::SIGINT | Signal::SIGTERM) => {
                    log!(Notice, "asked to restart by a signal from process {sender}");
                    self.init.begin_shutdown(Shutdown::Reboot);
                }
                // The signals of other systems' power programs.
                Ok(Signal::SIGUSR2 | Signal::SIGPWR) => {
                    log!(
                        Notice,
                        "asked to power off by a signal from process {sender}"
                    );
                    self.init.begin_shutdown(Shutdown::Poweroff);
                }
                Ok(Signal::SIGHUP) => self.init.reload(None),
                Ok(_) | Err(_) => {}
            }
        }
        self.reap();
    }

    /// Reaps what has ended. A SIGCHLD stands for any number of children.
    pub fn reap(&mut self) {
        for _ in 0..BATCH {
            match self.init.children.reap() {
                Some(ended) => self.init.child_ended(ended),
                None => return,
            }
        }
        children::come_back();
    }
}
