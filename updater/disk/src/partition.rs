//! One partition of the disk, and what must not be written.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;

use block_device::BlockDevice;
use slots::{Proof, SlotId};

use crate::DiskError;

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Esp,
    Data(SlotId),
    Tree(SlotId),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Esp => f.write_str("the EFI system partition"),
            Self::Data(slot) => write!(f, "slot {slot}'s root"),
            Self::Tree(slot) => write!(f, "slot {slot}'s hash tree"),
        }
    }
}

/// Where a partition is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub number: u32,
    pub start: u64,
    pub length: u64,
    pub role: Role,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} ({})", self.number, self.role)
    }
}

/// What is known of the slots, shared by all writers.
#[derive(Debug)]
pub struct Guard {
    running: Cell<Option<SlotId>>,
    proofs: [Cell<Proof>; 2],
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            running: Cell::new(None),
            proofs: [Cell::new(Proof::Unknown), Cell::new(Proof::Unknown)],
        }
    }
}

impl Guard {
    pub fn set_running(&self, slot: Option<SlotId>) {
        self.running.set(slot);
    }

    pub fn is_running(&self, slot: SlotId) -> bool {
        self.running.get() == Some(slot)
    }

    pub fn proof(&self, slot: SlotId) -> Proof {
        self.proofs[slot.index()].get()
    }

    pub fn set_proof(&self, slot: SlotId, proof: Proof) {
        self.proofs[slot.index()].set(proof);
    }
}

/// A partition, as a device of its own. Nothing beyond it can be read or written
/// through it, and those of the running slot cannot be written. Writing to a slot
/// invalidates its proof.
#[derive(Debug)]
pub struct Partition<D> {
    device: Rc<D>,
    place: Place,
    guard: Rc<Guard>,
}

impl<D: BlockDevice> Partition<D> {
    pub(crate) fn new(device: Rc<D>, place: Place, guard: Rc<Guard>) -> Result<Self, DiskError> {
        match place.start.checked_add(place.length) {
            Some(end) if end <= device.length() => Ok(Self {
                device,
                place,
                guard,
            }),
            _ => Err(DiskError::Layout("the disk ends within a partition")),
        }
    }

    fn check(&self, bytes: usize, offset: u64) -> io::Result<()> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.place.length => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} ends at byte {}", self.place, self.place.length),
            )),
        }
    }

    /// An error with the partition's name.
    fn name(&self, doing: &str) -> impl FnOnce(io::Error) -> io::Error {
        let place = self.place;
        let doing = doing.to_owned();
        move |source| io::Error::new(source.kind(), format!("cannot {doing} {place}: {source}"))
    }
}

impl<D: BlockDevice> BlockDevice for Partition<D> {
    fn length(&self) -> u64 {
        self.place.length
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(bytes.len(), offset)?;
        self.device
            .read_at(bytes, self.place.start + offset)
            .map_err(self.name("read"))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(bytes.len(), offset)?;
        if let Role::Data(slot) | Role::Tree(slot) = self.place.role {
            if self.guard.is_running(slot) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!(
                        "{} holds the running release: it is never written",
                        self.place
                    ),
                ));
            }
            self.guard.set_proof(slot, Proof::Unknown);
        }
        self.device
            .write_at(bytes, self.place.start + offset)
            .map_err(self.name("write"))
    }

    fn flush(&self) -> io::Result<()> {
        self.device.flush().map_err(self.name("write"))
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        self.device.forget(self.place.start + offset, length)
    }
}
