//! PID 1 under pressure: orphans, garbage, crashes, hangs, and the end of the
//! machine at any moment.

use std::thread;
use std::time::Duration;

use machine::Machine;

use crate::operator::{
    BOOT, COMMAND, build, fail, power_off, put_service, restored, run, service, settled, status,
    wait_for_state,
};

const END: Duration = Duration::from_secs(120);
/// Emulated, twenty thousand processes take a minute or two, and far longer on
/// a machine that does something else beside.
const ORPHANS: Duration = Duration::from_secs(900);

#[test]
fn ten_thousand_orphans_are_reaped_while_the_machine_answers() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "init-orphans").limit(ORPHANS + END));
    let orphans =
        "i=0; while [ $i -lt 10000 ]; do (: &); i=$((i+1)); done; wherry status > /dev/null";
    let output = machine.shell(orphans, ORPHANS).unwrap();
    assert_eq!(output.exit, 0, "{}", output.text);
    let zombies = run(
        &mut machine,
        "sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l",
    );
    assert_eq!(zombies.trim(), "0");
    assert_eq!(status(&mut machine)["machine"]["phase"], "ready");
    power_off(machine);
}

#[test]
fn garbage_on_the_control_socket_is_refused_and_nothing_else_happens() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "init-garbage"));
    let before = status(&mut machine);
    let connect = "timeout 5 nc local:/run/wherry/init.sock";
    // A length far over the limit, no JSON, no request: refused, and the
    // connection is closed before its client ends it.
    for garbage in [
        r"\377\377\377\177",
        r"\004\000\000\000abcd",
        r"\002\000\000\000{}",
    ] {
        let told = run(
            &mut machine,
            &format!("( printf '{garbage}'; sleep 4 ) | {connect} | tail -c +5; echo"),
        );
        assert!(told.contains("\"refused\""), "{garbage}: {told}");
        assert!(told.contains("\"malformed\""), "{garbage}: {told}");
    }
    // Random bytes, mostly a length far over the limit: none of them is a
    // request, so what comes back, if the client still reads it, is a refusal.
    let told = run(
        &mut machine,
        &format!(
            "for i in 1 2 3 4 5 6 7 8; do head -c 20000 /dev/urandom | {connect}; done 2>&1; :"
        ),
    );
    assert!(!told.contains("\"done\""), "{told}");
    // A frame that never ends, and nothing at all, are answered by nothing.
    for silence in [r"printf '\377\000\000\000{'", ":"] {
        let told = run(&mut machine, &format!("{silence} | {connect}"));
        assert_eq!(told, "", "{silence}");
    }
    // More clients than PID 1 serves at once, which say nothing and stay: the
    // next one waits until they leave.
    let crowd = run(
        &mut machine,
        &format!(
            "for i in $(seq 80); do (sleep 5 | {connect} > /dev/null &); done; sleep 2; pidof nc | wc -w"
        ),
    );
    assert_eq!(crowd.trim(), "80");
    let after = status(&mut machine);
    for name in ["log", "network", "console"] {
        assert_eq!(service(&after, name)["pid"], service(&before, name)["pid"]);
    }
    assert_eq!(after["machine"]["reexecuted"], 0);
    power_off(machine);
}

