//! Values that are written in the same words in every file of ours.
//!
//! Each is text in quotation marks, or a number where the unit is obvious, and
//! says what it expects when it finds something else. `docs/services.md` lists
//! the words for whoever writes a file.

mod address;
mod alternative;
mod duration;
mod path;
mod pattern;
mod size;

pub use address::{Address, Mac, Prefix};
pub use alternative::{OneOrMany, OrNone};
pub use duration::Duration;
pub use path::AbsolutePath;
pub use pattern::Pattern;
pub use size::{Rate, Size};

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};

use crate::Fault;

/// The value, where it is within the range.
///
/// # Errors
/// It is not, said with both ends of the range.
pub fn within<T: PartialOrd + Display>(value: T, range: RangeInclusive<T>) -> Result<T, Fault> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(Fault::new(format!(
        "{value} is out of range, expected {least} to {most}"
    )))
}

/// Reads a value that is text by its `FromStr`. Not by serde's `try_from`: an
/// error that comes from inside the deserializer has the value's place, also in
/// a list.
///
/// # Errors
/// It is no text, or not of this form.
pub fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = String>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text in quotation marks")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}

/// Makes a type with `FromStr<Err = String>` one that a file can hold as text;
/// with `Display` too, one that serde can write: `text!(User: Display)`.
#[macro_export]
macro_rules! text {
    ($type:ty) => {
        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::value::from_text(from)
            }
        }
    };
    ($type:ty: Display) => {
        $crate::text!($type);

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    };
}
