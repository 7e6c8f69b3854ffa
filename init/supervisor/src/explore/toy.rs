//! The explorer itself: it finds what is wrong, by the shortest way, and
//! visits each state once.

use super::{Model, explore, walk};

/// Two processes and a lock that each takes in two steps, or in one.
#[derive(Clone)]
struct Lock {
    atomic: bool,
    taken: bool,
    at: [Place; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    SawItFree,
    Inside,
}

impl Model for Lock {
    type Choice = usize;

    fn choices(&self) -> Vec<usize> {
        let may_move = |&who: &usize| self.at[who] != Place::Outside || !self.taken;
        (0..2).filter(may_move).collect()
    }

    fn take(&mut self, &who: &usize) -> Result<(), String> {
        self.at[who] = match self.at[who] {
            Place::Outside if self.atomic => {
                self.taken = true;
                Place::Inside
            }
            Place::Outside => Place::SawItFree,
            Place::SawItFree => {
                self.taken = true;
                Place::Inside
            }
            Place::Inside => {
                self.taken = false;
                Place::Outside
            }
        };
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.at == [Place::Inside; 2] {
            return Err("two inside".into());
        }
        Ok(())
    }

    fn key(&self) -> u64 {
        self.at[0] as u64 * 6 + self.at[1] as u64 * 2 + u64::from(self.taken)
    }
}

fn lock(atomic: bool) -> Lock {
    Lock {
        atomic,
        taken: false,
        at: [Place::Outside; 2],
    }
}

#[test]
fn a_broken_machine_is_caught_by_the_shortest_way() {
    let broken = explore(lock(false), 100).err().unwrap();
    assert_eq!(broken.law, "two inside");
    assert_eq!(broken.way.len(), 4);
}

#[test]
fn a_right_machine_is_visited_whole() {
    let states = explore(lock(true), 100).map_err(|broken| broken.to_string());
    assert_eq!(states, Ok(3));
}

#[test]
fn a_machine_that_is_larger_than_allowed_is_not_passed_over() {
    let broken = explore(lock(true), 2).err().unwrap();
    assert_eq!(broken.law, "there are more than 2 states");
}

#[test]
fn a_walk_catches_it_too() {
    let caught = (0..10).filter(|&seed| walk(lock(false), seed, 100).is_err());
    assert!(caught.count() > 5);
    assert!((0..10).all(|seed| walk(lock(true), seed, 100).is_ok()));
}
