//! A device that fails.

use std::cell::Cell;
use std::io;

use crate::BlockDevice;

/// A device whose writes and flushes fail from some moment on; reads go on. What
/// a failed write was to write does not reach the device below.
#[derive(Debug)]
pub struct Failing<D> {
    device: D,
    /// Writes and flushes that still reach it; `None`: any number.
    left: Cell<Option<u64>>,
    kind: io::ErrorKind,
}

impl<D> Failing<D> {
    /// What every failure says.
    pub const MESSAGE: &str = "the device failed";

    /// A device that does not fail yet ([`Failing::fail_after`]).
    pub fn new(device: D) -> Self {
        Self::with_kind(device, io::ErrorKind::Other)
    }

    /// A device whose failures will be of this kind.
    pub fn with_kind(device: D, kind: io::ErrorKind) -> Self {
        Self {
            device,
            left: Cell::new(None),
            kind,
        }
    }

    /// Lets so many more writes and flushes pass; `None` lets all pass.
    pub fn fail_after(&self, left: Option<u64>) {
        self.left.set(left);
    }

    /// The device below.
    pub fn device(&self) -> &D {
        &self.device
    }

    fn count(&self) -> io::Result<()> {
        let Some(left) = self.left.get() else {
            return Ok(());
        };
        let Some(left) = left.checked_sub(1) else {
            return Err(io::Error::new(self.kind, Self::MESSAGE));
        };
        self.left.set(Some(left));
        Ok(())
    }
}

impl<D: BlockDevice> BlockDevice for Failing<D> {
    fn length(&self) -> u64 {
        self.device.length()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.device.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.count()?;
        self.device.write_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.count()?;
        self.device.flush()
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        self.device.forget(offset, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recorder;

    #[test]
    fn a_device_fails_from_the_moment_on_that_it_is_told() {
        let device = Failing::with_kind(
            Recorder::new(vec![0; 512]),
            io::ErrorKind::ReadOnlyFilesystem,
        );
        device.write_at(&[1], 0).unwrap();
        device.fail_after(Some(2));
        device.write_at(&[2], 0).unwrap();
        device.flush().unwrap();
        for error in [device.write_at(&[3], 0), device.flush()].map(Result::unwrap_err) {
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        let mut byte = [0];
        device.read_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [2]);
        device.fail_after(None);
        device.write_at(&[3], 0).unwrap();
        assert_eq!(device.device().now()[0], 3);
    }
}
