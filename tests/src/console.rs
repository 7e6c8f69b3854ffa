//! The console: who sits there, what can be done from it, and that it can be
//! turned off.

use std::time::Duration;

use machine::Machine;
use tempfile::TempDir;

use crate::operator::{BOOT, build, fail, json, power_off, restored, run, settled};

/// Larger than the image by far.
const DISK: u64 = 2 << 30;

#[test]
fn an_operator_reads_the_boot_and_the_one_before_and_ends_the_machine_by_its_name() {
    let build = build();
    let folder = TempDir::with_prefix("wherry-console-").unwrap();
    let disk = folder.path().join("disk.raw");
    build.make_disk(&disk, DISK).unwrap();

    let mut machine = settled(Machine::builder(&build, "console-first").disk(&disk));
    let consoles = run(&mut machine, "grep -c . /sys/class/tty/console/active");
    assert_eq!(consoles.trim(), "1", "one line names them all");
    let shells = run(&mut machine, "ps -o args | grep -c '^/bin/sh$'");
    assert_eq!(
        shells.trim(),
        "2",
        "the serial line and the screen have a shell"
    );
    // The names that people know ask PID 1, from the prompt and from scripts.
    machine
        .type_line("echo reboot > /tmp/script; sh /tmp/script")
        .unwrap();
    machine.wait_end(BOOT).unwrap();

    let mut machine = settled(Machine::builder(&build, "console-second").disk(&disk));
    let boots = json(&mut machine, "wherry logs --list-boots --json");
    assert_eq!(boots.as_array().map(Vec::len), Some(2), "{boots:#}");
    let before = run(&mut machine, "wherry logs -b -1 -s init -n 3");
    assert!(before.contains("stopped"), "{before}");
    let now = run(&mut machine, "wherry logs -s kernel | head -n 1");
    assert!(now.contains("Linux version"), "{now}");

    let chart = run(&mut machine, "wherry boot-chart -o -");
    assert!(chart.starts_with("<svg ") && chart.trim_end().ends_with("</svg>"));
    for name in ["kernel", "PID 1", "state", "log", "network", "console"] {
        assert!(chart.contains(name), "no {name} in {chart}");
    }
    machine.type_line("poweroff").unwrap();
    machine.wait_end(BOOT).unwrap();
}

#[test]
fn the_console_may_mend_the_machine_but_not_take_it_apart() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "console-limits"));
    run(
        &mut machine,
        "touch /state/config/mine && chown 7:7 /state/config/mine",
    );
    run(
        &mut machine,
        "ip link add wherry0 type dummy && ip link delete wherry0",
    );
    run(&mut machine, "dmesg | grep -q 'Linux version'");
    run(&mut machine, "ping -c 1 10.0.2.2");
    for forbidden in [
        "mount -t tmpfs tmpfs /mnt",
        "touch /usr/bin/mine",
        "touch /state/log/mine",
        "mknod /tmp/disk b 254 0",
        "cat /proc/1/environ",
        "echo 1 > /proc/sys/kernel/panic",
    ] {
        fail(&mut machine, forbidden);
    }
    power_off(machine);
}

#[test]
fn a_console_that_is_turned_off_reads_nothing() {
    let build = build();
    let mut machine = Machine::builder(&build, "console-off")
        .append("wherry.console=off")
        .start()
        .unwrap();
    machine.wait_for("wherry: ready", BOOT).unwrap();
    machine.type_line("echo is-$((1 + 1))-there").unwrap();
    machine
        .wait_for("is-2-there", Duration::from_secs(5))
        .unwrap_err();
    machine.press_power().unwrap();
    machine.wait_end(BOOT).unwrap();
}
