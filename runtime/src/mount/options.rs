//! The options of a mount (runtime-spec, config.md, "Linux mount options"),
//! sorted by what implements them: the mount, its propagation, this runtime, or
//! the file system. Pure.

use crate::sys::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME, MountAttr,
};

/// The options of one mount. A later option overrides an earlier one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options<'a> {
    pub bind: bool,
    pub recursive_bind: bool,
    pub remount: bool,
    pub copy_up: bool,
    pub copy_link: bool,
    /// An id mapping was requested, and whether for the mounts below too.
    pub id_map: Option<bool>,
    /// Attributes of the mount itself.
    pub single: MountAttr,
    /// Attributes of the mount and of those below.
    pub recursive: MountAttr,
    /// Kinds of propagation, and whether they apply below too; in order.
    pub propagations: Vec<(u64, bool)>,
    /// What every file system accepts, but no single mount of one.
    pub super_block: Vec<&'a str>,
    /// What the file system itself has to accept.
    pub data: Vec<&'a str>,
}

/// How an option changes a mount: bits to set, and bits to clear first.
struct Flag {
    name: &'static str,
    set: u64,
    clear: u64,
}

const fn flag(name: &'static str, set: u64, clear: u64) -> Flag {
    Flag { name, set, clear }
}

/// Each may be preceded by `r`: then it also applies to the mounts below.
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
    // What is left without a kind is the kernel's default, which is relatime.
    flag("norelatime", 0, MOUNT_ATTR_ATIME),
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

/// Options of a whole file system, as fsconfig(2) has them, and each one's
/// flag of mount(2).
const SUPER_BLOCK: &[(&str, u64)] = &[
    ("sync", libc::MS_SYNCHRONOUS),
    ("dirsync", libc::MS_DIRSYNC),
    ("lazytime", libc::MS_LAZYTIME),
    ("mand", libc::MS_MANDLOCK),
];

/// Options that ask for what is the case anyway. `silent` and `loud` concern
/// the kernel's log; since Linux 6.1 a file system decides itself whether it
/// counts versions.
const NOTHING: &[&str] = &[
    "defaults",
    "async",
    "nomand",
    "iversion",
    "noiversion",
    "nolazytime",
    "loud",
    "silent",
];

/// Propagation by its name, and whether it also applies to the mounts below.
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

/// The flag of mount(2) for an option of [`Options::super_block`].
pub(super) fn super_block_flag(name: &str) -> u64 {
    SUPER_BLOCK
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |(_, flag)| *flag)
}

/// The flags of mount(2) for attributes of a mount.
pub(super) fn classic_flags(attributes: u64) -> u64 {
    [
        (MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
        (MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
        (MOUNT_ATTR_NODEV, libc::MS_NODEV),
        (MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        (MOUNT_ATTR_NOSYMFOLLOW, 256), // MS_NOSYMFOLLOW
        (MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME),
        (MOUNT_ATTR_NOATIME, libc::MS_NOATIME),
        (MOUNT_ATTR_STRICTATIME, libc::MS_STRICTATIME),
    ]
    .iter()
    .filter(|(attribute, _)| attributes & attribute != 0)
    .fold(0, |flags, (_, flag)| flags | flag)
}

impl<'a> Options<'a> {
    pub fn parse(options: &'a [String]) -> Options<'a> {
        let mut parsed = Options::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &'a str) {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive_bind) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_link = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            _ if NOTHING.contains(&option) => {}
            _ if SUPER_BLOCK.iter().any(|(name, _)| *name == option) => {
                self.super_block.push(option);
            }
            _ => {
                if let Some(propagation) = propagation(option) {
                    self.propagations.push(propagation);
                } else if let Some((flag, below)) = attribute(option) {
                    let attributes = if below {
                        &mut self.recursive
                    } else {
                        &mut self.single
                    };
                    apply(attributes, flag);
                } else {
                    self.data.push(option);
                }
            }
        }
    }
}

/// All options that this runtime implements itself, for its list of features.
pub fn known() -> Vec<String> {
    let own = ["bind", "rbind", "remount", "tmpcopyup", "copy-symlink"];
    let mut names: Vec<String> = [own.as_slice(), &["idmap", "ridmap"], NOTHING]
        .concat()
        .into_iter()
        .chain(SUPER_BLOCK.iter().map(|(name, _)| *name))
        .map(String::from)
        .collect();
    let both = FLAGS
        .iter()
        .map(|flag| flag.name)
        .chain(PROPAGATION.iter().map(|(name, _)| *name));
    for name in both {
        names.extend([name.to_string(), format!("r{name}")]);
    }
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(|option| option.to_string()).collect()
    }

    #[test]
    fn later_options_win_over_earlier_ones() {
        let list = strings(&["ro", "rw", "noatime", "relatime"]);
        let options = Options::parse(&list);
        assert_eq!(options.single.set, 0);
        assert_eq!(options.single.clear, MOUNT_ATTR_RDONLY | MOUNT_ATTR_ATIME);
    }

    #[test]
    fn relatime_is_not_taken_for_a_recursive_elatime() {
        let list = strings(&["rrelatime", "relatime"]);
        let options = Options::parse(&list);
        assert_eq!(options.single.clear, MOUNT_ATTR_ATIME);
        assert_eq!(options.recursive.clear, MOUNT_ATTR_ATIME);
        assert!(options.data.is_empty());
    }

    #[test]
    fn what_nobody_knows_goes_to_the_file_system() {
        let list = strings(&["size=64k", "sync", "rsync", "rshared", "rbind"]);
        let options = Options::parse(&list);
        assert_eq!(options.data, ["size=64k", "rsync"]);
        assert_eq!(options.super_block, ["sync"]);
        assert_eq!(options.propagations, [(libc::MS_SHARED, true)]);
        assert!(options.bind && options.recursive_bind);
    }

    #[test]
    fn every_option_of_the_specification_is_known() {
        let known = known();
        for option in [
            "async",
            "atime",
            "bind",
            "defaults",
            "dev",
            "diratime",
            "dirsync",
            "exec",
            "idmap",
            "iversion",
            "lazytime",
            "loud",
            "mand",
            "noatime",
            "nodev",
            "nodiratime",
            "noexec",
            "noiversion",
            "nolazytime",
            "nomand",
            "norelatime",
            "nostrictatime",
            "nosuid",
            "nosymfollow",
            "private",
            "ratime",
            "rbind",
            "rdev",
            "rdiratime",
            "relatime",
            "remount",
            "rexec",
            "ridmap",
            "rnoatime",
            "rnodev",
            "rnodiratime",
            "rnoexec",
            "rnorelatime",
            "rnostrictatime",
            "rnosuid",
            "rnosymfollow",
            "ro",
            "rprivate",
            "rrelatime",
            "rro",
            "rrw",
            "rshared",
            "rslave",
            "rstrictatime",
            "rsuid",
            "rsymfollow",
            "runbindable",
            "rw",
            "shared",
            "silent",
            "slave",
            "strictatime",
            "suid",
            "symfollow",
            "sync",
            "tmpcopyup",
            "unbindable",
        ] {
            assert!(known.iter().any(|name| name == option), "{option}");
        }
    }
}
