//! The file system and its operations.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use block_device::BlockDevice;

use crate::Error;
use crate::boot_sector::Geometry;
use crate::check::{self, Chore, Findings, Survey, join};
use crate::directory::{Directory, ENTRY, Record, flush};
use crate::file::{File, Writer};
use crate::name;
use crate::repair::info;
use crate::table::{Bits, Chain, END, Tables};

/// A file or folder in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Bytes; 0 of a folder.
    pub length: u64,
}

/// A FAT32 file system. All methods take `&self`, so that one file can be read
/// while another is written; it is for one thread.
///
/// Paths are names with `/` between them, from the root; upper and lower case
/// are the same.
pub struct FileSystem<D> {
    pub(crate) device: D,
    pub(crate) geometry: Geometry,
    pub(crate) tables: Tables,
    pub(crate) state: RefCell<State>,
}

/// What is known of it besides what is on the device.
#[derive(Debug)]
pub(crate) struct State {
    pub findings: Findings,
    pub chores: Vec<Chore>,
    used: Bits,
    pub free: u64,
    pub lost: Chain,
    is_shared: bool,
    /// Where there may be a free cluster; there is none before.
    pub hint: u32,
}

impl<D: BlockDevice> FileSystem<D> {
    /// Opens the file system of a partition and walks through it. Writes
    /// nothing.
    ///
    /// # Errors
    /// It is no FAT32 file system, or the device could not be read.
    pub fn open(device: D) -> Result<Self, Error> {
        let mut sector = [0; Geometry::LENGTH];
        if device.length() < sector.len() as u64 {
            return Err(Error::Unsupported("the partition is too small".to_owned()));
        }
        device.read_at(&mut sector, 0).map_err(Error::io("read"))?;
        let mut geometry = Geometry::parse(&sector, device.length())?;
        let tables = Tables::new(geometry);
        let Survey {
            mut findings,
            chores,
            used,
            free,
            lost,
            is_shared,
        } = check::survey(&device, &geometry, &tables)?;
        if let Some(place) = geometry.info {
            device
                .read_at(&mut sector, place)
                .map_err(Error::io("read"))?;
            let is_one = info::MARKS
                .iter()
                .all(|(at, mark)| sector[*at..at + 4] == mark[..]);
            if is_one {
                let count = crate::table::entry(&sector, info::FREE);
                findings.wrong_count = count != info::UNKNOWN && u64::from(count) != free;
            } else {
                geometry.info = None;
            }
        }
        Ok(Self {
            device,
            geometry,
            tables,
            state: RefCell::new(State {
                findings,
                chores,
                used,
                free,
                lost,
                is_shared,
                hint: 2,
            }),
        })
    }

    /// The device that it is on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// What is wrong with it.
    pub fn findings(&self) -> Findings {
        self.state.borrow().findings.clone()
    }

    /// Bytes that are free, those included that [`FileSystem::repair`] frees.
    pub fn free(&self) -> u64 {
        let state = self.state.borrow();
        let reclaimable = if state.findings.damaged.is_empty() {
            state.lost.count()
        } else {
            0
        };
        (state.free + reclaimable) * self.geometry.cluster
    }

    /// Bytes of a cluster: each file takes whole ones.
    pub fn cluster(&self) -> u64 {
        self.geometry.cluster
    }

    /// What is in a folder; the root's path is empty.
    ///
    /// # Errors
    /// There is no such folder, it is damaged, or the device could not be read.
    pub fn list(&self, folder: &str) -> Result<Vec<Entry>, Error> {
        let (records, _) = self.folder(folder)?.records();
        Ok(records.into_iter().map(Entry::from).collect())
    }

