use proptest::prelude::*;
use release::Wave;

use super::*;
use crate::choose::tests::offer;

const FLEET: u128 = 10_000;

fn fleet() -> impl Iterator<Item = MachineId> {
    // As random as real ones, and the same each time.
    (1..=FLEET).map(|number| {
        MachineId::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    })
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn the_place_is_what_the_manual_says() {
    // printf %s%s 0123456789abcdef0123456789abcdef 2.0 | sha256sum
    let machine = "0123456789abcdef0123456789abcdef".parse().unwrap();
    assert_eq!(share(&machine, &version("2.0")), PLACE);
}

const PLACE: u32 = 2216;

#[test]
fn another_tenth_goes_first_with_each_release() {
    let first = |text: &str| -> Vec<bool> {
        fleet()
            .map(|machine| share(&machine, &version(text)) < 1000)
            .collect()
    };
    let (one, two) = (first("2.0"), first("2.1"));
    let both = one.iter().zip(&two).filter(|(a, b)| **a && **b).count();
    // Expected: 1 % of 10,000, with a standard deviation of 10.
    assert!((50..=150).contains(&both), "{both}");
}

#[test]
fn a_time_that_is_none_never_comes_and_no_waves_are_everyone_at_once() {
    let machine = MachineId::from(7);
    let mut offer = offer("2.0", None);
    assert_eq!(wave_start(&offer, &machine), Some(Timestamp::MIN));
    offer.waves = vec![Wave {
        percent: 100,
        start: "tomorrow".to_owned(),
    }];
    assert_eq!(wave_start(&offer, &machine), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_wave_of_so_many_percent_is_so_many_machines(
        percents in proptest::collection::btree_set(1u8..=100, 1..6),
        major in 1u32..1000,
        minor in 0u32..1000,
    ) {
        let mut offer = offer(&format!("{major}.{minor}"), None);
        let times: Vec<Timestamp> = (0..percents.len())
            .map(|number| Timestamp::from_second(1_800_000_000 + 3600 * number as i64).unwrap())
            .collect();
        offer.waves = percents
            .iter()
            .zip(&times)
            .map(|(percent, start)| Wave { percent: *percent, start: start.to_string() })
            .collect();
        let starts: Vec<_> = fleet().map(|machine| wave_start(&offer, &machine)).collect();
        for (percent, time) in percents.iter().zip(&times) {
            let there = starts.iter().filter(|start| start.is_some_and(|start| start <= *time));
            let expected = f64::from(*percent) / 100.0;
            let found = there.count() as f64 / FLEET as f64;
            // Five standard deviations.
            let tolerance = 5.0 * (expected * (1.0 - expected) / FLEET as f64).sqrt();
            prop_assert!((found - expected).abs() <= tolerance, "{found} of {expected}");
        }
    }

    #[test]
    fn who_is_in_a_wave_is_in_each_later_one(id in 1u128.., percent in 1u8..100, more in 1u8..100) {
        let machine = MachineId::from(id);
        let mut offer = offer("3.1", None);
        let wave = |percent: u8, start: &str| Wave { percent, start: start.to_owned() };
        let more = percent.saturating_add(more).min(100);
        offer.waves = vec![wave(percent, "2027-01-01T00:00:00Z")];
        let alone = wave_start(&offer, &machine);
        offer.waves.push(wave(more, "2027-01-02T00:00:00Z"));
        let followed = wave_start(&offer, &machine);
        prop_assert!(alone.is_none() || followed == alone);
        offer.waves.push(wave(100, "2027-01-03T00:00:00Z"));
        prop_assert!(wave_start(&offer, &machine).is_some());
    }
}
