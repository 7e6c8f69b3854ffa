//! Paths of the host that a container may have changed, opened without following
//! any link.
//!
//! A container that can write to a folder of the host can put a link in the
//! place of a part of a path; whoever follows it shows another container what
//! the link leads to. So such a path is opened part by part below a folder that
//! no container can replace.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use crate::Error;
use crate::sys;
use crate::text::{absolute, c_string};

/// How paths of the host are opened ([`crate::Prepared::guard`]).
#[derive(Clone, Copy, Debug)]
pub struct HostPaths<'a> {
    /// Folders that no container can replace, as absolute paths without links.
    /// No link is followed in the path of the root or of a bind mount's source
    /// that is one of them or below one.
    pub guarded: &'a [&'a str],
    /// Those of them below which a bind mount's source is made, as a folder,
    /// where it is missing.
    pub made: &'a [&'a str],
    /// Numbers in `mounts` of the bind mounts that are left out where the source
    /// does not exist.
    pub optional: &'a [usize],
}

/// A path below a folder that no container can replace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guarded {
    folder: CString,
    parts: Vec<CString>,
    make: bool,
}

impl Guarded {
    /// `None` where the path is not below a guarded folder.
    pub fn plan(path: &CStr, host: &HostPaths<'_>, may_make: bool) -> Result<Option<Self>, Error> {
        let path = Path::new(std::ffi::OsStr::new(path.to_str().unwrap_or_default()));
        let Some((folder, rest)) = below(path, host.guarded) else {
            return Ok(None);
        };
        Ok(Some(Self {
            folder: absolute("a guarded folder", Path::new(folder))?,
            parts: rest
                .components()
                .map(|part| c_string("a guarded path", part.as_os_str().as_encoded_bytes()))
                .collect::<Result<_, _>>()?,
            make: may_make && below(path, host.made).is_some(),
        }))
    }

    /// Opens the path, only as a place. ELOOP: a part is a link. Does not
    /// allocate.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        let mut here = openat2(AT_FDCWD, self.folder.as_c_str(), how())?;
        for part in &self.parts {
            here = match openat2(&here, part.as_c_str(), how()) {
                Err(Errno::ENOENT) if self.make => {
                    match mkdirat(&here, part.as_c_str(), Mode::from_bits_truncate(0o755)) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    openat2(&here, part.as_c_str(), how())?
                }
                result => result?,
            };
        }
        Ok(here)
    }
}

/// The first of the folders that the path is or is below, and the rest of it.
fn below<'a>(path: &'a Path, folders: &[&'a str]) -> Option<(&'a str, &'a Path)> {
    let mut folders = folders.iter();
    folders.find_map(|folder| Some((*folder, path.strip_prefix(folder).ok()?)))
}

/// Opens a path that is not below any of the folders. ELOOP: links lead into one.
/// Does not allocate.
pub(super) fn open_outside(path: &CStr, folders: &[CString]) -> Result<OwnedFd, Errno> {
    let place = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    // What procfs says, not what the path says.
    let own = nix::fcntl::open(
        c"/proc/self/fd",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut digits = [0_u8; 12];
    let mut target = [0_u8; libc::PATH_MAX as usize];
    let target = sys::read_link(
        own.as_fd(),
        decimal(place.as_raw_fd(), &mut digits),
        &mut target,
    )?;
    let is_inside = |folder: &CString| {
        let rest = target.strip_prefix(folder.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    if folders.iter().any(is_inside) {
        return Err(Errno::ELOOP);
    }
    Ok(place)
}

/// A descriptor's number as text.
fn decimal(number: RawFd, digits: &mut [u8; 12]) -> &CStr {
    let mut rest = number.unsigned_abs();
    let mut start = digits.len() - 1;
    digits[start] = 0;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return CStr::from_bytes_with_nul(&digits[start..]).unwrap_or_default();
        }
    }
}

fn how() -> OpenHow {
    OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(folder: &Path, rest: &str, make: bool) -> Result<OwnedFd, Errno> {
        let folder = folder.to_str().unwrap();
        let host = HostPaths {
            guarded: &[folder],
            made: if make { &[folder] } else { &[] },
            optional: &[],
        };
        let path = CString::new(format!("{folder}/{rest}")).unwrap();
        let guarded = Guarded::plan(&path, &host, true).unwrap().unwrap();
        guarded.open()
    }

    /// Hostile: puts a link in the place of any part of another container's mount source. Outcome: the other container does not start, and its error names the link's mount.
    #[test]
    fn no_part_of_a_guarded_path_is_a_link() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        symlink("/", folder.path().join("a/last")).unwrap();
        symlink("a", folder.path().join("first")).unwrap();
        assert!(open(folder.path(), "a/b", false).is_ok());
        for path in ["a/last", "first/b", "a/last/etc"] {
            let error = open(folder.path(), path, true).unwrap_err();
            assert_eq!(error, Errno::ELOOP, "{path}");
        }
        assert!(open(folder.path(), "", false).is_ok());
    }

    #[test]
    fn what_is_missing_is_made_only_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            open(folder.path(), "x/y", false).unwrap_err(),
            Errno::ENOENT
        );
        assert!(open(folder.path(), "x/y", true).is_ok());
        assert!(folder.path().join("x/y").is_dir());
    }

    /// Hostile: puts a link into a folder that another path of the host leads through. Outcome: a mount by way of that path is refused.
    #[test]
    fn no_link_leads_from_elsewhere_into_a_guarded_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(folder.join("guarded/a")).unwrap();
        std::fs::create_dir(folder.join("guarded-not")).unwrap();
        symlink("guarded/a", folder.join("link")).unwrap();
        symlink("guarded-not", folder.join("other")).unwrap();
        let c = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
        let guarded = [c(&folder.join("guarded"))];
        let open = |name: &str| open_outside(&c(&folder.join(name)), &guarded).map(drop);
        assert_eq!(open("link"), Err(Errno::ELOOP));
        assert_eq!(open("other"), Ok(()));
        assert_eq!(open("nothing"), Err(Errno::ENOENT));
    }

    #[test]
    fn a_path_elsewhere_is_not_guarded() {
        let host = HostPaths {
            guarded: &["/state", "/run/wherry"],
            made: &[],
            optional: &[],
        };
        for (path, is_guarded) in [
            (c"/state", true),
            (c"/state/x", true),
            (c"/run/wherry/x", true),
            (c"/statex", false),
            (c"/usr/lib", false),
        ] {
            let guarded = Guarded::plan(path, &host, true).unwrap();
            assert_eq!(guarded.is_some(), is_guarded, "{path:?}");
        }
    }
}
