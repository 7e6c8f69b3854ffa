//! Values that only this file writes. Those of all files are in
//! [`config::value`].

use std::str::FromStr;

use config::text;
use jiff::civil::Weekday;
use url::Url;

/// Where releases come from: an address or the absolute path of a folder.
#[derive(Clone, Debug)]
pub struct Source(pub String);

text!(Source);

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self(text.to_owned()));
        }
        let wrong = |why: &str| {
            format!(
                "'{text}' is not a repository ({why}), expected https://…, http://…, file:///… \
                 or the absolute path of a folder"
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
        Ok(Self(text.to_owned()))
    }
}

/// An HTTP address.
#[derive(Clone, Debug)]
pub struct HttpUrl(pub String);

text!(HttpUrl);

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Url::parse(text) {
            Ok(url)
                if matches!(url.scheme(), "http" | "https")
                    && url.query().is_none()
                    && url.fragment().is_none() =>
            {
                Ok(Self(text.to_owned()))
            }
            Ok(_) | Err(_) => Err(format!(
                "'{text}' is not an address, expected http://host:port or https://host:port"
            )),
        }
    }
}

/// The name of a channel: it becomes part of a file's name in the repository.
#[derive(Clone, Debug)]
pub struct ChannelName(pub String);

text!(ChannelName);

impl FromStr for ChannelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if release::Channel::is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "'{text}' is not a channel, expected 1 to 64 lower-case letters, digits, '.', '-', \
                 a letter or digit first"
            ))
        }
    }
}

/// A group on a FleetLock server, as its protocol defines it.
#[derive(Clone, Debug)]
pub struct Group(pub String);

text!(Group);

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if !text.is_empty() && text.len() <= 128 && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "'{text}' is not a group, expected 1 to 128 letters, digits, '.', '-'"
            ))
        }
    }
}

/// The machine's name on a FleetLock server.
#[derive(Clone, Debug)]
pub struct ClientId(pub String);

text!(ClientId);

impl FromStr for ClientId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
            return Err(format!(
                "'{text}' is not a name, expected 1 to 128 bytes without control characters"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// `"mon"` or `"monday"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day(pub Weekday);

text!(Day);

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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
                    "'{text}' is not a day, expected mon, tue, wed, thu, fri, sat or sun"
                ));
            }
        }))
    }
}

/// `"22:00"`, by the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub jiff::civil::Time);

text!(Clock);

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a time of day, expected one as 22:00");
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
#[derive(Clone, Debug)]
pub struct Zone(pub jiff::tz::TimeZone);

text!(Zone);

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        jiff::tz::TimeZone::get(text).map(Self).map_err(|_| {
            format!("'{text}' is not a time zone, expected UTC or one as Europe/Berlin")
        })
    }
}
