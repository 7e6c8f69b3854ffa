//! The mirrors of a repository: which one is asked next, and which are dropped.

use std::time::Duration;

use tokio::time::Instant;

use crate::address::Address;
use crate::{Failure, Fault, Retry};

/// What came from one mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorUse {
    /// Its address, without secrets.
    pub address: String,
    /// Bytes that came and were right.
    pub bytes: u64,
    /// Why it was dropped.
    pub dropped: Option<String>,
}

#[derive(Debug)]
struct Mirror {
    address: Address,
    /// Requests under way.
    active: usize,
    /// Failures in a row.
    failures: u32,
    /// When it may be asked again.
    from: Option<Instant>,
    /// It gives whole files only.
    whole: bool,
    dropped: Option<Failure>,
    /// Files that it does not have.
    absent: Vec<(String, Failure)>,
    /// The latest failure, of whichever kind.
    latest: Option<Failure>,
    /// Bytes that were right.
    bytes: u64,
    /// Of these, what came since the last failure.
    since: u64,
}

/// A mirror that gives this much between two failures makes progress: the line
/// breaks again and again, or the server closes each connection early.
const PROGRESS: u64 = 64 * 1024;

impl Mirror {
    fn may_have(&self, path: &str) -> bool {
        self.dropped.is_none() && !self.absent.iter().any(|(file, _)| file == path)
    }
}

/// The mirrors, in order of preference.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    list: Vec<Mirror>,
}

/// Which mirror to ask.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// This one, for the file at this address.
    Ask {
        mirror: usize,
        address: Address,
        /// It gives whole files only.
        whole: bool,
    },
    /// Wait so long before asking any of them.
    Wait(Duration),
    /// None is left. Their reasons.
    Nobody(Vec<Failure>),
}

impl Mirrors {
    pub(crate) fn add(&mut self, address: Address) {
        if self.list.iter().any(|mirror| mirror.address == address) {
            return;
        }
        self.list.push(Mirror {
            address,
            active: 0,
            failures: 0,
            from: None,
            whole: false,
            dropped: None,
            absent: Vec::new(),
            latest: None,
            bytes: 0,
            since: 0,
        });
    }

    /// The mirror that is to be asked for the file `path`: one with ranges before
    /// one without, a folder before a server, then the one with the fewest
    /// requests under way.
    pub(crate) fn choose(&self, path: &str, now: Instant) -> Choice {
        let usable = || {
            let all = self.list.iter().enumerate();
            all.filter(|(_, mirror)| mirror.may_have(path))
        };
        let waits = |mirror: &Mirror| {
            mirror
                .from
                .map_or(Duration::ZERO, |from| from.saturating_duration_since(now))
        };
        let next = usable()
            .filter(|(_, mirror)| waits(mirror).is_zero())
            .min_by_key(|(_, mirror)| {
                let server = matches!(mirror.address, Address::Http(_));
                (mirror.whole, server, mirror.active)
            });
        if let Some((number, mirror)) = next
            && let Some(address) = mirror.address.join(path)
        {
            return Choice::Ask {
                mirror: number,
                address,
                whole: mirror.whole,
            };
        }
        match usable().map(|(_, mirror)| waits(mirror)).min() {
            Some(wait) if !wait.is_zero() => Choice::Wait(wait),
            _ => Choice::Nobody(self.reasons(path)),
        }
    }

    fn reasons(&self, path: &str) -> Vec<Failure> {
        self.list
            .iter()
            .filter_map(|mirror| {
                let absent = mirror.absent.iter().find(|(file, _)| file == path);
                mirror
                    .dropped
                    .as_ref()
                    .or(absent.map(|(_, failure)| failure))
                    .or(mirror.latest.as_ref())
                    .cloned()
            })
            .collect()
    }

    pub(crate) fn begin(&mut self, mirror: usize) {
        if let Some(mirror) = self.list.get_mut(mirror) {
            mirror.active += 1;
        }
    }

    pub(crate) fn end(&mut self, mirror: usize) {
        if let Some(mirror) = self.list.get_mut(mirror) {
            mirror.active = mirror.active.saturating_sub(1);
        }
    }

    /// Bytes came, and they were right.
    pub(crate) fn gave(&mut self, mirror: usize, bytes: u64) {
        if let Some(mirror) = self.list.get_mut(mirror) {
            mirror.bytes += bytes;
            mirror.since += bytes;
        }
    }

    /// It answered a request to the end.
    pub(crate) fn answered(&mut self, mirror: usize) {
        if let Some(mirror) = self.list.get_mut(mirror) {
            mirror.failures = 0;
        }
    }

    /// It knows no ranges.
    pub(crate) fn gives_whole_files(&mut self, mirror: usize) {
        if let Some(mirror) = self.list.get_mut(mirror) {
            mirror.whole = true;
        }
    }

