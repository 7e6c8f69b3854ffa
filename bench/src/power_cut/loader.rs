//! The ESP as systemd-boot reads it, and what it then boots.
//!
//! This is written from systemd-boot's rules (257), not from what the updater
//! knows of them: an entry without tries left comes last; then the sort key, the
//! version (newest first) and the file's name count; of two that are otherwise
//! the same, the one with more tries left, then the one that was tried less.

use fatfs::{Dir, FileSystem, FsOptions};
use object::read::pe::PeFile64;
use object::{Object, ObjectSection};
use std::cmp::{Ordering, Reverse};
use std::io::Read;

use super::medium::Reader;

/// More files than that in a folder are a sign that it cannot be read.
const FILES: usize = 64;

/// What is on an ESP.
#[derive(Debug)]
pub struct Esp {
    /// `EFI/BOOT/BOOTX64.EFI`, which firmware starts.
    pub loader: Vec<u8>,
    /// `loader/loader.conf`.
    pub config: Vec<u8>,
    /// What can be booted, in the loader's order.
    pub entries: Vec<Entry>,
}

/// A unified kernel image that the loader lists.
#[derive(Debug)]
pub struct Entry {
    /// Its name in `EFI/Linux`.
    pub file: String,
    /// Tries left and done, where the name has a counter.
    pub tries: Option<(u64, u64)>,
    /// What is in its `.osrel`.
    pub system: System,
    /// All of it.
    pub content: Vec<u8>,
}

/// What an `.osrel` tells the loader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// IMAGE_ID or ID.
    pub sort_key: String,
    /// IMAGE_VERSION or VERSION_ID.
    pub version: String,
}

/// Reads an ESP.
pub fn read(partition: Reader<'_>) -> Result<Esp, String> {
    let options = FsOptions::new().update_accessed_date(false);
    let esp = FileSystem::new(partition, options).map_err(|error| format!("the ESP: {error}"))?;
    let root = esp.root_dir();
    let loader = file(&root, "EFI/BOOT/BOOTX64.EFI")?;
    let config = file(&root, "loader/loader.conf")?;
    let folder = root
        .open_dir("EFI/Linux")
        .map_err(|error| format!("EFI/Linux: {error}"))?;
    let mut entries = Vec::new();
    for (number, found) in folder.iter().enumerate() {
        let found = found.map_err(|error| format!("EFI/Linux: {error}"))?;
        if number > FILES {
            return Err("EFI/Linux has no end".to_owned());
        }
        let name = found.file_name();
        if found.is_dir() || name.starts_with('.') || !name.to_lowercase().ends_with(".efi") {
            continue;
        }
        let content = file(&folder, &name)?;
        // One without .osrel is not listed.
        if let Some(system) = section(&content, ".osrel").and_then(|text| system(&text)) {
            entries.push(Entry {
                tries: tries(&name),
                file: name,
                system,
                content,
            });
        }
    }
    entries.sort_by(compare);
    Ok(Esp {
        loader,
        config,
        entries,
    })
}

fn file(folder: &Dir<'_, Reader<'_>>, path: &str) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    folder
        .open_file(path)
        .and_then(|mut file| file.read_to_end(&mut content))
        .map_err(|error| format!("{path}: {error}"))?;
    Ok(content)
}

/// A section of a unified kernel image, as text.
pub fn section(image: &[u8], name: &str) -> Option<String> {
    let file = PeFile64::parse(image).ok()?;
    let data = file.section_by_name(name)?.data().ok()?;
    let text = String::from_utf8_lossy(data);
    Some(text.trim_end_matches('\0').trim().to_owned())
}

fn system(release: &str) -> Option<System> {
    let value = |key: &str| {
        release.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix('=')?;
            Some(value.trim_matches(['"', '\'']).to_owned())
        })
    };
    Some(System {
        sort_key: value("IMAGE_ID").or_else(|| value("ID"))?,
        version: value("IMAGE_VERSION").or_else(|| value("VERSION_ID"))?,
    })
}

/// The counter of `name+LEFT-DONE.efi`.
fn tries(name: &str) -> Option<(u64, u64)> {
    let (_, counter) = name.get(..name.len() - 4)?.rsplit_once('+')?;
    match counter.split_once('-') {
        Some((left, done)) => Some((left.parse().ok()?, done.parse().ok()?)),
        None => Some((counter.parse().ok()?, 0)),
    }
}

