//! The wall clock at boot: what is believed, and for how long
//!
//! ```text
//!  build            build + SPAN
//!    │  hardware clock    │
//! ───┼────────────────────┼──▶      hardware clock between them: believed
//!    │                    │         otherwise: the saved time, if that is between
//!    │                    │         them, else the build time
//! ```
//!
//! The build time comes with the verified root, so nothing on the machine can
//! change it. A hardware clock before it has no battery or was never set; one
//! after the span is wrong too. Without the upper bound, one boot with a clock
//! in 2099 would be saved, and each later boot would take it over: all update
//! metadata would be expired for ever. For the same reason the saved time never
//! overrules a hardware clock that can be right.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::kernel_log::log;

/// How long after its build a release is believed to run, in seconds: ten years
/// of 365 days. Longer than any machine goes without an update.
const SPAN: i64 = 10 * 365 * 24 * 3600;
/// No release was built before 2025: an earlier build time is none, and says
/// nothing.
const FIRST_BUILD: i64 = 1_735_689_600;

/// Below the state partition; the time of its last change is the saved time.
const SAVED: &str = "var/clock";
/// Its time of change is the time of the build.
const BUILT: &str = "/usr/lib/os-release";

/// What the clock is set to at boot, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// It is left as it is.
    Hardware,
    /// The time of the build, because it is behind that …
    BehindBuild,
    /// … or more than the span after it.
    AfterSpan,
}

fn believe(hardware: i64, built: i64) -> Belief {
    if hardware < built {
        Belief::BehindBuild
    } else if built >= FIRST_BUILD && hardware > built.saturating_add(SPAN) {
        Belief::AfterSpan
    } else {
        Belief::Hardware
    }
}

/// Whether a saved time can be right.
fn is_plausible(saved: i64, built: i64) -> bool {
    built < FIRST_BUILD || saved <= built.saturating_add(SPAN)
}

/// Sets the clock to the build time if the hardware's cannot be right. Returns
/// whether the saved time is better than what the clock says now.
pub fn set_at_boot() -> bool {
    let (Some(built), Some(now)) = (built(), now()) else {
        return true;
    };
    match believe(now, built) {
        Belief::Hardware => false,
        Belief::BehindBuild => {
            set(built, "the clock was behind the time of the build");
            true
        }
        Belief::AfterSpan => {
            set(
                built,
                "the clock was more than ten years after the time of the build",
            );
            true
        }
    }
}

/// Sets the clock to the saved time, if that is later and can be right.
pub fn restore(saved: i64) {
    if built().is_some_and(|built| !is_plausible(saved, built)) {
        log!(
            Warning,
            "the saved time is more than ten years after the time of the build and is ignored"
        );
    } else if now().is_some_and(|now| now < saved) {
        set(saved, "the clock was behind the last time that was saved");
    }
}

/// The saved time. It may block.
pub fn saved(state: &Path) -> Option<i64> {
    let saved = fs::symlink_metadata(state.join(SAVED)).ok()?;
    saved.is_file().then(|| saved.mtime())
}

/// Saves the time, as the time of a file's change. It may block.
pub fn save(state: &Path) -> std::io::Result<()> {
    atomic_file::replace(&state.join(SAVED), b"")
}

fn built() -> Option<i64> {
    fs::metadata(BUILT).ok().map(|metadata| metadata.mtime())
}

fn now() -> Option<i64> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).ok()?;
    Some(now.tv_sec())
}

fn set(seconds: i64, why: &str) {
    match clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0)) {
        Ok(()) => log!(Notice, "{why} and is set to it"),
        Err(error) => log!(Warning, "{why}, and it cannot be set: {}", error.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-12-01.
    const BUILT: i64 = 1_796_083_200;
    const YEAR: i64 = 365 * 24 * 3600;
    /// 2099-01-01.
    const FAR: i64 = 4_070_908_800;

    #[test]
    fn a_hardware_clock_that_can_be_right_is_believed() {
        assert_eq!(believe(BUILT, BUILT), Belief::Hardware);
        assert_eq!(believe(BUILT + 9 * YEAR, BUILT), Belief::Hardware);
    }

    #[test]
    fn a_hardware_clock_without_a_battery_or_in_2099_is_not() {
        assert_eq!(believe(0, BUILT), Belief::BehindBuild);
        assert_eq!(believe(BUILT - 1, BUILT), Belief::BehindBuild);
        assert_eq!(believe(FAR, BUILT), Belief::AfterSpan);
    }

    #[test]
    fn a_time_of_2099_that_was_saved_once_is_not_taken_over() {
        assert!(!is_plausible(FAR, BUILT));
        assert!(is_plausible(BUILT + 3 * YEAR, BUILT));
    }

    #[test]
    fn a_root_without_a_build_time_bounds_nothing() {
        assert_eq!(believe(FAR, 1), Belief::Hardware);
        assert!(is_plausible(FAR, 1));
    }

    #[test]
    fn what_was_saved_is_read_back_and_only_from_a_file() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("var")).unwrap();
        assert_eq!(saved(state.path()), None);
        save(state.path()).unwrap();
        let age = now().unwrap() - saved(state.path()).unwrap();
        assert!((0..60).contains(&age), "{age}");
        fs::remove_file(state.path().join(SAVED)).unwrap();
        nix::unistd::mkfifo(
            &state.path().join(SAVED),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        assert_eq!(saved(state.path()), None);
        // A FIFO in its place is replaced, without waiting for a reader.
        save(state.path()).unwrap();
        assert!(saved(state.path()).is_some());
    }
}
