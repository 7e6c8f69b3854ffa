//! The home directory of a process whose environment names none: that of its
//! user in the container's `/etc/passwd`, else `/`.
//!
//! The file is the image's, so it may contain anything: it is read line by line
//! through a small buffer, and a line that does not fit belongs to no user.

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};

/// `HOME=` and a path, without a NUL at the end.
#[derive(Debug)]
pub(crate) struct Home {
    bytes: [u8; LENGTH],
    length: usize,
}

const NAME: &[u8] = b"HOME=";
/// The longest home accepted from the file.
const LENGTH: usize = 1024;
/// How much of the file is read.
const MOST: usize = 1 << 20;

impl Home {
    fn new(path: &[u8]) -> Home {
        let mut home = Home {
            bytes: [0; LENGTH],
            length: NAME.len() + path.len(),
        };
        home.bytes[..NAME.len()].copy_from_slice(NAME);
        home.bytes[NAME.len()..home.length].copy_from_slice(path);
        home
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// In the container's root. Does not allocate.
    pub fn find(uid: u32) -> Home {
        find(uid).ok().flatten().unwrap_or(Home::new(b"/"))
    }
}

fn find(uid: u32) -> Result<Option<Home>, Errno> {
    let file = openat2(
        nix::fcntl::AT_FDCWD,
        c"/etc/passwd",
        OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS),
    )?;
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Ok(None);
    }
    let mut lines = Lines::new(uid);
    let mut buffer = [0; 4096];
    for _ in 0..MOST / buffer.len() {
        let length = nix::unistd::read(&file, &mut buffer)?;
        if length == 0 {
            return Ok(lines.end());
        }
        if let Some(home) = lines.push(&buffer[..length]) {
            return Ok(Some(home));
        }
    }
    Ok(None)
}

/// The line that is being read.
struct Lines {
    uid: u32,
    line: [u8; LENGTH],
    length: usize,
}

impl Lines {
    fn new(uid: u32) -> Lines {
        Lines {
            uid,
            line: [0; LENGTH],
            length: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Option<Home> {
        for byte in bytes {
            if *byte == b'\n' {
                if let Some(home) = self.end() {
                    return Some(home);
                }
            } else {
                if let Some(place) = self.line.get_mut(self.length) {
                    *place = *byte;
                }
                self.length = self.length.saturating_add(1);
            }
        }
        None
    }

    fn end(&mut self) -> Option<Home> {
        let line = self.line.get(..self.length);
        self.length = 0;
        home(line?, self.uid)
    }
}

/// The home from a line, if it is this user's:
/// `name:x:uid:gid:comment:home:shell`.
fn home(line: &[u8], uid: u32) -> Option<Home> {
    let mut parts = line.split(|byte| *byte == b':');
    let number = std::str::from_utf8(parts.nth(2)?).ok()?;
    if number.parse::<u32>() != Ok(uid) {
        return None;
    }
    let path = parts.nth(2)?;
    let fits = path.len() <= LENGTH - NAME.len() && !path.contains(&0);
    (fits && path.starts_with(b"/")).then(|| Home::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &[u8], chunk: usize) -> Option<String> {
        let mut lines = Lines::new(1000);
        let home = text.chunks(chunk).find_map(|bytes| lines.push(bytes));
        home.or_else(|| lines.end())
            .map(|home| String::from_utf8(home.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn the_home_of_the_user_is_found_however_the_file_is_read() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n#:\n::1000\nme:x:1000:1000::/home/me:/bin/sh\nx:x:1000:1::/other:";
        for chunk in [1, 7, 4096] {
            assert_eq!(look(text, chunk).as_deref(), Some("HOME=/home/me"));
        }
        assert_eq!(
            look(b"me:x:1000:1000::/home/last", 9).as_deref(),
            Some("HOME=/home/last")
        );
    }

    #[test]
    fn what_is_no_home_is_passed_over() {
        let mut long = b"me:x:1000:1000::/".to_vec();
        long.extend([b'a'; LENGTH]);
        assert_eq!(look(&long, 100), None);
        for line in [
            b"me:x:1000:1000::relative:".as_slice(),
            b"me:x:1000:1000:::",
            b"me:x:1000",
            b"me:x:4294968296:0::/wrapped:",
            b"me:x:1000:1000::/with\0nul:",
            b"\xff:\xff:\xff:\xff:\xff:/x",
        ] {
            assert_eq!(look(line, 4096), None);
        }
    }
}
