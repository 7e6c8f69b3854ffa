//! PID 1 where only a machine will do: its program in the image, the hardware
//! watchdog, the keys. The rest is in `init/tests`.

use std::thread;
use std::time::Duration;

use machine::Machine;

use crate::operator::{
    BOOT, COMMAND, build, power_off, put_service, restored, run, service, status, wait_for_state,
};

const END: Duration = Duration::from_secs(120);

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
    // Supervision continues: a dead service is restarted, a stopped one stops.
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
    // The watchdog is set to 30 s; then the machine boots again.
    machine.wait_for("wherry: ready", BOOT + END).unwrap();
    machine.wait_for("# ", BOOT).unwrap();
    power_off(machine);
}

#[test]
fn the_power_key_and_ctrl_alt_del_end_the_machine_at_any_moment_of_the_boot() {
    let build = build();
    // From the start of the kernel, before anything listens, until all runs.
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
