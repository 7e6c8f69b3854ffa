//! `updater install | bless | rollback | look`: the way to a goal once, on a disk
//! or an image of one, without a daemon. Nothing is mounted.
//!
//! For making, testing and measuring disks: it takes the newest release
//! whatever its wave is, and knows nothing of windows.

use std::cell::Cell;
use std::fs;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::rc::Rc;

use block_device::Disk;
use lifecycle::{Extent, Phase, Progress};
use policy::{Config, MachineId, Standing, Wish};
use release::RootHash;
use serde::Serialize;
use slots::{Goal, SlotId, View};
use system_disk::SystemDisk;

use crate::arguments::{Install, On};
use crate::error::Error;
use crate::install::{self, Source, Spent};
use crate::metered::Metered;
use crate::source::Asking;

/// The disk, and how many bytes were written to it.
struct Opened {
    disk: SystemDisk<Metered<Disk>>,
    written: Rc<Cell<u64>>,
}

/// What was done, for `--json`.
#[derive(Debug, Serialize)]
struct Report {
    version: Option<String>,
    changed: bool,
    reason: String,
    fetched: u64,
    reused: u64,
    /// Bytes written to the disk.
    written: u64,
    /// Most memory that was resident, in KiB.
    peak_rss_kib: u64,
    /// Processor time, in milliseconds.
    cpu_ms: u64,
    actions: Vec<String>,
    dropped: Vec<String>,
    disk: Look,
}

/// What is on a disk, for `--json`.
#[derive(Debug, Serialize)]
struct Look {
    booted: Option<RootHash>,
    slots: Vec<Slot>,
    entries: Vec<Entry>,
    /// The entry that the loader boots next.
    next: Option<String>,
    staged: Option<u64>,
    esp_free: u64,
    loader: Option<String>,
}

#[derive(Debug, Serialize)]
struct Slot {
    slot: String,
    label: String,
    /// The release that the entries say is in it.
    version: Option<String>,
    root_hash: Option<RootHash>,
    data_length: u64,
    tree_length: u64,
}

#[derive(Debug, Serialize)]
struct Entry {
    file: String,
    version: String,
    root_hash: Option<RootHash>,
    tries_left: Option<u32>,
    tries_done: Option<u32>,
    length: u64,
}

/// `updater install`.
pub async fn install(arguments: &Install) -> ExitCode {
    end(try_install(arguments).await)
}

/// `updater bless`.
pub async fn bless(on: &On) -> ExitCode {
    end(reach(on, Goal::Bless).await)
}

/// `updater rollback`.
pub async fn rollback(on: &On) -> ExitCode {
    end(reach(on, Goal::RollBack).await)
}

/// `updater look`.
pub fn look(on: &On) -> ExitCode {
    end(open(on).and_then(|disk| {
        let look = Look::of(&disk.disk.view()?);
        if on.json {
            print_json(&look);
        } else {
            say(&look.table());
        }
        Ok(())
    }))
}

