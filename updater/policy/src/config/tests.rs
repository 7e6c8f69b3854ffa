use super::*;
use crate::Window;
use jiff::civil::{Weekday, time};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("update.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
repository = ["https://updates.example.org/wherry", "file:///mnt/usb", "/mnt/usb2"]
channel = "beta"
mode = "download"
check-interval = "1h 30m"
health-time = "5m"
health-limit = "20m"
rate-limit = "1.5 MiB/s"
connections = 2
proxy = "http://proxy.example.org:3128"
certificates = "/state/config/updater/authority.pem"
time-zone = "Europe/Berlin"
reboot-delay = "0s"
reboot-spread = "20m"

[[windows]]
days = ["fri", "Saturday"]
start = "22:00"
length = "4h"

[[windows]]
start = "03:30"
length = "90m"

[fleet-lock]
url = "https://lock.example.org/base/"
group = "workers"
id = "pump-7"
"#,
    )
    .unwrap();
    assert_eq!(config.repositories.len(), 3);
    assert_eq!(config.channel, "beta");
    assert_eq!(config.mode, Mode::Download);
    assert_eq!(config.check_interval, Duration::from_secs(5400));
    assert_eq!(config.health_time, Duration::from_secs(300));
    assert_eq!(config.health_limit, Duration::from_secs(1200));
    assert_eq!(config.rate_limit, Some(3 << 19));
    assert_eq!(config.connections, 2);
    assert_eq!(
        config.proxy.as_deref(),
        Some("http://proxy.example.org:3128")
    );
    assert_eq!(
        config.certificates.as_deref(),
        Some(Path::new("/state/config/updater/authority.pem"))
    );
    assert_eq!(config.windows.zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(
        config.windows.windows[0],
        Window {
            days: vec![Weekday::Friday, Weekday::Saturday],
            start: time(22, 0, 0, 0),
            length: Duration::from_secs(4 * 3600),
        }
    );
    assert_eq!(config.windows.windows[1].days.len(), 7);
    assert_eq!(config.reboot_delay, Duration::ZERO);
    assert_eq!(config.reboot_spread, Duration::from_secs(1200));
    assert_eq!(
        config.fleet_lock,
        Some(LockServer {
            url: "https://lock.example.org/base".to_owned(),
            group: "workers".to_owned(),
            id: Some("pump-7".to_owned()),
        })
    );
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn defaults_in_the_list_of_keys_are_the_defaults() {
    let text: String = KEYS
        .iter()
        .filter(|key| !key.name.contains('.') && key.name != "repository")
        .map(|key| format!("{} = {}\n", key.name, key.default))
        .collect();
    assert_eq!(parse(&text).unwrap(), Config::default(), "{text}");
}

#[test]
fn the_machine_s_file_stands_above_the_image_s() {
    let image = parse(
        "repository = \"https://a.example\"\nproxy = \"http://p.example\"\nconnections = 8\n\
         fleet-lock = { url = \"http://l.example\" }\nwindows = [{ start = \"01:00\", length = \"1h\" }]",
    )
    .unwrap();
    let path = Path::new("update.toml");
    let machine = image
        .clone()
        .overlaid(
            path,
            "proxy = \"none\"\nfleet-lock = \"none\"\nwindows = []",
        )
        .unwrap();
    assert_eq!(machine.repositories, image.repositories);
    assert_eq!(machine.connections, 8);
    assert_eq!((machine.proxy, machine.fleet_lock), (None, None));
    assert!(machine.windows.is_any());
}

#[test]
fn rates_are_read_in_the_units_of_those_who_sell_them() {
    for (text, bytes) in [
        ("4096", 4096),
        ("\"4096\"", 4096),
        ("\"500 KiB/s\"", 512_000),
        ("\"500KiB\"", 512_000),
        ("\"2 MB/s\"", 2_000_000),
        ("\"10 Mbit/s\"", 1_250_000),
        ("\"0.5 MiB/s\"", 524_288),
        ("\"1.125 GB/s\"", 1_125_000_000),
    ] {
        let config = parse(&format!("rate-limit = {text}")).unwrap();
        assert_eq!(config.rate_limit, Some(bytes), "{text}");
    }
    assert_eq!(parse("rate-limit = \"none\"").unwrap().rate_limit, None);
}

#[test]
fn each_mistake_is_named_with_its_place_and_what_to_write() {
    let mut wrong = String::new();
    for (text, expected) in MISTAKES {
        let error = match parse(text) {
            Ok(_) => "no error".to_owned(),
            Err(error) => error,
        };
        if error != *expected {
            wrong.push_str(&format!("{text}\n  {error}\n  {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

const MISTAKES: &[(&str, &str)] = &[
    (
        "chanel = \"stable\"",
        "update.toml:1:1: unknown key `chanel`, expected one of `repository`, `channel`, `mode`, `check-interval`, `health-time`, `health-limit`, `rate-limit`, `connections`, `proxy`, `certificates`, `time-zone`, `windows`, `fleet-lock`, `reboot-delay`, `reboot-spread`",
    ),
    (
        "channel = \"a/b\"",
        "update.toml:1:11: key `channel`: 'a/b' is not a channel, expected 1 to 64 lower-case letters, digits, '.', '-', a letter or digit first",
    ),
    (
        "channel = 1",
        "update.toml:1:11: key `channel`: invalid type: integer `1`, expected text in quotation marks",
    ),
    (
        "channel = \"a\"\nchannel = \"b\"",
        "update.toml:2:1: this key is there twice",
    ),
    (
        "channel = \"stable",
        "update.toml:1:18: key `channel`: invalid basic string, expected `\"`",
    ),
    (
        "mode = \"auto\"",
        "update.toml:1:8: key `mode`: unknown variant `auto`, expected one of `automatic`, `download`, `manual`",
    ),
    (
        "repository = \"ftp://a.example\"",
        "update.toml:1:14: key `repository`: 'ftp://a.example' is not a repository (unknown scheme), expected https://…, http://…, file:///… or the absolute path of a folder",
    ),
    (
        "repository = [\n  \"https://a.example\",\n  \"updates\",\n]",
        "update.toml:3:3: key `repository[1]`: 'updates' is not a repository (relative URL without a base), expected https://…, http://…, file:///… or the absolute path of a folder",
    ),
    (
        "repository = \"https://a.example/?x\"",
        "update.toml:1:14: key `repository`: 'https://a.example/?x' is not a repository (file names are added to it, so it ends before '?' and '#'), expected https://…, http://…, file:///… or the absolute path of a folder",
    ),
    (
        "repository = \"file://host/a\"",
        "update.toml:1:14: key `repository`: 'file://host/a' is not a repository (a file is on this machine, not on a host), expected https://…, http://…, file:///… or the absolute path of a folder",
    ),
    (
        "repository = [\"/a\", \"/a\"]",
        "update.toml:1:21: key `repository[1]`: '/a' is there twice",
    ),
    (
        "repository = 1",
        "update.toml:1:14: key `repository`: invalid type: integer `1`, expected text in quotation marks or a list of it",
    ),
    (
        "check-interval = \"soon\"",
        "update.toml:1:18: key `check-interval`: 'soon' is not a duration, expected one as 250ms, 10s, 5m or 1h 30m",
    ),
    (
        "check-interval = 60",
        "update.toml:1:18: key `check-interval`: invalid type: integer `60`, expected text in quotation marks",
    ),
    (
        "check-interval = \"10s\"",
        "update.toml:1:18: key `check-interval`: 10s is out of range, expected 1m to 30days",
    ),
    (
        "health-time = \"20m\"",
        "update.toml:1:15: key `health-time`: 20m is not shorter than `health-limit`, 10m: no release could prove itself in time",
    ),
    (
        "health-limit = \"1m\"",
        "update.toml:1:16: key `health-limit`: 1m is not longer than `health-time`, 2m: no release could prove itself in time",
    ),
    (
        "health-limit = \"2d\"",
        "update.toml:1:16: key `health-limit`: 2days is out of range, expected 1s to 1day",
    ),
    (
        "rate-limit = \"fast\"",
        "update.toml:1:14: key `rate-limit`: 'fast' is not a rate, expected one as 500 KiB/s, 2 MB/s, 10 Mbit/s or a number of bytes a second or \"none\"",
    ),
    (
        "rate-limit = \"500 B/s\"",
        "update.toml:1:14: key `rate-limit`: 500 B/s is too slow to update by, expected 1 KiB/s or more, or \"none\"",
    ),
    (
        "rate-limit = -5",
        "update.toml:1:14: key `rate-limit`: -5 is negative, expected one as 500 KiB/s, 2 MB/s, 10 Mbit/s or a number of bytes a second or \"none\"",
    ),
    (
        "rate-limit = true",
        "update.toml:1:14: key `rate-limit`: invalid type: boolean `true`, expected one as 500 KiB/s, 2 MB/s, 10 Mbit/s or a number of bytes a second or \"none\"",
    ),
    (
        "connections = 0",
        "update.toml:1:15: key `connections`: 0 is out of range, expected 1 to 16",
    ),
    (
        "connections = \"4\"",
        "update.toml:1:15: key `connections`: invalid type: string \"4\", expected a whole number",
    ),
    (
        "proxy = \"proxy:3128\"",
        "update.toml:1:9: key `proxy`: 'proxy:3128' is not an address, expected http://host:port or https://host:port or \"none\"",
    ),
    (
        "certificates = \"a.pem\"",
        "update.toml:1:16: key `certificates`: 'a.pem' is not an absolute path, expected one that begins with '/' or \"none\"",
    ),
    (
        "time-zone = \"Europe/Bärlin\"",
        "update.toml:1:13: key `time-zone`: 'Europe/Bärlin' is not a time zone, expected UTC or one as Europe/Berlin",
    ),
    (
        "windows = [{ start = \"25:00\", length = \"1h\" }]",
        "update.toml:1:22: key `windows[0].start`: '25:00' is not a time of day, expected one as 22:00",
    ),
    (
        "windows = [{ start = \"2:00\", length = \"1h\" }]",
        "update.toml:1:22: key `windows[0].start`: '2:00' is not a time of day, expected one as 22:00",
    ),
    (
        "windows = [{ start = \"02:00\" }]",
        "update.toml:1:12: missing key `windows[0].length`",
    ),
    (
        "windows = [{ start = \"02:00\", length = \"5m\" }]",
        "update.toml:1:40: key `windows[0].length`: 5m is out of range, expected 10m to 7days",
    ),
    (
        "windows = [{ start = \"02:00\", length = \"8d\" }]",
        "update.toml:1:40: key `windows[0].length`: 8days is out of range, expected 10m to 7days",
    ),
    (
        "windows = [{ start = \"02:00\", length = \"1h\", end = \"03:00\" }]",
        "update.toml:1:46: unknown key `windows[0].end`, expected one of `days`, `start`, `length`",
    ),
    (
        "[[windows]]\ndays = []\nstart = \"02:00\"\nlength = \"1h\"",
        "update.toml:2:8: key `windows[0].days`: no day at all; leave the key out for every day",
    ),
    (
        "[[windows]]\ndays = [\"mon\", \"Monday\"]\nstart = \"02:00\"\nlength = \"1h\"",
        "update.toml:2:16: key `windows[0].days[1]`: this day is there twice",
    ),
    (
        "[[windows]]\ndays = [\"moon\"]\nstart = \"02:00\"\nlength = \"1h\"",
        "update.toml:2:9: key `windows[0].days[0]`: 'moon' is not a day, expected mon, tue, wed, thu, fri, sat or sun",
    ),
    (
        "fleet-lock = \"https://l.example\"",
        "update.toml:1:14: key `fleet-lock`: invalid type: string \"https://l.example\", expected a table or \"none\"",
    ),
    (
        "[fleet-lock]\ngroup = \"a\"",
        "update.toml:1:1: missing key `fleet-lock.url`",
    ),
    (
        "[fleet-lock]\nurl = \"l.example\"",
        "update.toml:2:7: key `fleet-lock.url`: 'l.example' is not an address, expected http://host:port or https://host:port",
    ),
    (
        "[fleet-lock]\nurl = \"http://l.example\"\ngroup = \"a b\"",
        "update.toml:3:9: key `fleet-lock.group`: 'a b' is not a group, expected 1 to 128 letters, digits, '.', '-'",
    ),
    (
        "[fleet-lock]\nurl = \"http://l.example\"\nid = \"\"",
        "update.toml:3:6: key `fleet-lock.id`: '' is not a name, expected 1 to 128 bytes without control characters",
    ),
    (
        "[fleet-lock]\nurl = \"http://l.example\"\ntoken = \"x\"",
        "update.toml:3:1: unknown key `fleet-lock.token`, expected one of `url`, `group`, `id`",
    ),
    (
        "# ä\n  ä = 1",
        "update.toml:2:3: key `\"ä\"`: invalid unquoted key, expected letters, numbers, `-`, `_`",
    ),
    (
        "reboot-delay = \"2 days\"",
        "update.toml:1:16: key `reboot-delay`: 2days is out of range, expected 0s to 1day",
    ),
    (
        "reboot-spread = \"-1s\"",
        "update.toml:1:17: key `reboot-spread`: '-1s' is not a duration, expected one as 250ms, 10s, 5m or 1h 30m",
    ),
];

#[test]
fn the_manual_has_exactly_the_keys_of_the_file_with_their_defaults() {
    let manual = include_str!("../../../../docs/update-policy.md");
    let rows: Vec<(&str, &str)> = manual
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?;
            let default = cells.nth(1)?;
            Some((name, default.trim_matches('`')))
        })
        .filter(|(name, _)| !name.starts_with("wherry ") && !name.starts_with('…'))
        .collect();
    let keys: Vec<(&str, &str)> = KEYS.iter().map(|key| (key.name, key.default)).collect();
    let sorted = |mut rows: Vec<(&'static str, &'static str)>| {
        rows.sort_unstable();
        rows
    };
    assert_eq!(sorted(rows), sorted(keys));
}

#[test]
fn the_manual_s_example_is_a_configuration() {
    let manual = include_str!("../../../../docs/update-policy.md");
    let example = manual
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let config = parse(example).unwrap();
    assert_eq!(config.windows.windows.len(), 2);
    assert_eq!(config.fleet_lock.unwrap().group, "gateways");
}

#[test]
fn the_list_of_keys_is_what_the_file_takes() {
    let expected = |text: &str| -> Vec<String> {
        let error = parse(text).unwrap_err();
        let list = error.split("expected one of ").nth(1).unwrap();
        list.split(", ")
            .map(|key| key.trim_matches('`').to_owned())
            .collect()
    };
    let listed = |table: &str| -> Vec<String> {
        let keys = KEYS.iter().filter_map(|key| key.name.strip_prefix(table));
        let keys = keys.filter(|key| !key.contains('.'));
        keys.map(str::to_owned).collect()
    };
    assert_eq!(expected("x = 1"), listed(""));
    assert_eq!(expected("windows = [{ x = 1 }]"), listed("windows."));
    assert_eq!(expected("fleet-lock = { x = 1 }"), listed("fleet-lock."));
}
