//! The event loop: who has something to say, in turn
//!
//! epoll tells, once, that something came (edge-triggered); who has more than
//! one batch to say goes to the end of the queue. So a service that floods
//! takes its turn like the others and is held back by its own pipe.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use journal::{Error, KERNEL_SEQUENCE, Level, Record};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;
use service::Notify;

use crate::clock::Stamp;
use crate::kernel_log::{KernelLog, Next};
use crate::ledger::{Ledger, Open};
use crate::lines::{Begun, Rest};
use crate::output::{Drained, Output, Trouble};
use crate::outputs::{Outputs, Received};
use crate::peek::{self, Peek};
use crate::store::{Failing, Store};

/// What epoll gives back for each source; pipes count up from the last.
const SIGNALS: u64 = 0;
const OUTPUTS: u64 = 1;
const KERNEL: u64 = 2;
const FIRST_PIPE: u64 = 3;

/// Messages of the kernel in one turn.
const KERNEL_TURN: usize = 256;
/// How long a last look at everything may take when the service is stopped:
/// the rest stays in the pipes.
const FAREWELL: Duration = Duration::from_secs(3);

/// Everything that the service waits for, and the journal.
pub struct Server {
    epoll: Epoll,
    /// Open as long as epoll watches it.
    _signals: SignalFd,
    outputs: Outputs,
    kernel_path: PathBuf,
    kernel: Option<KernelLog>,
    pipes: BTreeMap<u64, Output>,
    next_pipe: u64,
    /// Who has something to say, in the order of their turns.
    ready: VecDeque<u64>,
    peek: Peek,
    ledger: Ledger,
    notify: Notify,
    /// Stored by the log service before this one, and not all taken yet.
    untaken: Option<Open>,
    store: Store,
}