#[test]
fn a_fresh_pid_1_takes_over_and_no_service_notices() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "init-reexec"));
    put_service(
        &mut machine,
        "ticker",
        "",
        "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done",
    );
    run(&mut machine, "wherry service reload");
    wait_for_state(&mut machine, "ticker", "ready");
    let before = status(&mut machine);
    for _ in 0..3 {
        run(&mut machine, "wherry reexec; sleep 1");
    }
    let after = status(&mut machine);
    assert_eq!(after["machine"]["reexecuted"], 3);
    for name in ["log", "network", "console", "ticker"] {
        assert_eq!(
            service(&after, name)["pid"],
            service(&before, name)["pid"],
            "{after:#}"
        );
        assert_eq!(service(&after, name)["state"], "ready");
    }
    // Supervision goes on: what dies is started again, what is stopped stops.
    let pid = service(&after, "ticker")["pid"].clone();
    run(&mut machine, &format!("kill -9 {pid}; sleep 1"));
    wait_for_state(&mut machine, "ticker", "ready");
    assert_eq!(service(&status(&mut machine), "ticker")["restarts"], 1);
    run(&mut machine, "wherry service stop ticker");
    let ticks = run(
        &mut machine,
        "sleep 1; wherry logs --service ticker | grep -o 'tick [0-9]*' | head -10",
    );
    for number in 1..=10 {
        assert!(
            ticks.lines().any(|line| line == format!("tick {number}")),
            "{ticks}"
        );
    }
    power_off(machine);
}

#[test]
fn a_crash_of_pid_1_is_told_and_restarts_the_machine() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "init-crash"));
    machine.type_line("kill -SEGV 1").unwrap();
    machine
        .wait_for("wherry: emergency: PID 1 failed: SIGSEGV", COMMAND)
        .unwrap();
    // A restart ends a machine that is not to start again.
    machine.wait_end(END).unwrap();
}

#[test]
fn a_crash_of_pid_1_leaves_the_machine_reachable_where_that_is_asked_for() {
    let build = build();
    let mut machine =
        settled(Machine::builder(&build, "init-crash-stay").append("wherry.emergency=stay"));
    machine.type_line("kill -SEGV 1").unwrap();
    machine.wait_for("wherry: emergency", COMMAND).unwrap();
    // The shell goes on, so do the services and their log; PID 1 still reaps.
    let text = run(
        &mut machine,
        "(: &); sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l",
    );
    assert_eq!(text.trim(), "0");
    let told = fail(&mut machine, "wherry status 2>&1");
    assert!(!told.is_empty());
    let log = run(
        &mut machine,
        "sleep 1; wherry logs --service init | tail -3",
    );
    assert!(log.contains("PID 1 failed"), "{log}");
    machine.type_line("kill 1").unwrap();
    machine.wait_end(END).unwrap();
}

/// A program of 120 bytes and a few instructions that stops PID 1 by ptrace(2)
/// and stays, since only another program can make a healthy one hang:
/// `ptrace(PTRACE_SEIZE, 1, 0, 0); ptrace(PTRACE_INTERRUPT, 1, 0, 0);
/// for (;;) pause();`
fn holder() -> Vec<u8> {
    const CODE: [u8; 43] = [
        0xb8, 101, 0, 0, 0, // mov eax, SYS_ptrace
        0xbf, 0x06, 0x42, 0, 0, // mov edi, PTRACE_SEIZE
        0xbe, 1, 0, 0, 0, // mov esi, 1
        0x31, 0xd2, // xor edx, edx
        0x4d, 0x31, 0xd2, // xor r10, r10
        0x0f, 0x05, // syscall
        0xb8, 101, 0, 0, 0, // mov eax, SYS_ptrace
        0xbf, 0x07, 0x42, 0, 0, // mov edi, PTRACE_INTERRUPT
        0x0f, 0x05, // syscall
        0xb8, 34, 0, 0, 0, // mov eax, SYS_pause
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp to the mov before
    ];
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + CODE.len() as u64;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend(2u16.to_le_bytes()); // ET_EXEC
    elf.extend(62u16.to_le_bytes()); // EM_X86_64
    elf.extend(1u32.to_le_bytes());
    elf.extend((BASE + HEADERS).to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers
    elf.extend(0u64.to_le_bytes());
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes()); // PT_LOAD
    elf.extend(5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 4096] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(CODE);
    elf
}

