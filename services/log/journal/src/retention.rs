//! Whose entries go when the journal is full
//!
//! Pure. Space is shared by max-min fairness: what a service does not use of
//! its equal share is there for the others, and only those above the level
//! that this leaves lose entries, their oldest. So a service that writes
//! little loses nothing to one that writes much, however much that is.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of entries, by service.
pub type Usage = BTreeMap<Arc<str>, u64>;

/// How many equal shares each of the services has that are kept longest.
const LONGEST: u64 = 4;

/// How many bytes each service has to give up so that all together give up
/// `need`: those above a common level what they have above it. The level of
/// the services named in `longest` is higher than that of the others.
pub fn excess(usage: &Usage, longest: &[&str], need: u64) -> Usage {
    let weight = |service: &str| match longest.contains(&service) {
        true => LONGEST,
        false => 1,
    };
    let mut services: Vec<(&Arc<str>, u64, u64)> = usage
        .iter()
        .map(|(service, bytes)| (service, *bytes, weight(service)))
        .collect();
    services.sort_by_key(|(_, bytes, weight)| std::cmp::Reverse(bytes / weight));
    let (mut bytes, mut weights, mut level) = (0u64, 0u64, 0u64);
    for (position, (_, used, weight)) in services.iter().enumerate() {
        bytes = bytes.saturating_add(*used);
        weights += weight;
        level = bytes.saturating_sub(need) / weights;
        // Those behind are below it already.
        if services
            .get(position + 1)
            .is_none_or(|(_, used, weight)| used / weight <= level)
        {
            break;
        }
    }
    services
        .into_iter()
        .map(|(service, bytes, weight)| (service, bytes.saturating_sub(level * weight)))
        .filter(|(_, excess)| *excess > 0)
        .map(|(service, excess)| (Arc::clone(service), excess))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess_of(usage: &[(&str, u64)], need: u64) -> Vec<(String, u64)> {
        let usage = usage
            .iter()
            .map(|(service, bytes)| (Arc::from(*service), *bytes))
            .collect();
        excess(&usage, &["kernel"], need)
            .into_iter()
            .map(|(service, bytes)| (service.to_string(), bytes))
            .collect()
    }

    fn of(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        let expected = expected.iter();
        expected
            .map(|(service, bytes)| ((*service).to_owned(), *bytes))
            .collect()
    }

    #[test]
    fn the_one_that_wrote_most_gives_up_first() {
        let usage = [("flood", 900), ("network", 60), ("web", 40)];
        assert_eq!(excess_of(&usage, 500), of(&[("flood", 500)]));
        assert_eq!(
            excess_of(&usage, 860),
            of(&[("flood", 850), ("network", 10)]),
            "both to 50"
        );
    }

    #[test]
    fn equals_give_up_equally() {
        let usage = [("a", 100), ("b", 100), ("c", 100), ("d", 10)];
        assert_eq!(
            excess_of(&usage, 60),
            of(&[("a", 20), ("b", 20), ("c", 20)])
        );
    }

    #[test]
    fn the_kernel_is_kept_longest() {
        let usage = [("kernel", 400), ("web", 200)];
        assert_eq!(excess_of(&usage, 100), of(&[("web", 100)]));
        assert_eq!(
            excess_of(&usage, 350),
            of(&[("kernel", 200), ("web", 150)]),
            "four shares to one"
        );
    }

    #[test]
    fn more_than_there_is_is_everything() {
        let usage = [("a", 5), ("b", 0)];
        assert_eq!(excess_of(&usage, 100), of(&[("a", 5)]));
        assert_eq!(excess_of(&[], 100), []);
    }
}
