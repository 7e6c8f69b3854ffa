//! A machine, its disk, its servers and its operator, and all that can happen to
//! them next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use policy::{Choice as PolicyChoice, Client, Config, Endpoint, MachineId, Mode};
use release::{Artifact, Channel, Manifest, Offer, Sha256Sum, VerityParameters};
use slots::Goal;

use super::disk::{Disk, hash, number, version};
use crate::action::{Action, Asking, Extent, Order};
use crate::decision::Decision;
use crate::event::{
    ClientId, Done, Event, Failed, Machine, News, Now, Phase, Progress, Request, RestartWhen,
    Spent, Traces,
};
use crate::health::Condition;
use crate::lifecycle::Lifecycle;
use crate::record::Record;

/// What can happen, and how often in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rare {
    /// Time passes while somebody owes an answer.
    Stall,
    /// The disk cannot be read.
    Unreadable,
    /// A client asks.
    Ask,
    /// A service fails, or comes back.
    Service,
    /// Software on the machine takes or leaves a lock.
    Lock,
    /// The channel changes.
    Channel,
    /// The worker fails.
    Failure,
    /// A server or PID 1 says no, or nothing.
    Refusal,
    /// The process dies and is started again.
    Crash,
    /// The power goes.
    PowerCut,
    /// The operator restarts the machine.
    Order,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Nothing until the next deadline.
    Wait,
    Ask(Request),
    Service(Condition),
    Lock(bool),
    Channel(Vec<(u8, bool)>),
    /// The worker has come to its longest phase.
    Writing,
    WorkerDone,
    WorkerFailed,
    /// The worker has looked for the disk and does not see it.
    NoDisk,
    LockAnswer(bool),
    RestartAnswer(bool),
    ConfirmAnswer(bool),
    Crash,
    PowerCut,
    /// PID 1 stops the machine.
    Stop,
}

/// What PID 1 is being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pid1 {
    pub restart: bool,
    pub confirm: bool,
    /// It has accepted the restart.
    pub stops: bool,
}

/// What has happened in this boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The release was given up.
    pub given_up: bool,
    /// It was blessed, or PID 1 was told that it works.
    pub confirmed: bool,
    /// PID 1 knows that it works.
    pub known: bool,
    /// It was on trial when the boot began.
    pub on_trial: bool,
}

/// What does not change while the machine lives.
#[derive(Clone, Debug)]
pub struct Setup {
    pub config: Config,
    /// What clients ask.
    pub requests: Vec<Request>,
    /// What the channel may come to offer: releases, and whether they are halted.
    pub channels: Vec<Vec<(u8, bool)>>,
    /// A release that never comes up; 0: none.
    pub broken: u8,
    /// How often the rare things happen.
    pub budget: BTreeMap<Rare, u8>,
}

#[derive(Clone, Debug)]
pub struct World {
    pub now: Now,
    pub core: Lifecycle,
    /// The record on the disk.
    pub saved: Record,
    pub disk: Disk,
    /// What the worker does.
    pub order: Option<Order>,
    /// What the FleetLock server is being asked.
    pub lock_request: Option<Endpoint>,
    /// Whether it holds a slot for the machine.
    pub lock_slot: bool,
    pub pid1: Pid1,
    /// Clients that have no answer yet.
    pub clients: BTreeSet<ClientId>,
    pub service: Condition,
    pub locked: bool,
    pub channel: Vec<(u8, bool)>,
    pub boot: Boot,
    boots: u8,
    setup: std::rc::Rc<Setup>,
    pub budget: BTreeMap<Rare, u8>,
}

pub fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// A configuration in which times do not matter more than they must.
pub fn config(mode: Mode) -> Config {
    Config {
        repositories: vec!["https://updates.example.org".to_owned()],
        mode,
        check_interval: minutes(60),
        health_time: minutes(2),
        health_limit: minutes(10),
        reboot_delay: Duration::ZERO,
        reboot_spread: Duration::ZERO,
        ..Config::default()
    }
}

