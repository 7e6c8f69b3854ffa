//! The client of a FleetLock server, which lets so many machines of a fleet
//! reboot at once as it has slots (the protocol of Zincati and Airlock).
//!
//! ```text
//!            Booted, nothing recorded
//!  ┌───────────────────────────────────▶ Steady ◀──────────────┐
//!  │                                       │ Wanted            │ 200
//!  │                                       ▼ record, ask       │
//!  │ Booted, recorded        200  ┌──── Asking ────┐ Unwanted  │
//!  └──▶ Holding ──┐      reboot ◀─┘    ▲     │ no  └──────▶ Releasing ─┐ no
//!                 │ Settled            └─────┘ wait            ▲ └─────┘ wait
//!                 └────────────────────────────────────────────┘
//! ```
//!
//! Invariant: whenever the server may hold a slot for this machine, the record on
//! the disk says so. The record is written before the first request, and erased
//! once the server has confirmed that it holds none. So a machine that
//! crashes at any point, or comes back with its old release, gives its slot back.
//!
//! After a boot the slot is kept until the machine has settled: blessed, or back
//! on its old release. A bad release so takes one slot for as long as it takes
//! the machine to fall back, and does not spread faster than that.
//!
//! No clock: [`Action::Wait`] asks for an [`Event::Tick`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The header, name and value, that each request must have: a server then knows
/// that no redirection led here. Redirections are not followed.
pub const HEADER: (&str, &str) = ("fleet-lock-protocol", "true");

/// After so many attempts a slot on a server that is no longer configured is
/// given up, if another server is to be asked.
const ABANDON: u32 = 5;

/// The first wait after a refusal, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(15);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A server, and the machine's identity there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client {
    /// The server's address without the protocol's paths.
    pub url: String,
    /// The machine's group.
    pub group: String,
    /// The machine's name.
    pub id: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// For a slot.
    PreReboot,
    /// To take the slot back.
    SteadyState,
}

/// A POST request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked.
    pub endpoint: Endpoint,
    /// Who asks.
    pub client: Client,
}

impl Request {
    /// Where it goes.
    pub fn url(&self) -> String {
        let path = match self.endpoint {
            Endpoint::PreReboot => "pre-reboot",
            Endpoint::SteadyState => "steady-state",
        };
        format!("{}/v1/{path}", self.client.url.trim_end_matches('/'))
    }

    /// Its JSON body.
    pub fn body(&self) -> String {
        serde_json::json!({
            "client_params": { "group": self.client.group, "id": self.client.id }
        })
        .to_string()
    }
}

/// The response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Status 200: it is done.
    Done,
    /// Any other: refused, for this reason.
    Refused(String),
    /// The server did not answer in time, or not at all, for this reason.
    None(String),
}

impl Answer {
    /// From a response; the body is only read for the reason.
    pub fn of(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Reason {
            kind: String,
            value: String,
        }
        if status == 200 {
            return Self::Done;
        }
        // A long text is not meant for people.
        let body = body.get(..4096).unwrap_or(body);
        Self::Refused(match serde_json::from_slice::<Reason>(body) {
            Ok(reason) => {
                let text: String = format!("{} ({})", reason.value, reason.kind)
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(300)
                    .collect();
                text
            }
            Err(_) => format!("status {status}"),
        })
    }
}

/// What happens to the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The daemon has started; `record` is what [`Action::Record`] last wrote.
    Booted {
        /// The record.
        record: Option<Client>,
    },
    /// What runs is good: blessed, or the old release. Said at each start of the
    /// daemon where it is so, and at each blessing.
    Settled,
    /// Everything else allows the reboot. `client` is from the configuration, `None`
    /// where it names no server. Said again, it changes nothing.
    Wanted {
        /// Who asks, and whom.
        client: Option<Client>,
        /// The operator's `--reboot now`: the server is informed, but cannot prevent it.
        force: bool,
    },
    /// The reboot is not wanted any more: the window has closed, the release was
    /// withdrawn, the reboot did not work.
    Unwanted,
    /// To the last request.
    Answered(Answer),
    /// The time of the last [`Action::Wait`] is over.
    Tick,
}

