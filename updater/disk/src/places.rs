//! Finds the ESP and the slots in the partition table.

use std::rc::Rc;

use block_device::BlockDevice;
use layout::partition::{ESP, Label, ROOT, ROOT_VERITY, SlotId};
use partition_table::{Entry, Sectors, Table, gpt};
use sha2::{Digest, Sha256};

use crate::DiskError;
use crate::partition::{Place, Role};

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub esp: Place,
    pub slots: [SlotPlaces; 2],
}

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPlaces {
    pub data: Place,
    pub tree: Place,
}

/// Reads the partition table, whether the disk's sectors have 512 bytes or 4096.
pub fn read_table<D: BlockDevice>(device: Rc<D>) -> Result<(Sectors<Rc<D>>, Table), DiskError> {
    let mut from_backup = None;
    for sector_size in [512, 4096] {
        let disk = Sectors {
            device: Rc::clone(&device),
            sector_size,
        };
        if disk.count() < 2 {
            break;
        }
        let copies =
            gpt::read(&disk).map_err(DiskError::io("read the partition table of", "the disk"))?;
        if let Some(primary) = copies.primary {
            return Ok((disk, primary.table));
        }
        if let Some(backup) = copies.backup {
            from_backup.get_or_insert((disk, backup.table));
        }
    }
    from_backup.ok_or(DiskError::NoTable)
}

impl Places {
    /// Finds the ESP and the slots: the first root and the first hash tree are
    /// slot A's, the second ones slot B's.
    pub fn of(table: &Table) -> Result<Self, DiskError> {
        let place = |(number, entry): (u32, &Entry), role| {
            let sectors = entry.last().checked_sub(entry.first());
            sectors
                .and_then(|sectors| (sectors + 1).checked_mul(table.sector_size))
                .zip(entry.first().checked_mul(table.sector_size))
                .map(|(length, start)| Place {
                    number,
                    start,
                    length,
                    role,
                })
                .ok_or(DiskError::Layout("a partition ends before it begins"))
        };
        let pair = |kind, what, role: fn(SlotId) -> Role| {
            let mut found = table.of_type(kind);
            match (found.next(), found.next(), found.next()) {
                (Some(a), Some(b), None) => {
                    Ok([place(a, role(SlotId::A))?, place(b, role(SlotId::B))?])
                }
                _ => Err(DiskError::Layout(what)),
            }
        };
        let esp = table
            .of_type(ESP)
            .next()
            .ok_or(DiskError::Layout("it has no EFI system partition"))?;
        let data = pair(
            ROOT,
            "it does not have two root partitions (type root x86-64)",
            Role::Data,
        )?;
        let tree = pair(
            ROOT_VERITY,
            "it does not have two hash tree partitions (type root verity x86-64)",
            Role::Tree,
        )?;
        Ok(Self {
            esp: place(esp, Role::Esp)?,
            slots: [0, 1].map(|slot| SlotPlaces {
                data: data[slot],
                tree: tree[slot],
            }),
        })
    }
}

/// A slot's ids: the data partition's and the hash tree's.
pub fn ids(table: &Table, places: &SlotPlaces) -> ([u8; 16], [u8; 16]) {
    let id = |place: Place| {
        table
            .partition(place.number)
            .map(Entry::id)
            .unwrap_or_default()
    };
    (id(places.data), id(places.tree))
}

/// A slot's label.
pub fn label(table: &Table, places: &SlotPlaces) -> Label {
    let name = |place: Place| {
        table
            .partition(place.number)
            .map(Entry::name)
            .unwrap_or_default()
    };
    Label::of(&name(places.data), &name(places.tree))
}

/// The id of a partition of an empty slot: always the same on one disk, unlike
/// any other partition's, and no end of a root hash that anybody could find. A
/// UUID of version 8 (RFC 9562, 5.8).
pub fn empty_id(disk: &[u8; 16], number: u32) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(b"an empty slot of Wherry")
        .chain_update(disk)
        .chain_update(number.to_le_bytes())
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}
