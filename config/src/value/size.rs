//! Amounts of data.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// Bytes: `"512K"`, `"1.5 GiB"`, `"2 MB"`, or a number. `K`, `M` and `G` are `KiB`,
/// `MiB` and `GiB`, powers of 1024 as everywhere in the kernel's cgroups; `kB`,
/// `MB` and `GB` are powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Size(pub u64);

/// Bytes a second: a [`Size`] with or without `/s`, or `kbit`, `Mbit`, `Gbit` as
/// those who sell connections count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Rate(pub u64);

const SIZE: &str = "one as 512K, 32M, 1.5 GiB, 2 MB or a number of bytes";
const RATE: &str = "one as 500 KiB/s, 2 MB/s, 10 Mbit/s or a number of bytes a second";

/// Thousandths of a byte in a unit, so that "1.5 MiB" stays exact.
fn unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "" | "B" => 1000,
        "K" | "KiB" => 1000 << 10,
        "M" | "MiB" => 1000 << 20,
        "G" | "GiB" => 1000 << 30,
        "kB" | "KB" => 1_000_000,
        "MB" => 1_000_000_000,
        "GB" => 1_000_000_000_000,
        _ => return None,
    })
}

/// The same for units that only a rate has.
fn bits(unit: &str) -> Option<u64> {
    Some(match unit {
        "kbit" => 125_000,
        "Mbit" => 125_000_000,
        "Gbit" => 125_000_000_000,
        _ => return None,
    })
}

/// A number of at most three decimals and its unit, in bytes.
fn bytes(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if part.is_empty() || part.len() > 3 {
        return None;
    }
    let thousandths = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(format!("{part:0<3}").parse().ok()?)?;
    let bytes = u128::from(thousandths) * u128::from(unit(rest.trim_start())?) / 1_000_000;
    u64::try_from(bytes).ok()
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text, unit)
            .map(Self)
            .ok_or_else(|| format!("'{text}' is not a size, expected {SIZE}"))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.strip_suffix("/s").unwrap_or(text);
        bytes(size, |name| unit(name).or_else(|| bits(name)))
            .map(Self)
            .ok_or_else(|| format!("'{text}' is not a rate, expected {RATE}"))
    }
}

/// The largest unit of 1024 that says it without decimals.
fn print(bytes: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return write!(f, "{} {unit}", bytes / factor);
        }
    }
    write!(f, "{bytes} B")
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)?;
        f.write_str("/s")
    }
}

/// Takes text or a whole number.
struct TextOrNumber<T> {
    expected: &'static str,
    from_number: fn(u64) -> T,
}

impl<T: FromStr<Err = String>> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::custom(format!(
                "{number} is negative, expected {}",
                self.expected
            ))),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Ok((self.from_number)(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrNumber {
            expected: SIZE,
            from_number: Size,
        })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrNumber {
            expected: RATE,
            from_number: Rate,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_is_read_in_all_its_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4K", 4096),
            ("4 KiB", 4096),
            ("32M", 32 << 20),
            ("1.5 GiB", 3 << 29),
            ("2GiB", 2 << 30),
            ("2 MB", 2_000_000),
            ("1.125GB", 1_125_000_000),
            ("500 kB", 500_000),
            ("7 B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "K",
            "12X",
            "-1",
            "1.",
            ".5M",
            "1.2345M",
            "1..2",
            "1,5M",
            "1 Mbit",
            "4K/s",
            "99999999999G",
            "999999999999999999999",
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.contains("is not a size, expected"), "{error}");
        }
    }

    #[test]
    fn a_rate_is_read_in_the_units_of_those_who_sell_them_too() {
        for (text, bytes) in [
            ("500 KiB/s", 512_000),
            ("500KiB", 512_000),
            ("500K", 512_000),
            ("2 MB/s", 2_000_000),
            ("10 Mbit/s", 1_250_000),
            ("0.5 MiB/s", 524_288),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
        assert!("fast".parse::<Rate>().is_err());
    }

    #[derive(Debug, Deserialize)]
    struct File {
        size: Size,
    }

    #[test]
    fn a_number_is_bytes_and_nothing_else_is_a_size() {
        let parse = |text: &str| crate::parse("x", text, |file: File| Ok(file.size));
        assert_eq!(parse("size = 4096"), Ok(Size(4096)));
        for (text, error) in [
            ("size = -1", "x:1:8: key `size`: -1 is negative, expected "),
            (
                "size = true",
                "x:1:8: key `size`: invalid type: boolean `true`, expected ",
            ),
            (
                "size = \"x\"",
                "x:1:8: key `size`: 'x' is not a size, expected ",
            ),
        ] {
            assert_eq!(
                parse(text).unwrap_err().to_string(),
                format!("{error}{SIZE}")
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read_again(bytes in 0..u64::MAX / 1000) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
            prop_assert_eq!(Rate(bytes).to_string().parse(), Ok(Rate(bytes)));
        }
    }
}