/// What the daemon does, in this order. What a [`Action::Record`] says is on the
/// disk before the next action begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write this down, or erase it.
    Record(Option<Client>),
    /// Send this and say what comes back.
    Send(Request),
    /// Say [`Event::Tick`] after this time, instead of any earlier such.
    Wait(Duration),
    /// Reboot now.
    Reboot,
}

/// The client's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No server holds a slot for us.
    Steady,
    /// One may, and keeps it until the machine has settled.
    Holding,
    /// One is being asked for a slot.
    Asking,
    /// One is being asked to take the slot back.
    Releasing,
    /// We hold the slot; the machine is about to reboot.
    Rebooting,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetLock {
    phase: Phase,
    /// Which server may hold a slot; as on the disk.
    record: Option<Client>,
    /// The reboot that is wanted, and which server to ask, if any.
    wanted: Option<Option<Client>>,
    /// Whether to reboot regardless of the answer.
    force: bool,
    /// A request is under way: until its answer no other is sent, or the server
    /// could see them in the wrong order.
    under_way: Option<Endpoint>,
    /// Attempts without success.
    attempts: u32,
    /// The server's last reason, for people.
    refusal: Option<String>,
}

impl Default for FleetLock {
    fn default() -> Self {
        Self {
            phase: Phase::Steady,
            record: None,
            wanted: None,
            force: false,
            under_way: None,
            attempts: 0,
            refusal: None,
        }
    }
}

