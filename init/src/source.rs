//! What PID 1 waits for: descriptors in one epoll set, each known by a
//! [`Source`].

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Why the loop woke up. The number of a service is its place in PID 1's table
/// ([`crate::service::Id`]), which stays the same as long as PID 1 runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The signal descriptor.
    Signals,
    /// Somebody connects to the control socket.
    Listener,
    /// A control connection.
    Connection(u32),
    /// A container reports on its set-up.
    Setup(u32),
    /// A service notifies.
    Notify(u32),
    /// The population of a service's cgroup changed.
    Cgroup(u32),
    /// A listening socket of a service that does not run has a client.
    Activation(u32),
    /// The log service has taken some of what it was sent.
    Outputs,
    /// The child at work reports.
    Job,
    /// A power key.
    PowerKey(u32),
    /// The child that reads the boot loader's count reports.
    Trial,
}

impl Source {
    fn token(self) -> u64 {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Listener => (1, 0),
            Self::Connection(number) => (2, number),
            Self::Setup(number) => (3, number),
            Self::Notify(number) => (4, number),
            Self::Cgroup(number) => (5, number),
            Self::Activation(number) => (6, number),
            Self::Outputs => (7, 0),
            Self::Job => (8, 0),
            Self::PowerKey(number) => (9, number),
            Self::Trial => (10, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn from_token(token: u64) -> Option<Self> {
        let number = token as u32;
        Some(match token >> 32 {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Connection(number),
            3 => Self::Setup(number),
            4 => Self::Notify(number),
            5 => Self::Cgroup(number),
            6 => Self::Activation(number),
            7 => Self::Outputs,
            8 => Self::Job,
            9 => Self::PowerKey(number),
            10 => Self::Trial,
            _ => return None,
        })
    }
}

/// The epoll set.
#[derive(Debug)]
pub struct Sources(Epoll);

/// The most events taken in one turn of the loop.
const BATCH: usize = 32;

impl Sources {
    /// An empty set.
    pub fn new() -> Result<Self, String> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map(Self)
            .map_err(|error| format!("epoll_create: {}", error.desc()))
    }

    /// Watches a descriptor, level-triggered; `flags` are what to wait for.
    pub fn add(
        &self,
        descriptor: &impl AsFd,
        source: Source,
        flags: EpollFlags,
    ) -> Result<(), String> {
        self.0
            .add(descriptor, EpollEvent::new(flags, source.token()))
            .map_err(|error| format!("epoll_ctl for {source:?}: {}", error.desc()))
    }

    /// Waits for something else on a descriptor that is watched already.
    pub fn modify(&self, descriptor: &impl AsFd, source: Source, flags: EpollFlags) {
        let _ = self
            .0
            .modify(descriptor, &mut EpollEvent::new(flags, source.token()));
    }

    /// Stops watching a descriptor. One that is closed everywhere goes by
    /// itself; one with a copy in another process does not.
    pub fn remove(&self, descriptor: &impl AsFd) {
        let _ = self.0.delete(descriptor);
    }

    /// Waits until something happens, `limit` at the longest.
    pub fn wait(&self, limit: Option<Duration>) -> Vec<(Source, EpollFlags)> {
        let timeout = match limit {
            None => EpollTimeout::NONE,
            // Rounded up: a deadline that has not come yet would make the loop
            // turn again and again within its last millisecond.
            Some(limit) => {
                let millis = limit.as_nanos().div_ceil(1_000_000).min(60_000);
                EpollTimeout::from(millis as u16)
            }
        };
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.0.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(_) => 0,
        };
        events[..count]
            .iter()
            .filter_map(|event| Some((Source::from_token(event.data())?, event.events())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_its_token() {
        for source in [
            Source::Signals,
            Source::Listener,
            Source::Connection(7),
            Source::Setup(0),
            Source::Notify(u32::MAX),
            Source::Cgroup(1),
            Source::Activation(2),
            Source::Outputs,
            Source::Job,
            Source::PowerKey(3),
            Source::Trial,
        ] {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
    }
}