fn manifest(n: u8) -> Manifest {
    let artifact = || Artifact {
        path: String::new(),
        length: 1,
        sha256: Sha256Sum([n; 32]),
    };
    Manifest {
        version: version(n),
        root_hash: hash(n),
        verity: VerityParameters {
            salt: Vec::new(),
            uuid: [0; 16],
            data_blocks: 1,
        },
        root: artifact(),
        root_index: artifact(),
        tree: artifact(),
        uki: artifact(),
        uki_index: artifact(),
        loader: artifact(),
        loader_version: "257".parse().unwrap(),
        min_version: None,
        sbom: artifact(),
        disk: artifact(),
        notes: String::new(),
        published: String::new(),
    }
}

fn channel(offers: &[(u8, bool)]) -> Channel {
    Channel {
        format: 1,
        name: "stable".to_owned(),
        mirrors: Vec::new(),
        offers: offers
            .iter()
            .map(|(n, is_halted)| Offer {
                manifest: manifest(*n),
                waves: Vec::new(),
                halted: is_halted.then(|| "it eats disks".to_owned()),
            })
            .collect(),
    }
}

impl World {
    /// The process starts on this disk; the channel offers the first of the
    /// setup's.
    pub fn new(setup: Setup, disk: Disk) -> Self {
        let now = Now {
            boot: Duration::from_secs(5),
            clock: "2026-11-21T10:00:00Z".parse().unwrap(),
        };
        let record = Record::new(version(disk.booted()));
        let mut world = Self {
            now,
            core: start(now, &disk, &setup.config, record.clone(), 0),
            saved: record,
            boot: Boot::default(),
            disk,
            order: None,
            lock_request: None,
            lock_slot: false,
            pid1: Pid1::default(),
            clients: BTreeSet::new(),
            service: Condition::Well,
            locked: false,
            channel: setup.channels[0].clone(),
            boots: 0,
            budget: setup.budget.clone(),
            setup: std::rc::Rc::new(setup),
        };
        world.begin_process();
        world
    }

    pub fn config(&self) -> &Config {
        &self.setup.config
    }

    /// The process has started: PID 1 reports the service.
    fn begin_process(&mut self) {
        self.boot.on_trial |= self.disk.is_on_trial();
        let condition = self.service.clone();
        let name = "web".to_owned();
        self.core.step(self.now, Event::Locks(self.lock_files()));
        self.step(Event::Service { name, condition })
            .unwrap_or_else(|law| panic!("{law}, at the start"));
    }

    fn restart_process(&mut self) {
        self.order = None;
        self.lock_request = None;
        self.pid1.restart = false;
        self.pid1.confirm = false;
        self.clients.clear();
        self.disk.forget_proofs();
        self.core = start(
            self.now,
            &self.disk,
            self.config(),
            self.saved.clone(),
            self.boots,
        );
        self.begin_process();
    }

    fn boot_machine(&mut self) {
        self.disk.boot(self.setup.broken);
        self.boots += 1;
        self.pid1 = Pid1::default();
        self.boot = Boot::default();
        self.now.boot = Duration::from_secs(5);
        self.service = Condition::Well;
        self.locked = false;
        self.restart_process();
    }

    /// Whether worker, PID 1 or a server has been asked and not answered.
    fn is_answer_due(&self) -> bool {
        self.order.is_some()
            || self.lock_request.is_some()
            || self.pid1.restart
            || self.pid1.confirm
            || self.pid1.stops
    }

    /// The names of the lock files.
    pub fn lock_files(&self) -> Vec<String> {
        if self.locked {
            vec!["backup".to_owned()]
        } else {
            Vec::new()
        }
    }

    fn may(&self, rare: Rare) -> bool {
        self.budget.get(&rare).is_some_and(|left| *left > 0)
    }

    fn spend(&mut self, rare: Rare) {
        if let Some(left) = self.budget.get_mut(&rare) {
            *left = left.saturating_sub(1);
        }
    }

