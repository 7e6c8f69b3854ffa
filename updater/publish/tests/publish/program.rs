//! The program as an operator types it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::world::build;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wherry-release"))
        .args(arguments)
        .current_dir(folder)
        .env("WHERRY_KEYS", "keys")
        .output()
        .unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_dry_run_finds_mistakes_and_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    json(at, &["keys", "make", "keys", "--root-keys", "1"]);
    json(at, &["init", "www"]);
    let publish = |version, wave| {
        let arguments = ["publish", "www", "--channel", "stable", "--release", "none"];
        let more = ["--dry-run", "--version", version, "--wave", wave];
        run(at, &[&arguments[..], &more].concat()).status.success()
    };
    assert!(publish("1.0", "10%@+6h"));
    assert!(!publish("1/0", "10%@+6h"));
    assert!(!publish("1.0", "10%"));
    let channels = &json(at, &["list", "www"])["channels"];
    assert_eq!(*channels, serde_json::json!([]));
    std::fs::remove_dir_all(at.join("www")).unwrap();
    assert!(!publish("1.0", "10%@+6h"));
}

#[test]
fn an_operator_gets_from_nothing_to_a_published_release_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    build(&at.join("out"), "1.0", 5);
    let made = json(at, &["keys", "make", "keys", "--root-keys", "1"]);
    assert_eq!(made["keys"].as_array().unwrap().len(), 4);
    assert_eq!(json(at, &["init", "www"])["trust"], "keys/root.json");
    let publish = [
        "publish",
        "www",
        "--channel",
        "stable",
        "--release",
        "out",
        "--wave",
        "1%@+0h",
        "--wave",
        "100%@+6h",
    ];
    assert_eq!(json(at, &publish)["changed"], true);
    assert_eq!(json(at, &publish)["changed"], false);
    let promote = ["promote", "www", "--from", "stable", "--to", "lts", "1.0"];
    assert_eq!(json(at, &promote)["channel"], "lts");
    let halt = ["halt", "www", "--channel", "lts", "1.0", "--because", "no"];
    assert_eq!(json(at, &halt)["changed"], true);
    let list = json(at, &["list", "www"]);
    assert_eq!(list["channels"][0]["offers"][0]["halted"], "no");
    json(at, &["unhalt", "www", "--channel", "lts", "1.0"]);
    json(at, &["timestamp", "www", "--timestamp-expires", "3d"]);
    assert_eq!(
        json(at, &["keys", "rotate", "www", "--role", "timestamp"])["root_version"],
        2
    );
    assert_eq!(json(at, &["keys", "renew", "www"])["root_version"], 3);
    json(at, &["keys", "backup", "keys", "safe"]);
    json(at, &["keys", "restore", "safe", "again"]);
    json(at, &["prune", "www", "--dry-run"]);
    let verified = json(at, &["verify", "www"]);
    assert_eq!(verified["problems"], serde_json::json!([]));
    assert_eq!(verified["files"], 8);

    let text = run(at, &["list", "www"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("stable\n  1.0") && text.contains("1% from"),
        "{text}"
    );
}

#[test]
fn mistakes_end_with_a_sentence_and_a_status() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let said = |arguments: &[&str]| {
        let output = run(at, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["list", "www"]).contains("keys make"));
    json(at, &["keys", "make", "keys", "--root-keys", "1"]);
    assert!(said(&["list", "www"]).contains("is not a repository"));
    json(at, &["init", "www"]);
    assert!(said(&["init", "www"]).contains("is a repository already"));
    let publish = ["publish", "www", "--channel", "stable", "--release", "out"];
    assert!(said(&publish).contains("contains no release"));
    let wave = [&publish[..], &["--wave", "10@6h"]].concat();
    assert!(said(&wave).contains("PERCENT%@"));
    build(&at.join("out"), "1.0", 5);
    let wave = [&publish[..], &["--wave", "50%@+1h", "--wave", "10%@+2h"]].concat();
    let text = said(&wave);
    assert!(text.contains("offers[0].waves[1].percent"), "{text}");
    std::fs::write(at.join("www/metadata/timestamp.json"), "{}").unwrap();
    assert!(said(&["list", "www"]).contains("timestamp.json"));
    let output = run(at, &["verify", "www"]);
    assert!(!output.status.success());
}

#[test]
fn every_command_and_option_is_in_the_manual() {
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/publishing.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let help = |command: &[&str]| {
        let output = run(Path::new("."), &[command, &["--help"]].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = |help: &str| -> Vec<String> {
        help.split("Commands:\n")
            .nth(1)
            .unwrap()
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect()
    };
    let mut pages = 0;
    for first in commands(&help(&[])) {
        let seconds = match first.as_str() {
            "keys" => commands(&help(&["keys"])),
            _ => vec![String::new()],
        };
        for second in seconds {
            let words: Vec<&str> = [first.as_str(), second.as_str()]
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect();
            let name = words.join(" ");
            assert!(manual.contains(&name), "{name} is not in the manual");
            let page = help(&words);
            let options = page
                .split(|letter: char| !(letter.is_ascii_lowercase() || letter == '-'))
                .filter(|word| word.starts_with("--") && word.len() > 2 && *word != "--help");
            for option in options {
                assert!(
                    manual.contains(option),
                    "{name} {option} is not in the manual"
                );
            }
            pages += 1;
        }
    }
    assert_eq!(pages, 17);
}
