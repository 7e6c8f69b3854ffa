//! Files and parts of files, from any mirror that has them.
//!
//! The caller says how bytes are proved ([`Prove`]). A mirror whose bytes fail is
//! dropped, and another one is asked for the rest, from the first unproved byte
//! on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use http_client::Wanted;
use release::{Artifact, Sha256Sum};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::mirrors::Choice;
use crate::repository::Repository;
use crate::source::Body;
use crate::{Failure, Fault, FetchError, jitter};

/// Bytes that are proved and used at once, at most; a connection holds no more.
const BATCH: usize = 256 * 1024;

/// Takes pieces of a file.
pub(crate) trait Prove {
    /// Where the piece ends that `offset` is in: bytes are given in whole pieces.
    fn end_of_piece(&self, offset: u64) -> u64;

    /// Takes whole pieces.
    fn take(&self, offset: u64, bytes: &[u8]) -> Result<(), Refused>;
}

/// Why pieces were not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// They are not what was signed. The first `taken` bytes were, and were taken.
    Wrong { taken: u64, what: String },
    /// They were right, but could not be stored.
    Failed(FetchError),
}

/// Why a request ended early.
enum Trouble {
    Mirror(Failure),
    Failed(FetchError),
}

/// Parts of a file that are still to be fetched.
struct Work<'a> {
    artifact: &'a Artifact,
    prove: &'a dyn Prove,
    /// By their begin.
    parts: RefCell<BTreeMap<u64, u64>>,
    /// A connection reads the whole file from a mirror without ranges, and picks
    /// out what is in `parts`.
    sweeping: Cell<bool>,
}

impl Work<'_> {
    fn next(&self) -> Option<Range<u64>> {
        let (start, end) = self.parts.borrow_mut().pop_first()?;
        Some(start..end)
    }

    fn put_back(&self, part: Range<u64>) {
        if part.start < part.end {
            self.parts.borrow_mut().insert(part.start, part.end);
        }
    }

    /// The first part that begins at `offset` or later.
    fn after(&self, offset: u64) -> Option<Range<u64>> {
        let mut parts = self.parts.borrow_mut();
        let (start, end) = parts.range(offset..).next().map(|(s, e)| (*s, *e))?;
        parts.remove(&start);
        Some(start..end)
    }
}

impl Repository {
    /// Fetches `parts` of `artifact`, several at a time.
    pub(crate) async fn parts(
        &self,
        artifact: &Artifact,
        parts: impl IntoIterator<Item = Range<u64>>,
        prove: &dyn Prove,
    ) -> Result<(), FetchError> {
        let work = Work {
            artifact,
            prove,
            parts: RefCell::new(
                parts
                    .into_iter()
                    .map(|part| (part.start, part.end))
                    .collect(),
            ),
            sweeping: Cell::new(false),
        };
        let number = work.parts.borrow().len();
        let workers =
            (0..self.settings.connections.clamp(1, number.max(1))).map(|_| self.work(&work));
        futures_util::future::try_join_all(workers).await?;
        Ok(())
    }

