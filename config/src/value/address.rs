//! Addresses of the network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// An IP address: `"10.0.0.1"`, `"fe80::1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

crate::text!(Address: Display);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("'{text}' is not an IP address, expected one as 10.0.0.1 or fe80::1")
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address and how many of its leading bits name its network: `"10.0.0.2/24"`.
/// An address on a link has bits behind them, a network has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(pub IpNet);

crate::text!(Prefix: Display);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "'{text}' is not an address with its prefix, \
                 expected one as 10.0.0.2/24 or 2001:db8::2/64"
            )
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hardware address of an Ethernet link: `"52:54:00:12:34:56"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

crate::text!(Mac: Display);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is not a hardware address, expected one as 52:54:00:12:34:56");
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(Self(mac)),
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.1/33",
            "::1/129",
            "10.0.0/8",
            "a/8",
            "1.2.3.4/",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        let prefix: Prefix = "10.1.2.3/24".parse().unwrap();
        assert_eq!(prefix.to_string(), "10.1.2.3/24", "its bits are kept");
    }

    #[test]
    fn a_hardware_address_has_six_bytes() {
        for text in ["52:54:00:12:34:56", "52-54-00-12-34-56"] {
            let mac: Mac = text.parse().unwrap();
            assert_eq!(mac.to_string(), "52:54:00:12:34:56");
        }
        for text in [
            "",
            "52:54",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:+5",
            "5:4:0:2:4:6",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_has_no_prefix() {
        assert!("10.0.0.1".parse::<Address>().is_ok());
        assert!("10.0.0.1/8".parse::<Address>().is_err());
    }
}
