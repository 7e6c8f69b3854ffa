//! A Landlock ruleset for the container's processes. The specification has no
//! field for one, so it is an annotation, whose value is JSON.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};
use oci_spec::runtime::Spec;
use serde::Deserialize;

use crate::error::{Error, Step};
use crate::report::{At, Failure};
use crate::sys::{self, LandlockHandled};
use crate::text::absolute;

/// The annotation's name.
pub(crate) const ANNOTATION: &str = "wherry.landlock";

/// File rights by name, with the version that introduced them; the bit is the
/// index.
const FILES: &[(&str, u32)] = &[
    ("execute", 1),
    ("write-file", 1),
    ("read-file", 1),
    ("read-dir", 1),
    ("remove-dir", 1),
    ("remove-file", 1),
    ("make-char", 1),
    ("make-dir", 1),
    ("make-reg", 1),
    ("make-sock", 1),
    ("make-fifo", 1),
    ("make-block", 1),
    ("make-sym", 1),
    ("refer", 2),
    ("truncate", 3),
    ("ioctl-dev", 5),
];
/// Those that apply to a file that is not a directory.
const OF_A_FILE: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;
/// Names for several.
const READ: &[&str] = &["execute", "read-file", "read-dir"];
const WRITE: &[&str] = &[
    "write-file",
    "remove-dir",
    "remove-file",
    "make-dir",
    "make-reg",
    "make-sock",
    "make-fifo",
    "make-sym",
    "refer",
    "truncate",
];
const BIND_TCP: u64 = 1;
const CONNECT_TCP: u64 = 2;
const NETWORK_VERSION: u32 = 4;
const SCOPES: &[(&str, u32)] = &[("abstract-unix-socket", 6), ("signal", 6)];

/// The annotation as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    /// The version of Landlock that the rules are for: all of its rights are
    /// denied unless a rule allows them.
    abi: u32,
    /// A kernel with an older version, or none, enforces what it can.
    #[serde(default)]
    best_effort: bool,
    #[serde(default)]
    paths: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    bind_tcp: Option<Vec<u16>>,
    #[serde(default)]
    connect_tcp: Option<Vec<u16>>,
    #[serde(default)]
    scopes: Vec<String>,
}

/// A checked ruleset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    version: u32,
    best_effort: bool,
    handled: LandlockHandled,
    paths: Vec<(CString, u64)>,
    ports: Vec<(u16, u64)>,
}

impl Plan {
    /// Checks the annotation, if there is one.
    pub fn new(spec: &Spec) -> Result<Option<Plan>, Error> {
        let annotations = spec.annotations().as_ref();
        let Some(text) = annotations.and_then(|all| all.get(ANNOTATION)) else {
            return Ok(None);
        };
        parse(text).map(Some)
    }

    /// In the container's root, with its privileges.
    pub fn enforce(&self) -> Result<(), Failure<'_>> {
        let here = match sys::landlock_version() {
            Ok(version) if version >= self.version => self.version,
            Ok(version) if self.best_effort => version,
            Err(_) if self.best_effort => return Ok(()),
            Ok(_) | Err(Errno::ENOSYS) => {
                return Err(Errno::EOPNOTSUPP)
                    .at(Step::Landlock, b"(this kernel is older than its abi)");
            }
            Err(errno) => return Err(errno).at(Step::Landlock, b""),
        };
        let handled = LandlockHandled {
            files: self.handled.files & rights(FILES, here),
            network: if here >= NETWORK_VERSION {
                self.handled.network
            } else {
                0
            },
            scopes: self.handled.scopes & rights(SCOPES, here),
        };
        let ruleset = sys::landlock_ruleset(&handled).at(Step::Landlock, b"")?;
        for (path, access) in &self.paths {
            allow(ruleset.as_fd(), path, access & handled.files)
                .at(Step::Landlock, path.as_bytes())?;
        }
        for (port, access) in &self.ports {
            let access = access & handled.network;
            if access != 0 {
                sys::landlock_allow_port(ruleset.as_fd(), *port, access)
                    .at(Step::Landlock, b"for a port")?;
            }
        }
        sys::landlock_restrict(ruleset.as_fd()).at(Step::Landlock, b"")
    }
}

