//! The folder in which metadata is kept, and what trust begins with.
//!
//! What cannot be written there, because the disk is full, read-only or gone, is
//! kept in a spare folder in memory: it counts until the next boot, and no update
//! waits for a disk. A document that is in the spare folder is newer than the one
//! in the other; an empty one there stands for a document that could not be
//! removed. As soon as a document can be written to its place again, it is, and
//! leaves the spare folder. Work in progress is always there, where there is one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use release::Sha256Sum;
use sha2::{Digest, Sha256};
use tough::schema::{Root, Signed};

use crate::FetchError;

/// The metadata that is kept.
pub(crate) const KEPT: [&str; 4] = [
    "root.json",
    "timestamp.json",
    "snapshot.json",
    "targets.json",
];

/// The documents of the last run, by their file names.
const DOCUMENTS: &str = "documents";

/// The longest document that is read, in bytes: longer than the longest that is
/// fetched.
const LONGEST: usize = 1 << 20;

/// The sums of all roots that trust came through.
const ROOTS: &str = "roots";

/// The folder with what is kept.
#[derive(Clone, Debug)]
pub(crate) struct Datastore {
    folder: PathBuf,
    spare: Option<PathBuf>,
}

impl Datastore {
    /// Makes the folders where they are missing.
    pub(crate) fn new(folder: &Path, spare: Option<&Path>) -> Result<Self, FetchError> {
        let store = Self {
            folder: folder.to_owned(),
            spare: spare.map(Path::to_owned),
        };
        let made = fs::create_dir_all(folder);
        match spare {
            Some(spare) => fs::create_dir_all(spare).map_err(|source| FetchError::Datastore {
                path: spare.to_owned(),
                source,
            })?,
            None => made.map_err(|error| store.failed(error))?,
        }
        Ok(store)
    }

    /// Why documents are kept until the next boot only: the folder that they
    /// belong in and cannot be written to.
    pub(crate) fn unwritable(&self) -> Option<&Path> {
        let spare = self.spare.as_ref()?;
        let kept = KEPT.iter().chain([&ROOTS]);
        kept.into_iter()
            .any(|name| spare.join(name).exists())
            .then_some(&*self.folder)
    }

