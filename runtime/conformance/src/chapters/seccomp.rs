//! config-linux.md, Seccomp.

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::bench::{Bench, Ran};
use crate::clause::{Check, Clause, Try, command_line, demand, must, security};
use crate::needs::Need;
use crate::probe::{self, Step};
use crate::sys::Call;

pub const CLAUSES: &[Clause] = &[
    must(
        "config-linux.md#seccomp",
        "absent: the process has no filter",
        &[],
        no_filter,
    ),
    must(
        "config-linux.md#seccomp syscalls",
        "named calls get the action, others the default action",
        &[],
        named_calls,
    ),
    must(
        "config-linux.md#seccomp defaultAction",
        "SCMP_ACT_ERRNO with a list of allowed calls",
        &[],
        denied_by_default,
    ),
    must(
        "config-linux.md#seccomp errnoRet",
        "SCMP_ACT_ERRNO returns it, or EPERM if it is absent",
        &[],
        errno,
    ),
    must(
        "config-linux.md#seccomp defaultErrnoRet",
        "the default action returns it",
        &[],
        default_errno,
    ),
    must(
        "config-linux.md#seccomp action",
        "SCMP_ACT_KILL, KILL_PROCESS and KILL_THREAD end the caller",
        &[],
        kill,
    ),
    must(
        "config-linux.md#seccomp action",
        "SCMP_ACT_TRAP sends SIGSYS",
        &[],
        trap,
    ),
    must(
        "config-linux.md#seccomp action",
        "SCMP_ACT_TRACE without a tracer is ENOSYS",
        &[],
        trace,
    ),
    must(
        "config-linux.md#seccomp action",
        "SCMP_ACT_LOG allows",
        &[],
        log,
    ),
    must(
        "config-linux.md#seccomp action",
        "several actions in one profile",
        &[],
        several_actions,
    ),
    must(
        "config-linux.md#seccomp args",
        "SCMP_CMP_NE, LT, LE, EQ, GE and GT compare all 64 bits",
        &[],
        operators,
    ),
    must(
        "config-linux.md#seccomp args",
        "SCMP_CMP_MASKED_EQ masks with value and compares with valueTwo",
        &[],
        masked_equal,
    ),
    must(
        "config-linux.md#seccomp args",
        "several arguments of an entry must match all, one of several entries is enough",
        &[],
        and_and_or,
    ),
    must(
        "config-linux.md#seccomp architectures",
        "with SCMP_ARCH_X86 the rules apply to calls of 32-bit programs",
        &[Need::I386],
        i386,
    ),
    security(
        "config-linux.md#seccomp architectures",
        "calls by the numbers of an architecture that is not listed do not bypass the rules",
        &[Need::I386],
        other_architectures,
    ),
    must(
        "config-linux.md#seccomp flags",
        "the known flags are accepted, an unknown one is an error",
        &[],
        flags,
    ),
    must(
        "config-linux.md#seccomp errnoRet",
        "with an action that returns no error it is an error",
        &[],
        errno_without_use,
    ),
    must(
        "config-linux.md#seccomp",
        "an unknown action, operator or architecture, and an empty list of names are errors",
        &[],
        invalid,
    ),
    command_line(
        "runc: seccomp",
        "a name that is in no table is skipped",
        &[],
        unknown_name,
    ),
    must(
        "config-linux.md#seccomp",
        "it applies with and without noNewPrivileges, and for users without capabilities",
        &[],
        users,
    ),
    command_line(
        "runc: seccomp",
        "it applies to processes that exec puts into the container",
        &[],
        executed,
    ),
];

/// Runs the steps under a profile.
pub(super) fn under(bench: &Bench, profile: Value, steps: &[Step]) -> Try<Ran> {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/seccomp", profile);
    bench.run(&mut bundle, steps)
}

/// A profile that allows everything except these entries.
pub(super) fn all_but(entries: Value) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": entries,
    })
}

pub(super) fn call(call: Call) -> Step {
    Step::Call(call, [0; 6])
}

fn no_filter(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    demand!(world.seccomp == 0, "its mode is {}", world.seccomp);
    Ok(())
}

