//! Where a container's cgroup is: the v2 tree as this process sees it, and the
//! way down to a path in it.
//!
//! A cgroup can hold processes or delegate controllers, not both (the kernel's
//! rule of no internal processes). So missing cgroups above a container's are
//! created and delegate every controller that they can; setting a limit shows
//! whether its controller has arrived.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use oci_spec::runtime::LinuxResources;

use super::{Cgroup, error, open, read, write};
use crate::Error;

/// The v2 tree, and this process's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// Which part of it is mounted there: a path in the caller's cgroup
    /// namespace.
    root: PathBuf,
    /// The caller's own cgroup, the same way.
    own: PathBuf,
}

impl Hierarchy {
    /// Finds the tree in the caller's mount table.
    pub fn find() -> Result<Hierarchy, Error> {
        let load = |path: &str| {
            fs::read_to_string(path).map_err(|source| {
                let errno = source.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                error(path, "read".into(), errno)
            })
        };
        parse(&load("/proc/self/mountinfo")?, &load("/proc/self/cgroup")?)
            .ok_or_else(|| error("/sys/fs/cgroup", "find cgroup v2".into(), Errno::ENOENT))
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount
    }

    /// The path below the mount for a container with this `linux.cgroupsPath`.
    ///
    /// An absolute one starts at the mount. A relative one (or, without one,
    /// the container's name) starts beside the caller's own cgroup, which
    /// cannot delegate anything while the caller is in it.
    pub fn resolve(&self, cgroups_path: Option<&Path>, id: &str) -> Result<PathBuf, Error> {
        let field = "linux.cgroupsPath";
        let path = match cgroups_path {
            Some(path) if !path.as_os_str().is_empty() => path,
            Some(_) | None => Path::new(id),
        };
        if path
            .components()
            .any(|part| matches!(part, Component::ParentDir))
        {
            return Err(Error::invalid(field, "contains \"..\""));
        }
        let resolved = if path.is_absolute() {
            normal(path)
        } else {
            let own = self.own.parent().unwrap_or(&self.own);
            self.below_mount(own)?.join(normal(path))
        };
        if resolved.as_os_str().is_empty() {
            return Err(Error::invalid(field, "is the root of the tree"));
        }
        Ok(resolved)
    }

    /// The path below the mount of a cgroup that is named from the root of the
    /// tree, as `/proc/<pid>/cgroup` and systemd name it.
    pub fn below_mount(&self, cgroup: &Path) -> Result<PathBuf, Error> {
        cgroup.strip_prefix(&self.root).map(normal).map_err(|_| {
            error(
                cgroup,
                format!(
                    "find below {}, where {} is mounted",
                    self.mount.display(),
                    self.root.display()
                ),
                Errno::ENOENT,
            )
        })
    }

