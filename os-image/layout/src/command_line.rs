//! The kernel command line: which root it opens.
//!
//! There is no initrd. The kernel makes the device-mapper device
//! [`ROOT_DEVICE`] itself, from `dm-mod.create=` (the kernel's dm-init.rst and
//! verity.rst); `roothash=` repeats the root hash for whoever reads the line.

use crate::partition::part_uuid;
use crate::verity::{BLOCK, VerityParameters};
use crate::{RootHash, hexadecimal};

/// The name of the root's device-mapper device.
pub const ROOT_DEVICE: &str = "root";

/// The device-mapper's sectors have this many bytes.
const SECTOR: u64 = 512;

/// Splits a command line as the kernel does (`next_arg`): at white space outside
/// double quotes; the quotes themselves go. What ends a line in memory or in a
/// kernel image, a zero, separates too.
pub fn arguments(line: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current = String::new();
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            _ if (character.is_whitespace() || character == '\0') && !quoted => {
                if !current.is_empty() {
                    arguments.push(std::mem::take(&mut current));
                }
            }
            _ => current.push(character),
        }
    }
    if !current.is_empty() {
        arguments.push(current);
    }
    arguments
}

/// The root hash that a command line names (`roothash=`), which says which
/// release runs.
pub fn root_hash(line: &str) -> Option<RootHash> {
    arguments(line)
        .iter()
        .find_map(|argument| argument.strip_prefix("roothash="))?
        .parse()
        .ok()
}

/// The root that `dm-mod.create=` opens, as far as the line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerityRoot {
    /// The PARTUUID of the data partition, as text.
    pub data: Option<String>,
    /// The root hash, as text.
    pub root_hash: Option<String>,
}

impl VerityRoot {
    /// Reads the value of `dm-mod.create=`,
    /// `name,uuid,minor,flags,start sectors verity version data hash
    /// data-block-size hash-block-size blocks hash-start algorithm root-hash
    /// salt …`. `None` where it is no verity device.
    pub fn parse(value: &str) -> Option<Self> {
        let table = value.splitn(5, ',').nth(4)?;
        let fields: Vec<&str> = table.split_whitespace().collect();
        if fields.get(2) != Some(&"verity") {
            return None;
        }
        Some(Self {
            data: fields
                .get(4)
                .and_then(|device| device.strip_prefix("PARTUUID="))
                .map(str::to_owned),
            root_hash: fields.get(11).map(|hash| (*hash).to_owned()),
        })
    }
}

/// The part of `dm-mod.create=` that decides which root is opened: sectors,
/// partitions, blocks, root hash and salt, without the name before and the
/// options behind.
pub fn verity_table(parameters: &VerityParameters, root_hash: &RootHash) -> String {
    let salt = hexadecimal::encode(&parameters.salt);
    format!(
        "0 {} verity 1 PARTUUID={} PARTUUID={} {BLOCK} {BLOCK} {} 1 sha256 {root_hash} {}",
        parameters.data_length() / SECTOR,
        part_uuid(root_hash.data_id()),
        part_uuid(root_hash.tree_id()),
        parameters.data_blocks,
        if salt.is_empty() { "-" } else { &salt },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_split_as_the_kernel_splits_it() {
        assert_eq!(
            arguments("  quiet a=\"b c\",d\t\"e f\"=g\n\0 "),
            ["quiet", "a=b c,d", "e f=g"]
        );
        assert_eq!(arguments("a=\"b c"), ["a=b c"]);
        assert_eq!(arguments(""), Vec::<String>::new());
    }

    #[test]
    fn the_line_names_the_root() {
        let hash = "5a".repeat(32);
        let line = format!("dm-mod.create=\"root,,,ro\" panic=-1 roothash={hash}\n\0");
        assert_eq!(root_hash(&line).unwrap().to_string(), hash);
        assert_eq!(root_hash("roothash=12 ro"), None);
        assert_eq!(root_hash(""), None);
    }

    #[test]
    fn a_device_that_is_not_verity_is_no_root() {
        assert_eq!(VerityRoot::parse("root,,,ro,0 8 linear /dev/vda 0"), None);
        assert_eq!(VerityRoot::parse("root,,,ro"), None);
        assert_eq!(
            VerityRoot::parse("root,,,ro,0 8 verity"),
            Some(VerityRoot::default())
        );
    }

    proptest! {
        #[test]
        fn the_table_of_a_root_is_read_as_it_is_written(
            hash: [u8; 32],
            salt in prop::collection::vec(any::<u8>(), 0..=256),
            data_blocks in 1_u64..1 << 20,
        ) {
            let parameters = VerityParameters { salt, uuid: [0; 16], data_blocks };
            let hash = RootHash(hash);
            let table = verity_table(&parameters, &hash);
            let line = format!("quiet dm-mod.create=\"{ROOT_DEVICE},,,ro,{table} 1 x\" roothash={hash}");
            let arguments = arguments(&line);
            let value = arguments[1].strip_prefix("dm-mod.create=").unwrap();
            prop_assert_eq!(VerityRoot::parse(value), Some(VerityRoot {
                data: Some(part_uuid(hash.data_id())),
                root_hash: Some(hash.to_string()),
            }));
            prop_assert_eq!(root_hash(&line), Some(hash));
        }

        #[test]
        fn no_line_makes_a_reader_panic(line in "(dm-mod.create=|roothash=|[a-f0-9, \"=]{0,8}|verity )*|.*") {
            let _ = root_hash(&line);
            for argument in arguments(&line) {
                let _ = VerityRoot::parse(&argument);
            }
        }
    }
}