fn named_calls(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([{ "names": ["getpgrp", "mkdir"], "action": "SCMP_ACT_ERRNO" }])),
        &[
            call(Call::Getpgrp),
            call(Call::Mkdir),
            call(Call::Getuid),
            Step::World,
        ],
    )?;
    for at in 0..2 {
        demand!(
            ran.result(at)?.failed_with(Errno::EPERM),
            "call {at}: {}",
            ran.result(at)?
        );
    }
    demand!(ran.result(2)?.worked(), "another call: {}", ran.result(2)?);
    demand!(ran.world(3)?.seccomp == 2, "there is no filter");
    Ok(())
}

/// What a Rust program needs, except the calls under test.
const NEEDED: [&str; 66] = [
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_gettime",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getpgrp",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "stat",
];

const NEEDED_TOO: [&str; 17] = [
    "statx",
    "statfs",
    "write",
    "writev",
    "epoll_pwait",
    "epoll_ctl",
    "tgkill",
    "madvise",
    "uname",
    "getgid",
    "geteuid",
    "umask",
    "select",
    "pselect6",
    "recvmsg",
    "sendto",
    "getppid",
];

fn denied_by_default(bench: &Bench) -> Check {
    let names: Vec<_> = NEEDED.iter().chain(&NEEDED_TOO).collect();
    let ran = under(
        bench,
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        }),
        &[
            call(Call::Getpgrp),
            call(Call::Mkdir),
            call(Call::Unshare),
            call(Call::Sync),
        ],
    )?;
    demand!(
        ran.result(0)?.worked(),
        "an allowed call: {}",
        ran.result(0)?
    );
    for at in 1..4 {
        demand!(
            ran.result(at)?.failed_with(Errno::EPERM),
            "call {at}: {}",
            ran.result(at)?
        );
    }
    Ok(())
}

fn errno(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([
            { "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["getuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122 },
            { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" },
        ])),
        &[call(Call::Getpgrp), call(Call::Getuid), call(Call::Mkdir)],
    )?;
    for (at, number) in [(0, 38), (1, 122), (2, 1)] {
        demand!(
            *ran.result(at)? == probe::Done::Error(number),
            "{number} became {:?}",
            ran.result(at)?
        );
    }
    Ok(())
}

fn default_errno(bench: &Bench) -> Check {
    let names: Vec<_> = NEEDED.iter().chain(&NEEDED_TOO).collect();
    let ran = under(
        bench,
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        }),
        &[call(Call::Mkdir)],
    )?;
    demand!(
        ran.result(0)?.failed_with(Errno::ENOSYS),
        "it is {}",
        ran.result(0)?
    );
    Ok(())
}

fn ends_with(bench: &Bench, action: &str) -> Try<Value> {
    let ran = under(
        bench,
        all_but(json!([{ "names": ["getpgrp"], "action": action }])),
        &[Step::Child(vec![
            call(Call::Getuid),
            call(Call::Getpgrp),
            call(Call::Getuid),
        ])],
    )?;
    Ok(ran.result(0)?.value()["end"].clone())
}

fn kill(bench: &Bench) -> Check {
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
    ] {
        let end = ends_with(bench, action)?;
        demand!(end["signal"] == libc::SIGSYS, "{action}: {end}");
    }
    Ok(())
}

fn trap(bench: &Bench) -> Check {
    let end = ends_with(bench, "SCMP_ACT_TRAP")?;
    demand!(end["signal"] == libc::SIGSYS, "{end}");
    Ok(())
}

fn trace(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_TRACE", "errnoRet": 7 }])),
        &[call(Call::Getpgrp)],
    )?;
    demand!(
        ran.result(0)?.failed_with(Errno::ENOSYS),
        "it is {}",
        ran.result(0)?
    );
    Ok(())
}

fn log(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_LOG" }])),
        &[call(Call::Getpgrp)],
    )?;
    demand!(ran.result(0)?.worked(), "it is {}", ran.result(0)?);
    Ok(())
}

