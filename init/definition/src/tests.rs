use super::*;
use supervisor::{Ready, RestartPolicy};

const MINIMAL: &str = "description = \"x\"\ncommand = [\"/x\"]\n";

fn with(extra: &str) -> Result<Definition, config::Error> {
    parse("x/service.toml", &format!("{MINIMAL}{extra}"))
}

fn message(extra: &str) -> String {
    with(extra).unwrap_err().to_string()
}

#[test]
fn what_is_not_said_is_the_strictest() {
    let definition = with("").unwrap();
    assert_eq!(definition.network, Share::Private);
    assert_eq!(definition.pid, Share::Private);
    assert_eq!(definition.ipc, Share::Private);
    assert!(definition.capabilities.is_empty());
    assert!(definition.mounts.is_empty());
    assert!(definition.devices.is_empty());
    assert_eq!(definition.stored_descriptors, 0);
    assert_eq!(definition.limits.pids, Some(512));
    assert_eq!(definition.limits.memory, MemoryLimit::Half);
    assert!(definition.policy.enabled);
    assert!(!definition.policy.essential);
}

#[test]
fn the_example_of_the_design_is_understood() {
    let definition = parse(
        "network/service.toml",
        r#"
description = "DHCP, addresses, routes, DNS"
image = "network"
command = ["/usr/bin/network"]
requires = ["log"]
after = []
ready = "notify"
restart = { policy = "on-failure", backoff = "250ms..30s", limit = "10/1h" }
stop = { signal = "SIGTERM", timeout = "10s" }
capabilities = ["CAP_NET_ADMIN"]
namespaces = { network = "host" }
mounts = [{ source = "/run/wherry/network", target = "/run/network" }]
devices = []
limits = { memory = "32M", pids = 64, cpu = "50%" }
health = { command = ["/usr/bin/network", "check"], interval = "30s", timeout = "5s", retries = 3 }
essential = true
"#,
    )
    .unwrap();
    assert_eq!(definition.policy.ready, Ready::Notify);
    assert_eq!(definition.policy.restart.policy, RestartPolicy::OnFailure);
    assert_eq!(definition.limits.memory, MemoryLimit::Bytes(32 << 20));
    assert_eq!(definition.limits.cpu, Some(CpuLimit { percent: 50 }));
    assert_eq!(definition.network, Share::Host);
    assert!(definition.policy.essential);
    assert_eq!(definition.policy.requires.len(), 1);
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    assert!(
        message("priviledged = true\n").starts_with(
            "x/service.toml:3:1: unknown key `priviledged`, expected one of `description`"
        ),
        "{}",
        message("priviledged = true\n")
    );
    let nested = message("\n[limits]\nmemroy = \"1M\"\n");
    assert!(
        nested.starts_with(
            "x/service.toml:5:1: unknown key `limits.memroy`, expected one of `memory`"
        ),
        "{nested}"
    );
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_place_and_key() {
    for (text, line, key, word) in [
        (
            "user = \"root\"",
            3,
            "user",
            "'root' is not a user, expected numbers",
        ),
        (
            "stop = { timeout = \"soon\" }",
            3,
            "stop.timeout",
            "'soon' is not a duration, expected",
        ),
        (
            "limits = { memory = \"12X\" }",
            3,
            "limits.memory",
            "'12X' is not a size, expected",
        ),
        (
            "limits = { memory = \"0\" }",
            3,
            "limits.memory",
            "0 is no limit",
        ),
        ("[limits]\nswap = 0", 4, "limits.swap", "0 is no limit"),
        (
            "limits = { memory = \"none\", swap = \"1G\" }",
            3,
            "limits.swap",
            "only in addition",
        ),
        (
            "stop = { signal = \"SIGRTMIN+31\" }",
            3,
            "stop.signal",
            "no signal 'SIGRTMIN+31'",
        ),
        (
            "limits = { cpu = \"0%\" }",
            3,
            "limits.cpu",
            "'0%' is not a share",
        ),
        (
            "sockets = [\"tcp:[::]:1\", \"unix:/state/x\"]",
            3,
            "sockets[1]",
            "is elsewhere, expected a path below /run/wherry/",
        ),
        (
            "sockets = [\"unix:/run/wherry/../../state/config/x\"]",
            3,
            "sockets[0]",
            "holds '..'",
        ),
        (
            "sockets = [\"unix:/run/wherry/init.sock\"]",
            3,
            "sockets[0]",
            "/run/wherry/init.sock is PID 1's own",
        ),
        (
            "sockets = [\"unix:/run/wherry/notify/log\"]",
            3,
            "sockets[0]",
            "/run/wherry/notify is PID 1's own",
        ),
        (
            "sockets = [\"unix:/run/wherry/./init.sock\"]",
            3,
            "sockets[0]",
            "an empty part or '.'",
        ),
        (
            "sockets = [\"unix:/run/wherry//init.sock\"]",
            3,
            "sockets[0]",
            "an empty part or '.'",
        ),
        ("sockets = [\"tcp:0.0.0.0:0\"]", 3, "sockets[0]", "port 0"),
        ("user = \"4294967295\"", 3, "user", "keeps 4294967295"),
        ("user = \"1000:4294967295\"", 3, "user", "smaller numbers"),
        ("limits = { pids = 0 }", 3, "limits.pids", "expected 1 to"),
        (
            "limits = { open-files = 0 }",
            3,
            "limits.open-files",
            "expected 4 to",
        ),
        (
            "stored-descriptors = 4294967295",
            3,
            "stored-descriptors",
            "expected 0 to 256",
        ),
        (
            "start-timeout = \"0s\"",
            3,
            "start-timeout",
            "expected 50ms at least",
        ),
        (
            "health = { command = [\"/x\"], interval = \"0s\" }",
            3,
            "health.interval",
            "expected 50ms at least",
        ),
        (
            "health = { command = [\"/x\"], timeout = \"1ms\" }",
            3,
            "health.timeout",
            "expected 50ms at least",
        ),
        (
            "health = { command = [\"/x\"], retries = 0 }",
            3,
            "health.retries",
            "expected 1 to",
        ),
        (
            "restart = { backoff = \"9s..1s\" }",
            3,
            "restart.backoff",
            "the shorter first",
        ),
        (
            "restart = { limit = \"9\" }",
            3,
            "restart.limit",
            "not a limit of restarts, expected one as 10/1h or \"none\"",
        ),
        (
            "ready = \"soon\"",
            3,
            "ready",
            "unknown variant `soon`, expected one of `started`",
        ),
        (
            "capabilities = [\"NET_ADMIN\"]",
            3,
            "capabilities[0]",
            "no capability 'NET_ADMIN'",
        ),
        (
            "stop = { signal = \"SIGFOO\" }",
            3,
            "stop.signal",
            "no signal 'SIGFOO'",
        ),
        (
            "devices = [\"/etc/passwd\"]",
            3,
            "devices[0]",
            "is not below /dev",
        ),
        ("devices = [\"/dev/../etc\"]", 3, "devices[0]", "holds '..'"),
        (
            "mounts = [{ source = \"/a/../b\", target = \"/x\" }]",
            3,
            "mounts[0].source",
            "holds '..'",
        ),
        (
            "[[mounts]]\nsource = \"/a\"\ntarget = \"/a\"\n[[mounts]]\nsource = \"b\"\ntarget = \"/b\"",
            7,
            "mounts[1].source",
            "'b' is not an absolute path",
        ),
        (
            "[health]\ncommand = [\"/x\"]\ninterval = \"often\"",
            5,
            "health.interval",
            "'often' is not a duration",
        ),
        (
            "[health]\ncommand = [\"x\"]",
            4,
            "health.command[0]",
            "'x' is not an absolute path",
        ),
        (
            "[health]\ncommand = []",
            4,
            "health.command",
            "the command is empty",
        ),
        (
            "environment = { \"\" = \"x\" }",
            3,
            "environment",
            "'' is not a variable's name",
        ),
        (
            "[environment]\nA = \"\\u0000\"",
            4,
            "environment.A",
            "zero byte",
        ),
        (
            "working-directory = \"x\"",
            3,
            "working-directory",
            "'x' is not an absolute path",
        ),
        ("watchdog = \"0s\"", 3, "watchdog", "expected 50ms at least"),
        (
            "requires = [\"log\", \"Log\"]",
            3,
            "requires[1]",
            "'Log' is not a service's name",
        ),
        ("ready = \"health\"", 3, "ready", "needs a table `health`"),
        (
            "restart = { policy = \"always\" }\nready = \"exit\"",
            3,
            "restart.policy",
            "is never done",
        ),
    ] {
        let error = with(&format!("{text}\n")).unwrap_err();
        assert_eq!(
            error.position.map(|at| at.line),
            Some(line),
            "{text}: {error}"
        );
        assert_eq!(error.key.to_string(), key, "{text}: {error}");
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
}

#[test]
fn a_command_must_be_an_absolute_path() {
    let error = parse("x", "description = \"x\"\ncommand = [\"sh\"]\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "x:2:12: key `command[0]`: 'sh' is not an absolute path, expected one that begins with '/'"
    );
    assert!(parse("x", "description = \"x\"\ncommand = []\n").is_err());
}

#[test]
fn a_missing_key_is_named() {
    let error = parse("x", "description = \"x\"\n").unwrap_err();
    assert!(
        error.to_string() == "x:1:1: missing key `command`",
        "{error}"
    );
    for (text, line, key) in [
        ("command = [\"/x\"]\nimage = \"x\"\n", 1, "description"),
        ("command = [\"/x\"]\n[limits]\npids = 3", 1, "description"),
        ("", 1, "description"),
        (
            &format!("{MINIMAL}[health]\ninterval = \"1s\""),
            3,
            "health.command",
        ),
        (
            &format!("{MINIMAL}mounts = [{{ target = \"/x\" }}]"),
            3,
            "mounts[0].source",
        ),
    ] {
        let error = parse("x", text).unwrap_err();
        assert_eq!(error.position.unwrap().line, line, "{error}");
        assert!(
            error.to_string().ends_with(&format!("missing key `{key}`")),
            "{error}"
        );
    }
}

#[test]
fn text_that_is_not_toml_is_an_error_with_its_line() {
    let error = with("\n\n= 3\n").unwrap_err();
    assert_eq!(error.position.unwrap().line, 5, "{error}");
}

#[test]
fn a_definition_without_end_is_refused() {
    let comment = MAX_LENGTH - MINIMAL.len() - 1;
    with(&format!("#{}", "x".repeat(comment))).unwrap();
    let error = message(&format!("#{}", "x".repeat(comment + 1)));
    assert!(error.contains("65536 bytes at most"), "{error}");
}

#[test]
fn a_stop_signal_may_be_one_of_the_real_time_ones() {
    for (text, number, shown) in [
        ("SIGTERM", 15, "SIGTERM"),
        ("SIGRTMIN", 34, "SIGRTMIN+0"),
        ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
        ("SIGRTMAX-14", 50, "SIGRTMIN+16"),
        ("SIGRTMAX", 64, "SIGRTMIN+30"),
    ] {
        let signal = with(&format!("stop = {{ signal = \"{text}\" }}\n"))
            .unwrap()
            .stop_signal;
        assert_eq!(signal, StopSignal(number));
        assert_eq!(signal.to_string(), shown);
        assert_eq!(shown.parse(), Ok(signal));
    }
    for text in [
        "SIGRTMIN3",
        "SIGRTMIN+-1",
        "SIGRTMIN++1",
        "SIGRTMAX-31",
        "SIGRT",
        "37",
    ] {
        assert!(text.parse::<StopSignal>().is_err(), "{text}");
    }
}

#[test]
fn memory_is_counted_in_powers_of_1024() {
    for (text, bytes) in [("1", 1), ("4K", 4096), ("2GiB", 2 << 30), ("1.5M", 3 << 19)] {
        let definition = with(&format!("limits = {{ memory = \"{text}\" }}\n")).unwrap();
        assert_eq!(definition.limits.memory, MemoryLimit::Bytes(bytes));
    }
}

/// The keys that a table takes, as its error for an unknown one lists them.
fn keys(text: &str) -> std::collections::BTreeSet<String> {
    let error = parse("x", text).unwrap_err().to_string();
    let (_, list) = error.split_once("expected one of ").unwrap_or_else(|| {
        error
            .split_once("expected ")
            .unwrap_or_else(|| panic!("{error}"))
    });
    list.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manual_has_each_key_and_no_other() {
    let manual = include_str!("../../../docs/services.md");
    for (heading, text) in [
        ("## Keys", "zzz = 1\n"),
        ("### `restart`", "restart = { zzz = 1 }\n"),
        ("### `stop`", "stop = { zzz = 1 }\n"),
        ("### `namespaces`", "namespaces = { zzz = 1 }\n"),
        ("### `mounts`", "mounts = [{ zzz = 1 }]\n"),
        ("### `limits`", "limits = { zzz = 1 }\n"),
        ("### `health`", "health = { zzz = 1 }\n"),
    ] {
        let (_, section) = manual.split_once(&format!("\n{heading}\n")).unwrap();
        let section = section.split("\n#").next().unwrap();
        let documented = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .map(str::to_owned)
            .collect();
        assert_eq!(keys(text), documented, "{heading}");
    }
}
