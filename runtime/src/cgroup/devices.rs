//! Device rules, compiled to an extended BPF program that the kernel runs at
//! each access to a device. Pure.
//!
//! An access is a set of three bits (read, write, mknod). For each requested
//! bit the last rule that names it for the device decides; without one it is
//! denied. So the program goes through the rules from last to first, and clears
//! the bits that a rule allows. The kernel checks and translates it at each
//! start of a container, so it is kept short: a rule for every access decides
//! at once, rules that differ only in the minor number share their other
//! comparisons, and all share two ends.

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

const LONGEST: usize = 16_384;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

/// The program for these rules and the default devices; `None` if everything is
/// allowed.
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
    let program = generate(&checked);
    // Jumps have 16 bits; the kernel would accept a longer program.
    if program.len() > LONGEST {
        return Err(Error::invalid(
            "linux.resources.devices",
            format!("needs {} instructions, more than {LONGEST}", program.len()),
        ));
    }
    Ok(Some(program))
}

/// Whether the last rule, apart from later permissions, allows everything.
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

/// What every container may use: creating any node, which opens nothing; the
/// default devices; terminals, which are those of its own devpts.
fn defaults() -> impl Iterator<Item = Rule> {
    let nodes = [Rule {
        allow: true,
        kind: None,
        major: None,
        minor: None,
        access: MKNOD,
    }];
    let character = |major: u32, minor: Option<u32>| Rule {
        allow: true,
        kind: Some(CHARACTER),
        major: Some(major as i32),
        minor: minor.map(|minor| minor as i32),
        access: ALL,
    };
    let terminals = [character(136, None), character(5, Some(2))];
    // Group those of one major number.
    let devices = device::DEFAULT
        .iter()
        .rev()
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
            .ok_or_else(|| Error::invalid(field(name), format!("{value} is not a device number"))),
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
                return Err(Error::invalid(field("type"), "a FIFO is not a device"));
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

/// Where a comparison jumps when it holds; otherwise the next instruction
/// follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goto {
    /// To the instructions of the rule after this one.
    Next,
    Answer(bool),
}

fn if_equal(register: u8, value: i32) -> Extended {
    instruction(0x15, register, 0, 0, value)
}

fn if_not_equal(register: u8, value: i32) -> Extended {
    instruction(0x55, register, 0, 0, value)
}

fn generate(rules: &[Rule]) -> Vec<Extended> {
    let mut code = Code {
        instructions: vec![
            load(KIND, 0), // access in the high half, kind in the low one
            copy(ACCESS, KIND),
            and(KIND, 0xffff),
            shift_right(ACCESS, 16),
            load(MAJOR, 4),
            load(MINOR, 8),
        ],
        jumps: Vec::new(),
    };
    let mut rest = rules;
    let mut otherwise = false;
    while let Some((last, before)) = rest.split_last() {
        rest = before;
        if last.access == ALL && (last.kind, last.major, last.minor) == (None, None, None) {
            // No earlier rule matters, and the kernel rejects unreachable code.
            otherwise = last.allow;
            break;
        }
        let mut minors = Vec::from_iter(last.minor);
        if last.access == ALL && last.minor.is_some() {
            while let Some(other) = rest.last()
                && let Some(minor) = other.minor
                && *other
                    == (Rule {
                        minor: Some(minor),
                        ..*last
                    })
            {
                minors.push(minor);
                rest = &rest[..rest.len() - 1];
            }
        }
        code.rule(last, &minors);
    }
    code.finish(otherwise)
}

/// Instructions, and which of them jump.
struct Code {
    instructions: Vec<Extended>,
    jumps: Vec<(usize, Goto)>,
}

impl Code {
    fn jump(&mut self, instruction: Extended, goto: Goto) {
        self.jumps.push((self.instructions.len(), goto));
        self.instructions.push(instruction);
    }

    /// A rule for every access may have several minor numbers.
    fn rule(&mut self, rule: &Rule, minors: &[i32]) {
        let answer = Goto::Answer(rule.allow);
        let tests = [(KIND, rule.kind), (MAJOR, rule.major)];
        let mut tests: Vec<(u8, i32)> = tests
            .into_iter()
            .filter_map(|(register, value)| Some((register, value?)))
            .collect();
        let mut last: Vec<(u8, i32)> = minors.iter().map(|minor| (MINOR, *minor)).collect();
        if rule.access == ALL {
            if last.is_empty() {
                last.extend(tests.pop());
            }
        } else {
            tests.append(&mut last);
        }
        for (register, value) in tests {
            self.jump(if_not_equal(register, value), Goto::Next);
        }
        for (register, value) in last {
            self.jump(if_equal(register, value), answer);
        }
        if rule.access != ALL && rule.allow {
            self.instructions.push(and(ACCESS, ALL & !rule.access));
            self.jump(if_equal(ACCESS, 0), answer);
        } else if rule.access != ALL {
            self.instructions.push(copy(RESULT, ACCESS));
            self.instructions.push(and(RESULT, rule.access));
            self.jump(if_not_equal(RESULT, 0), answer);
        }
        let next = self.instructions.len();
        self.land(Goto::Next, next);
    }

    /// Sets the distance of the jumps to this place; returns whether there are
    /// any.
    fn land(&mut self, goto: Goto, place: usize) -> bool {
        let mut any = false;
        let instructions = &mut self.instructions;
        self.jumps.retain(|(at, to)| {
            if *to == goto {
                any = true;
                // In range: `compile` refuses a longer program.
                instructions[*at].offset = (place - at - 1) as i16;
            }
            *to != goto
        });
        any
    }

    /// Ends with the answer for an access that no rule has decided, then the
    /// other one.
    fn finish(mut self, otherwise: bool) -> Vec<Extended> {
        for answer in [otherwise, !otherwise] {
            let place = self.instructions.len();
            if self.land(Goto::Answer(answer), place) || answer == otherwise {
                self.instructions
                    .push(instruction(0xb7, RESULT, 0, 0, i32::from(answer)));
                self.instructions.push(instruction(0x95, 0, 0, 0, 0));
            }
        }
        self.instructions
    }
}

#[cfg(test)]
mod tests;
