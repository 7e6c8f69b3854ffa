//! How a container's process is born: cloned by the caller, or by an
//! intermediate process that first enters what the caller itself must not enter
//! (a pid namespace, a user namespace, a time namespace with offsets).
//!
//! Invariant: from its birth on the new process has only the descriptors that
//! are meant for it, and other processes cannot inspect it.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::error::{Error, Setup, Step};
use crate::report::{self, At, Failure, setup_outcome};
use crate::sys;

/// The exit status of a process whose set-up failed.
pub(crate) const SETUP_FAILED: c_int = 127;

/// Reports the failure; the exit status of the process.
pub(crate) fn fail(report: BorrowedFd<'_>, failure: &Failure<'_>) -> c_int {
    report::send_failure(report, failure);
    SETUP_FAILED
}

pub(crate) fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Start { call, errno }
}

/// A cloned process that sets itself up.
#[derive(Debug)]
pub struct Started {
    /// Its number in the caller's pid namespace; a child of the caller, which
    /// must reap it.
    pub pid: Pid,
    /// Refers to the process.
    pub pidfd: OwnedFd,
    /// A socket, non-blocking, close-on-exec; give it to
    /// [`crate::setup_outcome`] when it is readable.
    pub setup: OwnedFd,
}

/// The descriptors of a process: those of its program, from 0 on, then those
/// that it needs until its program is executed.
#[derive(Debug)]
pub(crate) struct Descriptors {
    numbers: Vec<RawFd>,
    /// How many are the program's.
    program: usize,
}

/// A descriptor that is kept for the set-up, by its future number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept(RawFd);

impl Kept {
    /// The descriptor, in a process that has called [`Descriptors::place`].
    pub fn fd(self) -> BorrowedFd<'static> {
        sys::placed(self.0)
    }
}

impl Descriptors {
    /// Starts with those of the program.
    pub fn new<'a>(program: impl Iterator<Item = BorrowedFd<'a>>) -> Descriptors {
        let numbers: Vec<_> = program.map(|fd| fd.as_raw_fd()).collect();
        Descriptors {
            program: numbers.len(),
            numbers,
        }
    }

    /// Adds one that is closed when the program is executed.
    pub fn keep(&mut self, fd: BorrowedFd<'_>) -> Kept {
        self.numbers.push(fd.as_raw_fd());
        Kept(self.numbers.len() as RawFd - 1)
    }

    /// In the new process: moves each to its place and closes every other.
    pub fn place(&mut self) -> Result<(), Failure<'static>> {
        let end = self.numbers.len() as RawFd;
        let mut place = || {
            // First move them out of the way, so that none is overwritten
            // before it is placed.
            for number in &mut self.numbers {
                *number = sys::duplicate_above(*number, end)?;
            }
            for (target, number) in (0..).zip(&self.numbers) {
                if (target as usize) < self.program {
                    sys::place(*number, target)?;
                } else {
                    sys::place_for_setup(*number, target)?;
                }
            }
            sys::close_from(end)
        };
        place().at(Step::Descriptors, b"")
    }
}

/// A process to be born.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    /// Flags of clone3.
    flags: u64,
    /// The cgroup it is born in; without one, the caller's.
    cgroup: Option<BorrowedFd<'a>>,
    descriptors: Descriptors,
    /// The caller's end of the socket on which it reports, and its own.
    setup: OwnedFd,
    report: OwnedFd,
    report_kept: Kept,
}