fn compare(a: &Entry, b: &Entry) -> Ordering {
    let spent = |entry: &Entry| entry.tries.is_some_and(|(left, _)| left == 0);
    spent(a)
        .cmp(&spent(b))
        .then_with(|| a.system.sort_key.cmp(&b.system.sort_key))
        .then_with(|| compare_versions(&b.system.version, &a.system.version))
        .then_with(|| compare_versions(&b.file.to_lowercase(), &a.file.to_lowercase()))
        .then_with(|| match (a.tries, b.tries) {
            (Some(a), Some(b)) => (Reverse(a.0), a.1).cmp(&(Reverse(b.0), b.1)),
            _ => Ordering::Equal,
        })
}

/// The version format specification (UAPI.10), step by step as it is written.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let known = |c: char| c.is_ascii_alphanumeric() || "~-^.".contains(c);
    let (mut a, mut b) = (a, b);
    'parts: loop {
        a = a.trim_start_matches(|c| !known(c));
        b = b.trim_start_matches(|c| !known(c));
        for (mark, behind_the_end) in [('~', false), ('-', true), ('^', true), ('.', true)] {
            let order = match (a.strip_prefix(mark), b.strip_prefix(mark)) {
                (Some(rest_a), Some(rest_b)) => {
                    (a, b) = (rest_a, rest_b);
                    continue 'parts;
                }
                (Some(_), None) if b.is_empty() && behind_the_end => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) if a.is_empty() && behind_the_end => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => continue,
            };
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let numeric = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let digits = numeric(a) || numeric(b);
        let end = |text: &str| {
            text.find(|c: char| match digits {
                true => !c.is_ascii_digit(),
                false => !c.is_ascii_alphabetic(),
            })
            .unwrap_or(text.len())
        };
        let ((part_a, rest_a), (part_b, rest_b)) = (a.split_at(end(a)), b.split_at(end(b)));
        let order = if digits {
            let number = |part: &str| part.trim_start_matches('0').to_owned();
            let (number_a, number_b) = (number(part_a), number(part_b));
            part_a
                .is_empty()
                .cmp(&part_b.is_empty())
                .reverse()
                .then_with(|| number_a.len().cmp(&number_b.len()))
                .then_with(|| number_a.cmp(&number_b))
        } else {
            part_a.cmp(part_b)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, System, compare, compare_versions, system, tries};

    fn sorted(entries: &[(&str, &str)]) -> Vec<String> {
        let mut entries: Vec<Entry> = entries
            .iter()
            .map(|(file, version)| Entry {
                file: (*file).to_owned(),
                tries: tries(file),
                system: System {
                    sort_key: "wherry".to_owned(),
                    version: (*version).to_owned(),
                },
                content: Vec::new(),
            })
            .collect();
        entries.sort_by(compare);
        entries.into_iter().map(|entry| entry.file).collect()
    }

    #[test]
    fn the_newest_with_tries_left_is_booted_and_what_has_none_left_comes_last() {
        let list = [
            ("wherry_1.9.efi", "1.9"),
            ("wherry_1.10+3-0.efi", "1.10"),
            ("wherry_2.0+0-3.efi", "2.0"),
        ];
        assert_eq!(
            sorted(&list),
            [
                "wherry_1.10+3-0.efi",
                "wherry_1.9.efi",
                "wherry_2.0+0-3.efi"
            ]
        );
    }

    #[test]
    fn counters_are_read_as_the_loader_reads_them() {
        for (name, expected) in [
            ("wherry_1.0.efi", None),
            ("wherry_1.0+3.efi", Some((3, 0))),
            ("wherry_1.0+2-1.efi", Some((2, 1))),
            ("wherry_1.0+a.efi", None),
            ("wherry_1.0+1-.efi", None),
        ] {
            assert_eq!(tries(name), expected, "{name}");
        }
    }

    #[test]
    fn versions_are_ordered_as_the_specification_has_it() {
        let ascending = [
            "~rc1", "", "1~rc1", "1", "1-2", "1^2", "1.0", "1.0.1", "1.9", "1.10", "1.10a", "2",
        ];
        for (one, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(compare_versions(a, b), one.cmp(&other), "{a} and {b}");
            }
        }
    }

    #[test]
    fn an_image_of_its_own_counts_before_the_system() {
        let text = "ID=wherry\nVERSION_ID=\"1.0\"\nIMAGE_VERSION=1.1\n";
        let expected = System {
            sort_key: "wherry".to_owned(),
            version: "1.1".to_owned(),
        };
        assert_eq!(system(text), Some(expected));
        assert_eq!(system("NAME=x"), None);
    }
}
