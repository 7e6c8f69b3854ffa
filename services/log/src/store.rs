//! The journal as the service uses it: it may fail, and come back
//!
//! While nothing can be stored, lines stay in their pipes, where the newest
//! are the ones kept (`output.rs`). Once it works again the journal says how
//! many were dropped, and of whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use journal::{BootId, Error, Level, Limits, Record, Writer};
use service::Notify;

use crate::clock::Stamp;
use crate::ledger::Claim;
use crate::sync::Schedule;

/// How long to wait before storing is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Records are gathered up to about so many bytes for one write; up to the
/// lesser number where the disk has no room for more.
const BATCH: (usize, usize) = (4 * 1024, 64 * 1024);

/// The journal, open or not.
pub struct Store {
    directory: PathBuf,
    limits: Limits,
    boot_id: BootId,
    writer: Option<Writer>,
    schedule: Schedule,
    notify: Notify,
    batch: usize,
    failure: Option<Failure>,
    /// What is to be told once something can be stored: lines given up, by
    /// service, …
    dropped: BTreeMap<String, u64>,
    /// … and how much of an unfinished record was cut off.
    cut_off: u64,
    /// Services that lost lines because they were over their share.
    over_share: BTreeSet<String>,
    /// Something was stored since that was last told.
    stored: bool,
    /// The most severe level pushed and not committed.
    pushed: Option<Level>,
    /// When this service started, since the kernel did.
    started: Duration,
    /// Lines that the log service before this one left unfinished.
    unfinished: BTreeMap<String, Level>,
}

struct Failure {
    reason: String,
    since: Instant,
    retry: Instant,
}

/// Nothing can be stored for now: what was to be stored must stay where it
/// is.
#[derive(Debug)]
pub struct Failing;

impl Store {
    /// Opens the journal. Only another writer at work is an error; one that
    /// cannot be opened is tried again later.
    pub fn open(directory: PathBuf, limits: Limits, boot_id: BootId) -> Result<Store, Error> {
        let mut store = Store {
            directory,
            limits,
            boot_id,
            writer: None,
            schedule: Schedule::default(),
            notify: Notify::from_environment(),
            batch: BATCH.1,
            failure: None,
            dropped: BTreeMap::new(),
            cut_off: 0,
            over_share: BTreeSet::new(),
            stored: false,
            pushed: None,
            started: Stamp::now().monotonic,
            unfinished: BTreeMap::new(),
        };
        match Writer::open(&store.directory, boot_id, limits) {
            Ok(writer) => store.adopt(writer),
            Err(error @ Error::Locked { .. }) => return Err(error),
            Err(error) => {
                store.fail(&error);
            }
        }
        Ok(store)
    }

    /// Until when it is no use to try, if that is still to come.
    pub fn failing_until(&self, now: Instant) -> Option<Instant> {
        let retry = self.failure.as_ref()?.retry;
        (retry > now).then_some(retry)
    }

    /// The journal; opens it when it could not be before.
    fn writer(&mut self) -> Result<&mut Writer, Failing> {
        if self.failing_until(Instant::now()).is_some() {
            return Err(Failing);
        }
        if self.writer.is_none() {
            match Writer::open(&self.directory, self.boot_id, self.limits) {
                Ok(writer) => self.adopt(writer),
                Err(error) => return Err(self.fail(&error)),
            }
        }
        self.writer.as_mut().ok_or(Failing)
    }

    /// The kernel's number of its first message that is not stored yet.
    pub fn kernel_position(&mut self) -> Result<u64, Failing> {
        self.writer().map(|writer| writer.kernel_position())
    }

    /// The sequence number that the next record pushed gets.
    pub fn next_sequence(&mut self) -> Result<u64, Failing> {
        self.writer().map(|writer| writer.next_sequence())
    }

    /// Whether exactly these lines were stored last. If only some were,
    /// because the log service before this one was killed during the write,
    /// they are removed: they are still in their pipe. When others were stored
    /// behind them the claim is not to be trusted.
    pub fn has_just_stored(&mut self, claim: &Claim) -> Result<bool, Failing> {
        let writer = self.writer()?;
        let next = writer.next_sequence();
        if claim.first < next && next <= claim.last {
            if let Err(error) = writer.roll_back(claim.first) {
                return Err(self.fail(&error));
            }
            self.unfinished = writer.resumed().unfinished.clone();
        }
        Ok(next == claim.last.saturating_add(1))
    }

    /// The level of the line that the log service before this one stored the
    /// beginning of. It is told once.
    pub fn take_unfinished(&mut self, service: &str) -> Option<Level> {
        self.unfinished.remove(service)
    }

    /// Whether a commit is due, by size.
    pub fn is_full(&self) -> bool {
        self.writer
            .as_ref()
            .is_some_and(|writer| writer.pending() >= self.batch)
    }