impl Server {
    pub fn new(
        outputs: Outputs,
        signals: SignalFd,
        store: Store,
        kernel_path: PathBuf,
    ) -> io::Result<Server> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        epoll.add(&outputs, EpollEvent::new(EpollFlags::EPOLLIN, OUTPUTS))?;
        Ok(Server {
            epoll,
            _signals: signals,
            outputs,
            kernel_path,
            kernel: None,
            pipes: BTreeMap::new(),
            next_pipe: FIRST_PIPE,
            ready: VecDeque::new(),
            peek: Peek::new(peek::SIZE)?,
            ledger: Ledger::unused(),
            notify: Notify::from_environment(),
            untaken: None,
            store,
        })
    }

    /// Tells PID 1 that lines are taken. Where they cannot be stored now, that
    /// is no reason to keep the machine from starting.
    pub fn announce(&self) {
        self.notify.ready();
    }

    /// Goes on where the log service before this one was killed, with the
    /// ledger that PID 1 kept.
    pub fn take_up(&mut self, kept: Vec<OwnedFd>) {
        let (ledger, open) = Ledger::open(kept, &self.notify);
        self.ledger = ledger;
        self.untaken = open.filter(|open| {
            // Where that cannot be told, lines twice are better than none.
            self.store.has_just_stored(&open.claim).unwrap_or(false)
        });
        if self.untaken.is_none() {
            self.ledger.clear();
        }
    }

    /// Serves until it is asked to stop.
    pub fn serve(&mut self) -> io::Result<()> {
        self.open_kernel_log();
        loop {
            let mut events = [EpollEvent::empty(); 32];
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
            for event in &events[..count] {
                match event.data() {
                    SIGNALS => return Ok(()),
                    OUTPUTS => self.accept(),
                    source => self.has_something(source, event.events()),
                }
            }
            self.round(Rest::Wait);
            self.take_overdue();
            self.store.tick();
        }
    }

    /// Takes what is there in a last look, and closes the journal.
    pub fn stop(mut self) -> Result<(), Error> {
        self.notify.stopping();
        let deadline = Instant::now() + FAREWELL;
        self.ready = self.pipes.keys().copied().collect();
        self.ready.push_front(KERNEL);
        loop {
            let now = Instant::now();
            let useless = self.store.failing_until(now).is_some();
            if self.ready.is_empty() || useless || now >= deadline {
                break;
            }
            self.round(Rest::Take);
        }
        self.store.close()
    }

    /// Until when there is nothing to do.
    fn timeout(&self) -> EpollTimeout {
        let now = Instant::now();
        let due = match self.store.failing_until(now) {
            Some(retry) => self.store.sync_due().into_iter().chain([retry]).min(),
            None if !self.ready.is_empty() => return EpollTimeout::ZERO,
            None => {
                let lines = self.pipes.values().filter_map(Output::due);
                self.store.sync_due().into_iter().chain(lines).min()
            }
        };
        let Some(due) = due else {
            return EpollTimeout::NONE;
        };
        // A millisecond more: the timeout is rounded down.
        let left = due.saturating_duration_since(now) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    fn has_something(&mut self, source: u64, flags: EpollFlags) {
        if let Some(output) = self.pipes.get_mut(&source)
            && flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
        {
            output.closed = true;
        }
        if !self.ready.contains(&source) {
            self.ready.push_back(source);
        }
    }

    /// Gives everyone who has something to say one turn.
    fn round(&mut self, rest: Rest) {
        for _ in 0..self.ready.len() {
            let Some(source) = self.ready.pop_front() else {
                return;
            };
            let more = match source {
                KERNEL => self.kernel_turn(),
                pipe => self.pipe_turn(pipe, rest),
            };
            if more {
                self.ready.push_back(source);
            }
        }
    }

    /// Pipes in which a line waits for its end.
    fn take_overdue(&mut self) {
        let now = Instant::now();
        if self.store.failing_until(now).is_some() {
            return;
        }
        let overdue: Vec<(u64, Rest)> = self
            .pipes
            .iter()
            .filter(|(_, output)| output.due().is_some_and(|due| due <= now))
            .map(|(pipe, output)| (*pipe, output.rest(now)))
            .collect();
        for (pipe, rest) in overdue {
            if self.pipe_turn(pipe, rest) && !self.ready.contains(&pipe) {
                self.ready.push_back(pipe);
            }
        }
    }

    /// One service's turn; whether it has more to say.
    fn pipe_turn(&mut self, pipe: u64, rest: Rest) -> bool {
        let Some(output) = self.pipes.get_mut(&pipe) else {
            return false;
        };
        let mut drained = match self.store.failing_until(Instant::now()) {
            Some(_) => Err(Trouble::Store),
            None => output.drain(&mut self.peek, &mut self.store, &mut self.ledger, rest),
        };
        let failing = self.store.failing_until(Instant::now()).is_some();
        if failing && let Err(Trouble::Store) = drained {
            drained = output
                .relieve(&mut self.peek, &mut self.store, &mut self.ledger)
                .map_err(Trouble::Pipe);
        }
        match drained {
            Ok(Drained::More) | Err(Trouble::Store) => true,
            Ok(Drained::Empty) => false,
            Ok(Drained::Closed) => {
                self.forget(pipe);
                false
            }
            Err(Trouble::Pipe(error)) => {
                let service = self.forget(pipe).unwrap_or_default();
                let message = format!("cannot read what {service} says any more: {error}");
                self.say("output-lost", &message, &[("of", &service)]);
                false
            }
        }
    }

    /// Lets a pipe go; whose it was.
    fn forget(&mut self, pipe: u64) -> Option<String> {
        let output = self.pipes.remove(&pipe)?;
        // PID 1 has the pipe open too, so closing does not take it out.
        let _ = self.epoll.delete(&output);
        Some(output.service)
    }

    /// Takes the pipes that PID 1 hands out.
    fn accept(&mut self) {
        loop {
            match self.outputs.receive() {
                Ok(Received::Pipe(service, pipe)) => self.add(service, pipe),
                Ok(Received::Unusable(what)) => {
                    let message = format!("PID 1 sent {what}");
                    self.say("unusable-message", &message, &[]);
                }
                Ok(Received::Nothing) => return,
                Ok(Received::Closed) => {
                    // PID 1 hands out nothing more; the pipes stay.
                    let _ = self.epoll.delete(&self.outputs);
                    return;
                }
                Err(error) => {
                    let _ = self.epoll.delete(&self.outputs);
                    let message = format!("cannot receive services' output any more: {error}");
                    self.say("outputs-lost", &message, &[]);
                    return;
                }
            }
        }
    }

    fn add(&mut self, service: String, pipe: OwnedFd) {
        let begun = self.store.take_unfinished(&service).map(|level| Begun {
            level,
            certain: false,
        });
        let token = self.next_pipe;
        let added = Output::new(service.clone(), pipe, begun).and_then(|output| {
            if self.pipes.values().any(|known| known.is_same(&output)) {
                return Ok(());
            }
            if let Some(open) = self
                .untaken
                .filter(|open| open.claim.pipe == output.inode())
            {
                let left = open.claim.length - open.taken;
                self.ledger.take(output.as_fd(), left as usize)?;
                self.untaken = None;
            }
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            self.epoll.add(&output, EpollEvent::new(flags, token))?;
            self.pipes.insert(token, output);
            Ok(())
        });
        match added {
            Ok(()) => self.next_pipe += 1,
            Err(error) => {
                let message = format!("cannot read what {service} says: {error}");
                self.say("output-lost", &message, &[("of", &service)]);
            }
        }
    }

    fn open_kernel_log(&mut self) {
        let path: &Path = &self.kernel_path;
        let opened = KernelLog::open(path).and_then(|kernel| {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            self.epoll
                .add(kernel.as_fd(), EpollEvent::new(flags, KERNEL))?;
            Ok(kernel)
        });
        match opened {
            Ok(kernel) => {
                self.kernel = Some(kernel);
                self.ready.push_back(KERNEL);
            }
            Err(error) => {
                let message = format!("cannot read the kernel's log {}: {error}", path.display());
                self.say("kernel-log-lost", &message, &[]);
            }
        }
    }

    /// The kernel's turn; whether it has more to say.
    fn kernel_turn(&mut self) -> bool {
        if self.store.failing_until(Instant::now()).is_some() {
            // Messages wait in the kernel's buffer.
            return true;
        }
        let Some(kernel) = &mut self.kernel else {
            return false;
        };
        match take_kernel_messages(kernel, &mut self.store) {
            Ok(more) => more,
            Err(Trouble::Store) => {
                if kernel.rewind().is_err() {
                    self.kernel = None;
                    self.open_kernel_log();
                }
                true
            }
            Err(Trouble::Pipe(error)) => {
                self.kernel = None;
                let message = format!("cannot read the kernel's log any more: {error}");
                self.say("kernel-log-lost", &message, &[]);
                false
            }
        }
    }

    /// Stores an event of this service's own.
    fn say(&mut self, event: &str, message: &str, fields: &[(&str, &str)]) {
        // Where nothing can be stored, that is the greater trouble, and told.
        let _ = self
            .store
            .push_event(Level::Warning, event, message, fields)
            .and_then(|()| self.store.commit());
    }
}

