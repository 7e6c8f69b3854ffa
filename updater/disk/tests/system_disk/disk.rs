//! A small system disk, and what drives it to a goal.

use std::io::Write;

use block_device::BlockDevice;
use layout::partition;
use partition_table::gpt::{HeaderPlace, PRIMARY, PRIMARY_ARRAY};
use partition_table::{Entry, Table};
use slots::{Action, Goal, Proof, Refusal, SlotId, Step, View, next};
use system_disk::{DiskError, SystemDisk};

use crate::format::{Shape, format};
use crate::release::{DATA, Release};

/// Where the first partition begins.
const FIRST: u64 = 64 * 1024;
/// Bytes of a slot's hash tree partition.
const TREE: u64 = 16 * 1024;

/// How a disk's content is to be.
pub struct Content<'a> {
    /// What is in slots A and B.
    pub slots: [Option<&'a Release>; 2],
    /// The boot entries: name and release.
    pub entries: &'a [(&'a str, &'a Release)],
    /// Whose boot loader there is.
    pub loader: &'a Release,
    /// Other files among the boot entries.
    pub others: usize,
    pub sector_size: u64,
}

/// Makes a disk.
pub fn disk(content: &Content<'_>) -> Vec<u8> {
    let sector_size = content.sector_size;
    // The update machine leaves a MiB free.
    let clusters = if sector_size == 512 { 2300 } else { 300 };
    let esp = format(Shape {
        sector: sector_size as usize,
        per_cluster: 1,
        clusters,
    });
    let mut table = Table {
        sector_size,
        disk_guid: [0x77; 16],
        first_usable: FIRST / sector_size,
        last_usable: 0,
        entries: vec![Entry::UNUSED; 32],
    };
    let mut at = FIRST;
    let mut places = Vec::new();
    for (index, (kind, length)) in [
        (partition::ESP, esp.len() as u64),
        (partition::ROOT, DATA + 4096),
        (partition::ROOT_VERITY, TREE),
        (partition::ROOT, DATA + 4096),
        (partition::ROOT_VERITY, TREE),
        (partition::LINUX_GENERIC, 4096),
    ]
    .into_iter()
    .enumerate()
    {
        let (first, last) = (at / sector_size, (at + length) / sector_size - 1);
        let id = [index as u8 + 1; 16];
        table.entries[index] = Entry::new(kind, id, first, last, "_empty");
        places.push(at as usize);
        at += length;
    }
    table.entries[0].set_name("esp");
    table.entries[5].set_name("state");
    for (slot, release) in content.slots.iter().enumerate() {
        let Some(release) = release else { continue };
        let ids = [release.root_hash.data_id(), release.root_hash.tree_id()];
        for (index, id) in (1 + 2 * slot..).zip(ids) {
            table.entries[index].set_id(id);
            table.entries[index].set_name(&format!("wherry_{}", release.version));
        }
    }
    let array_sectors = table.array_sectors();
    let sectors = at / sector_size + array_sectors + 1;
    table.last_usable = sectors - 2 - array_sectors;
    let mut image = vec![0; (sectors * sector_size) as usize];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(446 + 4, &[0xee]);
    put(446 + 12, &(sectors as u32 - 1).to_le_bytes());
    put(510, &[0x55, 0xaa]);
    for (own, other, array) in [
        (PRIMARY, sectors - 1, PRIMARY_ARRAY),
        (sectors - 1, PRIMARY, sectors - 1 - array_sectors),
    ] {
        put((array * sector_size) as usize, &table.array());
        put(
            (own * sector_size) as usize,
            &table.header(HeaderPlace { own, other, array }),
        );
    }
    put(places[0], &esp);
    for (slot, release) in content.slots.iter().enumerate() {
        let Some(release) = release else { continue };
        put(places[1 + 2 * slot], &release.data);
        put(places[2 + 2 * slot], &release.tree);
    }
    put(places[5], &[0x5a; 4096]);
    let device = block_device::Recorder::new(image);
    let disk = SystemDisk::open(&device, None).unwrap();
    let esp = disk.esp();
    for folder in ["EFI", "EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"] {
        esp.create_folder(folder).unwrap();
    }
    let mut files = vec![
        ("loader/loader.conf".to_owned(), &b"timeout 0\n"[..]),
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), &content.loader.loader),
        (
            "EFI/systemd/systemd-bootx64.efi".to_owned(),
            &content.loader.loader,
        ),
    ];
    for (name, release) in content.entries {
        files.push((format!("EFI/Linux/{name}"), &release.uki));
    }
    for number in 0..content.others {
        files.push((format!("EFI/Linux/OTHER{number}"), b"other"));
    }
    for (path, bytes) in files {
        let mut writer = esp.create(&path, bytes.len() as u64).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap();
    }
    drop(disk);
    device.now()
}

/// Why a goal was not reached.
#[derive(Debug)]
pub enum Stop {
    Refused(Refusal),
    Disk(DiskError),
}

impl From<DiskError> for Stop {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Does what [`next`] says until the goal is reached; gives the actions.
pub fn drive<D: BlockDevice>(
    disk: &SystemDisk<D>,
    goal: &Goal,
    release: &Release,
) -> Result<Vec<Action>, Stop> {
    let mut done = Vec::new();
    loop {
        let action = match next(&disk.view()?, goal) {
            Step::Do(action) => action,
            Step::Done => return Ok(done),
            Step::Refused(refusal) => return Err(Stop::Refused(refusal)),
        };
        perform(disk, &action, release)?;
        done.push(action);
        assert!(done.len() < 40, "it does not end: {done:?}");
    }
}

fn perform<D: BlockDevice>(
    disk: &SystemDisk<D>,
    action: &Action,
    release: &Release,
) -> Result<(), DiskError> {
    let failed = |source| DiskError::Io {
        doing: "fill",
        part: "a slot".to_owned(),
        source,
    };
    match action {
        Action::FillSlot { slot } => {
            let target = disk.slot(*slot)?;
            for (device, bytes) in [(&target.data, &release.data), (&target.tree, &release.tree)] {
                for (number, block) in (0..).zip(bytes.chunks(4096)) {
                    device.write_at(block, number * 4096).map_err(failed)?;
                }
                device.flush().map_err(failed)?;
            }
            let parameters = &release.parameters;
            assert!(disk.prove(*slot, parameters, &release.root_hash, &mut |_| {})?);
            Ok(())
        }
        Action::StageUki => {
            let mut stage = disk.stage_uki(release.uki.len() as u64)?;
            for part in release.uki.chunks(1000) {
                if let Err(error) = stage.write_all(part) {
                    return Err(failed(error));
                }
            }
            stage.finish(&release.uki_sum())
        }
        Action::UpdateLoader => disk.update_loader(&release.loader).map(drop),
        other => disk.perform(other),
    }
}

/// What a disk is, whatever is known of it: equal for two disks that are equal
/// for the next boot and the next update.
pub fn state<D: BlockDevice>(disk: &SystemDisk<D>) -> View {
    let mut view = disk.view().unwrap();
    for slot in SlotId::ALL {
        view.slots[slot.index()].proof = Proof::Unknown;
    }
    view
}
