//! The code generator: a decision tree over the call's number for each
//! architecture, with the comparisons of arguments at its leaves.
//!
//! Neighbouring numbers with the same outcome are one range, so a profile that
//! allows most calls becomes a few dozen ranges and a call is decided in about
//! six comparisons. The kernel translates and checks the program at each start
//! of a container, at a cost that grows with its length. So the code is
//! generated from its end to its start: a branch's target then already exists,
//! and one return serves all branches that are close enough to it.

use super::profile::{Profile, Table};
use super::syscalls::{Abi, X32_BIT};
use super::{Action, Condition, LONGEST, Operator, Program, RET_KILL_PROCESS, Rule};
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

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

impl Profile {
    pub(super) fn compile(&self) -> Result<Program, Error> {
        let mut code = Code::default();
        code.add(plain(RETURN, RET_KILL_PROCESS));
        let x32 = self.tables.iter().find(|table| table.abi == Abi::X32);
        // The native one last, so that it is first when the program runs.
        for table in self.tables.iter().rev() {
            match table.abi {
                // Handled with x86-64, which has the same architecture.
                Abi::X32 => {}
                Abi::X86_64 => self.architecture(table, x32, &mut code),
                Abi::I386 | Abi::Aarch64 | Abi::Arm => self.architecture(table, None, &mut code),
            }
        }
        code.add(plain(LOAD, ARCHITECTURE));
        let length = code.reversed.len();
        if length > LONGEST {
            return Err(Error::invalid(
                "linux.seccomp",
                format!("needs {length} instructions, more than the kernel's {LONGEST}"),
            ));
        }
        code.reversed.reverse();
        Ok(Program {
            instructions: code.reversed,
            flags: self.flags,
        })
    }

    /// Decides if the loaded architecture is this one, otherwise falls through.
    fn architecture(&self, table: &Table, x32: Option<&Table>, code: &mut Code) {
        let other = code.here();
        let always = |otherwise| Leaf {
            rules: &[],
            otherwise,
        };
        let mut ranges = Vec::new();
        self.ranges(0, table, &mut ranges);
        if table.abi == Abi::X86_64 {
            match x32 {
                Some(x32) => self.ranges(X32_BIT, x32, &mut ranges),
                None => {
                    push(&mut ranges, X32_BIT, always(RET_KILL_PROCESS));
                    // What a tracer writes in place of a call's number to skip
                    // it.
                    push(&mut ranges, u32::MAX, always(self.unknown));
                }
            }
        }
        code.wide = table.abi.is_wide();
        let start = code.tree(&ranges);
        code.fall_to(start);
        code.add(plain(LOAD, NUMBER));
        let body = code.here();
        code.branch(IF_EQUAL, table.abi.audit(), body, other);
    }

    /// Ranges from `first`, the lowest possible number, on.
    fn ranges<'a>(&self, first: u32, table: &'a Table, ranges: &mut Vec<Range<'a>>) {
        let default = Leaf {
            rules: &[],
            otherwise: self.default,
        };
        push(ranges, first, default);
        for (&number, rules) in &table.calls {
            // A gap before this number has the default.
            let leaf = Leaf {
                rules: &rules.conditional,
                otherwise: rules.always.unwrap_or(self.default),
            };
            push(ranges, number, leaf);
            push(ranges, number + 1, default);
        }
        if let Some(last) = table.last {
            let unknown = Leaf {
                rules: &[],
                otherwise: self.unknown,
            };
            push(ranges, last + 1, unknown);
        }
    }
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

/// Starts a range at `first`, which is not below the last one's.
fn push<'a>(ranges: &mut Vec<Range<'a>>, first: u32, leaf: Leaf<'a>) {
    if ranges.last().is_some_and(|last| last.first == first) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.leaf != leaf) {
        ranges.push(Range { first, leaf });
    }
}

/// Where control goes: an existing instruction, counted from the end of the
/// program, or a return that may have to be generated.
#[derive(Clone, Copy)]
enum Target {
    Instruction(usize),
    Return(Action),
}

/// A program, last instruction first.
#[derive(Default)]
struct Code {
    reversed: Vec<Instruction>,
    /// Arguments have 64 bits.
    wide: bool,
    /// The last return of each action, and its place.
    returns: Vec<(Action, usize)>,
}

impl Code {
    fn add(&mut self, instruction: Instruction) {
        self.reversed.push(instruction);
        if instruction.code == RETURN {
            let (action, place) = (instruction.k, self.reversed.len());
            match self.returns.iter_mut().find(|(known, _)| *known == action) {
                Some((_, known)) => *known = place,
                None => self.returns.push((action, place)),
            }
        }
    }

    /// The instruction that was added last.
    fn here(&self) -> Target {
        Target::Instruction(self.reversed.len())
    }

