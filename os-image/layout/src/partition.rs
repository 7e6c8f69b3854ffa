//! The partitions of a system disk: types, names, ids and the slots' labels.
//!
//! Types are those of the Discoverable Partitions Specification (UAPI.2). All
//! GUIDs here have their 16 bytes in the order of their text.

use std::fmt;

use uuid::Uuid;

use crate::Version;

/// The type of the EFI system partition (UEFI specification, 5.3.3).
pub const ESP: [u8; 16] = guid(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);
/// The type of a root for x86-64.
pub const ROOT: [u8; 16] = guid(0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709);
/// The type of the hash tree of a root for x86-64.
pub const ROOT_VERITY: [u8; 16] = guid(0x2c73_57ed_ebd2_46d9_aec1_23d4_37ec_2bf5);
/// The type of the state partition: "Linux file system data".
pub const LINUX_GENERIC: [u8; 16] = guid(0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4);

/// The state partition's name.
pub const STATE: &str = "state";
/// The state partition's name while its file system is being made. What is in it
/// is worthless until it gets its own name, which is the last step. PID 1 does
/// not see a partition of this name as the state's, so after a power cut it asks
/// for the partition to be made again.
pub const STATE_UNFINISHED: &str = "state-new";

/// The label of a slot that holds no release.
const EMPTY: &str = "_empty";
/// What stands before the version in a slot's label and in a boot entry's name.
pub(crate) const PREFIX: &str = "wherry_";

const fn guid(text: u128) -> [u8; 16] {
    text.to_be_bytes()
}

/// A partition's unique id as the kernel's command line has it (`PARTUUID=`).
pub fn part_uuid(id: [u8; 16]) -> String {
    Uuid::from_bytes(id).hyphenated().to_string()
}

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotId {
    /// The first root partition and its hash tree.
    A,
    /// The second.
    B,
}

impl SlotId {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// Its place in an array of both.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The slot whose root partition has this number, for who sees the numbers
    /// alone: sysfs does not have the types.
    pub fn of_root_partition(number: u32) -> Option<Self> {
        match number {
            2 => Some(Self::A),
            4 => Some(Self::B),
            _ => None,
        }
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// What a slot is labelled as. Its text is the name of both partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// `_empty`: whatever it holds is not to be booted.
    Empty,
    /// `wherry_<version>`.
    Release(Version),
    /// Anything else, or not the same on both partitions. Its text, `other`, is
    /// for reports; no partition is ever named so.
    Other,
}

impl Label {
    /// The label of a slot whose two partitions have these names.
    pub fn of(data: &str, tree: &str) -> Self {
        if data != tree {
            return Self::Other;
        }
        if data == EMPTY {
            return Self::Empty;
        }
        data.strip_prefix(PREFIX)
            .and_then(|version| version.parse().ok())
            .map_or(Self::Other, Self::Release)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(EMPTY),
            Self::Release(version) => write!(f, "{PREFIX}{version}"),
            Self::Other => f.write_str("other"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::tests::version;

    #[test]
    fn a_part_uuid_is_written_as_the_kernel_reads_it() {
        assert_eq!(part_uuid(ESP), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn a_slot_whose_partitions_disagree_is_no_releases() {
        assert_eq!(Label::of("wherry_1.0", "_empty"), Label::Other);
        assert_eq!(Label::of("wherry_1.0", "wherry_1.1"), Label::Other);
        assert_eq!(Label::of("wherry_x", "wherry_x"), Label::Other);
        assert_eq!(Label::of("_empty", "_empty"), Label::Empty);
        assert_eq!(Label::of("", ""), Label::Other);
    }

    #[test]
    fn the_image_has_the_partitions_that_are_named_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../partitions");
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let partitions: Vec<(String, String)> = paths
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path).unwrap();
                let value = |key: &str| {
                    text.lines()
                        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                        .unwrap_or_default()
                        .to_owned()
                };
                // %M is the image's name in mkosi.conf.
                (value("Type"), value("Label").replace("%M", "wherry"))
            })
            .collect();
        let release = format!("{PREFIX}%A");
        let expected = [
            ("esp", "esp"),
            ("root", &release),
            ("root-verity", &release),
            ("root", EMPTY),
            ("root-verity", EMPTY),
            ("linux-generic", STATE),
        ]
        .map(|(kind, label)| (kind.to_owned(), label.to_owned()));
        assert_eq!(partitions, expected);
        for slot in SlotId::ALL {
            let root = partitions
                .iter()
                .enumerate()
                .filter(|(_, (kind, _))| kind == "root");
            let number = root.map(|(index, _)| index as u32 + 1).nth(slot.index());
            assert_eq!(SlotId::of_root_partition(number.unwrap()), Some(slot));
        }
    }

    proptest! {
        #[test]
        fn a_releases_label_is_read_as_it_is_written_and_fits_a_partition(version in version()) {
            let label = Label::Release(version);
            let text = label.to_string();
            prop_assert_eq!(Label::of(&text, &text), label);
            prop_assert!(text.encode_utf16().count() <= 36, "{}", text);
        }

        #[test]
        fn no_name_makes_the_reader_panic(data: String, tree: String) {
            let _ = Label::of(&data, &tree);
            let _ = Label::of(&data, &data);
        }
    }
}
