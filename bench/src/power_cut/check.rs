//! What a machine with a given disk boots, and whether all of it is there.
//!
//! The chain is followed as the machine follows it: partition table → ESP →
//! loader → the entry it chooses → command line → PARTUUIDs → slot → hash tree →
//! every block of the root. Nothing of it is the updater's code.

use super::loader::{self, Entry};
use super::medium::Medium;
use super::table;
use super::verity::Verity;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// A release that may be found on a disk.
#[derive(Debug)]
pub struct Known {
    version: String,
    uki: Vec<u8>,
    verity: Verity,
}

impl Known {
    /// The release whose unified kernel image is at `uki`.
    pub fn load(version: &str, uki: &Path) -> Result<Self> {
        let uki = fs::read(uki).with_context(|| format!("read {}", uki.display()))?;
        let line = loader::section(&uki, ".cmdline").context("it has no command line")?;
        Ok(Self {
            version: version.to_owned(),
            verity: Verity::parse(&line).map_err(anyhow::Error::msg)?,
            uki,
        })
    }
}

/// What a disk boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The release that the loader starts.
    pub boots: String,
    /// Tries left and done of its entry.
    pub tries: Option<(u64, u64)>,
    /// All entries' names, in the loader's order.
    pub entries: Vec<String>,
    /// The releases of which everything is there.
    pub whole: Vec<String>,
}

/// Follows the chain, and remembers what it found for which content.
pub struct Checker {
    known: Vec<Known>,
    loaders: Vec<Vec<u8>>,
    config: Vec<u8>,
    /// Where the state partition begins: nothing in it is needed to boot.
    state: u64,
    found: HashMap<Vec<u64>, Result<Standing, String>>,
    slots: HashMap<(u64, u64, usize), Result<(), String>>,
}

impl Checker {
    /// For disks on which nothing but these releases is to be found. The loader
    /// and its configuration have to be those of `medium`; releases may bring
    /// further `loaders`. Divides the medium into its partitions.
    pub fn new(known: Vec<Known>, loaders: Vec<Vec<u8>>, medium: &mut Medium) -> Result<Self> {
        let partitions = table::partitions(medium).map_err(anyhow::Error::msg)?;
        let esp = partitions
            .values()
            .find(|partition| partition.name == "esp")
            .and_then(|esp| medium.reader(table::range(esp)))
            .context("no ESP on the disk")?;
        let esp = loader::read(esp).map_err(anyhow::Error::msg)?;
        let state = partitions
            .values()
            .find(|partition| partition.name == "state")
            .context("no state partition on the disk")?;
        let ranges = partitions.values().map(table::range);
        medium.divide(ranges.flat_map(|range| [range.start, range.end]));
        Ok(Self {
            known,
            loaders: loaders.into_iter().chain([esp.loader]).collect(),
            config: esp.config,
            state: table::range(state).start,
            found: HashMap::new(),
            slots: HashMap::new(),
        })
    }

    /// What `medium` boots; the error is why no complete release is booted.
    pub fn check(&mut self, medium: &Medium) -> Result<Standing, String> {
        let key = medium.fingerprints_but(self.state);
        if let Some(found) = self.found.get(&key) {
            return found.clone();
        }
        let found = self.follow(medium);
        self.found.insert(key, found.clone());
        found
    }

    fn follow(&mut self, medium: &Medium) -> Result<Standing, String> {
        let partitions = table::partitions(medium)?;
        // Firmware goes by the type; there is one of it.
        let esp = partitions
            .values()
            .find(|partition| partition.name == "esp")
            .ok_or("no ESP in the partition table")?;
        let reader = medium
            .reader(table::range(esp))
            .ok_or("the ESP is beyond the disk's end")?;
        let esp = loader::read(reader)?;
        if !self.loaders.contains(&esp.loader) {
            return Err("EFI/BOOT/BOOTX64.EFI is no loader of any release".to_owned());
        }
        if esp.config != self.config {
            return Err("loader/loader.conf is not what it was".to_owned());
        }
        let ids: BTreeMap<String, (u64, u64)> = partitions
            .values()
            .map(|partition| {
                let range = table::range(partition);
                (partition.part_guid.to_string(), (range.start, range.end))
            })
            .collect();
        let first = esp.entries.first().ok_or("no entry in EFI/Linux")?;
        same_choice(&esp.entries, first)?;
        let boots = self.whole(medium, &ids, first)?;
        let mut whole = Vec::new();
        for entry in &esp.entries {
            if let Ok(version) = self.whole(medium, &ids, entry)
                && !whole.contains(&version)
            {
                whole.push(version);
            }
        }
        Ok(Standing {
            boots,
            tries: first.tries,
            entries: esp.entries.iter().map(|entry| entry.file.clone()).collect(),
            whole,
        })
    }

    /// The release of an entry of which everything is there.
    fn whole(
        &mut self,
        medium: &Medium,
        ids: &BTreeMap<String, (u64, u64)>,
        entry: &Entry,
    ) -> Result<String, String> {
        let index = self
            .known
            .iter()
            .position(|known| known.uki == entry.content)
            .ok_or_else(|| format!("{} is no release's unified kernel image", entry.file))?;
        let known = &self.known[index];
        let partition = |id: &String| {
            ids.get(id)
                .copied()
                .ok_or_else(|| format!("{}: no partition has the id {id}", entry.file))
        };
        let (data, tree) = (
            partition(&known.verity.data)?,
            partition(&known.verity.tree)?,
        );
        let key = (
            medium.fingerprint(data.0),
            medium.fingerprint(tree.0),
            index,
        );
        let checked = self.slots.entry(key).or_insert_with(|| {
            let part = |(start, end): (u64, u64)| {
                medium
                    .part(start..end)
                    .ok_or("a slot is beyond the disk's end")
            };
            known.verity.check(part(data)?, part(tree)?)
        });
        match checked {
            Ok(()) => Ok(known.version.clone()),
            Err(why) => Err(format!("{}: {why} is not right", entry.file)),
        }
    }
}

/// The updater goes by its own idea of the loader's choice: it has to come to the
/// same image, whatever the rules above and those there have in common.
fn same_choice(entries: &[Entry], first: &Entry) -> Result<(), String> {
    let theirs: Vec<slots::Entry> = entries
        .iter()
        .filter_map(|entry| {
            let name = entry.file.strip_prefix("wherry_")?.strip_suffix(".efi")?;
            let (version, count) = match name.split_once('+') {
                Some((version, _)) => (version, &name[version.len()..]),
                None => (name, ""),
            };
            let tries = match count {
                "" => None,
                count => Some(count.parse().ok()?),
            };
            Some(slots::Entry {
                file: entry.file.clone(),
                version: version.parse().ok()?,
                tries,
                length: entry.content.len() as u64,
                root_hash: None,
            })
        })
        .collect();
    let choice = slots::loader_choice(&theirs).ok_or("no entry that the updater knows")?;
    let same = entries
        .iter()
        .any(|entry| entry.file == choice.file && entry.content == first.content);
    if same {
        Ok(())
    } else {
        Err(format!(
            "the loader takes {}, and the updater expects {}",
            first.file, choice.file
        ))
    }
}
