use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::value::{Address, Duration, OneOrMany, OrNone, Rate, within};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    name: String,
    #[serde(default)]
    count: u8,
    health: Option<Health>,
    #[serde(default)]
    mounts: Vec<Mount>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    servers: OneOrMany<Address>,
    lock: Option<OrNone<Mount>>,
    rate: Option<OrNone<Rate>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Health {
    interval: Duration,
    retries: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Mount {
    source: String,
    #[serde(default)]
    deeper: Vec<Vec<bool>>,
}

fn check(file: File) -> Result<File, Fault> {
    assert!(file.mounts.iter().all(|mount| mount.deeper.len() < 9));
    if let Some(health) = &file.health {
        let longest = Duration::from_secs(3600);
        within(health.interval, Duration::from_secs(1)..=longest)
            .map_err(|fault| fault.at("interval").at("health"))?;
        if health.retries == Some(0) && file.count == 0 {
            return Err(Fault::new("is missing").at("count"));
        }
    }
    for (index, mount) in file.mounts.iter().enumerate() {
        if !mount.source.starts_with('/') {
            let fault = Fault::new(format!("'{}' is not absolute, expected '/'", mount.source));
            return Err(fault.at("source").at(index).at("mounts"));
        }
    }
    for (name, value) in &file.environment {
        if value.is_empty() {
            return Err(Fault::new("is empty").at(name.as_str()).at("environment"));
        }
    }
    Ok(file)
}

fn read(text: &str) -> Result<File, String> {
    parse("x.toml", text, check).map_err(|error| error.to_string())
}

/// Each with the line that `name` stands in before it.
const MISTAKES: &[(&str, &str)] = &[
    // The parser's.
    (
        "= 3",
        "2:1: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`",
    ),
    (
        "count = \"3",
        "2:11: key `count`: invalid basic string, expected `\"`",
    ),
    ("count = 1\ncount = 2", "3:1: this key is there twice"),
    // The types'.
    (
        "[health]\ninterval = \"soon\"",
        "3:12: key `health.interval`: 'soon' is not a duration, expected one as 250ms, 10s, 5m or 1h 30m",
    ),
    (
        "[health]\ninterval = 3",
        "3:12: key `health.interval`: invalid type: integer `3`, expected text in quotation marks",
    ),
    (
        "[health]\ninterval = \"1s\"\nretry = 3",
        "4:1: unknown key `health.retry`, expected `interval` or `retries`",
    ),
    (
        "[health]\nretries = 1",
        "2:1: missing key `health.interval`",
    ),
    ("health.retries = 1", "2:1: missing key `health.interval`"),
    (
        "health = { interval = \"1s\", retries = -1 }",
        "2:39: key `health.retries`: invalid value: integer `-1`, expected a whole number that is not negative",
    ),
    (
        "health = 3",
        "2:10: key `health`: invalid type: integer `3`, expected a table",
    ),
    (
        "count = 256",
        "2:9: key `count`: invalid value: integer `256`, expected a whole number that is not negative",
    ),
    (
        "[[mounts]]\nsource = \"/a\"\n[[mounts]]\n\nsource = 1",
        "6:10: key `mounts[1].source`: invalid type: integer `1`, expected text in quotation marks",
    ),
    (
        "[[mounts]]\nsource = \"/a\"\n[[mounts]]\ntarget = \"/b\"",
        "5:1: unknown key `mounts[1].target`, expected `source` or `deeper`",
    ),
    (
        "[[mounts]]\nsource = \"/a\"\n[[mounts]]",
        "4:1: missing key `mounts[1].source`",
    ),
    (
        "mounts = [{ source = \"/a\" }, { }]",
        "2:30: missing key `mounts[1].source`",
    ),
    (
        "mounts = [{ source = \"/a\", deeper = [[true], [true, 1]] }]",
        "2:53: key `mounts[0].deeper[1][1]`: invalid type: integer `1`, expected true or false",
    ),
    (
        "environment.\"a.b\" = 1",
        "2:21: key `environment.\"a.b\"`: invalid type: integer `1`, expected text in quotation marks",
    ),
    (
        "servers = [\"10.0.0.1\",\n  \"x\"]",
        "3:3: key `servers[1]`: 'x' is not an IP address, expected one as 10.0.0.1 or fe80::1",
    ),
    (
        "servers = \"x\"",
        "2:11: key `servers`: 'x' is not an IP address, expected one as 10.0.0.1 or fe80::1",
    ),
    (
        "servers = true",
        "2:11: key `servers`: invalid type: boolean `true`, expected text in quotation marks or a list of it",
    ),
    (
        "lock = \"x\"",
        "2:8: key `lock`: invalid type: string \"x\", expected a table or \"none\"",
    ),
    (
        "lock = { sourec = \"/a\" }",
        "2:10: unknown key `lock.sourec`, expected `source` or `deeper`",
    ),
    (
        "[lock]\nsource = 1",
        "3:10: key `lock.source`: invalid type: integer `1`, expected text in quotation marks",
    ),
    ("[lock]", "2:1: missing key `lock.source`"),
    (
        "rate = \"fast\"",
        "2:8: key `rate`: 'fast' is not a rate, expected one as 500 KiB/s, 2 MB/s, 10 Mbit/s or a number of bytes a second or \"none\"",
    ),
    // The check's.
    (
        "[health]\ninterval = \"2h\"",
        "3:12: key `health.interval`: 2h is out of range, expected 1s to 1h",
    ),
    (
        "health = { interval = \"1s\", retries = 0 }",
        "1:1: key `count`: is missing",
    ),
    (
        "[[mounts]]\nsource = \"/a\"\n[[mounts]]\nsource = \"a\"",
        "5:10: key `mounts[1].source`: 'a' is not absolute, expected '/'",
    ),
    (
        "[environment]\nA = \"\"",
        "3:5: key `environment.A`: is empty",
    ),
];

#[test]
fn each_mistake_is_named_with_its_place_its_key_and_what_was_expected() {
    let mut wrong = String::new();
    for (text, expected) in MISTAKES {
        let error =
            read(&format!("name = \"x\"\n{text}\n")).map_or_else(|error| error, |_| "none".into());
        if error != format!("x.toml:{expected}") {
            wrong += &format!("{text}\n  is       {error}\n  expected x.toml:{expected}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn a_key_that_is_missing_in_the_file_itself_is_named() {
    assert_eq!(read("").unwrap_err(), "x.toml:1:1: missing key `name`");
    assert_eq!(
        read("count = 1\n").unwrap_err(),
        "x.toml:1:1: missing key `name`"
    );
}

#[test]
fn what_is_right_is_read() {
    let file = read(
        "name = \"x\"\nservers = \"::1\"\nlock = \"none\"\nrate = 4096\n\
         [health]\ninterval = \"1m\"\n[[mounts]]\nsource = \"/a\"\n",
    )
    .unwrap();
    assert_eq!(file.name, "x");
    assert_eq!(file.servers.0.len(), 1);
    assert!(file.lock.unwrap().0.is_none());
    assert_eq!(file.rate.unwrap().0, Some(Rate(4096)));
    assert_eq!(file.mounts.len(), 1);
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_file_or_an_error_of_one_line(text in "[\\[\\]{}\"'=,.#a-c1 \n\té]{0,60}") {
        if let Err(error) = read(&text) {
            proptest::prop_assert!(error.starts_with("x.toml:"));
            proptest::prop_assert!(!error.contains('\n'));
        }
    }
}
