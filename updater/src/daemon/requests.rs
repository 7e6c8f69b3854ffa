//! What clients ask for.

use jiff::Timestamp;
use policy::{Hold, Wish};
use release::Version;
use tokio::sync::mpsc::UnboundedSender;
use updater_control::{Phase, Reboot, Refusal, Reply, Request};

use super::{Daemon, Purpose, now};
use crate::install::Extent;
use crate::say::{self, Level};
use crate::worker::Order;

impl Daemon {
    /// Takes up the next request that had to wait.
    pub(super) fn answer_waiting(&mut self) {
        if self.job.is_none()
            && self.queue.is_empty()
            && let Some((request, answers)) = self.waiting.pop_front()
        {
            self.answer(request, answers);
        }
    }

    /// Whether a request waits until what is under way is over: what nobody asked
    /// for and is soon done is no reason to send a client away.
    fn has_to_wait(&self) -> bool {
        let is_short = |job: &super::Job| {
            job.client.is_none()
                && matches!(
                    job.progress.phase,
                    Phase::Idle | Phase::Checking | Phase::Switching
                )
        };
        match &self.job {
            Some(job) => is_short(job),
            None => !self.queue.is_empty() && !self.rebooting,
        }
    }

    /// Answers a request, at once or when it is done.
    pub(super) fn answer(&mut self, request: Request, answers: UnboundedSender<Reply>) {
        let is_long = matches!(
            request,
            Request::Check | Request::Apply { .. } | Request::RollBack { .. }
        );
        if is_long && self.has_to_wait() {
            return self.waiting.push_back((request, answers));
        }
        let reply = match request {
            Request::Status => {
                self.reload();
                Some(Reply::Status(Box::new(self.status())))
            }
            Request::History => Some(Reply::History {
                records: self.history(),
            }),
            Request::Pin { version } => Some(self.pin(&version)),
            Request::Unpin => {
                self.keeper.record.standing.pin = None;
                self.next_check = now();
                Some(self.kept("unpinned", "what the channel offers is taken"))
            }
            Request::Hold { until, because } => Some(self.hold(until, because)),
            Request::Resume => {
                self.keeper.record.standing.hold = None;
                self.next_check = now();
                self.reboot_again = None;
                Some(self.kept("resumed", "the hold is over"))
            }
            Request::Check | Request::Apply { .. } | Request::RollBack { .. } => {
                self.begin_for(request, &answers).err().map(Reply::Refused)
            }
        };
        if let Some(reply) = reply {
            let _ = answers.send(reply);
        }
    }

    fn begin_for(
        &mut self,
        request: Request,
        answers: &UnboundedSender<Reply>,
    ) -> Result<(), Refusal> {
        if let Some(job) = &self.job {
            return Err(Refusal::Busy {
                doing: job.progress.phase.as_str().to_owned(),
            });
        }
        if !self.judged {
            return Err(Refusal::Busy {
                doing: "starting".to_owned(),
            });
        }
        if self.rebooting {
            return Err(Refusal::Declined {
                message: "the machine is restarting".to_owned(),
            });
        }
        self.reload();
        let client = Some(answers.clone());
        match request {
            Request::Apply {
                version,
                reboot,
                allow_downgrade,
            } => self.apply(version, reboot, allow_downgrade, client),
            Request::RollBack { reboot } => {
                self.begin(Purpose::RollBack { reboot }, Order::RollBack, client);
                Ok(())
            }
            _ => {
                let order = Order::Check(Box::new(self.asking()));
                self.begin(Purpose::Check, order, client);
                Ok(())
            }
        }
    }

    fn apply(
        &mut self,
        version: Option<String>,
        reboot: Reboot,
        allow_downgrade: bool,
        client: Option<UnboundedSender<Reply>>,
    ) -> Result<(), Refusal> {
        let version = version.map(|text| parse(&text)).transpose()?;
        let standing = &mut self.keeper.record.standing;
        let running = &standing.running;
        if let Some(version) = &version
            && version < running
            && !allow_downgrade
        {
            return Err(Refusal::Declined {
                message: format!(
                    "{version} is older than {running}, which runs; --allow-downgrade takes it \
                     all the same"
                ),
            });
        }
        standing.wish = Some(Wish {
            version,
            allow_downgrade,
            now: false,
        });
        // Whoever restarts by hand wants it known to the loader at once. Also
        // `now` can be put off, by a lock of other software.
        let extent = match reboot {
            Reboot::Policy | Reboot::Now => Extent::Staged,
            Reboot::Never => Extent::Published,
        };
        let asking = Box::new(self.asking());
        let order = Order::Update { asking, extent };
        self.begin(Purpose::Update { reboot }, order, client);
        Ok(())
    }

    fn pin(&mut self, version: &str) -> Reply {
        match parse(version) {
            Ok(version) => {
                let message = format!("only {version} is taken");
                self.keeper.record.standing.pin = Some(version);
                self.next_check = now();
                self.kept("pinned", &message)
            }
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn hold(&mut self, until: Option<String>, because: String) -> Reply {
        let until = match until.map(|text| text.parse::<Timestamp>()).transpose() {
            Ok(until) => until,
            Err(error) => {
                return Reply::Refused(Refusal::Malformed {
                    message: format!("the end of the hold: {error}"),
                });
            }
        };
        let hold = Hold {
            since: Timestamp::now(),
            until,
            reason: Some(because).filter(|because| !because.is_empty()),
        };
        let message = hold.to_string();
        self.keeper.record.standing.hold = Some(hold);
        self.reboot_again = None;
        self.kept("held", &message)
    }

    /// Writes the record, and tells the client what that did not achieve.
    fn kept(&mut self, event: &str, message: &str) -> Reply {
        say::event(Level::Notice, event, &[], message);
        self.save();
        let notes = self.keeper.problem.clone().into_iter().collect();
        Reply::Done { notes }
    }
}

fn parse(text: &str) -> Result<Version, Refusal> {
    text.parse()
        .map_err(|error: release::VersionError| Refusal::Malformed {
            message: error.to_string(),
        })
}
