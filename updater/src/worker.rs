//! Slow work: reading the disk, asking repositories, installing. One job at a
//! time, on a thread with its own runtime, so that the daemon answers even while
//! a disk or a server hangs.
//!
//! The disk stays open from one order to the next, so that what was proven of a
//! slot stays known; after an error it is opened again. The thread is never
//! stopped: it ends with the process, and the next run continues from what it did
//! so far.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use block_device::Disk;
use lifecycle::{Asking, Decision, Done, Extent, Failed, News, Order, Phase, Progress, Spent};
use policy::MachineId;
use release::{Channel, Manifest, RootHash, Version};
use slots::{Goal, View};
use system_disk::SystemDisk;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedSender;

use crate::error::Error;
use crate::event::Event;
use crate::install::{self, Source};
use crate::source;

/// Between two reports of progress.
const REPORT: Duration = Duration::from_millis(250);

/// Where the worker works.
#[derive(Clone, Debug)]
pub struct Place {
    /// The disk's node or image; `None`: the one that was booted.
    pub disk: Option<PathBuf>,
    /// The root that runs.
    pub booted: Option<RootHash>,
    /// Who asks the repositories.
    pub machine: MachineId,
    /// Where a trust anchor may be; the first that is there is used.
    pub anchors: Vec<PathBuf>,
    /// The folder for metadata.
    pub datastore: PathBuf,
    /// Where metadata is kept where that folder cannot be written.
    pub spare_datastore: PathBuf,
}

/// Starts the worker. It takes orders until their sender is gone.
///
/// # Errors
/// The thread or its runtime cannot be created.
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
                place,
                events,
                runtime,
                last: Cell::new((Phase::Idle, Instant::now())),
                installing: Cell::new(None),
            };
            let mut disk = None;
            for order in received {
                let ended = worker.run(&mut disk, order);
                worker.tell(ended);
            }
        })?;
    Ok(orders)
}

struct Worker {
    place: Place,
    events: UnboundedSender<Event>,
    runtime: Runtime,
    last: Cell<(Phase, Instant)>,
    installing: Cell<Option<Version>>,
}

type Opened = SystemDisk<Disk>;

impl Worker {
    /// Send errors are ignored: the daemon has ended.
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

    fn run(&self, disk: &mut Option<Opened>, order: Order) -> News {
        self.installing.set(None);
        let opened = match disk.take() {
            Some(opened) => Ok(opened),
            None => open(&self.place),
        };
        // Asking needs no disk: a machine that boots from none can ask too.
        let result = match (&opened, order) {
            (Ok(opened), order) => self.runtime.block_on(self.obey(opened, order)),
            (Err(_), Order::Look) => Ok(Done::Looked),
            (Err(_), Order::Check(asking)) => self.runtime.block_on(self.check(*asking)),
            (Err(error), _) => Err(Error::Setting(error.sentence())),
        };
        let view = opened.and_then(|opened| {
            let view = Box::new(opened.view()?);
            // After a failure the view in memory may differ from the disk.
            if !matches!(result, Err(Error::Disk(_) | Error::Stuck { .. })) {
                *disk = Some(opened);
            }
            Ok(view)
        });
        let result = result.map_err(|error| Failed {
            reason: error.sentence(),
            is_declined: error.is_declined(),
            installing: self.installing.take(),
        });
        let view: Result<Box<View>, _> = view;
        News::Ended {
            result,
            view: view.map_err(|error| error.sentence()),
        }
    }

    async fn obey(&self, disk: &Opened, order: Order) -> Result<Done, Error> {
        match order {
            Order::Look => Ok(Done::Looked),
            Order::Check(asking) => self.check(*asking).await,
            Order::Update { asking, extent } => self.update(disk, *asking, extent).await,
            Order::Repair { asking, root_hash } => self.repair(disk, *asking, root_hash).await,
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
        Ok(Done::Changed(told(spent)))
    }

    async fn check(&self, asking: Asking) -> Result<Done, Error> {
        let (_, channel, decision) = self.ask(asking).await?;
        Ok(Done::Checked {
            channel,
            decision: Box::new(decision),
        })
    }

    async fn ask(&self, asking: Asking) -> Result<(fetch::Repository, Channel, Decision), Error> {
        self.progress(Progress::begun(Phase::Checking));
        let asking = source::Asking {
            config: asking.config,
            standing: asking.standing,
            machine: self.place.machine,
            anchors: self.place.anchors.clone(),
            datastore: self.place.datastore.clone(),
            spare_datastore: Some(self.place.spare_datastore.clone()),
        };
        let repository = asking.open().await?;
        self.tell(News::Answered);
        let (channel, decision) = asking.decide(&repository).await?;
        Ok((repository, channel, decision))
    }

    async fn update(&self, disk: &Opened, asking: Asking, extent: Extent) -> Result<Done, Error> {
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

    async fn repair(
        &self,
        disk: &Opened,
        asking: Asking,
        root_hash: RootHash,
    ) -> Result<Done, Error> {
        let (repository, channel, decision) = self.ask(asking).await?;
        // Wave and windows do not matter, but it may have been halted.
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
        self.tell(News::Installing(manifest.version.clone()));
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
            spent: told(spent),
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
                ..Progress::begun(Phase::Proving)
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

/// The cost, without the single steps.
fn told(spent: install::Spent) -> Spent {
    Spent {
        has_changed: spent.has_changed(),
        fetched: spent.fetched,
        reused: spent.reused,
        dropped: spent.dropped,
        is_withheld: spent.is_withheld,
    }
}
