//! What the kernel reports by itself: that something changed, and the DNS
//! options of router advertisements, which it hands on without keeping them.
//!
//! A socket of its own beside the one of [`crate::kernel`]: rtnetlink's
//! connection knows no neighbour discovery options. A report says only where
//! to look again; the state itself is always read anew, so that a lost report
//! (the socket overflows) costs nothing but another look.

use std::io;

use futures_util::FutureExt;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use crate::advertisement::{self, DnsOption};
use crate::kernel::OURS;

// Groups and types of linux/rtnetlink.h.
const RTMGRP_LINK: u32 = 1;
const RTMGRP_IPV4_IFADDR: u32 = 1 << 4;
const RTMGRP_IPV4_ROUTE: u32 = 1 << 6;
const RTMGRP_IPV6_IFADDR: u32 = 1 << 8;
const RTMGRP_IPV6_ROUTE: u32 = 1 << 10;
const RTMGRP_IPV6_IFINFO: u32 = 1 << 11;
const RTNLGRP_ND_USEROPT: u32 = 1 << 19;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNDUSEROPT: u16 = 68;

const RTPROT_RA: u8 = 9;
const RTPROT_DHCP: u8 = 16;

/// A report that matters.
#[derive(Debug, PartialEq)]
pub enum Report {
    /// Links came, went or changed, or reports were lost.
    Links,
    /// The addresses of this link.
    Addresses { link: u32 },
    /// Routes that come from advertisements or from us. Those of container
    /// networks, which can be thousands, are none of them.
    Routes,
    /// A router advertised this on the link.
    Dns { link: u32, options: Vec<DnsOption> },
}

/// Somebody who reports without end must not keep us from acting.
const MOST: usize = 1000;

/// The socket.
pub struct Watch {
    socket: TokioSocket,
}

impl Watch {
    /// Reports from now on.
    pub fn start() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = RTMGRP_LINK
            | RTMGRP_IPV4_IFADDR
            | RTMGRP_IPV4_ROUTE
            | RTMGRP_IPV6_IFADDR
            | RTMGRP_IPV6_ROUTE
            | RTMGRP_IPV6_IFINFO
            | RTNLGRP_ND_USEROPT;
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket })
    }

    /// Waits for reports and returns all that there are: a change comes in
    /// several, and one look is enough for them. May be dropped while it waits
    /// without losing one.
    pub async fn next(&self) -> Vec<Report> {
        let mut reports = self.receive().await;
        for _ in 0..MOST {
            match self.receive().now_or_never() {
                Some(mut more) => reports.append(&mut more),
                None => break,
            }
        }
        reports
    }

    async fn receive(&self) -> Vec<Report> {
        match self.socket.recv_from_full().await {
            // Only the kernel's own messages: any process may send some.
            Ok((bytes, from)) if from.port_number() == 0 => parse(&bytes),
            Ok(_) => Vec::new(),
            // ENOBUFS: more was reported than the socket holds.
            Err(_) => vec![Report::Links],
        }
    }
}

/// Reads the messages of one datagram.
fn parse(mut bytes: &[u8]) -> Vec<Report> {
    let mut reports = Vec::new();
    // nlmsghdr: length, type, flags, sequence number, port.
    while let Some((&[a, b, c, d, e, f, ..], _)) = bytes.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let kind = u16::from_ne_bytes([e, f]);
        let Some(payload) = bytes.get(16..length) else {
            break;
        };
        reports.extend(report(kind, payload));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    reports
}

fn report(kind: u16, payload: &[u8]) -> Option<Report> {
    // ifinfomsg, ifaddrmsg and nduseroptmsg have the link's index here.
    let (_, rest) = payload.split_first_chunk::<4>()?;
    let link = u32::from_ne_bytes(*rest.first_chunk()?);
    match kind {
        RTM_NEWLINK | RTM_DELLINK => Some(Report::Links),
        RTM_NEWADDR | RTM_DELADDR => Some(Report::Addresses { link }),
        // rtmsg: family, destination and source length, TOS, table, protocol.
        RTM_NEWROUTE | RTM_DELROUTE => {
            matches!(payload.get(5), Some(&(RTPROT_RA | RTPROT_DHCP | OURS)))
                .then_some(Report::Routes)
        }
        RTM_NEWNDUSEROPT => {
            // nduseroptmsg: family, pad, length of the options, index, ICMP
            // type and code, pad.
            let [_, _, a, b, ..] = *payload else {
                return None;
            };
            let length = usize::from(u16::from_ne_bytes([a, b]));
            let options = advertisement::parse(payload.get(16..16 + length)?);
            Some(Report::Dns { link, options })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn several_messages_of_one_datagram_are_read() {
        let mut bytes = message(RTM_NEWLINK, &[0; 16]);
        bytes.extend(message(RTM_NEWADDR, &[2, 24, 0, 0, 7, 0, 0, 0]));
        bytes.extend(message(RTM_NEWROUTE, &[10, 0, 0, 0, 254, RTPROT_RA, 0, 1]));
        bytes.extend(message(RTM_NEWROUTE, &[2, 0, 0, 0, 254, 3, 0, 1]));
        assert_eq!(
            parse(&bytes),
            [Report::Links, Report::Addresses { link: 7 }, Report::Routes]
        );
    }

    #[test]
    fn advertised_dns_is_read() {
        let mut payload = vec![10, 0, 24, 0, 3, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0];
        payload.extend([25, 3, 0, 0, 0, 0, 0, 60]);
        payload.extend(std::net::Ipv6Addr::LOCALHOST.octets());
        assert_eq!(
            parse(&message(RTM_NEWNDUSEROPT, &payload)),
            [Report::Dns {
                link: 3,
                options: vec![DnsOption {
                    dns: vec![std::net::Ipv6Addr::LOCALHOST],
                    search: vec![],
                    lifetime: 60,
                }],
            }]
        );
    }

    #[test]
    fn cut_messages_are_left_out() {
        let whole = message(RTM_NEWNDUSEROPT, &[10, 0, 24, 0, 3, 0, 0, 0]);
        for end in 0..whole.len() {
            parse(&whole[..end]);
        }
        assert!(parse(&whole).is_empty());
        assert!(parse(&[0; 16]).is_empty());
    }
}