impl<'a> Birth<'a> {
    /// Starts with the flags of clone3, the cgroup and the program's
    /// descriptors.
    pub fn new<'b>(
        flags: u64,
        cgroup: Option<BorrowedFd<'a>>,
        program: impl Iterator<Item = BorrowedFd<'b>>,
    ) -> Result<Birth<'a>, Error> {
        let mut descriptors = Descriptors::new(program);
        let (setup, report) = report::pair().map_err(failed("socketpair"))?;
        Ok(Birth {
            flags,
            cgroup,
            report_kept: descriptors.keep(report.as_fd()),
            descriptors,
            setup,
            report,
        })
    }

    /// Adds a descriptor that is closed when the program is executed.
    pub fn keep(&mut self, fd: BorrowedFd<'_>) -> Kept {
        self.descriptors.keep(fd)
    }

    /// Clones it from the caller.
    pub fn direct(
        mut self,
        child: impl FnOnce(BorrowedFd<'static>) -> c_int,
    ) -> Result<Started, Error> {
        let (pid, pidfd) = sys::spawn(self.flags, self.cgroup, || match self.descriptors.place() {
            Ok(()) => child(self.report_kept.fd()),
            Err(failure) => fail(self.report.as_fd(), &failure),
        })
        .map_err(failed("clone3"))?;
        Ok(Started {
            pid,
            pidfd,
            setup: self.setup,
        })
    }

    /// Clones it from an intermediate process, with the caller as its parent.
    ///
    /// The intermediate process runs `before` before the clone. With `born` the
    /// new process waits until the intermediate process has run it with the new
    /// pid. The intermediate process does not outlive this call.
    pub fn between<'f, B>(
        mut self,
        before: impl FnOnce() -> Result<(), Failure<'f>>,
        born: Option<B>,
        child: impl FnOnce(BorrowedFd<'static>) -> c_int,
    ) -> Result<Started, Error>
    where
        B: FnOnce(Pid) -> Result<(), Failure<'f>>,
    {
        let (answers, answer) = pipe2(OFlag::O_CLOEXEC).map_err(failed("pipe2"))?;
        // The last ones; the new process keeps none of them.
        let answer_kept = self.descriptors.keep(answer.as_fd());
        let cgroup = self.cgroup.map(|fd| self.descriptors.keep(fd));

        let (between, _) = sys::spawn(0, None, || {
            if let Err(failure) = self.descriptors.place() {
                return fail(self.report.as_fd(), &failure);
            }
            let report = self.report_kept.fd();
            let flags = self.flags | sys::CLONE_PARENT;
            let cgroup = cgroup.map(Kept::fd);
            let last = cgroup.unwrap_or(answer_kept.fd()).as_raw_fd();
            let child = || match sys::close_range(answer_kept.0, last) {
                Ok(()) => child(report),
                Err(errno) => fail(
                    report,
                    &Failure {
                        step: Step::Descriptors,
                        subject: b"",
                        errno,
                    },
                ),
            };
            match bear(flags, cgroup, answer_kept.fd(), before, born, child) {
                Ok(()) => 0,
                Err(failure) => fail(report, &failure),
            }
        })
        .map_err(failed("clone3"))?;
        drop(answer);
        loop {
            match waitpid(between, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("waitpid")(errno)),
            }
        }
        let mut pid = [0; 4];
        if nix::unistd::read(&answers, &mut pid) != Ok(pid.len()) {
            return Err(match setup_outcome(self.setup.as_fd())? {
                Setup::Failed(error) => Error::Setup(error),
                _ => failed("clone3")(Errno::ECHILD),
            });
        }
        let pid = Pid::from_raw(i32::from_ne_bytes(pid));
        Ok(Started {
            pid,
            // Not reaped yet, so the number cannot be another process's.
            pidfd: sys::pidfd_open(pid).map_err(failed("pidfd_open"))?,
            setup: self.setup,
        })
    }
}

/// In the intermediate process.
fn bear<'f, B>(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    answer: BorrowedFd<'_>,
    before: impl FnOnce() -> Result<(), Failure<'f>>,
    born: Option<B>,
    child: impl FnOnce() -> c_int,
) -> Result<(), Failure<'f>>
where
    B: FnOnce(Pid) -> Result<(), Failure<'f>>,
{
    // The maps of a process that cannot be inspected belong to root, so an
    // ordinary user could not write them. Nobody else is in the namespace yet,
    // and the process hides itself as soon as it has its maps.
    if born.is_none() || nix::unistd::geteuid().is_root() {
        sys::undumpable().at(Step::Session, b"")?;
    }
    before()?;
    let tell = |pid: Pid| {
        nix::unistd::write(answer, &pid.as_raw().to_ne_bytes())
            .map(drop)
            .at(Step::Birth, b"")
    };
    let Some(born) = born else {
        let (pid, _) = sys::spawn(flags, cgroup, child).at(Step::Birth, b"")?;
        return tell(pid);
    };
    let (wait, release) = pipe2(OFlag::O_CLOEXEC).at(Step::Birth, b"")?;
    let (pid, _) = sys::spawn(flags, cgroup, || {
        let own_end = release.as_raw_fd();
        let released =
            sys::close_range(own_end, own_end).and_then(|()| nix::unistd::read(&wait, &mut [0]));
        match released {
            Ok(1) => child(),
            // The intermediate process reports what failed.
            Ok(_) | Err(_) => SETUP_FAILED,
        }
    })
    .at(Step::Birth, b"")?;
    tell(pid)?;
    born(pid)?;
    nix::unistd::write(&release, &[1])
        .map(drop)
        .at(Step::Birth, b"")
}
