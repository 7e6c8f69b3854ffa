//! Mounts from the specification as plain data: a clone of an existing tree, a
//! new file system, or a change of an existing mount. Pure.

mod options;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Mount;

use crate::Error;
use crate::namespaces::open_namespace;
use crate::rootfs::Guarded;
use crate::sys::{MOUNT_ATTR_RDONLY, MountAttr};
use crate::text::{absolute, c_string};
use crate::user::Mapping;

use options::Options;
pub use options::known as known_mount_options;
pub(crate) use options::propagation;

/// fsconfig(2) accepts no longer value; mount(2) does.
const LONGEST_VALUE: usize = 255;

/// A mount, ready to be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// For messages: `tmpfs on /dev`, `bind mount of /a on /b`.
    pub label: CString,
    /// Where, inside the root; absolute.
    pub target: CString,
    pub source: Source,
    /// It may cover a part of `/proc`.
    pub in_proc: bool,
    /// What mount_setattr(2) has to do, in this order.
    pub changes: Vec<Change>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A clone of what is mounted at a path of the host.
    Bind(Bind),
    /// A clone of the host's cgroup2, if the container has no cgroup namespace
    /// of its own.
    HostCgroup,
    /// A new file system.
    New(New),
    /// A change of what is mounted at the target.
    Remount {
        /// For its file system; one mount of it alone has only attributes.
        options: Vec<FsOption>,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub path: CString,
    pub recursive: bool,
    /// How the path is opened if no link in it may be followed.
    pub guarded: Option<Guarded>,
    /// The mount is left out if there is nothing at the path.
    pub optional: bool,
    /// A symbolic link at the path is copied, not followed.
    pub copy_link: bool,
    /// The number of the mapping in the root's plan, and whether it also
    /// applies below.
    pub id_map: Option<(usize, bool)>,
    /// What happens to its propagation first, if its own options decide on it:
    /// a mount that was cut off cannot be a slave or a peer again. 0: nothing.
    pub cut_off: Option<u64>,
    /// It takes the place of `/proc`, so it must be one.
    pub proc: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct New {
    pub kind: CString,
    pub options: Vec<FsOption>,
    pub attributes: u64,
    /// Neither the target nor a part of its path may be a symbolic link, so
    /// that masking paths below `/proc` and `/sys` masks the real ones.
    pub plain_target: bool,
    /// A tmpfs gets the mode of the directory that it covers.
    pub mode_of_target: bool,
    /// A tmpfs gets a copy of what it covers.
    pub copy_up: bool,
    /// Read-only only after all other mounts were made: they may be on it.
    pub read_only_last: bool,
    /// How mount(2) makes it, if an option is too long for fsconfig(2).
    pub classic: Option<Classic>,
}

/// Arguments of mount(2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Classic {
    pub source: CString,
    pub flags: u64,
    pub data: CString,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FsOption {
    /// For messages: `size=64k of tmpfs on /dev`.
    pub label: CString,
    pub key: CString,
    pub value: Option<CString>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub recursive: bool,
    pub attributes: MountAttr,
}

/// The user namespace whose mapping a mount uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdMap {
    /// One created for it.
    New(Mapping),
    /// The one that the container joins.
    At(CString),
}

impl IdMap {
    pub fn namespace(&self) -> Result<OwnedFd, Errno> {
        match self {
            IdMap::New(mapping) => mapping.namespace(),
            IdMap::At(path) => open_namespace(path),
        }
    }
}

/// What the meaning of a mount depends on besides itself.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// The container has a cgroup namespace that is not the caller's.
    pub cgroup_namespace: bool,
    /// The mapping of its user namespace.
    pub id_map: Option<IdMap>,
    /// Its network namespace is the caller's, and its user namespace is not: it
    /// may not mount that network's sysfs.
    pub foreign_network: bool,
    /// `context=…` for the file systems that accept a SELinux label.
    pub label: Option<String>,
}