    /// One connection's work.
    async fn work(&self, work: &Work<'_>) -> Result<(), FetchError> {
        while let Some(part) = work.next() {
            let (mirror, address, whole) = match self.choose(work.artifact) {
                Choice::Ask {
                    mirror,
                    address,
                    whole,
                } => (mirror, address, whole),
                Choice::Wait(wait) => {
                    work.put_back(part);
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Choice::Nobody(failures) => {
                    return Err(FetchError::Artifact {
                        path: work.artifact.path.clone(),
                        failures,
                    });
                }
            };
            if whole && work.sweeping.get() {
                // The one that sweeps comes by, or takes it in its next round.
                work.put_back(part);
                return Ok(());
            }
            let at = Cell::new(part.start);
            let wanted = if whole {
                Wanted::Whole(work.artifact.length)
            } else {
                Wanted::Part {
                    range: part.clone(),
                    length: work.artifact.length,
                }
            };
            self.mirrors.borrow_mut().begin(mirror);
            let done = match self.source.get(&address, &wanted).await {
                Err(failure) => Err(Trouble::Mirror(failure)),
                Ok(body) if body.is_whole() && part != (0..work.artifact.length) => {
                    work.put_back(part.clone());
                    at.set(part.end);
                    self.mirrors.borrow_mut().gives_whole_files(mirror);
                    let better =
                        matches!(self.choose(work.artifact), Choice::Ask { whole: false, .. });
                    if better || work.sweeping.replace(true) {
                        drop(body);
                        Ok(())
                    } else {
                        let swept = self.sweep(body, mirror, work).await;
                        work.sweeping.set(false);
                        swept
                    }
                }
                Ok(body) => self.pull(body, mirror, &part, &at, work.prove).await,
            };
            self.mirrors.borrow_mut().end(mirror);
            work.put_back(at.get()..part.end);
            match done {
                Ok(()) => self.mirrors.borrow_mut().answered(mirror),
                Err(Trouble::Mirror(failure)) => self.failed(mirror, work.artifact, failure),
                Err(Trouble::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn choose(&self, artifact: &Artifact) -> Choice {
        self.mirrors.borrow().choose(&artifact.path, Instant::now())
    }

    fn failed(&self, mirror: usize, artifact: &Artifact, failure: Failure) {
        self.mirrors.borrow_mut().failed(
            mirror,
            &artifact.path,
            failure,
            self.settings.retry,
            jitter(),
            Instant::now(),
        );
    }

    /// Gives the bytes of one part to `prove`. `at` is what comes next.
    async fn pull(
        &self,
        mut body: Body,
        mirror: usize,
        part: &Range<u64>,
        at: &Cell<u64>,
        prove: &dyn Prove,
    ) -> Result<(), Trouble> {
        let mut rest: Vec<u8> = Vec::new();
        while let Some(chunk) = body.chunk().await.map_err(Trouble::Mirror)? {
            self.feed(&body, mirror, &mut rest, &chunk, at, part.end, prove)?;
        }
        Ok(())
    }

    /// Picks out of a whole file what is still to be fetched, as long as there is
    /// something ahead.
    async fn sweep(&self, mut body: Body, mirror: usize, work: &Work<'_>) -> Result<(), Trouble> {
        let mut offset = 0;
        let mut current: Option<(Range<u64>, Cell<u64>)> = None;
        let mut rest: Vec<u8> = Vec::new();
        let swept = loop {
            if current.is_none() {
                current = work.after(offset).map(|part| {
                    let at = Cell::new(part.start);
                    (part, at)
                });
                rest.clear();
            }
            if current.is_none() {
                break Ok(());
            }
            let mut chunk = match body.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(Trouble::Mirror(failure)),
            };
            let mut fed = Ok(());
            while let Some((part, at)) = &current {
                let end = offset + chunk.len() as u64;
                if part.start >= end {
                    break;
                }
                let ahead = part.start.saturating_sub(offset);
                let here = chunk.slice(ahead as usize..(part.end.min(end) - offset) as usize);
                fed = self.feed(&body, mirror, &mut rest, &here, at, part.end, work.prove);
                if fed.is_err() || part.end > end {
                    break;
                }
                chunk = chunk.slice((part.end - offset) as usize..);
                offset = part.end;
                rest.clear();
                current = work.after(offset).map(|part| {
                    let at = Cell::new(part.start);
                    (part, at)
                });
            }
            offset += chunk.len() as u64;
            if let Err(trouble) = fed {
                break Err(trouble);
            }
        };
        if let Some((part, at)) = current {
            work.put_back(at.get()..part.end);
        }
        swept
    }

    /// Cuts the received bytes into pieces and has them proved; `rest` keeps the
    /// incomplete piece.
    #[expect(clippy::too_many_arguments)]
    fn feed(
        &self,
        body: &Body,
        mirror: usize,
        rest: &mut Vec<u8>,
        chunk: &Bytes,
        at: &Cell<u64>,
        end: u64,
        prove: &dyn Prove,
    ) -> Result<(), Trouble> {
        let took = |bytes: u64| {
            at.set(at.get() + bytes);
            self.mirrors.borrow_mut().gave(mirror, bytes);
        };
        let give = |bytes: &[u8]| match prove.take(at.get(), bytes) {
            Ok(()) => {
                took(bytes.len() as u64);
                Ok(())
            }
            Err(Refused::Wrong { taken, what }) => {
                took(taken);
                Err(Trouble::Mirror(body.wrong(what)))
            }
            Err(Refused::Failed(error)) => Err(Trouble::Failed(error)),
        };
        let piece = |offset: u64| prove.end_of_piece(offset).min(end);
        let mut chunk: &[u8] = chunk;
        if !rest.is_empty() {
            let missing = (piece(at.get()) - at.get()) as usize - rest.len();
            let (head, tail) = chunk.split_at(missing.min(chunk.len()));
            rest.extend_from_slice(head);
            chunk = tail;
            if head.len() < missing {
                return Ok(());
            }
            give(rest)?;
            rest.clear();
        }
        while !chunk.is_empty() {
            let begin = at.get();
            let mut whole = 0;
            loop {
                let next = (piece(begin + whole as u64) - begin) as usize;
                if next > chunk.len() || next > BATCH && whole > 0 || next == whole {
                    break;
                }
                whole = next;
            }
            if whole == 0 {
                rest.extend_from_slice(chunk);
                return Ok(());
            }
            let (now, later) = chunk.split_at(whole);
            give(now)?;
            chunk = later;
        }
        Ok(())
    }

    /// A whole file that fits the memory, proved by its SHA-256.
    pub(crate) async fn whole(&self, artifact: &Artifact) -> Result<Vec<u8>, FetchError> {
        loop {
            let (mirror, address) = match self.choose(artifact) {
                Choice::Ask {
                    mirror, address, ..
                } => (mirror, address),
                Choice::Wait(wait) => {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Choice::Nobody(failures) => {
                    return Err(FetchError::Artifact {
                        path: artifact.path.clone(),
                        failures,
                    });
                }
            };
            let wanted = Wanted::Whole(artifact.length);
            let all = match self.source.get(&address, &wanted).await {
                Ok(body) => body.all().await,
                Err(failure) => Err(failure),
            };
            let all = all.and_then(|all| {
                let sum = Sha256Sum(Sha256::digest(&all).into());
                if sum == artifact.sha256 {
                    return Ok(all);
                }
                let signed = artifact.sha256;
                Err(Failure {
                    address: address.shown(),
                    fault: Fault::Wrong(format!("its SHA-256 is {sum}, and {signed} was signed")),
                })
            });
            match all {
                Ok(all) => {
                    let mut mirrors = self.mirrors.borrow_mut();
                    mirrors.gave(mirror, artifact.length);
                    mirrors.answered(mirror);
                    return Ok(all);
                }
                Err(failure) => self.failed(mirror, artifact, failure),
            }
        }
    }
}
