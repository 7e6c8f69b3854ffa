//! Versions, against systemd's comparison.

use std::cmp::Ordering;
use std::str::FromStr;

use machine::Build;
use proptest::prelude::*;
use release::Version;

fn version(text: &str) -> Version {
    Version::from_str(text).unwrap()
}

/// What `systemd-analyze compare-versions` says, which sorts as systemd-boot.
fn theirs(a: &str, b: &str) -> Ordering {
    let build = Build::from_env().expect("`cargo xtask tools` makes the tools tree");
    let mut command = build.tools().unwrap().command("systemd-analyze").unwrap();
    let status = command
        .args(["compare-versions", a, b])
        .output()
        .unwrap()
        .status;
    match status.code() {
        Some(0) => Ordering::Equal,
        Some(11) => Ordering::Greater,
        Some(12) => Ordering::Less,
        other => panic!("compare-versions {a} {b}: {other:?}"),
    }
}

#[test]
fn versions_are_ordered_as_systemd_orders_them() {
    let versions = [
        "0",
        "0.9",
        "1",
        "1.",
        "1.0",
        "1.0.0",
        "1.00",
        "01",
        "1-",
        "1-1",
        "1-1.2",
        "1-.",
        "1.-",
        "1~",
        "1~rc1",
        "1~rc1.1",
        "1~~",
        "1~-",
        "1~.",
        "1.1~dev",
        "1a",
        "1a1",
        "1A",
        "1.10",
        "1.9",
        "1.10a",
        "1.a",
        "2",
        "10",
        "257.9-1~deb13u1",
        "257.13-1~deb13u1",
        "257.9-1",
    ];
    for (at, a) in versions.iter().enumerate() {
        for b in &versions[at..] {
            let expected = theirs(a, b);
            assert_eq!(version(a).cmp(&version(b)), expected, "{a} and {b}");
            assert_eq!(version(b).cmp(&version(a)), expected.reverse(), "{b}, {a}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_two_versions_are_ordered_as_systemd_orders_them(
        a in "[01][019a.~-]{0,8}",
        b in "[01][019a.~-]{0,8}",
    ) {
        prop_assert_eq!(version(&a).cmp(&version(&b)), theirs(&a, &b));
    }
}

proptest! {
    #[test]
    fn equal_versions_hash_alike(a in "[01][01a.~-]{0,5}", b in "[01][01a.~-]{0,5}") {
        use std::hash::{BuildHasher, RandomState};
        let state = RandomState::new();
        let (a, b) = (version(&a), version(&b));
        prop_assert!(a != b || state.hash_one(&a) == state.hash_one(&b));
    }
}
