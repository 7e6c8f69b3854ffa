//! The queue of events, and what each of them does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use policy::{
    Action, Answer, Choice, Event, Failure, Pending, Reboot, Request, check_at, check_delay,
    choose, may_reboot, withdrawn,
};
use release::Version;

use crate::lock_server::LockServer;
use crate::machine::{Machine, Trial};
use crate::network::PATIENCE;
use crate::operator::Operator;
use crate::random::Random;
use crate::record::{Record, Sample};
use crate::scenario::{DAY, HOUR, MINUTE, Moment, SECOND, Scenario};

/// What the machines run at the start.
const FIRST: &str = "1.0";

/// Between two samples of the record.
const SAMPLE: Moment = 20 * MINUTE;

/// How often a healthy release checks whether the server answers.
const LOOK: Moment = 30 * SECOND;

/// Something that happens to the fleet.
enum Happening {
    Publish(usize),
    Monitor,
    Sample,
    /// To a machine, in this boot of it.
    Machine(usize, u64, Matter),
    /// To a machine, in any boot.
    PowerCut(usize),
}

/// Something that happens to a machine.
enum Matter {
    Check,
    Fetched(Version),
    Consider,
    /// A machine's request reaches the FleetLock server.
    Arrives(Request),
    Answered(Answer),
    Tick(u64),
    /// It boots; after a power cut its try is given back.
    Up {
        credit: bool,
    },
    Health,
}

struct Simulation<'s> {
    scenario: &'s Scenario,
    now: Moment,
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    machines: Vec<Machine>,
    operator: Operator,
    lock: LockServer,
    /// Machines that rebooted by themselves and are not blessed or back yet.
    away: BTreeSet<usize>,
    most_away: usize,
    record: Record,
}

/// Runs a scenario to its end.
///
/// # Errors
/// The scenario has an invalid version.
pub fn run(scenario: &Scenario) -> Result<Record> {
    let mut simulation = Simulation::new(scenario)?;
    while let Some(Reverse((at, number))) = simulation.queue.pop() {
        if at > scenario.length {
            break;
        }
        simulation.now = at;
        if let Some(happening) = simulation.happenings.remove(&number) {
            simulation.record.events += 1;
            simulation.happens(happening)?;
        }
    }
    Ok(simulation.finish())
}

impl<'s> Simulation<'s> {
    fn new(scenario: &'s Scenario) -> Result<Self> {
        let first: Version = FIRST.parse().context("the first version")?;
        let mut simulation = Self {
            scenario,
            now: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            machines: Vec::new(),
            operator: Operator::new(),
            lock: LockServer::new(scenario.lock_slots, scenario.lock_down.clone()),
            away: BTreeSet::new(),
            most_away: 0,
            record: Record::default(),
        };
        let mut random = Random::new(scenario.seed, 0);
        for number in 0..scenario.machines {
            let region = region(scenario, number);
            let own = Random::new(scenario.seed, 1 + number as u64);
            let mut machine = Machine::new(scenario, region, first.clone(), own);
            // Each hundredth of them, so that all regions have some.
            let kept = scenario.machines / (scenario.held + scenario.pinned).max(1);
            if kept > 0 && number % kept == 0 && number / kept < scenario.held + scenario.pinned {
                if number / kept < scenario.held {
                    machine.hold(scenario);
                } else {
                    machine.standing.pin = Some(first.clone());
                }
                simulation.record.kept.insert(number);
            }
            let check = machine.random.below(HOUR);
            simulation.machines.push(machine);
            simulation.tell(number, check, Matter::Check);
            if random.permille(scenario.power_cut_permille) {
                let at = random.below(scenario.length);
                simulation.at(at, Happening::PowerCut(number));
            }
        }
        for (number, publication) in scenario.releases.iter().enumerate() {
            simulation.at(publication.at, Happening::Publish(number));
        }
        simulation.at(0, Happening::Sample);
        simulation.at(scenario.monitor_interval, Happening::Monitor);
        Ok(simulation)
    }