/// Prepares the mount number `index` of a specification; adds the mapping that
/// it needs to `id_maps` unless it is there.
pub(crate) fn plan(
    index: usize,
    mount: &Mount,
    surroundings: &Surroundings,
    id_maps: &mut Vec<IdMap>,
) -> Result<Plan, Error> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    // A relative one is below the root (config.md, "Mounts": deprecated on Linux).
    let destination = Path::new("/").join(mount.destination());
    let target = absolute(&field("destination"), &destination)?;
    if is_root(&destination) {
        return Err(Error::invalid(
            field("destination"),
            "the root cannot be mounted over",
        ));
    }
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or_default();
    let what = match mount.source() {
        Some(source) if options.bind => format!("bind mount of {}", source.display()),
        Some(_) | None => kind.to_string(),
    };
    let label = c_string(
        &field("destination"),
        format!("{what} on {}", destination.display()),
    )?;
    let refused = |option: &str, reason: &str| {
        Error::invalid(field("options"), format!("\"{option}\" {reason}"))
    };
    if options.copy_link && !options.bind {
        return Err(refused("copy-symlink", "is for bind mounts"));
    }
    if options.copy_up && (kind != "tmpfs" || options.bind) {
        return Err(refused("tmpcopyup", "is for a tmpfs"));
    }
    let id_map = id_map(index, mount, &options, surroundings)?;
    if id_map.is_some() && (!options.bind || options.remount) {
        return Err(Error::invalid(
            field("uidMappings"),
            "only a bind mount can have its ids mapped",
        ));
    }

    let mut changes = changes(&options);
    let own = |source: Source, changes: Vec<Change>| Plan {
        label: label.clone(),
        target: target.clone(),
        source,
        in_proc: may_be_in_proc(&destination),
        changes,
    };
    if options.bind {
        // Not even when it is changed: these belong to all mounts of the file
        // system.
        if let Some(option) = options.data.iter().chain(&options.super_block).next() {
            return Err(refused(
                option,
                "is for a file system, not for a bind mount of one",
            ));
        }
        if options.remount {
            return Ok(own(
                Source::Remount {
                    options: Vec::new(),
                },
                changes,
            ));
        }
        let Some(path) = mount.source() else {
            return Err(Error::invalid(field("source"), "a bind mount needs one"));
        };
        let id_map = id_map.map(|(map, recursive)| {
            let known = id_maps.iter().position(|known| *known == map);
            let index = known.unwrap_or_else(|| {
                id_maps.push(map);
                id_maps.len() - 1
            });
            (index, recursive)
        });
        let bind = Bind {
            path: absolute(&field("source"), path)?,
            guarded: None,
            optional: false,
            recursive: options.recursive_bind,
            copy_link: options.copy_link,
            id_map,
            cut_off: cut_off(&options.propagations),
            proc: is_proc(&destination),
        };
        return Ok(own(Source::Bind(bind), changes));
    }

    let source = mount.source().as_deref();
    let (fs_options, classic) = fs_options(index, &options, source, &label)?;
    if options.remount {
        return Ok(own(
            Source::Remount {
                options: fs_options,
            },
            changes,
        ));
    }
    match kind {
        "" => return Err(Error::invalid(field("type"), "is missing")),
        "bind" | "none" => {
            return Err(Error::invalid(
                field("options"),
                "a bind mount needs \"bind\" or \"rbind\"",
            ));
        }
        _ if kind != "proc" && is_proc(&destination) => {
            return Err(Error::invalid(
                field("destination"),
                "only a proc file system can be mounted on /proc",
            ));
        }
        "cgroup" | "cgroup2" if !surroundings.cgroup_namespace => {
            if let Some(option) = options.data.iter().chain(&options.super_block).next() {
                return Err(refused(
                    option,
                    "is for a cgroup file system of the container's own: it has no cgroup namespace",
                ));
            }
            changes.insert(
                0,
                Change {
                    recursive: false,
                    attributes: options.single,
                },
            );
            changes.retain(|change| change.attributes != MountAttr::default());
            return Ok(own(Source::HostCgroup, changes));
        }
        "sysfs" if surroundings.foreign_network => {
            if let Some(option) = options.data.iter().chain(&options.super_block).next() {
                return Err(refused(
                    option,
                    "is for a sysfs of the container's own: it has no network namespace",
                ));
            }
            if !read_only(mount) {
                return Err(Error::invalid(
                    field("options"),
                    "need \"ro\": the user namespace has no network of its own, so this is the caller's /sys",
                ));
            }
            let attributes = MountAttr {
                set: options.single.set | MOUNT_ATTR_RDONLY,
                ..options.single
            };
            changes.insert(
                0,
                Change {
                    recursive: true,
                    attributes,
                },
            );
            let bind = Bind {
                path: c"/sys".to_owned(),
                // What is mounted below it covers parts of it.
                recursive: true,
                copy_link: false,
                id_map: None,
                cut_off: cut_off(&options.propagations),
                proc: false,
                guarded: None,
                optional: false,
            };
            return Ok(own(Source::Bind(bind), changes));
        }
        _ => {}
    }
    new_file_system(
        index,
        kind,
        &options,
        surroundings,
        fs_options,
        classic,
        &label,
    )
    .map(|new| own(Source::New(new), changes))
}

