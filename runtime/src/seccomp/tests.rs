//! The generated programs against a direct reading of the profile.

use std::collections::HashMap;
use std::sync::LazyLock;

use oci_spec::runtime::{
    Capabilities, Capability, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
    LinuxSyscallBuilder,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::syscalls::{TABLE, X32_BIT};
use super::*;

/// `struct seccomp_data`, as far as filters look at it.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

/// Runs a program as the kernel does. Panics on a program that the kernel would
/// not load.
fn run(program: &[Instruction], call: &Call) -> u32 {
    let word = |offset: u32| match offset {
        0 => call.number,
        4 => call.architecture,
        16..64 => {
            let argument = call.arguments[(offset as usize - 16) / 8];
            (argument >> (offset % 8 * 8)) as u32
        }
        _ => panic!("load from {offset}"),
    };
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        assert!(at <= program.len());
        let mut branch = |condition: bool| at += usize::from(if condition { jt } else { jf });
        match code {
            0x20 => accumulator = word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// The table, as fast as a test needs it.
static NUMBERS: LazyLock<HashMap<&str, [Option<u32>; 5]>> = LazyLock::new(|| {
    TABLE
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let mut numbers = [(); 5].map(|()| words.next().unwrap().parse().ok());
            if let Some(number) = &mut numbers[2] {
                *number |= X32_BIT;
            }
            (name, numbers)
        })
        .collect()
});

fn value(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    match action {
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
        other => u32::from(other),
    }
}

/// Whether an argument meets the condition; `mask` is the part of the argument
/// that exists.
fn holds(condition: &LinuxSeccompArg, arguments: &[u64; 6], mask: u64) -> bool {
    let argument = arguments[condition.index()] & mask;
    let value = condition.value() & mask;
    match condition.op() {
        LinuxSeccompOperator::ScmpCmpNe => argument != value,
        LinuxSeccompOperator::ScmpCmpLt => argument < value,
        LinuxSeccompOperator::ScmpCmpLe => argument <= value,
        LinuxSeccompOperator::ScmpCmpEq => argument == value,
        LinuxSeccompOperator::ScmpCmpGe => argument >= value,
        LinuxSeccompOperator::ScmpCmpGt => argument > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            argument & value == condition.value_two().unwrap_or(0) & value
        }
    }
}

/// What a profile says about a call, read directly.
fn meaning(profile: &LinuxSeccomp, machine: &[(Arch, Abi)], call: &Call) -> u32 {
    let default = value(profile.default_action(), profile.default_errno_ret());
    let unknown = match profile.default_action() {
        LinuxSeccompAction::ScmpActErrno => {
            value(LinuxSeccompAction::ScmpActErrno, Some(libc::ENOSYS as u32))
        }
        _ => default,
    };
    let listed = |arch: &Arch| profile.architectures().iter().flatten().any(|a| a == arch);
    let is_x32 = call.architecture == Abi::X32.audit() && call.number >= X32_BIT;
    let Some((_, abi)) = machine
        .iter()
        .enumerate()
        .filter(|(index, (arch, _))| *index == 0 || listed(arch))
        .map(|(_, known)| known)
        .find(|(_, abi)| abi.audit() == call.architecture && (*abi == Abi::X32) == is_x32)
    else {
        return if is_x32 && call.number == u32::MAX && machine[0].1 == Abi::X86_64 {
            unknown
        } else {
            RET_KILL_PROCESS
        };
    };
    let number = |name: &str| NUMBERS.get(name)?[*abi as usize];
    let mask = if matches!(abi, Abi::I386 | Abi::Arm) {
        0xffff_ffff
    } else {
        u64::MAX
    };
    let entries = || profile.syscalls().iter().flatten();
    let speaking = || entries().filter(|entry| value(entry.action(), entry.errno_ret()) != default);
    let arguments = |entry: &LinuxSyscall| entry.args().clone().unwrap_or_default();
    let named = |entry: &LinuxSyscall| {
        entry
            .names()
            .iter()
            .any(|name| number(name) == Some(call.number))
    };
    // Without arguments: the first one decides, wherever it is.
    for entry in speaking() {
        if named(entry) && arguments(entry).is_empty() {
            return value(entry.action(), entry.errno_ret());
        }
    }
    for entry in speaking() {
        let arguments = arguments(entry);
        let mut indices: Vec<_> = arguments.iter().map(|argument| argument.index()).collect();
        indices.sort_unstable();
        let again = indices.windows(2).any(|pair| pair[0] == pair[1]);
        let mut each = arguments
            .iter()
            .map(|condition| holds(condition, &call.arguments, mask));
        let direct = named(entry)
            && if again {
                each.any(|one| one)
            } else {
                each.all(|one| one)
            };
        let other_way = *abi == Abi::I386
            && arguments.is_empty()
            && entry.names().iter().any(|name| {
                let first = call.arguments[0] & mask;
                match name.as_str() {
                    "socket" => number("socketcall") == Some(call.number) && first == 1,
                    "accept4" => number("socketcall") == Some(call.number) && first == 18,
                    "semop" => number("ipc") == Some(call.number) && first & 0xffff == 1,
                    "shmctl" => number("ipc") == Some(call.number) && first & 0xffff == 24,
                    _ => false,
                }
            });
        if direct || other_way {
            return value(entry.action(), entry.errno_ret());
        }
    }
    let last = entries()
        .flat_map(|entry| entry.names())
        .filter_map(|name| number(name))
        .max();
    if last.is_some_and(|last| call.number > last) {
        return unknown;
    }
    default
}

