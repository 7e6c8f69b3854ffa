//! Checks the file system: walks through all of it once.

use block_device::BlockDevice;

use crate::Error;
use crate::boot_sector::Geometry;
use crate::directory::{Directory, Record};
use crate::table::{self, BAD, Bits, Chain, MASK, Tables, WINDOW};

/// Folders deeper than this are not looked into.
const DEPTH: usize = 32;

/// A damaged file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its path, without the first slash.
    pub path: String,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What was found besides files and folders. All but [`Findings::damaged`] is
/// what a power cut leaves, and what [`crate::FileSystem::repair`] repairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Clusters in use by no file: they are freed.
    pub lost_clusters: u64,
    /// The second table is not as the first: it is made so, since the first one
    /// is what everybody reads.
    pub tables_differ: bool,
    /// Parts of long names that belong to no file: they are removed.
    pub leftovers: usize,
    /// Files in one folder that are another file there by length and clusters: a
    /// renaming that was cut off. This name is removed, the other one stays.
    pub twins: Vec<String>,
    /// Folders that somebody was about to make longer: they get their end back.
    pub unended: Vec<String>,
    /// The note about how many clusters are free is wrong: it is rewritten.
    pub wrong_count: bool,
    /// What is not repaired.
    pub damaged: Vec<Damage>,
}

impl Findings {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// What is to be done in a folder.
#[derive(Clone, Debug)]
pub struct Chore {
    pub path: String,
    /// The folder's first cluster.
    pub first: u32,
    /// The cluster that is to be its last one, where its chain has no end.
    pub unended: Option<u32>,
    pub leftovers: Vec<usize>,
    pub twins: Vec<Record>,
}

/// All that is known of the file system after the walk.
#[derive(Debug)]
pub struct Survey {
    pub findings: Findings,
    pub chores: Vec<Chore>,
    /// Clusters that must not be given to a new file.
    pub used: Bits,
    /// How many others there are.
    pub free: u64,
    /// Clusters in use by no file.
    pub lost: Chain,
    /// Two files share a cluster.
    pub is_shared: bool,
}

/// Walks.
pub fn survey(
    device: &impl BlockDevice,
    geometry: &Geometry,
    tables: &Tables,
) -> Result<Survey, Error> {
    let mut walk = Walk {
        device,
        geometry,
        tables,
        reached: Bits::new(geometry.clusters),
        findings: Findings::default(),
        chores: Vec::new(),
        is_shared: false,
    };
    let mut folders = vec![(String::new(), geometry.root, 0)];
    while let Some((path, first, depth)) = folders.pop() {
        walk.folder(path, first, depth, &mut folders)?;
    }
    walk.tables()
}

struct Walk<'a, D> {
    device: &'a D,
    geometry: &'a Geometry,
    tables: &'a Tables,
    reached: Bits,
    findings: Findings,
    chores: Vec<Chore>,
    is_shared: bool,
}

impl<D: BlockDevice> Walk<'_, D> {
    fn damaged(&mut self, path: String, what: &'static str) {
        self.findings.damaged.push(Damage { path, what });
    }

    /// Marks a chain; `false` where some of it is marked already.
    fn reach(&mut self, chain: &Chain) -> bool {
        let is_new = chain.clusters().all(|cluster| !self.reached.has(cluster));
        for cluster in chain.clusters() {
            self.reached.add(cluster);
        }
        is_new
    }

    fn folder(
        &mut self,
        path: String,
        first: u32,
        depth: usize,
        folders: &mut Vec<(String, u32, usize)>,
    ) -> Result<(), Error> {
        if depth > DEPTH {
            self.damaged(path, "it is too deep below other folders");
            return Ok(());
        }
        let folder = match Directory::load(self.device, self.geometry, self.tables, first, &path) {
            Ok(folder) => folder,
            Err(Error::Damaged { what, .. }) => {
                // What there is of it must not be given to a file.
                let limit = u64::from(self.geometry.clusters);
                let (chain, _) = self.tables.chain(self.device, first, limit)?;
                self.reach(&chain);
                self.damaged(path, what);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !self.reach(&folder.chain) {
            self.is_shared = true;
            self.damaged(path, SHARED);
            return Ok(());
        }
        let (records, leftovers) = folder.records();
        let mut twins = Vec::new();
        for (number, record) in records.iter().enumerate() {
            let own = join(&path, &record.name);
            if record.name.contains('/') {
                self.damaged(own.clone(), "it has no possible name");
            }
            if record.is_folder {
                folders.push((own, record.first, depth + 1));
                continue;
            }
            if record.first == 0 {
                if record.length > 0 {
                    self.damaged(own, "it has no cluster");
                }
                continue;
            }
            let twin = records[..number].iter().any(|other| {
                !other.is_folder && (other.first, other.length) == (record.first, record.length)
            });
            if twin {
                twins.push(record.clone());
                continue;
            }
            let limit = u64::from(self.geometry.clusters);
            let (chain, wrong) = self.tables.chain(self.device, record.first, limit)?;
            let is_own = self.reach(&chain);
            self.is_shared |= !is_own;
            let short = chain.count() * self.geometry.cluster < u64::from(record.length);
            let what = wrong
                .or((!is_own).then_some(SHARED))
                .or(short.then_some("it is longer than its chain of clusters"));
            if let Some(what) = what {
                self.damaged(own, what);
            }
        }
        self.findings.leftovers += leftovers.len();
        self.findings
            .twins
            .extend(twins.iter().map(|twin| join(&path, &twin.name)));
        if folder.unended.is_some() {
            self.findings.unended.push(path.clone());
        }
        if !leftovers.is_empty() || !twins.is_empty() || folder.unended.is_some() {
            self.chores.push(Chore {
                path,
                first,
                unended: folder.unended,
                leftovers,
                twins,
            });
        }
        Ok(())
    }

    /// Compares the tables with each other and with what was reached.
    fn tables(mut self) -> Result<Survey, Error> {
        let mut used = self.reached.clone();
        let (mut free, mut lost) = (0, Chain::default());
        for number in 0..self.tables.windows() {
            let window = self.tables.window(self.device, 0, number)?;
            let window = window.unwrap_or_default();
            if let Some(copy) = self.tables.window(self.device, 1, number)? {
                self.findings.tables_differ |= differ(number, &window, &copy);
            }
            for (cluster, value) in entries(number, &window) {
                match (value & MASK, self.reached.has(cluster)) {
                    (0, false) => free += 1,
                    (_, true) => {}
                    (BAD, false) => used.add(cluster),
                    (_, false) => {
                        used.add(cluster);
                        lost.push(cluster);
                    }
                }
            }
        }
        self.findings.lost_clusters = lost.count();
        Ok(Survey {
            findings: self.findings,
            chores: self.chores,
            used,
            free,
            lost,
            is_shared: self.is_shared,
        })
    }
}

const SHARED: &str = "it shares clusters with another file";

/// The entries of a window that belong to clusters.
fn entries(number: u64, window: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let first = (number * WINDOW as u64 / 4) as u32;
    (0..window.len() / 4)
        .map(move |index| (first + index as u32, table::entry(window, index * 4)))
        .filter(|(cluster, _)| *cluster >= 2)
}

/// Whether two copies of a window differ in what counts.
pub fn differ(number: u64, window: &[u8], copy: &[u8]) -> bool {
    entries(number, window)
        .zip(entries(number, copy))
        .any(|((_, a), (_, b))| a & MASK != b & MASK)
}

/// A path from a folder's.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}
