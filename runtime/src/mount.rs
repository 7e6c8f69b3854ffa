//! Mounts as the specification asks for them, made into plain data: a clone of
//! an existing tree, or a new file system, with its attributes. Pure.

use std::ffi::{CStr, CString};

use oci_spec::runtime::Mount;

use crate::Error;
use crate::sys::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME, MountAttr,
};

/// A mount, ready to be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// For messages: `tmpfs on /dev`, `bind mount of /a on /b`.
    pub label: CString,
    /// Where, inside the root; absolute.
    pub target: CString,
    pub source: Source,
    /// What mount_setattr(2) has to do, in this order.
    pub changes: Vec<Change>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A clone of what is mounted at a path of the host.
    Bind { path: CString, recursive: bool },
    /// A new file system.
    New {
        kind: &'static CStr,
        options: Vec<FsOption>,
        attributes: u64,
        /// The target must be no symbolic link and be reached by none, so that
        /// masking paths below `/proc` and `/sys` masks the real ones.
        plain_target: bool,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FsOption {
    /// For messages: `tmpfs on /dev: size=64k`.
    pub label: CString,
    pub key: CString,
    pub value: Option<CString>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub recursive: bool,
    pub attributes: MountAttr,
}

/// What an option changes of a mount: bits to set, and bits to clear first.
struct Flag {
    name: &'static str,
    set: u64,
    clear: u64,
}

const fn flag(name: &'static str, set: u64, clear: u64) -> Flag {
    Flag { name, set, clear }
}

/// Each may be preceded by `r`: then it holds for the mounts below too.
const FLAGS: &[Flag] = &[
    flag("ro", MOUNT_ATTR_RDONLY, 0),
    flag("rw", 0, MOUNT_ATTR_RDONLY),
    flag("nosuid", MOUNT_ATTR_NOSUID, 0),
    flag("suid", 0, MOUNT_ATTR_NOSUID),
    flag("nodev", MOUNT_ATTR_NODEV, 0),
    flag("dev", 0, MOUNT_ATTR_NODEV),
    flag("noexec", MOUNT_ATTR_NOEXEC, 0),
    flag("exec", 0, MOUNT_ATTR_NOEXEC),
    flag("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0),
    flag("symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
    flag("nodiratime", MOUNT_ATTR_NODIRATIME, 0),
    flag("diratime", 0, MOUNT_ATTR_NODIRATIME),
    // The kinds of access time exclude each other: setting one clears all.
    flag("relatime", 0, MOUNT_ATTR_ATIME),
    flag("norelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    flag("noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME),
    flag("atime", 0, MOUNT_ATTR_ATIME),
    flag("strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    flag("nostrictatime", 0, MOUNT_ATTR_ATIME),
];

/// The kinds of propagation; each may be preceded by `r`.
const PROPAGATION: &[(&str, u64)] = &[
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("private", libc::MS_PRIVATE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Options that a specification may hold and that are not for the file system, not enforced.
const REFUSED: &[&str] = &[
    "remount",
    "idmap",
    "ridmap",
    "tmpcopyup",
    "copy-symlink",
    "mand",
    "iversion",
];

/// Options that ask for what is so anyway.
const NOTHING: &[&str] = &[
    "defaults",
    "async",
    "nomand",
    "noiversion",
    "nolazytime",
    "loud",
];

/// Propagation by its name, and whether it holds for the mounts below too.
pub(crate) fn propagation(name: &str) -> Option<(u64, bool)> {
    let find = |name: &str| {
        PROPAGATION
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    };
    find(name)
        .map(|value| (value, false))
        .or_else(|| find(name.strip_prefix('r')?).map(|value| (value, true)))
}

fn attribute(name: &str) -> Option<(&'static Flag, bool)> {
    let find = |name: &str| FLAGS.iter().find(|flag| flag.name == name);
    find(name)
        .map(|flag| (flag, false))
        .or_else(|| find(name.strip_prefix('r')?).map(|flag| (flag, true)))
}

fn apply(attributes: &mut MountAttr, flag: &Flag) {
    attributes.set = attributes.set & !flag.clear | flag.set;
    attributes.clear = attributes.clear & !flag.set | flag.clear;
}

/// The file systems that a container may have made, by the names that a specification uses.
fn file_system(kind: &str) -> Option<&'static CStr> {
    Some(match kind {
        "proc" => c"proc",
        "sysfs" => c"sysfs",
        "tmpfs" => c"tmpfs",
        "mqueue" => c"mqueue",
        "devpts" => c"devpts",
        "overlay" => c"overlay",
        // The specification's word for whatever version the host has.
        "cgroup" | "cgroup2" => c"cgroup2",
        _ => return None,
    })
}

/// Text without a NUL byte as the kernel takes it.
pub(crate) fn c_string(field: &str, bytes: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::invalid(field, "holds a NUL byte"))
}

/// An absolute path of at most PATH_MAX bytes.
pub(crate) fn absolute(field: &str, path: &std::path::Path) -> Result<CString, Error> {
    if !path.is_absolute() {
        return Err(Error::invalid(field, "must be an absolute path"));
    }
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= libc::PATH_MAX as usize {
        return Err(Error::invalid(field, "is too long for a path"));
    }
    c_string(field, bytes)
}

/// Makes the mount number `index` of a specification ready.
pub(crate) fn plan(index: usize, mount: &Mount) -> Result<Plan, Error> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let target = absolute(&field("destination"), mount.destination())?;
    if mount.destination().components().count() == 1 {
        return Err(Error::invalid(
            field("destination"),
            "the root cannot be mounted over",
        ));
    }
    let options = mount.options().as_deref().unwrap_or_default();
    let kind = mount.typ().as_deref().unwrap_or_default();
    let bind = options
        .iter()
        .any(|option| option == "bind" || option == "rbind");
    if !bind && kind == "bind" {
        return Err(Error::invalid(
            field("options"),
            "a bind mount needs \"bind\" or \"rbind\"",
        ));
    }

    let what = match mount.source() {
        Some(source) if bind => format!("bind mount of {}", source.display()),
        Some(_) | None => kind.to_string(),
    };
    let label = c_string(
        &field("destination"),
        format!("{what} on {}", mount.destination().display()),
    )?;

    let mut single = MountAttr::default();
    let mut recursive = MountAttr::default();
    let mut propagations = Vec::new();
    let mut options_of_fs = Vec::new();
    if let (false, Some(source)) = (bind, mount.source()) {
        options_of_fs.push(FsOption {
            label: label.clone(),
            key: c"source".to_owned(),
            value: Some(c_string(
                &field("source"),
                source.as_os_str().as_encoded_bytes(),
            )?),
        });
    }
    for option in options {
        if option == "bind" || option == "rbind" || NOTHING.contains(&option.as_str()) {
            continue;
        }
        if let Some((propagation, recursive)) = propagation(option) {
            // The clone is made when the host's mounts are slaves already: it
            // would be shared with other mounts of the container only.
            if bind && propagation == libc::MS_SHARED {
                return Err(Error::invalid(
                    field("options"),
                    format!("\"{option}\": mounts of a container do not appear on the host"),
                ));
            }
            propagations.push(Change {
                recursive,
                attributes: MountAttr {
                    propagation,
                    ..MountAttr::default()
                },
            });
        } else if let Some((flag, below)) = attribute(option) {
            apply(if below { &mut recursive } else { &mut single }, flag);
        } else if REFUSED.contains(&option.as_str()) || option.starts_with("idmap=") || bind {
            return Err(Error::invalid(
                field("options"),
                format!("\"{option}\" is not enforced"),
            ));
        } else {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(c_string(&field("options"), value)?)),
                None => (option.as_str(), None),
            };
            options_of_fs.push(FsOption {
                label: c_string(
                    &field("options"),
                    format!("{option} of {}", label.to_string_lossy()),
                )?,
                key: c_string(&field("options"), key)?,
                value,
            });
        }
    }

    let mut changes = Vec::new();
    let source = if bind {
        let Some(path) = mount.source() else {
            return Err(Error::invalid(field("source"), "a bind mount needs one"));
        };
        if single != MountAttr::default() {
            changes.push(Change {
                recursive: false,
                attributes: single,
            });
        }
        Source::Bind {
            path: absolute(&field("source"), path)?,
            recursive: options.iter().any(|option| option == "rbind"),
        }
    } else {
        let Some(kind) = file_system(kind) else {
            return Err(Error::invalid(
                field("type"),
                format!("the file system \"{kind}\" cannot be made for a container"),
            ));
        };
        Source::New {
            kind,
            options: options_of_fs,
            attributes: single.set,
            plain_target: kind == c"proc" || kind == c"sysfs",
        }
    };
    if recursive != MountAttr::default() {
        changes.push(Change {
            recursive: true,
            attributes: recursive,
        });
    }
    changes.extend(propagations);
    Ok(Plan {
        label,
        target,
        source,
        changes,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use oci_spec::runtime::MountBuilder;

    use super::*;

    fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Result<Plan, Error> {
        let mut builder = MountBuilder::default()
            .destination(PathBuf::from(target))
            .source(PathBuf::from(source))
            .options(options.iter().map(|o| o.to_string()).collect::<Vec<_>>());
        if !kind.is_empty() {
            builder = builder.typ(kind.to_string());
        }
        plan(3, &builder.build().unwrap())
    }

    fn refusal(result: Result<Plan, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_new_file_system_has_attributes_and_options() {
        let plan = mount(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "mode=755", "strictatime"],
        )
        .unwrap();
        let Source::New {
            kind,
            options,
            attributes,
            plain_target,
        } = plan.source
        else {
            panic!("a bind mount");
        };
        assert_eq!(kind, c"tmpfs");
        assert_eq!(attributes, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
        assert!(!plain_target);
        assert_eq!(options[0].key.as_c_str(), c"source");
        assert_eq!(options[1].key.as_c_str(), c"mode");
        assert_eq!(options[1].value.as_deref(), Some(c"755"));
        assert_eq!(options[1].label.as_c_str(), c"mode=755 of tmpfs on /dev");
    }

    #[test]
    fn later_options_win_over_earlier_ones() {
        let plan = mount("", "/a", "/b", &["bind", "ro", "rw", "noatime", "relatime"]).unwrap();
        let change = &plan.changes[0].attributes;
        assert_eq!(change.set, 0);
        assert_eq!(change.clear, MOUNT_ATTR_RDONLY | MOUNT_ATTR_ATIME);
    }

    #[test]
    fn attributes_and_propagation_may_be_recursive() {
        let plan = mount("bind", "/a", "/b", &["rbind", "rro", "rslave", "rnosuid"]).unwrap();
        assert_eq!(plan.changes.len(), 2);
        assert!(plan.changes[0].recursive);
        assert_eq!(
            plan.changes[0].attributes.set,
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID
        );
        assert!(plan.changes[1].recursive);
        assert_eq!(plan.changes[1].attributes.propagation, libc::MS_SLAVE);
    }

    #[test]
    fn relatime_is_not_taken_for_a_recursive_elatime() {
        let plan = mount("", "/a", "/b", &["bind", "rrelatime", "rw"]).unwrap();
        assert_eq!(plan.changes.len(), 2);
        assert_eq!(plan.changes[0].attributes.clear, MOUNT_ATTR_RDONLY);
        assert_eq!(plan.changes[1].attributes.clear, MOUNT_ATTR_ATIME);
    }

    #[test]
    fn what_is_not_enforced_is_refused_by_name() {
        for (result, needle) in [
            (
                mount("", "/a", "/b", &["bind", "idmap"]),
                "mounts[3].options: \"idmap\"",
            ),
            (mount("", "/a", "/b", &["bind", "size=1"]), "\"size=1\""),
            (mount("", "/a", "/b", &["rbind", "rshared"]), "\"rshared\""),
            (
                mount("tmpfs", "tmpfs", "/b", &["tmpcopyup"]),
                "\"tmpcopyup\"",
            ),
            (mount("ext4", "/dev/vda", "/b", &[]), "mounts[3].type"),
            (mount("bind", "/a", "/b", &[]), "mounts[3].options"),
            (mount("", "a", "/b", &["bind"]), "mounts[3].source"),
            (mount("tmpfs", "t", "b", &[]), "mounts[3].destination"),
            (mount("tmpfs", "t", "/", &[]), "mounts[3].destination"),
        ] {
            let text = refusal(result);
            assert!(text.contains(needle), "{text}");
        }
    }
}
