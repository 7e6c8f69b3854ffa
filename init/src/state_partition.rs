//! The work of the service with the role `state`: PID 1 mounts the state
//! partition by a child, and has the service's container started only where
//! something must be done to the partition first.
//!
//! ```text
//! start ─▶ child: first pass ─ mounted ───────────────────────▶ ended ─▶ growing
//!               └─ needs preparation ─▶ container ─▶ child: second pass ─▶ ended ─▶ growing
//! ```
//!
//! It ends well in any case: where nothing can be mounted, the state is
//! volatile and the machine degraded, and it says so. What others have to do
//! about it comes back as [`News`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supervisor::Exit;

use crate::catalog::{self, Reading};
use crate::children::{Child, Children, describe};
use crate::job::Job;
use crate::kernel_log::log;
use crate::machine::{self, Kept};
use crate::source::{Source, Sources};
use crate::storage::{self, Growth, Outcome, Pass, Paths, Preparation};

/// What PID 1 knows of the state partition.
#[derive(Debug, Default)]
pub struct StatePartition {
    job: Option<Job>,
    stage: Stage,
    /// What is mounted.
    pub mounted: Mounted,
    /// What was done at this boot, a sentence each.
    pub notes: Vec<String>,
    /// Why the machine is degraded, a sentence each.
    pub problems: Vec<String>,
}

/// What others have to do.
#[derive(Debug, PartialEq)]
pub enum News {
    /// The state partition holds this of the machine.
    Kept(Kept),
    /// The operator's definitions have been read: all that there are.
    Definitions(Vec<Reading>),
    /// The definitions were read for a reload, which is to be answered.
    Reloaded(Option<u32>),
    /// A definition that a client of that number gave for this boot has been
    /// understood, or has not.
    ForThisBoot(u32, Box<Reading>),
    /// It could not be read, for this reason.
    Unread(u32, String),
    /// The container has to do this before anything is mounted.
    Prepare(Preparation),
    /// What can be mounted is: the service has done its work.
    Ended,
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
    Definitions(Vec<Reading>),
    ForThisBoot(Box<Reading>),
    Growth(Result<Growth, String>),
}

