//! The device nodes and links of a container's `/dev`. Pure.

use std::ffi::{CStr, CString};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::Error;
use crate::text::{absolute, c_string, real_id};

/// A node to create, unless an identical one exists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its full path inside the root, for messages.
    pub path: CString,
    /// The directory it is in.
    pub directory: CString,
    /// Its name there.
    pub name: CString,
    pub kind: SFlag,
    pub mode: Mode,
    pub number: u64,
    pub owner: (u32, u32),
}

/// A symbolic link to create in `/dev`, unless something of that name exists.
#[derive(Debug)]
pub(crate) struct Link {
    pub name: &'static CStr,
    pub target: &'static CStr,
}

/// The character devices that each container has (runtime-spec, config-linux, "Default Devices").
///
/// `/dev/console` belongs to terminals and `/dev/ptmx` is a link.
pub(crate) const DEFAULT: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The highest numbers of a device: mknod(2) drops the bits above them, so that
/// the node would be another device's.
const MAJOR: u64 = 0xfff;
const MINOR: u64 = 0xf_ffff;

/// The links that each container has (runtime-spec, runtime-linux, "Dev symbolic links").
pub(crate) const LINKS: &[Link] = &[
    Link {
        name: c"fd",
        target: c"/proc/self/fd",
    },
    Link {
        name: c"stdin",
        target: c"/proc/self/fd/0",
    },
    Link {
        name: c"stdout",
        target: c"/proc/self/fd/1",
    },
    Link {
        name: c"stderr",
        target: c"/proc/self/fd/2",
    },
    Link {
        name: c"ptmx",
        target: c"pts/ptmx",
    },
];

/// The nodes to create: the requested ones, and the default ones that are not
/// among them, if default nodes are wanted.
pub(crate) fn plan(devices: &[LinuxDevice], defaults: bool) -> Result<Vec<Node>, Error> {
    let asked: Vec<Node> = devices
        .iter()
        .enumerate()
        .map(|(index, device)| asked(index, device))
        .collect::<Result<_, _>>()?;
    if !defaults {
        return Ok(asked);
    }
    let mut nodes = DEFAULT
        .iter()
        .map(|(name, major, minor)| {
            node(
                "linux.devices",
                Path::new("/dev").join(name).as_path(),
                SFlag::S_IFCHR,
                makedev(u64::from(*major), u64::from(*minor)),
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    nodes.retain(|default| !asked.iter().any(|node| node.path == default.path));
    nodes.extend(asked);
    Ok(nodes)
}

fn node(field: &str, path: &Path, kind: SFlag, number: u64) -> Result<Node, Error> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(field, "must name a file"));
    };
    Ok(Node {
        path: absolute(field, path)?,
        directory: absolute(field, directory)?,
        name: c_string(field, name.as_encoded_bytes())?,
        kind,
        mode: Mode::from_bits_truncate(0o666),
        number,
        owner: (0, 0),
    })
}

fn asked(index: usize, device: &LinuxDevice) -> Result<Node, Error> {
    let field = |name: &str| format!("linux.devices[{index}].{name}");
    let number = |name: &str, value: i64, most: u64| {
        u64::try_from(value)
            .ok()
            .filter(|value| *value <= most)
            .ok_or_else(|| Error::invalid(field(name), format!("{value} is not a device number")))
    };
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => {
            return Err(Error::invalid(
                field("type"),
                "\"a\" is not a type of device",
            ));
        }
    };
    let numbers = if kind == SFlag::S_IFIFO {
        0
    } else {
        makedev(
            number("major", device.major(), MAJOR)?,
            number("minor", device.minor(), MINOR)?,
        )
    };
    let mode = device.file_mode().unwrap_or(0o666);
    // Some engines pass the whole st_mode; its kind says nothing new.
    let permissions = Mode::from_bits(mode & 0o7777)
        .ok_or_else(|| Error::invalid(field("fileMode"), format!("{mode:o} is not a mode")))?;
    let mut node = node(&field("path"), device.path(), kind, numbers)?;
    node.mode = permissions;
    node.owner = (
        real_id(&field("uid"), device.uid().unwrap_or(0))?,
        real_id(&field("gid"), device.gid().unwrap_or(0))?,
    );
    Ok(node)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use oci_spec::runtime::LinuxDeviceBuilder;

    use super::*;

    #[test]
    fn an_asked_device_takes_the_place_of_a_default_one() {
        let asked = LinuxDeviceBuilder::default()
            .path(PathBuf::from("/dev/null"))
            .typ(LinuxDeviceType::C)
            .major(1)
            .minor(5)
            .file_mode(0o600_u32)
            .build()
            .unwrap();
        let nodes = plan(&[asked], true).unwrap();
        assert_eq!(nodes.len(), DEFAULT.len());
        let null = nodes
            .iter()
            .find(|node| node.name.as_c_str() == c"null")
            .unwrap();
        assert_eq!(null.number, makedev(1, 5));
        assert_eq!(null.mode.bits(), 0o600);
    }

    /// Hostile: asks for a device with a number or an owner that means another one to the kernel. Outcome: refused by the name of the field.
    #[test]
    fn a_number_that_is_another_devices_is_refused() {
        let device = |major: i64, minor: i64, uid: u32| {
            let device = LinuxDeviceBuilder::default()
                .path(PathBuf::from("/dev/x"))
                .typ(LinuxDeviceType::C)
                .major(major)
                .minor(minor)
                .uid(uid)
                .build()
                .unwrap();
            plan(&[device], true)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(device(0xfff, 0xf_ffff, 7), Ok(()));
        for (asked, field) in [
            (device(0x1001, 3, 0), "linux.devices[0].major"),
            (device(1, 0x10_0003, 0), "linux.devices[0].minor"),
            (device(1, 3, u32::MAX), "linux.devices[0].uid"),
        ] {
            assert!(asked.unwrap_err().starts_with(field));
        }
    }

    #[test]
    fn a_device_without_a_kind_is_refused_by_name() {
        let device = LinuxDeviceBuilder::default()
            .path(PathBuf::from("/dev/x"))
            .build()
            .unwrap();
        let text = plan(&[device], true).unwrap_err().to_string();
        assert!(text.contains("linux.devices[0].type"), "{text}");
    }
}
