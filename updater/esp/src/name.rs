//! Long and short names (FAT specification, sections 6 and 7).

/// A short name as it is on the disk: eight characters and three, padded.
pub type Short = [u8; 11];

/// UTF-16 units in an entry of a long name.
pub const UNITS: usize = 13;
/// UTF-16 units of the longest name.
const MAX: usize = 255;

/// Where an entry has the units of its part.
pub const PLACES: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// Whether a file can have this name.
pub fn is_valid(name: &str) -> bool {
    let forbidden = |character: char| character.is_control() || "\"*/:<>?\\|".contains(character);
    !name.is_empty()
        && name.encode_utf16().count() <= MAX
        && !name.contains(forbidden)
        // Which other systems ignore.
        && !name.ends_with(['.', ' '])
}

/// Whether two names are equal.
pub fn same(a: &str, b: &str) -> bool {
    let fold = |name: &str| {
        name.chars()
            .flat_map(char::to_uppercase)
            .collect::<String>()
    };
    a == b || fold(a) == fold(b)
}

/// The short name, where the name is one already.
pub fn exact(name: &str) -> Option<Short> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let fits = |part: &str, length| part.len() <= length && part.bytes().all(is_short);
    if base.is_empty()
        || !fits(base, 8)
        || !fits(extension, 3)
        || (name.contains('.') && extension.is_empty())
    {
        return None;
    }
    Some(short(base.as_bytes(), extension.as_bytes()))
}

/// A short name for a long one, which none of the folder's has.
pub fn alias(name: &str, is_taken: impl Fn(&Short) -> bool) -> Option<Short> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let letters = |part: &str, length| -> Vec<u8> {
        part.chars()
            .filter(|character| !matches!(character, ' ' | '.'))
            .map(
                |character| match u8::try_from(character.to_ascii_uppercase()) {
                    Ok(byte) if is_short(byte) => byte,
                    _ => b'_',
                },
            )
            .take(length)
            .collect()
    };
    let extension = letters(extension, 3);
    let base = letters(base, 8);
    (1..1_000_000u32)
        .map(|number| {
            let tail = format!("~{number}");
            let mut numbered = base.clone();
            numbered.truncate(8 - tail.len());
            numbered.extend(tail.bytes());
            short(&numbered, &extension)
        })
        .find(|alias| !is_taken(alias))
}

fn short(base: &[u8], extension: &[u8]) -> Short {
    let mut name = [b' '; 11];
    name[..base.len()].copy_from_slice(base);
    name[8..8 + extension.len()].copy_from_slice(extension);
    name
}

fn is_short(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"$%'-_@~`!(){}^#&".contains(&byte)
}

/// A short name as text; `lower` are the bits by which Windows and Linux note
/// that base (8) or extension (16) is to be seen in lower case.
pub fn text(short: &Short, lower: u8) -> String {
    let part = |bytes: &[u8], lower: bool| -> String {
        let end = bytes.iter().rposition(|byte| *byte != b' ');
        bytes[..end.map_or(0, |end| end + 1)]
            .iter()
            .map(|byte| match byte {
                0x20..0x7f if lower => char::from(byte.to_ascii_lowercase()),
                0x20..0x7f => char::from(*byte),
                // The code page is not known.
                _ => char::REPLACEMENT_CHARACTER,
            })
            .collect()
    };
    let mut base = short[..8].to_vec();
    if base[0] == 0x05 {
        base[0] = 0xe5;
    }
    let mut text = part(&base, lower & 8 != 0);
    let extension = part(&short[8..], lower & 16 != 0);
    if !extension.is_empty() {
        text.push('.');
        text.push_str(&extension);
    }
    text
}

/// By which the parts of a long name know the short entry that they belong to.
pub fn checksum(short: &Short) -> u8 {
    short
        .iter()
        .fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The entries of a long name, as they are in the folder: the last part first.
pub fn parts(name: &str, short: &Short) -> Vec<[u8; 32]> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let sum = checksum(short);
    let count = units.len().div_ceil(UNITS);
    let mut parts: Vec<[u8; 32]> = (1..)
        .zip(units.chunks(UNITS))
        .map(|(number, units)| {
            let mut entry = [0; 32];
            entry[0] = number
                | if usize::from(number) == count {
                    0x40
                } else {
                    0
                };
            entry[11] = 0x0f;
            entry[13] = sum;
            // Behind the name a zero, then ones.
            let padded = units.iter().copied().chain([0]);
            for (place, unit) in PLACES.iter().zip(padded.chain(std::iter::repeat(0xffff))) {
                entry[*place..place + 2].copy_from_slice(&unit.to_le_bytes());
            }
            entry
        })
        .collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_needs_no_long_one() {
        for (name, wanted) in [
            ("BOOTX64.EFI", Some(*b"BOOTX64 EFI")),
            ("EFI", Some(*b"EFI        ")),
            ("Linux", None),
            ("A.B.C", None),
            ("TOOLONGNAME", None),
            (".A", None),
            ("A+B", None),
        ] {
            assert_eq!(exact(name), wanted, "{name}");
        }
        assert_eq!(text(b"BOOTX64 EFI", 0), "BOOTX64.EFI");
        assert_eq!(text(b"LOADER  CON", 8 | 16), "loader.con");
    }

    #[test]
    fn an_alias_is_no_other_files() {
        let first = alias("wherry_2.0+3-0.efi", |_| false).unwrap();
        assert_eq!(&first, b"WHERRY~1EFI");
        let many = |name: &Short| name[6] == b'~' && name[7] != b'9';
        assert_eq!(&alias("wherry_2.0.efi", many).unwrap(), b"WHERRY~9EFI");
        assert_eq!(&alias("ä b.c", |_| false).unwrap(), b"_B~1    C  ");
        assert!(alias("x", |_| true).is_none());
    }

    #[test]
    fn names_that_no_system_can_show_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a\0",
            "a ",
            "a.",
            "a:b",
            &"x".repeat(256),
        ] {
            assert!(!is_valid(name), "{name}");
        }
        assert!(is_valid("wherry_1.0+3-0.efi") && is_valid(&"x".repeat(255)));
    }
}
