//! A disk, a partition of one, or an image of either: bytes at offsets, and a
//! flush.
//!
//! Everything that changes a system disk is written against [`BlockDevice`], so
//! that the same code works on `/dev/vda`, on an image file, and on a
//! [`Recorder`] that tells what a power cut could leave behind, or [`Failing`].

mod failing;
mod overlay;
mod recorder;
pub mod sysfs;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

pub use failing::Failing;
pub use overlay::Overlay;
pub use recorder::{Recorder, Write};

/// Bytes at offsets. All methods take `&self`: a device is shared.
pub trait BlockDevice {
    /// Its size in bytes.
    fn length(&self) -> u64;

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// The device could not be read, or ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. It is on the medium only after the
    /// next [`BlockDevice::flush`]; until then a power cut leaves any part of
    /// it behind, sector by sector.
    ///
    /// # Errors
    /// The device could not be written, or ends before.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Waits until everything written is on the medium.
    ///
    /// # Errors
    /// Some of it could not be written.
    fn flush(&self) -> io::Result<()>;

    /// Makes the next reads of a range come from the medium: drops its flushed
    /// part from the kernel's cache. Does nothing without a cache.
    ///
    /// # Errors
    /// The kernel refused.
    fn forget(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Something read-only: a file on a disk, a buffer.
pub trait ReadAt {
    /// Its size in bytes.
    fn length(&self) -> u64;

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// It could not be read, or ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        within(self.length(), bytes.len(), offset)?;
        let start = offset as usize;
        bytes.copy_from_slice(&self[start..start + bytes.len()]);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn length(&self) -> u64 {
        self.as_slice().length()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_at(bytes, offset)
    }
}

/// A file or a block device node with its size.
#[derive(Debug)]
pub struct Disk {
    file: File,
    length: u64,
}

impl Disk {
    /// Takes an open file. Its size is the position of its end, which holds for
    /// device nodes too.
    ///
    /// # Errors
    /// Its size cannot be determined.
    pub fn new(mut file: File) -> io::Result<Self> {
        let length = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(Self { file, length })
    }

    /// The file, for operations that only a file has.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl BlockDevice for Disk {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        within(self.length, bytes.len(), offset)?;
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        posix_fadvise(
            &self.file,
            i64::try_from(offset).map_err(too_long)?,
            i64::try_from(length).map_err(too_long)?,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )
        .map_err(io::Error::from)
    }
}

impl<T: BlockDevice + ?Sized> BlockDevice for &T {
    fn length(&self) -> u64 {
        (**self).length()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        (**self).forget(offset, length)
    }
}

impl<T: BlockDevice + ?Sized> BlockDevice for Rc<T> {
    fn length(&self) -> u64 {
        (**self).length()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        (**self).forget(offset, length)
    }
}

/// A range of a device, such as a partition. Nothing outside it can be read or
/// written through it.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a, D: ?Sized> {
    device: &'a D,
    start: u64,
    length: u64,
}

impl<'a, D: BlockDevice + ?Sized> Region<'a, D> {
    /// `length` bytes of `device` from byte `start`.
    ///
    /// # Errors
    /// The device ends before.
    pub fn new(device: &'a D, start: u64, length: u64) -> io::Result<Self> {
        match start.checked_add(length) {
            Some(end) if end <= device.length() => Ok(Self {
                device,
                start,
                length,
            }),
            _ => Err(beyond(device.length())),
        }
    }
}

impl<D: BlockDevice + ?Sized> BlockDevice for Region<'_, D> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        within(self.length, bytes.len(), offset)?;
        self.device.read_at(bytes, self.start + offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        within(self.length, bytes.len(), offset)?;
        self.device.write_at(bytes, self.start + offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.device.flush()
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        self.device.forget(self.start + offset, length)
    }
}

fn within(length: u64, bytes: usize, offset: u64) -> io::Result<()> {
    match offset.checked_add(bytes as u64) {
        Some(end) if end <= length => Ok(()),
        _ => Err(beyond(length)),
    }
}

fn beyond(length: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the device ends at byte {length}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_ends_where_it_ends() {
        let disk = Recorder::new(vec![0; 4096]);
        let region = Region::new(&disk, 1024, 512).unwrap();
        region.write_at(&[7; 512], 0).unwrap();
        assert!(region.write_at(&[7; 512], 1).is_err());
        assert!(region.read_at(&mut [0; 2], 511).is_err());
        assert!(Region::new(&disk, 4000, 100).is_err());
        let now = disk.now();
        assert!(now[1024..1536].iter().all(|byte| *byte == 7));
        assert!(now[..1024].iter().chain(&now[1536..]).all(|b| *b == 0));
    }
}
