//! A file's content: read at any place, written from its start.

use std::io;

use block_device::{BlockDevice, ReadAt};

use crate::boot_sector::Geometry;
use crate::table::Chain;
use crate::{Error, FileSystem};

/// A file to read. Its reads are invalid once the file was replaced or removed.
#[derive(Clone, Debug)]
pub struct File<'a, D> {
    pub(crate) device: &'a D,
    pub(crate) geometry: Geometry,
    pub(crate) chain: Chain,
    pub(crate) length: u64,
}

impl<D: BlockDevice> File<'_, D> {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes the next reads come from the medium.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget(&self) -> Result<(), Error> {
        for (first, count) in &self.chain.0 {
            let length = u64::from(*count) * self.geometry.cluster;
            self.device
                .forget(self.geometry.offset(*first), length)
                .map_err(Error::io("drop from the cache what was read of"))?;
        }
        Ok(())
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// The file ends before, or the device could not be read.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        let fits = offset
            .checked_add(bytes.len() as u64)
            .is_some_and(|end| end <= self.length);
        if !fits {
            let end = std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("the file ends at byte {}", self.length),
            );
            return Err(Error::io("read a file of")(end));
        }
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            let Some((place, piece)) = self.chain.locate(&self.geometry, at) else {
                break;
            };
            let length = rest.len().min(usize::try_from(piece).unwrap_or(usize::MAX));
            let (part, behind) = rest.split_at_mut(length);
            self.device
                .read_at(part, place)
                .map_err(Error::io("read a file of"))?;
            at += length as u64;
            rest = behind;
        }
        Ok(())
    }
}

impl<D: BlockDevice> ReadAt for File<'_, D> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        File::read_at(self, bytes, offset).map_err(|error| match error {
            Error::Io { source, .. } => source,
            other => io::Error::other(other),
        })
    }
}

/// A file that is being written. It is invisible before [`Writer::finish`], and
/// without it nothing is left.
#[derive(Debug)]
pub struct Writer<'a, D: BlockDevice> {
    pub(crate) system: &'a FileSystem<D>,
    pub(crate) path: String,
    pub(crate) replaces: bool,
    /// Clusters that are its own in memory only.
    pub(crate) chain: Chain,
    pub(crate) promised: u64,
    pub(crate) written: u64,
}

impl<D: BlockDevice> Writer<'_, D> {
    /// Adds bytes.
    ///
    /// # Errors
    /// They are more than was promised, or the device could not be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.promised - self.written < bytes.len() as u64 {
            return Err(Error::Length {
                promised: self.promised,
                written: self.written + bytes.len() as u64,
            });
        }
        self.put(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            let Some((place, piece)) = self.chain.locate(&self.system.geometry, at) else {
                break;
            };
            let length = rest.len().min(usize::try_from(piece).unwrap_or(usize::MAX));
            self.system
                .device
                .write_at(&rest[..length], place)
                .map_err(Error::io("write a file of"))?;
            at += length as u64;
            rest = &rest[length..];
        }
        Ok(())
    }

    /// Makes it the file, when all of it is on the medium.
    ///
    /// # Errors
    /// Bytes are missing, or the device failed: then the file is as it was.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.written != self.promised {
            return Err(Error::Length {
                promised: self.promised,
                written: self.written,
            });
        }
        let slack = (self.chain.count() * self.system.geometry.cluster - self.written) as usize;
        self.put(&vec![0; slack], self.written)?;
        let length = self.promised as u32;
        self.system
            .publish(&self.path, &mut self.chain, length, self.replaces)
    }
}

impl<D: BlockDevice> Drop for Writer<'_, D> {
    fn drop(&mut self) {
        self.system.give_back(&self.chain);
    }
}