/// Reads the operator's definitions. It may block.
fn read_operator() -> Vec<Reading> {
    for complaint in storage::sort_configurations(&Path::new(storage::STATE).join("config")) {
        log!(Warning, "{complaint}");
    }
    catalog::read(Path::new(catalog::OPERATOR))
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
    pub fn inherited(mounted: Mounted, notes: Vec<String>, problems: Vec<String>) -> Self {
        Self {
            mounted,
            notes,
            problems,
            ..Self::default()
        }
    }

    /// Begins: the supervisor starts the service.
    ///
    /// # Errors
    /// Why there is no child.
    pub fn start(&mut self, sources: &Sources, children: &mut Children) -> Result<(), String> {
        self.start_pass(Pass::First, sources, children)
    }

    /// The container has ended, well or not: what is there is mounted.
    pub fn prepared(&mut self, sources: &Sources, children: &mut Children) -> Vec<News> {
        let Err(reason) = self.start_pass(Pass::Second, sources, children) else {
            return Vec::new();
        };
        self.stage = Stage::Idle;
        self.degrade("there is no state", &[reason]);
        vec![News::Ended]
    }

    fn start_pass(
        &mut self,
        pass: Pass,
        sources: &Sources,
        children: &mut Children,
    ) -> Result<(), String> {
        let job = Job::start(children, Child::State, sources, Source::Job, |reporter| {
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
                reporter.send(&Report::Definitions(read_operator()));
            }
            if let Some(device) = device {
                let growth = storage::grow_mounted(&device, &paths.state);
                reporter.send(&Report::Growth(growth.map_err(|error| error.sentence())));
            }
        })?;
        self.job = Some(job);
        self.stage = match pass {
            Pass::First => Stage::FirstPass,
            Pass::Second => Stage::SecondPass,
        };
        Ok(())
    }

    /// Reads the operator's definitions again, for the client of that number.
    ///
    /// # Errors
    /// Why that is not possible now.
    pub fn reload(
        &mut self,
        client: Option<u32>,
        sources: &Sources,
        children: &mut Children,
    ) -> Result<(), String> {
        if self.is_busy() {
            return Err("the state partition is still being looked at; try again".to_owned());
        }
        let job = Job::start(children, Child::State, sources, Source::Job, |reporter| {
            reporter.send(&Report::Definitions(read_operator()));
        })?;
        self.job = Some(job);
        self.stage = Stage::Reading(client);
        Ok(())
    }

    /// Understands the definition of a service for this boot, in a child; `client`
    /// is told.
    ///
    /// # Errors
    /// Why that cannot be done now.
    #[allow(clippy::too_many_arguments)]
    pub fn define(
        &mut self,
        client: u32,
        name: String,
        text: String,
        root: Option<String>,
        sources: &Sources,
        children: &mut Children,
    ) -> Result<(), String> {
        if self.is_busy() {
            return Err("the state partition is still being looked at; try again".to_owned());
        }
        let job = Job::start(children, Child::State, sources, Source::Job, |reporter| {
            let reading = catalog::for_this_boot(name, text, root);
            reporter.send(&Report::ForThisBoot(Box::new(reading)));
        })?;
        self.job = Some(job);
        self.stage = Stage::Defining(client);
        Ok(())
    }

    /// The child reports.
    pub fn take_reports(&mut self, sources: &Sources) -> Vec<News> {
        let Some(job) = &mut self.job else {
            return Vec::new();
        };
        let reports: Vec<Report> = job.reports(sources);
        reports
            .into_iter()
            .flat_map(|report| self.take(report))
            .collect()
    }

    fn take(&mut self, report: Report) -> Vec<News> {
        match report {
            Report::Outcome(outcome) => self.take_outcome(outcome),
            Report::Kept(kept) => return vec![News::Kept(kept)],
            Report::Definitions(readings) => {
                let definitions = News::Definitions(readings);
                return match self.stage {
                    Stage::FirstPass | Stage::SecondPass => {
                        self.stage = Stage::Growing;
                        vec![definitions, News::Ended]
                    }
                    Stage::Reading(client) => vec![definitions, News::Reloaded(client)],
                    Stage::Idle | Stage::Preparing(_) | Stage::Growing | Stage::Defining(_) => {
                        vec![definitions]
                    }
                };
            }
            Report::ForThisBoot(reading) => {
                if let Stage::Defining(client) = self.stage {
                    self.stage = Stage::Idle;
                    return vec![News::ForThisBoot(client, reading)];
                }
            }
            Report::Growth(Ok(growth)) if growth.to > growth.from => {
                let note = format!(
                    "the file system was grown from {} to {} MiB",
                    growth.from >> 20,
                    growth.to >> 20
                );
                log!(Notice, "state: {note}");
                self.notes.push(note);
            }
            Report::Growth(Ok(_)) => {}
            Report::Growth(Err(error)) => {
                log!(Error, "state: {error}");
                self.notes.push(error);
            }
        }
        Vec::new()
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Mounted { device, notes } => {
                for note in &notes {
                    log!(Notice, "state: {note}");
                }
                self.notes.extend(notes);
                self.mounted = Mounted::Persistent { device };
            }
            Outcome::NeedsPreparation(preparation) => {
                log!(Notice, "state: {}", preparation.reason);
                self.stage = Stage::Preparing(preparation);
            }
            Outcome::Volatile { reasons } => {
                self.mounted = Mounted::Volatile;
                self.degrade(
                    "the state is volatile, and lost when the machine ends",
                    &reasons,
                );
            }
            Outcome::Failed { reasons } => self.degrade("there is no state", &reasons),
        }
    }

    fn degrade(&mut self, what: &str, reasons: &[String]) {
        let sentence = format!("{what}: {}", reasons.join("; "));
        log!(Error, "state: {sentence}");
        crate::console::say(&format!("wherry: {sentence}\n"));
        self.problems.push(sentence);
    }

    /// The child has ended; its last reports may still be in the pipe.
    pub fn job_ended(&mut self, exit: Exit, sources: &Sources) -> Vec<News> {
        let mut news = self.take_reports(sources);
        if let Some(job) = self.job.take() {
            job.unwatch(sources);
        }
        news.extend(self.end_stage(exit));
        news
    }

    fn end_stage(&mut self, exit: Exit) -> Option<News> {
        match std::mem::take(&mut self.stage) {
            Stage::Idle | Stage::Growing | Stage::Reading(_) => None,
            Stage::Defining(client) => {
                let reason = format!("the child that reads definitions {}", describe(exit));
                Some(News::Unread(client, reason))
            }
            Stage::Preparing(preparation) => {
                self.stage = Stage::Preparing(preparation.clone());
                Some(News::Prepare(preparation))
            }
            Stage::FirstPass | Stage::SecondPass => {
                if !exit.is_success() {
                    let reason = format!("the child that mounts it {}", describe(exit));
                    self.degrade("there is no state", &[reason]);
                }
                Some(News::Ended)
            }
        }
    }

    /// Ends the child at work, as far as it can be ended.
    pub fn cancel(&self) {
        if let Some(job) = &self.job {
            job.kill();
        }
    }

    /// Whether the container is at work or about to be, so that the service goes
    /// on when it ends.
    pub fn is_preparing(&self) -> bool {
        matches!(self.stage, Stage::Preparing(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preparation() -> Preparation {
        Preparation {
            disk: "/dev/vda".to_owned(),
            partition: None,
            full_check: false,
            reason: "missing".to_owned(),
        }
    }

    fn at(stage: Stage) -> StatePartition {
        StatePartition {
            stage,
            ..StatePartition::default()
        }
    }

    #[test]
    fn a_partition_that_is_mounted_ends_the_service_before_it_is_grown() {
        let mut state = at(Stage::FirstPass);
        let device = "/dev/vda6".to_owned();
        let notes = Vec::new();
        let mounted = Outcome::Mounted { device, notes };
        assert_eq!(state.take(Report::Outcome(mounted)), []);
        let news = state.take(Report::Definitions(Vec::new()));
        assert_eq!(news, [News::Definitions(Vec::new()), News::Ended]);
        assert!(state.is_busy(), "it may still be grown");
        assert_eq!(state.end_stage(Exit::Code(0)), None);
        assert!(!state.is_busy());
        assert_eq!(state.problems, Vec::<String>::new());
    }

    #[test]
    fn what_has_to_be_prepared_is_given_to_the_container_once_the_child_has_ended() {
        let mut state = at(Stage::FirstPass);
        state.take(Report::Outcome(Outcome::NeedsPreparation(preparation())));
        assert_eq!(state.disk(), Some(Path::new("/dev/vda")));
        let news = state.end_stage(Exit::Code(0));
        assert_eq!(news, Some(News::Prepare(preparation())));
        assert!(state.is_preparing());
    }

    #[test]
    fn a_child_that_dies_leaves_the_machine_degraded_and_the_service_ended() {
        for stage in [Stage::FirstPass, Stage::SecondPass] {
            let mut state = at(stage);
            assert_eq!(state.end_stage(Exit::Signal(9)), Some(News::Ended));
            assert_eq!(state.problems.len(), 1);
            assert!(
                state.problems[0].contains("SIGKILL"),
                "{:?}",
                state.problems
            );
        }
    }

    #[test]
    fn volatile_state_is_a_problem_that_is_told() {
        let mut state = at(Stage::SecondPass);
        let reasons = vec!["no disk".to_owned()];
        state.take(Report::Outcome(Outcome::Volatile { reasons }));
        assert_eq!(state.mounted, Mounted::Volatile);
        assert!(
            state.problems[0].ends_with("no disk"),
            "{:?}",
            state.problems
        );
    }

    #[test]
    fn a_reload_is_answered_after_its_definitions_and_never_ends_the_service() {
        let mut state = at(Stage::Reading(Some(7)));
        let news = state.take(Report::Definitions(Vec::new()));
        assert_eq!(
            news,
            [News::Definitions(Vec::new()), News::Reloaded(Some(7))]
        );
        assert_eq!(state.end_stage(Exit::Signal(9)), None);
        assert_eq!(state.problems, Vec::<String>::new());
    }
}
