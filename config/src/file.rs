//! A file that somebody else may have put there, read without trusting what it
//! is: only a regular file, of bounded length, without ever waiting for it.
//!
//! A path below the state partition can lead to anything: a FIFO, whose opening
//! waits for a writer; a device, whose opening can have an effect of its own; an
//! endless file of procfs. So the path is resolved first, to a descriptor that
//! opens nothing (`O_PATH`); what that is decides whether it is opened.

use std::fs::{File, FileType, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::error::Position;
use crate::{Error, Fault, Key};

/// Reads a text of at most `longest` bytes; `None` where there is no file.
///
/// # Errors
/// It is not a regular file, leads nowhere, cannot be read, is longer, or is not
/// UTF-8.
pub fn read(path: &Path, longest: usize) -> Result<Option<String>, Error> {
    let Some(bytes) = read_bytes(path, longest)? else {
        return Ok(None);
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(not_utf8(path, error.as_bytes())),
    }
}

/// Reads at most `longest` bytes; `None` where there is no file.
///
/// # Errors
/// As of [`read`], whatever the bytes are.
pub fn read_bytes(path: &Path, longest: usize) -> Result<Option<Vec<u8>>, Error> {
    let error = |what: String| Error::of_file(path.display().to_string(), what);
    let unreadable = |cause: std::io::Error| error(format!("cannot be read: {cause}"));
    let place = match options(OFlag::O_PATH).open(path) {
        Ok(place) => place,
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            return match std::fs::read_link(path) {
                Ok(target) => Err(error(format!(
                    "is a link to '{}', which does not exist",
                    target.display()
                ))),
                Err(_) => Ok(None),
            };
        }
        Err(cause) => return Err(unreadable(cause)),
    };
    let kind = place.metadata().map_err(unreadable)?.file_type();
    if !kind.is_file() {
        return Err(error(format!("is {}, expected a regular file", name(kind))));
    }
    // O_NONBLOCK: opening a file that another program has a lease on waits.
    let file = options(OFlag::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))
        .map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One more, to see that it is longer.
    let length = file
        .take(longest as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if length > longest {
        return Err(error(format!(
            "is too long: it may have {longest} bytes at most"
        )));
    }
    Ok(Some(bytes))
}

fn options(flags: OFlag) -> OpenOptions {
    let mut options = File::options();
    // The standard library adds O_CLOEXEC.
    options.read(true).custom_flags(flags.bits());
    options
}

fn name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Where the text stops being UTF-8. Editors that write UTF-16 put a mark of two
/// bytes first; without one, every other byte of a plain text is zero.
fn not_utf8(path: &Path, bytes: &[u8]) -> Error {
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || bytes.iter().take(64).filter(|byte| **byte == 0).count() > 8;
    let good = std::str::from_utf8(bytes)
        .err()
        .map_or(0, |error| error.valid_up_to());
    let text = String::from_utf8_lossy(&bytes[..good]);
    let fault = Fault::new(if is_utf16 {
        "is UTF-16, expected a text in UTF-8".to_owned()
    } else {
        format!(
            "holds the byte 0x{:02x}, which is not UTF-8, expected a text in UTF-8",
            bytes.get(good).copied().unwrap_or_default()
        )
    });
    Error {
        file: path.display().to_string(),
        position: Some(Position::of(&text, text.len())),
        key: Key::root(),
        problem: fault.problem,
        expected: fault.expected,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;

    use super::*;

    fn complaint(path: &Path) -> String {
        let error = read(path, 64).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        error
    }

    /// Hostile: puts a FIFO, a socket, a folder or a device in a file's place. Outcome: an error at once that names the path and what is there; nothing of it is opened.
    #[test]
    fn whatever_is_no_regular_file_is_named_and_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert!(complaint(&fifo).contains("is a FIFO, expected a regular file"));
        let link = folder.path().join("link-to-fifo");
        symlink(&fifo, &link).unwrap();
        assert!(complaint(&link).contains("is a FIFO"));

        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(complaint(&socket).contains("is a socket"));
        assert!(complaint(folder.path()).contains("is a folder"));
        for device in ["/dev/zero", "/dev/null", "/dev/tty"] {
            assert!(complaint(Path::new(device)).contains("is a device"));
        }
    }

    /// Hostile: makes a file endless, or longer than any configuration. Outcome: no more than the bound is read, and the error names it.
    #[test]
    fn no_more_than_the_bound_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(complaint(&path).contains("64 bytes at most"));
        fs::write(&path, [b'x'; 64]).unwrap();
        assert_eq!(read(&path, 64).unwrap().unwrap().len(), 64);
        // procfs says that it has no bytes at all.
        assert!(complaint(Path::new("/proc/self/mountinfo")).contains("at most"));
    }

    #[test]
    fn no_file_is_none_and_a_link_to_nothing_or_to_itself_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("missing"), 64), Ok(None));
        assert_eq!(read(&folder.path().join("missing/below"), 64), Ok(None));
        let link = folder.path().join("link");
        symlink("nowhere", &link).unwrap();
        assert!(complaint(&link).contains("is a link to 'nowhere', which does not exist"));
        let looping = folder.path().join("loop");
        symlink("loop", &looping).unwrap();
        assert!(complaint(&looping).contains("cannot be read"));
        // One that leads to a file is as good as the file.
        fs::write(folder.path().join("nowhere"), "x").unwrap();
        assert_eq!(read(&link, 64), Ok(Some("x".to_owned())));
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let utf16: Vec<u8> = "a = 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(&path, [&[0xff, 0xfe][..], &utf16].concat()).unwrap();
        let error = complaint(&path);
        assert!(
            error.ends_with(":1:1: is UTF-16, expected a text in UTF-8"),
            "{error}"
        );
        fs::write(&path, b"a = 1\nb = \"\xe4\"\n").unwrap();
        let error = complaint(&path);
        assert!(error.contains(":2:6: holds the byte 0xe4"), "{error}");
    }
}
