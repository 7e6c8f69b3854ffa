//! How a process that sets itself up talks to its caller: small messages on a
//! SOCK_SEQPACKET socket, which closes when the program is executed.
//!
//! Each message of the process is self-contained, so that a caller that has
//! re-executed itself in the meantime can still read it: one byte gives its
//! kind, and a failure has four more for the error number (little endian), then
//! the subject's bytes. The caller's only message is one byte: continue.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use crate::error::{Error, Setup, SetupError, Step};

/// The longest subject that is reported; longer ones are cut.
const SUBJECT: usize = 507;
const LENGTH: usize = 1 + 4 + SUBJECT;

/// Further values of a message's first byte, which otherwise is a [`Step`]'s.
const ENVIRONMENT: u8 = 254;
const CREATED: u8 = 255;

/// A failure in the child, which owns no memory.
#[derive(Debug)]
pub(crate) struct Failure<'a> {
    pub step: Step,
    pub subject: &'a [u8],
    pub errno: Errno,
}

/// Names the step that a failed system call belongs to.
pub(crate) trait At<T> {
    fn at(self, step: Step, subject: &[u8]) -> Result<T, Failure<'_>>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step, subject: &[u8]) -> Result<T, Failure<'_>> {
        self.map_err(|errno| Failure {
            step,
            subject,
            errno,
        })
    }
}

/// The socket of [`crate::Started::setup`], and the child's end of it.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (setup, report) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    fcntl(&setup, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
    Ok((setup, report))
}

/// Writes the failure to the socket, in one message.
pub(crate) fn send_failure(report: BorrowedFd<'_>, failure: &Failure<'_>) {
    let mut message = [0_u8; LENGTH];
    let length = failure.subject.len().min(SUBJECT);
    message[0] = failure.step.code();
    message[1..5].copy_from_slice(&(failure.errno as i32).to_le_bytes());
    message[5..5 + length].copy_from_slice(&failure.subject[..length]);
    // A caller that no longer reads it learns of the failure by the exit
    // status.
    let _ = say(report, &message[..5 + length]);
}

/// Announces [`Setup::Environment`], and waits for [`proceed`].
pub(crate) fn announce_environment(report: BorrowedFd<'_>) -> Result<(), Errno> {
    say(report, &[ENVIRONMENT])?;
    loop {
        match recv(report.as_raw_fd(), &mut [0], MsgFlags::empty()) {
            Ok(1) => return Ok(()),
            Err(Errno::EINTR) => {}
            // The caller is gone, or its hooks have failed.
            Ok(_) => return Err(Errno::ECANCELED),
            Err(errno) => return Err(errno),
        }
    }
}

/// Announces [`Setup::Created`].
pub(crate) fn announce_created(report: BorrowedFd<'_>) -> Result<(), Errno> {
    say(report, &[CREATED])
}

fn say(report: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    // Without a signal if nobody listens.
    send(report.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL).map(drop)
}

/// Lets a process continue that has announced [`Setup::Environment`].
pub fn proceed(setup: BorrowedFd<'_>) -> Result<(), Error> {
    say(setup, &[1]).map_err(Error::Report)
}

/// Reads what a starting process reports on [`crate::Started::setup`], or on a
/// connection to its gate. Does not block if the descriptor is non-blocking.
pub fn setup_outcome(setup: BorrowedFd<'_>) -> Result<Setup, Error> {
    let mut message = [0_u8; LENGTH];
    let length = match recv(setup.as_fd().as_raw_fd(), &mut message, MsgFlags::empty()) {
        Ok(length) => length,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Setup::Pending),
        Err(errno) => return Err(Error::Report(errno)),
    };
    Ok(decode(&message[..length]))
}

fn decode(message: &[u8]) -> Setup {
    match message {
        [ENVIRONMENT] => Setup::Environment,
        [CREATED] => Setup::Created,
        [code, rest @ ..] => match (Step::from_code(*code), rest.split_first_chunk::<4>()) {
            (Some(step), Some((errno, subject))) => Setup::Failed(SetupError {
                step,
                subject: String::from_utf8_lossy(subject).into_owned(),
                errno: i32::from_le_bytes(*errno),
            }),
            // From an older or newer runtime: the exit status gives the
            // outcome.
            _ => Setup::Executed,
        },
        [] => Setup::Executed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_back_as_it_was_sent() {
        for step in Step::ALL {
            let (setup, report) = pair().unwrap();
            let failure = Failure {
                step: *step,
                subject: b"tmpfs on /dev",
                errno: Errno::EROFS,
            };
            send_failure(report.as_fd(), &failure);
            assert_eq!(
                setup_outcome(setup.as_fd()).unwrap(),
                Setup::Failed(SetupError {
                    step: *step,
                    subject: "tmpfs on /dev".into(),
                    errno: Errno::EROFS as i32,
                })
            );
        }
    }

    #[test]
    fn no_step_has_the_code_of_an_announcement() {
        assert!(Step::ALL.len() < usize::from(ENVIRONMENT));
    }

    #[test]
    fn nothing_is_known_before_the_socket_closes_and_success_after_it() {
        let (setup, report) = pair().unwrap();
        assert_eq!(setup_outcome(setup.as_fd()).unwrap(), Setup::Pending);
        announce_created(report.as_fd()).unwrap();
        drop(report);
        assert_eq!(setup_outcome(setup.as_fd()).unwrap(), Setup::Created);
        assert_eq!(setup_outcome(setup.as_fd()).unwrap(), Setup::Executed);
    }

    #[test]
    fn the_environment_waits_for_the_caller() {
        let (setup, report) = pair().unwrap();
        let process = std::thread::spawn(move || announce_environment(report.as_fd()));
        while setup_outcome(setup.as_fd()).unwrap() != Setup::Environment {
            std::thread::yield_now();
        }
        proceed(setup.as_fd()).unwrap();
        process.join().unwrap().unwrap();
    }

    #[test]
    fn a_caller_that_is_gone_ends_the_wait() {
        let (setup, report) = pair().unwrap();
        let process = std::thread::spawn(move || announce_environment(report.as_fd()));
        while setup_outcome(setup.as_fd()).unwrap() != Setup::Environment {
            std::thread::yield_now();
        }
        drop(setup);
        process.join().unwrap().unwrap_err();
    }

    #[test]
    fn a_long_subject_is_cut() {
        let (setup, report) = pair().unwrap();
        let failure = Failure {
            step: Step::MountPoint,
            subject: &[b'a'; 4096],
            errno: Errno::ENAMETOOLONG,
        };
        send_failure(report.as_fd(), &failure);
        let Setup::Failed(error) = setup_outcome(setup.as_fd()).unwrap() else {
            panic!("no failure");
        };
        assert_eq!(error.subject.len(), SUBJECT);
    }
}
