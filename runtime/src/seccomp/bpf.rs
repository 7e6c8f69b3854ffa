//! The code generator: a decision tree over the call's number for each
//! architecture, with the comparisons of arguments at its leaves.
//!
//! Neighbouring numbers with the same outcome are one range, so a profile that
//! allows most calls becomes a few dozen ranges and a call is decided in about
//! six comparisons.

use std::collections::BTreeMap;

use super::{
    AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Action, Condition, LONGEST, Operator, Profile, Program,
    RET_KILL_PROCESS, Rule, X32_BIT, syscalls,
};
use crate::Error;
use crate::sys::Instruction;

// linux/bpf_common.h: class, size, mode, operation.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

type Code = Vec<Instruction>;

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

impl Profile {
    pub(super) fn compile(&self) -> Result<Program, Error> {
        let mut code = vec![plain(LOAD, ARCHITECTURE)];
        let native = self.architecture(&self.x86_64, Some(self.x32));
        append_for(AUDIT_ARCH_X86_64, native, &mut code);
        if let Some(rules) = &self.i386 {
            append_for(AUDIT_ARCH_I386, self.architecture(rules, None), &mut code);
        }
        code.push(plain(RETURN, RET_KILL_PROCESS));
        if code.len() > LONGEST {
            return Err(Error::invalid(
                "linux.seccomp",
                format!(
                    "needs {} instructions, more than the kernel's {LONGEST}",
                    code.len()
                ),
            ));
        }
        Ok(Program {
            instructions: code,
            flags: self.flags,
        })
    }

    fn architecture(&self, rules: &BTreeMap<u32, Vec<Rule>>, x32: Option<Action>) -> Code {
        let default = Leaf {
            rules: &[],
            otherwise: self.default,
        };
        let mut ranges = vec![Range {
            first: 0,
            leaf: default,
        }];
        for (&number, rules) in rules {
            // A gap before this number has the default.
            push(&mut ranges, number, Leaf { rules, ..default }.simplified());
            push(&mut ranges, number + 1, default);
        }
        let unknown = Leaf {
            rules: &[],
            otherwise: self.unknown,
        };
        push(&mut ranges, syscalls::LAST + 1, unknown);
        if let Some(x32) = x32 {
            let x32 = Leaf {
                rules: &[],
                otherwise: x32,
            };
            push(&mut ranges, X32_BIT, x32);
        }
        let mut code = vec![plain(LOAD, NUMBER)];
        code.extend(tree(&ranges));
        code
    }
}

/// Code that runs where the loaded architecture is this one.
fn append_for(architecture: u32, body: Code, code: &mut Code) {
    code.push(branch(IF_EQUAL, architecture, 1, 0));
    code.push(plain(JUMP, body.len() as u32));
    code.extend(body);
}

/// All numbers from `first` to the next range have the same outcome.
struct Range<'a> {
    first: u32,
    leaf: Leaf<'a>,
}

/// The first rule that matches, or else an action.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Leaf<'a> {
    rules: &'a [Rule],
    otherwise: Action,
}

impl Leaf<'_> {
    /// A rule without conditions is the last one: it becomes the other case.
    fn simplified(self) -> Self {
        match self.rules.split_last() {
            Some((last, before)) if last.conditions.is_empty() => Leaf {
                rules: before,
                otherwise: last.action,
            },
            Some(_) | None => self,
        }
    }
}

/// Begins a range at `first`, which is not below the last one's.
fn push<'a>(ranges: &mut Vec<Range<'a>>, first: u32, leaf: Leaf<'a>) {
    if ranges.last().is_some_and(|last| last.first == first) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.leaf != leaf) {
        ranges.push(Range { first, leaf });
    }
}

fn tree(ranges: &[Range<'_>]) -> Code {
    let [range] = ranges else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let Some(start) = high.first() else {
            return Code::new();
        };
        let low = tree(low);
        let mut code = match u8::try_from(low.len()) {
            Ok(length) => vec![branch(IF_GREATER_OR_EQUAL, start.first, length, 0)],
            // Too far for a branch.
            Err(_) => vec![
                branch(IF_GREATER_OR_EQUAL, start.first, 0, 1),
                plain(JUMP, low.len() as u32),
            ],
        };
        code.extend(low);
        code.extend(tree(high));
        return code;
    };
    let mut code: Code = range.leaf.rules.iter().flat_map(rule).collect();
    code.push(plain(RETURN, range.leaf.otherwise));
    code
}

/// Where a branch of a condition goes.
#[derive(Clone, Copy)]
enum Target {
    Next,
    /// The condition holds.
    Holds,
    /// It does not, so the rule does not match.
    Fails,
}

struct Test {
    code: u16,
    k: u32,
    yes: Target,
    no: Target,
}

enum Step {
    Plain(Instruction),
    Test(Test),
}

/// The conditions, each falling through to the next where it holds, then the action.
fn rule(rule: &Rule) -> Code {
    let conditions: Vec<Vec<Step>> = rule.conditions.iter().map(condition).collect();
    let length = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Code::with_capacity(length);
    for steps in conditions {
        let end = code.len() + steps.len();
        for step in steps {
            let next = code.len() + 1;
            // At most 6 conditions of 5 instructions: every distance fits.
            let distance = |target| match target {
                Target::Next => 0,
                Target::Holds => (end - next) as u8,
                Target::Fails => (length - next) as u8,
            };
            code.push(match step {
                Step::Plain(instruction) => instruction,
                Step::Test(test) => {
                    branch(test.code, test.k, distance(test.yes), distance(test.no))
                }
            });
        }
    }
    code.push(plain(RETURN, rule.action));
    code
}

/// Compares the high half of the argument first, then, where that does not decide, the low one.
fn condition(condition: &Condition) -> Vec<Step> {
    use Target::{Fails, Holds, Next};

    let place = ARGUMENTS + 8 * u32::from(condition.argument);
    let low = || Step::Plain(plain(LOAD, place));
    let high = || Step::Plain(plain(LOAD, place + 4));
    let and = |mask| Step::Plain(plain(AND, mask));
    let test = |code, k, yes, no| Step::Test(Test { code, k, yes, no });
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = halves(condition.value);

    // `above` and `below`: what a greater and a smaller high half mean;
    // `code`, `yes`, `no`: the comparison of the low half.
    let ordered = |above, below, code, yes, no| {
        vec![
            high(),
            test(IF_GREATER, value_high, above, Next),
            test(IF_EQUAL, value_high, Next, below),
            low(),
            test(code, value_low, yes, no),
        ]
    };
    match condition.operator {
        Operator::Equal => vec![
            high(),
            test(IF_EQUAL, value_high, Next, Fails),
            low(),
            test(IF_EQUAL, value_low, Holds, Fails),
        ],
        Operator::NotEqual => vec![
            high(),
            test(IF_EQUAL, value_high, Next, Holds),
            low(),
            test(IF_EQUAL, value_low, Fails, Holds),
        ],
        Operator::Masked(mask) => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                high(),
                and(mask_high),
                test(IF_EQUAL, value_high, Next, Fails),
                low(),
                and(mask_low),
                test(IF_EQUAL, value_low, Holds, Fails),
            ]
        }
        Operator::Greater => ordered(Holds, Fails, IF_GREATER, Holds, Fails),
        Operator::GreaterOrEqual => ordered(Holds, Fails, IF_GREATER_OR_EQUAL, Holds, Fails),
        Operator::Less => ordered(Fails, Holds, IF_GREATER_OR_EQUAL, Fails, Holds),
        Operator::LessOrEqual => ordered(Fails, Holds, IF_GREATER, Fails, Holds),
    }
}
