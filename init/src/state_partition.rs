//! The service `state`: PID 1 mounts the state partition by a child, and starts
//! the container of that name only where something must be done to the
//! partition first.
//!
//! ```text
//! start ─▶ child: first pass ─ mounted ───────────────────────▶ ended ─▶ growing
//!               └─ needs preparation ─▶ container ─▶ child: second pass ─▶ ended ─▶ growing
//! ```
//!
//! It ends well in any case: where nothing can be mounted, the state is
//! volatile and the machine degraded, and it says so.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use control::{Refusal, Reply};
use definition::Mount;
use nix::sys::epoll::EpollFlags;
use serde::{Deserialize, Serialize};
use supervisor::{Event, Exit};

use crate::catalog::{self, Reading};
use crate::init::Init;
use crate::job::Job;
use crate::kernel_log::log;
use crate::machine::{self, Kept};
use crate::mount;
use crate::reap::Child;
use crate::service::Run;
use crate::source::Source;
use crate::storage::{self, Growth, Outcome, Pass, Paths, Preparation};

/// The service's name.
pub const STATE: &str = "state";

/// What PID 1 knows of the state partition.
#[derive(Debug, Default)]
pub struct StatePartition {
    job: Option<Job>,
    stage: Stage,
    /// What is mounted.
    pub mounted: Mounted,
    /// What was done at this boot, a sentence each.
    pub notes: Vec<String>,
}

/// What is mounted at `/state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mounted {
    /// Nothing yet.
    #[default]
    Pending,
    /// The state partition.
    Persistent {
        /// Its device node.
        device: String,
    },
    /// A tmpfs.
    Volatile,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    FirstPass,
    Preparing(Preparation),
    SecondPass,
    /// The service has ended well, and the child still grows the file system: on
    /// a large disk that takes a while, and nobody has to wait for it.
    Growing,
    /// A reload reads the operator's definitions.
    Reading(Option<u32>),
    /// The definition of a service for this boot is being understood.
    Defining(u32),
}

/// What the child reports, in this order; a reload has only the definitions.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Outcome(Outcome),
    Kept(Kept),
    Complaints(Vec<String>),
    Definitions(Vec<Reading>),
    ForThisBoot(Box<Reading>),
    Growth(Result<Growth, String>),
}

/// Reads the operator's definitions and makes the folders that they mount. It
/// may block.
fn read_operator(complaints: &mut Vec<String>) -> Vec<Reading> {
    let readings = catalog::read(Path::new(catalog::OPERATOR));
    for entry in readings.iter().flat_map(|reading| &reading.entry) {
        complaints.extend(make_sources(&entry.definition.mounts));
    }
    readings
}

/// Makes the folders below `/state` that services mount, where they are not
/// there. Returns what could not be made, a sentence each.
fn make_sources(mounts: &[Mount]) -> Vec<String> {
    mounts
        .iter()
        .map(|mount| mount.source.as_path())
        .filter(|source| source.starts_with(storage::STATE) && !source.exists())
        .filter_map(|source| mount::make_folder(source, 0o755).err())
        .collect()
}

impl StatePartition {
    /// The disk's node, while the container works on it.
    pub fn disk(&self) -> Option<&Path> {
        match &self.stage {
            Stage::Preparing(preparation) => Some(Path::new(&preparation.disk)),
            Stage::Idle
            | Stage::FirstPass
            | Stage::SecondPass
            | Stage::Growing
            | Stage::Reading(_)
            | Stage::Defining(_) => None,
        }
    }

    /// Whether a child is at work or about to be.
    pub fn is_busy(&self) -> bool {
        self.job.is_some() || !matches!(self.stage, Stage::Idle)
    }

    /// As an earlier run of PID 1 left it.
    pub fn inherited(mounted: Mounted, notes: Vec<String>) -> Self {
        Self {
            mounted,
            notes,
            ..Self::default()
        }
    }
}

impl Init {
    /// The supervisor starts the service `state`.
    pub(crate) fn prepare_state(&mut self, number: u32) -> Result<(), String> {
        let id = self.by_name(STATE).ok_or("its definition is gone")?;
        self.start_pass(Pass::First)?;
        if let Some(service) = self.service_mut(id) {
            service.run = Some(Run::without_process(number));
            let name = service.entry.name.clone();
            self.events.push_back(Event::Executed {
                service: name,
                run: number,
            });
        }
        Ok(())
    }

