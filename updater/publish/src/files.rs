//! Files that appear completely or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atomic_file::{NEW, sync_folder};
use aws_lc_rs::digest::{Context, SHA256};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek64};
use release::Sha256Sum;

use crate::error::{Error, Result};
use crate::progress::Progress;

/// The SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Sha256Sum {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    sum(context)
}

fn sum(context: Context) -> Sha256Sum {
    let mut sum = [0; 32];
    sum.copy_from_slice(context.finish().as_ref());
    Sha256Sum(sum)
}

/// Reads a whole file that has at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::release(
            path,
            format!("more than the maximum of {limit} bytes"),
        ));
    }
    Ok(bytes)
}

/// Replaces a file as a whole.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    put_with_mode(path, bytes, 0o644)
}

/// The same for a file that only its owner may read.
pub(crate) fn put_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    put_with_mode(path, bytes, 0o600)
}

fn put_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    make_folder(parent(path))?;
    let options = atomic_file::Options {
        mode: Some(mode),
        sync: true,
    };
    atomic_file::replace_with(path, bytes, options).map_err(Error::file("write", path))
}

/// Creates a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("create the folder", path))
}

/// A folder that appears under its name once it is complete.
pub(crate) struct NewFolder {
    path: PathBuf,
    target: PathBuf,
}

impl NewFolder {
    /// Starts what will become `target`; removes what an interrupted run left.
    pub(crate) fn begin(target: &Path) -> Result<Self> {
        let name = name(target);
        let path = target.with_file_name(format!("{NEW}{name}"));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
        }
        make_folder(&path)?;
        Ok(Self {
            path,
            target: target.to_owned(),
        })
    }

    /// Where its files are written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name.
    pub(crate) fn finish(self) -> Result<()> {
        let rename = || -> io::Result<()> {
            sync_folder(&self.path)?;
            fs::rename(&self.path, &self.target)?;
            sync_folder(parent(&self.target))
        };
        rename().map_err(Error::file("create", &self.target))
    }
}

/// Removes leftovers of interrupted runs from a folder.
pub(crate) fn remove_unfinished(folder: &Path) -> Result<()> {
    for path in entries(folder)? {
        let unfinished = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(NEW));
        if unfinished {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file or a folder with everything in it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(Error::file("remove", path))
}

/// The contents of a folder, by name; empty if there is no such folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.map_err(Error::file("read", folder))?,
    };
    let mut paths = list
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::file("read", folder))?;
    paths.sort();
    Ok(paths)
}

/// A file's length and SHA-256.
pub(crate) fn measure(path: &Path, progress: &dyn Progress) -> Result<(u64, Sha256Sum)> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    pass(&file, None, progress).map_err(Error::file("read", path))
}

/// Copies a file, preserving holes, and returns its length and SHA-256.
pub(crate) fn copy(from: &Path, to: &Path, progress: &dyn Progress) -> Result<(u64, Sha256Sum)> {
    let source = File::open(from).map_err(Error::file("open", from))?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(to)
        .map_err(Error::file("create", to))?;
    let measured = pass(&source, Some(&target), progress).map_err(Error::file("copy", from))?;
    target
        .set_len(measured.0)
        .and_then(|()| target.set_permissions(Permissions::from_mode(0o644)))
        .and_then(|()| target.sync_all())
        .map_err(Error::file("write", to))?;
    Ok(measured)
}

/// Reads a file; does not write zeros to `target`, which is new.
fn pass(
    source: &File,
    target: Option<&File>,
    progress: &dyn Progress,
) -> io::Result<(u64, Sha256Sum)> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let length = source.metadata()?.len();
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let (begin, end) = next_data(source, at, length)?;
        let mut hole = begin - at;
        while hole > 0 {
            let part = hole.min(ZEROS.len() as u64);
            context.update(&ZEROS[..part as usize]);
            hole -= part;
            progress.add(part);
        }
        (&*source).seek(SeekFrom::Start(begin))?;
        if let Some(mut target) = target {
            target.seek(SeekFrom::Start(begin))?;
        }
        at = begin;
        while at < end {
            let part = (end - at).min(buffer.len() as u64) as usize;
            (&*source).read_exact(&mut buffer[..part])?;
            context.update(&buffer[..part]);
            if let Some(mut target) = target {
                target.write_all(&buffer[..part])?;
            }
            at += part as u64;
            progress.add(part as u64);
        }
    }
    Ok((length, sum(context)))
}

/// The next range of a file that is not a hole.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<(u64, u64)> {
    let offset = i64::try_from(at).map_err(io::Error::other)?;
    let begin = match lseek64(file, offset, Whence::SeekData) {
        Ok(begin) => begin,
        // Only a hole up to the end.
        Err(Errno::ENXIO) => return Ok((length, length)),
        // A file system that does not report holes.
        Err(_) => return Ok((at, length)),
    };
    let end = lseek64(file, begin, Whence::SeekHole)?;
    Ok((begin.unsigned_abs(), end.unsigned_abs().min(length)))
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The folder that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}