/// Stores messages that are new; whether there are more.
fn take_kernel_messages(kernel: &mut KernelLog, store: &mut Store) -> Result<bool, Trouble> {
    let now = Stamp::now();
    let mut more = false;
    for turn in 0.. {
        if turn == KERNEL_TURN || store.is_full() {
            more = true;
            break;
        }
        let message = match kernel.next()? {
            Next::Message(message) => message,
            Next::Nothing => continue,
            Next::End => break,
        };
        let position = store.kernel_position()?;
        if message.sequence < position {
            continue;
        }
        let lost = message.sequence - position;
        if lost > 0 {
            let count = lost.to_string();
            let text = format!("{count} messages of the kernel were overwritten unread");
            store.push_event(
                Level::Warning,
                "kernel-messages-lost",
                &text,
                &[("messages", &count)],
            )?;
        }
        let sequence = message.sequence.to_string();
        let mut fields: Vec<(&str, &[u8])> = vec![(KERNEL_SEQUENCE, sequence.as_bytes())];
        fields.extend(
            message
                .fields
                .iter()
                .map(|(name, value)| (*name, &value[..])),
        );
        let stamp = now.at(message.monotonic);
        store.push(&Record {
            service: message.service(),
            level: message.level,
            realtime: stamp.realtime,
            monotonic: stamp.monotonic,
            unfinished: false,
            message: message
                .text
                .strip_prefix(&b"init: "[..])
                .unwrap_or(&message.text),
            fields: &fields,
        })?;
    }
    store.commit().map_err(|Failing| Trouble::Store)?;
    Ok(more)
}
