//! The first sector: where everything is (FAT specification, section 3).

use crate::Error;

/// The most clusters that are supported; each takes a bit of memory.
const MAX_CLUSTERS: u64 = 1 << 25;

/// Where everything is, in bytes from the start of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a cluster.
    pub cluster: u64,
    /// How many clusters there are; the first one has number 2.
    pub clusters: u32,
    /// Where the tables are: the second one may be missing.
    pub tables: [Option<u64>; 2],
    /// Where the first cluster is.
    pub data: u64,
    /// The root folder's first cluster.
    pub root: u32,
    /// Where the FSInfo structure should be.
    pub info: Option<u64>,
}

impl Geometry {
    /// Bytes of the boot sector that are needed.
    pub const LENGTH: usize = 512;

    /// Reads the boot sector of a partition of `length` bytes.
    pub fn parse(sector: &[u8; Self::LENGTH], length: u64) -> Result<Self, Error> {
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([sector[at], sector[at + 1]]));
        let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
        let wrong = |why: &str| Err(Error::Unsupported(why.to_owned()));
        if sector[510..] != [0x55, 0xaa] || !matches!(sector[0], 0xeb | 0xe9) {
            return wrong("it has no FAT file system");
        }
        let (sector_size, per_cluster) = (u16_at(11), u64::from(sector[13]));
        if !matches!(sector_size, 512 | 1024 | 2048 | 4096) || !per_cluster.is_power_of_two() {
            return wrong("it has no FAT file system (size of a sector or a cluster)");
        }
        let (reserved, copies) = (u16_at(14), u64::from(sector[16]));
        let total = match u16_at(19) {
            0 => u32_at(32),
            total => total,
        };
        // Firmware and Linux use these two fields, not the number of clusters,
        // to tell FAT32 from FAT12 and FAT16.
        if u16_at(22) != 0 || u16_at(17) != 0 {
            return wrong(
                "its file system is FAT12 or FAT16, not FAT32; make a new one with mkfs.vfat -F 32",
            );
        }
        if u16_at(42) != 0 {
            return wrong("its FAT32 file system is of an unknown version");
        }
        if u16_at(40) & 0x80 != 0 {
            return wrong("the mirroring of its FAT is off");
        }
        let table = u32_at(36);
        if !matches!(copies, 1 | 2) || reserved == 0 || table == 0 {
            return wrong("it has no sound FAT32 file system (reserved sectors or tables)");
        }
        let data = reserved + copies * table;
        if total * sector_size > length {
            return wrong("its file system is larger than the partition");
        }
        let clusters = total.saturating_sub(data) / per_cluster;
        if clusters == 0 || clusters > MAX_CLUSTERS {
            return wrong("it has no sound FAT32 file system (number of clusters)");
        }
        if table * sector_size / 4 < clusters + 2 {
            return wrong("it has no sound FAT32 file system (tables too short)");
        }
        let root = u32_at(44);
        if root < 2 || root >= clusters + 2 {
            return wrong("it has no sound FAT32 file system (root folder)");
        }
        let info = u16_at(48);
        Ok(Self {
            cluster: per_cluster * sector_size,
            clusters: clusters as u32,
            tables: [
                Some(reserved * sector_size),
                (copies == 2).then_some((reserved + table) * sector_size),
            ],
            data: data * sector_size,
            root: root as u32,
            info: (1..reserved).contains(&info).then_some(info * sector_size),
        })
    }

    /// Whether there is such a cluster.
    pub fn has(&self, cluster: u32) -> bool {
        cluster >= 2 && cluster - 2 < self.clusters
    }

    /// Where a cluster is.
    pub fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster - 2) * self.cluster
    }

    /// How many clusters so many bytes take.
    pub fn clusters_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_boot_sector_makes_it_panic() {
        let mut sector = [0; 512];
        sector[0] = 0xeb;
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector[11..13].copy_from_slice(&512u16.to_le_bytes());
        sector[13] = 1;
        sector[14] = 32;
        sector[16] = 2;
        sector[32..36].copy_from_slice(&1000u32.to_le_bytes());
        sector[36] = 8;
        sector[44] = 2;
        let whole = Geometry::parse(&sector, 512_000).unwrap();
        assert_eq!((whole.clusters, whole.data), (952, 48 * 512));
        assert!(Geometry::parse(&sector, 511_999).is_err());
        for at in 11..64 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut other = sector;
                other[at] = value;
                if let Ok(geometry) = Geometry::parse(&other, 512_000) {
                    let end = geometry.offset(geometry.clusters + 1) + geometry.cluster;
                    assert!(end <= 512_000, "byte {at} = {value}");
                }
            }
        }
    }
}
