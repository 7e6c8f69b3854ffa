//! Reading a pipe without taking anything out of it
//!
//! tee(2) copies what is in a pipe into another one, which is then read. The
//! bytes leave the first only when they are taken (`ledger.rs`), after they
//! were stored: whoever has the pipe after this process was killed finds what
//! was not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read};

/// How much is looked at at once: the capacity of a pipe.
pub const SIZE: usize = 64 * 1024;

/// The second pipe, and the bytes read from it.
pub struct Peek {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity: i32,
    bytes: Vec<u8>,
}

/// What is in a pipe.
#[derive(Debug)]
pub enum Peeked {
    /// So many bytes, now in [`Peek::bytes`].
    Bytes(usize),
    /// Nothing, yet.
    Empty,
    /// Nothing, and nobody is left to write any.
    Closed,
}

impl Peek {
    /// For looking at up to `size` bytes at once.
    pub fn new(size: usize) -> io::Result<Peek> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let mut capacity = fcntl(&writer, FcntlArg::F_GETPIPE_SZ)?;
        if size > SIZE {
            capacity = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size as i32))?;
        }
        Ok(Peek {
            reader,
            writer,
            capacity,
            bytes: vec![0; size],
        })
    }

    /// Looks what is in `pipe`, from its oldest byte on.
    pub fn look(&mut self, pipe: BorrowedFd<'_>) -> io::Result<Peeked> {
        let copied = loop {
            let size = self.bytes.len();
            match tee(pipe, &self.writer, size, SpliceFFlags::SPLICE_F_NONBLOCK) {
                Ok(0) => return Ok(Peeked::Closed),
                Ok(copied) => break copied,
                Err(Errno::EAGAIN) => return Ok(Peeked::Empty),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        self.read_copy(copied)?;
        Ok(Peeked::Bytes(copied))
    }

    /// What the last [`Peek::look`] saw.
    pub fn bytes(&self, count: usize) -> &[u8] {
        &self.bytes[..count]
    }

    /// Whether nobody can write to `pipe` until something is taken out of it.
    /// A pipe counts buffers, not bytes: a few bytes can fill it.
    pub fn is_full(&mut self, pipe: BorrowedFd<'_>) -> io::Result<bool> {
        // The copy has as many buffers as the pipe, so one is full when the
        // other is. Where it cannot get as many it is full earlier.
        let capacity = fcntl(pipe, FcntlArg::F_GETPIPE_SZ)?;
        if capacity != self.capacity
            && let Ok(capacity) = fcntl(&self.writer, FcntlArg::F_SETPIPE_SZ(capacity))
        {
            self.capacity = capacity;
        }
        let copied = match tee(pipe, &self.writer, SIZE, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(copied) => copied,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let mut polled = [PollFd::new(self.writer.as_fd(), PollFlags::POLLOUT)];
        let room = poll(&mut polled, PollTimeout::ZERO);
        self.read_copy(copied)?;
        Ok(room? == 0)
    }

    /// Reads the copy, all `count` bytes of it.
    fn read_copy(&mut self, count: usize) -> io::Result<()> {
        let mut done = 0;
        while done < count {
            match read(&self.reader, &mut self.bytes[done..count]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => done += length,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
