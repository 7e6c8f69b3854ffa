//! What a test requires of the machine that runs it.
//!
//! Most tests run anywhere. A test that needs root or a loop device asks for it
//! first, and returns where it is missing:
//!
//! ```
//! fn a_loop_device_is_read() {
//!     let Some(device) = requirement::LoopDevice::attach("/the/image".as_ref(), &[]) else {
//!         return;
//!     };
//!     // …
//! }
//! ```
//!
//! No skip is silent. Each prints `skipped: TEST: WHY`, which libtest does not
//! capture, and adds that line to the file [`RECORD`] of the folder that
//! `WHERRY_BUILD` names, from which `cargo xtask test` prints a count at its end.
//! Where `CI` is set, a skip is a failure.
//!
//! No dependencies: every crate's tests can afford it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The file in the build folder that lists the skipped tests, one a line.
pub const RECORD: &str = "skipped-tests";

/// Whether the test runs as root; if not, it is skipped.
pub fn root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        skip("needs root");
    }
    root
}

/// Skips the test that calls this, or a part of it, for the reason `why`. The
/// caller returns after it. A test that skips twice for one reason says so once.
///
/// # Panics
///
/// Where `CI` is set and not empty: there a skip is a failure.
pub fn skip(why: impl Display) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test}: {why}");
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.insert(line.clone()) {
        return;
    }
    // The handle itself, since libtest captures what `eprintln!` writes.
    let _ = writeln!(io::stderr(), "skipped: {line}");
    if let Some(build) = std::env::var_os("WHERRY_BUILD") {
        record(&Path::new(&build).join(RECORD), &line);
    }
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!ci, "a skip is a failure in CI: {line}");
}

/// Adds a line in one write, so that tests of several programs can do it at once.
/// A record that cannot be written does not fail a test: the line was printed.
fn record(path: &Path, line: &str) {
    let file = File::options().create(true).append(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

/// A loop device, detached when dropped.
#[derive(Debug)]
pub struct LoopDevice(PathBuf);

impl LoopDevice {
    /// Attaches the first free loop device to `image`, with further arguments of
    /// losetup(8). Where the machine has none to give, the test is skipped.
    pub fn attach(image: &Path, arguments: &[&str]) -> Option<Self> {
        let output = losetup()
            .args(["--find", "--show"])
            .args(arguments)
            .arg(image)
            .output();
        let why = match output {
            Ok(output) if output.status.success() => {
                let path = String::from_utf8_lossy(&output.stdout);
                return Some(Self(path.trim().into()));
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        skip(format!("needs a loop device: {why}"));
        None
    }

    /// The device's node.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = losetup().arg("--detach").arg(&self.0).status();
        let detached = detached.is_ok_and(|status| status.success());
        // A panic during a panic would hide the first one.
        assert!(detached || thread::panicking(), "{:?} stays", self.0);
    }
}

/// An ordinary user's `PATH` may lack `/usr/sbin`.
fn losetup() -> Command {
    Command::new("/usr/sbin/losetup")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::RECORD;
    use std::fs;
    use std::process::{Command, Output};

    /// Runs the test below in a process of its own with these variables.
    fn skipping(variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "tests::skips_where_that_is_asked_for"])
            .env("REQUIREMENT_TEST_SKIPS", "1")
            .env_remove("CI")
            .env_remove("WHERRY_BUILD")
            .envs(variables.iter().copied());
        command.output().unwrap()
    }

    #[test]
    fn skips_where_that_is_asked_for() {
        if std::env::var_os("REQUIREMENT_TEST_SKIPS").is_some() {
            super::skip("it was asked for");
            super::skip("it was asked for");
        }
    }

    const LINE: &str = "tests::skips_where_that_is_asked_for: it was asked for";

    #[test]
    fn a_skip_is_seen_although_the_test_passes() {
        let output = skipping(&[]);
        assert!(output.status.success());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors, format!("skipped: {LINE}\n"));
    }

    #[test]
    fn each_skip_is_a_line_of_the_record() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let build = folder.path().to_str().unwrap();
            assert!(skipping(&[("WHERRY_BUILD", build)]).status.success());
        }
        let record = fs::read_to_string(folder.path().join(RECORD)).unwrap();
        assert_eq!(record, format!("{LINE}\n{LINE}\n"));
    }

    #[test]
    fn a_skip_fails_in_ci() {
        let output = skipping(&[("CI", "true")]);
        assert!(!output.status.success());
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains("a skip is a failure in CI"), "{told}");
        assert!(skipping(&[("CI", "")]).status.success());
    }
}
