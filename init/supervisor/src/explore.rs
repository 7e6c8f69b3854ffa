//! Walks through all that can happen to small sets of services.
//!
//! The explorer is breadth-first, so what it finds is a shortest way to the
//! broken law. Times are kept relative to now and runs without their
//! numbers, which makes the sets of states finite: an exploration that
//! returns has seen every one of them.

mod chaos;
mod laws;
mod relative;
mod toy;
mod world;
mod worlds;

use std::collections::{HashSet, VecDeque};
use std::fmt;

/// Something that can be explored.
trait Model: Clone {
    type Choice: Clone + fmt::Debug;

    /// All that can happen next.
    fn choices(&self) -> Vec<Self::Choice>;

    /// Makes it happen; an error names the law that this breaks.
    fn take(&mut self, choice: &Self::Choice) -> Result<(), String>;

    /// Checks the laws that hold in each state.
    fn check(&self) -> Result<(), String>;

    /// Equal for states from which the same can follow.
    fn key(&self) -> u64;
}

/// A way from the start to a broken law.
struct Broken<Choice> {
    way: Vec<Choice>,
    law: String,
}

impl<Choice: fmt::Debug> fmt::Display for Broken<Choice> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}, after", self.law)?;
        for choice in &self.way {
            writeln!(out, "  {choice:?}")?;
        }
        Ok(())
    }
}

/// Visits every state that can be reached from `start`; gives their number.
/// More than `most` states are an error: what is not finite is not explored.
fn explore<M: Model>(start: M, most: usize) -> Result<usize, Broken<M::Choice>> {
    let mut found: Vec<Found<M::Choice>> = vec![None];
    let mut keys = HashSet::from([start.key()]);
    let mut left = VecDeque::from([(0, start)]);
    while let Some((at, state)) = left.pop_front() {
        if let Err(law) = state.check() {
            let way = way_to(&found, at);
            return Err(Broken { way, law });
        }
        for choice in state.choices() {
            let mut next = state.clone();
            if let Err(law) = next.take(&choice) {
                let mut way = way_to(&found, at);
                way.push(choice);
                return Err(Broken { way, law });
            }
            if keys.insert(next.key()) {
                found.push(Some((at, choice)));
                left.push_back((found.len() - 1, next));
            }
        }
        if found.len() > most {
            let way = way_to(&found, at);
            let law = format!("there are more than {most} states");
            return Err(Broken { way, law });
        }
    }
    Ok(found.len())
}

/// How a state was found: the state before it, and the choice.
type Found<Choice> = Option<(usize, Choice)>;

fn way_to<Choice: Clone>(found: &[Found<Choice>], mut at: usize) -> Vec<Choice> {
    let mut way = Vec::new();
    while let Some((before, choice)) = &found[at] {
        way.push(choice.clone());
        at = *before;
    }
    way.reverse();
    way
}

/// Follows one way of `length` choices that `seed` chooses.
fn walk<M: Model>(mut state: M, seed: u64, length: usize) -> Result<(), Broken<M::Choice>> {
    let mut way = Vec::new();
    let mut random = seed;
    for _ in 0..length {
        let choices = state.choices();
        if choices.is_empty() {
            break;
        }
        let choice = choices[draw(&mut random, choices.len())].clone();
        way.push(choice.clone());
        if let Err(law) = state.take(&choice).and_then(|()| state.check()) {
            return Err(Broken { way, law });
        }
    }
    Ok(())
}

/// A number below `bound`, as good as random here (SplitMix64).
fn draw(random: &mut u64, bound: usize) -> usize {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *random;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 33) as usize % bound
}
