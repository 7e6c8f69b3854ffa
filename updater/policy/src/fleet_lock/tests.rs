//! The client is walked through with every answer a server can give, and with a
//! crash after each action.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::*;

fn client(server: u8) -> Client {
    Client {
        url: format!("http://server{server}"),
        group: "default".to_owned(),
        id: "me".to_owned(),
    }
}

/// The world around one client: the disk, one or two servers, the shell.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    client: FleetLock,
    /// What the disk says.
    record: Option<Client>,
    /// The servers that hold a slot for the client.
    held: BTreeSet<u8>,
    /// Actions not done yet.
    todo: VecDeque<Action>,
    /// The request under way.
    asked: Option<Request>,
    timer: bool,
    /// What the machine's state and its operator say.
    settled: bool,
    wants: Option<(Option<u8>, bool)>,
    /// The daemon runs. After a reboot or crash it does not.
    up: bool,
}

fn server(client: &Client) -> u8 {
    if client.url.ends_with('1') { 1 } else { 2 }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            client: FleetLock::default(),
            record: None,
            held: BTreeSet::new(),
            todo: VecDeque::new(),
            asked: None,
            timer: false,
            settled: true,
            wants: None,
            up: false,
        };
        world.boot();
        world
    }

    fn tell(&mut self, event: Event) {
        // The shell performs all actions before it sends the next event.
        assert!(self.todo.is_empty());
        self.todo.extend(self.client.step(event));
    }

    fn boot(&mut self) {
        self.up = true;
        let record = self.record.clone();
        self.tell(Event::Booted { record });
    }

    /// The daemon is gone, whatever it was about to do.
    fn crash(&mut self, settled: bool) {
        self.todo.clear();
        self.asked = None;
        self.timer = false;
        self.wants = None;
        self.settled = settled;
        self.up = false;
        self.client = FleetLock::default();
    }

    /// The server has worked on the request; whether the answer arrives is
    /// another question.
    fn serve(&mut self, free: bool) -> Answer {
        let request = self.asked.clone().unwrap();
        let server = server(&request.client);
        match request.endpoint {
            Endpoint::PreReboot if free || self.held.contains(&server) => {
                self.held.insert(server);
                Answer::Done
            }
            Endpoint::PreReboot => Answer::Refused("full".to_owned()),
            Endpoint::SteadyState => {
                self.held.remove(&server);
                Answer::Done
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.asked = None;
        self.tell(Event::Answered(answer));
    }

    /// Does the first action; `Some` where it is a reboot that was allowed.
    fn act(&mut self) {
        match self.todo.pop_front().unwrap() {
            Action::Record(record) => self.record = record,
            Action::Send(request) => {
                assert_eq!(self.asked, None, "one request at a time");
                self.asked = Some(request);
                self.timer = false;
            }
            Action::Wait(time) => {
                assert!(time >= Duration::from_secs(10) && time <= Duration::from_secs(400));
                self.timer = true;
            }
            Action::Reboot => {
                let (server, force) = self.wants.expect("this reboot is not wanted");
                let held = server.is_none_or(|server| self.held.contains(&server));
                assert!(held || force, "rebooted without a slot");
                self.crash(false);
            }
        }
    }

    fn check(&self) {
        for held in &self.held {
            // What a server holds that the configuration does not name any more
            // is given up in the end; `abandoned` says when.
            assert!(
                self.record.as_ref().map(server) == Some(*held),
                "server {held} holds a slot that is not recorded"
            );
        }
    }

    /// All worlds that may follow.
    fn next(&self, servers: &[u8]) -> Vec<World> {
        let mut next = Vec::new();
        let mut with = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            next.push(world);
        };
        if !self.up {
            with(&|world| world.boot());
            return next;
        }
        // A crash at any point; the new release or the old one comes up.
        for settled in [false, true] {
            with(&|world| world.crash(settled));
        }
        if self.asked.is_some() {
            for free in [false, true] {
                // A crash, or no answer, when the server has done it already.
                with(&|world| {
                    world.serve(free);
                    world.crash(true);
                });
            }
        }
        if !self.todo.is_empty() {
            with(&|world| world.act());
            return next;
        }
        if self.asked.is_some() {
            for free in [false, true] {
                with(&|world| {
                    let answer = world.serve(free);
                    world.answer(answer);
                });
                with(&|world| {
                    world.serve(free);
                    world.answer(Answer::None("silence".to_owned()));
                });
            }
            with(&|world| world.answer(Answer::None("silence".to_owned())));
            with(&|world| world.answer(Answer::Refused("no".to_owned())));
        }
        if self.timer {
            with(&|world| {
                world.timer = false;
                world.tell(Event::Tick);
            });
        }
        with(&|world| {
            world.settled = true;
            world.tell(Event::Settled);
        });
        for server in servers.iter().map(|server| Some(*server)).chain([None]) {
            for force in [false, true] {
                with(&|world| {
                    let was_forced = world.wants.is_some_and(|(_, force)| force);
                    world.wants = Some((server, force || was_forced));
                    world.tell(Event::Wanted {
                        client: server.map(client),
                        force,
                    });
                });
            }
        }
        with(&|world| {
            world.wants = None;
            world.tell(Event::Unwanted);
        });
        next
    }

    /// With a good server, no crash and nobody who wants a reboot, the slot is
    /// given back and the disk says so.
    fn converges(mut self) {
        if !self.up {
            self.boot();
        }
        for _ in 0..50 {
            if !self.todo.is_empty() {
                self.act();
                if !self.up {
                    self.boot();
                }
            } else if self.asked.is_some() {
                let answer = self.serve(true);
                self.answer(answer);
            } else if self.timer {
                self.timer = false;
                self.tell(Event::Tick);
            } else if self.wants.is_some() {
                self.wants = None;
                self.tell(Event::Unwanted);
            } else if *self.client.phase() == Phase::Steady {
                assert_eq!(self.record, None);
                assert!(self.held.is_empty());
                return;
            } else {
                self.tell(Event::Settled);
            }
        }
        panic!("does not come to rest: {:?}", self.client);
    }

    /// A machine that may reboot does, once the server answers.
    fn reboots(mut self, server: u8) {
        if !self.up {
            self.boot();
        }
        for _ in 0..80 {
            if !self.todo.is_empty() {
                self.act();
                if !self.up {
                    return;
                }
            } else if self.asked.is_some() {
                let answer = self.serve(true);
                self.answer(answer);
            } else if self.timer {
                self.timer = false;
                self.tell(Event::Tick);
            } else {
                self.wants = Some((Some(server), false));
                self.tell(Event::Wanted {
                    client: Some(client(server)),
                    force: false,
                });
            }
        }
        panic!("never reboots: {:?}", self.client);
    }
}

