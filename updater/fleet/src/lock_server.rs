//! A FleetLock server with one group and a fixed number of slots.

use std::collections::BTreeSet;

use policy::{Answer, Endpoint, Request};

use crate::scenario::Moment;

/// The server.
#[derive(Debug)]
pub struct LockServer {
    slots: usize,
    down: Vec<(Moment, Moment)>,
    holders: BTreeSet<String>,
    /// Requests that it answered, and how many of them it refused.
    pub answered: u64,
    /// Requests for a slot while all were taken.
    pub refused: u64,
    /// Requests that came while it was down.
    pub unanswered: u64,
    /// Peak number of slots taken.
    pub most: usize,
}

impl LockServer {
    /// With all slots free.
    pub fn new(slots: usize, down: Vec<(Moment, Moment)>) -> Self {
        Self {
            slots,
            down,
            holders: BTreeSet::new(),
            answered: 0,
            refused: 0,
            unanswered: 0,
            most: 0,
        }
    }

    /// Slots taken.
    pub fn taken(&self) -> usize {
        self.holders.len()
    }

    /// Handles a request; `None`: it is down.
    pub fn serve(&mut self, now: Moment, request: &Request) -> Option<Answer> {
        if self
            .down
            .iter()
            .any(|(from, until)| *from <= now && now < *until)
        {
            self.unanswered += 1;
            return None;
        }
        self.answered += 1;
        let body: serde_json::Value = serde_json::from_str(&request.body()).unwrap_or_default();
        let Some(id) = body["client_params"]["id"].as_str() else {
            return Some(Answer::of(400, b""));
        };
        match request.endpoint {
            Endpoint::SteadyState => {
                self.holders.remove(id);
            }
            Endpoint::PreReboot if self.holders.contains(id) => {}
            Endpoint::PreReboot if self.holders.len() < self.slots => {
                self.holders.insert(id.to_owned());
                self.most = self.most.max(self.holders.len());
            }
            Endpoint::PreReboot => {
                self.refused += 1;
                let body =
                    br#"{"kind":"failed_lock_semaphore_full","value":"all slots are taken"}"#;
                return Some(Answer::of(409, body));
            }
        }
        Some(Answer::of(200, b""))
    }
}
