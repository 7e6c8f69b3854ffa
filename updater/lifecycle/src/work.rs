//! What the worker does: one task at a time, the others in a queue.

use std::collections::VecDeque;

use release::{Manifest, RootHash};
use slots::Tries;

use crate::event::{ClientId, Phase, Progress, RestartWhen};

/// Something for the worker, with what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task {
    Look,
    Check,
    Update { restart: RestartWhen },
    Repair(RootHash),
    Publish(Box<Manifest>),
    Withdraw,
    Bless,
    RollBack { restart: RestartWhen },
    Credit(Tries),
    Examine(RootHash),
}

impl Task {
    /// The phase that it begins with.
    fn phase(&self) -> Phase {
        match self {
            Self::Look => Phase::Idle,
            Self::Check | Self::Update { .. } | Self::Repair(_) => Phase::Checking,
            Self::Examine(_) => Phase::Proving,
            Self::Publish(_)
            | Self::Withdraw
            | Self::Bless
            | Self::RollBack { .. }
            | Self::Credit(_) => Phase::Switching,
        }
    }
}

/// A task that the worker has.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) task: Task,
    pub(crate) progress: Progress,
    /// Who waits for it.
    pub(crate) client: Option<ClientId>,
}

impl Job {
    /// Whether nobody asked for it and it is soon done.
    fn is_short(&self) -> bool {
        self.client.is_none()
            && match self.progress.phase {
                Phase::Idle | Phase::Checking | Phase::Switching => true,
                Phase::Preparing | Phase::Writing | Phase::Proving | Phase::FetchingKernel => false,
            }
    }
}

/// What the worker has, and what it gets next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    job: Option<Job>,
    queue: VecDeque<Task>,
}

impl Work {
    /// Whether nothing is done, and nothing is left to be done.
    pub(crate) fn is_idle(&self) -> bool {
        self.job.is_none() && self.queue.is_empty()
    }

    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.job.as_ref().map(|job| &job.progress)
    }

    pub(crate) fn set_progress(&mut self, progress: Progress) {
        if let Some(job) = &mut self.job {
            job.progress = progress;
        }
    }

    pub(crate) fn client(&self) -> Option<ClientId> {
        self.job.as_ref()?.client
    }

    /// Whether a client's request waits for what is under way: work that nobody
    /// asked for is no reason to send a client away.
    pub(crate) fn is_worth_waiting_for(&self) -> bool {
        match &self.job {
            Some(job) => job.is_short(),
            None => !self.queue.is_empty(),
        }
    }

    /// Comes after all that is there.
    pub(crate) fn add(&mut self, task: Task) {
        self.queue.push_back(task);
    }

    /// What comes next, unless the worker is busy.
    pub(crate) fn take_next(&mut self) -> Option<Task> {
        match self.job {
            Some(_) => None,
            None => self.queue.pop_front(),
        }
    }

    /// The worker, which was not busy, has a task.
    pub(crate) fn begin(&mut self, task: Task, client: Option<ClientId>) {
        self.job = Some(Job {
            progress: Progress::begun(task.phase()),
            task,
            client,
        });
    }

    /// The worker has ended its task.
    pub(crate) fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }
}