fn allow(ruleset: std::os::fd::BorrowedFd<'_>, path: &CString, access: u64) -> Result<(), Errno> {
    let place = openat2(
        nix::fcntl::AT_FDCWD,
        path.as_c_str(),
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS),
    )?;
    let kind = SFlag::from_bits_truncate(fstat(&place)?.st_mode) & SFlag::S_IFMT;
    let access = if kind == SFlag::S_IFDIR {
        access
    } else {
        access & OF_A_FILE
    };
    match access {
        0 => Ok(()),
        access => sys::landlock_allow_path(ruleset, place.as_fd(), access),
    }
}

/// All rights that a version has.
fn rights(table: &[(&str, u32)], version: u32) -> u64 {
    (0..)
        .zip(table)
        .filter(|(_, (_, since))| *since <= version)
        .fold(0, |bits, (place, _)| bits | 1_u64 << place)
}

fn right(table: &[(&str, u32)], version: u32, name: &str) -> Option<u64> {
    let place = table
        .iter()
        .position(|(known, since)| *known == name && *since <= version)?;
    Some(1 << place)
}

fn parse(text: &str) -> Result<Plan, Error> {
    let refused = |reason: String| Error::invalid(format!("annotations.{ANNOTATION}"), reason);
    let written: Written =
        serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    let version = written.abi;
    if version == 0 {
        return Err(refused("abi must be at least 1".into()));
    }
    let access = |names: &[String]| {
        let mut bits = 0;
        for name in names {
            let several = match name.as_str() {
                "read" => READ,
                "write" => WRITE,
                name => {
                    bits |= right(FILES, version, name).ok_or_else(|| {
                        refused(format!("abi {version} has no access \"{name}\" to files"))
                    })?;
                    continue;
                }
            };
            bits |= several
                .iter()
                .filter_map(|name| right(FILES, version, name))
                .fold(0, |bits, bit| bits | bit);
        }
        Ok(bits)
    };
    let paths = written
        .paths
        .iter()
        .map(|(path, names)| {
            let field = format!("annotations.{ANNOTATION}");
            Ok((absolute(&field, path.as_ref())?, access(names)?))
        })
        .collect::<Result<_, Error>>()?;
    let mut handled = LandlockHandled {
        files: rights(FILES, version),
        ..LandlockHandled::default()
    };
    let mut ports = Vec::new();
    for (list, bit) in [
        (&written.bind_tcp, BIND_TCP),
        (&written.connect_tcp, CONNECT_TCP),
    ] {
        let Some(list) = list else { continue };
        if version < NETWORK_VERSION {
            return Err(refused(format!("abi {version} has no rules for ports")));
        }
        handled.network |= bit;
        ports.extend(list.iter().map(|port| (*port, bit)));
    }
    for name in &written.scopes {
        handled.scopes |= right(SCOPES, version, name)
            .ok_or_else(|| refused(format!("abi {version} has no scope \"{name}\"")))?;
    }
    Ok(Plan {
        version,
        best_effort: written.best_effort,
        handled,
        paths,
        ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_denies_all_of_its_rights_and_no_later_ones() {
        let plan = parse(r#"{ "abi": 1, "paths": { "/usr": ["read"] } }"#).unwrap();
        assert_eq!(plan.handled.files, (1 << 13) - 1);
        assert_eq!(plan.paths, [(c"/usr".to_owned(), 0b1101)]);
        let plan = parse(r#"{ "abi": 6, "bindTcp": [80], "scopes": ["signal"] }"#).unwrap();
        assert_eq!(plan.handled.files, (1 << 16) - 1);
        assert_eq!((plan.handled.network, plan.handled.scopes), (1, 2));
        assert_eq!(plan.ports, [(80, 1)]);
    }

    #[test]
    fn what_a_version_does_not_have_is_refused_by_name() {
        for (text, needle) in [
            (
                r#"{ "abi": 2, "paths": { "/": ["truncate"] } }"#,
                "\"truncate\"",
            ),
            (r#"{ "abi": 3, "bindTcp": [] }"#, "ports"),
            (r#"{ "abi": 5, "scopes": ["signal"] }"#, "\"signal\""),
            (r#"{ "abi": 1, "paths": { "usr": [] } }"#, "absolute"),
            (r#"{ "abi": 1, "colour": 1 }"#, "colour"),
            (r#"{ "abi": 0 }"#, "at least 1"),
            ("", "annotations.wherry.landlock"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(needle), "{message}");
        }
    }
}