const NAMES: &[&str] = &[
    "read",
    "write",
    "open",
    "close",
    "stat",
    "mmap",
    "socket",
    "clone",
    "clone3",
    "mount",
    "execve",
    "personality",
    "umount2",
    "chown32",
    "socketcall",
    "accept4",
    "ipc",
    "semop",
    "shmctl",
    "rt_sigaction",
    "cacheflush",
    "mseal",
    "preadv2",
    "statx",
    "not_a_call",
    "landlock_add_rule",
    "futex_wake",
    "getpid",
    "getppid",
    "getuid",
];

fn arb_action() -> impl Strategy<Value = (LinuxSeccompAction, Option<u32>)> {
    let errno = prop::option::of(0..4096_u32);
    prop_oneof![
        3 => Just((LinuxSeccompAction::ScmpActAllow, None)),
        3 => errno.clone().prop_map(|errno| (LinuxSeccompAction::ScmpActErrno, errno)),
        1 => errno.prop_map(|errno| (LinuxSeccompAction::ScmpActTrace, errno)),
        1 => Just((LinuxSeccompAction::ScmpActKill, None)),
        1 => Just((LinuxSeccompAction::ScmpActKillThread, None)),
        1 => Just((LinuxSeccompAction::ScmpActKillProcess, None)),
        1 => Just((LinuxSeccompAction::ScmpActTrap, None)),
        1 => Just((LinuxSeccompAction::ScmpActLog, None)),
        1 => Just((LinuxSeccompAction::ScmpActNotify, None)),
    ]
}

/// Values that are near each other in each half.
fn arb_value() -> impl Strategy<Value = u64> {
    let half = || {
        prop_oneof![
            0..4_u64,
            Just(0x8000_0000),
            Just(0xffff_ffff),
            Just(0x7fff_ffff)
        ]
    };
    (half(), half()).prop_map(|(high, low)| high << 32 | low)
}

fn arb_condition() -> impl Strategy<Value = (LinuxSeccompOperator, u64, u64)> {
    let operator = prop::sample::select(vec![
        LinuxSeccompOperator::ScmpCmpNe,
        LinuxSeccompOperator::ScmpCmpLt,
        LinuxSeccompOperator::ScmpCmpLe,
        LinuxSeccompOperator::ScmpCmpEq,
        LinuxSeccompOperator::ScmpCmpGe,
        LinuxSeccompOperator::ScmpCmpGt,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    ]);
    (operator, arb_value(), arb_value())
}

