//! The generated programs against a direct reading of the rules.

use oci_spec::runtime::LinuxDeviceCgroupBuilder;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Runs a program as the kernel does, on a context of three words.
fn run(program: &[Extended], context: [u32; 3]) -> u64 {
    let mut registers = [0_u64; 11];
    let mut at = 0;
    loop {
        let Extended {
            code,
            registers: pair,
            offset,
            immediate,
        } = program[at];
        at += 1;
        let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
        let value = immediate as i64 as u64;
        match code {
            0x61 => registers[to] = u64::from(context[offset as usize / 4]),
            0xbf => registers[to] = registers[from],
            0x57 => registers[to] &= value,
            0x77 => registers[to] >>= value,
            0xb7 => registers[to] = value,
            0x15 if registers[to] == value => at += offset as usize,
            0x55 if registers[to] != value => at += offset as usize,
            0x15 | 0x55 => {}
            0x95 => return registers[0],
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// For each requested bit the last rule that names it decides.
fn meaning(rules: &[Rule], kind: i32, major: i32, minor: i32, access: i32) -> bool {
    [MKNOD, READ, WRITE]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| {
            rules
                .iter()
                .rev()
                .find(|rule| {
                    rule.access & bit != 0
                        && rule.kind.is_none_or(|wanted| wanted == kind)
                        && rule.major.is_none_or(|wanted| wanted == major)
                        && rule.minor.is_none_or(|wanted| wanted == minor)
                })
                .is_some_and(|rule| rule.allow)
        })
}

fn arb_rule() -> impl Strategy<Value = Rule> {
    (
        any::<bool>(),
        prop::option::of(1..3_i32),
        prop::option::of(0..4_i32),
        prop::option::of(0..4_i32),
        1..8_i32,
    )
        .prop_map(|(allow, kind, major, minor, access)| Rule {
            allow,
            kind,
            major,
            minor,
            access,
        })
}

proptest! {
    #[test]
    fn a_program_does_what_its_rules_say(
        rules in vec(arb_rule(), 0..12),
        kind in 1..3_i32,
        major in 0..4_i32,
        minor in 0..4_i32,
        access in 1..8_i32,
    ) {
        let context = [(access << 16 | kind) as u32, major as u32, minor as u32];
        prop_assert_eq!(
            run(&generate(&rules), context) == 1,
            meaning(&rules, kind, major, minor, access)
        );
    }
}

#[test]
fn without_rules_only_the_default_devices_can_be_used() {
    let program = compile(&[]).unwrap().unwrap();
    let allowed = |kind, major, minor, access: i32| {
        run(&program, [(access << 16 | kind) as u32, major, minor]) == 1
    };
    assert!(allowed(CHARACTER, 1, 3, READ | WRITE));
    assert!(allowed(CHARACTER, 136, 7, READ | WRITE));
    assert!(allowed(BLOCK, 8, 0, MKNOD));
    assert!(!allowed(BLOCK, 8, 0, READ));
    assert!(!allowed(BLOCK, 1, 3, READ));
    assert!(!allowed(CHARACTER, 1, 1, READ));
}

#[test]
fn allowing_everything_needs_no_program() {
    let rule = |allow| {
        LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .access("rwm")
            .build()
            .unwrap()
    };
    assert!(compile(&[rule(false), rule(true)]).unwrap().is_none());
    assert!(compile(&[rule(true), rule(false)]).unwrap().is_some());
}

#[test]
fn what_is_no_rule_is_refused_by_name() {
    let rule = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .access("rx")
        .build()
        .unwrap();
    let text = compile(&[rule]).unwrap_err().to_string();
    assert!(text.contains("linux.resources.devices[0].access"), "{text}");
}

#[test]
fn the_program_for_the_default_devices_is_short() {
    let length = compile(&[]).unwrap().unwrap().len();
    assert!(length <= 30, "{length} instructions");
}