    fn start_pass(&mut self, pass: Pass) -> Result<(), String> {
        let system: Vec<Mount> = self
            .services
            .iter()
            .flatten()
            .flat_map(|service| service.entry.definition.mounts.clone())
            .collect();
        let job = Job::start(|reporter| {
            let paths = Paths::default();
            let outcome = storage::run(pass, &paths);
            let device = match &outcome {
                Outcome::Mounted { device, .. } => Some(PathBuf::from(device)),
                Outcome::NeedsPreparation(_)
                | Outcome::Volatile { .. }
                | Outcome::Failed { .. } => None,
            };
            let is_mounted = !matches!(outcome, Outcome::NeedsPreparation(_));
            reporter.send(&Report::Outcome(outcome));
            if is_mounted {
                reporter.send(&Report::Kept(machine::read_kept(&paths.state)));
                let mut complaints = make_sources(&system);
                let definitions = read_operator(&mut complaints);
                reporter.send(&Report::Complaints(complaints));
                reporter.send(&Report::Definitions(definitions));
            }
            if let Some(device) = device {
                let growth = storage::grow_mounted(&device, &paths.state);
                reporter.send(&Report::Growth(growth.map_err(|error| error.sentence())));
            }
        })?;
        self.watch_job(job)?;
        self.state_partition.stage = match pass {
            Pass::First => Stage::FirstPass,
            Pass::Second => Stage::SecondPass,
        };
        Ok(())
    }

    fn watch_job(&mut self, job: Job) -> Result<(), String> {
        self.sources
            .add(&job.descriptor(), Source::Job, EpollFlags::EPOLLIN)?;
        self.children.insert(job.pid, Child::Job);
        self.state_partition.job = Some(job);
        Ok(())
    }

    /// Reads the operator's definitions again, for the client of that number.
    pub(crate) fn reload(&mut self, client: Option<u32>) {
        let result = if self.state_partition.is_busy() {
            Err("the state partition is still being looked at; try again".to_owned())
        } else {
            Job::start(|reporter| {
                let mut complaints = Vec::new();
                let definitions = read_operator(&mut complaints);
                reporter.send(&Report::Complaints(complaints));
                reporter.send(&Report::Definitions(definitions));
            })
            .and_then(|job| self.watch_job(job))
        };
        match result {
            Ok(()) => self.state_partition.stage = Stage::Reading(client),
            Err(message) => self.answer_reload(client, Err(message)),
        }
    }

    /// Understands the definition of a service for this boot, in a child.
    ///
    /// # Errors
    /// Why that cannot be done now.
    pub(crate) fn read_for_boot(
        &mut self,
        client: u32,
        name: String,
        text: String,
        root: Option<String>,
    ) -> Result<(), String> {
        if self.state_partition.is_busy() {
            return Err("the state partition is still being looked at; try again".to_owned());
        }
        let job = Job::start(|reporter| {
            let reading = catalog::for_this_boot(name, text, root);
            if let Ok(entry) = &reading.entry {
                reporter.send(&Report::Complaints(make_sources(&entry.definition.mounts)));
            }
            reporter.send(&Report::ForThisBoot(Box::new(reading)));
        })?;
        self.watch_job(job)?;
        self.state_partition.stage = Stage::Defining(client);
        Ok(())
    }

