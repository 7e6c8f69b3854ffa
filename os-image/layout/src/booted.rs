//! Which disk a running system is on, from what sysfs says of its block devices.
//!
//! The root is a device-mapper device on a partition; the partition's disk is
//! the system disk. Of several disks with a Wherry on each, every one keeps its
//! own slots and its own state. Who reads sysfs hands the answers in as data.

use crate::partition::STATE;

/// sysfs gives sizes in sectors of this many bytes, whatever the disk's are.
pub const SECTOR: u64 = 512;

/// Deeper stacks of devices than this do not occur; a bound ends any loop.
const DEEPEST: usize = 8;

/// A block device as sysfs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name, such as `vda2` or `dm-0`.
    pub name: String,
    /// The disk that it is a partition of, such as `vda`.
    pub disk: Option<String>,
    /// The devices that it is made of (`slaves`), in the order of their names.
    pub slaves: Vec<String>,
}

/// The disk below a device, by name: follows `device` down to a partition, and
/// from there up to its disk. `look` describes the device of a name. `None` where
/// the device is on no partition.
///
/// # Errors
/// Those of `look`.
pub fn disk_below<E>(
    device: &Device,
    look: &mut dyn FnMut(&str) -> Result<Option<Device>, E>,
) -> Result<Option<String>, E> {
    below(device, look, DEEPEST)
}

fn below<E>(
    device: &Device,
    look: &mut dyn FnMut(&str) -> Result<Option<Device>, E>,
    depth: usize,
) -> Result<Option<String>, E> {
    if device.disk.is_some() || depth == 0 {
        return Ok(device.disk.clone());
    }
    // Those of one device are on one disk, or it is no system disk of ours.
    match device.slaves.first() {
        Some(slave) => match look(slave)? {
            Some(slave) => below(&slave, look, depth - 1),
            None => Ok(None),
        },
        None => Ok(None),
    }
}

/// A partition as sysfs describes it, in sectors of [`SECTOR`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's name, such as `vda6`.
    pub device: String,
    /// Its number in the partition table.
    pub number: u32,
    /// Its first sector.
    pub start: u64,
    /// How many sectors it has.
    pub sectors: u64,
    /// Its name in the partition table (`PARTNAME`). sysfs does not have the type.
    pub name: Option<String>,
}

/// The state partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePartition {
    /// The kernel's name, such as `vda6`.
    pub device: String,
    /// Its number in the partition table.
    pub number: u32,
    /// Bytes between its end and the next partition or the end of the disk.
    pub free_behind: u64,
}

/// The state partition among the partitions of a disk with so many sectors of
/// [`SECTOR`] bytes; of several, the one that begins first.
pub fn state_partition(partitions: &[Partition], disk_sectors: u64) -> Option<StatePartition> {
    let found = partitions
        .iter()
        .filter(|partition| partition.name.as_deref() == Some(STATE))
        .min_by_key(|partition| partition.start)?;
    let limit = partitions
        .iter()
        .map(|partition| partition.start)
        .filter(|start| *start > found.start)
        .min()
        .unwrap_or(disk_sectors);
    let end = found.start.saturating_add(found.sectors);
    Some(StatePartition {
        device: found.device.clone(),
        number: found.number,
        free_behind: limit.saturating_sub(end).saturating_mul(SECTOR),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn device(name: &str, disk: Option<&str>, slaves: &[&str]) -> Device {
        Device {
            name: name.to_owned(),
            disk: disk.map(str::to_owned),
            slaves: slaves.iter().map(|slave| (*slave).to_owned()).collect(),
        }
    }

    fn disk_of(devices: &[Device], name: &str) -> Option<String> {
        let devices: BTreeMap<&str, &Device> = devices
            .iter()
            .map(|device| (device.name.as_str(), device))
            .collect();
        let mut look =
            |name: &str| Ok::<_, Infallible>(devices.get(name).map(|found| (*found).clone()));
        let Ok(disk) = disk_below(devices[name], &mut look);
        disk
    }

    fn partition(number: u32, name: &str, start: u64, sectors: u64) -> Partition {
        Partition {
            device: format!("vda{number}"),
            number,
            start,
            sectors,
            name: (!name.is_empty()).then(|| name.to_owned()),
        }
    }

    #[test]
    fn the_disk_is_found_below_the_verity_device() {
        let devices = [
            device("nvme0n1p2", Some("nvme0n1"), &[]),
            device("nvme0n1p3", Some("nvme0n1"), &[]),
            device("dm-1", None, &["nvme0n1p2", "nvme0n1p3"]),
            device("dm-0", None, &["dm-1"]),
            device("dm-2", None, &["gone"]),
            device("loop0", None, &[]),
        ];
        for name in ["dm-0", "dm-1", "nvme0n1p3"] {
            assert_eq!(
                disk_of(&devices, name).as_deref(),
                Some("nvme0n1"),
                "{name}"
            );
        }
        assert_eq!(disk_of(&devices, "dm-2"), None);
        assert_eq!(disk_of(&devices, "loop0"), None);
    }

    #[test]
    fn devices_in_a_circle_are_on_no_disk() {
        let devices = [
            device("dm-0", None, &["dm-1"]),
            device("dm-1", None, &["dm-0"]),
        ];
        assert_eq!(disk_of(&devices, "dm-0"), None);
    }

    #[test]
    fn free_space_counts_up_to_the_next_partition_or_the_end_of_the_disk() {
        let mut partitions = vec![
            partition(1, "esp", 2048, 2048),
            partition(11, "state", 8192, 8192),
            partition(10, "_empty", 6144, 2048),
        ];
        let found = state_partition(&partitions, 16384 + 33).unwrap();
        assert_eq!(
            found,
            StatePartition {
                device: "vda11".to_owned(),
                number: 11,
                free_behind: 33 * SECTOR,
            }
        );
        partitions.push(partition(4, "data", 20480, 8192));
        let found = state_partition(&partitions, 1 << 30).unwrap();
        assert_eq!(found.free_behind, 4096 * SECTOR);
    }

    #[test]
    fn only_the_finished_state_partition_is_one() {
        let partitions = [
            partition(1, "state-new", 2048, 1),
            partition(2, "", 4096, 1),
        ];
        assert_eq!(state_partition(&partitions, 8192), None);
    }

    proptest! {
        #[test]
        fn no_numbers_make_the_search_panic(
            numbers in prop::collection::vec((any::<u32>(), any::<u64>(), any::<u64>()), 0..6),
            disk_sectors: u64,
        ) {
            let partitions: Vec<Partition> = numbers
                .into_iter()
                .map(|(number, start, sectors)| partition(number, "state", start, sectors))
                .collect();
            let _ = state_partition(&partitions, disk_sectors);
        }
    }
}
