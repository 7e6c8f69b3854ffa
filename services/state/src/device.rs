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
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use partition_table::Sectors;

use crate::layout::Place;
use crate::sys;

/// sysfs gives sizes in sectors of this many bytes, whatever the disk's are.
const SYSFS_SECTOR: u64 = 512;

/// A disk that the kernel knows by a name.
#[derive(Debug)]
pub struct KernelDisk {
    /// For reading and writing.
    pub disk: Sectors<Disk>,
    sysfs: PathBuf,
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
            .ok_or_else(|| io::Error::other("this is no device node"))?;
        let sysfs = Path::new("/sys/class/block").join(name);
        let nodes = path.parent().unwrap_or(Path::new("/dev")).to_owned();
        let sector_size = number(&sysfs.join("queue/logical_block_size"))?;
        Ok(Self {
            disk: Sectors {
                device: Disk::new(open(&node(&sysfs, &nodes)?)?)?,
                sector_size,
            },
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
    pub fn partition(&self, place: Place) -> io::Result<Partition> {
        let Place {
            number: wanted,
            start,
            length,
            ..
        } = place;
        match self.known(wanted)? {
            None => sys::add_partition(self.disk.device.file(), wanted, start, length)?,
            Some(directory) => {
                if number(&directory.join("start"))? * SYSFS_SECTOR != start {
                    return Err(io::Error::other(
                        "the kernel has another table than the disk: reboot",
                    ));
                }
                if number(&directory.join("size"))? * SYSFS_SECTOR != length {
                    sys::resize_partition(self.disk.device.file(), wanted, start, length)?;
                }
            }
        }
        let directory = self
            .known(wanted)?
            .ok_or_else(|| io::Error::other("the kernel did not take the partition"))?;
        let node = node(&directory, &self.nodes)?;
        Ok(Partition {
            file: open(&node)?,
            node,
            length,
        })
    }

    /// The sysfs directory of a partition that the kernel knows.
    fn known(&self, wanted: u32) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(&self.sysfs)? {
            let directory = entry?.path();
            let attribute = directory.join("partition");
            if attribute.exists() && number(&attribute)? == u64::from(wanted) {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }
}

fn open(node: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(node)
}

/// The device node of what a sysfs directory describes, made where it is
/// missing.
fn node(sysfs: &Path, nodes: &Path) -> io::Result<PathBuf> {
    let numbers = fs::read_to_string(sysfs.join("dev"))?;
    let (major, minor) = numbers
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| io::Error::other(format!("'{numbers}' is no device number")))?;
    let device = makedev(major, minor);
    let node = nodes.join(sysfs.file_name().unwrap_or_default());
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

fn number(attribute: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(attribute).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", attribute.display()))
    })?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::other(format!("{} is no number", attribute.display())))
}
