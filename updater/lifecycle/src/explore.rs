//! Walks through all that can happen to a machine with a small disk.
//!
//! The explorer is breadth-first, so what it finds is a shortest way to the broken
//! law. Times are kept relative to now, which makes the sets of states finite: an
//! exploration that returns has seen every one of them.

mod disk;
mod laws;
mod relative;
mod world;
mod worlds;

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;

use world::{Choice, World};

/// Visits every state that can be reached from `start`; gives their number. More
/// than `most` states are an error: what is not finite is not explored.
fn explore(start: World, most: usize) -> usize {
    let mut found: Vec<Option<(usize, Choice)>> = vec![None];
    let mut keys = HashSet::from([start.key()]);
    let mut left = VecDeque::from([(0, start)]);
    while let Some((at, state)) = left.pop_front() {
        for choice in state.choices() {
            let mut next = state.clone();
            if let Err(law) = next.take(&choice) {
                panic!("{law}, after{}\n  {choice:?}", way_to(&found, at));
            }
            if keys.insert(next.key()) {
                found.push(Some((at, choice)));
                left.push_back((found.len() - 1, next));
            }
        }
        // A calm future need not be followed from each of them.
        if at % 32 == 0
            && let Err(law) = state.converges()
        {
            panic!("{law}, after{}", way_to(&found, at));
        }
        assert!(
            found.len() <= most,
            "there are more than {most} states, after{}",
            way_to(&found, at)
        );
    }
    found.len()
}

fn way_to(found: &[Option<(usize, Choice)>], mut at: usize) -> String {
    let mut way = Vec::new();
    while let Some((before, choice)) = &found[at] {
        way.push(choice);
        at = *before;
    }
    way.iter().rev().fold(String::new(), |mut text, choice| {
        let _ = write!(text, "\n  {choice:?}");
        text
    })
}