fn arb_entry() -> impl Strategy<Value = LinuxSyscall> {
    let names = vec(prop::sample::select(NAMES), 1..6);
    let some = prop::sample::subsequence((0..6_usize).collect::<Vec<_>>(), 0..4);
    // One argument may be named more than once.
    let arguments = prop_oneof![2 => Just(Vec::new()), 4 => some, 1 => vec(0..3_usize, 2..4)]
        .prop_flat_map(|indices| {
            let conditions = vec(arb_condition(), indices.len());
            (Just(indices), conditions)
        });
    (names, arb_action(), arguments).prop_map(|(names, (action, errno), (indices, conditions))| {
        let arguments: Vec<_> = indices
            .into_iter()
            .zip(conditions)
            .map(|(index, (operator, value, two))| {
                let mut builder = LinuxSeccompArgBuilder::default()
                    .index(index)
                    .op(operator)
                    .value(value);
                if operator == LinuxSeccompOperator::ScmpCmpMaskedEq {
                    builder = builder.value_two(two);
                }
                builder.build().unwrap()
            })
            .collect();
        let mut entry = LinuxSyscallBuilder::default()
            .names(names.into_iter().map(String::from).collect::<Vec<_>>())
            .action(action)
            .build()
            .unwrap();
        entry.set_errno_ret(errno).set_args(Some(arguments));
        entry
    })
}

fn arb_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let architectures = prop::sample::subsequence(
        vec![
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX86,
            Arch::ScmpArchX32,
            Arch::ScmpArchAarch64,
            Arch::ScmpArchArm,
            Arch::ScmpArchS390x,
        ],
        0..=6,
    );
    let default = arb_action().prop_filter("no default", |(action, _)| {
        *action != LinuxSeccompAction::ScmpActNotify
    });
    (default, architectures, vec(arb_entry(), 0..16)).prop_map(
        |((action, errno), architectures, entries)| {
            let mut profile = LinuxSeccompBuilder::default()
                .default_action(action)
                .architectures(architectures)
                .syscalls(entries)
                .build()
                .unwrap();
            profile
                .set_default_errno_ret(errno)
                .set_listener_path(Some("/run/agent.sock".into()));
            profile
        },
    )
}

fn arb_call() -> impl Strategy<Value = Call> {
    let number = prop_oneof![
        8 => (prop::sample::select(NAMES), 0..5_usize)
            .prop_map(|(name, abi)| NUMBERS.get(name).and_then(|numbers| numbers[abi]).unwrap_or(999)),
        2 => 0..600_u32,
        1 => any::<u32>(),
        1 => (0..600_u32).prop_map(|number| number | X32_BIT),
        1 => Just(u32::MAX),
    ];
    let architecture = prop::sample::select(vec![
        Abi::X86_64.audit(),
        Abi::X86_64.audit(),
        Abi::I386.audit(),
        Abi::Aarch64.audit(),
        Abi::Arm.audit(),
        0x8000_0016,
    ]);
    // The first argument chooses among the calls of a multiplexer.
    let arguments = (
        prop::array::uniform6(arb_value()),
        prop::option::of(prop::sample::select(vec![
            1,
            18,
            24,
            0x1_0001,
            0x1_0000_0001,
        ])),
    )
        .prop_map(|(mut arguments, first)| {
            arguments[0] = first.unwrap_or(arguments[0]);
            arguments
        });
    (number, architecture, arguments).prop_map(|(number, architecture, arguments)| Call {
        number,
        architecture,
        arguments,
    })
}

fn program(profile: &LinuxSeccomp, machine: &[(Arch, Abi)]) -> Program {
    Profile::check(profile, machine).unwrap().compile().unwrap()
}

