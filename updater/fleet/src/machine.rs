//! One machine: what is on its disk, what it runs, what it waits for.

use std::time::Duration;

use jiff::tz::TimeZone;
use policy::{Client, Config, FleetLock, Hold, LockServer, MachineId, Standing, Window, Windows};
use release::Version;

use crate::network::Link;
use crate::random::Random;
use crate::scenario::{MINUTE, Moment, Region, SECOND, Scenario};

/// How often a new release boots before the boot loader falls back.
const TRIES: u32 = 3;

/// A release that has not proved itself yet.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The release that was blessed before.
    pub old: Version,
    /// Boots that the loader still allows.
    pub tries_left: u32,
    /// When the machine last booted it.
    pub up_since: Moment,
    /// Whether one of its services was ever unhealthy here; otherwise only the
    /// network was at fault.
    pub sick: bool,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    pub id: MachineId,
    pub config: Config,
    pub link: Link,
    pub random: Random,
    /// On the disk.
    pub standing: Standing,
    /// On the disk: the FleetLock client's record.
    pub lock_record: Option<Client>,
    /// On the disk: the release that waits for its reboot.
    pub staged: Option<(Version, Moment)>,
    /// On the ESP, as its boot counter.
    pub trial: Option<Trial>,
    /// From here on: state that a boot loses.
    pub lock: FleetLock,
    pub fetching: Option<Version>,
    pub up: bool,
    pub wants_reboot: bool,
    /// Events of an earlier boot do not apply to this one.
    pub boot: u64,
    /// Only the last timer that the lock's client requested counts.
    pub timer: u64,
    pub checks: u64,
    /// Reports to the operator that could not be sent yet.
    pub unreported: Vec<Version>,
}

impl Machine {
    /// A machine at the start of the simulation.
    pub fn new(scenario: &Scenario, region: &Region, running: Version, mut random: Random) -> Self {
        let id = u128::from(random.next()) << 64 | u128::from(random.next());
        let link = Link::new(scenario, &mut random);
        let config = Config {
            repositories: vec!["https://updates.example.org".to_owned()],
            windows: windows(region),
            fleet_lock: Some(LockServer {
                url: "https://lock.example.org".to_owned(),
                group: "default".to_owned(),
                id: None,
            }),
            ..Config::default()
        };
        Self {
            id: MachineId::from(id),
            config,
            link,
            random,
            standing: Standing::new(running),
            lock_record: None,
            staged: None,
            trial: None,
            lock: FleetLock::default(),
            fetching: None,
            up: true,
            wants_reboot: false,
            boot: 0,
            timer: 0,
            checks: 0,
            unreported: Vec::new(),
        }
    }

    /// Puts the machine on hold.
    pub fn hold(&mut self, scenario: &Scenario) {
        self.standing.hold = Some(Hold {
            since: scenario.start,
            until: None,
            reason: Some("not to be touched".to_owned()),
        });
    }

    /// Its name for the FleetLock server.
    pub fn client(&self) -> Option<Client> {
        self.config
            .fleet_lock
            .as_ref()
            .map(|server| server.client(&self.id))
    }

    /// What it would run after falling back: the blessed release.
    pub fn blessed(&self) -> &Version {
        match &self.trial {
            Some(trial) => &trial.old,
            None => &self.standing.running,
        }
    }

    /// The machine goes down and loses what it had in memory.
    pub fn down(&mut self) {
        self.up = false;
        self.boot += 1;
        self.fetching = None;
        self.wants_reboot = false;
        self.lock = FleetLock::default();
    }

    /// The staged release becomes the loader's next choice.
    pub fn switch(&mut self) {
        if let Some((version, _)) = self.staged.take() {
            let old = std::mem::replace(&mut self.standing.running, version);
            self.trial = Some(Trial {
                old,
                tries_left: TRIES,
                up_since: 0,
                sick: false,
            });
        }
    }

    /// The time that firmware, loader and kernel take.
    pub fn boot_time(&mut self) -> Moment {
        self.random.within(30 * SECOND, 150 * SECOND)
    }

    /// How long a power cut lasts.
    pub fn dark_time(&mut self) -> Moment {
        self.random.within(MINUTE, 30 * MINUTE)
    }
}

/// The region's windows.
pub fn windows(region: &Region) -> Windows {
    Windows {
        zone: TimeZone::get(region.zone).unwrap_or(TimeZone::UTC),
        windows: region
            .windows
            .iter()
            .map(|(days, start, hours)| Window {
                days: days.clone(),
                start: *start,
                length: Duration::from_secs(hours * 3600),
            })
            .collect(),
    }
}
