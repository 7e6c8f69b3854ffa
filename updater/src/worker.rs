//! What may take long: reading the disk, asking repositories, installing. One
//! thing at a time, on a thread of its own with a runtime of its own, so that the
//! daemon answers meanwhile, also when a disk or a server does not.
//!
//! The disk stays open from one order to the next, so that what was proven of a
//! slot stays known; after an error it is opened anew. The thread is never
//! stopped: where the daemon ends, it ends with the process, and what it did so
//! far is where the next run goes on.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use block_device::Disk;
use policy::Standing;
use release::{Channel, Manifest, RootHash, Version};
use slots::{Goal, SlotId, Tries, View};
use system_disk::SystemDisk;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedSender;
use updater_control::{Phase, Progress};

use crate::daemon::Event;
use crate::decision::Decision;
use crate::error::Error;
use crate::install::{self, Extent, Source, Spent};
use crate::source::Asking;

/// Between two reports of progress.
const REPORT: Duration = Duration::from_millis(250);

/// Which disk.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its node or image; `None`: the one that was booted.
    pub disk: Option<PathBuf>,
    /// The root that runs.
    pub booted: Option<RootHash>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Order {
    /// Look at the disk.
    Look,
    /// Ask what there is.
    Check(Box<Asking>),
    /// Install what the policy takes.
    Update {
        /// Where from, and which.
        asking: Box<Asking>,
        /// How far.
        extent: Extent,
    },
    /// Install this very release anew.
    Mend {
        /// Where from.
        asking: Box<Asking>,
        /// The release.
        root_hash: RootHash,
    },
    /// Make what is staged the release that boots next.
    Publish(Box<Manifest>),
    /// Remove what is staged: it is not wanted any more.
    Withdraw,
    /// The running release is good.
    Bless,
    /// The other release is what boots next.
    RollBack,
    /// The running release gets this count.
    Credit(Tries),
    /// Read a slot: is it still what it was?
    Examine(RootHash),
}

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// Nothing was asked for but a look.
    Looked,
    /// The repositories were asked.
    Checked {
        /// What is on offer.
        channel: Channel,
        /// What follows.
        decision: Box<Decision>,
    },
    /// A release was installed.
    Installed {
        /// What is on offer.
        channel: Channel,
        /// The release.
        manifest: Box<Manifest>,
        /// What it took.
        spent: Spent,
    },
    /// The disk was changed.
    Changed(Spent),
    /// A slot was read; whether it is whole.
    Examined {
        /// It is what it was.
        whole: bool,
    },
}

/// What did not work.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// The release that was being installed.
    pub installing: Option<Version>,
}

/// What the worker reports.
#[derive(Debug)]
pub enum News {
    /// How far it is.
    Progress(Progress),
    /// A repository gave metadata that can be trusted.
    Answered,
    /// It begins to install this.
    Installing(Box<Manifest>),
    /// It is done, or has failed; and the disk as it is then.
    Ended(Result<Done, Failed>, Result<Box<View>, String>),
}

/// Starts the worker. It takes orders until their sender is gone.
///
/// # Errors
/// There is no thread or no runtime to be had.
pub fn start(place: Place, events: UnboundedSender<Event>) -> io::Result<Sender<Order>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(crate::BLOCKING_THREADS)
        .build()?;
    let (orders, received) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let worker = Worker {
                events,
                runtime,
                last: Cell::new((Phase::Idle, Instant::now())),
                installing: Cell::new(None),
            };
            let mut disk = None;
            for order in received {
                let (result, view) = worker.run(&place, &mut disk, order);
                worker.tell(News::Ended(result, view));
            }
        })?;
    Ok(orders)
}

struct Worker {
    events: UnboundedSender<Event>,
    runtime: Runtime,
    last: Cell<(Phase, Instant)>,
    installing: Cell<Option<Version>>,
}

type Opened = SystemDisk<Disk>;

impl Worker {
    /// Where the daemon is gone, nobody is told, and nothing is lost.
    fn tell(&self, news: News) {
        let _ = self.events.send(Event::Worker(news));
    }

    fn progress(&self, progress: Progress) {
        let (phase, at) = self.last.get();
        if phase != progress.phase || at.elapsed() >= REPORT {
            self.last.set((progress.phase, Instant::now()));
            self.tell(News::Progress(progress));
        }
    }

    fn run(
        &self,
        place: &Place,
        disk: &mut Option<Opened>,
        order: Order,
    ) -> (Result<Done, Failed>, Result<Box<View>, String>) {
        self.installing.set(None);
        let opened = match disk.take() {
            Some(opened) => Ok(opened),
            None => open(place),
        };
        // Asking needs no disk: a machine that boots from none can ask too.
        let result = match (&opened, order) {
            (Ok(opened), order) => self.runtime.block_on(self.obey(opened, order)),
            (Err(_), Order::Look) => Ok(Done::Looked),
            (Err(_), Order::Check(asking)) => self.runtime.block_on(self.check(&asking)),
            (Err(error), _) => Err(Error::Setting(error.sentence())),
        };
        let view = opened.and_then(|opened| {
            let view = Box::new(opened.view()?);
            // What failed may have left in memory what is not on the disk.
            if !matches!(result, Err(Error::Disk(_) | Error::Stuck { .. })) {
                *disk = Some(opened);
            }
            Ok(view)
        });
        let failed = |error| Failed {
            error,
            installing: self.installing.take(),
        };
        (
            result.map_err(failed),
            view.map_err(|error| error.sentence()),
        )
    }