    /// Resolves the path and creates the cgroup there ([`Hierarchy::create`]).
    ///
    /// `None` if a caller without privileges may create none, has not said
    /// where it should be, and asks for no limit: the container then stays in
    /// the caller's.
    pub fn place(
        &self,
        cgroups_path: Option<&Path>,
        id: &str,
        resources: &LinuxResources,
    ) -> Result<Option<Cgroup>, Error> {
        let created = self
            .resolve(cgroups_path, id)
            .and_then(|path| self.create(&path, resources));
        let optional = cgroups_path.is_none_or(|path| path.as_os_str().is_empty())
            && super::settings(resources)?.is_empty()
            && unprivileged();
        match created {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(Error::Cgroup {
                errno: Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ENOENT,
                ..
            }) if optional => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the existing cgroup at a path below the mount.
    pub fn open(&self, path: &Path) -> Result<Cgroup, Error> {
        let (above, name) = split(path)?;
        let parent = self.directory(&self.mount.join(above))?;
        let mut cgroup = open(parent.as_fd(), &name)?;
        cgroup.path = Some(self.mount.join(path));
        Ok(cgroup)
    }

    /// Creates the cgroup at a path below the mount, and those above it, and
    /// sets its limits and device rules.
    ///
    /// An existing one must be empty and not frozen: its processes would get
    /// the limits of a container that is not theirs, or be mistaken for it. If
    /// this fails, everything that it has created is removed.
    pub fn create(&self, path: &Path, resources: &LinuxResources) -> Result<Cgroup, Error> {
        let (above, name) = split(path)?;
        let mut made = Made(Vec::new());
        let mut parents = vec![self.directory(&self.mount)?];
        for part in above.components() {
            let parent = &parents[parents.len() - 1];
            let next = made.directory(parent, part.as_ref())?;
            parents.push(next);
        }
        let parent = &parents[parents.len() - 1];
        let _directory = made.directory(parent, name.as_ref())?;
        let mut cgroup = open(parent.as_fd(), &name)?;
        cgroup.path = Some(self.mount.join(path));
        check_usable(&cgroup)?;
        hand_down(&parents, &cgroup)?;
        cgroup.configure(resources)?;
        made.0.clear();
        Ok(cgroup)
    }

    /// Opens a cgroup that somebody else has created for a container, and sets
    /// its limits and device rules. A process may be in it.
    pub fn adopt(&self, path: &Path, resources: &LinuxResources) -> Result<Cgroup, Error> {
        let cgroup = self.open(path)?;
        let there = read(cgroup.fd(), "cgroup.controllers").unwrap_or_default();
        let missing = super::settings(resources)?.iter().any(|setting| {
            let controller = setting.file.split('.').next();
            !there
                .split_ascii_whitespace()
                .any(|word| Some(word) == controller)
        });
        if missing {
            let mut parents = Vec::new();
            let above: Vec<_> = path.ancestors().skip(1).collect();
            for path in above.into_iter().rev() {
                parents.push(self.directory(&self.mount.join(path))?);
            }
            hand_down(&parents, &cgroup)?;
        }
        cgroup.configure(resources)?;
        Ok(cgroup)
    }

    fn directory(&self, path: &Path) -> Result<OwnedFd, Error> {
        nix::fcntl::open(
            path,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| error(path, "open".into(), errno))
    }
}

/// Whether the caller is not the machine's root: a different user, or root of a
/// user namespace.
pub fn unprivileged() -> bool {
    let whole = |map: String| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    !nix::unistd::geteuid().is_root()
        || fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !whole(map))
}

/// The cgroups that were created; they are removed again unless everything
/// succeeds.
struct Made(Vec<(OwnedFd, PathBuf)>);

impl Made {
    /// Opens `name` below `parent`; creates it first if it is missing.
    fn directory(&mut self, parent: &OwnedFd, name: &Path) -> Result<OwnedFd, Error> {
        // First what may fail: what was made must be noted.
        let noted = parent.try_clone().map_err(|source| {
            let errno = source.raw_os_error().map_or(Errno::EMFILE, Errno::from_raw);
            error(name, "open".into(), errno)
        })?;
        match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => self.0.push((noted, name.to_path_buf())),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(error(name, "mkdir".into(), errno)),
        }
        openat(
            parent,
            name,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| error(name, "open".into(), errno))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (parent, name) in self.0.drain(..).rev() {
            // If somebody else uses it by now, it stays.
            let _ = unlinkat(&parent, &name, UnlinkatFlags::RemoveDir);
        }
    }
}

/// Whether a container can be put there.
fn check_usable(cgroup: &Cgroup) -> Result<(), Error> {
    let refused = |operation: &str, errno| Err(cgroup.error("", operation.into(), errno));
    // No such file: the root of the tree.
    let kind = read(cgroup.fd(), "cgroup.type").unwrap_or_default();
    match kind.trim() {
        "domain invalid" => {
            return refused(
                "use (a cgroup above it is threaded: choose another linux.cgroupsPath)",
                Errno::EOPNOTSUPP,
            );
        }
        "threaded" | "domain threaded" => {
            return refused(
                "use (it is threaded: choose another linux.cgroupsPath)",
                Errno::EOPNOTSUPP,
            );
        }
        _ => {}
    }
    if cgroup.populated()? {
        return refused(
            "use (it holds processes already: choose another linux.cgroupsPath)",
            Errno::EBUSY,
        );
    }
    if cgroup.frozen()? {
        return refused("use (it is frozen)", Errno::EBUSY);
    }
    Ok(())
}

/// Delegates the controllers of the tree's top to the cgroup, through
/// `parents`.
///
/// One that cannot be delegated is skipped here: perhaps nothing needs it.
fn hand_down(parents: &[OwnedFd], cgroup: &Cgroup) -> Result<(), Error> {
    let file = "cgroup.controllers";
    let controllers = |directory: &OwnedFd| {
        read(directory.as_fd(), file).map_err(|errno| cgroup.error(file, "read".into(), errno))
    };
    let all = controllers(&parents[0])?;
    if all == controllers(&cgroup.directory)? {
        return Ok(());
    }
    for parent in parents {
        let there = read(parent.as_fd(), "cgroup.subtree_control").unwrap_or_default();
        let missing: Vec<String> = all
            .split_ascii_whitespace()
            .filter(|controller| {
                !there
                    .split_ascii_whitespace()
                    .any(|word| word == *controller)
            })
            .map(|controller| format!("+{controller}"))
            .collect();
        if missing.is_empty()
            || write(parent.as_fd(), "cgroup.subtree_control", &missing.join(" ")).is_ok()
        {
            continue;
        }
        for controller in missing {
            let _ = write(parent.as_fd(), "cgroup.subtree_control", &controller);
        }
    }
    Ok(())
}

