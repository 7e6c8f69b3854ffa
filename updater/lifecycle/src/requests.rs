//! What clients ask for. Each request is answered once: at once, when the task
//! that it begins has ended, or after the work that it waits for.

use policy::{Hold, Wish};
use release::Version;

use crate::action::{Action, Notice, Refusal, Reply};
use crate::event::{ClientId, Now, Request, RestartWhen};
use crate::lifecycle::Lifecycle;
use crate::work::Task;

impl Lifecycle {
    /// Takes up the requests that had to wait.
    pub(crate) fn answer_waiting(&mut self, now: Now) {
        while self.running.is_known()
            && self.work.is_idle()
            && let Some((client, request)) = self.waiting.pop_front()
        {
            self.asked(now, client, request);
        }
    }

    fn has_to_wait(&self) -> bool {
        !self.running.is_known()
            || (self.work.is_worth_waiting_for() && !self.restart.is_under_way())
    }

    /// Answers a request, at once or when it is done.
    pub(crate) fn asked(&mut self, now: Now, client: ClientId, request: Request) {
        let reply = match request {
            Request::Check | Request::Apply { .. } | Request::RollBack { .. } => {
                if self.has_to_wait() {
                    return self.waiting.push_back((client, request));
                }
                match self.task_for(request) {
                    Ok(task) => return self.begin(task, Some(client)),
                    Err(refusal) => Reply::Refused(refusal),
                }
            }
            Request::Pin(version) => {
                self.record.standing.pin = Some(version.clone());
                self.next_check = now.boot;
                self.log(Notice::Pinned(version));
                Reply::Done
            }
            Request::Unpin => {
                self.record.standing.pin = None;
                self.next_check = now.boot;
                self.log(Notice::Unpinned);
                Reply::Done
            }
            Request::Hold { until, reason } => {
                let hold = Hold {
                    since: now.clock,
                    until,
                    reason,
                };
                self.record.standing.hold = Some(hold.clone());
                self.restart.reconsider();
                self.log(Notice::Held(hold));
                Reply::Done
            }
            Request::Resume => {
                self.record.standing.hold = None;
                self.next_check = now.boot;
                self.restart.reconsider();
                self.log(Notice::Resumed);
                Reply::Done
            }
        };
        self.act(Action::Answer(client, reply));
    }

    /// The task for a request that takes one.
    fn task_for(&mut self, request: Request) -> Result<Task, Refusal> {
        if let Some(progress) = self.work.progress() {
            return Err(Refusal::Busy(progress.phase));
        }
        if self.restart.is_under_way() || self.running.is_given_up() {
            return Err(Refusal::Declined("the machine is restarting".to_owned()));
        }
        match request {
            Request::Apply {
                version,
                restart,
                allow_downgrade,
            } => self.apply(version, restart, allow_downgrade),
            Request::RollBack { restart } => Ok(Task::RollBack { restart }),
            Request::Check
            | Request::Pin(_)
            | Request::Unpin
            | Request::Hold { .. }
            | Request::Resume => Ok(Task::Check),
        }
    }

    fn apply(
        &mut self,
        version: Option<Version>,
        restart: RestartWhen,
        allow_downgrade: bool,
    ) -> Result<Task, Refusal> {
        let standing = &mut self.record.standing;
        let running = &standing.running;
        if let Some(version) = &version
            && version < running
            && !allow_downgrade
        {
            return Err(Refusal::Declined(format!(
                "{version} is older than {running}, which runs; --allow-downgrade takes it anyway"
            )));
        }
        standing.wish = Some(Wish {
            version,
            allow_downgrade,
            now: false,
        });
        Ok(Task::Update { restart })
    }
}