    async fn obey(&self, disk: &Opened, order: Order) -> Result<Done, Error> {
        match order {
            Order::Look => Ok(Done::Looked),
            Order::Check(asking) => self.check(&asking).await,
            Order::Update { asking, extent } => self.update(disk, &asking, extent).await,
            Order::Mend { asking, root_hash } => self.mend(disk, &asking, root_hash).await,
            Order::Publish(manifest) => {
                let goal = Goal::Install(install::target(&manifest));
                let source = Source {
                    manifest: &manifest,
                    repository: None,
                };
                self.reach(disk, &goal, Some(&source)).await
            }
            Order::Withdraw => {
                if disk.view()?.staged.is_some() {
                    disk.perform(&slots::Action::RemoveStaged)?;
                }
                Ok(Done::Changed(Spent::default()))
            }
            Order::Bless => self.reach(disk, &Goal::Bless, None).await,
            Order::RollBack => self.reach(disk, &Goal::RollBack, None).await,
            Order::Credit(tries) => self.reach(disk, &Goal::Credit(tries), None).await,
            Order::Examine(root_hash) => self.examine(disk, root_hash),
        }
    }

    async fn reach(
        &self,
        disk: &Opened,
        goal: &Goal,
        source: Option<&Source<'_>>,
    ) -> Result<Done, Error> {
        let tell = |progress| self.progress(progress);
        let spent = install::reach(disk, goal, source, Extent::Published, &tell).await?;
        Ok(Done::Changed(spent))
    }

    async fn check(&self, asking: &Asking) -> Result<Done, Error> {
        let (_, channel, decision) = self.ask(asking).await?;
        Ok(Done::Checked {
            channel,
            decision: Box::new(decision),
        })
    }

    async fn ask(&self, asking: &Asking) -> Result<(fetch::Repository, Channel, Decision), Error> {
        self.progress(phase(Phase::Checking));
        let repository = asking.open().await?;
        self.tell(News::Answered);
        let (channel, decision) = asking.decide(&repository).await?;
        Ok((repository, channel, decision))
    }

    async fn update(&self, disk: &Opened, asking: &Asking, extent: Extent) -> Result<Done, Error> {
        let (repository, channel, decision) = self.ask(asking).await?;
        let Some(manifest) = decision.take.clone() else {
            return Ok(Done::Checked {
                channel,
                decision: Box::new(decision),
            });
        };
        self.install(disk, &repository, channel, manifest, extent)
            .await
    }

    async fn mend(
        &self,
        disk: &Opened,
        asking: &Asking,
        root_hash: RootHash,
    ) -> Result<Done, Error> {
        // What was bought once may be had again, whatever wave and windows say;
        // not what was halted meanwhile.
        let asking = Asking {
            standing: Standing {
                wish: None,
                ..asking.standing.clone()
            },
            ..asking.clone()
        };
        let (repository, channel, decision) = self.ask(&asking).await?;
        let found = channel
            .offers
            .iter()
            .find(|offer| offer.manifest.root_hash == root_hash && offer.halted.is_none())
            .map(|offer| offer.manifest.clone());
        match found {
            Some(manifest) => {
                self.install(disk, &repository, channel, manifest, Extent::Staged)
                    .await
            }
            None => Ok(Done::Checked {
                channel,
                decision: Box::new(decision),
            }),
        }
    }

    async fn install(
        &self,
        disk: &Opened,
        repository: &fetch::Repository,
        channel: Channel,
        manifest: Manifest,
        extent: Extent,
    ) -> Result<Done, Error> {
        self.installing.set(Some(manifest.version.clone()));
        install::check(disk, &manifest)?;
        self.tell(News::Installing(Box::new(manifest.clone())));
        let goal = Goal::Install(install::target(&manifest));
        let source = Source {
            manifest: &manifest,
            repository: Some(repository),
        };
        let tell = |progress| self.progress(progress);
        let spent = install::reach(disk, &goal, Some(&source), extent, &tell).await?;
        Ok(Done::Installed {
            channel,
            manifest: Box::new(manifest),
            spent,
        })
    }

    fn examine(&self, disk: &Opened, root_hash: RootHash) -> Result<Done, Error> {
        let view = disk.view()?;
        let Some(slot) = view.slot_of(&root_hash) else {
            return Ok(Done::Examined { whole: false });
        };
        let total = view.slots[slot.index()].data_length;
        let whole = disk.prove_named(slot, &mut |verified| {
            self.progress(Progress {
                verified,
                total,
                ..phase(Phase::Proving)
            });
        })?;
        Ok(Done::Examined { whole })
    }
}

fn open(place: &Place) -> Result<Opened, Error> {
    let path = match &place.disk {
        Some(path) => path.clone(),
        None => system_disk::boot_disk()?,
    };
    Ok(SystemDisk::open_path(&path, place.booted)?)
}

/// Progress that has only begun.
pub fn phase(phase: Phase) -> Progress {
    Progress {
        phase,
        version: None,
        fetched: 0,
        reused: 0,
        verified: 0,
        total: 0,
    }
}

/// A slot's letter as the protocol has it.
pub fn letter(slot: SlotId) -> String {
    slot.to_string().to_lowercase()
}
