//! Waiting for new entries
//!
//! The kernel reports each write by inotify on the directory. inotify watches
//! the inode, so it works through a read-only bind mount too. If it does not
//! work at all, and once a second in any case, the follower checks by itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, BorrowedFd};

use crate::entry::Entry;
use crate::error::Error;
use crate::query::{BootSelector, Query};
use crate::reader::{Cursor, Entries, Next, resolve};
use crate::segment::{self, Name, Segment};

/// How often to check if inotify works (in case the file system does not
/// report), and if it does not.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(250));

/// The entries that a query wants: existing ones, then new ones.
pub struct Follow {
    directory: PathBuf,
    query: Query,
    /// Existing entries.
    old: Option<Entries>,
    /// The requested boot, by number.
    boot: Option<u64>,
    /// Where new entries arrive.
    cursor: Option<Cursor>,
    /// The newest segment that was read.
    passed: Option<Name>,
    /// The sequence number of the last entry that was read.
    last: u64,
    /// The segment that is read once more, because what came behind `last` was
    /// merged into it, and the one that is read then.
    again: Option<(Name, Name)>,
    watch: Option<Inotify>,
}

impl Follow {
    pub(crate) fn begin(directory: &Path, query: &Query) -> Result<Follow, Error> {
        // Watch before reading, so that entries stored in between are reported.
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .and_then(|watch| {
                let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
                watch.add_watch(directory, events)?;
                Ok(watch)
            })
            .ok();
        let boot = match query.boot {
            Some(selector) => resolve(directory, &segment::list(directory)?, selector)?,
            None => None,
        };
        let query = Query {
            boot: boot.map(BootSelector::Index).or(query.boot),
            ..query.clone()
        };
        Ok(Follow {
            old: Some(Entries::begin(directory, &query)?),
            directory: directory.to_owned(),
            query,
            boot,
            cursor: None,
            passed: None,
            last: 0,
            again: None,
            watch,
        })
    }

    /// The next entry; `None` if none arrived within `timeout`. Without a
    /// timeout it waits indefinitely.
    pub fn next_within(&mut self, timeout: Option<Duration>) -> Option<Result<Entry, Error>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match self.next_stored() {
                Ok(None) => {}
                Ok(Some(entry)) => return Some(Ok(entry)),
                Err(error) => return Some(Err(error)),
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            if let Err(errno) = self.wait(left) {
                return Some(Err(Error::Wait {
                    directory: self.directory.clone(),
                    source: errno.into(),
                }));
            }
        }
    }

    /// Becomes readable when there may be something new: for a caller that also
    /// waits for other things and then asks with a timeout of zero. `None` if
    /// the kernel cannot report changes; then ask from time to time.
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.as_fd())
    }

    fn wait(&self, left: Option<Duration>) -> nix::Result<()> {
        let Some(watch) = &self.watch else {
            std::thread::sleep(left.map_or(LOOK.1, |left| left.min(LOOK.1)));
            return Ok(());
        };
        let wait = left.map_or(LOOK.0, |left| left.min(LOOK.0));
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut polled, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        match watch.read_events() {
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn next_stored(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(old) = &mut self.old {
            if let Some(next) = old.next() {
                return next.map(Some);
            }
            if let Some((name, offset, last)) = old.reached() {
                self.last = last;
                self.resume(name, offset)?;
            }
            self.old = None;
        }
        // Whether the segment may have grown since it was read to its end.
        let mut ended = false;
        loop {
            if let Some(cursor) = &mut self.cursor {
                match cursor.next(&self.query, !ended)? {
                    Next::Entry(entry, _) => {
                        // Before it was merged.
                        if self.again.is_none() || entry.sequence > self.last {
                            return Ok(Some(*entry));
                        }
                        continue;
                    }
                    Next::Damage(damage) => return Err(damage),
                    Next::End => cursor.refresh(),
                }
            }
            let Some(newer) = self.newer()? else {
                return Ok(None);
            };
            // There is a newer one, so nothing will be added to this one; what
            // was added just before that is still to be read.
            if self.cursor.is_some() && !ended {
                ended = true;
                continue;
            }
            if self.again.is_none() {
                let read = self.cursor.as_ref().map_or(0, |cursor| cursor.last);
                self.last = self.last.max(read);
                if let Some(merged) = self.merged_before(newer)? {
                    self.again = Some((merged, newer));
                    let segment = Segment::open(&self.directory, merged).ok().flatten();
                    self.cursor = segment.map(|segment| Cursor::whole(merged, segment));
                    // Nothing is added to it.
                    ended = true;
                    continue;
                }
            }
            self.again = None;
            match Segment::open(&self.directory, newer) {
                Ok(Some(segment)) => self.cursor = Some(Cursor::whole(newer, segment)),
                // Its header is not written yet, or it is gone again.
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.passed = Some(newer);
                    self.cursor = None;
                    return Err(error);
                }
            }
            self.passed = Some(newer);
            ended = false;
        }
    }

    fn resume(&mut self, name: Name, offset: u64) -> Result<(), Error> {
        self.passed = Some(name);
        if let Some(segment) = Segment::open(&self.directory, name)? {
            self.cursor = Some(Cursor::at(name, segment, offset));
        }
        Ok(())
    }

    /// A follower that is behind the writer: the segments between the one that it
    /// read and `newer` were merged into this one.
    fn merged_before(&self, newer: Name) -> Result<Option<Name>, Error> {
        if self.passed.is_none() || newer.first <= self.last.saturating_add(1) {
            return Ok(None);
        }
        let names = segment::list(&self.directory)?;
        let before = names.into_iter().rfind(|name| *name < newer);
        Ok(before.filter(|name| name.boot == newer.boot))
    }

    /// The first segment behind the one that is being read.
    fn newer(&self) -> Result<Option<Name>, Error> {
        let names = segment::list(&self.directory)?;
        Ok(names.into_iter().find(|name| {
            self.boot.is_none_or(|boot| name.boot == boot)
                && self.passed.is_none_or(|passed| *name > passed)
        }))
    }
}
