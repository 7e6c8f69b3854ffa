//! What other programs fetch for the same update.

use super::blocks::Sizes;
use crate::command;
use anyhow::{Context, Result};
use machine::{Build, Tools};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Bytes that each fetches for root and unified kernel image.
#[derive(Debug, Clone, Copy)]
pub struct Others {
    /// RAUC: the better of its adaptive method and of casync.
    pub rauc: u64,
    /// RAUC with casync: the chunks that the old images have not, and the index.
    pub rauc_casync: u64,
    /// zchunk: the new file's header and the chunks that the old one has not.
    pub zchunk: u64,
    /// xdelta3's difference.
    pub xdelta3: u64,
    /// bsdiff's difference.
    pub bsdiff: u64,
}

/// Debian's programs.
pub struct Programs {
    tools: Tools,
}

impl Programs {
    /// Those of a tools tree.
    pub fn of(tools: Tools) -> Self {
        Self { tools }
    }

    /// Measures all of them.
    pub fn measure(&self, old: &Build, new: &Build, sizes: Sizes) -> Result<Others> {
        let files = [(old.root()?, new.root()?), (old.uki()?, new.uki()?)];
        let sum = |measure: &dyn Fn(&Path, &Path, &Path) -> Result<u64>| -> Result<u64> {
            let mut bytes = 0;
            for (old, new) in &files {
                let scratch = TempDir::with_prefix("wherry-bench-")?;
                bytes += measure(old, new, scratch.path())?;
            }
            Ok(bytes)
        };
        let rauc_casync = sum(&|old, new, scratch| self.casync(old, new, scratch))?;
        Ok(Others {
            rauc: rauc_casync.min(sizes.rauc_adaptive),
            rauc_casync,
            zchunk: sum(&|old, new, scratch| self.zchunk(old, new, scratch))?,
            xdelta3: sum(&|old, new, scratch| self.xdelta3(old, new, scratch))?,
            bsdiff: sum(&|old, new, scratch| self.bsdiff(old, new, scratch))?,
        })
    }

    /// A machine cuts its own image in the same way and so has the old chunks.
    fn casync(&self, old: &Path, new: &Path, scratch: &Path) -> Result<u64> {
        let mut chunks = Vec::new();
        for (name, image) in [("old", old), ("new", new)] {
            let store = scratch.join(format!("{name}.castr"));
            let mut casync = self.tools.command("casync")?;
            casync
                .arg("make")
                .arg(format!("--store={}", store.display()))
                .arg(scratch.join(format!("{name}.caibx")))
                .arg(image);
            command::run(&mut casync)?;
            chunks.push(chunk_sizes(&store)?);
        }
        let index = length(&scratch.join("new.caibx"))?;
        let missing = chunks[1]
            .iter()
            .filter(|(name, _)| !chunks[0].contains_key(*name))
            .map(|(_, length)| length);
        Ok(index + missing.sum::<u64>())
    }

    fn zchunk(&self, old: &Path, new: &Path, scratch: &Path) -> Result<u64> {
        for (name, image) in [("old", old), ("new", new)] {
            let mut zck = self.tools.command("zck")?;
            zck.arg("--output")
                .arg(scratch.join(format!("{name}.zck")))
                .arg(image);
            command::run(&mut zck)?;
        }
        let mut delta = self.tools.command("zck_delta_size")?;
        delta
            .arg(scratch.join("old.zck"))
            .arg(scratch.join("new.zck"));
        let text = command::output(&mut delta)?;
        download_size(&text).with_context(|| format!("zck_delta_size said {text:?}"))
    }

    fn xdelta3(&self, old: &Path, new: &Path, scratch: &Path) -> Result<u64> {
        let delta = scratch.join("delta");
        let mut xdelta3 = self.tools.command("xdelta3")?;
        // The whole old image is its window.
        xdelta3
            .args(["-e", "-9", "-S", "djw", "-B", "67108864", "-s"])
            .arg(old)
            .arg(new)
            .arg(&delta);
        command::run(&mut xdelta3)?;
        length(&delta)
    }

    fn bsdiff(&self, old: &Path, new: &Path, scratch: &Path) -> Result<u64> {
        let delta = scratch.join("delta");
        let mut bsdiff = self.tools.command("bsdiff")?;
        bsdiff.arg(old).arg(new).arg(&delta);
        command::run(&mut bsdiff)?;
        length(&delta)
    }
}

/// The chunks of a store (`STORE/FOUR/HASH.cacnk`) and their lengths.
fn chunk_sizes(store: &Path) -> Result<BTreeMap<String, u64>> {
    let mut chunks = BTreeMap::new();
    for folder in fs::read_dir(store).with_context(|| format!("read {}", store.display()))? {
        for chunk in fs::read_dir(folder?.path())? {
            let chunk = chunk?;
            let name = chunk.file_name().to_string_lossy().into_owned();
            chunks.insert(name, chunk.metadata()?.len());
        }
    }
    Ok(chunks)
}

fn length(path: &Path) -> Result<u64> {
    let about = fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
    Ok(about.len())
}

/// The bytes in `Would download in total N of M bytes`.
fn download_size(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("Would download in total ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::download_size;

    #[test]
    fn zchunks_figure_is_read() {
        let text = "Would download in total 1234 of 99999 bytes (1%)\nMatched 5 of 6 chunks\n";
        assert_eq!(download_size(text), Some(1234));
        assert_eq!(download_size("nothing"), None);
    }
}
