//! The disk of the machine that `cargo xtask run` boots.
//!
//! It is kept between runs. When the image has changed, the operating system's
//! partitions and the ESP are replaced by the new image's, and the state
//! partition stays as it is, wherever the machine has grown it to.

use anyhow::{Context, Result, bail};
use gpt::GptDisk;
use gpt::partition::Partition;
use machine::Build;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Larger than the image, so that the first boot has room to grow into.
const SIZE: u64 = 4 << 30;

const SECTOR: u64 = 512;

/// The label of the partition that is not replaced.
const STATE: &str = "state";

/// How much is compared and copied at a time.
const CHUNK: usize = 1 << 20;

/// The kept disk and firmware variables.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Those below `folder`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The raw disk.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.raw")
    }

    /// OVMF's variables.
    pub fn variables(&self) -> PathBuf {
        self.folder.join("variables")
    }

    /// Makes the disk hold this build; with `fresh`, nothing of the former one.
    pub fn prepare(&self, build: &Build, fresh: bool) -> Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("create {}", self.folder.display()))?;
        let stamp = self.folder.join("image");
        // The command line has the root hash; nothing else decides the ESP's content.
        let image = sha256(&build.uki()?)?;
        let same = fs::read_to_string(&stamp).is_ok_and(|on_disk| on_disk == image);
        if fresh || !self.disk().exists() {
            remove(&self.variables())?;
            build.make_disk(&self.disk(), SIZE)?;
        } else if !same {
            replace_system(&build.disk_image()?, &self.disk())?;
            eprintln!("run: the machine's disk has the new image; its state is kept");
        }
        fs::write(&stamp, image).with_context(|| format!("write {}", stamp.display()))
    }
}

/// Copies every partition but the state from `image` to `disk`.
fn replace_system(image: &Path, disk: &Path) -> Result<()> {
    let new = table(image, false)?;
    let mut old = table(disk, true)?;
    let (source, target) = (
        File::open(image)?,
        File::options().read(true).write(true).open(disk)?,
    );
    let mut partitions = old.partitions().clone();
    for (number, partition) in new.partitions() {
        let is_state = partition.name == STATE;
        let fits = partitions.get(number).is_some_and(|there| {
            there.first_lba == partition.first_lba
                && (is_state || there.last_lba == partition.last_lba)
        });
        if !fits {
            bail!(
                "partition {number} ({}) of {} is not where the new image has it; start \
                 over, without the machine's state:\n  cargo xtask run --fresh",
                partition.name,
                disk.display()
            );
        }
        if !is_state {
            copy_partition(&source, &target, partition)
                .with_context(|| format!("copy partition {number} to {}", disk.display()))?;
            partitions.insert(*number, partition.clone());
        }
    }
    old.update_partitions(partitions)
        .and_then(|_| old.write())
        .with_context(|| format!("write the partition table of {}", disk.display()))?;
    Ok(())
}

fn table(path: &Path, writable: bool) -> Result<GptDisk<File>> {
    gpt::GptConfig::new()
        .writable(writable)
        .open(path)
        .with_context(|| {
            format!(
                "{} has no partition table that can be read; start over:\n  \
                 cargo xtask run --fresh",
                path.display()
            )
        })
}

/// Copies what differs, so that holes stay holes.
fn copy_partition(source: &File, target: &File, partition: &Partition) -> Result<()> {
    let end = (partition.last_lba + 1) * SECTOR;
    let mut at = partition.first_lba * SECTOR;
    let (mut new, mut old) = (vec![0; CHUNK], vec![0; CHUNK]);
    while at < end {
        let length = CHUNK.min(usize::try_from(end - at)?);
        let (new, old) = (&mut new[..length], &mut old[..length]);
        source.read_exact_at(new, at)?;
        target.read_exact_at(old, at)?;
        if new != old {
            target.write_all_at(new, at)?;
        }
        at += length as u64;
    }
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    io::copy(&mut file, &mut hash).with_context(|| format!("read {}", path.display()))?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{replace_system, table};
    use gpt::disk::LogicalBlockSize;
    use gpt::mbr::ProtectiveMBR;
    use gpt::partition_types;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    const MIB: u64 = 1 << 20;

    /// A disk with a root of 1 MiB and a state partition, each beginning with
    /// its text.
    fn make_disk(path: &Path, size: u64, root: (&str, &str), state: (u64, &str)) {
        let file = File::create_new(path).unwrap();
        file.set_len(size).unwrap();
        ProtectiveMBR::with_lb_size(u32::try_from(size / 512 - 1).unwrap())
            .overwrite_lba0(&mut &file)
            .unwrap();
        let mut disk = gpt::GptConfig::new()
            .writable(true)
            .logical_block_size(LogicalBlockSize::Lb512)
            .create(path)
            .unwrap();
        for (name, size) in [(root.0, MIB), ("state", state.0)] {
            disk.add_partition(name, size, partition_types::LINUX_FS, 0, Some(2048))
                .unwrap();
        }
        disk.write().unwrap();
        file.write_all_at(root.1.as_bytes(), MIB).unwrap();
        file.write_all_at(state.1.as_bytes(), 2 * MIB).unwrap();
    }

    fn read(path: &Path, at: u64, length: usize) -> String {
        let mut bytes = vec![0; length];
        File::open(path)
            .unwrap()
            .read_exact_at(&mut bytes, at)
            .unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_new_image_replaces_the_system_and_keeps_a_grown_state() {
        let folder = tempfile::tempdir().unwrap();
        let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
        make_disk(&image, 8 * MIB, ("wherry_2", "new root"), (MIB, "no state"));
        make_disk(
            &disk,
            32 * MIB,
            ("wherry_1", "old root"),
            (20 * MIB, "my state"),
        );

        replace_system(&image, &disk).unwrap();

        assert_eq!(read(&disk, MIB, 8), "new root");
        assert_eq!(read(&disk, 2 * MIB, 8), "my state");
        let table = table(&disk, false).unwrap();
        let partitions = table.partitions();
        assert_eq!(partitions[&1].name, "wherry_2");
        assert_eq!(
            partitions[&2]
                .bytes_len(*table.logical_block_size())
                .unwrap(),
            20 * MIB
        );
    }

    #[test]
    fn a_disk_with_another_layout_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
        make_disk(&image, 8 * MIB, ("wherry_2", "new root"), (MIB, "no state"));
        make_disk(&disk, 8 * MIB, ("wherry_1", "old root"), (MIB, "my state"));
        let mut other = table(&disk, true).unwrap();
        other.remove_partition(2);
        other.write().unwrap();

        let error = replace_system(&image, &disk).unwrap_err().to_string();

        assert!(error.contains("--fresh"), "{error}");
    }
}
