//! What a partition holds, by the marks at its start.

/// All marks lie within this many bytes of the start.
pub const HEAD: usize = 1 << 20;

/// A mark: what it stands for, its offset, its bytes.
const MARKS: [(&str, usize, &[u8]); 23] = [
    ("XFS", 0, b"XFSB"),
    ("Btrfs", 0x1_0040, b"_BHRfS_M"),
    ("F2FS", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    ("EROFS", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("SquashFS", 0, b"hsqs"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LVM", 512, b"LABELONE"),
    ("Linux RAID", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("Linux RAID", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("dm-verity", 0, b"verity\0\0"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("FAT", 82, b"FAT32   "),
    ("FAT", 54, b"FAT16   "),
    ("FAT", 54, b"FAT12   "),
    ("JFS", 0x8000, b"JFS1"),
    ("ReiserFS", 0x1_0034, b"ReIsEr"),
    ("NILFS2", 1030, &[0x34, 0x34]),
    ("ISO 9660", 0x8001, b"CD001"),
    ("a GUID partition table", 512, b"EFI PART"),
    (
        "bcachefs",
        4096 + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d,
            0xf7, 0xef,
        ],
    ),
    (
        "bcache",
        4096 + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba,
            0x6d, 0x81,
        ],
    ),
];

/// What the first [`HEAD`] bytes of a partition have a mark of: a file system or
/// another form of data that may not be written over, by its name. ext4 is not
/// among them ([`crate::ext4`]).
pub fn recognize(head: &[u8]) -> Option<&'static str> {
    MARKS
        .iter()
        .find(|(_, offset, mark)| {
            head.get(*offset..)
                .is_some_and(|rest| rest.starts_with(mark))
        })
        .map(|(kind, _, _)| *kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_mark_is_recognized_and_lies_within_the_head() {
        for (kind, offset, mark) in MARKS {
            let end = offset + mark.len();
            assert!(end <= HEAD, "{kind}");
            let mut head = vec![0; end];
            head[offset..].copy_from_slice(mark);
            assert_eq!(recognize(&head), Some(kind));
            assert_eq!(recognize(&head[..end - 1]), None, "{kind}, cut off");
        }
        assert_eq!(recognize(&[0; 4096]), None);
        assert_eq!(recognize(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..8192)) {
            let _ = recognize(&bytes);
        }
    }
}
