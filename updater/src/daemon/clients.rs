//! Clients: their requests on the way in, replies on the way out.

use std::collections::BTreeMap;

use lifecycle::ClientId;
use tokio::sync::mpsc::UnboundedSender;
use updater_control::{Reply, Request};

use super::Daemon;
use crate::wire;

/// The clients that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Clients {
    waiting: BTreeMap<ClientId, UnboundedSender<Reply>>,
    asked: u64,
}

impl Clients {
    fn add(&mut self, answers: UnboundedSender<Reply>) -> ClientId {
        self.asked += 1;
        let client = ClientId(self.asked);
        self.waiting.insert(client, answers);
        client
    }

    pub(super) fn progress(&self, client: ClientId, progress: &lifecycle::Progress) {
        if let Some(answers) = self.waiting.get(&client) {
            // A client that disconnects stops nothing.
            let _ = answers.send(Reply::Progress(wire::progress(progress)));
        }
    }

    pub(super) fn answer(&mut self, client: ClientId, reply: lifecycle::Reply, notes: Vec<String>) {
        if let Some(answers) = self.waiting.remove(&client) {
            let _ = answers.send(wire::reply(reply, notes));
        }
    }
}

impl Daemon {
    /// Answers queries, and passes on requests that change something.
    pub(super) fn ask(&mut self, request: Request, answers: UnboundedSender<Reply>) {
        let asked = match request {
            Request::Status => {
                self.reload();
                let _ = answers.send(Reply::Status(Box::new(self.status())));
                return;
            }
            Request::History => {
                let records = self.history();
                let _ = answers.send(Reply::History { records });
                return;
            }
            Request::Check | Request::Apply { .. } | Request::RollBack { .. } => {
                self.reload();
                wire::request(request)
            }
            Request::Pin { .. } | Request::Unpin | Request::Hold { .. } | Request::Resume => {
                wire::request(request)
            }
        };
        match asked {
            Ok(Some(request)) => {
                let client = self.clients.add(answers);
                self.step(lifecycle::Event::Asked { client, request });
            }
            // Answered above.
            Ok(None) => {}
            Err(refusal) => drop(answers.send(Reply::Refused(refusal))),
        }
    }
}