fn end(result: Result<(), Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("updater: {}", error.sentence());
            match error {
                Error::Refused(_) | Error::Declined(_) => ExitCode::from(4),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn open(on: &On) -> Result<Opened, Error> {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&on.disk)
        .and_then(Disk::new)
        .map_err(|source| Error::File {
            doing: "open",
            path: on.disk.clone(),
            source,
        })?;
    let written = Rc::new(Cell::new(0));
    let device = Metered::new(file, Rc::clone(&written));
    let disk = SystemDisk::open(device, on.booted)?;
    Ok(Opened { disk, written })
}

async fn try_install(arguments: &Install) -> Result<(), Error> {
    let on = &arguments.on;
    let disk = open(on)?;
    let view = disk.disk.view()?;
    let running = view
        .booted_entry()
        .map(|entry| entry.version.clone())
        .ok_or_else(|| {
            Error::Declined(
                "no boot entry of this disk is that of the running release: give its root \
                 hash with --booted"
                    .to_owned(),
            )
        })?;
    let asking = Asking {
        config: Config {
            repositories: arguments.repository.clone(),
            channel: arguments.channel.clone(),
            rate_limit: arguments.rate_limit,
            connections: arguments
                .connections
                .unwrap_or(Config::default().connections),
            proxy: arguments.proxy.clone(),
            ..Config::default()
        },
        standing: Standing {
            wish: Some(Wish {
                version: arguments.version.clone(),
                allow_downgrade: arguments.allow_downgrade,
                now: true,
            }),
            ..Standing::new(running)
        },
        machine: MachineId::from(1),
        anchors: vec![arguments.trust.clone()],
        datastore: arguments.state.clone(),
        spare_datastore: None,
    };
    let repository = asking.open().await?;
    let (channel, decision) = asking.decide(&repository).await?;
    // Asking for the running release by name restores its boot entry.
    let again = arguments.version.as_ref().and_then(|version| {
        let mut offers = channel.offers.iter().map(|offer| &offer.manifest);
        offers
            .find(|manifest| manifest.version == *version && Some(manifest.root_hash) == on.booted)
    });
    let Some(manifest) = decision.take.as_ref().or(again) else {
        if arguments.version.is_some() {
            return Err(Error::Declined(decision.sentence));
        }
        return report(on, &disk, None, &Spent::default(), decision.sentence);
    };
    install::check(&disk.disk, manifest)?;
    let goal = Goal::Install(install::target(manifest));
    let source = Source {
        manifest,
        repository: Some(&repository),
    };
    let extent = if arguments.stage {
        Extent::Staged
    } else {
        Extent::Published
    };
    let mut spent = install::reach(&disk.disk, &goal, Some(&source), extent, &teller(on)).await?;
    // Metadata comes from mirrors too.
    spent.fetched = spent.fetched.max(repository.received());
    let version = Some(manifest.version.to_string());
    report(on, &disk, version, &spent, decision.sentence)
}

async fn reach(on: &On, goal: Goal) -> Result<(), Error> {
    let disk = open(on)?;
    let spent = install::reach(&disk.disk, &goal, None, Extent::Published, &teller(on)).await?;
    report(on, &disk, None, &spent, String::new())
}

/// Progress: a line for each phase.
fn teller(on: &On) -> impl Fn(Progress) {
    let shown = !on.json && std::io::stderr().is_terminal();
    let last = Cell::new(Phase::Idle);
    move |progress| {
        if shown && last.replace(progress.phase) != progress.phase {
            eprintln!("{}", crate::wire::phase(progress.phase).as_str());
        }
    }
}

fn report(
    on: &On,
    disk: &Opened,
    version: Option<String>,
    spent: &Spent,
    reason: String,
) -> Result<(), Error> {
    let report = Report {
        version,
        changed: spent.has_changed(),
        reason,
        fetched: spent.fetched,
        reused: spent.reused,
        written: disk.written.get(),
        peak_rss_kib: peak_rss_kib(),
        cpu_ms: cpu_ms(),
        actions: spent
            .actions
            .iter()
            .map(|action| format!("{action:?}"))
            .collect(),
        dropped: spent.dropped.clone(),
        disk: Look::of(&disk.disk.view()?),
    };
    if on.json {
        print_json(&report);
        return Ok(());
    }
    let mut text = String::new();
    for dropped in &report.dropped {
        text += &format!("not used any more: {dropped}\n");
    }
    if let Some(version) = &report.version {
        text += &format!("{version}: ");
    }
    text += &format!(
        "{} fetched, {} on the disk already, {} written, {} KiB of memory\n",
        report.fetched, report.reused, report.written, report.peak_rss_kib
    );
    say(&(text + &report.disk.table()));
    Ok(())
}

impl Look {
    fn of(view: &View) -> Self {
        let slot = |id: SlotId| {
            let slot = &view.slots[id.index()];
            let entry = view.entries.iter().find(|entry| {
                entry
                    .root_hash
                    .is_some_and(|root_hash| view.slot_of(&root_hash) == Some(id))
            });
            Slot {
                slot: id.to_string(),
                label: slot.label.to_string(),
                version: entry.map(|entry| entry.version.to_string()),
                root_hash: entry.and_then(|entry| entry.root_hash),
                data_length: slot.data_length,
                tree_length: slot.tree_length,
            }
        };
        Self {
            booted: view.booted,
            slots: SlotId::ALL.into_iter().map(slot).collect(),
            entries: view
                .entries
                .iter()
                .map(|entry| Entry {
                    file: entry.file.clone(),
                    version: entry.version.to_string(),
                    root_hash: entry.root_hash,
                    tries_left: entry.tries.map(|tries| tries.left),
                    tries_done: entry.tries.map(|tries| tries.done),
                    length: entry.length,
                })
                .collect(),
            next: slots::loader_choice(&view.entries).map(|entry| entry.file.clone()),
            staged: view.staged.map(|staged| staged.length),
            esp_free: view.esp_free,
            loader: view.loader.as_ref().map(ToString::to_string),
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for slot in &self.slots {
            text += &format!(
                "slot {}: {} ({})\n",
                slot.slot,
                slot.version.as_deref().unwrap_or("nothing bootable"),
                slot.label
            );
        }
        for entry in &self.entries {
            let next = if self.next.as_ref() == Some(&entry.file) {
                ", boots next"
            } else {
                ""
            };
            text += &format!("{}: {} bytes{next}\n", entry.file, entry.length);
        }
        text + &format!("ESP: {} bytes free\n", self.esp_free)
    }
}

/// A reader that has closed the pipe has read enough.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(json) => say(&format!("{json}\n")),
        Err(error) => eprintln!("updater: cannot write JSON: {error}"),
    }
}

/// `VmHWM` of proc_pid_status(5). Not `ru_maxrss`, which counts what ran before
/// execve(2) too.
fn peak_rss_kib() -> u64 {
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// User and system time of all threads, in milliseconds (proc_pid_stat(5), fields
/// 14 and 15, in ticks of 10 ms).
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    ticks * 10
}
