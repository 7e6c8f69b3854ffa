//! Makes the state partition ready to be mounted: `docs/state.md` is the manual
//! page.
//!
//! A one-shot container that PID 1 runs before anything mounts the partition,
//! and only where mounting it straight away is not possible or not enough. It
//! mounts nothing itself. Its invariants:
//!
//! - A power cut at any moment leaves a disk that boots, and running it again
//!   ends where an uninterrupted run would have ended.
//! - What is not known to be worthless is not written over, unless the
//!   operator's policy says so.
//!
//! The stages, a module each: [`arguments`] → [`partition_table`] and
//! [`table`] (the partition table as it is, and as it should be) → [`content`]
//! (what is in the partition) → [`prepare`] (what to do about it), by means of
//! [`partition_table::rewrite`] (the table on the disk), [`device`] (the
//! kernel's view) and [`filesystem`] (e2fsprogs) → [`report`].

mod arguments;
mod content;
mod device;
mod filesystem;
mod prepare;
mod report;
mod sys;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program: `arguments` begin with its name. The exit codes are in
/// `docs/state.md`.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let request = match service::words(arguments).and_then(arguments::parse) {
        Ok(request) => request,
        Err(mistake) => return service::wrong_usage(&mistake, arguments::USAGE),
    };
    let report = prepare::prepare(&request);
    report.publish(&request.report);
    ExitCode::from(report.result.exit_code())
}
