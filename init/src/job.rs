//! Work that may wait for a disk, in a child of PID 1. The child reports in
//! lines of JSON over a pipe, and its mounts are PID 1's mounts.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use nix::fcntl::OFlag;
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::children::{Child, Children};
use crate::source::{Source, Sources};
use crate::sys;

/// A child at work.
#[derive(Debug)]
pub struct Job {
    pid: Pid,
    pipe: File,
    received: Vec<u8>,
}

/// Where the child reports.
#[derive(Debug)]
pub struct Reporter(File);

impl Reporter {
    /// Sends one report.
    pub fn send(&mut self, report: &impl Serialize) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            // Where PID 1 no longer reads, nobody wants the report.
            let _ = self.0.write_all(&line);
        }
    }
}

impl Job {
    /// Starts `work` in a child that is known as `child` and whose reports wake
    /// the loop as `source`.
    ///
    /// # Errors
    /// Which call failed.
    pub fn start(
        children: &mut Children,
        child: Child,
        sources: &Sources,
        source: Source,
        work: impl FnOnce(&mut Reporter),
    ) -> Result<Self, String> {
        let job = Self::fork(work)?;
        children.insert(job.pid, child);
        sources.add(&job.pipe, source, EpollFlags::EPOLLIN)?;
        Ok(job)
    }

    fn fork(work: impl FnOnce(&mut Reporter)) -> Result<Self, String> {
        let (read, write) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| format!("pipe2: {}", error.desc()))?;
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|error| format!("fcntl: {}", error.desc()))?;
        let pid = sys::fork_to(|| {
            let _ = SigSet::all().thread_unblock();
            work(&mut Reporter(File::from(write)));
        })
        .map_err(|error| format!("fork: {}", error.desc()))?;
        Ok(Self {
            pid,
            pipe: File::from(read),
            received: Vec::new(),
        })
    }

    /// Kills the child, as far as it can be killed.
    pub fn kill(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Stops watching the pipe.
    pub fn unwatch(&self, sources: &Sources) {
        sources.remove(&self.pipe);
    }

    /// The reports that are there by now; the pipe is watched until the child has
    /// closed its side. A line that is no report of this kind is left out.
    pub fn reports<T: DeserializeOwned>(&mut self, sources: &Sources) -> Vec<T> {
        let mut bytes = [0; 16 * 1024];
        let ended = loop {
            match self.pipe.read(&mut bytes) {
                Ok(0) => break true,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        if ended {
            self.unwatch(sources);
        }
        let mut reports = Vec::new();
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            reports.extend(serde_json::from_slice(&line));
        }
        reports
    }
}
