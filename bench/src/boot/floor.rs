//! The floor's disk: an erofs root with one program, its hash tree behind it.

use crate::command;
use anyhow::{Context, Result};
use machine::Build;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// dm-verity's and erofs' block.
const BLOCK: u64 = 4096;
/// Any salt costs the same.
const SALT: &str = "00000000000000000000000000000000000000000000000000000000000000f1";

/// The disk that the floor boots from. It goes with this value.
pub struct Floor {
    /// The raw disk: no partitions, the root, then the hash tree.
    pub disk: PathBuf,
    /// What replaces the image's `dm-mod.create=` on the command line.
    pub command_line: String,
    _scratch: TempDir,
}

impl Floor {
    /// Puts `program` (`bench/floor`, static) on a verified root of its own.
    pub fn make(build: &Build, program: &Path) -> Result<Self> {
        let scratch = TempDir::with_prefix("wherry-floor-").context("make a scratch folder")?;
        let disk = scratch.path().join("disk.raw");
        let tools = build.tools()?;

        let root = scratch.path().join("root");
        for folder in ["dev", "proc", "usr/bin"] {
            fs::create_dir_all(root.join(folder)).context("lay out the floor's root")?;
        }
        fs::copy(program, root.join("usr/bin/init"))
            .with_context(|| format!("copy {}", program.display()))?;
        let mut mkfs = tools.command("mkfs.erofs")?;
        mkfs.args(["--quiet", "--all-root", "-T0"])
            .arg(&disk)
            .arg(&root);
        command::run(&mut mkfs)?;

        let length = round_up(fs::metadata(&disk)?.len());
        File::options().write(true).open(&disk)?.set_len(length)?;
        let root_hash = scratch.path().join("root-hash");
        let mut verity = tools.command("veritysetup")?;
        verity
            .arg("format")
            .arg(format!("--data-blocks={}", length / BLOCK))
            .arg(format!("--hash-offset={length}"))
            .arg(format!("--salt={SALT}"))
            .arg(format!("--root-hash-file={}", root_hash.display()))
            .args([&disk, &disk]);
        command::run(&mut verity)?;
        let root_hash = fs::read_to_string(&root_hash).context("read the floor's root hash")?;
        // QEMU wants whole sectors, and systems like whole mebibytes.
        let whole = fs::metadata(&disk)?.len().next_multiple_of(1 << 20);
        File::options().write(true).open(&disk)?.set_len(whole)?;

        Ok(Self {
            command_line: table(length / BLOCK, root_hash.trim()),
            disk,
            _scratch: scratch,
        })
    }
}

/// The mapping of a disk whose hash tree follows `blocks` of data; its first
/// block is veritysetup's superblock. The last `dm-mod.create=` counts.
fn table(blocks: u64, root_hash: &str) -> String {
    let sectors = blocks * (BLOCK / 512);
    let hash_start = blocks + 1;
    format!(
        "dm-mod.create=\"vroot,,,ro,0 {sectors} verity 1 /dev/vda /dev/vda {BLOCK} {BLOCK} \
         {blocks} {hash_start} sha256 {root_hash} {SALT} 1 panic_on_corruption\""
    )
}

fn round_up(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn the_hash_tree_starts_behind_its_superblock() {
        let table = table(10, "abcd");
        assert!(table.starts_with("dm-mod.create=\"vroot,,,ro,0 80 verity 1 "));
        assert!(table.contains(" 4096 4096 10 11 sha256 abcd "));
        assert!(table.ends_with(" panic_on_corruption\""));
    }
}