fn explore(servers: &[u8], mut each: impl FnMut(&World)) -> usize {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([World::new()]);
    seen.insert(World::new());
    while let Some(world) = queue.pop_front() {
        each(&world);
        for next in world.next(servers) {
            if !seen.contains(&next) {
                seen.insert(next.clone());
                queue.push_back(next);
            }
        }
    }
    seen.len()
}

#[test]
fn with_a_crash_anywhere_a_held_slot_is_remembered_and_comes_back() {
    let states = explore(&[1], |world| {
        world.check();
        world.clone().converges();
        world.clone().reboots(1);
    });
    println!("{states} states");
    assert!(states > 300, "{states}");
}

#[test]
fn a_server_that_is_configured_instead_is_asked_although_the_old_one_is_dead() {
    let mut states = HashMap::new();
    let count = explore(&[1, 2], |world| {
        *states.entry(world.client.phase().clone()).or_insert(0) += 1;
        world.clone().reboots(2);
    });
    println!("{count} states: {states:?}");
    assert!(count > 500, "{count}");

    // The old one never answers.
    let mut lock = FleetLock::default();
    lock.step(Event::Booted {
        record: Some(client(1)),
    });
    let mut actions = lock.step(Event::Settled);
    lock.step(Event::Wanted {
        client: Some(client(2)),
        force: false,
    });
    let mut asked = 0;
    while let Some(action) = actions.pop() {
        match action {
            Action::Send(request) if request.client == client(1) => {
                asked += 1;
                actions = lock.step(Event::Answered(Answer::None("dead".to_owned())));
            }
            Action::Send(request) => {
                assert_eq!(request.endpoint, Endpoint::PreReboot);
                actions = lock.step(Event::Answered(Answer::Done));
            }
            Action::Wait(_) => actions = lock.step(Event::Tick),
            Action::Reboot => {
                assert_eq!(asked, ABANDON);
                return;
            }
            Action::Record(_) => {}
        }
    }
    panic!("never rebooted");
}