fn several_actions(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([
            { "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 },
            { "names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS" },
            { "names": ["chmod"], "action": "SCMP_ACT_TRACE" },
            { "names": ["getuid"], "action": "SCMP_ACT_LOG" },
        ])),
        &[
            call(Call::Getpgrp),
            Step::Child(vec![call(Call::Mkdir)]),
            call(Call::Chmod),
            call(Call::Getuid),
        ],
    )?;
    demand!(ran.result(0)?.failed_with(Errno::EIO), "{}", ran.result(0)?);
    demand!(
        ran.result(1)?.value()["end"]["signal"] == libc::SIGSYS,
        "{}",
        ran.result(1)?
    );
    demand!(
        ran.result(2)?.failed_with(Errno::ENOSYS),
        "{}",
        ran.result(2)?
    );
    demand!(ran.result(3)?.worked(), "{}", ran.result(3)?);
    Ok(())
}

/// socket(2) looks only at the low half of its arguments, the filter at all of
/// it.
fn socket(first: u64, second: u64) -> Step {
    Step::Call(Call::Socket, [first, second, 0, 0, 0, 0])
}

const WIDE: u64 = 1 << 32;

fn operators(bench: &Bench) -> Check {
    let tried = [9, 10, 11, WIDE + 9, WIDE + 10];
    for (operator, matches) in [
        ("SCMP_CMP_NE", [true, false, true, true, true]),
        ("SCMP_CMP_LT", [true, false, false, false, false]),
        ("SCMP_CMP_LE", [true, true, false, false, false]),
        ("SCMP_CMP_EQ", [false, true, false, false, false]),
        ("SCMP_CMP_GE", [false, true, true, true, true]),
        ("SCMP_CMP_GT", [false, false, true, true, true]),
    ] {
        let ran = under(
            bench,
            all_but(json!([{
                "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                "args": [{ "index": 0, "value": 10, "op": operator }],
            }])),
            &tried.map(|value| socket(value, 1)),
        )?;
        for (at, value) in tried.into_iter().enumerate() {
            let matched = *ran.result(at)? == probe::Done::Error(77);
            demand!(
                matched == matches[at],
                "{operator} 10 {} {value:#x}",
                if matched { "matches" } else { "does not match" }
            );
        }
    }
    Ok(())
}

fn masked_equal(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([{
            "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
            "args": [{
                "index": 1, "value": WIDE | 0xf0, "valueTwo": WIDE | 0x20,
                "op": "SCMP_CMP_MASKED_EQ",
            }],
        }])),
        &[
            socket(1, WIDE | 0x2f),
            socket(1, WIDE | 0x3f),
            socket(1, 0x20),
            socket(1, (WIDE << 1) | WIDE | 0x21),
        ],
    )?;
    for (at, matches) in [true, false, false, true].into_iter().enumerate() {
        let matched = *ran.result(at)? == probe::Done::Error(77);
        demand!(matched == matches, "argument {at}: {}", ran.result(at)?);
    }
    Ok(())
}

fn and_and_or(bench: &Bench) -> Check {
    let entry = |first: u64, second: u64| {
        json!({
            "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
            "args": [
                { "index": 0, "value": first, "op": "SCMP_CMP_EQ" },
                { "index": 1, "value": second, "op": "SCMP_CMP_EQ" },
            ],
        })
    };
    let ran = under(
        bench,
        all_but(json!([entry(100, 1), entry(101, 2)])),
        &[
            socket(100, 1),
            socket(101, 2),
            socket(100, 2),
            socket(101, 1),
        ],
    )?;
    for (at, matches) in [true, true, false, false].into_iter().enumerate() {
        let matched = *ran.result(at)? == probe::Done::Error(77);
        demand!(matched == matches, "pair {at}: {}", ran.result(at)?);
    }
    Ok(())
}

fn i386(bench: &Bench) -> Check {
    let mut profile = all_but(json!([
        { "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 },
    ]));
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
    let ran = under(bench, profile, &[Step::CallI386, call(Call::Getpgrp)])?;
    for at in [0, 1] {
        demand!(
            *ran.result(at)? == probe::Done::Error(77),
            "call {at}: {:?}",
            ran.result(at)?
        );
    }
    let mut profile = all_but(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }]));
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
    let ran = under(bench, profile, &[Step::CallI386])?;
    demand!(
        ran.result(0)?.worked(),
        "a call that is allowed: {}",
        ran.result(0)?
    );
    Ok(())
}