impl FleetLock {
    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Why the server has not granted what it was last asked for.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Handles an event.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Booted { record } => {
                let phase = match record {
                    None => Phase::Steady,
                    Some(_) => Phase::Holding,
                };
                *self = Self {
                    phase,
                    record,
                    ..Self::default()
                };
                Vec::new()
            }
            Event::Settled => match self.phase {
                Phase::Holding => self.release(),
                Phase::Steady | Phase::Asking | Phase::Releasing | Phase::Rebooting => Vec::new(),
            },
            Event::Wanted { client, force } => self.want(client, force),
            Event::Unwanted => {
                self.wanted = None;
                self.force = false;
                match self.phase {
                    Phase::Asking | Phase::Rebooting => self.release(),
                    Phase::Steady | Phase::Holding | Phase::Releasing => Vec::new(),
                }
            }
            Event::Answered(answer) => self.answered(answer),
            Event::Tick if self.under_way.is_some() => Vec::new(),
            Event::Tick => match self.phase {
                Phase::Asking => self.ask(),
                Phase::Releasing => self.release(),
                Phase::Steady | Phase::Holding | Phase::Rebooting => Vec::new(),
            },
        }
    }

    fn want(&mut self, client: Option<Client>, force: bool) -> Vec<Action> {
        let news = self.wanted.as_ref() != Some(&client) || force && !self.force;
        self.wanted = Some(client);
        self.force |= force;
        if !news {
            return Vec::new();
        }
        match self.phase {
            Phase::Steady => self.ask(),
            // Asked at least once by now, so the server knows or does not answer.
            Phase::Holding | Phase::Asking | Phase::Releasing
                if self.needs_nobody() && self.under_way.is_none() =>
            {
                self.reboot()
            }
            Phase::Holding => self.ask(),
            // Another server than the one that is being asked.
            Phase::Asking if self.under_way.is_none() && self.elsewhere() => self.ask(),
            Phase::Asking | Phase::Releasing | Phase::Rebooting => Vec::new(),
        }
    }

    fn answered(&mut self, answer: Answer) -> Vec<Action> {
        let Some(endpoint) = self.under_way.take() else {
            return Vec::new();
        };
        let done = match answer {
            Answer::Done => {
                self.refusal = None;
                true
            }
            Answer::Refused(why) | Answer::None(why) => {
                self.refusal = Some(why);
                false
            }
        };
        match (&self.phase, endpoint) {
            (Phase::Asking, _) if self.needs_nobody() => self.reboot(),
            (Phase::Asking, _) if self.elsewhere() => self.ask(),
            (Phase::Asking, _) if done => self.reboot(),
            (Phase::Asking, _) => self.wait(),
            // The reboot was cancelled in the meantime.
            (Phase::Releasing, Endpoint::PreReboot) => self.release(),
            (Phase::Releasing, Endpoint::SteadyState) if done => self.released(),
            (Phase::Releasing, Endpoint::SteadyState) if self.needs_nobody() => self.reboot(),
            (Phase::Releasing, Endpoint::SteadyState) if self.abandons() => self.released(),
            (Phase::Releasing, Endpoint::SteadyState) => self.wait(),
            // No request is under way in these.
            (Phase::Steady | Phase::Holding | Phase::Rebooting, _) => Vec::new(),
        }
    }

    /// Asks for a slot where one is needed.
    fn ask(&mut self) -> Vec<Action> {
        let Some(wanted) = self.wanted.clone() else {
            return self.release();
        };
        let Some(client) = wanted else {
            return self.reboot();
        };
        if self.record.as_ref().is_some_and(|held| *held != client) {
            return self.release();
        }
        let mut actions = Vec::new();
        if self.phase != Phase::Asking {
            self.attempts = 0;
        }
        self.phase = Phase::Asking;
        if self.record.is_none() {
            self.record = Some(client.clone());
            actions.push(Action::Record(self.record.clone()));
        }
        actions.extend(self.send(Endpoint::PreReboot, client));
        actions
    }

    /// Gives the slot back.
    fn release(&mut self) -> Vec<Action> {
        let Some(client) = self.record.clone() else {
            self.phase = Phase::Steady;
            return Vec::new();
        };
        if self.phase != Phase::Releasing {
            self.attempts = 0;
        }
        self.phase = Phase::Releasing;
        self.send(Endpoint::SteadyState, client)
    }

    fn released(&mut self) -> Vec<Action> {
        self.phase = Phase::Steady;
        self.record = None;
        self.attempts = 0;
        let mut actions = vec![Action::Record(None)];
        if self.wanted.is_some() {
            actions.extend(self.ask());
        }
        actions
    }

    fn reboot(&mut self) -> Vec<Action> {
        self.phase = Phase::Rebooting;
        vec![Action::Reboot]
    }

    fn send(&mut self, endpoint: Endpoint, client: Client) -> Vec<Action> {
        if self.under_way.is_some() {
            return Vec::new();
        }
        self.under_way = Some(endpoint);
        vec![Action::Send(Request { endpoint, client })]
    }

    /// Whether the slot of a server that is not configured any more is given up.
    fn abandons(&self) -> bool {
        self.elsewhere() && self.attempts + 1 >= ABANDON
    }

    /// Whether the reboot depends on no server: the operator does not wait for one,
    /// or none is configured any more. The previous one gets its slot back later.
    fn needs_nobody(&self) -> bool {
        self.force || self.wanted == Some(None)
    }

    /// Whether a slot is wanted of another server than the recorded one.
    fn elsewhere(&self) -> bool {
        self.wanted.is_some() && self.wanted.as_ref() != Some(&self.record)
    }

    fn wait(&mut self) -> Vec<Action> {
        let longest = LONGEST_WAIT.as_millis() / FIRST_WAIT.as_millis();
        let doublings = self.attempts.min(longest.ilog2() + 1);
        // Beyond this the wait is the same, and so is the state.
        self.attempts = (self.attempts + 1).min(ABANDON.max(longest.ilog2() + 1));
        let wait = (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT);
        vec![Action::Wait(wait * 3 / 4 + self.own_part(wait / 2))]
    }

    /// This machine's part of the time at this attempt, so that a refused fleet does
    /// not retry all at once.
    fn own_part(&self, whole: Duration) -> Duration {
        let id = self.record.as_ref().map_or("", |client| &client.id);
        let sum = Sha256::new()
            .chain_update(id)
            .chain_update(self.attempts.to_be_bytes())
            .finalize();
        whole * u32::from(sum[0]) / 255
    }
}

#[cfg(test)]
mod tests;
