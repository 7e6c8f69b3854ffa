//! The kernel's last messages before a panic: the records that pstore kept
//! across the reset (kernel, `pstore-blk.rst` and `efi-pstore`).

use std::fs;
use std::path::Path;

/// So much of the last words is kept, in bytes.
const KEPT: usize = 400;
/// The longest record that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// The last messages of a panic, if the records in `folder` have one.
pub fn last_words(folder: &Path) -> Option<String> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_short = entry.metadata().is_ok_and(|it| it.len() <= LONGEST);
        if name.starts_with("dmesg-")
            && is_short
            && let Ok(bytes) = fs::read(entry.path())
        {
            dumps.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    dumps.sort();
    of_dumps(dumps.iter().map(|(_, text)| text.as_str()))
}

/// Removes the records in `folder`, also those of ordinary boots (the console),
/// since firmware has little room.
pub fn erase(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A backend that cannot erase keeps it; the next dump replaces it.
        let _ = fs::remove_file(entry.path());
    }
}

/// The line with the cause, from the dumps of one panic. A dump is a header
/// (`Panic#1 Part2`), then lines of the log with level and time; the parts of one
/// panic are numbered from its end.
fn of_dumps<'a>(dumps: impl Iterator<Item = &'a str>) -> Option<String> {
    let panics: Vec<&str> = dumps
        .filter(|text| {
            text.lines()
                .next()
                .is_some_and(|header| header.starts_with("Panic#") || header.starts_with("Oops#"))
        })
        .collect();
    let lines = || {
        panics
            .iter()
            .flat_map(|text| text.lines().skip(1))
            .map(message)
    };
    // The message of verity or a driver is the cause, the panic its consequence.
    let cause = lines().find(|line| line.contains("is corrupted") || line.contains("BUG:"));
    let panic = lines().find_map(|line| {
        line.split_once("Kernel panic - not syncing: ")
            .map(|(_, why)| why)
    });
    let last = || lines().filter(|line| !line.is_empty()).last();
    let words = match (panic, cause) {
        (Some(panic), Some(cause)) => format!("{panic} ({cause})"),
        (Some(panic), None) => panic.to_owned(),
        (None, Some(cause)) => cause.to_owned(),
        (None, None) => last()?.to_owned(),
    };
    let words: String = words.chars().filter(|c| !c.is_control()).collect();
    Some(shortened(&words))
}

/// A line without its level and time: `<4>[   12.345678] text`.
fn message(line: &str) -> &str {
    let line = match line.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((_, rest)) => rest,
        None => line,
    };
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((_, rest)) => rest.trim(),
        None => line.trim(),
    }
}

fn shortened(words: &str) -> String {
    let mut end = words.len().min(KEPT);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "Panic#1 Part1\n<3>[    4.100000] device-mapper: verity: 253:2: data block 77 is corrupted\n<0>[    4.200000] Kernel panic - not syncing: dm-verity device corrupted\n<0>[    4.300000] Kernel Offset: disabled\n";

    #[test]
    fn a_panic_is_reported_with_its_cause_and_its_record_can_be_erased() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("dmesg-efi_pstore-17000"), PANIC).unwrap();
        fs::write(folder.path().join("console-efi_pstore-1"), "hello\n").unwrap();
        assert_eq!(
            last_words(folder.path()).as_deref(),
            Some(
                "dm-verity device corrupted (device-mapper: verity: 253:2: data block 77 is corrupted)"
            )
        );
        erase(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(last_words(folder.path()), None);
    }

    #[test]
    fn a_record_without_a_panic_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("dmesg-1"),
            "Shutdown#1 Part1\n<6>[1.0] bye\n",
        )
        .unwrap();
        fs::write(folder.path().join("dmesg-2"), [0xff, 0xfe]).unwrap();
        assert_eq!(last_words(folder.path()), None);
        assert_eq!(last_words(Path::new("/nonexistent")), None);
    }

    #[test]
    fn the_cause_of_a_panic_is_found_in_any_part() {
        let parts = [
            "Panic#1 Part2\n<6>[1.0] earlier\n",
            "Panic#1 Part1\n<0>[2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000b00\n<4>[2.1]  ? trace\n",
        ];
        assert_eq!(
            of_dumps(parts.into_iter()).as_deref(),
            Some("Attempted to kill init! exitcode=0x00000b00")
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let words = format!("{}ü", "x".repeat(KEPT - 1));
        assert_eq!(shortened(&words).len(), KEPT - 1);
    }
}