fn other_architectures(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO" }])),
        &[
            Step::Child(vec![Step::CallI386]),
            Step::Child(vec![Step::CallX32(Call::Getpgrp, [0; 6])]),
        ],
    )?;
    for (at, name) in ["i386", "x32"].into_iter().enumerate() {
        let result = ran.result(at)?.value();
        demand!(
            !result["lines"][0]["Ok"].is_number(),
            "getpgrp by the number of {name} worked: {result}"
        );
    }
    Ok(())
}

fn flags(bench: &Bench) -> Check {
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
    ] {
        let mut profile = all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO" }]));
        profile["flags"] = flags.clone();
        let ran = under(bench, profile, &[call(Call::Getpgrp)])?;
        demand!(
            ran.result(0)?.failed_with(Errno::EPERM),
            "{flags}: {}",
            ran.result(0)?
        );
    }
    let mut profile = all_but(json!([]));
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_NOSUCH"]);
    refused(bench, profile)
}

pub(super) fn refused(bench: &Bench, profile: Value) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/seccomp", profile.clone());
    let taken = bench.try_create(&bundle)?.is_ok();
    demand!(!taken, "it is taken: {profile}");
    Ok(())
}

fn errno_without_use(bench: &Bench) -> Check {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_TRAP", "SCMP_ACT_LOG"] {
        refused(
            bench,
            all_but(json!([{ "names": ["getpgrp"], "action": action, "errnoRet": 5 }])),
        )?;
    }
    let mut profile = all_but(json!([]));
    profile["defaultErrnoRet"] = json!(5);
    refused(bench, profile)
}

fn invalid(bench: &Bench) -> Check {
    refused(
        bench,
        all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_NOSUCH" }])),
    )?;
    refused(
        bench,
        all_but(json!([{
            "names": ["socket"], "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_NOSUCH" }],
        }])),
    )?;
    refused(
        bench,
        all_but(json!([{
            "names": ["socket"], "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }],
        }])),
    )?;
    let mut profile = all_but(json!([]));
    profile["architectures"] = json!(["SCMP_ARCH_NOSUCH"]);
    refused(bench, profile)?;
    refused(
        bench,
        all_but(json!([{ "names": [], "action": "SCMP_ACT_ERRNO" }])),
    )
}

fn unknown_name(bench: &Bench) -> Check {
    let ran = under(
        bench,
        all_but(json!([{ "names": ["no_such_call", "getpgrp"], "action": "SCMP_ACT_ERRNO" }])),
        &[call(Call::Getpgrp)],
    )?;
    demand!(
        ran.result(0)?.failed_with(Errno::EPERM),
        "{}",
        ran.result(0)?
    );
    Ok(())
}

fn users(bench: &Bench) -> Check {
    for (user, no_new_privileges) in [(0, true), (0, false), (1000, true), (1000, false)] {
        let mut bundle = bench.bundle()?;
        bundle.set(
            "/linux/seccomp",
            all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO" }])),
        );
        bundle.set("/process/user", json!({ "uid": user, "gid": user }));
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        bundle.remove("/process/capabilities");
        let ran = bench.run(&mut bundle, &[call(Call::Getpgrp)])?;
        demand!(
            ran.result(0)?.failed_with(Errno::EPERM),
            "user {user}, {no_new_privileges}: {}",
            ran.result(0)?
        );
    }
    Ok(())
}

fn executed(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/seccomp",
        all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO" }])),
    );
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let output = container.exec(&[], &probe::arguments(&[call(Call::Getpgrp)]))?;
    demand!(output.worked(), "exec failed: {}", output.stderr);
    let lines = probe::lines(&output.stdout);
    demand!(
        lines
            .first()
            .is_some_and(|done| done.failed_with(Errno::EPERM)),
        "{lines:?}"
    );
    Ok(())
}
