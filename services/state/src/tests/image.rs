//! Disk images to test with, and loop devices on them.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use block_device::{BlockDevice, Disk};
use layout::partition;
use partition_table::gpt::{self, Entry, HeaderPlace, PRIMARY, PRIMARY_ARRAY, Sectors, Table};
use requirement::LoopDevice;
use tempfile::TempDir;

use crate::arguments::Request;
use crate::prepare::prepare;
use crate::report::Report;
use crate::{filesystem, table};

pub const MIB: u64 = 1 << 20;
/// Where the state partition of an image begins, in bytes.
pub const STATE: u64 = 4 * MIB;

/// A disk image in a directory of its own.
pub struct Image {
    directory: TempDir,
    sector_size: u64,
}

impl Image {
    /// An image of `size` bytes with a table of two partitions: the first in
    /// the place of all that comes before the state, the second the state's
    /// with `state` bytes.
    pub fn new(size: u64, state: u64) -> Self {
        let image = Self::blank(size);
        image.write_table(&table(size, state));
        image
    }

    /// As [`Image::new`], on a disk with sectors of 4 KiB.
    pub fn with_large_sectors(size: u64, state: u64) -> Self {
        let mut image = Self::blank(size);
        image.sector_size = 4096;
        image.write_table(&table_of(size, state, 4096));
        image
    }

    /// An image that is all zero.
    pub fn blank(size: u64) -> Self {
        let image = Self {
            // In memory where that is possible: nothing here waits for a disk.
            directory: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
            sector_size: 512,
        };
        File::create(image.path()).unwrap().set_len(size).unwrap();
        image
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    pub fn disk(&self) -> Sectors<Disk> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path())
            .unwrap();
        Sectors {
            device: Disk::new(file).unwrap(),
            sector_size: self.sector_size,
        }
    }

    /// Writes both copies where they belong, without any ado.
    pub fn write_table(&self, table: &Table) {
        let disk = self.disk();
        let last = disk.count() - 1;
        let backup_array = last - table.array_sectors();
        for (own, other, array) in [
            (PRIMARY, last, PRIMARY_ARRAY),
            (last, PRIMARY, backup_array),
        ] {
            let place = HeaderPlace { own, other, array };
            self.write(array * disk.sector_size, &table.array());
            self.write(own * disk.sector_size, &table.header(place));
        }
        let mut mbr = [0; 512];
        mbr[446 + 4] = 0xee;
        mbr[446 + 8] = 1;
        mbr[446 + 12..446 + 16].copy_from_slice(&(last as u32).to_le_bytes());
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        self.write(0, &mbr);
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.disk().device.write_at(bytes, offset).unwrap();
    }

    pub fn grow(&self, size: u64) {
        self.disk().device.file().set_len(size).unwrap();
    }

    /// Makes a file system with one file `greeting` in it and puts it into the
    /// state partition.
    pub fn fill_state(&self, size: u64) {
        let directory = tempfile::tempdir().unwrap();
        let (filesystem, text) = (directory.path().join("fs"), directory.path().join("text"));
        File::create(&filesystem).unwrap().set_len(size).unwrap();
        filesystem::make(&filesystem, size).unwrap();
        fs::write(&text, GREETING).unwrap();
        debugfs(&filesystem, &format!("write {} greeting", text.display()));
        let bytes = fs::read(&filesystem).unwrap();
        for (index, bytes) in bytes.chunks(MIB as usize).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                self.write(STATE + index as u64 * MIB, bytes);
            }
        }
    }

    /// The file system of the state partition, as e2fsprogs take it.
    fn state(&self) -> String {
        let found = gpt::read(&self.disk()).unwrap();
        let place = table::find(&found.valid().unwrap().table).unwrap().unwrap();
        assert!(!place.unfinished);
        format!("{}?offset={}", self.path().display(), place.start)
    }

    /// Runs one command of debugfs on the state's file system.
    pub fn debugfs(&self, command: &str) -> String {
        debugfs(self.state().as_ref(), command)
    }

    /// Whether e2fsck has nothing to say against the state's file system, and
    /// what is in its file.
    pub fn greeting(&self) -> String {
        let check = Command::new("/usr/sbin/e2fsck")
            .args(["-fn", &self.state()])
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
        self.debugfs("cat greeting")
    }

    /// Runs `prepare` on a loop device of the image; `None` where this machine
    /// or user cannot have one.
    pub fn prepare(&self, change: impl FnOnce(&mut Request)) -> Option<Report> {
        let sector_size = self.sector_size.to_string();
        let arguments = ["--partscan", "--sector-size", &sector_size];
        let device = LoopDevice::attach(&self.path(), &arguments)?;
        let mut request = Request {
            disk: device.path().to_owned(),
            partition: None,
            full_check: false,
            erase: false,
            report: self.directory.path().join("report.json"),
        };
        change(&mut request);
        Some(prepare(&request))
    }
}

pub const GREETING: &str = "good day\n";

/// A table for a disk of `size` bytes, as [`Image::new`] has it.
pub fn table(size: u64, state: u64) -> Table {
    table_of(size, state, 512)
}

fn table_of(size: u64, state: u64, sector_size: u64) -> Table {
    let entries = vec![Entry::UNUSED; 128];
    let mut table = Table {
        sector_size,
        disk_guid: [0x33; 16],
        first_usable: MIB / sector_size,
        last_usable: 0,
        entries,
    };
    table.last_usable = size / sector_size - 2 - table.array_sectors();
    let first = STATE / sector_size;
    table.entries[0] = Entry::new([0x11; 16], [1; 16], table.first_usable, first - 1, "esp");
    if state > 0 {
        let last = first + state / sector_size - 1;
        table.entries[1] = Entry::new(
            partition::LINUX_GENERIC,
            [2; 16],
            first,
            last,
            partition::STATE,
        );
    }
    table
}

fn debugfs(filesystem: &Path, command: &str) -> String {
    let output = Command::new("/usr/sbin/debugfs")
        .args(["-w", "-R", command])
        .arg(filesystem)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
