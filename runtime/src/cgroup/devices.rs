//! Device rules, compiled to a program of extended BPF that the kernel runs at
//! each access to a device. Pure.
//!
//! Access is a set of three bits (read, write, mknod), and each bit that is
//! asked for is decided by the last rule that names it for the device; without
//! one it is denied. The program therefore goes through the rules from the last
//! to the first, and strikes off the bits that a rule allows.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::Error;
use crate::device;
use crate::sys::Extended;

// linux/bpf.h: BPF_DEVCG_*.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

/// The program for these rules and the default devices; none where everything is allowed.
pub(super) fn compile(rules: &[LinuxDeviceCgroup]) -> Result<Option<Vec<Extended>>, Error> {
    let mut checked = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| check(index, rule))
        .collect::<Result<Vec<_>, _>>()?;
    if allows_everything(&checked) {
        return Ok(None);
    }
    checked.extend(defaults());
    Ok(Some(generate(&checked)))
}

/// Whether the last word of the rules, but for further permissions, is to allow everything.
fn allows_everything(rules: &[Rule]) -> bool {
    let everything = Rule {
        allow: true,
        kind: None,
        major: None,
        minor: None,
        access: ALL,
    };
    rules
        .iter()
        .rev()
        .take_while(|rule| rule.allow)
        .any(|rule| *rule == everything)
}

/// What every container may use: making any node, which opens nothing; the
/// default devices; terminals, which are those of its own devpts.
fn defaults() -> impl Iterator<Item = Rule> {
    let nodes = [BLOCK, CHARACTER].map(|kind| Rule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        access: MKNOD,
    });
    let character = |major: u32, minor: Option<u32>| Rule {
        allow: true,
        kind: Some(CHARACTER),
        major: Some(major as i32),
        minor: minor.map(|minor| minor as i32),
        access: ALL,
    };
    let terminals = [character(5, Some(2)), character(136, None)];
    let devices = device::DEFAULT
        .iter()
        .map(move |(_, major, minor)| character(*major, Some(*minor)));
    nodes.into_iter().chain(terminals).chain(devices)
}

fn check(index: usize, rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let field = |name: &str| format!("linux.resources.devices[{index}].{name}");
    let number = |name: &str, value: Option<i64>| match value {
        // -1 is what some engines write for "any".
        None | Some(-1) => Ok(None),
        Some(value) => i32::try_from(value)
            .ok()
            .filter(|value| *value >= 0)
            .map(Some)
            .ok_or_else(|| Error::invalid(field(name), format!("{value} is no device number"))),
    };
    let access = rule.access().as_deref().unwrap_or_default();
    let mut bits = 0;
    for letter in access.chars() {
        bits |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                return Err(Error::invalid(
                    field("access"),
                    format!("\"{access}\" holds more than r, w and m"),
                ));
            }
        };
    }
    if bits == 0 {
        // The specification's default is every access.
        bits = ALL;
    }
    Ok(Rule {
        allow: rule.allow(),
        kind: match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
            Some(LinuxDeviceType::P) => {
                return Err(Error::invalid(field("type"), "a FIFO is no device"));
            }
        },
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access: bits,
    })
}

// Registers: the result, the context (struct bpf_cgroup_dev_ctx), and its parts.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Extended {
    Extended {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

fn load(to: u8, offset: i16) -> Extended {
    instruction(0x61, to, CONTEXT, offset, 0)
}

fn copy(to: u8, from: u8) -> Extended {
    instruction(0xbf, to, from, 0, 0)
}

fn and(register: u8, mask: i32) -> Extended {
    instruction(0x57, register, 0, 0, mask)
}

fn shift_right(register: u8, bits: i32) -> Extended {
    instruction(0x77, register, 0, 0, bits)
}

fn answer(value: i32) -> [Extended; 2] {
    [
        instruction(0xb7, RESULT, 0, 0, value),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// Skips `count` instructions where the register is (not) this value.
fn skip(equal: bool, register: u8, value: i32, count: usize) -> Extended {
    let code = if equal { 0x15 } else { 0x55 };
    instruction(code, register, 0, count as i16, value)
}

fn generate(rules: &[Rule]) -> Vec<Extended> {
    let mut code = vec![
        load(KIND, 0), // access in the high half, kind in the low one
        copy(ACCESS, KIND),
        and(KIND, 0xffff),
        shift_right(ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let decision: Vec<Extended> = if rule.allow {
            let [set, exit] = answer(1);
            vec![
                and(ACCESS, ALL & !rule.access),
                skip(false, ACCESS, 0, 2),
                set,
                exit,
            ]
        } else {
            let [set, exit] = answer(0);
            vec![
                copy(RESULT, ACCESS),
                and(RESULT, rule.access),
                skip(true, RESULT, 0, 2),
                set,
                exit,
            ]
        };
        let tests: Vec<(u8, i32)> = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)]
            .into_iter()
            .filter_map(|(register, value)| Some((register, value?)))
            .collect();
        for (index, (register, value)) in tests.iter().enumerate() {
            let rest = tests.len() - index - 1 + decision.len();
            code.push(skip(false, *register, *value, rest));
        }
        code.extend(decision);
    }
    code.extend(answer(0));
    code
}

#[cfg(test)]
mod tests;