    /// The child reports.
    pub(crate) fn take_job_reports(&mut self) {
        let Some(job) = &mut self.state_partition.job else {
            return;
        };
        let (reports, ended) = job.reports::<Report>();
        if ended {
            self.sources.remove(&job.descriptor().as_fd());
        }
        for report in reports {
            match report {
                Report::Outcome(outcome) => self.take_outcome(outcome),
                Report::Kept(kept) => self.machine.adopt(&kept),
                Report::Complaints(complaints) => {
                    for complaint in complaints {
                        log!(Warning, "{complaint}");
                    }
                }
                Report::Definitions(readings) => self.take_definitions(readings),
                Report::ForThisBoot(reading) => {
                    if let Stage::Defining(client) = self.state_partition.stage {
                        self.state_partition.stage = Stage::Idle;
                        self.take_for_boot(client, *reading);
                    }
                }
                Report::Growth(Ok(growth)) if growth.to > growth.from => {
                    let note = format!(
                        "the file system was grown from {} to {} MiB",
                        growth.from >> 20,
                        growth.to >> 20
                    );
                    log!(Notice, "state: {note}");
                    self.state_partition.notes.push(note);
                }
                Report::Growth(Ok(_)) => {}
                Report::Growth(Err(error)) => {
                    log!(Error, "state: {error}");
                    self.state_partition.notes.push(error);
                }
            }
        }
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Mounted { device, notes } => {
                for note in &notes {
                    log!(Notice, "state: {note}");
                }
                self.state_partition.notes.extend(notes);
                self.state_partition.mounted = Mounted::Persistent { device };
            }
            Outcome::NeedsPreparation(preparation) => {
                log!(Notice, "state: {}", preparation.reason);
                self.state_partition.stage = Stage::Preparing(preparation);
            }
            Outcome::Volatile { reasons } => {
                self.state_partition.mounted = Mounted::Volatile;
                self.degrade_state(
                    "the state is volatile, and lost when the machine ends",
                    &reasons,
                );
            }
            Outcome::Failed { reasons } => {
                self.degrade_state("there is no state", &reasons);
            }
        }
    }

    fn degrade_state(&mut self, what: &str, reasons: &[String]) {
        let sentence = format!("{what}: {}", reasons.join("; "));
        log!(Error, "state: {sentence}");
        crate::console::say(&format!("wherry: {sentence}\n"));
        self.degraded.push(sentence);
    }

    /// Takes the operator's definitions, and drops the services whose folder is
    /// gone.
    fn take_definitions(&mut self, mut readings: Vec<Reading>) {
        let mut complaints = Vec::new();
        readings.retain(|reading| {
            let id = self.by_name(&reading.name);
            let service = id.and_then(|id| self.service(id));
            let taken = service.is_some_and(|service| service.for_this_boot);
            if taken {
                complaints.push(format!(
                    "{0}: a service of that name is defined until the next boot; \
                     `wherry service remove {0}` makes way",
                    reading.name
                ));
            }
            !taken
        });
        let gone: Vec<_> = self
            .services
            .iter()
            .flatten()
            .filter(|service| {
                let kept = service.operator && !service.for_this_boot;
                kept && !readings.iter().any(|read| read.name == service.name())
            })
            .map(|service| service.entry.name.clone())
            .collect();
        self.invalid.retain(|name, (_, operator)| {
            !*operator || readings.iter().any(|read| read.name == *name)
        });
        complaints.extend(self.define(readings, true));
        for name in gone {
            log!(Info, "{name}: its definition is gone");
            self.feed(Event::Remove(name));
        }
        match self.state_partition.stage {
            Stage::FirstPass | Stage::SecondPass => {
                self.state_partition.stage = Stage::Growing;
                self.end_state();
            }
            Stage::Reading(client) => self.answer_reload(client, Ok(complaints)),
            Stage::Idle | Stage::Preparing(_) | Stage::Growing | Stage::Defining(_) => {}
        }
    }

    /// The child has ended; its last reports may still be in the pipe.
    pub(crate) fn job_ended(&mut self, exit: Exit) {
        self.take_job_reports();
        if let Some(job) = self.state_partition.job.take() {
            self.sources.remove(&job.descriptor().as_fd());
        }
        match std::mem::take(&mut self.state_partition.stage) {
            Stage::Idle | Stage::Growing | Stage::Reading(_) => {}
            Stage::Defining(client) => {
                let message = format!(
                    "the child that reads definitions {}",
                    crate::reap::describe(exit)
                );
                self.answer_later(client, Reply::Refused(Refusal::Failed { message }));
            }
            Stage::Preparing(preparation) => self.start_preparation(preparation),
            Stage::FirstPass | Stage::SecondPass => {
                if !exit.is_success() {
                    self.degrade_state(
                        "there is no state",
                        &[format!(
                            "the child that mounts it {}",
                            crate::reap::describe(exit)
                        )],
                    );
                }
                self.end_state();
            }
        }
    }

    fn start_preparation(&mut self, preparation: Preparation) {
        let arguments = preparation.arguments(self.cmdline.erase_state);
        self.state_partition.stage = Stage::Preparing(preparation);
        let number = self
            .by_name(STATE)
            .and_then(|id| Some((id, self.service(id)?.run.as_ref()?.number)));
        let result = match number {
            Some((id, number)) => self.start_container(id, number, &arguments),
            None => Err("it is not wanted any more".to_owned()),
        };
        if let Err(reason) = result {
            log!(Error, "state: the container cannot be started: {reason}");
            self.preparation_ended();
        }
    }

    /// The container has ended, well or not: what is there is mounted.
    pub(crate) fn preparation_ended(&mut self) {
        if let Err(reason) = self.start_pass(Pass::Second) {
            self.degrade_state("there is no state", &[reason]);
            self.state_partition.stage = Stage::Idle;
            self.end_state();
        }
    }

    /// Ends the child at work, as far as it can be ended.
    pub(crate) fn cancel_job(&self) {
        if let Some(job) = &self.state_partition.job {
            let _ = nix::sys::signal::kill(job.pid, nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Whether the container of the service `state` has just ended, so that the
    /// service itself goes on.
    pub(crate) fn is_preparing(&self) -> bool {
        matches!(self.state_partition.stage, Stage::Preparing(_))
    }

    fn end_state(&mut self) {
        let ended = self.by_name(STATE).and_then(|id| {
            let service = self.service_mut(id)?;
            let run = service.run.take()?.number;
            Some((service.entry.name.clone(), run))
        });
        if let Some((service, run)) = ended {
            self.events.push_back(Event::Exited {
                service,
                run,
                exit: Exit::Code(0),
            });
        }
        self.events.push_back(Event::AllDefined);
        self.feed(Event::Tick);
    }
}
