//! One console and what becomes of it.
//!
//! ```text
//! quiet ── key, settled, limit ──▶ session ── the shell ends ──▶ session
//!                                    │ ▲  at once, or it cannot start
//!                                    ▼ │
//!                                  resting
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use service::Level;

use crate::arguments::Arguments;
use crate::consoles::Console;
use crate::{greeting, sys, terminal};

/// A shell that ends sooner was not used by a person.
const SHORT: Duration = Duration::from_secs(1);
/// The first rest after a short session; each further one is twice as long.
const REST: Duration = Duration::from_secs(1);
/// The longest rest: a line that was unplugged is tried once a minute.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A console and its state.
#[derive(Debug)]
pub struct Session {
    console: Console,
    state: State,
    /// The rest after the next short session.
    rest: Duration,
}

#[derive(Debug)]
enum State {
    /// Nobody has asked for a shell yet.
    Quiet(File),
    /// The shell runs; it leads its own session and process group.
    Running { shell: Pid, since: Instant },
    /// The shell is not to be started before then.
    Resting { until: Instant },
}

impl Session {
    /// Opens the console and waits there, or rests where it cannot be opened.
    pub fn new(console: Console, now: Instant) -> Self {
        let opened = terminal::open(&console.path).and_then(|terminal| {
            terminal::set_quiet(&terminal)?;
            Ok(terminal)
        });
        let mut session = Self {
            console,
            state: State::Resting { until: now },
            rest: REST,
        };
        match opened {
            Ok(terminal) => session.state = State::Quiet(terminal),
            Err(error) => session.fail("open", &error, now),
        }
        session
    }

    /// The terminal on which a key is waited for.
    pub fn quiet_terminal(&self) -> Option<&File> {
        match &self.state {
            State::Quiet(terminal) => Some(terminal),
            State::Running { .. } | State::Resting { .. } => None,
        }
    }

    /// When it has to be looked at again, where that is known.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Quiet(_) | State::Running { .. } => None,
        }
    }

    /// Whether `pid` is this console's shell.
    pub fn is_shell(&self, pid: Pid) -> bool {
        matches!(self.state, State::Running { shell, .. } if shell == pid)
    }

    /// Starts the shell unless it runs.
    pub fn start(&mut self, arguments: &Arguments, now: Instant) {
        if matches!(self.state, State::Running { .. }) {
            return;
        }
        match run(&self.console, arguments) {
            Ok(shell) => {
                self.state = State::Running { shell, since: now };
            }
            Err(error) => self.fail("start a shell on", &error, now),
        }
    }

    /// The shell has ended: the next one starts, after a rest where this one
    /// was short.
    pub fn ended(&mut self, now: Instant) {
        let State::Running { since, .. } = self.state else {
            return;
        };
        if now.duration_since(since) >= SHORT {
            self.rest = REST;
            self.state = State::Resting { until: now };
        } else {
            self.take_rest(now);
        }
    }

    /// Tells the shell and what runs in its foreground that the line is gone.
    pub fn hang_up(&self) {
        if let State::Running { shell, .. } = self.state {
            // What has ended already needs no signal. SIGCONT, since a stopped
            // process would not see the other one.
            let _ = killpg(shell, Signal::SIGHUP);
            let _ = killpg(shell, Signal::SIGCONT);
        }
    }

    fn fail(&mut self, what: &str, error: &io::Error, now: Instant) {
        let path = self.console.path.display();
        service::say(Level::Warning, &format!("cannot {what} {path}: {error}"));
        self.take_rest(now);
    }

    fn take_rest(&mut self, now: Instant) {
        self.state = State::Resting {
            until: now + self.rest,
        };
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }
}

/// Greets and starts the shell, whose environment holds only what is set here.
fn run(console: &Console, arguments: &Arguments) -> io::Result<Pid> {
    let mut terminal = terminal::open(&console.path)?;
    terminal::set_sane(&terminal)?;
    let machine = greeting::ask(&arguments.socket);
    terminal.write_all(machine.greeting(&console.name).as_bytes())?;
    let mut command = Command::new(&arguments.shell);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
        .env("TERM", console.term())
        .env("HOME", "/state")
        .env("USER", "root")
        .env("LOGNAME", "root")
        .env("SHELL", &arguments.shell)
        .env("PS1", machine.prompt())
        // What an interactive shell reads first.
        .env("ENV", "/etc/shellrc")
        // Gone with the container: nobody's passwords end on the disk.
        .env("HISTFILE", "/tmp/.history")
        .stdin(Stdio::from(terminal.try_clone()?))
        .stdout(Stdio::from(terminal.try_clone()?))
        .stderr(Stdio::from(terminal));
    if std::path::Path::new("/state").is_dir() {
        command.current_dir("/state");
    }
    sys::lead_session(&mut command);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // Reaped in `shells::reap`, with whatever else ends.
    Ok(Pid::from_raw(pid))
}
