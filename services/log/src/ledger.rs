//! What was taken out of which pipe, remembered across this process's death
//!
//! Storing lines and taking them out of their pipe are two steps, and the
//! process can be killed between them. So that the next one knows how far it
//! came, there is a third pipe, the ledger, which PID 1 keeps (FDSTORE):
//!
//! ```text
//!            ledger             journal        service's pipe
//! claim      [claim]
//! store      [claim]            + lines
//! take       [claim][bytes] ◀──────────────── bytes        (splice: they move)
//! clear      (empty)                                       (one read)
//! ```
//!
//! An empty ledger: all that is stored was taken. A claim without its lines in
//! the journal: nothing happened, or a part of the lines was stored and is
//! removed again. A claim with its lines: as many bytes as are missing behind
//! it are still in the service's pipe, and are taken out without being stored
//! a second time.
//!
//! Where the ledger cannot be used, lines are stored and taken all the same,
//! and being killed between the two stores them twice. Never does anything
//! here lose a line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, read, write};
use service::Notify;

use crate::peek::{Peek, Peeked, SIZE};

/// The name of both descriptors in `LISTEN_FDNAMES`.
pub const NAME: &str = "ledger";

/// First bytes of a claim.
const MAGIC: [u8; 8] = *b"logclaim";
/// Magic and four numbers.
const CLAIM: usize = 40;
/// A batch is moved as whole buffers, of which a pipe may have many small
/// ones: room for more of them than a pipe has by default, and the claim.
const CAPACITY: usize = 4 * SIZE;

/// The pipe; `None` where it cannot be used.
pub struct Ledger {
    pipe: Option<(OwnedFd, OwnedFd)>,
    scratch: Vec<u8>,
}

/// Lines about to be stored and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Sequence numbers of the first line and of the last.
    pub first: u64,
    pub last: u64,
    /// The pipe that they are in: its inode.
    pub pipe: u64,
    /// How many bytes they are there.
    pub length: u64,
}

/// What an earlier log service claimed and did not clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub claim: Claim,
    /// How many bytes it had taken.
    pub taken: u64,
}

impl Ledger {
    /// None, until there is one.
    pub fn unused() -> Ledger {
        Ledger {
            pipe: None,
            scratch: vec![0; 4096],
        }
    }

    /// Takes up what PID 1 kept, or makes a new ledger and gives it to PID 1
    /// to keep.
    pub fn open(kept: Vec<OwnedFd>, notify: &Notify) -> (Ledger, Option<Open>) {
        let mut ledger = Ledger {
            pipe: sort(kept),
            scratch: vec![0; SIZE + CLAIM],
        };
        let open = ledger.read_open().unwrap_or_default();
        if ledger.pipe.is_none() {
            ledger.pipe = create(notify).ok();
        } else if open.is_none() {
            ledger.clear();
        }
        (ledger, open)
    }

    /// Writes a claim. It holds until the bytes are taken or it is cleared.
    pub fn claim(&mut self, claim: &Claim) {
        if let Some((_, writer)) = &self.pipe
            && write(writer, &claim.encode()) != Ok(CLAIM)
        {
            self.pipe = None;
        }
    }