/// The directory above a path below the mount, and the last name.
fn split(path: &Path) -> Result<(&Path, String), Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(above), Some(name)) if path.is_relative() => Ok((above, name.to_string())),
        _ => Err(Error::invalid(
            "linux.cgroupsPath",
            format!("{} is not the path of a cgroup", path.display()),
        )),
    }
}

/// Without leading slashes and inner dots.
fn normal(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

/// The tree by `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn parse(mountinfo: &str, cgroup: &str) -> Option<Hierarchy> {
    let own = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(PathBuf::from)?;
    let mounts: Vec<(PathBuf, PathBuf)> = mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            if after.split(' ').next() != Some("cgroup2") {
                return None;
            }
            let mut words = before.split(' ').skip(3);
            Some((unescape(words.next()?), unescape(words.next()?)))
        })
        .collect();
    // A tree may be mounted again elsewhere (in containers' roots): the usual
    // mount points are the caller's own.
    let usual = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let (root, mount) = usual
        .iter()
        .find_map(|usual| {
            mounts
                .iter()
                // The last one is on top.
                .rfind(|(_, mount)| mount == Path::new(usual))
        })
        .or_else(|| mounts.iter().find(|(root, _)| own.starts_with(root)))
        .or_else(|| mounts.first())?
        .clone();
    Some(Hierarchy { mount, root, own })
}

/// A field of the mount table, where some characters are three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURE: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "\
        40 23 0:30 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
        41 40 0:31 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw\n\
        42 40 0:32 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory\n";

    fn tree(mountinfo: &str, cgroup: &str) -> Hierarchy {
        parse(mountinfo, cgroup).unwrap()
    }

    fn resolved(tree: &Hierarchy, path: &str) -> String {
        let path = tree.resolve(Some(Path::new(path)), "name").unwrap();
        path.to_str().unwrap().to_string()
    }

    #[test]
    fn the_tree_is_found_where_v1_is_too() {
        let own = "12:memory:/x\n0::/user.slice/session.scope\n";
        let hybrid = tree(HYBRID, own);
        assert_eq!(hybrid.mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(hybrid.own, Path::new("/user.slice/session.scope"));
        assert_eq!(tree(PURE, own).mount, Path::new("/sys/fs/cgroup"));
        assert_eq!(parse("", own), None);
        assert_eq!(parse(PURE, "12:memory:/x\n"), None);
    }

    #[test]
    fn the_usual_place_wins_and_the_mount_on_top_of_it() {
        let mounts = format!(
            "1 1 0:26 / /run/a\\040b/cgroup rw - cgroup2 cgroup2 rw\n{PURE}\
             31 30 0:26 /inner /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
        );
        let found = tree(&mounts, "0::/inner/me\n");
        assert_eq!(found.root, Path::new("/inner"));
        let elsewhere = mounts.lines().next().unwrap();
        let found = tree(elsewhere, "0::/\n");
        assert_eq!(found.mount, Path::new("/run/a b/cgroup"));
    }

    #[test]
    fn an_absolute_path_begins_at_the_mount_and_a_relative_one_beside_the_caller() {
        let host = tree(PURE, "0::/user.slice/session.scope\n");
        assert_eq!(resolved(&host, "/docker/abc"), "docker/abc");
        assert_eq!(resolved(&host, "//a/./b/"), "a/b");
        assert_eq!(resolved(&host, "x/y"), "user.slice/x/y");
        assert_eq!(resolved(&host, ""), "user.slice/name");
        assert_eq!(
            host.resolve(None, "name").unwrap(),
            Path::new("user.slice/name")
        );
        let root = tree(PURE, "0::/\n");
        assert_eq!(resolved(&root, "x"), "x");
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree_shows_only_that_part() {
        let mounts = "30 23 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let inside = tree(mounts, "0::/box/init\n");
        assert_eq!(resolved(&inside, "x"), "x");
        let outside = tree(mounts, "0::/other/init\n");
        let text = outside.resolve(None, "x").unwrap_err().to_string();
        assert!(text.contains("/other"), "{text}");
    }

    #[test]
    fn no_path_leads_up_or_to_the_root() {
        let host = tree(PURE, "0::/\n");
        for path in ["/a/../../b", "..", "/", "/."] {
            let text = host
                .resolve(Some(Path::new(path)), "x")
                .unwrap_err()
                .to_string();
            assert!(text.starts_with("linux.cgroupsPath"), "{path}: {text}");
        }
    }
}