#[test]
fn a_pid_1_that_hangs_is_reset_by_the_hardware_watchdog() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "init-hang").reboots());
    let bytes: String = holder()
        .iter()
        .map(|byte| format!("\\{byte:03o}"))
        .collect();
    run(&mut machine, "mkdir -p /state/services/holder/root");
    for (index, part) in bytes.as_bytes().chunks(400).enumerate() {
        let part = std::str::from_utf8(part).unwrap();
        let arrow = if index == 0 { ">" } else { ">>" };
        run(
            &mut machine,
            &format!("printf '{part}' {arrow} /state/services/holder/root/holder"),
        );
    }
    run(&mut machine, "chmod 755 /state/services/holder/root/holder");
    crate::operator::put_definition(
        &mut machine,
        "holder",
        "description = \"holds PID 1\"\ncommand = [\"/holder\"]\nenabled = false\n\
         capabilities = [\"CAP_SYS_PTRACE\"]\nnamespaces = { pid = \"host\" }",
    );
    run(&mut machine, "wherry service reload; sync");
    machine
        .type_line("wherry service start --no-wait holder")
        .unwrap();
    // The watchdog is set to 30 s; then everything begins anew.
    machine.wait_for("wherry: ready", BOOT + END).unwrap();
    machine.wait_for("# ", BOOT).unwrap();
    power_off(machine);
}

#[test]
fn the_power_key_and_ctrl_alt_del_end_the_machine_at_any_moment_of_the_boot() {
    let build = build();
    // From the kernel's first moments, where nobody listens yet, until all runs.
    for tenths in [10, 15, 18, 21, 24, 27, 30, 34, 40, 60] {
        let name = format!("init-power-{tenths}");
        let mut machine = Machine::builder(&build, &name).start().unwrap();
        thread::sleep(Duration::from_millis(100 * tenths));
        // A key that is pressed before the kernel has its driver is lost, so it
        // is pressed until it is heard.
        let mut ended = false;
        for round in 0..40 {
            let result = if tenths % 2 == 0 {
                machine.press_power()
            } else {
                let keys = ["ctrl", "alt", "delete"]
                    .map(|key| serde_json::json!({ "type": "qcode", "data": key }));
                let keys = serde_json::json!({ "keys": keys });
                machine.monitor("send-key", &keys).map(drop)
            };
            ended = result.is_err() || machine.wait_end(Duration::from_secs(2)).is_ok();
            if ended {
                break;
            }
            assert!(round < 39, "{}", machine.console());
        }
        assert!(ended);
    }
}

#[test]
fn a_sigterm_in_the_middle_of_the_boot_ends_it_in_order() {
    let build = build();
    let folder = tempfile::TempDir::new().unwrap();
    let disk = folder.path().join("disk.raw");
    let mut machine = restored(Machine::builder(&build, "init-sigterm-before").disk(&disk));
    put_service(
        &mut machine,
        "killer",
        "capabilities = [\"CAP_KILL\"]\nnamespaces = { pid = \"host\" }\nafter = []",
        "kill -TERM 1; sleep 100; :",
    );
    power_off(machine);
    let mut machine = Machine::builder(&build, "init-sigterm")
        .disk(&disk)
        .start()
        .unwrap();
    machine.wait_end(BOOT + END).unwrap();
    assert!(
        machine.console().contains("wherry: restarting"),
        "{}",
        machine.console()
    );
}

#[test]
fn the_machine_ends_in_bounded_time_with_services_that_will_not_stop() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "init-stuck"));
    for (name, requires) in [
        ("stuck-one", ""),
        ("stuck-two", "requires = [\"stuck-one\"]\n"),
    ] {
        put_service(
            &mut machine,
            name,
            &format!("{requires}stop = {{ timeout = \"1h\" }}"),
            "trap '' TERM INT HUP; while :; do sleep 1; done",
        );
    }
    run(&mut machine, "wherry service reload");
    wait_for_state(&mut machine, "stuck-two", "ready");
    machine.type_line("wherry poweroff").unwrap();
    // 60 s for all services together, 20 s for the disks.
    machine.wait_end(Duration::from_secs(150)).unwrap();
    assert!(machine.console().contains("wherry: powering off"));
}
