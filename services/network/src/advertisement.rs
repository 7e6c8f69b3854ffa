//! DNS options of router advertisements (RFC 8106).
//!
//! The kernel does the rest of router advertisements itself; these options it
//! hands on to user space, as they came. They come from anybody on the link:
//! whatever is not as it must be is left out.

use std::net::Ipv6Addr;

const RDNSS: u8 = 25;
const DNSSL: u8 = 31;

/// Names or servers, and for how many seconds they hold.
#[derive(Debug, Default, PartialEq)]
pub struct DnsOption {
    pub dns: Vec<Ipv6Addr>,
    pub search: Vec<String>,
    pub lifetime: u32,
}

/// Reads neighbour discovery options, each of which is a type, a length in
/// units of 8 bytes and its content.
pub fn parse(mut options: &[u8]) -> Vec<DnsOption> {
    let mut found = Vec::new();
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            break;
        }
        let (option, rest) = options.split_at(length);
        options = rest;
        // Type, length, 2 reserved bytes, lifetime.
        let Some((&[_, _, _, _, a, b, c, d], content)) = option.split_first_chunk::<8>() else {
            continue;
        };
        let mut dns_option = DnsOption {
            lifetime: u32::from_be_bytes([a, b, c, d]),
            ..DnsOption::default()
        };
        match kind {
            RDNSS => {
                let (servers, _) = content.as_chunks::<16>();
                dns_option.dns = servers.iter().map(|bytes| Ipv6Addr::from(*bytes)).collect();
            }
            DNSSL => dns_option.search = domains(content),
            _ => continue,
        }
        found.push(dns_option);
    }
    found
}

/// Domain names as DNS writes them (RFC 1035, section 3.1), one behind the
/// other, with pointers to earlier ones. Also the content of DHCPv4's option
/// 119 (RFC 3397).
pub fn domains(content: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < content.len() {
        let Some((name, next)) = domain(content, at) else {
            break;
        };
        // The padding behind the last name reads as empty names.
        if is_domain(&name) {
            found.push(name);
        }
        at = next;
    }
    found
}

/// One name from `start`, and where the next begins.
fn domain(content: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = start;
    let mut next = None;
    loop {
        let length = usize::from(*content.get(at)?);
        match length {
            0 => return Some((name, next.unwrap_or(at + 1))),
            1..=63 => {
                let label = content.get(at + 1..at + 1 + length)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(label).ok()?);
                at += 1 + length;
                if name.len() > 255 {
                    return None;
                }
            }
            0xc0..=0xff => {
                let low = usize::from(*content.get(at + 1)?);
                let target = (length & 0x3f) << 8 | low;
                next.get_or_insert(at + 2);
                // Only backwards, so that it ends.
                if target >= at.min(start) {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
    }
}

/// Whether the text can stand in resolv.conf as one word and is a host's or
/// domain's name. Whoever answers a DHCP request chooses these texts.
pub fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_domains_are_read() {
        let server = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 3);
        let mut options = vec![RDNSS, 3, 0, 0, 0, 0, 0x0e, 0x10];
        options.extend(server.octets());
        options.extend([1, 1, 0, 0, 0, 0, 0, 0]);
        options.extend([DNSSL, 3, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        options.extend(b"\x07example\x03org\0\0\0\0");
        assert_eq!(
            parse(&options),
            [
                DnsOption {
                    dns: vec![server],
                    search: vec![],
                    lifetime: 3600,
                },
                DnsOption {
                    dns: vec![],
                    search: vec!["example.org".to_owned()],
                    lifetime: u32::MAX,
                },
            ]
        );
    }

    #[test]
    fn broken_options_end_the_reading() {
        assert!(parse(&[]).is_empty());
        assert!(parse(&[RDNSS]).is_empty());
        assert!(parse(&[RDNSS, 0, 0, 0, 0, 0, 0, 0]).is_empty());
        assert!(parse(&[RDNSS, 3, 0, 0, 0, 0, 0, 0]).is_empty());
    }

    #[test]
    fn pointers_lead_backwards_only() {
        assert_eq!(
            domains(b"\x07example\x03org\0\x03lab\xc0\x00"),
            ["example.org", "lab.example.org"]
        );
        assert!(domains(b"\xc0\x00").is_empty());
        assert!(domains(b"\x01a\xc0\x00").is_empty());
        assert!(domains(b"\x40").is_empty());
        assert!(domains(b"\x05ab").is_empty());
    }

    #[test]
    fn names_that_would_break_resolv_conf_are_left_out() {
        assert!(domains(b"\x03a\nb\0").is_empty());
        assert!(domains(b"\x03a b\0").is_empty());
        assert!(!is_domain(""));
        assert!(!is_domain("a;b"));
        assert!(is_domain("my_host.example-1.org"));
    }
}