    /// A kept document.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FetchError> {
        let spare = self.spare.as_ref().map(|spare| spare.join(name));
        for path in spare.into_iter().chain([self.folder.join(name)]) {
            match read(&path) {
                Ok(Some(bytes)) => return Ok((!bytes.is_empty()).then_some(bytes)),
                Ok(None) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(None)
    }

    fn failed(&self, source: io::Error) -> FetchError {
        FetchError::Datastore {
            path: self.folder.clone(),
            source,
        }
    }

    fn work(&self) -> PathBuf {
        self.spare.as_ref().unwrap_or(&self.folder).join("unproven")
    }

    /// The root that trust begins with: the kept one if `anchor` leads to it or
    /// it leads to `anchor`, whichever is newer, else `anchor`, and then metadata
    /// that hangs on another root is forgotten.
    pub(crate) fn begin(&self, anchor: &[u8]) -> Result<Vec<u8>, FetchError> {
        let given = root(anchor).map_err(FetchError::Anchor)?;
        let kept = self.read(KEPT[0])?;
        let kept = kept.and_then(|bytes| root(&bytes).ok().map(|root| (bytes, root)));
        if let Some((bytes, kept)) = kept {
            let (older, newer, start) = if kept.signed.version > given.signed.version {
                (&given, &kept, bytes)
            } else {
                (&kept, &given, anchor.to_vec())
            };
            // Several rotations apart, the older one's keys did not sign the newer
            // one; then it counts whether trust once came through the anchor.
            if older.signed.verify_role(newer).is_ok() || self.roots()?.contains(&sum(anchor)) {
                return Ok(start);
            }
        }
        for name in KEPT.iter().chain([&ROOTS]) {
            self.forget(name)?;
        }
        Ok(anchor.to_vec())
    }

    /// The sums of the roots that trust came through.
    fn roots(&self) -> Result<String, FetchError> {
        let sums = self.read(ROOTS)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&sums).into_owned())
    }

    /// Trust came through these roots too.
    pub(crate) fn add_roots<'a>(
        &self,
        roots: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), FetchError> {
        let mut sums = self.roots()?;
        for root in roots {
            let sum = sum(root);
            if !sums.contains(&sum) {
                sums += &format!("{sum}\n");
            }
        }
        self.write(ROOTS, sums.as_bytes())
    }

    /// A document of the last run.
    pub(crate) fn document(&self, name: &str) -> Option<Vec<u8>> {
        read(&self.folder.join(DOCUMENTS).join(name)).ok()?
    }

    /// Keeps a document for the next run. Without it that run fetches it again, so
    /// nothing is flushed.
    pub(crate) fn keep_document(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder.join(DOCUMENTS);
        fs::create_dir_all(&folder)?;
        if self.document(name).is_none_or(|kept| kept != bytes) {
            // Not half of it if the disk is full.
            atomic_file::replace_volatile(&folder.join(name), bytes)?;
        }
        Ok(())
    }

    /// Forgets the documents of the last run for which `stale` says so.
    pub(crate) fn forget_documents(&self, stale: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(self.folder.join(DOCUMENTS)) else {
            return;
        };
        for entry in entries.flatten() {
            if stale(&entry.file_name().to_string_lossy()) {
                // It is asked for again next time, as is the next run.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A fresh working copy.
    pub(crate) fn open(&self) -> Result<PathBuf, FetchError> {
        self.close()?;
        let work = self.work();
        fs::create_dir(&work).map_err(|error| self.failed(error))?;
        for name in KEPT {
            if let Some(bytes) = self.read(name)? {
                fs::write(work.join(name), bytes).map_err(|error| self.failed(error))?;
            }
        }
        Ok(work)
    }

    pub(crate) fn close(&self) -> Result<(), FetchError> {
        match fs::remove_dir_all(self.work()) {
            Err(error) if !is_missing(&error) => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Keeps the working copy of these documents.
    pub(crate) fn keep(&self, names: &[&str]) -> Result<(), FetchError> {
        for name in names {
            match read(&self.work().join(name)) {
                Ok(Some(bytes)) => self.write(name, &bytes)?,
                Ok(None) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// Writes a file so that after a power cut it is the old or the new one, or
    /// keeps it in the spare folder.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FetchError> {
        let path = self.folder.join(name);
        if read(&path).is_ok_and(|kept| kept.as_deref() == Some(bytes)) {
            return self.unspare(name);
        }
        match (atomic_file::replace(&path, bytes), &self.spare) {
            (Ok(()), _) => self.unspare(name),
            (Err(_), Some(_)) => self.put_in_spare(name, bytes),
            (Err(error), None) => Err(self.failed(error)),
        }
    }

    fn forget(&self, name: &str) -> Result<(), FetchError> {
        match (remove(&self.folder.join(name)), &self.spare) {
            (Ok(()), _) => self.unspare(name),
            (Err(_), Some(_)) => self.put_in_spare(name, b""),
            (Err(error), None) => Err(self.failed(error)),
        }
    }

    /// The document is in its place: what is in the spare folder is older.
    fn unspare(&self, name: &str) -> Result<(), FetchError> {
        let Some(spare) = &self.spare else {
            return Ok(());
        };
        remove(&spare.join(name)).map_err(|source| FetchError::Datastore {
            path: spare.clone(),
            source,
        })
    }

    fn put_in_spare(&self, name: &str, bytes: &[u8]) -> Result<(), FetchError> {
        let Some(spare) = &self.spare else {
            return Ok(());
        };
        let put = atomic_file::replace_volatile(&spare.join(name), bytes);
        put.map_err(|source| FetchError::Datastore {
            path: spare.clone(),
            source,
        })
    }
}

/// There is no such file, or no such folder.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A document, whatever has come to its place.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match config::read_bytes(path, LONGEST) {
        Ok(bytes) => Ok(bytes),
        // A file is in the place of a folder that leads there.
        Err(_) if path.ancestors().skip(1).any(Path::is_file) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn sum(document: &[u8]) -> String {
    Sha256Sum(Sha256::digest(document).into()).to_string()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Root metadata that enough of its own keys have signed.
fn root(bytes: &[u8]) -> Result<Signed<Root>, String> {
    let root: Signed<Root> =
        serde_json::from_slice(bytes).map_err(|error| format!("no root metadata: {error}"))?;
    root.signed
        .verify_role(&root)
        .map_err(|error| error.to_string())?;
    Ok(root)
}
