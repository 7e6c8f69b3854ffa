//! The real command against a socket that speaks the control protocol, and a
//! journal that the real writer wrote.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output as Ran};
use std::time::{Duration, UNIX_EPOCH};

use control::{
    Hello, InhibitMode, Inhibitor, MAX_REPLY, Outcome, Refusal, Reply, Request, ServerEnd, Service,
    ServiceState, Shutdown, Status, encode,
};
use fake_init::{FakeInit, service};
use journal::{BootId, Level, Record, Writer};
use updater_control::Updater;

/// What the command printed and how it ended.
struct Ended {
    code: i32,
    out: String,
    errors: String,
}

fn wherry(socket: &Path, arguments: &[&str]) -> Ended {
    let Ran {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_wherry"))
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .output()
        .unwrap();
    Ended {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        errors: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs `test` with a machine whose service `web` is in this state, and the path of
/// its control socket.
fn with_pid1(web: ServiceState, test: impl FnOnce(&FakeInit, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("init.sock");
    let pid1 = FakeInit::listen(&socket);
    pid1.change(service("web", web));
    test(&pid1, &socket);
}

/// Runs `test` with the control socket of a machine whose service `web` goes
/// through `script` when it is started or stopped.
fn with_script(
    web: ServiceState,
    script: &[(ServiceState, &'static str)],
    test: impl FnOnce(&Path),
) {
    with_pid1(web, |pid1, socket| {
        pid1.script(script);
        test(socket);
    });
}

use ServiceState as S;

#[test]
fn a_start_waits_until_the_service_is_ready() {
    let script = [
        (S::Waiting, "waits for log"),
        (S::Starting, ""),
        (S::Ready, ""),
    ];
    with_script(S::Stopped, &script, |socket| {
        let ended = wherry(socket, &["service", "start", "web"]);
        assert_eq!(ended.code, 0, "{}", ended.errors);
        assert!(ended.out.starts_with("web: ready after "), "{}", ended.out);
        assert_eq!(ended.errors, "");
    });
}

#[test]
fn a_start_that_fails_says_why_and_exits_with_1() {
    let script = [(S::Starting, ""), (S::Failed, "exited with 3")];
    with_script(S::Stopped, &script, |socket| {
        let ended = wherry(socket, &["service", "start", "web", "--json"]);
        assert_eq!(ended.code, 1);
        assert_eq!(
            ended.out,
            "[{\"service\":\"web\",\"state\":\"failed\",\"reached\":false,\"detail\":\"exited with 3\"}]\n"
        );
        assert!(
            ended
                .errors
                .contains("web did not become ready: exited with 3"),
            "{}",
            ended.errors
        );
    });
}

#[test]
fn a_restart_waits_for_the_new_run() {
    let script = [(S::Stopping, ""), (S::Starting, ""), (S::Ready, "")];
    with_script(S::Ready, &script, |socket| {
        let ended = wherry(socket, &["service", "restart", "web"]);
        assert_eq!(ended.code, 0, "{}", ended.errors);
        assert!(ended.out.starts_with("web: ready after "), "{}", ended.out);
    });
}

#[test]
fn a_stop_waits_until_the_service_is_down() {
    let script = [(S::Stopping, ""), (S::Stopped, "")];
    with_script(S::Ready, &script, |socket| {
        let ended = wherry(socket, &["service", "stop", "web"]);
        assert_eq!(ended.code, 0, "{}", ended.errors);
        assert!(
            ended.out.starts_with("web: stopped after "),
            "{}",
            ended.out
        );
    });
}

#[test]
fn the_console_is_not_stopped_without_a_word() {
    let script = [(S::Stopping, ""), (S::Stopped, "")];
    with_script(S::Ready, &script, |socket| {
        let ended = wherry(socket, &["service", "stop", "web", "console"]);
        assert_eq!(ended.code, 4, "{}", ended.errors);
        assert!(ended.errors.contains("add --yes"), "{}", ended.errors);
        let ended = wherry(socket, &["service", "stop", "web", "--yes"]);
        assert_eq!(ended.code, 0, "{}", ended.errors);
    });
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let script = [(S::Starting, "asks for an address")];
    with_script(S::Stopped, &script, |socket| {
        let ended = wherry(socket, &["service", "start", "web", "--timeout", "300ms"]);
        assert_eq!(ended.code, 1);
        let why = "still starting after 300ms: asks for an address";
        assert!(ended.errors.contains(why), "{}", ended.errors);
    });
}

#[test]
fn who_does_not_wait_returns_at_once() {
    with_script(S::Stopped, &[], |socket| {
        let ended = wherry(socket, &["service", "start", "web", "--no-wait"]);
        assert_eq!((ended.code, ended.out.as_str()), (0, ""));
    });
}

#[test]
fn a_refusal_exits_with_4() {
    let cases = [
        (Refusal::NotPermitted, "not permitted"),
        (Refusal::ShuttingDown, "shutting down"),
        (
            Refusal::UnknownService {
                service: "web".into(),
            },
            "no service 'web'",
        ),
    ];
    for (refusal, words) in cases {
        with_pid1(S::Ready, |pid1, socket| {
            pid1.refuse(refusal);
            let ended = wherry(socket, &["service", "start", "web"]);
            assert_eq!(ended.code, 4);
            assert!(ended.errors.contains(words), "{}", ended.errors);
        });
    }
}

#[test]
fn without_pid_1_the_code_is_3_and_the_path_is_named() {
    let ended = wherry(Path::new("/nonexistent/init.sock"), &["status"]);
    assert_eq!(ended.code, 3);
    assert!(
        ended.errors.contains("/nonexistent/init.sock"),
        "{}",
        ended.errors
    );
    assert_eq!(ended.out, "");
}

#[test]
fn a_service_is_defined_until_the_next_boot_and_removed() {
    with_pid1(S::Ready, |pid1, socket| {
        let file = socket.with_file_name("job.toml");
        let text = "description = \"x\"\ncommand = [\"/x\"]\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let ended = wherry(
            socket,
            &["service", "define", "job", file, "--root", "/state/r"],
        );
        assert_eq!(ended.code, 0, "{}", ended.errors);
        assert_eq!(ended.out, "job: defined until the next boot\n");
        let define = Request::Define {
            service: "job".into(),
            text: text.into(),
            root: Some("/state/r".into()),
        };
        assert_eq!(pid1.asked(), [define]);
        let shown = wherry(socket, &["service", "show", "job"]);
        assert!(shown.out.contains("until the next boot"), "{}", shown.out);
        let ended = wherry(socket, &["service", "remove", "job"]);
        assert_eq!(ended.out, "job: removed\n");
        assert_eq!(wherry(socket, &["service", "show", "job"]).code, 4);
        let ended = wherry(socket, &["service", "define", "job", "/nonexistent"]);
        assert_eq!(ended.code, 1);
        assert!(ended.errors.contains("/nonexistent"), "{}", ended.errors);
    });
}

#[test]
fn the_host_name_is_set() {
    with_pid1(S::Ready, |_, socket| {
        let ended = wherry(socket, &["hostname", "set", "boat-8"]);
        assert_eq!(
            ended.out,
            "the machine is called boat-8 until the next boot\n"
        );
        let status = wherry(socket, &["status"]);
        assert!(status.out.contains("on boat-8"), "{}", status.out);
    });
}

#[test]
fn a_command_runs_while_a_shutdown_is_inhibited_and_gives_its_exit_code() {
    with_pid1(S::Ready, |pid1, socket| {
        let script = ["sh", "-c", "exit 7"];
        let ended = wherry(
            socket,
            &[
                &["inhibit", "--why", "test", "--mode", "delay", "--"],
                &script[..],
            ]
            .concat(),
        );
        assert_eq!(ended.code, 7, "{}", ended.errors);
        let inhibit = Request::Inhibit {
            who: "sh".into(),
            why: "test".into(),
            mode: InhibitMode::Delay,
        };
        assert_eq!(pid1.asked(), [inhibit]);
        let ended = wherry(socket, &["inhibit", "/nonexistent/program"]);
        assert_eq!(ended.code, 1);
        assert!(
            ended.errors.contains("/nonexistent/program"),
            "{}",
            ended.errors
        );
    });
}

#[test]
fn a_blocked_shutdown_names_who_blocks_it_and_force_goes_ahead() {
    with_pid1(S::Ready, |pid1, socket| {
        let by = vec![Inhibitor {
            who: "backup".into(),
            why: "writes to the disk".into(),
            mode: InhibitMode::Block,
        }];
        pid1.answer(Request::Poweroff, Reply::Refused(Refusal::Inhibited { by }));
        let ended = wherry(socket, &["poweroff"]);
        assert_eq!(ended.code, 4);
        assert_eq!(
            ended.errors,
            "wherry: blocked by backup (writes to the disk); `--force` shuts down in spite of it\n"
        );
        let ended = wherry(socket, &["poweroff", "--force"]);
        assert_eq!(ended.code, 0, "{}", ended.errors);
        let force = Request::ForceShutdown {
            shutdown: Shutdown::Poweroff,
        };
        assert!(pid1.was_asked(&force));
    });
}

#[test]
fn a_pid_1_of_another_version_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("init.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let hello = Hello {
                protocol: "init".into(),
                version: 7,
            };
            let frame = encode(&hello, MAX_REPLY).unwrap();
            stream.unwrap().write_all(&frame).unwrap();
        }
    });
    let ended = wherry(&socket, &["status"]);
    assert_eq!(ended.code, 3);
    assert!(
        ended
            .errors
            .contains("it speaks init 7 and this program init 1"),
        "{}",
        ended.errors
    );
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let nowhere = Path::new("/nonexistent/init.sock");
    assert_eq!(wherry(nowhere, &["frobnicate"]).code, 2);
    let ended = wherry(nowhere, &["logs", "--since", "soon"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.errors.contains("'soon' is not a time"),
        "{}",
        ended.errors
    );
}

#[test]
fn help_and_completions_need_no_machine() {
    let nowhere = Path::new("/nonexistent/init.sock");
    let help = wherry(nowhere, &["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("boot-chart"));
    for shell in ["bash", "fish", "zsh"] {
        let script = wherry(nowhere, &["completions", shell]);
        assert_eq!(script.code, 0);
        assert!(script.out.contains("boot-chart"), "{shell}");
    }
    let version = wherry(nowhere, &["version", "--json"]);
    assert!(
        version.out.ends_with("\"machine\":null}\n"),
        "{}",
        version.out
    );
}

#[test]
fn machines_get_json_and_people_a_table() {
    with_script(S::Ready, &[], |socket| {
        let list = wherry(socket, &["service", "list"]);
        assert!(list.out.starts_with("SERVICE  STATE"), "{}", list.out);
        let json = wherry(socket, &["--json", "service", "list"]);
        let services: Vec<Service> = serde_json::from_str(&json.out).unwrap();
        assert_eq!(services[0].name, "web");
        let status = wherry(socket, &["status", "--json"]);
        let status: Status = serde_json::from_str(&status.out).unwrap();
        assert_eq!(status.machine.hostname, "boat-7");
    });
}

#[test]
fn a_reload_shows_what_is_wrong_with_a_definition() {
    with_pid1(S::Ready, |pid1, socket| {
        let notes = vec!["/state/services/x/service.toml:3: key `commando`: unknown".into()];
        pid1.answer(Request::Reload, Reply::Done(Outcome { notes }));
        let ended = wherry(socket, &["service", "reload"]);
        assert_eq!(ended.code, 0);
        assert!(
            ended.out.contains("service.toml:3: key `commando`"),
            "{}",
            ended.out
        );
    });
}

#[test]
fn a_definition_is_checked_without_a_machine() {
    let nowhere = Path::new("/nonexistent");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.toml");
    let file = path.to_str().unwrap();
    let check = |options: &[&str]| {
        let mut arguments = vec!["service", "check", file];
        arguments.extend(options);
        wherry(nowhere, &arguments)
    };

    std::fs::write(
        &path,
        "description = \"x\"\ncommand = [\"/x\"]\n\n[health]\ncommand = [\"/x\"]\ninterval = \"soon\"\n",
    )
    .unwrap();
    let ended = check(&[]);
    assert_eq!(ended.code, 1);
    assert_eq!(ended.out, "");
    assert_eq!(
        ended.errors,
        format!(
            "{file}:6:12: key `health.interval`: 'soon' is not a duration, \
             expected one as 250ms, 10s, 5m or 1h 30m\n"
        )
    );
    let ended = check(&["--json"]);
    assert_eq!(ended.code, 1);
    let mistakes: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(mistakes[0]["line"], 6);
    assert_eq!(mistakes[0]["column"], 12);
    assert_eq!(mistakes[0]["key"], "health.interval");

    std::fs::write(&path, "description = \"x\"\ncommand = [\"/x\"]\n").unwrap();
    let ended = check(&[]);
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
    assert_eq!(ended.out, format!("{file}: no mistake\n"));
    let ended = check(&["--json"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "[]\n"));

    std::fs::remove_file(&path).unwrap();
    let ended = check(&[]);
    assert_eq!(ended.code, 1);
    assert_eq!(ended.errors, format!("{file}: does not exist\n"));
}

#[test]
fn the_boot_chart_goes_where_it_is_sent() {
    with_script(S::Ready, &[], |socket| {
        let chart = wherry(socket, &["boot-chart"]);
        assert!(chart.out.starts_with("<svg "), "{}", chart.out);
        let file = socket.with_file_name("chart.svg");
        let ended = wherry(socket, &["boot-chart", "-o", file.to_str().unwrap()]);
        assert_eq!(ended.out.trim_end(), file.to_str().unwrap());
        assert_eq!(std::fs::read_to_string(file).unwrap(), chart.out);
        let ended = wherry(socket, &["boot-chart", "-o", "/nonexistent/chart.svg"]);
        assert_eq!(ended.code, 1);
    });
}

#[test]
fn a_link_called_reboot_reboots() {
    with_script(S::Ready, &[], |socket| {
        let link = socket.with_file_name("reboot");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wherry"), &link).unwrap();
        let output = Command::new(link)
            .arg("--socket")
            .arg(socket)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "rebooting: services are being stopped\n"
        );
    });
}

/// The journal of two boots, as the log service writes it.
fn write_journal(directory: &Path) {
    for boot in 1..=2_u8 {
        let mut writer =
            Writer::open(directory, BootId([boot; 16]), journal::Limits::default()).unwrap();
        for (service, level, message) in [
            ("network", Level::Info, "asks for an address"),
            ("kernel", Level::Error, "disk on fire"),
        ] {
            let record = Record {
                realtime: UNIX_EPOCH + Duration::from_secs(1_795_255_200 + u64::from(boot)),
                monotonic: Duration::from_millis(1500),
                service,
                level,
                unfinished: false,
                message: message.as_bytes(),
                fields: &[],
            };
            writer.push(&record).unwrap();
        }
        writer.close().unwrap();
    }
}

#[test]
fn logs_are_read_without_pid_1() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    write_journal(directory);
    let logs = |arguments: &[&str]| {
        let journal = directory.to_str().unwrap();
        let all = [&["logs", "--journal", journal], arguments].concat();
        let ended = wherry(Path::new("/nonexistent/init.sock"), &all);
        assert_eq!(ended.code, 0, "{}", ended.errors);
        ended.out
    };
    assert_eq!(
        logs(&[]),
        "2026-11-21 10:00:02.000 network: asks for an address\n\
         2026-11-21 10:00:02.000 kernel: disk on fire\n"
    );
    assert_eq!(logs(&["--boot", "-1"]), logs(&["-b", "1"]));
    assert_eq!(
        logs(&["-b", "-1", "-l", "warning", "-m"]),
        "[    1.500000] kernel: disk on fire\n"
    );
    assert_eq!(logs(&["--all-boots", "-s", "network"]).lines().count(), 3);
    assert_eq!(logs(&["--since", "2026-11-21 10:00:02"]), logs(&[]));
    assert_eq!(logs(&["-n", "1"]).lines().count(), 1);
    assert_eq!(logs(&["--list-boots"]).lines().count(), 3);
    let json: serde_json::Value = serde_json::from_str(&logs(&["--json", "-n1"])).unwrap();
    assert_eq!(json["message"], "disk on fire");
    assert_eq!(json["boot"], 2);
}

#[test]
fn a_journal_that_is_not_there_or_too_young_is_a_failure() {
    let nowhere = Path::new("/nonexistent/init.sock");
    let ended = wherry(nowhere, &["logs", "--journal", "/nonexistent"]);
    assert_eq!(ended.code, 1);
    assert!(ended.errors.contains("/nonexistent"), "{}", ended.errors);
    let folder = tempfile::tempdir().unwrap();
    write_journal(folder.path());
    let journal = folder.path().to_str().unwrap();
    let ended = wherry(nowhere, &["logs", "--journal", journal, "-b", "-7"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.errors.contains("does not go back 7 boots"),
        "{}",
        ended.errors
    );
}

/// Runs `wherry update …` against an updater that gives these answers to whatever
/// is asked.
fn update(answers: Vec<updater_control::Reply>, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("updater.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut end, hello) = ServerEnd::<Updater>::accept();
            stream.write_all(&hello).unwrap();
            let mut bytes = [0; 1024];
            while end.next_request().unwrap().is_none() {
                let count = stream.read(&mut bytes).unwrap();
                end.push(&bytes[..count]);
            }
            for answer in &answers {
                stream
                    .write_all(&ServerEnd::<Updater>::reply(answer).unwrap())
                    .unwrap();
            }
        }
    });
    let path = socket.to_str().unwrap();
    let mut all = vec!["update", "--updater", path];
    all.extend(arguments);
    wherry(Path::new("/nonexistent/init.sock"), &all)
}

fn applied() -> Vec<updater_control::Reply> {
    use updater_control::{Applied, Phase, Progress, Reply};
    let writing = |fetched: u64| {
        Reply::Progress(Progress {
            phase: Phase::Writing,
            version: Some("2.0".into()),
            fetched,
            reused: 0,
            verified: fetched,
            total: 4 << 20,
        })
    };
    vec![
        writing(0),
        writing(1 << 20),
        writing(4 << 20),
        Reply::Applied(Applied {
            version: "2.0".into(),
            changed: true,
            fetched: 4 << 20,
            reused: 0,
            reboot: "the machine restarts now".into(),
        }),
    ]
}

#[test]
fn an_update_tells_how_far_it_is_until_the_answer_comes() {
    let ended = update(applied(), &["apply", "--reboot", "now"]);
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert_eq!(
        ended.errors,
        "0 %  writing the slot for 2.0\n\
         25 %  writing the slot for 2.0: fetched 1.0 MiB, verified 256 blocks\n\
         100 %  writing the slot for 2.0: fetched 4.0 MiB, verified 1024 blocks\n"
    );
    assert_eq!(
        ended.out,
        "2.0 boots next; 4.0 MiB fetched, 0 B reused\n  the machine restarts now\n"
    );
    let json = update(applied(), &["apply", "--json"]);
    assert_eq!(json.errors, "");
    assert!(json.out.starts_with("{\"version\":\"2.0\""), "{}", json.out);
}

#[test]
fn what_the_updater_did_not_do_has_an_exit_code() {
    use updater_control::{Refusal, Reply};
    let message = || String::from("2.0 was halted");
    for (refusal, code) in [
        (Refusal::NotPermitted, 4),
        (
            Refusal::Busy {
                doing: "writing".into(),
            },
            4,
        ),
        (Refusal::Declined { message: message() }, 4),
        (Refusal::Failed { message: message() }, 1),
    ] {
        let words = refusal.to_string();
        let ended = update(vec![Reply::Refused(refusal)], &["apply"]);
        assert_eq!(ended.code, code, "{words}");
        assert!(ended.errors.contains(&words), "{}", ended.errors);
        assert_eq!(ended.out, "");
    }
    let nowhere = Path::new("/nonexistent/init.sock");
    let ended = wherry(
        nowhere,
        &["update", "--updater", "/nonexistent/u.sock", "status"],
    );
    assert_eq!(ended.code, 3);
    assert!(
        ended.errors.contains("/nonexistent/u.sock"),
        "{}",
        ended.errors
    );
    let ended = wherry(nowhere, &["update", "hold", "--until", "yesterday"]);
    assert_eq!(ended.code, 2);
}

#[test]
fn the_history_is_cut_to_the_last_lines() {
    use updater_control::{Record, RecordKind, Reply};
    let records = ["1.0", "2.0", "3.0"]
        .map(|to| Record {
            time: "2026-11-21T09:00:00Z".into(),
            kind: RecordKind::Installed,
            from: None,
            to: to.into(),
            reason: String::new(),
            fetched: 0,
            reused: 0,
        })
        .to_vec();
    let ended = update(
        vec![Reply::History { records }],
        &["history", "-n", "1", "--json"],
    );
    assert!(
        ended.out.contains("3.0") && !ended.out.contains("2.0"),
        "{}",
        ended.out
    );
}
