//! Who stays connected: the rule for every socket by which a program of ours is
//! asked.
//!
//! Whoever connects gets in. Where there is no room, the user with the most
//! connections loses one, so that a flood of one user's costs only that user. A
//! client that says nothing, or takes nothing of its answer, is disconnected after
//! [`IDLE`].

use std::collections::BTreeMap;
use std::time::Duration;

/// How long a client may say nothing, or take nothing of what waits for it. One that
/// keeps something or waits for an answer may say nothing for as long as it likes.
pub const IDLE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its number at the server.
    pub number: u32,
    /// Whose it is.
    pub uid: u32,
    /// Whether it is there for something that takes time: a watch, an inhibitor, a
    /// request under way.
    pub is_kept: bool,
    /// When it last did something, by any clock that is the same for all.
    pub active: Duration,
}

/// The connection that makes room for `newcomer`, which is among `connections`: of
/// the user who has the most, another one than root where that is a choice; first
/// one that keeps nothing, then the one that has been idle for longest.
pub fn evicted(connections: &[Connected], newcomer: u32) -> Option<u32> {
    let mut of_users: BTreeMap<u32, usize> = BTreeMap::new();
    for connected in connections {
        *of_users.entry(connected.uid).or_default() += 1;
    }
    let (user, _) = of_users
        .into_iter()
        .max_by_key(|(user, count)| (*count, *user != 0))?;
    connections
        .iter()
        .filter(|one| one.number != newcomer && one.uid == user)
        .min_by_key(|one| (one.is_kept, one.active))
        .map(|one| one.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(number: u32, uid: u32, active: u64) -> Connected {
        Connected {
            number,
            uid,
            is_kept: false,
            active: Duration::from_secs(active),
        }
    }

    #[test]
    fn the_user_with_the_most_makes_room_and_root_last() {
        let mut all = vec![
            connected(1, 0, 5),
            connected(2, 0, 4),
            connected(3, 1000, 7),
            connected(4, 1000, 6),
            connected(5, 7, 1),
        ];
        assert_eq!(evicted(&all, 5), Some(4));
        all.push(connected(6, 0, 9));
        assert_eq!(evicted(&all, 6), Some(2));
        all[1].is_kept = true;
        assert_eq!(evicted(&all, 6), Some(1));
    }

    #[test]
    fn a_newcomer_does_not_make_room_for_itself() {
        assert_eq!(evicted(&[connected(1, 7, 1)], 1), None);
        assert_eq!(evicted(&[], 1), None);
    }
}
