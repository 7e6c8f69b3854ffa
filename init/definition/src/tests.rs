use super::*;
use supervisor::{Ready, RestartPolicy};

const MINIMAL: &str = "description = \"x\"\ncommand = [\"/x\"]\n";

fn with(extra: &str) -> Result<Definition, DefinitionError> {
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
    assert_eq!(definition.limits.memory, Some(32 << 20));
    assert_eq!(definition.limits.cpu, Some(CpuLimit { percent: 50 }));
    assert_eq!(definition.network, Share::Host);
    assert!(definition.policy.essential);
    assert_eq!(definition.policy.requires.len(), 1);
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    assert!(
        message("priviledged = true\n")
            .starts_with("x/service.toml:3: unknown field `priviledged`"),
        "{}",
        message("priviledged = true\n")
    );
    let nested = message("\n[limits]\nmemroy = \"1M\"\n");
    assert!(
        nested.starts_with("x/service.toml:5: unknown field `memroy`"),
        "{nested}"
    );
}

#[test]
fn a_value_that_cannot_be_read_is_named_with_line_and_key() {
    for (text, line, word) in [
        ("user = \"root\"\n", 3, "'root' is not a user"),
        ("stop = { timeout = \"soon\" }\n", 3, "'soon' is not a time"),
        (
            "limits = { memory = \"12X\" }\n",
            3,
            "'12X' is not an amount",
        ),
        ("limits = { cpu = \"0%\" }\n", 3, "'0%' is not a share"),
        ("sockets = [\"unix:/state/x\"]\n", 3, "is not a socket"),
        (
            "restart = { backoff = \"9s..1s\" }\n",
            3,
            "the shorter first",
        ),
        (
            "restart = { limit = \"9\" }\n",
            3,
            "not a limit of restarts",
        ),
        ("ready = \"soon\"\n", 3, "unknown variant `soon`"),
        (
            "capabilities = [\"NET_ADMIN\"]\n",
            3,
            "no capability 'NET_ADMIN'",
        ),
        ("stop = { signal = \"SIGFOO\" }\n", 3, "no signal 'SIGFOO'"),
        ("devices = [\"/etc/passwd\"]\n", 3, "is not below /dev"),
        (
            "mounts = [{ source = \"/a/../b\", target = \"/x\" }]\n",
            3,
            "holds '..'",
        ),
        ("requires = [\"Log\"]\n", 3, "'Log' is not a service's name"),
        ("ready = \"health\"\n", 3, "needs a table `health`"),
        (
            "restart = { policy = \"always\" }\nready = \"exit\"\n",
            3,
            "is never done",
        ),
    ] {
        let error = with(text).unwrap_err();
        assert_eq!(error.line, Some(line), "{text}: {error}");
        let key = text.split_whitespace().next().unwrap();
        assert!(error.to_string().contains(word), "{text}: {error}");
        assert!(
            error.to_string().contains(&format!("`{key}`")),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_command_must_be_an_absolute_path() {
    let error = parse("x", "description = \"x\"\ncommand = [\"sh\"]\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "x:2: key `command`: 'sh' is not an absolute path"
    );
    assert!(parse("x", "description = \"x\"\ncommand = []\n").is_err());
}

#[test]
fn a_missing_key_is_named() {
    let error = parse("x", "description = \"x\"\n").unwrap_err();
    assert!(
        error.to_string().contains("missing field `command`"),
        "{error}"
    );
}

#[test]
fn text_that_is_not_toml_is_an_error_with_its_line() {
    let error = with("\n\n= 3\n").unwrap_err();
    assert_eq!(error.line, Some(5), "{error}");
}

#[test]
fn a_definition_without_end_is_refused() {
    let comment = MAX_LENGTH - MINIMAL.len() - 1;
    with(&format!("#{}", "x".repeat(comment))).unwrap();
    let error = message(&format!("#{}", "x".repeat(comment + 1)));
    assert!(error.contains("65536 bytes at most"), "{error}");
}

#[test]
fn memory_is_counted_in_powers_of_1024() {
    for (text, bytes) in [("1", 1), ("4K", 4096), ("2GiB", 2 << 30)] {
        let definition = with(&format!("limits = {{ memory = \"{text}\" }}\n")).unwrap();
        assert_eq!(definition.limits.memory, Some(bytes));
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