proptest! {
    // Profiles are large: generating one costs more than running it. More by PROPTEST_CASES.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(256) / 4,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_program_does_what_its_profile_says(
        profile in arb_profile(),
        calls in vec(arb_call(), 60),
    ) {
        for machine in [X86_64, AARCH64] {
            let program = program(&profile, machine);
            for call in &calls {
                prop_assert_eq!(
                    run(&program.instructions, call),
                    meaning(&profile, machine, call),
                    "{:?}",
                    call
                );
            }
        }
    }
}

#[test]
fn the_default_profile_does_what_it_says_for_every_number() {
    for capabilities in [
        Capabilities::new(),
        Capabilities::from([Capability::SysAdmin, Capability::NetAdmin]),
    ] {
        let profile = default_seccomp(&capabilities);
        let program = program(&profile, X86_64);
        for number in 0..600 {
            for first in [0, 1, 11, 12, 38, 40, 0xffff_ffff, 0x1000_0000, 1 << 32] {
                let call = Call {
                    number,
                    architecture: Abi::X86_64.audit(),
                    arguments: [first, 0, 0, 0, 0, 0],
                };
                assert_eq!(
                    run(&program.instructions, &call),
                    meaning(&profile, X86_64, &call),
                    "{call:?}"
                );
            }
        }
    }
}

#[test]
fn the_default_profile_is_small() {
    let profile = default_seccomp(&Capabilities::new());
    let program = program(&profile, X86_64);
    let length = program.instructions.len();
    assert!(length < 160, "{length} instructions");
}

#[test]
fn equal_profiles_share_a_program() {
    let profile = default_seccomp(&Capabilities::from([Capability::Chown]));
    let first = compile(&profile).unwrap();
    assert!(Arc::ptr_eq(&first, &compile(&profile.clone()).unwrap()));
    let other = default_seccomp(&Capabilities::from([Capability::SysTime]));
    assert!(!Arc::ptr_eq(&first, &compile(&other).unwrap()));
}

#[test]
fn a_call_that_the_table_does_not_have_is_no_forbidden_one() {
    let profile = default_seccomp(&Capabilities::new());
    let program = program(&profile, X86_64);
    let result = |number| {
        let call = Call {
            number,
            architecture: Abi::X86_64.audit(),
            arguments: [0; 6],
        };
        run(&program.instructions, &call) & 0xffff
    };
    assert_eq!(result(463), libc::ENOSYS as u32);
    assert_eq!(result(libc::SYS_mount as u32), libc::EPERM as u32);
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name() {
    let entry = |edit: fn(&mut LinuxSyscall)| {
        let mut entry = LinuxSyscallBuilder::default()
            .names(["read".to_string()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .build()
            .unwrap();
        edit(&mut entry);
        let profile = LinuxSeccompBuilder::default()
            .syscalls([entry])
            .build()
            .unwrap();
        Profile::check(&profile, X86_64).unwrap_err().to_string()
    };
    let listener = entry(|entry| {
        entry.set_action(LinuxSeccompAction::ScmpActNotify);
    });
    assert!(
        listener.starts_with("linux.seccomp.listenerPath"),
        "{listener}"
    );
    let two = entry(|entry| {
        let argument = LinuxSeccompArgBuilder::default().value_two(1_u64);
        entry.set_args(Some(vec![argument.build().unwrap()]));
    });
    assert!(two.contains("syscalls[0].args[0].valueTwo"), "{two}");
    let seventh = entry(|entry| {
        let argument = LinuxSeccompArgBuilder::default().index(6_usize);
        entry.set_args(Some(vec![argument.build().unwrap()]));
    });
    assert!(seventh.contains("syscalls[0].args[0].index"), "{seventh}");
    let allow = entry(|entry| {
        entry
            .set_action(LinuxSeccompAction::ScmpActAllow)
            .set_errno_ret(Some(1));
    });
    assert!(allow.contains("syscalls[0].errnoRet"), "{allow}");
    let nothing = entry(|entry| {
        entry.set_names(Vec::new());
    });
    assert!(nothing.contains("syscalls[0].names"), "{nothing}");
}

fn profile(value: serde_json::Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// The result of an x86-64 call with this first argument.
fn result(profile: &LinuxSeccomp, name: &str, first: u64) -> u32 {
    let call = Call {
        number: NUMBERS[name][0].unwrap(),
        architecture: Abi::X86_64.audit(),
        arguments: [first, 0, 0, 0, 0, 0],
    };
    run(&program(profile, X86_64).instructions, &call)
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let either = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [
                { "index": 0, "value": 0, "op": "SCMP_CMP_EQ" },
                { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" },
            ],
        }],
    }));
    assert_eq!(result(&either, "personality", 8), libc::SECCOMP_RET_ALLOW);
    assert_eq!(result(&either, "personality", 0), libc::SECCOMP_RET_ALLOW);
    assert_ne!(result(&either, "personality", 1), libc::SECCOMP_RET_ALLOW);
}

