//! What callers read if something fails.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Box, can_run};

#[test]
fn an_id_is_never_a_path() {
    let container = Box::new("true");
    for id in ["..", ".", "a/b", "../../tmp/x", "/etc", "", "a b", "a\nb"] {
        for command in ["state", "delete", "start", "kill"] {
            let output = container.run(&[command, id]);
            assert_eq!(output.status.code(), Some(1), "{command} {id:?}");
        }
        let output = container.run(&["create", "--bundle", "BUNDLE", id]);
        assert_eq!(output.status.code(), Some(1), "{id:?}");
        let forced = container.run(&["delete", "--force", id]);
        assert_eq!(forced.status.code(), Some(1), "{id:?}");
    }
    assert!(!container.root().exists());
}

#[test]
fn a_program_that_cannot_be_run_fails_in_the_words_that_engines_look_for() {
    if !can_run() {
        return;
    }
    for (program, words) in [
        ("nothing", "executable file not found in $PATH"),
        ("/nothing", "no such file or directory"),
        ("/etc", "permission denied"),
    ] {
        let container = Box::new("").set("/process/args", json!([program]));
        let output = container.run(&["run", "--bundle", "BUNDLE", "ID"]);
        assert_eq!(output.status.code(), Some(1), "{program}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(words), "{program}: {text}");
        assert!(!container.state_folder().exists());
        assert_eq!(container.cgroup(), None);
    }
}

#[test]
fn the_log_is_of_json_where_that_is_wanted() {
    let container = Box::new("true");
    let log = container.folder.path().join("log");
    let log_argument = log.to_str().unwrap();
    let text = container.refused(&[
        "--log",
        log_argument,
        "--log-format",
        "json",
        "state",
        "none",
    ]);
    // For people, and for engines that read standard error.
    assert_eq!(text, "container does not exist: none\n");
    let written = fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container does not exist: none");
    let time = line["time"].as_str().unwrap();
    assert!(time.len() > 20 && time.ends_with('Z'), "{time}");
    // A second one follows the first.
    container.refused(&["--log", log_argument, "--log-format=json", "state", "none"]);
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
}

#[test]
fn a_bundle_without_configuration_is_named() {
    let container = Box::new("true");
    let empty = container.folder.path().join("rootfs");
    let text = container.refused(&["create", "--bundle", empty.to_str().unwrap(), "ID"]);
    assert!(text.contains("config.json not found"), "{text}");
    let text = container.refused(&["create", "--bundle", "/nothing/there", "ID"]);
    assert!(text.contains("/nothing/there"), "{text}");
}

#[test]
fn a_field_that_cannot_be_enforced_is_named_and_nothing_is_left() {
    let container = Box::new("true").set(
        "/linux/resources",
        json!({ "memory": { "kernelTCP": 4096 } }),
    );
    let text = container.refused(&["create", "--bundle", "BUNDLE", "ID"]);
    assert!(text.contains("kernelTCP"), "{text}");
    assert!(!container.state_folder().exists());
}

#[test]
fn terminals_and_console_sockets_belong_together() {
    let container = Box::new("true").set("/process/terminal", json!(true));
    let text = container.refused(&["create", "--bundle", "BUNDLE", "ID"]);
    assert!(text.contains("cannot allocate tty if"), "{text}");
    let container = Box::new("true");
    let arguments = [
        "create",
        "--bundle",
        "BUNDLE",
        "--console-socket",
        "/none",
        "ID",
    ];
    let text = container.refused(&arguments);
    assert!(text.contains("cannot use console socket if"), "{text}");
}

#[test]
fn what_is_not_supported_says_so() {
    let container = Box::new("true");
    for command in [
        &["checkpoint", "--image-path", "/x", "ID"][..],
        &["restore", "--bundle", "BUNDLE", "ID"],
        &["create", "--no-pivot", "--bundle", "BUNDLE", "ID"],
    ] {
        let text = container.refused(command);
        assert!(text.contains("not supported"), "{command:?}: {text}");
    }
}

#[test]
fn the_version_has_the_three_lines_that_engines_read() {
    let container = Box::new("true");
    for option in ["--version", "-v"] {
        let text = container.must(&[option]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("wherry-runtime version "));
        assert!(lines[1].starts_with("commit: "));
        assert!(lines[2].starts_with("spec: 1.2."));
    }
}

#[test]
fn features_are_json_and_every_mount_option_and_hook_is_named() {
    let container = Box::new("true");
    let features: Value = serde_json::from_str(&container.must(&["features"])).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["hooks"].as_array().unwrap().len(), 6);
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    assert_eq!(
        features["linux"]["mountExtensions"]["idmap"]["enabled"],
        true
    );
}

#[test]
fn a_configuration_to_begin_with_is_written_once() {
    let container = Box::new("true");
    let bundle = container.folder.path().join("new");
    fs::create_dir(&bundle).unwrap();
    let path = bundle.to_str().unwrap();
    container.must(&["spec", "--bundle", path]);
    let spec: Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    let text = container.refused(&["spec", "--bundle", path]);
    assert!(text.contains("config.json"), "{text}");
}

/// Hostile: a bundle has a FIFO, an endless device or a directory as config.json. Outcome: an error that names the file, at once.
#[test]
fn a_configuration_that_is_no_regular_file_is_an_error() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    for (name, make) in [
        ("fifo", ["mkfifo", "PATH"].as_slice()),
        ("endless", &["ln", "-s", "/dev/zero", "PATH"]),
        ("folder", &["mkdir", "PATH"]),
        ("long", &["truncate", "--size=17M", "PATH"]),
    ] {
        let bundle = container.folder.path().join(name);
        std::fs::create_dir(&bundle).unwrap();
        let config = bundle.join("config.json");
        let words = make.iter().map(|word| match *word {
            "PATH" => config.to_str().unwrap(),
            other => other,
        });
        let words: Vec<&str> = words.collect();
        let made = std::process::Command::new(words[0])
            .args(&words[1..])
            .status();
        assert!(made.unwrap().success());
        let message = container.refused(&["create", "--bundle", bundle.to_str().unwrap(), "ID"]);
        assert!(message.contains(config.to_str().unwrap()), "{message}");
        assert!(
            message.contains("regular file") || message.contains("longer than 16 MiB"),
            "{message}"
        );
    }
}

/// Hostile: somebody asks for user 4294967295, which means "unchanged" to the kernel. Outcome: refused; nothing runs as root.
#[test]
fn no_program_runs_as_a_user_that_means_unchanged() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    container.create();
    container.must(&["start", "ID"]);
    for user in ["4294967295", "0:4294967295"] {
        let message = container.refused(&["exec", "--user", user, "ID", "id"]);
        assert!(message.contains("process.user."), "{message}");
    }
    let groups = ["exec", "--additional-gids", "4294967295", "ID", "id"];
    assert!(container.refused(&groups).contains("additionalGids"));
}
