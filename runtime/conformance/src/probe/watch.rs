//! What a hostile process does while a runtime enters its container: it
//! searches `/proc` for what the runtime brought along.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// Calls with each other process's directory until the time is over.
fn others(milliseconds: u64, mut look: impl FnMut(&std::path::Path)) {
    let own = std::process::id().to_string();
    let end = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_process = name.to_string_lossy().parse::<u32>().is_ok();
            if is_process && name != own.as_str() {
                look(&entry.path());
            }
        }
    }
}

/// Executables of other processes that can be opened for writing once those
/// have ended: their paths.
pub fn executables(milliseconds: u64) -> Vec<String> {
    let own = fs::metadata("/proc/self/exe").map(|found| (found.dev(), found.ino()));
    let mut held: BTreeMap<(u64, u64), (String, File)> = BTreeMap::new();
    others(milliseconds, |process| {
        let path = process.join("exe");
        let Ok(file) = File::open(&path) else { return };
        let Ok(found) = file.metadata() else { return };
        let identity = (found.dev(), found.ino());
        if own.as_ref().is_ok_and(|own| *own == identity) {
            return;
        }
        let name = fs::read_link(&path).unwrap_or_default();
        held.entry(identity)
            .or_insert((name.to_string_lossy().into_owned(), file));
    });
    // A file that is being executed cannot be written: the attack waits.
    std::thread::sleep(Duration::from_millis(500));
    held.into_values()
        .filter(|(_, file)| {
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            OpenOptions::new().write(true).open(again).is_ok()
        })
        .map(|(name, _)| name)
        .collect()
}

/// How often another process was met, and how often one had another root than
/// this one.
pub fn roots(milliseconds: u64) -> (u64, u64) {
    let own = fs::metadata("/").map(|found| (found.dev(), found.ino()));
    let (mut met, mut different) = (0, 0);
    others(milliseconds, |process| {
        let Ok(found) = fs::metadata(process.join("root/.")) else {
            return;
        };
        met += 1;
        if own
            .as_ref()
            .is_ok_and(|own| *own != (found.dev(), found.ino()))
        {
            different += 1;
        }
    });
    (met, different)
}

/// Directories that descriptors of other processes led to and that are not in
/// this root.
pub fn descriptors(milliseconds: u64) -> Vec<String> {
    let root = fs::metadata("/").map(|found| (found.dev(), found.ino()));
    let mut reached = std::collections::BTreeSet::new();
    others(milliseconds, |process| {
        for entry in fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            // From a directory of another root, going up ends elsewhere.
            let top = path.join("../../../../../../../../../../..");
            let Ok(found) = fs::metadata(top) else {
                continue;
            };
            if root
                .as_ref()
                .is_ok_and(|root| *root != (found.dev(), found.ino()))
            {
                let link = fs::read_link(&path).unwrap_or_default();
                reached.insert(link.to_string_lossy().into_owned());
            }
        }
    });
    reached.into_iter().collect()
}
