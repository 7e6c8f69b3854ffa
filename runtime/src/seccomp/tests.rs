//! The generated programs against a direct reading of the profile.

use std::collections::HashMap;
use std::sync::LazyLock;

use oci_spec::runtime::{
    Capabilities, Capability, LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSyscallBuilder,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// `struct seccomp_data`, as far as filters look at it.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

/// Runs a program as the kernel does. Panics on what the kernel would not load.
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
static NUMBERS: LazyLock<HashMap<&str, [Option<u32>; 2]>> = LazyLock::new(|| {
    syscalls::TABLE
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[0], [words[1].parse().ok(), words[2].parse().ok()])
        })
        .collect()
});

/// What a profile says of a call, read off it.
fn meaning(profile: &LinuxSeccomp, call: &Call) -> u32 {
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let lists = |arch| profile.architectures().iter().flatten().any(|a| *a == arch);
    let number: fn(&str) -> Option<u32> = match call.architecture {
        AUDIT_ARCH_X86_64 if call.number >= X32_BIT => {
            return if lists(Arch::ScmpArchX32) {
                enosys
            } else {
                RET_KILL_PROCESS
            };
        }
        AUDIT_ARCH_X86_64 => |name| NUMBERS.get(name)?[0],
        AUDIT_ARCH_I386 if lists(Arch::ScmpArchX86) => |name| NUMBERS.get(name)?[1],
        _ => return RET_KILL_PROCESS,
    };
    let value = |action: LinuxSeccompAction, errno: Option<u32>| match action {
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
        other => u32::from(other),
    };
    for entry in profile.syscalls().iter().flatten() {
        let named = entry
            .names()
            .iter()
            .any(|name| number(name) == Some(call.number));
        let holds = entry.args().iter().flatten().all(|condition| {
            let argument = call.arguments[condition.index()];
            let value = condition.value();
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
        });
        if named && holds {
            return value(entry.action(), entry.errno_ret());
        }
    }
    let fails = profile.default_action() == LinuxSeccompAction::ScmpActErrno;
    if call.number > syscalls::LAST && fails {
        return enosys;
    }
    value(profile.default_action(), profile.default_errno_ret())
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
    let arguments = prop::sample::subsequence((0..6_usize).collect::<Vec<_>>(), 0..4)
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
        ],
        0..=4,
    );
    (arb_action(), architectures, vec(arb_entry(), 0..16)).prop_map(
        |((action, errno), architectures, entries)| {
            let mut profile = LinuxSeccompBuilder::default()
                .default_action(action)
                .architectures(architectures)
                .syscalls(entries)
                .build()
                .unwrap();
            profile.set_default_errno_ret(errno);
            profile
        },
    )
}

fn arb_call() -> impl Strategy<Value = Call> {
    let number = prop_oneof![
        8 => prop::sample::select(NAMES).prop_map(|name| {
            let numbers = syscalls::numbers(name);
            numbers.x86_64.or(numbers.i386).unwrap_or(999)
        }),
        2 => 0..500_u32,
        1 => any::<u32>(),
        1 => (0..500_u32).prop_map(|number| number | X32_BIT),
    ];
    let architecture = prop_oneof![
        6 => Just(AUDIT_ARCH_X86_64),
        2 => Just(AUDIT_ARCH_I386),
        1 => Just(0xc000_00b7),
    ];
    (number, architecture, prop::array::uniform6(arb_value())).prop_map(
        |(number, architecture, arguments)| Call {
            number,
            architecture,
            arguments,
        },
    )
}

proptest! {
    // Profiles are large: generating one costs more than running it.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_program_does_what_its_profile_says(
        profile in arb_profile(),
        calls in vec(arb_call(), 40),
    ) {
        let program = Profile::check(&profile).unwrap().compile().unwrap();
        for call in &calls {
            prop_assert_eq!(
                run(&program.instructions, call),
                meaning(&profile, call),
                "{:?}",
                call
            );
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
        let program = Profile::check(&profile).unwrap().compile().unwrap();
        for number in 0..600 {
            for first in [0, 1, 11, 12, 38, 40, 0xffff_ffff, 0x1000_0000, 1 << 32] {
                let call = Call {
                    number,
                    architecture: AUDIT_ARCH_X86_64,
                    arguments: [first, 0, 0, 0, 0, 0],
                };
                assert_eq!(
                    run(&program.instructions, &call),
                    meaning(&profile, &call),
                    "{call:?}"
                );
            }
        }
    }
}

#[test]
fn the_default_profile_is_small() {
    let profile = default_seccomp(&Capabilities::new());
    let program = Profile::check(&profile).unwrap().compile().unwrap();
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
    let program = Profile::check(&profile).unwrap().compile().unwrap();
    let result = |number| {
        let call = Call {
            number,
            architecture: AUDIT_ARCH_X86_64,
            arguments: [0; 6],
        };
        run(&program.instructions, &call) & 0xffff
    };
    assert_eq!(result(syscalls::LAST + 1), libc::ENOSYS as u32);
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
        Profile::check(&profile).unwrap_err().to_string()
    };
    let twice = entry(|entry| {
        let argument = LinuxSeccompArgBuilder::default().build().unwrap();
        entry.set_args(Some(vec![argument, argument]));
    });
    assert!(twice.contains("syscalls[0].args[1].index"), "{twice}");
    let notify = entry(|entry| {
        entry.set_action(LinuxSeccompAction::ScmpActNotify);
    });
    assert!(notify.contains("SCMP_ACT_NOTIFY"), "{notify}");
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
