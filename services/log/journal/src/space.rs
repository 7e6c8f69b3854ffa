//! How much of the disk the journal may take

use std::os::fd::AsFd;

use nix::sys::statvfs::fstatvfs;

/// The bounds of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All segments together never take more bytes than this.
    pub max_bytes: u64,
    /// Leave this many bytes of the file system to others, …
    pub keep_free_bytes: u64,
    /// … and this percentage of it: the greater of the two counts.
    pub keep_free_percent: u64,
    /// Services whose share of the journal is larger, so that their entries
    /// are kept longest.
    pub kept_longest: &'static [&'static str],
}

impl Default for Limits {
    /// 32 MiB, leaving 8 MiB and a tenth of the file system to others; what the
    /// kernel, PID 1 and the log service say is kept longest.
    fn default() -> Limits {
        Limits {
            max_bytes: 32 << 20,
            keep_free_bytes: 8 << 20,
            keep_free_percent: 10,
            kept_longest: &["kernel", "init", "log"],
        }
    }
}

/// What the journal may take even if others have left less space than should be
/// free: enough for the newest lines, so that a machine whose disk is full
/// still logs what happens to it.
const LEAST: u64 = 256 << 10;
/// A segment's size is a sixteenth of the allowed space, so that dropping one
/// loses little history, within these bounds: a file's overhead (header, index,
/// block) stays below a tenth, and recovery after a power cut scans no more
/// than this.
const SEGMENT: (u64, u64) = (64 << 10, 1 << 20);

/// Bytes of a file system: total and available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub total: u64,
    pub available: u64,
}

impl FileSystem {
    /// Of the file system that `file` is on.
    pub fn of(file: impl AsFd) -> nix::Result<FileSystem> {
        let status = fstatvfs(file)?;
        Ok(FileSystem {
            total: status.blocks() * status.fragment_size(),
            available: status.blocks_available() * status.fragment_size(),
        })
    }
}

/// How many bytes all segments together may take, when they take `used` now.
pub fn allowed(limits: Limits, used: u64, system: FileSystem) -> u64 {
    let keep_free = limits
        .keep_free_bytes
        .max(system.total / 100 * limits.keep_free_percent);
    let room = used
        .saturating_add(system.available)
        .saturating_sub(keep_free);
    room.max(LEAST).min(limits.max_bytes)
}

/// How long a segment may get before the next one starts.
pub fn segment_size(allowed: u64) -> u64 {
    (allowed / 16).clamp(SEGMENT.0, SEGMENT.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn allowed_of(total: u64, available: u64, used: u64) -> u64 {
        allowed(Limits::default(), used, FileSystem { total, available })
    }

    #[test]
    fn a_large_disk_gives_the_journal_its_maximum() {
        assert_eq!(allowed_of(10_000 * MIB, 5_000 * MIB, 0), 32 * MIB);
        assert_eq!(allowed_of(10_000 * MIB, 1_000 * MIB, 32 * MIB), 32 * MIB);
    }

    #[test]
    fn the_journal_shrinks_before_the_disk_is_full() {
        // A tenth of 300 MiB stays free.
        assert_eq!(allowed_of(300 * MIB, 20 * MIB, 20 * MIB), 10 * MIB);
        // Of a small one 8 MiB.
        assert_eq!(allowed_of(40 * MIB, 10 * MIB, 4 * MIB), 6 * MIB);
    }

    #[test]
    fn the_newest_lines_have_room_even_on_a_full_disk() {
        assert_eq!(allowed_of(300 * MIB, 0, 20 * MIB), LEAST);
        assert_eq!(allowed_of(0, 0, 0), LEAST);
        let tiny = Limits {
            max_bytes: 1000,
            ..Limits::default()
        };
        let full = FileSystem {
            total: MIB,
            available: 0,
        };
        assert_eq!(allowed(tiny, 0, full), 1000);
    }
}
