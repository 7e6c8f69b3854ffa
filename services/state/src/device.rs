//! The disk and its partition as the kernel knows them.
//!
//! The container's `/dev` is its own, and a partition that is made while it runs
//! is in nobody's list of devices, so a node that is missing is made here, from
//! the number in sysfs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use block_device::Disk;
use block_device::sysfs::{Sysfs, SysfsError};
use layout::booted::SECTOR;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use partition_table::Sectors;

use crate::sys;
use crate::table::StatePartition;

/// A disk that the kernel knows by a name.
#[derive(Debug)]
pub struct KernelDisk {
    /// For reading and writing.
    pub disk: Sectors<Disk>,
    name: String,
    sysfs: Sysfs,
    nodes: PathBuf,
}

/// A partition that the kernel knows.
#[derive(Debug)]
pub struct Partition {
    /// Its device node.
    pub node: PathBuf,
    /// Open for reading and writing.
    pub file: File,
    /// Its size in bytes.
    pub length: u64,
}

impl KernelDisk {
    /// Opens the disk whose device node is `path`.
    ///
    /// # Errors
    /// There is no such disk, or it cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| io::Error::other("this is no device node"))?
            .to_owned();
        let sysfs = Sysfs::at("/sys");
        let nodes = path.parent().unwrap_or(Path::new("/dev")).to_owned();
        Ok(Self {
            disk: Sectors {
                sector_size: sysfs.sector_size(&name).map_err(in_sysfs)?,
                device: Disk::new(open(&node(&sysfs, &name, &nodes)?)?)?,
            },
            name,
            sysfs,
            nodes,
        })
    }

    /// Opens a partition, after the kernel has been told of it as the table has
    /// it: a new one is added, one that has grown is grown. The kernel is not
    /// made to read the table again, as it refuses while the root is in use.
    ///
    /// # Errors
    /// The kernel refused, or it knows a partition of that number elsewhere.
    pub fn partition(&self, place: StatePartition) -> io::Result<Partition> {
        let StatePartition {
            number: wanted,
            start,
            length,
            ..
        } = place;
        match self.known(wanted)? {
            None => sys::add_partition(self.disk.device.file(), wanted, start, length)?,
            Some(known) => {
                if known.start * SECTOR != start {
                    return Err(io::Error::other(
                        "the kernel has another table than the disk: reboot",
                    ));
                }
                if known.sectors * SECTOR != length {
                    sys::resize_partition(self.disk.device.file(), wanted, start, length)?;
                }
            }
        }
        let known = self
            .known(wanted)?
            .ok_or_else(|| io::Error::other("the kernel did not take the partition"))?;
        let node = node(&self.sysfs, &known.device, &self.nodes)?;
        Ok(Partition {
            file: open(&node)?,
            node,
            length,
        })
    }

    /// A partition as the kernel knows it.
    fn known(&self, wanted: u32) -> io::Result<Option<layout::booted::Partition>> {
        let partitions = self.sysfs.partitions(&self.name).map_err(in_sysfs)?;
        Ok(partitions
            .into_iter()
            .find(|partition| partition.number == wanted))
    }
}

fn open(node: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(node)
}

/// The node of a device, made where it is missing.
fn node(sysfs: &Sysfs, name: &str, nodes: &Path) -> io::Result<PathBuf> {
    let numbers = sysfs.device_number(name).map_err(in_sysfs)?;
    let (major, minor) = numbers
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| io::Error::other(format!("'{numbers}' is no device number")))?;
    let device = makedev(major, minor);
    let node = nodes.join(name);
    match fs::metadata(&node) {
        Ok(known) if known.file_type().is_block_device() && known.rdev() == device => Ok(node),
        Ok(_) => Err(io::Error::other(format!(
            "{} is another device",
            node.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            mknod(&node, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, device)?;
            Ok(node)
        }
        Err(error) => Err(error),
    }
}

/// What of sysfs could not be read, with its cause.
fn in_sysfs(error: SysfsError) -> io::Error {
    match error {
        SysfsError::Path { ref source, .. } => {
            io::Error::new(source.kind(), format!("{error}: {source}"))
        }
        SysfsError::Value { .. } => io::Error::other(error.to_string()),
    }
}