#[test]
fn an_entry_without_arguments_decides_wherever_it_is() {
    let conditional = json!({
        "names": ["socket"], "action": "SCMP_ACT_ERRNO",
        "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" }],
    });
    let always = json!({ "names": ["socket"], "action": "SCMP_ACT_LOG" });
    for entries in [[&conditional, &always], [&always, &conditional]] {
        let both = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries }));
        assert_eq!(result(&both, "socket", 40), libc::SECCOMP_RET_LOG);
    }
    // One that asks for what is the case anyway has no effect.
    let default = json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW" });
    let both = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [default, conditional],
    }));
    assert_eq!(result(&both, "socket", 40), libc::SECCOMP_RET_ERRNO | 1);
}

#[test]
fn calls_newer_than_the_profile_are_not_there_where_it_denies_by_an_error() {
    let old = |action: &str| {
        profile(json!({
            "defaultAction": action,
            "syscalls": [{ "names": ["read", "openat2"], "action": "SCMP_ACT_LOG" }],
        }))
    };
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let denying = old("SCMP_ACT_ERRNO");
    assert_eq!(result(&denying, "fchmodat2", 0), enosys);
    assert_eq!(result(&denying, "mount", 0), libc::SECCOMP_RET_ERRNO | 1);
    assert_eq!(
        result(&old("SCMP_ACT_KILL_PROCESS"), "fchmodat2", 0),
        libc::SECCOMP_RET_KILL_PROCESS
    );
    assert_eq!(
        result(&old("SCMP_ACT_ALLOW"), "fchmodat2", 0),
        libc::SECCOMP_RET_ALLOW
    );
}

#[test]
fn a_notifying_profile_needs_a_listener_and_flags_that_go_with_it() {
    let text = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent.sock",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let notifying = program(&profile(text.clone()), X86_64);
    assert!(notifying.needs_listener());
    // TSYNC, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV.
    assert_eq!(notifying.flags, 0b11_1001);
    let mut silent = profile(text);
    silent.set_syscalls(None);
    let silent = program(&silent, X86_64);
    assert!(!silent.needs_listener());
    assert_eq!(silent.flags, 1);
}

#[test]
fn the_flags_are_the_kernels() {
    for (flag, expected) in [
        (LinuxSeccompFilterFlag::SeccompFilterFlagTsync, 1),
        (LinuxSeccompFilterFlag::SeccompFilterFlagLog, 2),
        (LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow, 4),
    ] {
        let mut profile = LinuxSeccomp::default();
        profile.set_flags(Some(vec![flag]));
        assert_eq!(program(&profile, X86_64).flags, expected);
    }
}

#[test]
fn loading_a_notifying_program_gives_its_listener() {
    let notifying = program(
        &profile(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/run/agent.sock",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
        })),
        NATIVE,
    );
    // A filter belongs to a thread permanently.
    let thread = std::thread::spawn(move || {
        crate::sys::no_new_privileges().unwrap();
        let listener = notifying.load().unwrap().unwrap();
        let flags = nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        drop(listener);
        std::fs::create_dir("/nothing/here")
            .unwrap_err()
            .raw_os_error()
    });
    assert_eq!(thread.join().unwrap(), Some(libc::ENOSYS));
}
