//! Copies of disk images that stay sparse.

use crate::Error;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Copies `from` to a new file `to`, holes as holes, and makes it `bytes` large
/// unless the source is larger.
pub fn copy_sparse(from: &Path, to: &Path, bytes: u64) -> Result<(), Error> {
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    let length = source.metadata().map_err(Error::io("read", from))?.len();
    if let Err(error) = fs::remove_file(to)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(Error::io("replace", to)(error));
    }
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)
        .map_err(Error::io("create", to))?;
    target
        .set_len(length.max(bytes))
        .map_err(Error::io("grow", to))?;
    copy_data(&mut source, &mut target, length).map_err(Error::io("write", to))
}

fn copy_data(source: &mut File, target: &mut File, length: u64) -> io::Result<()> {
    let mut at = 0;
    while let Some(start) = seek(source, at, Whence::SeekData)? {
        let end = seek(source, start, Whence::SeekHole)?.unwrap_or(length);
        source.seek(SeekFrom::Start(start))?;
        target.seek(SeekFrom::Start(start))?;
        io::copy(&mut Read::take(&mut *source, end - start), target)?;
        at = end;
    }
    Ok(())
}

/// The next data or hole at or after `at`; nothing when there is no more data.
fn seek(file: &File, at: u64, whence: Whence) -> io::Result<Option<u64>> {
    let at = i64::try_from(at).map_err(io::Error::other)?;
    match lseek(file, at, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::copy_sparse;
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_has_the_data_and_keeps_the_holes() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        file.write_all_at(b"middle", 33 << 20).unwrap();
        drop(file);

        copy_sparse(&from, &to, 128 << 20).unwrap();

        let copy = fs::read(&to).unwrap();
        assert_eq!(copy.len(), 128 << 20);
        assert_eq!(&copy[..4], b"head");
        assert_eq!(&copy[33 << 20..(33 << 20) + 6], b"middle");
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
    }
}