    /// A request failed. A mirror that gave wrong bytes is dropped; so is one that
    /// stalls, if there is another; after a temporary failure it is retried later,
    /// and dropped if it keeps failing.
    pub(crate) fn failed(
        &mut self,
        mirror: usize,
        path: &str,
        failure: Failure,
        retry: Retry,
        jitter: f64,
        now: Instant,
    ) {
        let alone = self
            .list
            .iter()
            .enumerate()
            .all(|(number, other)| number == mirror || !other.may_have(path));
        let Some(mirror) = self.list.get_mut(mirror) else {
            return;
        };
        mirror.latest = Some(failure.clone());
        match &failure.fault {
            Fault::NotFound | Fault::Status(400..=407 | 409..=428 | 430..=499) => {
                mirror.absent.push((path.to_owned(), failure));
            }
            Fault::Stalled(_) | Fault::Slow(_) if !alone => mirror.dropped = Some(failure),
            fault if fault.may_pass() => {
                // Several requests under way fail together: that is one failure.
                if mirror.from.is_some_and(|from| from > now) {
                    return;
                }
                if std::mem::take(&mut mirror.since) >= PROGRESS {
                    mirror.failures = 0;
                }
                mirror.failures += 1;
                if mirror.failures >= retry.attempts {
                    mirror.dropped = Some(failure);
                } else {
                    mirror.from = Some(now + retry.delay(mirror.failures, jitter));
                }
            }
            _ => mirror.dropped = Some(failure),
        }
    }

    /// How much each gave so far, and which were dropped.
    pub(crate) fn uses(&self) -> Vec<MirrorUse> {
        self.list
            .iter()
            .map(|mirror| MirrorUse {
                address: mirror.address.shown(),
                bytes: mirror.bytes,
                dropped: mirror.dropped.as_ref().map(|failure| failure.to_string()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(addresses: &[&str]) -> Mirrors {
        let mut mirrors = Mirrors::default();
        for address in addresses {
            mirrors.add(Address::parse(address).unwrap());
        }
        mirrors
    }

    fn failure(fault: Fault) -> Failure {
        Failure {
            address: "http://a/x".to_owned(),
            fault,
        }
    }

    fn asked(mirrors: &Mirrors, now: Instant) -> Option<usize> {
        match mirrors.choose("x", now) {
            Choice::Ask { mirror, .. } => Some(mirror),
            Choice::Wait(_) | Choice::Nobody(_) => None,
        }
    }

    #[test]
    fn requests_are_spread_and_a_folder_is_preferred() {
        let now = Instant::now();
        let mut two = mirrors(&["http://a", "http://b", "http://a"]);
        assert_eq!(asked(&two, now), Some(0));
        two.begin(0);
        assert_eq!(asked(&two, now), Some(1));
        two.begin(1);
        two.end(0);
        assert_eq!(asked(&two, now), Some(0));
        two.add(Address::parse("/srv").unwrap());
        assert_eq!(asked(&two, now), Some(2));
    }

    #[test]
    fn a_liar_is_dropped_and_a_busy_one_waited_for() {
        let now = Instant::now();
        let retry = Retry::default();
        let mut two = mirrors(&["http://a", "http://b"]);
        two.failed(
            0,
            "x",
            failure(Fault::Wrong("lies".into())),
            retry,
            1.0,
            now,
        );
        assert_eq!(asked(&two, now), Some(1));
        for attempt in 1..retry.attempts {
            let later = now + Duration::from_secs(100 * u64::from(attempt));
            two.failed(1, "x", failure(Fault::Status(503)), retry, 1.0, later);
            let Choice::Wait(wait) = two.choose("x", later) else {
                panic!("it may be asked again later");
            };
            assert_eq!(wait, retry.delay(attempt, 1.0));
            assert_eq!(asked(&two, later + wait), Some(1));
        }
        let end = now + Duration::from_secs(10_000);
        two.failed(1, "x", failure(Fault::Status(503)), retry, 1.0, end);
        let Choice::Nobody(reasons) = two.choose("x", end) else {
            panic!("both are dropped");
        };
        assert_eq!(reasons.len(), 2);
    }

    #[test]
    fn a_line_that_breaks_again_and_again_is_used_as_long_as_something_comes() {
        let retry = Retry::default();
        let mut one = mirrors(&["http://a"]);
        let mut now = Instant::now();
        let mut breaks = |one: &mut Mirrors, bytes: u64| {
            now += Duration::from_secs(100);
            one.gave(0, bytes);
            one.failed(
                0,
                "x",
                failure(Fault::Broken("gone".into())),
                retry,
                1.0,
                now,
            );
            matches!(one.choose("x", now), Choice::Wait(_))
        };
        assert!((0..100).all(|_| breaks(&mut one, PROGRESS)));
        assert_eq!((0..100).filter(|_| breaks(&mut one, 4096)).count(), 3);
    }

    #[test]
    fn what_a_mirror_does_not_have_is_asked_elsewhere_but_other_files_still_there() {
        let now = Instant::now();
        let mut two = mirrors(&["http://a", "http://b"]);
        two.failed(0, "x", failure(Fault::NotFound), Retry::default(), 1.0, now);
        assert_eq!(asked(&two, now), Some(1));
        assert!(matches!(
            two.choose("y", now),
            Choice::Ask { mirror: 0, .. }
        ));
    }

    #[test]
    fn the_only_mirror_may_stall_and_is_asked_again() {
        let now = Instant::now();
        let retry = Retry::default();
        let mut two = mirrors(&["http://a", "http://b"]);
        two.failed(0, "x", failure(Fault::Stalled(1)), retry, 1.0, now);
        assert!(two.uses()[0].dropped.is_some());
        two.failed(1, "x", failure(Fault::Stalled(1)), retry, 1.0, now);
        assert!(matches!(two.choose("x", now), Choice::Wait(_)));
    }
}
