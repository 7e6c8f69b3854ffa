//! config-linux.md, Allowed Device list.

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::clause::{Check, Clause, Try, demand, must};
use crate::needs::Need;
use crate::probe::Step;

use super::cgroups::{refused, sleeping};

pub const CLAUSES: &[Clause] = &[
    must(
        "config-linux.md#allowed-device-list",
        "entries apply in order, a later one overrides an earlier one",
        &[Need::UnifiedTree],
        device_order,
    ),
    must(
        "config-linux.md#allowed-device-list access",
        "r, w and m are allowed and denied individually",
        &[Need::UnifiedTree],
        device_access,
    ),
    must(
        "config-linux.md#allowed-device-list major minor",
        "without a number all match; c does not match b",
        &[Need::UnifiedTree],
        device_wildcards,
    ),
    must(
        "config-linux.md#allowed-device-list",
        "an unknown type or access is an error",
        &[Need::UnifiedTree],
        device_invalid,
    ),
    must(
        "config-linux.md#allowed-device-list",
        "it applies to processes that exec puts into the container",
        &[Need::UnifiedTree],
        device_exec,
    ),
];

/// Tries to open nodes of devices under these rules.
fn tried(bench: &Bench, rules: Value, steps: &[Step]) -> Try<Vec<bool>> {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/resources/devices", rules);
    let ran = bench.run(&mut bundle, steps)?;
    (0..steps.len())
        .map(|at| Ok(ran.result(at)?.worked()))
        .collect()
}

fn open(path: &str, flags: i32) -> Step {
    Step::Open(path.to_owned(), flags)
}

const KMSG: (u64, u64) = (1, 11);

fn device_order(bench: &Bench) -> Check {
    let rule = |allow: bool| json!({ "allow": allow, "type": "c", "major": 1, "minor": 11, "access": "rwm" });
    let all = |allow: bool| json!({ "allow": allow, "access": "rwm" });
    let steps = [
        Step::Mknod("/kmsg".to_owned(), 'c', KMSG.0, KMSG.1),
        open("/kmsg", libc::O_RDONLY | libc::O_NONBLOCK),
    ];
    for (rules, opens) in [
        (json!([all(false), rule(true)]), true),
        (json!([all(false), rule(true), rule(false)]), false),
        (json!([all(false), rule(true), all(false)]), false),
        (json!([all(true), rule(false)]), false),
        (json!([all(false), rule(false), all(true)]), true),
    ] {
        let found = tried(bench, rules.clone(), &steps)?;
        demand!(
            found[1] == opens,
            "{rules}: it {}",
            if found[1] { "opens" } else { "does not open" }
        );
    }
    Ok(())
}

fn device_access(bench: &Bench) -> Check {
    // The second null device has no default rule: 1:11 is /dev/kmsg.
    let steps = [
        Step::Mknod("/node".to_owned(), 'c', 1, 11),
        open("/given", libc::O_RDONLY | libc::O_NONBLOCK),
        open("/given", libc::O_WRONLY),
    ];
    for (access, wanted) in [
        ("r", [false, true, false]),
        ("w", [false, false, true]),
        ("m", [true, false, false]),
        ("rw", [false, true, true]),
    ] {
        let mut bundle = bench.bundle()?;
        // The node exists before any rule applies.
        nix::sys::stat::mknod(
            &bundle.root().join("given"),
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::from_bits_truncate(0o666),
            nix::sys::stat::makedev(1, 11),
        )?;
        bundle.set(
            "/linux/resources/devices",
            json!([
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 11, "access": access },
            ]),
        );
        let ran = bench.run(&mut bundle, &steps)?;
        // Runtimes allow every container to create nodes, as runc does.
        for (at, opens) in wanted.into_iter().enumerate().skip(1) {
            demand!(
                ran.result(at)?.worked() == opens,
                "{access}: step {at} came to {}",
                ran.result(at)?
            );
        }
        demand!(
            !wanted[0] || ran.result(0)?.worked(),
            "{access}: no node: {}",
            ran.result(0)?
        );
    }
    Ok(())
}

fn device_wildcards(bench: &Bench) -> Check {
    let steps = [
        Step::Mknod("/kmsg".to_owned(), 'c', 1, 11),
        open("/kmsg", libc::O_RDONLY | libc::O_NONBLOCK),
    ];
    for (rule, opens) in [
        (
            json!({ "allow": true, "type": "c", "major": 1, "access": "rwm" }),
            true,
        ),
        (json!({ "allow": true, "type": "c", "access": "rwm" }), true),
        (json!({ "allow": true, "type": "a", "access": "rwm" }), true),
        (
            json!({ "allow": true, "type": "b", "access": "rwm" }),
            false,
        ),
        (
            json!({ "allow": true, "type": "b", "major": 1, "minor": 11, "access": "rwm" }),
            false,
        ),
        (
            json!({ "allow": true, "type": "c", "major": 2, "access": "rwm" }),
            false,
        ),
    ] {
        let rules = json!([{ "allow": false, "access": "rwm" }, rule]);
        let found = tried(bench, rules.clone(), &steps)?;
        demand!(
            found[1] == opens,
            "{rules}: it {}",
            if found[1] { "opens" } else { "does not open" }
        );
    }
    Ok(())
}

fn device_invalid(bench: &Bench) -> Check {
    for rule in [
        json!({ "allow": true, "type": "x", "access": "rwm" }),
        json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "z" }),
    ] {
        refused(bench, json!({ "devices": [rule] }))?;
    }
    Ok(())
}

fn device_exec(bench: &Bench) -> Check {
    let container = sleeping(
        bench,
        json!({ "devices": [{ "allow": false, "access": "rwm" }] }),
    )?;
    let steps = [
        Step::Mknod("/kmsg".to_owned(), 'c', 1, 11),
        open("/kmsg", libc::O_RDONLY | libc::O_NONBLOCK),
    ];
    let output = container.exec(&[], &crate::probe::arguments(&steps))?;
    let lines = crate::probe::lines(&output.stdout);
    demand!(
        lines
            .get(1)
            .is_some_and(|line| line.failed_with(Errno::EPERM) || line.failed_with(Errno::ENOENT)),
        "it came to {lines:?} {}",
        output.stderr
    );
    Ok(())
}