    /// What has this path, if anything.
    ///
    /// # Errors
    /// A folder on the way is damaged, or the device could not be read.
    pub fn find(&self, path: &str) -> Result<Option<Entry>, Error> {
        let (parent, name) = split(path)?;
        match self.folder(parent) {
            Ok(folder) => Ok(folder.find(name).map(Entry::from)),
            Err(Error::NotFound(_) | Error::NotAFolder(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// There is none, it is damaged, or the device could not be read.
    pub fn file(&self, path: &str) -> Result<File<'_, D>, Error> {
        let (_, record) = self.record(path)?;
        if record.is_folder {
            return Err(Error::IsFolder(path.to_owned()));
        }
        Ok(File {
            device: &self.device,
            geometry: self.geometry,
            chain: self.chain_of(path, &record)?,
            length: u64::from(record.length),
        })
    }

    /// Begins a new file of so many bytes.
    ///
    /// # Errors
    /// There is a file of this name already, no room, or the device failed.
    pub fn create(&self, path: &str, length: u64) -> Result<Writer<'_, D>, Error> {
        self.writer(path, length, false)
    }

    /// Begins a file that replaces the one of this name, where there is one.
    ///
    /// # Errors
    /// It is a folder, there is no room, or the device failed.
    pub fn replace(&self, path: &str, length: u64) -> Result<Writer<'_, D>, Error> {
        self.writer(path, length, true)
    }

    fn writer(&self, path: &str, length: u64, replaces: bool) -> Result<Writer<'_, D>, Error> {
        self.repair()?;
        let (parent, name) = split(path)?;
        self.target(&self.folder(parent)?, name, replaces)?;
        if u32::try_from(length).is_err() {
            return Err(Error::Full {
                needed: length,
                free: u64::from(u32::MAX).min(self.free()),
            });
        }
        let chain = self.take(self.geometry.clusters_for(length))?;
        Ok(Writer {
            system: self,
            path: path.to_owned(),
            replaces,
            chain,
            promised: length,
            written: 0,
        })
    }

    /// The file that a new one may replace.
    fn target(
        &self,
        folder: &Directory,
        name: &str,
        replaces: bool,
    ) -> Result<Option<Record>, Error> {
        if !name::is_valid(name) {
            return Err(Error::Name(name.to_owned()));
        }
        let found = folder.find(name);
        if let Some(record) = &found {
            let path = join(&folder.path, &record.name);
            if record.is_folder {
                return Err(Error::IsFolder(path));
            }
            if !replaces {
                return Err(Error::Exists(path));
            }
            self.refuse_damaged(&path)?;
        }
        Ok(found)
    }

    /// Makes a written chain a file. The chain is taken once it is in the tables;
    /// where it stays, nothing has been changed.
    pub(crate) fn publish(
        &self,
        path: &str,
        chain: &mut Chain,
        length: u32,
        replaces: bool,
    ) -> Result<(), Error> {
        let (parent, name) = split(path)?;
        let mut folder = self.folder(parent)?;
        let first = chain.first().unwrap_or(0);
        let target = self.target(&folder, name, replaces)?;
        let change = match target {
            Some(old) => Publish::Replace(self.chain_of(path, &old)?, old),
            None => Publish::Insert(self.place(&mut folder, name, false, first, length, None)?),
        };
        flush(&self.device)?;
        self.tables
            .set(&self.device, std::mem::take(chain).entries())?;
        self.note()?;
        flush(&self.device)?;
        match change {
            Publish::Replace(old_chain, old) => {
                folder.set_content(&self.device, &self.geometry, old.slot(), first, length)?;
                self.release(&old_chain)
            }
            Publish::Insert((at, entries)) => {
                folder.put(&self.device, &self.geometry, at, &entries, None)
            }
        }
    }

    /// Gives a file or folder another name in the same folder.
    ///
    /// # Errors
    /// It is not there, or something else has the name; the folder is full, or
    /// the device failed.
    pub fn rename(&self, path: &str, name: &str) -> Result<(), Error> {
        self.repair()?;
        if !name::is_valid(name) {
            return Err(Error::Name(name.to_owned()));
        }
        self.refuse_damaged(path)?;
        let (mut folder, record) = self.record(path)?;
        if record.name == name {
            return Ok(());
        }
        if let Some(other) = folder.find(name)
            && other.slots != record.slots
        {
            return Err(Error::Exists(join(&folder.path, &other.name)));
        }
        let own = Some(&record.slots);
        let (at, entries) = self.place(
            &mut folder,
            name,
            record.is_folder,
            record.first,
            record.length,
            own,
        )?;
        folder.put(&self.device, &self.geometry, at, &entries, own)
    }

