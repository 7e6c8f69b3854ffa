use jiff::civil::time;

use super::*;

fn windows(zone: &str, days: &[Weekday], at: (i8, i8), hours: u64) -> Windows {
    Windows {
        zone: TimeZone::get(zone).unwrap(),
        windows: vec![Window {
            days: days.to_vec(),
            start: time(at.0, at.1, 0, 0),
            length: Duration::from_secs(hours * 3600),
        }],
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The opening that begins next or is open, in UTC.
fn next(windows: &Windows, now: &str) -> String {
    let opening = windows.openings(at(now))[0];
    format!("{}..{}", opening.start, opening.end)
}

const ALL: &[Weekday] = &[
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

#[test]
fn a_window_may_go_across_midnight() {
    let windows = windows("UTC", &[Weekday::Friday], (22, 0), 4);
    // 2026-11-20 is a Friday.
    for (now, open) in [
        ("2026-11-20T21:59:59Z", false),
        ("2026-11-20T22:00:00Z", true),
        ("2026-11-21T01:59:59Z", true),
        ("2026-11-21T02:00:00Z", false),
        ("2026-11-21T22:30:00Z", false),
    ] {
        assert_eq!(windows.open(at(now)).is_some(), open, "{now}");
    }
    assert_eq!(
        next(&windows, "2026-11-21T02:00:00Z"),
        "2026-11-27T22:00:00Z..2026-11-28T02:00:00Z"
    );
}

#[test]
fn a_window_of_a_week_is_open_to_its_end() {
    let windows = windows("UTC", &[Weekday::Sunday], (12, 0), 7 * 24);
    for day in 1..28 {
        assert!(
            windows
                .open(at(&format!("2026-11-{day:02}T11:59:59Z")))
                .is_some()
        );
    }
}

#[test]
fn hours_are_those_of_the_zone_s_wall_clock_in_summer_and_winter() {
    let berlin = windows("Europe/Berlin", ALL, (2, 30), 2);
    assert_eq!(
        next(&berlin, "2026-01-10T00:00:00Z"),
        "2026-01-10T01:30:00Z..2026-01-10T03:30:00Z"
    );
    assert_eq!(
        next(&berlin, "2026-07-10T00:00:00Z"),
        "2026-07-10T00:30:00Z..2026-07-10T02:30:00Z"
    );
}

#[test]
fn in_the_night_when_the_clock_is_put_forward_a_window_ends_by_the_wall_clock() {
    // Berlin, 2026-03-29: 02:00 is followed by 03:00, at 01:00 UTC.
    let night = windows("Europe/Berlin", ALL, (22, 0), 8);
    assert_eq!(
        next(&night, "2026-03-28T12:00:00Z"),
        "2026-03-28T21:00:00Z..2026-03-29T04:00:00Z"
    );
    // 02:30 is not there: it begins as much later as the clock jumps, 03:30.
    let missing = windows("Europe/Berlin", ALL, (2, 30), 2);
    assert_eq!(
        next(&missing, "2026-03-28T12:00:00Z"),
        "2026-03-29T01:30:00Z..2026-03-29T02:30:00Z"
    );
    // All of its hours are missing, and it opens anyway.
    let hour = windows("Europe/Berlin", ALL, (2, 0), 1);
    assert_eq!(
        next(&hour, "2026-03-28T12:00:00Z"),
        "2026-03-29T01:00:00Z..2026-03-29T02:00:00Z"
    );
    // New York, 2026-03-08: 02:00 is followed by 03:00, at 07:00 UTC.
    let new_york = windows("America/New_York", ALL, (1, 0), 4);
    assert_eq!(
        next(&new_york, "2026-03-08T00:00:00Z"),
        "2026-03-08T06:00:00Z..2026-03-08T09:00:00Z"
    );
}

#[test]
fn in_the_night_when_the_clock_is_put_back_a_window_is_not_longer_than_it_says() {
    // Berlin, 2026-10-25: 03:00 is followed by 02:00, at 01:00 UTC.
    let night = windows("Europe/Berlin", ALL, (22, 0), 8);
    assert_eq!(
        next(&night, "2026-10-24T12:00:00Z"),
        "2026-10-24T20:00:00Z..2026-10-25T04:00:00Z"
    );
    // 02:30 is there twice: the first counts, and it opens once.
    let twice = windows("Europe/Berlin", ALL, (2, 30), 1);
    assert_eq!(
        next(&twice, "2026-10-24T12:00:00Z"),
        "2026-10-25T00:30:00Z..2026-10-25T01:30:00Z"
    );
    assert_eq!(
        next(&twice, "2026-10-25T01:30:00Z"),
        "2026-10-26T01:30:00Z..2026-10-26T02:30:00Z"
    );
    // New York, 2026-11-01: 02:00 is followed by 01:00, at 06:00 UTC.
    let new_york = windows("America/New_York", ALL, (1, 30), 1);
    assert_eq!(
        next(&new_york, "2026-11-01T00:00:00Z"),
        "2026-11-01T05:30:00Z..2026-11-01T06:30:00Z"
    );
}

#[test]
fn through_a_year_each_window_opens_once_on_each_of_its_days_and_never_longer_than_it_says() {
    for zone in [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
    ] {
        for hour in 0..24 {
            let windows = windows(zone, ALL, (hour, 15), 2);
            let mut now = at("2026-01-01T00:00:00Z");
            let end = at("2027-01-01T00:00:00Z");
            let mut days = 0;
            while now < end {
                let openings = windows.openings(now);
                // There is always a next one, and none overlaps another.
                assert!(openings.windows(2).all(|pair| pair[0].end <= pair[1].start));
                let opening = openings[0];
                let length = opening.end.duration_since(opening.start);
                assert!(
                    length <= SignedDuration::from_hours(2),
                    "{zone} {opening:?}"
                );
                assert!(
                    length >= SignedDuration::from_hours(1),
                    "{zone} {opening:?}"
                );
                days += 1;
                now = opening.end;
            }
            assert!((365..=366).contains(&days), "{zone} {hour}: {days}");
        }
    }
}

#[test]
fn windows_that_overlap_are_open_as_long_as_one_of_them_is() {
    let mut both = windows("UTC", &[Weekday::Monday], (1, 0), 3);
    both.windows.extend(windows("UTC", ALL, (2, 0), 4).windows);
    // 2026-11-23 is a Monday.
    assert!(both.open(at("2026-11-23T01:30:00Z")).is_some());
    assert!(both.open(at("2026-11-23T05:30:00Z")).is_some());
    assert!(both.open(at("2026-11-24T01:30:00Z")).is_none());
}
