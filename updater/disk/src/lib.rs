//! The disk that the system boots from: its two slots, the boot entries and the
//! boot loader on its EFI system partition.
//!
//! [`SystemDisk`] works on a whole disk, a device node or an image. Nothing is
//! mounted. [`SystemDisk::view`] is what [`slots::next`] looks at,
//! [`SystemDisk::perform`] performs its actions; what needs a release's bytes
//! (filling a slot, staging a kernel image, another boot loader) has methods of
//! its own.
//!
//! What always holds:
//! - Nothing of the running release's slot is written, neither its content nor
//!   its name.
//! - A slot gets a release's name only when all of it was read back from the
//!   medium in this run and has that release's root hash.
//! - The running release's last boot entry is not removed.
//! - The boot loader is never replaced by an older one.
//! - Each change is on the medium when the call returns, and a power cut within
//!   it leaves the disk in the old or the new state ([`esp`],
//!   [`partition_table`]).
//!
//! `docs/disk-layout.md` is the manual page. Sources: Boot Loader Specification
//! (UAPI.1: names, counting), Unified Kernel Image (UAPI.5: sections),
//! Discoverable Partitions Specification (UAPI.2: types, ids of a verity root).

mod boot_disk;
mod entry;
mod error;
mod loader;
mod partition;
mod places;
mod prove;
mod stage;

use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::path::Path;
use std::rc::Rc;

use block_device::{BlockDevice, Disk};
use esp::FileSystem;
use layout::entry::STAGED;
use layout::partition::Label;
use partition_table::{Sectors, Table, rewrite};
use release::RootHash;
use slots::{Action, Proof, SlotId, SlotView, Staged, View};

pub use boot_disk::boot_disk;
pub use error::DiskError;
/// The root hash of what runs, from the kernel's command line.
pub use layout::command_line::root_hash as booted;
pub use partition::Partition;
pub use stage::Stage;

use partition::{Guard, Place};
use places::Places;

/// A slot's partitions.
#[derive(Debug)]
pub struct Slot<D> {
    /// The root file system's.
    pub data: Partition<D>,
    /// The hash tree's.
    pub tree: Partition<D>,
}

/// The disk.
#[derive(Debug)]
pub struct SystemDisk<D: BlockDevice> {
    disk: Sectors<Rc<D>>,
    places: Places,
    esp: FileSystem<Partition<D>>,
    booted: Option<RootHash>,
    guard: Rc<Guard>,
    /// The staged kernel image, where it was read in this run.
    staged: Cell<Option<Staged>>,
    /// The partition table as it is on the disk.
    table: RefCell<Table>,
}

impl SystemDisk<Disk> {
    /// Opens a device node or an image file.
    ///
    /// # Errors
    /// It cannot be opened for reading and writing, or is no system disk.
    pub fn open_path(path: &Path, booted: Option<RootHash>) -> Result<Self, DiskError> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .and_then(Disk::new)
            .map_err(|source| DiskError::Open {
                path: path.to_owned(),
                source,
            })?;
        Self::open(device, booted)
    }
}

impl<D: BlockDevice> SystemDisk<D> {
    /// Opens a disk. Writes nothing. `booted` is the root hash of what runs
    /// ([`booted`]); `None` for an image that nothing runs from.
    ///
    /// # Errors
    /// It is no system disk, or could not be read.
    pub fn open(device: D, booted: Option<RootHash>) -> Result<Self, DiskError> {
        let device = Rc::new(device);
        let (disk, table) = places::read_table(device)?;
        let places = Places::of(&table)?;
        let guard = Rc::new(Guard::default());
        let esp = FileSystem::open(Partition::new(
            Rc::clone(&disk.device),
            places.esp,
            Rc::clone(&guard),
        )?)?;
        let this = Self {
            disk,
            places,
            esp,
            booted,
            guard,
            staged: Cell::new(None),
            table: RefCell::new(table),
        };
        this.note_running();
        Ok(this)
    }

    /// The ESP's file system.
    pub fn esp(&self) -> &FileSystem<Partition<D>> {
        &self.esp
    }

    /// The disk's current state.
    ///
    /// # Errors
    /// It could not be read, or its ESP is damaged.
    pub fn view(&self) -> Result<View, DiskError> {
        self.look()?;
        Ok(View {
            booted: self.booted,
            slots: [self.slot_view(SlotId::A), self.slot_view(SlotId::B)],
            entries: entry::list(&self.esp)?,
            staged: self.staged()?,
            esp_free: self.esp.free(),
            loader: loader::installed(&self.esp)?,
        })
    }

    fn slot_view(&self, slot: SlotId) -> SlotView {
        let table = self.table.borrow();
        let places = &self.places.slots[slot.index()];
        let (data_id, tree_id) = places::ids(&table, places);
        SlotView {
            label: places::label(&table, places),
            data_id,
            tree_id,
            data_length: places.data.length,
            tree_length: places.tree.length,
            proof: self.guard.proof(slot),
        }
    }

