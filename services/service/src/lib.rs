//! What each service of ours says, and what it gets from PID 1.
//!
//! - [`say`] and [`event`]: lines of the log, with their level and fields;
//! - [`Notify`]: readiness, status and stored descriptors (sd_notify(3));
//! - [`Descriptors`]: listening sockets and stored descriptors, by name
//!   (sd_listen_fds(3));
//! - [`Server`]: a socket by which it is asked, with the frames, versions and
//!   permissions of the crate `control`;
//! - [`wrong_usage`]: how a service ends whose command line is wrong.
//!
//! A service is a library with one entry, `run(arguments) -> ExitCode`, which a
//! program of three lines calls; so it does not matter to a service in which
//! program it is packed. `docs/new-service.md` shows one from nothing.

mod descriptors;
mod line;
mod notify;
mod server;
mod sys;
mod usage;

pub use descriptors::{DescriptorError, Descriptors};
pub use line::{event, say};
pub use log_line::Level;
pub use notify::Notify;
pub use server::{Answers, Server};
pub use usage::{WRONG_USAGE, words, wrong_usage};