    /// An instruction for the target that a branch can reach when `between`
    /// more instructions are added before the branch itself.
    fn reach(&mut self, target: Target, between: usize) -> usize {
        let far = usize::from(u8::MAX);
        match target {
            Target::Instruction(place) => {
                let distance = self.reversed.len() - place;
                if distance + between > far {
                    self.add(plain(JUMP, distance as u32));
                    return self.reversed.len();
                }
                place
            }
            Target::Return(action) => {
                let known = self.returns.iter().find(|(known, _)| *known == action);
                if let Some((_, place)) = known
                    && self.reversed.len() - place + between <= far
                {
                    return *place;
                }
                self.add(plain(RETURN, action));
                self.reversed.len()
            }
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) {
        // Reaching the second may take one more instruction.
        let yes = self.reach(yes, 1);
        let no = self.reach(no, 0);
        let length = self.reversed.len();
        self.add(Instruction {
            code,
            jt: (length - yes) as u8,
            jf: (length - no) as u8,
            k,
        });
    }

    /// Makes the next added instructions continue at the target.
    fn fall_to(&mut self, target: Target) {
        let place = match target {
            Target::Instruction(place) => place,
            Target::Return(_) => self.reach(target, 0),
        };
        let distance = self.reversed.len() - place;
        if distance > 0 {
            self.add(plain(JUMP, distance as u32));
        }
    }

    /// Expects the number to be loaded.
    fn tree(&mut self, ranges: &[Range<'_>]) -> Target {
        if let [range] = ranges {
            return self.leaf(&range.leaf);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let Some(start) = high.first() else {
            return Target::Return(RET_KILL_PROCESS);
        };
        let at_least = self.tree(high);
        let below = self.tree(low);
        self.branch(IF_GREATER_OR_EQUAL, start.first, at_least, below);
        self.here()
    }

    fn leaf(&mut self, leaf: &Leaf<'_>) -> Target {
        let mut next = Target::Return(leaf.otherwise);
        let mut rest = leaf.rules;
        while let Some((last, before)) = rest.split_last() {
            rest = before;
            let matches = Target::Return(last.action);
            if let Some(mut one) = Equality::of(last) {
                // Rules that compare the same argument with single values are one test.
                let mut lows = vec![one.low];
                while let Some(other) = rest.last().and_then(Equality::of)
                    && other.is_alternative_to(&one)
                {
                    lows.push(other.low);
                    one = other;
                    rest = &rest[..rest.len() - 1];
                }
                next = self.one_of(&one, &lows, matches, next);
            } else {
                let mut start = matches;
                for condition in last.conditions.iter().rev() {
                    start = self.condition(condition, start, next);
                }
                next = start;
            }
        }
        next
    }

    fn one_of(&mut self, one: &Equality, lows: &[u32], yes: Target, no: Target) -> Target {
        let mut next = no;
        for low in lows {
            self.branch(IF_EQUAL, *low, yes, next);
            next = self.here();
        }
        self.fall_to(next);
        self.add(plain(LOAD, one.place));
        let low = self.here();
        if !self.wide {
            return low;
        }
        self.high(one.place, None, |code| {
            code.branch(IF_EQUAL, one.high, low, no);
        })
    }

    /// Loads the high half (under a mask) and does what `test` adds.
    fn high(&mut self, place: u32, mask: Option<u32>, test: impl FnOnce(&mut Code)) -> Target {
        test(self);
        if let Some(mask) = mask {
            self.add(plain(AND, mask));
        }
        self.add(plain(LOAD, place + 4));
        self.here()
    }

    /// Compares the high half of the argument first, then, if that does not
    /// decide, the low one.
    fn condition(&mut self, condition: &Condition, holds: Target, fails: Target) -> Target {
        let place = place(condition);
        let (high, low) = halves(condition.value);
        let (mask, code, yes, no) = match condition.operator {
            Operator::Equal => (None, IF_EQUAL, holds, fails),
            Operator::NotEqual => (None, IF_EQUAL, fails, holds),
            Operator::Masked(mask) => (Some(halves(mask)), IF_EQUAL, holds, fails),
            Operator::Greater => (None, IF_GREATER, holds, fails),
            Operator::GreaterOrEqual => (None, IF_GREATER_OR_EQUAL, holds, fails),
            Operator::Less => (None, IF_GREATER_OR_EQUAL, fails, holds),
            Operator::LessOrEqual => (None, IF_GREATER, fails, holds),
        };
        self.branch(code, low, yes, no);
        if let Some((_, mask)) = mask {
            self.add(plain(AND, mask));
        }
        self.add(plain(LOAD, place));
        let low = self.here();
        if !self.wide {
            return low;
        }
        // What a greater high half means, and a smaller one.
        let (above, below) = match condition.operator {
            Operator::Equal | Operator::Masked(_) => (fails, fails),
            Operator::NotEqual => (holds, holds),
            Operator::Greater | Operator::GreaterOrEqual => (holds, fails),
            Operator::Less | Operator::LessOrEqual => (fails, holds),
        };
        let ordered = !matches!(
            condition.operator,
            Operator::Equal | Operator::NotEqual | Operator::Masked(_)
        );
        self.high(place, mask.map(|(mask, _)| mask), |code| {
            code.branch(IF_EQUAL, high, low, below);
            if ordered {
                let equal_or_below = code.here();
                code.branch(IF_GREATER, high, above, equal_or_below);
            }
        })
    }
}

fn place(condition: &Condition) -> u32 {
    ARGUMENTS + 8 * u32::from(condition.argument)
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

/// A rule whose only condition is that an argument has one value.
struct Equality {
    action: Action,
    place: u32,
    high: u32,
    low: u32,
}

impl Equality {
    fn of(rule: &Rule) -> Option<Equality> {
        let [condition] = rule.conditions.as_slice() else {
            return None;
        };
        let (high, low) = halves(condition.value);
        (condition.operator == Operator::Equal).then(|| Equality {
            action: rule.action,
            place: place(condition),
            high,
            low,
        })
    }

    fn is_alternative_to(&self, other: &Equality) -> bool {
        (self.action, self.place, self.high) == (other.action, other.place, other.high)
    }
}
