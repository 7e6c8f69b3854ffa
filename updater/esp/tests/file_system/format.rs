//! Empty file systems (FAT specification, sections 3 to 5).

/// How an image is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub sector: usize,
    pub per_cluster: usize,
    pub clusters: usize,
}

/// An empty file system.
pub fn format(shape: Shape) -> Vec<u8> {
    let Shape {
        sector,
        per_cluster,
        clusters,
    } = shape;
    let reserved = 8;
    let table = ((clusters + 2) * 4).div_ceil(sector);
    let total = reserved + 2 * table + clusters * per_cluster;
    let mut image = vec![0; total * sector];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    for start in [0, 6 * sector] {
        put(start, &[0xeb, 0x58, 0x90]);
        put(start + 3, b"mkfs.fat");
        put(start + 11, &(sector as u16).to_le_bytes());
        put(start + 13, &[per_cluster as u8]);
        put(start + 14, &(reserved as u16).to_le_bytes());
        put(start + 16, &[2]);
        put(start + 21, &[0xf8]);
        put(start + 24, &[32, 0, 2, 0]);
        put(start + 32, &(total as u32).to_le_bytes());
        put(start + 36, &(table as u32).to_le_bytes());
        put(start + 44, &2u32.to_le_bytes());
        put(start + 48, &[1, 0, 6, 0]);
        put(start + 64, &[0x80, 0, 0x29, 1, 2, 3, 4]);
        put(start + 71, b"NO NAME    FAT32   ");
        put(start + 510, &[0x55, 0xaa]);
    }
    for start in [sector, 7 * sector] {
        put(start, b"RRaA");
        put(start + 484, b"rrAa");
        put(start + 488, &(clusters as u32 - 1).to_le_bytes());
        put(start + 492, &3u32.to_le_bytes());
        put(start + 508, &[0, 0, 0x55, 0xaa]);
    }
    for copy in 0..2 {
        let entries = [0x0fff_fff8u32, 0x0fff_ffff, 0x0fff_ffff];
        for (number, value) in entries.iter().enumerate() {
            let at = (reserved + copy * table) * sector + number * 4;
            put(at, &value.to_le_bytes());
        }
    }
    image
}
