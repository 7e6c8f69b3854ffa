//! A device that counts what is written to it: flash wears, and the benchmark
//! says how much.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use block_device::BlockDevice;

/// A device with a count of the bytes written.
#[derive(Debug)]
pub struct Metered<D> {
    device: D,
    written: Rc<Cell<u64>>,
}

impl<D> Metered<D> {
    /// Counts on in `written`.
    pub fn new(device: D, written: Rc<Cell<u64>>) -> Self {
        Self { device, written }
    }
}

impl<D: BlockDevice> BlockDevice for Metered<D> {
    fn length(&self) -> u64 {
        self.device.length()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.device.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.device.write_at(bytes, offset)?;
        self.written.set(self.written.get() + bytes.len() as u64);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.device.flush()
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        self.device.forget(offset, length)
    }
}
