//! Values that only a definition writes. Those of all files are in
//! [`config::value`].

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use config::text;
use nix::sys::signal::Signal;
use oci_spec::runtime::Capability;
use supervisor::ServiceName;

/// A share of the processors: `"50%"` is half of one, `"200%"` two whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuLimit {
    /// Hundredths of one processor.
    pub percent: u32,
}

text!(CpuLimit: Display);

impl FromStr for CpuLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_suffix('%')
            .and_then(|percent| percent.trim().parse().ok())
            // cpu.max takes no quota under 1 ms, which is 1 % of its period of 100 ms.
            .filter(|percent| (1..=100_000).contains(percent))
            .map(|percent| Self { percent })
            .ok_or_else(|| {
                format!("'{text}' is not a share of the processors, expected one as 50% or 200%")
            })
    }
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

/// The shortest and the longest wait before a restart: `"250ms..30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
}

text!(Backoff);

impl FromStr for Backoff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is not a backoff, expected one as 250ms..30s, the shorter first");
        let (min, max) = text.split_once("..").ok_or_else(wrong)?;
        let min = duration(min).ok_or_else(wrong)?;
        let max = duration(max).ok_or_else(wrong)?;
        if min > max || min.is_zero() {
            return Err(wrong());
        }
        Ok(Self { min, max })
    }
}

fn duration(text: &str) -> Option<Duration> {
    let duration: config::value::Duration = text.parse().ok()?;
    Some(duration.0)
}

/// How many restarts in which time are too many: `"10/1h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// How many.
    pub count: u32,
    /// In which time.
    pub window: Duration,
}

text!(RestartLimit);

impl FromStr for RestartLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(count, window)| {
                Some(Self {
                    count: count.trim().parse().ok()?,
                    window: duration(window).filter(|window| !window.is_zero())?,
                })
            })
            .ok_or_else(|| format!("'{text}' is not a limit of restarts, expected one as 10/1h"))
    }
}

/// Whom a service runs as: `"1000"`, `"1000:1000"`. Numbers only, since a
/// container's root need not hold a password file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

text!(User: Display);

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        match (uid.parse(), gid.parse()) {
            // To setresuid(2) the last number means "leave it as it is", which is
            // root.
            (Ok(u32::MAX), _) | (_, Ok(u32::MAX)) => Err(format!(
                "'{text}' is not a user: the kernel keeps {} for itself, expected smaller numbers",
                u32::MAX
            )),
            (Ok(uid), Ok(gid)) => Ok(Self { uid, gid }),
            _ => Err(format!(
                "'{text}' is not a user, expected numbers as 1000 or 1000:1000"
            )),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// A socket that PID 1 opens: `"unix:/run/wherry/x.sock"`,
/// `"tcp:0.0.0.0:80"`, `"udp:[::]:53"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A stream socket in the machine's file system.
    Unix(String),
    /// A TCP socket in the machine's network.
    Tcp(std::net::SocketAddr),
    /// A UDP socket in the machine's network.
    Udp(std::net::SocketAddr),
}

