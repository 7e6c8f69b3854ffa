//! Paths of the container, resolved and created inside its root.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};

use crate::sys;

/// The kernel's own limit of links in one path.
const LINKS: usize = 40;
/// How often to try a path that others keep moving.
const ATTEMPTS: usize = 10_000;
const PATH_MAX: usize = libc::PATH_MAX as usize;

fn open(root: &OwnedFd, path: &CStr, flags: OFlag, how: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
        .resolve(how | ResolveFlag::RESOLVE_IN_ROOT);
    let mut attempts = 0;
    loop {
        match openat2(root, path, how) {
            // The path contains `..`, and somebody on this machine, perhaps
            // another container in its set-up, renamed or mounted something
            // meanwhile (openat2(2)).
            Err(Errno::EAGAIN) if attempts < ATTEMPTS => attempts += 1,
            result => return result,
        }
    }
}

/// Resolves a path inside the root, following links inside it only; a plain one has none.
pub(super) fn resolve(root: &OwnedFd, path: &CStr, plain: bool) -> Result<OwnedFd, Errno> {
    let how = if plain {
        ResolveFlag::RESOLVE_NO_SYMLINKS
    } else {
        ResolveFlag::empty()
    };
    open(root, path, OFlag::empty(), how)
}

/// Resolves a path that need not exist.
pub(super) fn existing(root: &OwnedFd, path: &CStr, plain: bool) -> Result<Option<OwnedFd>, Errno> {
    match resolve(root, path, plain) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn kind(file: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT
}

pub(super) fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(kind(&fstat(fd)?) == SFlag::S_IFDIR)
}

/// An existing or new directory inside the root.
pub(super) fn directory(root: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    match resolve(root, path, false) {
        Err(Errno::ENOENT) => make(root, path, Make::Directory),
        result => result,
    }
}

/// How the last part of a path is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    Directory,
    File,
    /// Nothing: only its directory is created, and returned.
    Parent,
}

/// Creates what is missing of a path inside the root, and opens it.
///
/// Links apply inside the root, dangling ones too: their targets are created
/// there. Each part is opened again from the root by a path without links, and
/// created by its bare name in the opened directory, where a link is not
/// followed.
pub(super) fn make(root: &OwnedFd, path: &CStr, last_as: Make) -> Result<OwnedFd, Errno> {
    let mut rest = Rest::new(path.to_bytes())?;
    let mut done = Done::new();
    let mut here = open(root, c"/", OFlag::empty(), ResolveFlag::empty())?;
    let mut links = 0;
    while let Some((name, last)) = rest.take() {
        if last && last_as == Make::Parent {
            return Ok(here);
        }
        let before = done.length;
        done.push(name)?;
        let found = match open_plain(root, &mut done) {
            Err(Errno::ENOENT) if name != b".." => {
                let name = done.name(before)?;
                let made = if last && last_as == Make::File {
                    let mode = Mode::from_bits_truncate(0o644);
                    mknodat(&here, name, SFlag::S_IFREG, mode, 0)
                } else {
                    mkdirat(&here, name, Mode::from_bits_truncate(0o755))
                };
                match made {
                    // Another container with this root has just created it.
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open_plain(root, &mut done)?
            }
            result => result?,
        };
        if kind(&fstat(&found)?) == SFlag::S_IFLNK {
            links += 1;
            if links > LINKS {
                return Err(Errno::ELOOP);
            }
            done.length = before;
            rest.follow(&found, &mut done)?;
            here = open_plain(root, &mut done)?;
        } else {
            here = found;
        }
    }
    Ok(here)
}

/// What is at a path without links; a link there is opened itself.
fn open_plain(root: &OwnedFd, path: &mut Done) -> Result<OwnedFd, Errno> {
    open(
        root,
        path.path()?,
        OFlag::O_NOFOLLOW,
        ResolveFlag::RESOLVE_NO_SYMLINKS,
    )
}

/// The rest of a path, at the end of its buffer.
struct Rest {
    bytes: [u8; PATH_MAX],
    start: usize,
}

impl Rest {
    fn new(path: &[u8]) -> Result<Rest, Errno> {
        let mut rest = Rest {
            bytes: [0; PATH_MAX],
            start: PATH_MAX,
        };
        rest.prepend(path)?;
        Ok(rest)
    }

    fn prepend(&mut self, path: &[u8]) -> Result<(), Errno> {
        let start = self
            .start
            .checked_sub(path.len())
            .ok_or(Errno::ENAMETOOLONG)?;
        self.bytes[start..self.start].copy_from_slice(path);
        self.start = start;
        Ok(())
    }

    /// The next part that is a name or `..`, and whether it is the last one.
    fn take(&mut self) -> Option<(&[u8], bool)> {
        loop {
            while self.start < PATH_MAX && self.bytes[self.start] == b'/' {
                self.start += 1;
            }
            let start = self.start;
            while self.start < PATH_MAX && self.bytes[self.start] != b'/' {
                self.start += 1;
            }
            if start == self.start {
                return None;
            }
            if self.bytes[start..self.start] != *b"." {
                let last = self.bytes[self.start..].iter().all(|byte| *byte == b'/');
                return Some((&self.bytes[start..self.start], last));
            }
        }
    }

    /// Continues where a link points to.
    fn follow(&mut self, link: &OwnedFd, done: &mut Done) -> Result<(), Errno> {
        let mut text = [0_u8; PATH_MAX];
        let text = sys::read_link(link.as_fd(), c"", &mut text)?;
        if text.first() == Some(&b'/') {
            done.length = 0;
        }
        self.prepend(b"/")?;
        self.prepend(text)
    }
}

/// A path inside the root without any link.
struct Done {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Done {
    fn new() -> Done {
        Done {
            bytes: [0; PATH_MAX],
            length: 0,
        }
    }

    fn push(&mut self, name: &[u8]) -> Result<(), Errno> {
        if name == b".." {
            let parent = self.bytes[..self.length]
                .iter()
                .rposition(|byte| *byte == b'/');
            self.length = parent.unwrap_or(0);
            return Ok(());
        }
        let end = self.length + 1 + name.len();
        // A place for the NUL.
        if end >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.bytes[self.length] = b'/';
        self.bytes[self.length + 1..end].copy_from_slice(name);
        self.length = end;
        Ok(())
    }

    fn path(&mut self) -> Result<&CStr, Errno> {
        if self.length == 0 {
            return Ok(c"/");
        }
        self.bytes[self.length] = 0;
        CStr::from_bytes_with_nul(&self.bytes[..=self.length]).map_err(|_| Errno::EINVAL)
    }

    /// The part that was pushed when the length was `before`.
    fn name(&self, before: usize) -> Result<&CStr, Errno> {
        let name = self
            .bytes
            .get(before + 1..=self.length)
            .ok_or(Errno::EINVAL)?;
        CStr::from_bytes_with_nul(name).map_err(|_| Errno::EINVAL)
    }
}
