//! A kernel image that is being staged beside the boot entries.

use std::io;

use block_device::BlockDevice;
use layout::entry::{FOLDER, STAGED};
use release::Sha256Sum;
use sha2::{Digest, Sha256};
use slots::Staged;

use crate::{DiskError, Partition, SystemDisk, entry};

/// What is read at once.
const PIECE: usize = 256 * 1024;

/// The kernel image while it is written. Nothing is left of it without
/// [`Stage::finish`].
#[derive(Debug)]
pub struct Stage<'a, D: BlockDevice> {
    disk: &'a SystemDisk<D>,
    writer: esp::Writer<'a, Partition<D>>,
    hash: Sha256,
}

impl<D: BlockDevice> SystemDisk<D> {
    /// Begins to stage a kernel image of so many bytes; an earlier one is
    /// replaced at the end.
    ///
    /// # Errors
    /// There is no room, or the disk failed.
    pub fn stage_uki(&self, length: u64) -> Result<Stage<'_, D>, DiskError> {
        if let Some((parent, _)) = FOLDER.rsplit_once('/') {
            self.esp.create_folder(parent)?;
        }
        self.esp.create_folder(FOLDER)?;
        Ok(Stage {
            disk: self,
            writer: self.esp.replace(&entry::path(STAGED)?, length)?,
            hash: Sha256::new(),
        })
    }

    /// What is staged; read from the medium, unless it was read already.
    pub(crate) fn staged(&self) -> Result<Option<Staged>, DiskError> {
        if let Some(staged) = self.staged.get() {
            return Ok(Some(staged));
        }
        let path = entry::path(STAGED)?;
        let staged = match self.esp.find(&path)? {
            Some(found) if !found.is_folder && !self.esp.findings().twins.contains(&path) => {
                Some(Staged {
                    length: found.length,
                    sha256: self.read_back(&path)?,
                })
            }
            _ => None,
        };
        self.staged.set(staged);
        Ok(staged)
    }

    fn read_back(&self, path: &str) -> Result<Sha256Sum, DiskError> {
        let file = self.esp.file(path)?;
        file.forget()?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < file.length() {
            let length = (file.length() - at).min(PIECE as u64) as usize;
            file.read_at(&mut piece[..length], at)?;
            hash.update(&piece[..length]);
            at += length as u64;
        }
        Ok(Sha256Sum(hash.finalize().into()))
    }
}

impl<D: BlockDevice> Stage<'_, D> {
    /// Finishes: all of it is on the medium and was read back.
    ///
    /// # Errors
    /// It does not match `expected`, or the disk failed.
    pub fn finish(self, expected: &Sha256Sum) -> Result<(), DiskError> {
        let Self { disk, writer, hash } = self;
        let sha256 = Sha256Sum(hash.finalize().into());
        if sha256 != *expected {
            return Err(DiskError::Stage(format!(
                "its SHA-256 is {sha256}, not {expected}"
            )));
        }
        disk.staged.set(None);
        writer.finish()?;
        match disk.staged()? {
            Some(staged) if staged.sha256 == *expected => Ok(()),
            _ => Err(DiskError::ReadBack(format!(
                "'/{FOLDER}/{STAGED}' on the EFI system partition"
            ))),
        }
    }
}

impl<D: BlockDevice> io::Write for Stage<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(io::Error::other)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