text!(Listen: Display);

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

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is not a socket, expected one as unix:/run/wherry/NAME.sock, tcp:0.0.0.0:80 or udp:[::]:53"
            )
        };
        match text.split_once(':').ok_or_else(wrong)? {
            ("unix", path) => unix(path).map(Self::Unix),
            ("tcp", address) => internet(address)?.map(Self::Tcp).ok_or_else(wrong),
            ("udp", address) => internet(address)?.map(Self::Udp).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

/// Where services meet. PID 1 can write there without waiting for a disk.
pub const MEETING_PLACE: &str = "/run/wherry/";

/// The names in [`MEETING_PLACE`] that are PID 1's own.
const RESERVED: [&str; 2] = ["init.sock", "notify"];

fn unix(text: &str) -> Result<String, String> {
    let path: config::value::AbsolutePath = text.parse()?;
    let Some(name) = text.strip_prefix(MEETING_PLACE) else {
        return Err(format!(
            "'{text}' is elsewhere, expected a path below {MEETING_PLACE}"
        ));
    };
    if name.split('/').any(|part| matches!(part, "" | ".")) {
        return Err(format!("'{text}' has an empty part or '.'"));
    }
    if let Some(first) = name
        .split('/')
        .next()
        .filter(|name| RESERVED.contains(name))
    {
        return Err(format!(
            "{MEETING_PLACE}{first} is PID 1's own, expected another name"
        ));
    }
    // sun_path holds 108 bytes, its end included.
    if text.len() > 107 {
        return Err(format!("'{text}' is too long, expected 107 bytes at most"));
    }
    Ok(path.into())
}

/// `None` where it is no address with a port.
fn internet(text: &str) -> Result<Option<std::net::SocketAddr>, String> {
    match text.parse::<std::net::SocketAddr>() {
        // The kernel would choose one, and nobody would know which.
        Ok(address) if address.port() == 0 => Err(format!(
            "'{text}' has port 0, which is none, expected one from 1 to 65535"
        )),
        address => Ok(address.ok()),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

/// The permissions of a socket on a path: `"0660"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

text!(SocketMode);

impl Default for SocketMode {
    /// Everybody who can reach the path may connect: whoever sees the folder was
    /// given it.
    fn default() -> Self {
        Self(0o666)
    }
}

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777 && text.starts_with('0'))
            .map(Self)
            .ok_or_else(|| format!("'{text}' is not a mode, expected one as 0666 or 0660"))
    }
}

/// A signal by its name: `"SIGTERM"`, `"SIGRTMIN+3"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal(pub i32);

text!(StopSignal: Display);

/// The real-time signals that programs count from: the C library keeps the first
/// two of the kernel's for itself (signal(7)).
const REAL_TIME: RangeInclusive<i32> = 34..=64;

impl FromStr for StopSignal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match (text.strip_prefix("SIGRTMIN"), text.strip_prefix("SIGRTMAX")) {
            (Some(""), _) => Some(*REAL_TIME.start()),
            (_, Some("")) => Some(*REAL_TIME.end()),
            (Some(more), _) => number(more, '+').map(|more| REAL_TIME.start() + more),
            (_, Some(less)) => number(less, '-').map(|less| REAL_TIME.end() - less),
            (None, None) => {
                return match text.parse::<Signal>() {
                    Ok(signal) => Ok(Self(signal as i32)),
                    Err(_) => Err(no_signal(text)),
                };
            }
        };
        number
            .filter(|number| REAL_TIME.contains(number))
            .map(Self)
            .ok_or_else(|| no_signal(text))
    }
}

fn no_signal(text: &str) -> String {
    format!("there is no signal '{text}', expected one as SIGTERM or SIGRTMIN+3")
}

/// A number of one or two digits behind a sign.
fn number(text: &str, sign: char) -> Option<i32> {
    let digits = text.strip_prefix(sign)?;
    let is_number = digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => write!(f, "SIGRTMIN+{}", self.0 - REAL_TIME.start()),
        }
    }
}

/// A capability by its kernel name: `"CAP_NET_ADMIN"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityName(pub Capability);

text!(CapabilityName);

impl FromStr for CapabilityName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("CAP_")
            .and_then(|name| name.parse().ok())
            .map(Self)
            .ok_or_else(|| {
                format!("there is no capability '{text}', expected one as CAP_NET_ADMIN")
            })
    }
}

/// The name of another service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency(pub ServiceName);

text!(Dependency);

impl FromStr for Dependency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("'{text}' is not a service's name, expected lower-case letters, digits and '-'")
        })
    }
}

/// What `devices` may list: a node or a pattern below /dev, or one of two words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(pub String);

text!(Device);

/// The word in `devices` for the disk of the state partition with all its
/// partitions: only PID 1 knows which that is.
pub const STATE_DISK: &str = "state-disk";

/// The word in `devices` for the disk that the system booted from, without its
/// partitions.
pub const BOOT_DISK: &str = "boot-disk";

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text != STATE_DISK && text != BOOT_DISK {
            let path: config::value::AbsolutePath = text.parse()?;
            if !path.as_str().starts_with("/dev/") {
                return Err(format!("'{text}' is not below /dev"));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable(pub String);

text!(Variable);

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err(format!("'{text}' is not a variable's name"));
        }
        Ok(Self(text.to_owned()))
    }
}