/// See [`Bind::cut_off`].
fn cut_off(propagations: &[(u64, bool)]) -> Option<u64> {
    let asks = |wanted| propagations.iter().any(|(kind, _)| *kind == wanted);
    if asks(libc::MS_SHARED) {
        Some(0)
    } else {
        asks(libc::MS_SLAVE).then_some(libc::MS_SLAVE)
    }
}

/// Whether a mount as it is written is read-only.
pub(crate) fn read_only(mount: &Mount) -> bool {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    (options.single.set | options.recursive.set) & MOUNT_ATTR_RDONLY != 0
}

/// A path without `.` and `..`, as it is if none of its parts is a link.
pub(crate) fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

fn is_root(destination: &Path) -> bool {
    lexical(destination) == Path::new("/")
}

fn is_proc(destination: &Path) -> bool {
    lexical(destination) == Path::new("/proc")
}

/// Whether a mount may cover a part of `/proc`: what engines mount there, and
/// nothing that reports on processes or is written to (CVE-2019-16884,
/// CVE-2025-52881).
fn may_be_in_proc(destination: &Path) -> bool {
    const ALLOWED: &[&str] = &[
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "sys/crypto/fips_enabled",
        "sys/fs/binfmt_misc",
        "sys/kernel/ns_last_pid",
        "uptime",
    ];
    let path = lexical(destination);
    path.strip_prefix("/proc")
        .is_ok_and(|name| ALLOWED.iter().any(|allowed| name == Path::new(allowed)))
}

/// What is done to the mount once it exists.
fn changes(options: &Options<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    // A new file system has them from its creation.
    if (options.bind || options.remount) && options.single != MountAttr::default() {
        changes.push(Change {
            recursive: false,
            attributes: options.single,
        });
    }
    if options.recursive != MountAttr::default() {
        changes.push(Change {
            recursive: true,
            attributes: options.recursive,
        });
    }
    changes.extend(
        options
            .propagations
            .iter()
            .map(|(propagation, recursive)| Change {
                recursive: *recursive,
                attributes: MountAttr {
                    propagation: *propagation,
                    ..MountAttr::default()
                },
            }),
    );
    changes
}

/// config.md, "Linux mount options", `idmap` and `ridmap`.
fn id_map(
    index: usize,
    mount: &Mount,
    options: &Options<'_>,
    surroundings: &Surroundings,
) -> Result<Option<(IdMap, bool)>, Error> {
    let given = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let recursive = options.id_map.unwrap_or(false);
    if given(mount.uid_mappings()) || given(mount.gid_mappings()) {
        let list = |list: &Option<Vec<_>>| list.clone().unwrap_or_default();
        let mapping = Mapping::plan(
            &format!("mounts[{index}]"),
            &list(mount.uid_mappings()),
            &list(mount.gid_mappings()),
        )?;
        return Ok(Some((IdMap::New(mapping), recursive)));
    }
    if options.id_map.is_none() {
        return Ok(None);
    }
    match &surroundings.id_map {
        Some(map) => Ok(Some((map.clone(), recursive))),
        None => Err(Error::invalid(
            format!("mounts[{index}].options"),
            "\"idmap\" needs uidMappings and gidMappings, or a user namespace of the container",
        )),
    }
}

