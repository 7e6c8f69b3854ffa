use jiff::civil::{Weekday, time};
use jiff::tz::TimeZone;

use super::*;
use crate::{Window, Windows, Wish};

struct Case {
    config: Config,
    standing: Standing,
    machine: MachineId,
    since: Timestamp,
    locks: Vec<String>,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Case {
    fn new() -> Self {
        Self {
            config: Config::default(),
            standing: Standing::new("1.0".parse().unwrap()),
            machine: MachineId::from(77),
            since: at("2026-11-20T12:00:00Z"),
            locks: Vec::new(),
        }
    }

    fn ask(&self, now: &str) -> Reboot {
        self.ask_at(at(now))
    }

    fn ask_at(&self, now: Timestamp) -> Reboot {
        let version = "2.0".parse().unwrap();
        let pending = Pending {
            version: &version,
            since: self.since,
        };
        may_reboot(
            &self.config,
            &self.standing,
            &self.machine,
            pending,
            &self.locks,
            now,
        )
    }

    fn nights(mut self) -> Self {
        self.config.windows = Windows {
            zone: TimeZone::UTC,
            windows: vec![Window {
                days: vec![Weekday::Friday, Weekday::Saturday],
                start: time(22, 0, 0, 0),
                length: Duration::from_secs(2 * 3600),
            }],
        };
        self
    }
}

fn why(reboot: Reboot) -> Obstacle {
    match reboot {
        Reboot::Yes => panic!("it may"),
        Reboot::No { why, .. } => why,
    }
}

#[test]
fn without_windows_a_machine_reboots_after_the_delay_at_its_own_moment() {
    let case = Case::new();
    let Reboot::No { until, why } = case.ask("2026-11-20T12:00:30Z") else {
        panic!("too early");
    };
    assert_eq!(why, Obstacle::Delay);
    let mine = until.unwrap();
    assert!(mine >= at("2026-11-20T12:01:00Z") && mine < at("2026-11-20T12:06:00Z"));
    assert_eq!(case.ask_at(mine), Reboot::Yes);
    let just_before = mine.checked_sub(SignedDuration::from_secs(1)).unwrap();
    assert!(matches!(case.ask_at(just_before), Reboot::No { until, .. } if until == Some(mine)));
}

#[test]
fn reboots_are_spread_over_the_whole_time_and_no_second_has_many() {
    let mut case = Case::new();
    let mut seconds = [0u32; 300];
    for id in 1..=3000u128 {
        case.machine = MachineId::from(id);
        let Reboot::No { until, .. } = case.ask("2026-11-20T12:00:00Z") else {
            panic!("without a delay");
        };
        let after = until
            .unwrap()
            .duration_since(at("2026-11-20T12:01:00Z"))
            .as_secs();
        seconds[usize::try_from(after).unwrap()] += 1;
    }
    // Ten are expected in each.
    assert!(seconds.iter().all(|count| *count < 35), "{seconds:?}");
    assert!(seconds[..30].iter().sum::<u32>() > 200 && seconds[270..].iter().sum::<u32>() > 200);
}

#[test]
fn a_machine_reboots_in_its_window_only_and_says_when_that_is() {
    let case = Case::new().nights();
    let Reboot::No { until, why } = case.ask("2026-11-20T13:00:00Z") else {
        panic!("outside of a window");
    };
    assert_eq!(why, Obstacle::Window);
    let mine = until.unwrap();
    assert!(mine >= at("2026-11-20T22:00:00Z") && mine < at("2026-11-20T22:05:00Z"));
    assert_eq!(case.ask_at(mine), Reboot::Yes);
    assert_eq!(case.ask("2026-11-20T23:59:59Z"), Reboot::Yes);
    assert_eq!(
        self::why(case.ask("2026-11-21T00:00:00Z")),
        Obstacle::Window
    );
}

#[test]
fn in_the_last_minutes_of_a_window_there_is_a_moment_for_each_machine() {
    let mut case = Case::new().nights();
    case.since = at("2026-11-20T23:57:00Z");
    for id in 1..200u128 {
        case.machine = MachineId::from(id);
        let Reboot::No { until, .. } = case.ask("2026-11-20T23:57:00Z") else {
            panic!("without a delay");
        };
        assert!(until.unwrap() < at("2026-11-20T23:59:01Z"));
    }
    // Too late even for the delay: tomorrow.
    case.since = at("2026-11-20T23:59:30Z");
    assert!(matches!(
        case.ask("2026-11-20T23:59:40Z"),
        Reboot::No { until: Some(until), .. } if until >= at("2026-11-21T22:00:00Z")
    ));
}

#[test]
fn what_puts_a_reboot_off_and_what_the_operator_s_now_overrides() {
    let mut case = Case::new().nights();
    let noon = "2026-11-25T12:00:00Z";
    case.config.mode = Mode::Download;
    assert_eq!(why(case.ask(noon)), Obstacle::Mode(Mode::Download));

    case.standing.wish = Some(Wish {
        now: true,
        ..Wish::default()
    });
    assert_eq!(case.ask(noon), Reboot::Yes);

    case.locks = vec!["backup".to_owned()];
    let locked = why(case.ask(noon));
    assert_eq!(
        locked.to_string(),
        "deferred by lock files of this machine: backup"
    );

    case.standing.hold = Some(Hold {
        since: at("2026-11-25T00:00:00Z"),
        until: Some(at("2026-11-25T13:00:00Z")),
        reason: Some("audit".to_owned()),
    });
    assert_eq!(
        why(case.ask(noon)).to_string(),
        "updates are on hold since 2026-11-25T00:00:00Z until 2026-11-25T13:00:00Z: audit \
         (`wherry update resume` ends that)"
    );
    // It ends by itself.
    case.locks.clear();
    assert_eq!(case.ask("2026-11-25T13:00:00Z"), Reboot::Yes);
}

#[test]
fn a_clock_that_was_put_back_does_not_put_the_reboot_off() {
    let mut case = Case::new();
    case.since = at("2036-01-01T00:00:00Z");
    assert_eq!(case.ask("2026-11-25T12:00:00Z"), Reboot::Yes);
}
