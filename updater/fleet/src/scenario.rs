//! The simulated scenario.

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use release::Wave;

/// Milliseconds since the start of the simulation.
pub type Moment = u64;

/// A second.
pub const SECOND: Moment = 1000;
/// A minute.
pub const MINUTE: Moment = 60 * SECOND;
/// An hour.
pub const HOUR: Moment = 60 * MINUTE;
/// A day.
pub const DAY: Moment = 24 * HOUR;

/// A whole simulation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How many machines.
    pub machines: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// When it starts.
    pub start: Timestamp,
    /// How long it runs.
    pub length: Moment,
    /// Where the machines are, and when they may reboot.
    pub regions: Vec<Region>,
    /// What is published.
    pub releases: Vec<Publication>,
    /// How many machines may reboot at once.
    pub lock_slots: usize,
    /// When the FleetLock server does not answer: from, until.
    pub lock_down: Vec<(Moment, Moment)>,
    /// How many failures of a release make the operator halt it.
    pub halt_after: usize,
    /// How often the operator's monitor looks.
    pub monitor_interval: Moment,
    /// From the decision until the repository has the halted channel.
    pub halt_delay: Moment,
    /// Of a thousand machines, how many are off the network for hours on some
    /// days.
    pub offline_permille: u64,
    /// Of a thousand machines, how many have a link of a few KiB per second.
    pub slow_permille: u64,
    /// Of a thousand requests or answers, how many are lost.
    pub loss_permille: u64,
    /// Of a thousand machines, how many lose power once, at any moment.
    pub power_cut_permille: u64,
    /// How many machines are on hold.
    pub held: usize,
    /// How many machines are pinned to their first release.
    pub pinned: usize,
}

/// Machines with the same windows.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its label in the picture.
    pub name: &'static str,
    /// Percentage of the machines.
    pub percent: usize,
    /// The time zone of the windows.
    pub zone: &'static str,
    /// The windows: days, start, hours. None: any time.
    pub windows: Vec<(Vec<Weekday>, Time, u64)>,
}

/// A release to be published.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its version.
    pub version: &'static str,
    /// The minimum version that a machine must run before.
    pub min_version: Option<&'static str>,
    /// When.
    pub at: Moment,
    /// The percentages of the fleet, and when each may take it.
    pub waves: Vec<(u8, Moment)>,
    /// Of a thousand machines that boot it, how many are never healthy with it.
    pub bad_permille: u64,
    /// Bytes to fetch.
    pub bytes: u64,
}

impl Scenario {
    /// Two weeks in spring: a good release, a bad one, its correction, while clocks
    /// change in Europe and the FleetLock server is down for an evening.
    pub fn two_weeks(machines: usize, seed: u64) -> Self {
        use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
        let every = vec![
            Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday,
        ];
        let release = |version, day: u64, bad_permille, min_version, bytes| Publication {
            version,
            min_version,
            at: day * DAY + 9 * HOUR,
            waves: vec![
                (5, day * DAY + 10 * HOUR),
                (25, (day + 1) * DAY + 10 * HOUR),
                (100, (day + 2) * DAY + 10 * HOUR),
            ],
            bad_permille,
            bytes,
        };
        Self {
            machines,
            seed,
            // A Monday; Europe's clocks change on the Sunday after.
            start: Timestamp::from_second(1_805_673_600).unwrap_or(Timestamp::UNIX_EPOCH),
            length: 14 * DAY,
            regions: vec![
                Region {
                    name: "Berlin",
                    percent: 40,
                    zone: "Europe/Berlin",
                    windows: vec![(every.clone(), Time::constant(22, 0, 0, 0), 6)],
                },
                Region {
                    name: "New York",
                    percent: 35,
                    zone: "America/New_York",
                    windows: vec![(every, Time::constant(1, 0, 0, 0), 5)],
                },
                Region {
                    name: "any time",
                    percent: 25,
                    zone: "UTC",
                    windows: Vec::new(),
                },
            ],
            releases: vec![
                release("2.0", 0, 0, None, 14 << 20),
                release("2.1", 4, 700, None, 9 << 20),
                release("2.2", 7, 0, Some("2.0"), 9 << 20),
            ],
            lock_slots: 10,
            lock_down: vec![(9 * DAY + 18 * HOUR, 10 * DAY)],
            halt_after: 5,
            monitor_interval: 10 * MINUTE,
            halt_delay: 5 * MINUTE,
            offline_permille: 150,
            slow_permille: 80,
            loss_permille: 20,
            power_cut_permille: 200,
            held: (machines / 100).min(10),
            pinned: (machines / 100).min(10),
        }
    }

    /// The simulation's moment as a time.
    pub fn time(&self, moment: Moment) -> Timestamp {
        let moment = i64::try_from(moment).unwrap_or(i64::MAX);
        self.start
            .checked_add(jiff::SignedDuration::from_millis(moment))
            .unwrap_or(Timestamp::MAX)
    }

    /// The time as the simulation's moment; an earlier time becomes its start.
    pub fn moment(&self, time: Timestamp) -> Moment {
        u64::try_from(time.duration_since(self.start).as_millis()).unwrap_or(0)
    }

    /// The waves as a channel has them.
    pub fn waves(&self, publication: &Publication) -> Vec<Wave> {
        publication
            .waves
            .iter()
            .map(|(percent, start)| Wave {
                percent: *percent,
                start: self.time(*start).to_string(),
            })
            .collect()
    }
}