    /// Takes a record for the next commit.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), Failing> {
        if let Err(error) = self.writer()?.push(record) {
            return Err(self.fail(&error));
        }
        // What the kernel said before this service was there is no news: no
        // reason to sync while the machine boots.
        let level = match record.monotonic < self.started {
            true => record.level.max(Level::Info),
            false => record.level,
        };
        self.pushed = Some(self.pushed.map_or(level, |others| others.min(level)));
        Ok(())
    }

    /// Stores what was pushed, all of it or nothing.
    pub fn commit(&mut self) -> Result<(), Failing> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let pushed = self.pushed.take();
        if let Err(error) = writer.commit() {
            return Err(self.fail(&error));
        }
        if let Some(level) = pushed {
            self.schedule.stored(level, Instant::now());
            self.batch = (self.batch * 2).min(BATCH.1);
            self.stored = true;
        }
        Ok(())
    }

    /// Lines of a service were given up because nothing could be stored.
    pub fn dropped(&mut self, service: &str, lines: u64) {
        if lines == 0 {
            return;
        }
        *self.dropped.entry(service.to_owned()).or_default() += lines;
    }

    /// Pushes an entry of the log service itself.
    pub fn push_event(
        &mut self,
        level: Level,
        event: &str,
        message: &str,
        fields: &[(&str, &str)],
    ) -> Result<(), Failing> {
        let now = Stamp::now();
        let mut all: Vec<(&str, &[u8])> = vec![("event", event.as_bytes())];
        all.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        self.push(&Record {
            service: crate::OWN_NAME,
            level,
            realtime: now.realtime,
            monotonic: now.monotonic,
            unfinished: false,
            message: message.as_bytes(),
            fields: &all,
        })
    }

    /// When [`Store::tick`] is to sync.
    pub fn sync_due(&self) -> Option<Instant> {
        self.schedule.due()
    }

    /// Tells what is to be told, and syncs when it is time. Not between storing
    /// lines and taking them: then they are to be the newest in the journal.
    pub fn tick(&mut self) {
        if std::mem::take(&mut self.stored) {
            self.account();
        }
        let now = Instant::now();
        if self.schedule.due().is_none_or(|due| due > now) {
            return;
        }
        self.schedule.synced(now);
        let synced = self.writer.as_mut().map_or(Ok(()), Writer::sync);
        if let Err(error) = synced {
            let message = format!("{}: {}", error, source(&error));
            // Where this cannot be stored either, that will be told.
            let _ = self
                .push_event(Level::Error, "sync-failed", &message, &[])
                .and_then(|()| self.commit());
        }
    }

    /// Ends writing: everything stored survives a power cut, and the next
    /// start is quick.
    pub fn close(self) -> Result<(), Error> {
        self.writer.map_or(Ok(()), Writer::close)
    }

    fn adopt(&mut self, writer: Writer) {
        self.cut_off = writer.resumed().cut_off;
        self.stored |= self.cut_off > 0;
        self.unfinished = writer.resumed().unfinished.clone();
        self.writer = Some(writer);
    }

    fn fail(&mut self, error: &Error) -> Failing {
        self.pushed = None;
        if self.batch > BATCH.0 && is_full(error) {
            // Less may still fit.
            self.batch = BATCH.0;
            return Failing;
        }
        let now = Instant::now();
        let reason = format!("{}: {}", error, source(error));
        if self.failure.is_none() {
            self.notify.status(&format!("cannot store: {reason}"));
        }
        self.failure = Some(Failure {
            reason,
            since: self.failure.as_ref().map_or(now, |failure| failure.since),
            retry: now + RETRY,
        });
        Failing
    }

    /// Something was stored: tells what could not be, and what had to go.
    fn account(&mut self) {
        let cut_off = std::mem::take(&mut self.cut_off);
        if cut_off > 0 {
            let message = format!("{cut_off} bytes of a record that was not finished were cut off");
            let bytes = cut_off.to_string();
            let _ = self.push_event(Level::Notice, "cut-off", &message, &[("bytes", &bytes)]);
        }
        let trimmed = self
            .writer
            .as_mut()
            .map(Writer::take_dropped)
            .unwrap_or_default();
        if trimmed.segments > 0 {
            let entries = trimmed.entries.to_string();
            let message = format!("the disk is full: {entries} old entries were dropped early");
            let _ = self.push_event(
                Level::Warning,
                "entries-dropped",
                &message,
                &[("entries", &entries)],
            );
        }
        let thinned = self
            .writer
            .as_mut()
            .map(Writer::take_thinned)
            .unwrap_or_default();
        let known = self.over_share.len();
        self.over_share.extend(thinned.into_keys());
        if self.over_share.len() > known && self.failure.is_none() {
            self.notify.status(&self.over_share_status());
        }
        if let Some(failure) = self.failure.take() {
            self.notify.status(&self.over_share_status());
            let seconds = failure.since.elapsed().as_secs();
            let message = format!(
                "nothing could be stored for {seconds} s: {}",
                failure.reason
            );
            let _ = self.push_event(Level::Error, "store-failed", &message, &[]);
        }
        for (service, lines) in std::mem::take(&mut self.dropped) {
            let count = lines.to_string();
            let message = format!("{count} lines of {service} were dropped");
            let fields = [("of", service.as_str()), ("lines", &count)];
            if self
                .push_event(Level::Error, "lines-dropped", &message, &fields)
                .is_err()
            {
                self.dropped(&service, lines);
            }
        }
        if self.pushed.is_some() {
            let _ = self.commit();
        }
    }

    /// Who lost lines since this service started. How many, the journal says
    /// in their place.
    fn over_share_status(&self) -> String {
        const NAMED: usize = 8;
        if self.over_share.is_empty() {
            return String::new();
        }
        let named: Vec<&str> = self
            .over_share
            .iter()
            .map(String::as_str)
            .take(NAMED)
            .collect();
        let others = match self.over_share.len() - named.len() {
            0 => String::new(),
            count => format!(" and {count} others"),
        };
        format!(
            "dropped old lines, over their share of the log: {}{others}",
            named.join(", ")
        )
    }
}

fn is_full(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error {
        Error::Write { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
        _ => false,
    }
}

fn source(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}