    pub fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        if !self.is_answer_due() || self.may(Rare::Stall) {
            choices.push(Choice::Wait);
        }
        if self.may(Rare::Ask) {
            choices.extend(self.setup.requests.iter().cloned().map(Choice::Ask));
        }
        if self.may(Rare::Service) {
            for condition in [
                Condition::Well,
                Condition::Unwell("web is down".to_owned()),
                Condition::Failed("web has failed".to_owned()),
            ] {
                if condition != self.service {
                    choices.push(Choice::Service(condition));
                }
            }
        }
        if self.may(Rare::Lock) {
            choices.push(Choice::Lock(!self.locked));
        }
        if self.may(Rare::Channel) {
            let others = self.setup.channels.iter();
            choices.extend(
                others
                    .filter(|it| **it != self.channel)
                    .cloned()
                    .map(Choice::Channel),
            );
        }
        match &self.order {
            None => {}
            Some(order) => {
                choices.push(Choice::WorkerDone);
                if self.may(Rare::Unreadable) && matches!(order, Order::Look) {
                    choices.push(Choice::NoDisk);
                }
                if self.may(Rare::Failure) && !matches!(order, Order::Look) {
                    choices.push(Choice::WorkerFailed);
                }
                let is_at_start = self.core.progress().phase == Phase::Checking;
                if matches!(order, Order::Update { .. }) && is_at_start {
                    choices.push(Choice::Writing);
                }
            }
        }
        let refused = self.may(Rare::Refusal);
        if self.lock_request.is_some() {
            choices.push(Choice::LockAnswer(true));
            choices.extend(refused.then_some(Choice::LockAnswer(false)));
        }
        if self.pid1.restart {
            choices.push(Choice::RestartAnswer(true));
            choices.extend(refused.then_some(Choice::RestartAnswer(false)));
        }
        if self.pid1.confirm {
            choices.push(Choice::ConfirmAnswer(true));
            choices.extend(refused.then_some(Choice::ConfirmAnswer(false)));
        }
        // PID 1 starts nothing any more while it stops the machine.
        if self.may(Rare::Crash) && !self.pid1.stops {
            choices.push(Choice::Crash);
        }
        if self.may(Rare::PowerCut) {
            choices.push(Choice::PowerCut);
        }
        if self.pid1.stops || self.may(Rare::Order) {
            choices.push(Choice::Stop);
        }
        choices
    }

    /// Makes it happen; an error names the law that this breaks.
    pub fn take(&mut self, choice: &Choice) -> Result<(), String> {
        match choice {
            Choice::Wait => {
                if self.is_answer_due() {
                    self.spend(Rare::Stall);
                }
                let until = self.core.next_deadline(self.now);
                let until = until.unwrap_or(self.now.boot + minutes(1));
                self.pass(until.saturating_sub(self.now.boot));
                self.step(Event::Tick)?;
                self.is_not_spinning()?;
            }
            Choice::Ask(request) => {
                self.spend(Rare::Ask);
                let client = ClientId(u64::from(self.budget[&Rare::Ask]));
                self.clients.insert(client);
                let request = request.clone();
                self.step(Event::Asked { client, request })?;
            }
            Choice::Service(condition) => {
                self.spend(Rare::Service);
                self.service = condition.clone();
                self.step(Event::Service {
                    name: "web".to_owned(),
                    condition: condition.clone(),
                })?;
            }
            Choice::Lock(locked) => {
                self.spend(Rare::Lock);
                self.locked = *locked;
                self.step(Event::Locks(self.lock_files()))?;
                self.step(Event::Tick)?;
            }
            Choice::Channel(channel) => {
                self.spend(Rare::Channel);
                self.channel.clone_from(channel);
            }
            Choice::Writing => {
                let progress = Progress::begun(Phase::Writing);
                self.step(Event::Worker(News::Answered))?;
                self.step(Event::Worker(News::Progress(progress)))?;
            }
            Choice::WorkerDone => self.worker_ends(true)?,
            Choice::WorkerFailed => {
                self.spend(Rare::Failure);
                self.worker_ends(false)?;
            }
            Choice::NoDisk => {
                self.spend(Rare::Unreadable);
                self.order = None;
                self.step(Event::Worker(News::Ended {
                    result: Ok(Done::Looked),
                    view: Err("there is no disk".to_owned()),
                }))?;
            }
            Choice::LockAnswer(granted) => self.lock_answers(*granted)?,
            Choice::RestartAnswer(accepted) => {
                self.pid1.restart = false;
                self.pid1.stops = *accepted;
                let answer = self.answer(*accepted);
                self.step(Event::RestartAnswered(answer))?;
            }
            Choice::ConfirmAnswer(done) => {
                self.pid1.confirm = false;
                self.boot.known |= *done;
                let answer = self.answer(*done);
                self.step(Event::BootConfirmed(answer))?;
            }
            Choice::Crash => {
                self.spend(Rare::Crash);
                self.restart_process();
            }
            Choice::PowerCut => {
                self.spend(Rare::PowerCut);
                self.boot_machine();
            }
            Choice::Stop => {
                if !self.pid1.stops {
                    self.spend(Rare::Order);
                }
                self.step(Event::Terminated {
                    machine_stops: true,
                })?;
                while !self.core.is_over() {
                    self.worker_ends(true)?;
                }
                self.boot_machine();
            }
        }
        self.check()
    }

    fn answer(&mut self, is_yes: bool) -> Result<(), String> {
        if is_yes {
            return Ok(());
        }
        self.spend(Rare::Refusal);
        Err("not now".to_owned())
    }

    pub fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.clock += time;
    }

    fn lock_answers(&mut self, granted: bool) -> Result<(), String> {
        let endpoint = self.lock_request.take().expect("a request");
        let answer = if granted {
            self.lock_slot = endpoint == Endpoint::PreReboot;
            policy::Answer::Done
        } else {
            self.spend(Rare::Refusal);
            policy::Answer::Refused("no slot is free".to_owned())
        };
        self.step(Event::LockAnswered(answer))
    }

    /// Takes an event to the lifecycle, and looks at what follows.
    pub fn step(&mut self, event: Event) -> Result<(), String> {
        let given_up = self.core.running.is_given_up();
        let actions = self.core.step(self.now, event);
        // The jitter of checks would make each of them another state.
        self.core.record.checks = 0;
        self.saved = self.core.record().clone();
        if !given_up && self.core.running.is_given_up() {
            self.gives_up()?;
        }
        for action in actions {
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        self.allows(&action)?;
        match action {
            Action::Work(order) => self.order = Some(order),
            Action::Progress(..) | Action::Log(_) | Action::ForgetTraces => {}
            Action::ExtendTrial(_) => {}
            Action::Answer(client, _) => {
                self.clients.remove(&client);
            }
            Action::AskLock(request) => self.lock_request = Some(request.endpoint),
            Action::Restart => self.pid1.restart = true,
            Action::ConfirmBoot => {
                self.pid1.confirm = true;
                self.boot.confirmed = true;
            }
        }
        Ok(())
    }

    /// The worker does what it was told, or does not.
    pub fn worker_ends(&mut self, works: bool) -> Result<(), String> {
        let order = self.order.take().expect("an order");
        let asks = match &order {
            Order::Check(_) | Order::Update { .. } | Order::Repair { .. } => true,
            Order::Look
            | Order::Publish(_)
            | Order::Withdraw
            | Order::Bless
            | Order::RollBack
            | Order::Credit(_)
            | Order::Examine(_) => false,
        };
        if asks && works {
            self.step(Event::Worker(News::Answered))?;
        }
        let failed = |is_declined| Failed {
            reason: "it did not work".to_owned(),
            is_declined,
            installing: None,
        };
        let renews = matches!(order, Order::Bless) && !self.disk.is_on_trial();
        let next = self.disk.boots_next();
        let result = if works {
            self.obey(order).ok_or(failed(true))
        } else {
            Err(failed(false))
        };
        if renews && next != self.disk.boots_next() {
            return Err("the guard's renewal changes what boots next".to_owned());
        }
        let view = Ok(Box::new(self.disk.view.clone()));
        self.step(Event::Worker(News::Ended { result, view }))
    }

    /// `None`: the disk is as it is, and that cannot be.
    fn obey(&mut self, order: Order) -> Option<Done> {
        let disk = &mut self.disk;
        let changed = |spent: Option<Spent>| spent.map(Done::Changed);
        match order {
            Order::Look => Some(Done::Looked),
            Order::Check(asking) => Some(self.found(&asking)),
            Order::Update { asking, extent } => {
                let channel = channel(&self.channel);
                let decision = decide(&asking, &channel, self.now.clock);
                match decision.take {
                    Some(manifest) => self.install(manifest, extent),
                    None => Some(self.found(&asking)),
                }
            }
            Order::Repair { asking, root_hash } => {
                let wanted = number(root_hash);
                match self.channel.iter().find(|(n, _)| *n == wanted) {
                    Some((_, false)) => self.install(manifest(wanted), Extent::Staged),
                    Some((_, true)) | None => Some(self.found(&asking)),
                }
            }
            Order::Publish(manifest) => {
                changed(disk.install(number(manifest.root_hash), Extent::Published))
            }
            Order::Withdraw => {
                disk.view.staged = None;
                changed(Some(Spent::default()))
            }
            Order::Bless => {
                let blessed = disk.reach(&Goal::Bless, Extent::Published);
                self.boot.confirmed |= blessed.is_some();
                changed(blessed)
            }
            Order::RollBack => changed(disk.reach(&Goal::RollBack, Extent::Published)),
            Order::Credit(tries) => changed(disk.reach(&Goal::Credit(tries), Extent::Published)),
            Order::Examine(root_hash) => Some(Done::Examined {
                whole: disk.is_whole(root_hash),
            }),
        }
    }

    fn install(&mut self, manifest: Manifest, extent: Extent) -> Option<Done> {
        let spent = self.disk.install(number(manifest.root_hash), extent)?;
        Some(Done::Installed {
            channel: channel(&self.channel),
            manifest: Box::new(manifest),
            spent,
        })
    }

    fn found(&self, asking: &Asking) -> Done {
        let channel = channel(&self.channel);
        Done::Checked {
            decision: Box::new(decide(asking, &channel, self.now.clock)),
            channel,
        }
    }

    /// What is done next where nothing goes wrong any more; `None`: time passes.
    pub fn calm_choice(&self) -> Choice {
        if self.pid1.stops {
            Choice::Stop
        } else if self.order.is_some() {
            Choice::WorkerDone
        } else if self.lock_request.is_some() {
            Choice::LockAnswer(true)
        } else if self.pid1.restart {
            Choice::RestartAnswer(true)
        } else if self.pid1.confirm {
            Choice::ConfirmAnswer(true)
        } else {
            Choice::Wait
        }
    }

    /// As if nothing rare had ever been possible.
    pub fn calm(&self) -> Result<Self, String> {
        let mut world = self.clone();
        if matches!(world.service, Condition::Unwell(_)) {
            world.take(&Choice::Service(Condition::Well))?;
        }
        if world.locked {
            world.take(&Choice::Lock(false))?;
        }
        Ok(world)
    }
}

fn decide(asking: &Asking, channel: &Channel, now: Timestamp) -> Decision {
    let machine = MachineId::from(1);
    let choice: PolicyChoice<'_> =
        policy::choose(&asking.config, &asking.standing, channel, &machine, now);
    Decision::of(&choice, channel)
}

fn start(now: Now, disk: &Disk, config: &Config, record: Record, boots: u8) -> Lifecycle {
    let machine = Machine {
        version: version(disk.booted()),
        root_hash: Some(hash(disk.booted())),
        boot_id: boots.to_string(),
        id: MachineId::from(1),
    };
    Lifecycle::new(now, machine, Traces::default(), config.clone(), record)
}

/// The client that the setup's FleetLock server knows.
pub fn lock_client(config: &Config) -> Option<Client> {
    let server = config.fleet_lock.as_ref()?;
    Some(server.client(&MachineId::from(1)))
}

/// An operator's request to install.
pub fn apply(n: Option<u8>, restart: RestartWhen) -> Request {
    Request::Apply {
        version: n.map(version),
        restart,
        allow_downgrade: true,
    }
}
