//! The folder in which metadata is kept, and what trust begins with.

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

/// The sums of all roots that trust came through.
const ROOTS: &str = "roots";

/// The folder with what is kept.
#[derive(Clone, Debug)]
pub(crate) struct Datastore {
    folder: PathBuf,
}

impl Datastore {
    /// Makes the folder where it is missing.
    pub(crate) fn new(folder: &Path) -> Result<Self, FetchError> {
        let store = Self {
            folder: folder.to_owned(),
        };
        fs::create_dir_all(folder).map_err(|error| store.failed(error))?;
        Ok(store)
    }

    fn failed(&self, source: io::Error) -> FetchError {
        FetchError::Datastore {
            path: self.folder.clone(),
            source,
        }
    }

    fn work(&self) -> PathBuf {
        self.folder.join("unproven")
    }

    /// The root that trust begins with: the kept one where `anchor` leads to it or
    /// it leads to `anchor`, whichever is newer, else `anchor`, and then metadata
    /// that hangs on another root is forgotten.
    pub(crate) fn begin(&self, anchor: &[u8]) -> Result<Vec<u8>, FetchError> {
        let given = root(anchor).map_err(FetchError::Anchor)?;
        let kept = match fs::read(self.folder.join(KEPT[0])) {
            Ok(bytes) => root(&bytes).ok().map(|root| (bytes, root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed(error)),
        };
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
            remove(&self.folder.join(name)).map_err(|error| self.failed(error))?;
        }
        Ok(anchor.to_vec())
    }

    /// The sums of the roots that trust came through.
    fn roots(&self) -> Result<String, FetchError> {
        match fs::read_to_string(self.folder.join(ROOTS)) {
            Ok(sums) => Ok(sums),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(self.failed(error)),
        }
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
        fs::read(self.folder.join(DOCUMENTS).join(name)).ok()
    }

    /// Keeps a document for the next run. Without it that run fetches it again, so
    /// nothing is flushed.
    pub(crate) fn keep_document(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder.join(DOCUMENTS);
        fs::create_dir_all(&folder)?;
        if self.document(name).is_none_or(|kept| kept != bytes) {
            fs::write(folder.join(name), bytes)?;
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
            match fs::copy(self.folder.join(name), work.join(name)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(work)
    }

    pub(crate) fn close(&self) -> Result<(), FetchError> {
        match fs::remove_dir_all(self.work()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Keeps the working copy of these documents.
    pub(crate) fn keep(&self, names: &[&str]) -> Result<(), FetchError> {
        for name in names {
            match fs::read(self.work().join(name)) {
                Ok(bytes) => self.write(name, &bytes)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// Writes a file so that after a power cut it is the old or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FetchError> {
        let path = self.folder.join(name);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        atomic_file::replace(&path, bytes).map_err(|error| self.failed(error))
    }
}

fn sum(document: &[u8]) -> String {
    Sha256Sum(Sha256::digest(document).into()).to_string()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
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
