//! One service's output: from its pipe to the journal
//!
//! Order is everything: look at the bytes, claim them, store the lines, take
//! the bytes. Killed before the store, nothing has happened; killed between
//! store and take, the next log service learns it from the claim
//! (`ledger.rs`). Never is a line lost.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use journal::{MAX_MESSAGE, Record};

use crate::clock::Stamp;
use crate::ledger::{Claim, Ledger};
use crate::lines::{self, Begun, Rest};
use crate::peek::{self, Peek, Peeked};
use crate::store::{Failing, Store};

/// A line whose end has not come for this long is stored as it is: its writer
/// may be gone, and the pipe does not tell, because PID 1 holds it open.
const PATIENCE: Duration = Duration::from_secs(5);
/// While the beginning of a line waits, its pipe is looked into this often. A
/// write that fills a pipe which is not empty, and then blocks, makes no event
/// before it is done (fs/pipe.c, pipe_write), and it is done only once
/// something was taken out.
const LOOK: Duration = Duration::from_millis(250);

/// A service's pipe.
pub struct Output {
    pub service: String,
    pipe: File,
    identity: (u64, u64),
    begun: Option<Begun>,
    /// Nobody is left to write.
    pub closed: bool,
    waiting: Option<Waiting>,
}

/// The beginning of a line in the pipe.
struct Waiting {
    length: usize,
    since: Instant,
    look: Instant,
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub enum Drained {
    /// There is more, and others' turn comes first.
    More,
    /// Nothing is left but perhaps the beginning of a line.
    Empty,
    /// Nothing is left, and nothing will come.
    Closed,
}

/// Why a service's turn did not end well.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing can be stored.
    Store,
    /// The pipe cannot be read.
    Pipe(io::Error),
}

impl From<Failing> for Trouble {
    fn from(Failing: Failing) -> Trouble {
        Trouble::Store
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Pipe(error)
    }
}

impl Output {
    /// `begun` is what an earlier log service left of a line.
    pub fn new(service: String, pipe: OwnedFd, begun: Option<Begun>) -> io::Result<Output> {
        let pipe = File::from(pipe);
        let metadata = pipe.metadata()?;
        Ok(Output {
            service,
            identity: (metadata.dev(), metadata.ino()),
            pipe,
            begun,
            closed: false,
            waiting: None,
        })
    }

    /// The pipe's inode.
    pub fn inode(&self) -> u64 {
        self.identity.1
    }

    /// Whether both are the same pipe.
    pub fn is_same(&self, other: &Output) -> bool {
        self.identity == other.identity
    }

    /// When to look into the pipe without having been told to.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.look)
    }

    /// What to do then with a line that has no end.
    pub fn rest(&self, now: Instant) -> Rest {
        match &self.waiting {
            Some(waiting) if waiting.since + PATIENCE <= now => Rest::Take,
            _ => Rest::Wait,
        }
    }

    /// Stores what is in the pipe, one batch of it.
    pub fn drain(
        &mut self,
        peek: &mut Peek,
        store: &mut Store,
        ledger: &mut Ledger,
        rest: Rest,
    ) -> Result<Drained, Trouble> {
        let seen = match peek.look(self.pipe.as_fd())? {
            Peeked::Bytes(seen) => seen,
            Peeked::Empty => {
                self.waiting = None;
                return Ok(Drained::Empty);
            }
            Peeked::Closed => return Ok(Drained::Closed),
        };
        // The end of what was seen need not be the end of what is there.
        let all = seen < peek::SIZE;
        let rest = match rest {
            _ if !all => Rest::Wait,
            _ if self.closed => Rest::Last,
            rest => rest,
        };
        let now = Stamp::now();
        let first = store.next_sequence()?;
        let mut begun = self.begun;
        let mut taken = 0;
        let bytes = peek.bytes(seen);
        while !store.is_full()
            && let Some(line) = lines::first(&bytes[taken..], begun, rest)
        {
            store.push(&Record {
                service: &self.service,
                level: line.level,
                realtime: now.realtime,
                monotonic: now.monotonic,
                unfinished: line.unfinished,
                message: line.text,
                fields: &[],
            })?;
            taken += line.length;
            begun = line.unfinished.then_some(Begun {
                level: line.level,
                certain: taken < seen || rest != Rest::Take,
            });
        }
        let full = store.is_full();
        if taken > 0 {
            ledger.claim(&Claim {
                first,
                last: store.next_sequence()? - 1,
                pipe: self.inode(),
                length: taken as u64,
            });
            if let Err(failing) = store.commit() {
                ledger.clear();
                return Err(failing.into());
            }
            ledger.take(self.pipe.as_fd(), taken)?;
            self.begun = begun;
        }
        if !all || full || self.closed {
            self.waiting = None;
            return Ok(Drained::More);
        }
        self.wait(peek, store, ledger, seen - taken)
    }

    /// A line's beginning of `left` bytes stays in the pipe, unless that
    /// keeps its end from coming.
    fn wait(
        &mut self,
        peek: &mut Peek,
        store: &mut Store,
        ledger: &mut Ledger,
        left: usize,
    ) -> Result<Drained, Trouble> {
        if left == 0 {
            self.waiting = None;
        } else if peek.is_full(self.pipe.as_fd())? {
            return self.drain(peek, store, ledger, Rest::Take);
        } else {
            let now = Instant::now();
            let before = self.waiting.as_ref().filter(|before| before.length == left);
            self.waiting = Some(Waiting {
                length: left,
                since: before.map_or(now, |before| before.since),
                look: now + LOOK,
            });
        }
        Ok(Drained::Empty)
    }

    /// While nothing can be stored: makes room for the newest lines at the
    /// cost of the oldest, before the service has to wait.
    pub fn relieve(
        &mut self,
        peek: &mut Peek,
        store: &mut Store,
        ledger: &mut Ledger,
    ) -> io::Result<Drained> {
        let seen = match peek.look(self.pipe.as_fd())? {
            Peeked::Bytes(seen) => seen,
            Peeked::Empty => return Ok(Drained::Empty),
            Peeked::Closed => return Ok(Drained::Closed),
        };
        if seen <= peek::SIZE / 2 && !peek.is_full(self.pipe.as_fd())? {
            return Ok(Drained::More);
        }
        let keep = (seen / 2).min(MAX_MESSAGE);
        let bytes = peek.bytes(seen);
        let mut taken = 0;
        let mut lines = 0;
        while seen - taken > keep
            && let Some(line) = lines::first(&bytes[taken..], self.begun, Rest::Take)
        {
            taken += line.length;
            lines += u64::from(!line.unfinished);
            self.begun = line.unfinished.then_some(Begun {
                level: line.level,
                certain: true,
            });
        }
        ledger.take(self.pipe.as_fd(), taken)?;
        store.dropped(&self.service, lines);
        Ok(Drained::More)
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
