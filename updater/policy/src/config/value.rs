//! Values that have a notation of their own.

use std::fmt;
use std::time::Duration;

use jiff::civil::Weekday;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::value::MapAccessDeserializer};
use url::Url;

/// `"90s"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Length(pub Duration);

impl TryFrom<String> for Length {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|_| format!("'{text}' is no length of time; write it as 90s, 10m or 1h 30m"))
    }
}

/// `"none"` where there may be a value.
#[derive(Clone, Debug)]
pub enum OrNone<T> {
    None,
    Some(T),
}

impl<T> OrNone<T> {
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }
}

impl<'de, T: TryFrom<String, Error = String>> Deserialize<'de> for OrNone<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "none" {
            return Ok(Self::None);
        }
        T::try_from(text).map(Self::Some).map_err(de::Error::custom)
    }
}

/// Bytes a second: a number, or `"500 KiB/s"`.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub Option<u64>);

/// Below this even the metadata takes minutes.
const SLOWEST: u64 = 1024;

impl Rate {
    fn checked(bytes: u64) -> Result<Self, String> {
        if bytes < SLOWEST {
            return Err(format!(
                "{bytes} bytes a second is too slow to update by; at least 1 KiB/s, \
                 or \"none\" for no limit"
            ));
        }
        Ok(Self(Some(bytes)))
    }

    fn text(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let wrong = || {
            format!(
                "'{text}' is no rate; write it as 500 KiB/s, 2 MB/s, 10 Mbit/s or as a number of \
                 bytes a second"
            )
        };
        let rest = text.strip_suffix("/s").unwrap_or(text);
        let split = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, unit) = rest.split_at(split);
        // Thousandths of a byte, so that "1.5 MiB/s" stays exact.
        let factor: u64 = match unit.trim() {
            "" | "B" => 1000,
            "kB" | "KB" => 1000 * 1000,
            "KiB" => 1000 << 10,
            "MB" => 1000 * 1_000_000,
            "MiB" => 1000 << 20,
            "GB" => 1000 * 1_000_000_000,
            "GiB" => 1000 << 30,
            "kbit" => 125 * 1000,
            "Mbit" => 125 * 1_000_000,
            "Gbit" => 125 * 1_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, thousandths) = number.split_once('.').unwrap_or((number, "0"));
        if thousandths.is_empty() || thousandths.len() > 3 {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let part: u64 = format!("{thousandths:0<3}").parse().map_err(|_| wrong())?;
        whole
            .checked_mul(1000)
            .and_then(|whole| whole.checked_add(part))
            .and_then(|number| number.checked_mul(factor))
            .map(|number| number / 1_000_000)
            .ok_or_else(wrong)
            .and_then(Self::checked)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate as \"500 KiB/s\" or a number of bytes a second")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Rate, E> {
                u64::try_from(number)
                    .map_err(|_| E::custom(format!("{number} bytes a second is no rate")))
                    .and_then(|number| Rate::checked(number).map_err(E::custom))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Rate, E> {
                Rate::checked(number).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                Rate::text(text).map_err(E::custom)
            }
        }
        from.deserialize_any(Text)
    }
}

/// One source or a list of them.
#[derive(Clone, Debug)]
pub struct Sources(pub Vec<String>);

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Sources;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a list of addresses")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Sources, E> {
                Ok(Sources(vec![source(text).map_err(E::custom)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sources, A::Error> {
                let mut sources = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    let source = source(&text).map_err(de::Error::custom)?;
                    if sources.contains(&source) {
                        return Err(de::Error::custom(format!("'{source}' is there twice")));
                    }
                    sources.push(source);
                }
                Ok(Sources(sources))
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

fn source(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    let wrong = |why: &str| {
        format!(
            "'{text}' is no repository ({why}); write https://…, http://…, file:///… or the \
             absolute path of a folder"
        )
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" => {}
        "file" if url.host().is_none() => {}
        "file" => return Err(wrong("a file is on this machine, not on a host")),
        _ => return Err(wrong("unknown scheme")),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(
            "file names are added to it, so it ends before '?' and '#'",
        ));
    }
    Ok(text.to_owned())
}

/// An address that is spoken to by HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(pub String);

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match Url::parse(&text) {
            Ok(url)
                if matches!(url.scheme(), "http" | "https")
                    && url.query().is_none()
                    && url.fragment().is_none() =>
            {
                Ok(Self(text))
            }
            Ok(_) | Err(_) => Err(format!(
                "'{text}' is no address; write http://host:port or https://host:port"
            )),
        }
    }
}

/// The path of a file, from the root on.
#[derive(Clone, Debug)]
pub struct AbsolutePath(pub std::path::PathBuf);

impl TryFrom<String> for AbsolutePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') {
            Ok(Self(text.into()))
        } else {
            Err(format!("'{text}' is no absolute path"))
        }
    }
}

/// The name of a channel: it becomes part of a file's name in the repository.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct ChannelName(pub String);

impl TryFrom<String> for ChannelName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if release::Channel::is_name(&text) {
            Ok(Self(text))
        } else {
            Err(format!(
                "'{text}' is no channel; 1 to 64 lower-case letters, digits, '.', '-', a letter or \
                 digit first"
            ))
        }
    }
}

/// A group on a FleetLock server, as its protocol has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Group(pub String);

impl TryFrom<String> for Group {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if !text.is_empty() && text.len() <= 128 && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(format!(
                "'{text}' is no group; 1 to 128 letters, digits, '.', '-'"
            ))
        }
    }
}

/// The machine's name on a FleetLock server.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientId(pub String);

impl TryFrom<String> for ClientId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
            return Err(format!(
                "'{}' is no name; 1 to 128 bytes, no control characters",
                text.escape_default()
            ));
        }
        Ok(Self(text))
    }
}

/// `"mon"` or `"monday"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub Weekday);

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "mon" | "monday" => Weekday::Monday,
            "tue" | "tuesday" => Weekday::Tuesday,
            "wed" | "wednesday" => Weekday::Wednesday,
            "thu" | "thursday" => Weekday::Thursday,
            "fri" | "friday" => Weekday::Friday,
            "sat" | "saturday" => Weekday::Saturday,
            "sun" | "sunday" => Weekday::Sunday,
            _ => {
                return Err(format!(
                    "'{text}' is no day; write mon, tue, wed, thu, fri, sat or sun"
                ));
            }
        }))
    }
}

/// `"22:00"`, by the wall clock.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Clock(pub jiff::civil::Time);

impl TryFrom<String> for Clock {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no time of day; write it as 22:00");
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str| {
            let is = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is.then(|| digits.parse().ok()).flatten().ok_or_else(wrong)
        };
        jiff::civil::Time::new(number(hour)?, number(minute)?, 0, 0)
            .map(Self)
            .map_err(|_| wrong())
    }
}

/// A time zone of the IANA database, as `"Europe/Berlin"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(pub jiff::tz::TimeZone);

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        jiff::tz::TimeZone::get(&text)
            .map(Self)
            .map_err(|_| format!("'{text}' is no time zone; write UTC or as Europe/Berlin"))
    }
}

/// `"none"`, or a table.
#[derive(Clone, Debug)]
pub struct TableOrNone<T>(pub Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TableOrNone<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TableOrNone<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or \"none\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if text == "none" {
                    Ok(TableOrNone(None))
                } else {
                    Err(E::custom(format!(
                        "'{text}' is neither a table nor \"none\""
                    )))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| TableOrNone(Some(table)))
            }
        }
        from.deserialize_any(Either(std::marker::PhantomData))
    }
}