#[test]
fn a_server_that_does_not_answer_blocks_the_reboot_but_not_the_operator() {
    let mut lock = FleetLock::default();
    let mut waits = Vec::new();
    let mut actions = lock.step(Event::Wanted {
        client: Some(client(1)),
        force: false,
    });
    assert_eq!(actions[0], Action::Record(Some(client(1))));
    for _ in 0..20 {
        match actions.pop() {
            Some(Action::Send(_)) => {
                actions = lock.step(Event::Answered(Answer::None("timed out".to_owned())));
            }
            Some(Action::Wait(time)) => {
                waits.push(time);
                actions = lock.step(Event::Tick);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(waits[0] < Duration::from_secs(20), "{waits:?}");
    assert!(waits[9] > Duration::from_secs(200), "{waits:?}");
    assert_eq!(lock.refusal(), Some("timed out"));
    lock.step(Event::Answered(Answer::None("timed out".to_owned())));
    let forced = lock.step(Event::Wanted {
        client: Some(client(1)),
        force: true,
    });
    assert_eq!(forced, [Action::Reboot]);
}

#[test]
fn the_operator_who_does_not_wait_still_tells_the_server() {
    let mut lock = FleetLock::default();
    let actions = lock.step(Event::Wanted {
        client: Some(client(1)),
        force: true,
    });
    assert_eq!(actions.len(), 2);
    assert!(
        matches!(&actions[1], Action::Send(request) if request.endpoint == Endpoint::PreReboot)
    );
    let after = lock.step(Event::Answered(Answer::Refused("full".to_owned())));
    assert_eq!(after, [Action::Reboot]);
}

#[test]
fn requests_are_as_the_protocol_has_them() {
    let mut request = Request {
        endpoint: Endpoint::PreReboot,
        client: Client {
            url: "https://example.com/base/".to_owned(),
            group: "workers".to_owned(),
            id: "a \"b\"".to_owned(),
        },
    };
    assert_eq!(request.url(), "https://example.com/base/v1/pre-reboot");
    assert_eq!(
        request.body(),
        r#"{"client_params":{"group":"workers","id":"a \"b\""}}"#
    );
    request.endpoint = Endpoint::SteadyState;
    assert_eq!(request.url(), "https://example.com/base/v1/steady-state");
}

#[test]
fn a_refusal_says_why_in_the_server_s_words() {
    let body = br#"{"kind":"failed_lock_semaphore_full","value":"all slots are\u0007 taken"}"#;
    assert_eq!(
        Answer::of(409, body),
        Answer::Refused("all slots are taken (failed_lock_semaphore_full)".to_owned())
    );
    assert_eq!(Answer::of(200, b"anything"), Answer::Done);
    for status in [201, 204, 302, 500] {
        assert_eq!(
            Answer::of(status, b"<html>"),
            Answer::Refused(format!("status {status}"))
        );
    }
}
