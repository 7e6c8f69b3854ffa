//! How a process that sets itself up tells the caller what failed: one message
//! on a pipe that closes when the program is executed.
//!
//! The message stands for itself, so that a caller that has executed itself
//! anew in the meantime can still read it: one byte for the step, four for the
//! error number (little endian), then the subject's bytes.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::error::{Error, Setup, SetupError, Step};

/// The longest subject that is reported; what is longer is cut.
const SUBJECT: usize = 507;
const LENGTH: usize = 1 + 4 + SUBJECT;

/// A failure in the child, which owns no memory.
#[derive(Debug)]
pub(crate) struct Failure<'a> {
    pub step: Step,
    pub subject: &'a [u8],
    pub errno: Errno,
}

/// Says which step a failed system call belongs to.
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

/// Writes the failure to the pipe, in one piece.
pub(crate) fn send(pipe: BorrowedFd<'_>, failure: &Failure<'_>) {
    let mut message = [0_u8; LENGTH];
    let length = failure.subject.len().min(SUBJECT);
    message[0] = failure.step.code();
    message[1..5].copy_from_slice(&(failure.errno as i32).to_le_bytes());
    message[5..5 + length].copy_from_slice(&failure.subject[..length]);
    // Who does not read it any more learns of the failure by the exit status.
    let _ = nix::unistd::write(pipe, &message[..5 + length]);
}

/// Reads what a starting process reports on [`crate::Started::setup`]. Does not block.
pub fn setup_outcome(setup: BorrowedFd<'_>) -> Result<Setup, Error> {
    let mut message = [0_u8; LENGTH];
    let length = match nix::unistd::read(setup, &mut message) {
        Ok(length) => length,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Setup::Pending),
        Err(errno) => return Err(Error::Report(errno)),
    };
    Ok(match decode(&message[..length]) {
        Some(error) => Setup::Failed(error),
        None => Setup::Executed,
    })
}

fn decode(message: &[u8]) -> Option<SetupError> {
    let (&code, rest) = message.split_first()?;
    let (errno, subject) = rest.split_first_chunk::<4>()?;
    Some(SetupError {
        step: Step::from_code(code)?,
        subject: String::from_utf8_lossy(subject).into_owned(),
        errno: i32::from_le_bytes(*errno),
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn pipe() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK).unwrap()
    }

    #[test]
    fn a_report_comes_back_as_it_was_sent() {
        for step in Step::ALL {
            let (read, write) = pipe();
            let failure = Failure {
                step: *step,
                subject: b"tmpfs on /dev",
                errno: Errno::EROFS,
            };
            send(write.as_fd(), &failure);
            assert_eq!(
                setup_outcome(read.as_fd()).unwrap(),
                Setup::Failed(SetupError {
                    step: *step,
                    subject: "tmpfs on /dev".into(),
                    errno: Errno::EROFS as i32,
                })
            );
        }
    }

    #[test]
    fn nothing_is_known_before_the_pipe_closes_and_success_after_it() {
        let (read, write) = pipe();
        assert_eq!(setup_outcome(read.as_fd()).unwrap(), Setup::Pending);
        drop(write);
        assert_eq!(setup_outcome(read.as_fd()).unwrap(), Setup::Executed);
    }

    #[test]
    fn a_long_subject_is_cut() {
        let (read, write) = pipe();
        let failure = Failure {
            step: Step::MountPoint,
            subject: &[b'a'; 4096],
            errno: Errno::ENAMETOOLONG,
        };
        send(write.as_fd(), &failure);
        let Setup::Failed(error) = setup_outcome(read.as_fd()).unwrap() else {
            panic!("no failure");
        };
        assert_eq!(error.subject.len(), SUBJECT);
    }
}
