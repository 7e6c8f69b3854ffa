use crate::machine::*;
use supervisor::ServiceName;

#[test]
fn only_short_lower_case_names_are_valid() {
    let longest = "a".repeat(64);
    let too_long = "a".repeat(65);
    for valid in ["a", "log", "dns-64", "a-", &longest] {
        assert_eq!(name(valid).as_str(), valid);
    }
    for invalid in [
        "", "-a", "1a", "A", "a_b", "a.b", "a/b", "ä", "a b", &too_long,
    ] {
        assert!(invalid.parse::<ServiceName>().is_err(), "{invalid:?}");
        let json = serde_json::to_string(invalid).unwrap();
        assert!(serde_json::from_str::<ServiceName>(&json).is_err());
    }
}