    /// Removes a file, or an empty folder.
    ///
    /// # Errors
    /// It is not there, damaged, a folder with something in it, or the device
    /// failed.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        self.repair()?;
        self.refuse_damaged(path)?;
        let (mut folder, record) = self.record(path)?;
        if record.is_folder && !self.list(path)?.is_empty() {
            return Err(Error::NotEmpty(path.to_owned()));
        }
        let chain = self.chain_of(path, &record)?;
        folder.remove(&self.device, &self.geometry, &record.slots)?;
        self.release(&chain)
    }

    /// Makes a folder, where there is none.
    ///
    /// # Errors
    /// There is a file of this name, no room, or the device failed.
    pub fn create_folder(&self, path: &str) -> Result<(), Error> {
        self.repair()?;
        let (parent, name) = split(path)?;
        if !name::is_valid(name) {
            return Err(Error::Name(name.to_owned()));
        }
        let mut folder = self.folder(parent)?;
        match folder.find(name) {
            Some(record) if record.is_folder => return Ok(()),
            Some(_) => return Err(Error::NotAFolder(path.to_owned())),
            None => {}
        }
        let chain = self.take(1)?;
        let Some(own) = chain.first() else {
            return Ok(());
        };
        let place = self.place(&mut folder, name, true, own, 0, None);
        let (at, entries) = place.inspect_err(|_| self.give_back(&chain))?;
        let above = match folder.chain.first() {
            Some(first) if first != self.geometry.root => first,
            // The root is written as 0 there.
            _ => 0,
        };
        let mut content = vec![0; self.geometry.cluster as usize];
        let head = Directory::head(own, above);
        content[..head.len()].copy_from_slice(&head);
        self.device
            .write_at(&content, self.geometry.offset(own))
            .map_err(Error::io("write a folder of"))?;
        flush(&self.device)?;
        self.tables.set(&self.device, chain.entries())?;
        self.note()?;
        flush(&self.device)?;
        folder.put(&self.device, &self.geometry, at, &entries, None)
    }

    /// The entries for `name`, and where in the folder they can be put, which is
    /// made longer if it is full. Those in `own` will be removed.
    fn place(
        &self,
        folder: &mut Directory,
        name: &str,
        is_folder: bool,
        first: u32,
        length: u32,
        own: Option<&Range<usize>>,
    ) -> Result<Placed, Error> {
        let entries = folder
            .entries_for(name, is_folder, first, length)
            .ok_or_else(|| Error::Name(name.to_owned()))?;
        loop {
            match folder.room(entries.len(), own) {
                Some(at) => return Ok((at, entries)),
                None => self.extend(folder)?,
            }
        }
    }

    /// Makes a folder longer by a cluster.
    fn extend(&self, folder: &mut Directory) -> Result<(), Error> {
        let last = folder.chain.last();
        if !folder.can_grow(&self.geometry) {
            return Err(Error::damaged(&folder.path, "it has too many entries"));
        }
        let chain = self.take(1)?;
        let (Some(new), Some(last)) = (chain.first(), last) else {
            return Ok(());
        };
        let zeros = vec![0; self.geometry.cluster as usize];
        self.device
            .write_at(&zeros, self.geometry.offset(new))
            .map_err(Error::io("write a folder of"))?;
        flush(&self.device)?;
        self.tables.set(&self.device, [(new, END)])?;
        self.note()?;
        flush(&self.device)?;
        self.tables.set(&self.device, [(last, new)])?;
        flush(&self.device)?;
        folder.extended(&self.geometry, new);
        Ok(())
    }

    /// Frees a chain that nothing points to any more.
    fn release(&self, chain: &Chain) -> Result<(), Error> {
        // A cluster that two files share is still in use by one.
        if chain.0.is_empty() || self.state.borrow().is_shared {
            return Ok(());
        }
        self.tables
            .set(&self.device, chain.clusters().map(|cluster| (cluster, 0)))?;
        self.give_back(chain);
        self.note()?;
        flush(&self.device)
    }

    /// Takes free clusters, in memory only.
    fn take(&self, count: u64) -> Result<Chain, Error> {
        let mut state = self.state.borrow_mut();
        if count > state.free {
            return Err(Error::Full {
                needed: count.saturating_mul(self.geometry.cluster),
                free: state.free * self.geometry.cluster,
            });
        }
        let mut chain = Chain::default();
        let mut cluster = state.hint;
        for _ in 0..count {
            while state.used.has(cluster) {
                cluster += 1;
            }
            state.used.add(cluster);
            chain.push(cluster);
        }
        state.hint = chain.last().unwrap_or(cluster);
        state.free -= count;
        Ok(chain)
    }

    /// Gives clusters back, in memory only.
    pub(crate) fn give_back(&self, chain: &Chain) {
        let mut state = self.state.borrow_mut();
        for cluster in chain.clusters() {
            state.used.take(cluster);
            state.hint = state.hint.min(cluster);
        }
        state.free += chain.count();
    }

    fn refuse_damaged(&self, path: &str) -> Result<(), Error> {
        let state = self.state.borrow();
        let found = state
            .findings
            .damaged
            .iter()
            .find(|damage| name::same(&damage.path, path));
        match found {
            Some(damage) => Err(Error::damaged(path, damage.what)),
            None => Ok(()),
        }
    }

    fn chain_of(&self, path: &str, record: &Record) -> Result<Chain, Error> {
        if record.first == 0 && record.length == 0 {
            return Ok(Chain::default());
        }
        let limit = u64::from(self.geometry.clusters);
        let (chain, wrong) = self.tables.chain(&self.device, record.first, limit)?;
        if let Some(what) = wrong {
            return Err(Error::damaged(path, what));
        }
        if chain.count() * self.geometry.cluster < u64::from(record.length) {
            return Err(Error::damaged(
                path,
                "it is longer than its chain of clusters",
            ));
        }
        Ok(chain)
    }

    fn record(&self, path: &str) -> Result<(Directory, Record), Error> {
        let (parent, name) = split(path)?;
        let folder = self.folder(parent)?;
        match folder.find(name) {
            Some(record) => Ok((folder, record)),
            None => Err(Error::NotFound(path.to_owned())),
        }
    }

    fn folder(&self, path: &str) -> Result<Directory, Error> {
        let load = |first, path: &str| {
            Directory::load(&self.device, &self.geometry, &self.tables, first, path)
        };
        let mut folder = load(self.geometry.root, "")?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let own = join(&folder.path, name);
            folder = match folder.find(name) {
                Some(record) if record.is_folder => load(record.first, &own)?,
                Some(_) => return Err(Error::NotAFolder(own)),
                None => return Err(Error::NotFound(own)),
            };
        }
        Ok(folder)
    }
}

/// Entries of a folder, and where they are to be.
type Placed = (usize, Vec<[u8; ENTRY]>);

/// How a written file becomes one.
enum Publish {
    /// In the place of another's content.
    Replace(Chain, Record),
    /// By entries of its own.
    Insert(Placed),
}

impl<D: fmt::Debug> fmt::Debug for FileSystem<D> {
    /// Without the tables.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSystem")
            .field("device", &self.device)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        Self {
            name: record.name,
            is_folder: record.is_folder,
            length: u64::from(record.length),
        }
    }
}

/// A path as its folder's and a name.
fn split(path: &str) -> Result<(&str, &str), Error> {
    let path = path.trim_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() {
        return Err(Error::Name(path.to_owned()));
    }
    Ok((parent, name))
}