    fn at(&mut self, at: Moment, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    /// Schedules this for the machine, unless it goes down before.
    fn tell(&mut self, number: usize, after: Moment, matter: Matter) {
        let boot = self.machines[number].boot;
        let at = self.now.saturating_add(after);
        self.at(at, Happening::Machine(number, boot, matter));
    }

    fn happens(&mut self, happening: Happening) -> Result<()> {
        match happening {
            Happening::Publish(number) => self
                .operator
                .publish(self.scenario, &self.scenario.releases[number])?,
            Happening::Monitor => {
                self.operator.look(self.scenario, self.now);
                self.at(
                    self.now + self.scenario.monitor_interval,
                    Happening::Monitor,
                );
            }
            Happening::Sample => self.sample(),
            Happening::PowerCut(number) => self.power_cut(number),
            Happening::Machine(number, boot, matter) => {
                if self.machines[number].boot == boot {
                    self.matters(number, matter)?;
                }
            }
        }
        Ok(())
    }

    fn matters(&mut self, number: usize, matter: Matter) -> Result<()> {
        match matter {
            Matter::Check => self.check(number)?,
            Matter::Fetched(version) => {
                let machine = &mut self.machines[number];
                machine.fetching = None;
                machine.staged = Some((version, self.now));
                self.consider(number);
            }
            Matter::Consider => self.consider(number),
            Matter::Arrives(request) => {
                let answer = self.lock.serve(self.now, &request);
                let machine = &mut self.machines[number];
                let back = machine.link.message(self.now, &mut machine.random);
                let (after, answer) = match (answer, back) {
                    (Some(answer), Some(after)) => (after, answer),
                    (Some(_), None) | (None, _) => {
                        (PATIENCE, Answer::None("no answer in time".to_owned()))
                    }
                };
                self.tell(number, after, Matter::Answered(answer));
            }
            Matter::Answered(answer) => {
                // The window may have closed in the meantime.
                self.consider(number);
                self.lock_event(number, Event::Answered(answer));
            }
            Matter::Tick(timer) => {
                if self.machines[number].timer == timer {
                    self.consider(number);
                    self.lock_event(number, Event::Tick);
                }
            }
            Matter::Up { credit } => self.up(number, credit),
            Matter::Health => self.health(number),
        }
        Ok(())
    }

    /// The machine checks for new releases.
    fn check(&mut self, number: usize) -> Result<()> {
        self.record.checks += 1;
        let machine = &mut self.machines[number];
        machine.checks += 1;
        let next = check_delay(&machine.config, &machine.id, machine.checks);
        let next = u64::try_from(next.as_millis()).context("the interval of checks")?;
        let wave = self.look(number);
        let after = wave.map_or(next, |at| next.min(at.saturating_sub(self.now)));
        self.tell(number, after, Matter::Check);
        Ok(())
    }

    /// Checks, and fetches what there is; or reports when the machine's wave
    /// begins.
    fn look(&mut self, number: usize) -> Option<Moment> {
        let machine = &mut self.machines[number];
        if !machine.link.is_up(self.now) {
            return None;
        }
        for version in machine.unreported.drain(..) {
            self.operator.report(&version);
        }
        // A release on trial is not replaced by another.
        if machine.trial.is_some() {
            return None;
        }
        let choice = choose(
            &machine.config,
            &machine.standing,
            &self.operator.channel,
            &machine.id,
            self.scenario.time(self.now),
        );
        let offer = match choice {
            Choice::Take { offer, .. } => offer,
            Choice::Wait { until, .. } => {
                let at = check_at(&machine.config, &machine.id, until);
                // Rounding has cut off up to a millisecond.
                return Some(self.scenario.moment(at) + 1);
            }
            Choice::UpToDate | Choice::Available { .. } | Choice::Nothing { .. } => return None,
        };
        let version = offer.manifest.version.clone();
        let staged = machine
            .staged
            .as_ref()
            .is_some_and(|(staged, _)| *staged == version);
        if staged || machine.fetching.as_ref() == Some(&version) {
            return None;
        }
        let bytes = self
            .scenario
            .releases
            .iter()
            .find(|publication| publication.version == version.as_str())
            .map_or(0, |publication| publication.bytes);
        let fetched = machine.link.fetched(self.now, bytes) - self.now;
        // It replaces what was staged before.
        machine.staged = None;
        machine.fetching = Some(version.clone());
        self.unwanted(number);
        self.tell(number, fetched, Matter::Fetched(version));
        None
    }

    /// Whether the machine may reboot into the staged release.
    fn consider(&mut self, number: usize) {
        let now = self.scenario.time(self.now);
        let machine = &mut self.machines[number];
        if machine.trial.is_some() {
            return;
        }
        let Some((version, since)) = &machine.staged else {
            return;
        };
        if machine.link.is_up(self.now) && withdrawn(&self.operator.channel, version).is_some() {
            machine.staged = None;
            self.unwanted(number);
            return;
        }
        let pending = Pending {
            version,
            since: self.scenario.time(*since),
        };
        let reboot = may_reboot(
            &machine.config,
            &machine.standing,
            &machine.id,
            pending,
            &[],
            now,
        );
        match reboot {
            Reboot::Yes => {
                machine.wants_reboot = true;
                let client = machine.client();
                self.lock_event(
                    number,
                    Event::Wanted {
                        client,
                        force: false,
                    },
                );
            }
            Reboot::No { until, .. } => {
                self.unwanted(number);
                if let Some(until) = until {
                    let after = self.scenario.moment(until).saturating_sub(self.now);
                    // Rounding has cut off up to a millisecond.
                    self.tell(number, after + 1, Matter::Consider);
                }
            }
        }
    }

    fn unwanted(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        if std::mem::take(&mut machine.wants_reboot) {
            self.lock_event(number, Event::Unwanted);
        }
    }

    fn lock_event(&mut self, number: usize, event: Event) {
        let actions = self.machines[number].lock.step(event);
        for action in actions {
            let machine = &mut self.machines[number];
            match action {
                Action::Record(record) => machine.lock_record = record,
                Action::Wait(time) => {
                    machine.timer += 1;
                    let timer = machine.timer;
                    let time = u64::try_from(time.as_millis()).unwrap_or(HOUR);
                    self.tell(number, time, Matter::Tick(timer));
                }
                Action::Send(request) => {
                    match machine.link.message(self.now, &mut machine.random) {
                        Some(after) => self.tell(number, after, Matter::Arrives(request)),
                        None => {
                            let answer = Answer::None("no answer in time".to_owned());
                            self.tell(number, PATIENCE, Matter::Answered(answer));
                        }
                    }
                }
                Action::Reboot => self.reboot(number),
            }
        }
    }

    /// The machine reboots by itself.
    fn reboot(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        if machine.trial.is_none() {
            let windows = &machine.config.windows;
            let open = windows.is_any() || windows.open(self.scenario.time(self.now)).is_some();
            self.record.outside_of_windows += usize::from(!open);
        }
        self.away.insert(number);
        self.most_away = self.most_away.max(self.away.len());
        self.record.most_away = self.record.most_away.max(self.away.len());
        self.record.reboots.push(self.now);
        machine.switch();
        machine.down();
        let after = machine.boot_time();
        self.tell(number, after, Matter::Up { credit: false });
    }

    fn power_cut(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        if !machine.up {
            return;
        }
        self.record.power_cuts += 1;
        machine.down();
        let after = machine.dark_time() + machine.boot_time();
        self.tell(number, after, Matter::Up { credit: true });
    }

    /// The machine boots what the boot loader chose.
    fn up(&mut self, number: usize, credit: bool) {
        let machine = &mut self.machines[number];
        machine.up = true;
        let check = machine.random.below(5 * MINUTE);
        let record = machine.lock_record.clone();
        let gives_up = machine
            .trial
            .take_if(|trial| trial.tries_left == 0 && !credit);
        if let Some(trial) = gives_up {
            self.fall_back(number, trial);
        }
        let machine = &mut self.machines[number];
        let health = match &mut machine.trial {
            Some(trial) => {
                trial.tries_left = trial.tries_left.saturating_sub(u32::from(!credit));
                trial.up_since = self.now;
                Some(millis(machine.config.health_time))
            }
            None => None,
        };
        if health.is_some() {
            let version = machine.standing.running.clone();
            let tried = self.record.tried.entry(version).or_default();
            tried.entry(number).or_insert(self.now);
        }
        self.lock_event(number, Event::Booted { record });
        self.tell(number, check, Matter::Check);
        match health {
            Some(after) => self.tell(number, after, Matter::Health),
            None => self.settled(number),
        }
        self.consider(number);
    }

    fn fall_back(&mut self, number: usize, trial: Trial) {
        let at = self.scenario.time(self.now);
        let machine = &mut self.machines[number];
        let failed = std::mem::replace(&mut machine.standing.running, trial.old);
        let day = SignedDuration::from_hours(24);
        machine.standing.failed.push(Failure {
            version: failed.clone(),
            reason: if trial.sick {
                "a service was never healthy".to_owned()
            } else {
                "the update server could not be reached".to_owned()
            },
            at,
            again: at.checked_add(day).ok().filter(|_| !trial.sick),
        });
        if trial.sick {
            machine.unreported.push(failed.clone());
            let fell_back = self.record.fell_back.entry(failed).or_default();
            fell_back.insert(number, self.now);
        } else {
            self.record
                .unreachable
                .entry(failed)
                .or_default()
                .insert(number);
        }
    }

    /// Judges a release that was just booted.
    fn health(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let version = machine.standing.running.clone();
        let Some(trial) = &mut machine.trial else {
            return;
        };
        let bad_permille = self
            .scenario
            .releases
            .iter()
            .find(|publication| publication.version == version.as_str())
            .map_or(0, |publication| publication.bad_permille);
        // The same machine fails each time it tries.
        let sick = machine.id.number(&["sick", version.as_str()]) % 1000 < bad_permille;
        if !sick && machine.link.is_up(self.now) {
            machine.trial = None;
            let blessed = self.record.blessed.entry(version).or_default();
            blessed.insert(number, self.now);
            self.settled(number);
            return;
        }
        trial.sick |= sick;
        if self.now < trial.up_since + millis(machine.config.health_limit) {
            self.tell(number, LOOK, Matter::Health);
            return;
        }
        let client = machine.client();
        self.lock_event(
            number,
            Event::Wanted {
                client,
                force: true,
            },
        );
    }

    fn settled(&mut self, number: usize) {
        self.away.remove(&number);
        self.lock_event(number, Event::Settled);
    }

    fn sample(&mut self) {
        let mut running = BTreeMap::new();
        for machine in &self.machines {
            *running.entry(machine.blessed().clone()).or_insert(0) += 1;
        }
        self.record.samples.push(Sample {
            at: self.now,
            running,
            away: self.most_away,
            slots: self.lock.taken(),
        });
        self.most_away = self.away.len();
        self.at(self.now + SAMPLE, Happening::Sample);
    }

    fn finish(mut self) -> Record {
        self.record.end = self
            .machines
            .iter()
            .map(|machine| (machine.standing.running.clone(), machine.trial.is_none()))
            .collect();
        self.record.most_slots = self.lock.most;
        self.record.slots_at_end = self.lock.taken();
        self.record.halted = self.operator.halted;
        let lock = &self.lock;
        self.record.lock_requests = (lock.answered, lock.refused, lock.unanswered);
        self.record
    }
}

/// The regions take turns, so that each has its share of every hundred machines.
fn region(scenario: &Scenario, number: usize) -> &crate::scenario::Region {
    // 37 has no factor in common with 100.
    let place = number * 37 % 100;
    let mut end = 0;
    for region in &scenario.regions {
        end += region.percent;
        if place < end {
            return region;
        }
    }
    &scenario.regions[0]
}

fn millis(time: std::time::Duration) -> Moment {
    u64::try_from(time.as_millis()).unwrap_or(DAY)
}
