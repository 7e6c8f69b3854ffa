//! Bytes as lower-case hexadecimal digits.

use data_encoding::HEXLOWER;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// The bytes as lower-case hexadecimal digits.
pub fn encode(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The bytes of lower-case hexadecimal digits; `None` for any other text.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    HEXLOWER.decode(text.as_bytes()).ok()
}

/// For `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(
    bytes: impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(bytes.as_ref()))
}

/// For `#[serde(with)]`.
pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<Vec<u8>>,
{
    let text = String::deserialize(deserializer)?;
    decode(&text)
        .and_then(|bytes| T::try_from(bytes).ok())
        .ok_or_else(|| {
            D::Error::custom("lower-case hexadecimal digits are expected, as many as belong there")
        })
}