/// The options for a file system, and the arguments of mount(2) if fsconfig(2)
/// does not accept all of them.
fn fs_options(
    index: usize,
    options: &Options<'_>,
    source: Option<&Path>,
    label: &CStr,
) -> Result<(Vec<FsOption>, Option<Classic>), Error> {
    let field = format!("mounts[{index}].options");
    let mut list = Vec::new();
    if let (false, Some(source)) = (options.remount, source) {
        list.push(FsOption {
            label: label.to_owned(),
            key: c"source".to_owned(),
            value: Some(c_string(
                &format!("mounts[{index}].source"),
                source.as_os_str().as_encoded_bytes(),
            )?),
        });
    }
    // Attributes change only the mount; mount(2) would change both.
    let read_only = match (options.remount, options.single) {
        (true, MountAttr { set, .. }) if set & MOUNT_ATTR_RDONLY != 0 => Some("ro"),
        (true, MountAttr { clear, .. }) if clear & MOUNT_ATTR_RDONLY != 0 => Some("rw"),
        _ => None,
    };
    let asked = options.super_block.iter().chain(&options.data).copied();
    for option in asked.chain(read_only) {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(c_string(&field, value)?)),
            None => (option, None),
        };
        list.push(FsOption {
            label: c_string(&field, format!("{option} of {}", label.to_string_lossy()))?,
            key: c_string(&field, key)?,
            value,
        });
    }
    let too_long = |text: &CString| text.count_bytes() > LONGEST_VALUE;
    if !list
        .iter()
        .any(|option| too_long(&option.key) || option.value.as_ref().is_some_and(too_long))
    {
        return Ok((list, None));
    }
    let data = options.data.join(",");
    if options.remount || data.len() >= 4096 {
        return Err(Error::invalid(field, "is longer than the kernel accepts"));
    }
    let classic = Classic {
        source: c_string(
            &format!("mounts[{index}].source"),
            source
                .unwrap_or(Path::new("none"))
                .as_os_str()
                .as_encoded_bytes(),
        )?,
        flags: options
            .super_block
            .iter()
            .fold(options::classic_flags(options.single.set), |flags, name| {
                flags | options::super_block_flag(name)
            }),
        data: c_string(&field, data)?,
    };
    Ok((list, Some(classic)))
}

fn new_file_system(
    index: usize,
    kind: &str,
    options: &Options<'_>,
    surroundings: &Surroundings,
    mut fs_options: Vec<FsOption>,
    classic: Option<Classic>,
    label: &CStr,
) -> Result<New, Error> {
    // The specification's word for whatever version the host has.
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    let mut flag = |key: &str, value: Option<&str>| {
        let field = format!("mounts[{index}].type");
        fs_options.push(FsOption {
            label: label.to_owned(),
            key: c_string(&field, key)?,
            value: value.map(|value| c_string(&field, value)).transpose()?,
        });
        Ok::<(), Error>(())
    };
    let read_only = options.single.set & MOUNT_ATTR_RDONLY != 0;
    // These are the kernel's own, with one file system for many mounts.
    let of_the_kernel = matches!(
        kind,
        "proc"
            | "sysfs"
            | "mqueue"
            | "cgroup2"
            | "tmpfs"
            | "devpts"
            | "securityfs"
            | "debugfs"
            | "tracefs"
            | "bpf"
            | "efivarfs"
            | "configfs"
            | "fusectl"
            | "pstore"
    );
    if read_only && !of_the_kernel {
        // A device that cannot be written is opened read-only.
        flag("ro", None)?;
    }
    let (kind, subtype) = kind.split_once('.').unwrap_or((kind, ""));
    if !subtype.is_empty() {
        flag("subtype", Some(subtype))?;
    }
    let labelled = !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup2");
    let mut classic = classic;
    if let (true, Some(context)) = (labelled, &surroundings.label) {
        flag("context", Some(context))?;
        if let Some(classic) = &mut classic {
            let data = format!("{},context=\"{context}\"", classic.data.to_string_lossy());
            classic.data = c_string("linux.mountLabel", data)?;
        }
    }
    let tmpfs = kind == "tmpfs";
    if tmpfs && classic.is_some() {
        return Err(Error::invalid(
            format!("mounts[{index}].options"),
            "has an option that is longer than a tmpfs accepts",
        ));
    }
    let read_only_last = tmpfs && read_only;
    Ok(New {
        plain_target: kind == "proc" || kind == "sysfs",
        mode_of_target: tmpfs
            && !options
                .data
                .iter()
                .any(|option| option.starts_with("mode=")),
        copy_up: options.copy_up,
        attributes: if read_only_last {
            options.single.set & !MOUNT_ATTR_RDONLY
        } else {
            options.single.set
        },
        read_only_last,
        kind: c_string(&format!("mounts[{index}].type"), kind)?,
        options: fs_options,
        classic,
    })
}
