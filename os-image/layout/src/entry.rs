//! Boot entries: unified kernel images in [`FOLDER`] on the ESP, whose names say
//! version and tries (Boot Loader Specification, UAPI.1, "Boot counting").
//!
//! systemd-boot counts an entry's tries in its name: `+left-done`, just `+left`
//! before the first. It prefers entries without a count or with tries left. A
//! release that has not proved itself has at most [`TRIES`] in all; one that has
//! may have a larger count, as a guard against its slot going bad.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::Version;
use crate::partition::PREFIX;

/// The folder of the boot entries on the ESP.
pub const FOLDER: &str = "EFI/Linux";

/// The name of a kernel image in [`FOLDER`] that is not published yet: no entry,
/// as it does not end in `.efi`.
pub const STAGED: &str = "wherry.new";

/// The copies of the boot loader on the ESP. The second is where firmware looks
/// that has no boot option of its own.
pub const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];

/// The most tries, left and done, of a release on trial: one that has not proved
/// itself yet.
pub const TRIES: u32 = 3;

/// The EFI variable in which systemd-boot tells the path of the entry that it
/// counted (systemd's Boot Loader Interface).
pub const COUNTED: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The end of an entry's name, in any case.
const EXTENSION: &str = ".efi";

/// A boot entry's count: `+left-done`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tries {
    /// How often the loader will still try it.
    pub left: u32,
    /// How often it has.
    pub done: u32,
}

impl Tries {
    /// That many, none of them done.
    pub fn fresh(left: u32) -> Self {
        Self { left, done: 0 }
    }

    /// Whether it is the count of a release on trial. A guard's count has a
    /// larger sum.
    pub fn is_trial(self) -> bool {
        self.left.saturating_add(self.done) <= TRIES
    }

    /// The count in the name of any boot entry, ours or not, given as a file name
    /// or as a path with `/` or `\`. `None` where the loader does not count it.
    pub fn of_file(path: &str) -> Option<Self> {
        let name = path.rsplit(['\\', '/']).next().unwrap_or(path);
        split(name)?.1
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}-{}", self.left, self.done)
    }
}

/// A text that is no count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a boot entry's count is '+' and the tries left, or '+', the tries left, '-' and those done"
)]
pub struct TriesError;

impl FromStr for Tries {
    type Err = TriesError;

    /// Reads `+left` or `+left-done`, as the loader does.
    fn from_str(text: &str) -> Result<Self, TriesError> {
        let text = text.strip_prefix('+').ok_or(TriesError)?;
        let (left, done) = text.split_once('-').unwrap_or((text, "0"));
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number
                .then(|| text.parse().ok())
                .flatten()
                .ok_or(TriesError)
        };
        Ok(Self {
            left: number(left)?,
            done: number(done)?,
        })
    }
}

/// The name of an entry of ours, `wherry_<version>[+left[-done]].efi`. It is
/// written with both numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// The release's version.
    pub version: Version,
    /// Its count, where the loader counts it.
    pub tries: Option<Tries>,
}

/// A text that is not the name of an entry of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot entry is called {PREFIX}<version>{EXTENSION}, with its tries before {EXTENSION}")]
pub struct EntryNameError;

impl FromStr for EntryName {
    type Err = EntryNameError;

    fn from_str(file: &str) -> Result<Self, EntryNameError> {
        let (name, tries) = split(file).ok_or(EntryNameError)?;
        let version = name
            .strip_prefix(PREFIX)
            .and_then(|version| version.parse().ok())
            .ok_or(EntryNameError)?;
        Ok(Self { version, tries })
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, tries } = self;
        match tries {
            Some(tries) => write!(f, "{PREFIX}{version}{tries}{EXTENSION}"),
            None => write!(f, "{PREFIX}{version}{EXTENSION}"),
        }
    }
}

/// What stands before the count in an entry's file name, and the count. A `+`
/// that no count follows belongs to the name.
fn split(file: &str) -> Option<(&str, Option<Tries>)> {
    let end = file.len().checked_sub(EXTENSION.len())?;
    let (name, extension) = file.split_at_checked(end)?;
    if !extension.eq_ignore_ascii_case(EXTENSION) {
        return None;
    }
    let count = name
        .rfind('+')
        .and_then(|at| Some((&name[..at], Some(name[at..].parse().ok()?))));
    Some(count.unwrap_or((name, None)))
}

/// What systemd-boot looks at when it orders unified kernel images with one sort
/// key.
pub type Rank<'a> = (&'a Version, Option<Tries>);

/// systemd-boot's order of entries, the preferred one first (Boot Loader
/// Specification, "Sorting", and boot.c's `boot_entry_compare`): those without
/// tries left last, the newest version first, then more tries left, then fewer
/// done.
pub fn preference(a: Rank<'_>, b: Rank<'_>) -> Ordering {
    let is_bad = |(_, tries): Rank<'_>| tries.is_some_and(|tries| tries.left == 0);
    is_bad(a)
        .cmp(&is_bad(b))
        .then_with(|| b.0.cmp(a.0))
        .then_with(|| match (a.1, b.1) {
            (Some(a), Some(b)) => b.left.cmp(&a.left).then(a.done.cmp(&b.done)),
            _ => Ordering::Equal,
        })
}