    /// Takes `length` bytes out of a service's pipe, as claimed.
    pub fn take(&mut self, pipe: BorrowedFd<'_>, length: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0
            && let Some((_, writer)) = &self.pipe
        {
            match splice(
                pipe,
                None,
                writer,
                None,
                left,
                SpliceFFlags::SPLICE_F_NONBLOCK,
            ) {
                Ok(moved) if moved > 0 => left -= moved,
                Err(Errno::EINTR) => {}
                // Full, of many small buffers.
                Ok(_) | Err(_) => break,
            }
        }
        self.clear();
        while left > 0 {
            let length = left.min(self.scratch.len());
            match read(pipe, &mut self.scratch[..length]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => left -= length,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Strikes the claim out: it is fulfilled, or nothing of it was stored.
    /// One read, since what a second one would leave could not be understood.
    pub fn clear(&mut self) {
        let Some((reader, _)) = &self.pipe else {
            return;
        };
        loop {
            match read(reader, &mut self.scratch) {
                Err(Errno::EINTR) => {}
                // Never more than a claim and its bytes.
                Err(Errno::EAGAIN) => return,
                Ok(length) if length < self.scratch.len() => return,
                Ok(_) => {}
                Err(_) => {
                    self.pipe = None;
                    return;
                }
            }
        }
    }

    /// The claim that is in the ledger, without striking it out.
    fn read_open(&self) -> io::Result<Option<Open>> {
        let Some((reader, _)) = &self.pipe else {
            return Ok(None);
        };
        let mut peek = Peek::new(CAPACITY)?;
        let Peeked::Bytes(length) = peek.look(reader.as_fd())? else {
            return Ok(None);
        };
        let bytes = peek.bytes(length);
        let open = Claim::decode(bytes).map(|claim| Open {
            claim,
            taken: (length - CLAIM) as u64,
        });
        // More than was claimed cannot be, and all of it is no reason to act.
        Ok(open.filter(|open| open.taken < open.claim.length))
    }
}

impl Claim {
    fn encode(&self) -> [u8; CLAIM] {
        let mut bytes = [0; CLAIM];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [self.first, self.last, self.pipe, self.length];
        for (place, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Claim> {
        let numbers = bytes.strip_prefix(&MAGIC)?.get(..CLAIM - 8)?;
        let mut numbers = numbers
            .chunks_exact(8)
            .filter_map(|number| number.try_into().ok().map(u64::from_le_bytes));
        Some(Claim {
            first: numbers.next()?,
            last: numbers.next()?,
            pipe: numbers.next()?,
            length: numbers.next()?,
        })
    }
}

/// Of the descriptors that PID 1 kept, the one to read and the one to write.
fn sort(kept: Vec<OwnedFd>) -> Option<(OwnedFd, OwnedFd)> {
    let (mut reader, mut writer) = (None, None);
    for descriptor in kept {
        let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL).ok()?);
        if flags & OFlag::O_ACCMODE == OFlag::O_RDONLY {
            reader = Some(descriptor);
        } else {
            writer = Some(descriptor);
        }
    }
    reader.zip(writer)
}

fn create(notify: &Notify) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // Where it is refused the ledger has fewer buffers, and is full sooner.
    let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(CAPACITY as i32));
    notify.store(NAME, &[reader.as_fd(), writer.as_fd()]);
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_FIVE: Claim = Claim {
        first: 7,
        last: 9,
        pipe: 1234,
        length: 5,
    };

    fn taken_up(kept: Vec<OwnedFd>) -> (Ledger, Option<Open>) {
        Ledger::open(kept, &Notify::from_environment())
    }

    fn kept(ledger: &Ledger) -> Vec<OwnedFd> {
        let (reader, writer) = ledger.pipe.as_ref().unwrap();
        // In any order.
        vec![writer.try_clone().unwrap(), reader.try_clone().unwrap()]
    }

    #[test]
    fn the_next_log_service_finds_what_was_claimed_and_how_much_was_taken() {
        let (service, writer) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let (mut ledger, open) = taken_up(Vec::new());
        assert_eq!(open, None);
        assert_eq!(taken_up(kept(&ledger)).1, None);

        ledger.claim(&OF_FIVE);
        let claimed = |taken| {
            Some(Open {
                claim: OF_FIVE,
                taken,
            })
        };
        assert_eq!(taken_up(kept(&ledger)).1, claimed(0));
        // Looking changes nothing.
        assert_eq!(taken_up(kept(&ledger)).1, claimed(0));

        write(&writer, b"12345678").unwrap();
        let flags = SpliceFFlags::empty();
        let to = &ledger.pipe.as_ref().unwrap().1;
        splice(&service, None, to, None, 2, flags).unwrap();
        assert_eq!(taken_up(kept(&ledger)).1, claimed(2));

        // It goes on where the one before stopped.
        ledger.take(service.as_fd(), 3).unwrap();
        assert_eq!(taken_up(kept(&ledger)).1, None);
        let mut rest = [0; 10];
        assert_eq!(read(&service, &mut rest), Ok(3));
        assert_eq!(&rest[..3], b"678");
    }

    #[test]
    fn all_taken_and_not_cleared_is_as_good_as_cleared() {
        let (mut ledger, _) = taken_up(Vec::new());
        ledger.claim(&OF_FIVE);
        write(&ledger.pipe.as_ref().unwrap().1, b"12345").unwrap();
        assert_eq!(taken_up(kept(&ledger)).1, None);
        ledger.claim(&OF_FIVE);
        ledger.clear();
        assert_eq!(taken_up(kept(&ledger)).1, None);
    }

    #[test]
    fn a_batch_of_more_buffers_than_the_ledger_has_is_taken() {
        let (service, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_DIRECT).unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        // Packets: each a buffer of its own.
        for _ in 0..200 {
            write(&writer, b"x").unwrap();
        }
        let (mut ledger, _) = taken_up(Vec::new());
        ledger.claim(&OF_FIVE);
        ledger.take(service.as_fd(), 150).unwrap();
        assert_eq!(taken_up(kept(&ledger)).1, None);
        let mut left = 0;
        while read(&service, &mut [0; 10]).is_ok() {
            left += 1;
        }
        assert_eq!(left, 50);
    }

    #[test]
    fn garbage_in_the_ledger_is_thrown_away() {
        let (ledger, _) = taken_up(Vec::new());
        write(&ledger.pipe.as_ref().unwrap().1, b"who are you?").unwrap();
        let (again, open) = taken_up(kept(&ledger));
        assert_eq!(open, None);
        again.pipe.as_ref().unwrap();
        assert_eq!(
            read(&ledger.pipe.as_ref().unwrap().0, &mut [0; 10]),
            Err(Errno::EAGAIN)
        );
    }
}