    /// A slot's partitions. Those of the running slot refuse to be written.
    ///
    /// # Errors
    /// The disk ends before.
    pub fn slot(&self, slot: SlotId) -> Result<Slot<D>, DiskError> {
        let places = &self.places.slots[slot.index()];
        let open = |place: Place| {
            Partition::new(Rc::clone(&self.disk.device), place, Rc::clone(&self.guard))
        };
        Ok(Slot {
            data: open(places.data)?,
            tree: open(places.tree)?,
        })
    }

    /// Does one of the actions that need nothing but the disk.
    ///
    /// # Errors
    /// The disk failed, it is one of the other actions, or doing it would make
    /// the machine unbootable.
    pub fn perform(&self, action: &Action) -> Result<(), DiskError> {
        match action {
            Action::RemoveEntry { file } => {
                self.keep_running_entry(file)?;
                Ok(self.esp.remove(&entry::path(file)?)?)
            }
            Action::RemoveStaged => {
                self.staged.set(None);
                Ok(self.esp.remove(&entry::path(STAGED)?)?)
            }
            Action::EmptySlot { slot } => {
                let places = self.places.slots[slot.index()];
                let guid = self.table.borrow().disk_guid;
                let ids =
                    [places.data, places.tree].map(|place| places::empty_id(&guid, place.number));
                self.name(*slot, &Label::Empty, ids)
            }
            Action::NameSlot {
                slot,
                version,
                root_hash,
            } => {
                if self.guard.proof(*slot) != Proof::Whole(*root_hash) {
                    return Err(DiskError::Unproven {
                        slot: *slot,
                        root_hash: *root_hash,
                    });
                }
                let ids = [root_hash.data_id(), root_hash.tree_id()];
                self.name(*slot, &Label::Release(version.clone()), ids)
            }
            Action::PublishUki { file } => {
                self.staged.set(None);
                Ok(self
                    .esp
                    .rename(&entry::path(STAGED)?, entry::checked(file)?)?)
            }
            Action::RenameEntry { from, to } => {
                Ok(self.esp.rename(&entry::path(from)?, entry::checked(to)?)?)
            }
            Action::ProveSlot { slot } => self.prove_named(*slot, &mut |_| {}).map(drop),
            Action::FillSlot { .. } | Action::StageUki | Action::UpdateLoader => {
                Err(DiskError::NeedsRelease(action.clone()))
            }
        }
    }

    /// Gives both partitions of a slot a label and their ids, atomically.
    fn name(&self, slot: SlotId, label: &Label, ids: [[u8; 16]; 2]) -> Result<(), DiskError> {
        if self.guard.is_running(slot) {
            return Err(DiskError::Running(slot));
        }
        self.look()?;
        let places = self.places.slots[slot.index()];
        let mut table = self.table.borrow().clone();
        for (place, id) in [places.data, places.tree].into_iter().zip(ids) {
            if let Some(partition) = table.partition_mut(place.number) {
                partition.set_name(&label.to_string());
                partition.set_id(id);
            }
        }
        rewrite(&self.disk, &table)
            .map_err(DiskError::io("write the partition table", "of the disk"))?;
        self.table.replace(table);
        Ok(())
    }

    /// Reads the partition table again: others change it too, such as the state
    /// service, and their changes must not be undone.
    fn look(&self) -> Result<(), DiskError> {
        let (_, table) = places::read_table(Rc::clone(&self.disk.device))?;
        if Places::of(&table)? != self.places {
            return Err(DiskError::Layout(
                "its partitions have been moved in the meantime; restart the updater",
            ));
        }
        self.table.replace(table);
        Ok(())
    }

    /// Keeps the running release bootable.
    fn keep_running_entry(&self, file: &str) -> Result<(), DiskError> {
        let Some(booted) = self.booted else {
            return Ok(());
        };
        let entries = entry::list(&self.esp)?;
        let is_running = |entry: &slots::Entry| entry.root_hash == Some(booted);
        let is_last = entries
            .iter()
            .any(|entry| entry.file == file && is_running(entry))
            && entries.iter().filter(|entry| is_running(entry)).count() == 1;
        if is_last {
            return Err(DiskError::LastEntry(file.to_owned()));
        }
        Ok(())
    }

    /// Remembers which slot must not be written.
    fn note_running(&self) {
        let running = SlotId::ALL.into_iter().find(|slot| {
            self.booted
                .is_some_and(|booted| self.slot_view(*slot).is_named(&booted))
        });
        self.guard.set_running(running);
    }

    /// A boot entry's kernel image, to take pieces from.
    ///
    /// # Errors
    /// There is none of this name, or it could not be read.
    pub fn entry_file(&self, file: &str) -> Result<esp::File<'_, Partition<D>>, DiskError> {
        Ok(self.esp.file(&entry::path(file)?)?)
    }

    /// Replaces the copies of the boot loader on the ESP that are older than
    /// this one, and reads them back. Returns whether there were any.
    ///
    /// # Errors
    /// It is no systemd-boot, there is no room, or the disk failed.
    pub fn update_loader(&self, loader: &[u8]) -> Result<bool, DiskError> {
        loader::update(&self.esp, loader)
    }
}