/// The path of the entry that the loader counted, from the content of the
/// variable [`COUNTED`] as efivarfs has it: four bytes of attributes, then UTF-16
/// up to a zero. Control characters are left out. `None` where it names nothing.
pub fn counted_path(variable: &[u8]) -> Option<String> {
    let units = variable
        .get(4..)?
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u16::from_le_bytes(*pair))
        .take_while(|unit| *unit != 0);
    let path: String = char::decode_utf16(units)
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .filter(|character| !character.is_control())
        .collect();
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::tests::version;

    fn tries(left: u32, done: u32) -> Option<Tries> {
        Some(Tries { left, done })
    }

    #[test]
    fn a_name_says_version_and_count() {
        for (name, wanted) in [
            ("wherry_1.0.efi", Some(("1.0", None))),
            ("wherry_1.0.EFI", Some(("1.0", None))),
            ("wherry_1.0+3.efi", Some(("1.0", tries(3, 0)))),
            ("wherry_2.0~rc1-4+2-1.efi", Some(("2.0~rc1-4", tries(2, 1)))),
            ("wherry_1.0+3-0.new", None),
            ("wherry_1.0+.efi", None),
            ("wherry_1.0+3-.efi", None),
            ("wherry_1.0+3-0+1.efi", None),
            ("wherry_one.efi", None),
            (STAGED, None),
            (".efi", None),
            ("ä", None),
            ("", None),
        ] {
            let found = name.parse::<EntryName>().ok();
            let found = found.map(|name| (name.version.to_string(), name.tries));
            let wanted = wanted.map(|(version, tries)| (version.to_owned(), tries));
            assert_eq!(found, wanted, "{name}");
        }
    }

    #[test]
    fn a_release_with_few_tries_in_all_is_on_trial() {
        for (path, expected) in [
            ("\\EFI\\Linux\\wherry_2.0+2-1.efi", true),
            ("\\EFI\\Linux\\wherry_2.0+0-3.efi", true),
            ("/EFI/Linux/wherry_2.0+3.efi", true),
            ("\\EFI\\Linux\\another+2-1.EFI", true),
            ("\\EFI\\Linux\\wherry_2.0+6-1.efi", false),
            ("\\EFI\\Linux\\wherry_2.0+0-7.efi", false),
            ("\\EFI\\Linux\\wherry_2.0.efi", false),
            ("\\EFI\\Linux\\wherry_2.0+x-1.efi", false),
            ("\\EFI\\a+1-1\\wherry_2.0.efi", false),
            ("\\EFI\\Linux\\wherry_2.0+4294967295-1.efi", false),
            ("", false),
        ] {
            let is_trial = Tries::of_file(path).is_some_and(Tries::is_trial);
            assert_eq!(is_trial, expected, "{path}");
        }
    }

    #[test]
    fn the_variable_is_utf_16_behind_its_attributes() {
        let mut value = vec![6, 0, 0, 0];
        for unit in "\\EFI\\Linux\\a+2-1.efi\0rest".encode_utf16() {
            value.extend(unit.to_le_bytes());
        }
        assert_eq!(
            counted_path(&value).as_deref(),
            Some("\\EFI\\Linux\\a+2-1.efi")
        );
        assert_eq!(counted_path(&[6, 0, 0, 0]), None);
        assert_eq!(counted_path(&[6, 0]), None);
        assert_eq!(counted_path(&[]), None);
    }

    #[test]
    fn the_loader_prefers_tries_left_then_the_version_then_the_count() {
        let versions: Vec<Version> = ["2", "1"].map(|text| text.parse().unwrap()).into();
        let [two, one] = [&versions[0], &versions[1]];
        let preferred = [
            (two, tries(3, 0)),
            (two, tries(2, 0)),
            (two, tries(2, 1)),
            (one, None),
            (two, tries(0, 1)),
            (two, tries(0, 3)),
            (one, tries(0, 3)),
        ];
        for (a, first) in preferred.iter().enumerate() {
            for (b, second) in preferred.iter().enumerate() {
                assert_eq!(
                    preference(*first, *second),
                    a.cmp(&b),
                    "{first:?} {second:?}"
                );
            }
        }
        assert_eq!(preference((two, None), (two, tries(7, 0))), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_is_written(
            version in version(),
            count: Option<(u32, u32)>,
        ) {
            let name = EntryName {
                version,
                tries: count.and_then(|(left, done)| tries(left, done)),
            };
            let text = name.to_string();
            prop_assert_eq!(Tries::of_file(&format!("\\EFI\\Linux\\{text}")), name.tries);
            prop_assert_eq!(text.parse(), Ok(name));
        }

        #[test]
        fn no_name_makes_the_reader_panic(text in "(wherry_)?[0-9a+.\\\\/ä-]{0,12}(\\.efi)?|.*") {
            let _ = text.parse::<EntryName>();
            let _ = text.parse::<Tries>();
            let _ = Tries::of_file(&text);
        }

        #[test]
        fn no_variable_makes_the_reader_panic(bytes: Vec<u8>) {
            let _ = counted_path(&bytes);
        }
    }
}
