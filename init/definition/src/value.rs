//! Values that a definition writes as strings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time such as `"250ms"`, `"10s"` or `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|_| format!("'{text}' is not a time; write it as 250ms, 10s, 5m or 1h"))
    }
}

/// An amount of memory such as `"32M"`, in bytes. K, M and G are powers of
/// 1024, as everywhere in the kernel's cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(pub u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "" => 1,
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            _ => 0,
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(factor))
            .filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or_else(|| {
                format!("'{text}' is not an amount of memory; write it as 512K, 32M or 2G")
            })
    }
}

/// A share of the processors: `"50%"` is half of one, `"200%"` two whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuLimit {
    /// Hundredths of one processor.
    pub percent: u32,
}

impl TryFrom<String> for CpuLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.strip_suffix('%')
            .and_then(|percent| percent.trim().parse().ok())
            // cpu.max takes no quota under 1 ms, which is 1 % of its period of 100 ms.
            .filter(|percent| (1..=100_000).contains(percent))
            .map(|percent| Self { percent })
            .ok_or_else(|| {
                format!("'{text}' is not a share of the processors; write it as 50% or 200%")
            })
    }
}

impl From<CpuLimit> for String {
    fn from(limit: CpuLimit) -> Self {
        format!("{}%", limit.percent)
    }
}

/// The shortest and the longest wait before a restart: `"250ms..30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl TryFrom<String> for Backoff {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is not a backoff; write it as 250ms..30s, the shorter first");
        let (min, max) = text.split_once("..").ok_or_else(wrong)?;
        let min = Time::try_from(min.to_owned()).map_err(|_| wrong())?.0;
        let max = Time::try_from(max.to_owned()).map_err(|_| wrong())?.0;
        if min > max || min.is_zero() {
            return Err(wrong());
        }
        Ok(Self { min, max })
    }
}

/// How many restarts are too many: `"10/1h"`, or `"none"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RestartLimit(pub Option<(u32, Duration)>);

impl TryFrom<String> for RestartLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let wrong = || format!("'{text}' is not a limit of restarts; write it as 10/1h, or none");
        let (count, window) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let window = Time::try_from(window.to_owned()).map_err(|_| wrong())?.0;
        if window.is_zero() {
            return Err(wrong());
        }
        Ok(Self(Some((count, window))))
    }
}

/// Whom a service runs as: `"1000"`, `"1000:1000"`. Numbers only, since a
/// container's root need not hold a password file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl TryFrom<String> for User {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (uid, gid) = text.split_once(':').unwrap_or((&text, &text));
        match (uid.parse(), gid.parse()) {
            (Ok(uid), Ok(gid)) => Ok(Self { uid, gid }),
            _ => Err(format!(
                "'{text}' is not a user; write numbers, as 1000 or 1000:1000"
            )),
        }
    }
}

impl From<User> for String {
    fn from(user: User) -> Self {
        format!("{}:{}", user.uid, user.gid)
    }
}

/// A socket that PID 1 opens: `"unix:/run/wherry/x.sock"`,
/// `"tcp:0.0.0.0:80"`, `"udp:[::]:53"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// A stream socket in the machine's file system.
    Unix(String),
    /// A TCP socket in the machine's network.
    Tcp(std::net::SocketAddr),
    /// A UDP socket in the machine's network.
    Udp(std::net::SocketAddr),
}

impl Listen {
    /// Its name in `LISTEN_FDNAMES`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unix(_) => "unix",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is not a socket; write it as unix:/run/wherry/NAME.sock, tcp:0.0.0.0:80 or udp:[::]:53"
            )
        };
        match text.split_once(':').ok_or_else(wrong)? {
            // Below /run, which PID 1 can write to without waiting for a disk.
            // sun_path holds 108 bytes, its end included.
            ("unix", path) if path.starts_with("/run/") && path.len() < 108 => {
                Ok(Self::Unix(path.to_owned()))
            }
            ("tcp", address) => address.parse().map(Self::Tcp).map_err(|_| wrong()),
            ("udp", address) => address.parse().map(Self::Udp).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl From<Listen> for String {
    fn from(socket: Listen) -> Self {
        match socket {
            Listen::Unix(path) => format!("unix:{path}"),
            Listen::Tcp(address) => format!("tcp:{address}"),
            Listen::Udp(address) => format!("udp:{address}"),
        }
    }
}

/// A signal as its name.
pub mod signal {
    use nix::sys::signal::Signal;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(signal.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Signal, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
