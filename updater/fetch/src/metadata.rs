//! Metadata that can be trusted: TUF, by way of `tough`.
//!
//! Where this decides more than `tough` does:
//!
//! - **The newest root that was ever seen is where the next run begins.** `tough`
//!   begins at the trust anchor each time; a mirror that keeps later roots back
//!   could then have keys accepted that were revoked long ago.
//! - **What is kept is kept whole.** A run works on a copy of the kept metadata,
//!   which takes the place of the old file by file, flushed, when the repository
//!   turned out good as a whole. A mirror with half of it leaves no trace. A new
//!   root alone is kept at once.
//! - **A clock that was wrong locks nobody out.** `tough` remembers the latest
//!   time it has seen and refuses to work before it, which for a machine whose
//!   clock was once in the future means never again. That memory is not kept over
//!   runs. Metadata still cannot be rolled back, since versions are compared, not
//!   times. What it costs: whoever can put the clock back may show metadata that
//!   has expired since, but none older than what this machine has seen, and the
//!   clock never goes behind the time the running release was built or the last
//!   time that was saved, which PID 1 sees to.
//! - **Not being able to ask for the next root is an error**, unless the answer is
//!   that there is none.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use release::MAX_CHANNEL;
use tough::schema::{RoleType, Root, Signed};
use tough::{
    ExpirationEnforcement, IntoVec, Limits, RepositoryLoader, TargetName, TransportError,
    TransportErrorKind, TransportStream,
};
use url::Url;

use crate::address::Address;
use crate::transport::{Transport, Wanted};
use crate::{Failure, Fault, FetchError, Retry, jitter};

/// Bounds for each document, so that none fills the memory.
const LIMITS: Limits = Limits {
    max_root_size: 256 * 1024,
    max_targets_size: 256 * 1024,
    max_timestamp_size: 64 * 1024,
    max_snapshot_size: 64 * 1024,
    max_root_updates: 256,
};

/// No document of metadata, nor a channel, is longer.
const LONGEST: u64 = 512 * 1024;

/// The metadata that is kept.
const KEPT: [&str; 4] = [
    "root.json",
    "timestamp.json",
    "snapshot.json",
    "targets.json",
];

/// The folder with what is kept.
#[derive(Debug)]
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
    fn begin(&self, anchor: &[u8]) -> Result<Vec<u8>, FetchError> {
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
            // Several rotations apart, the older one's keys may not have signed the
            // newer one; then the file that both were reached from decides.
            let related = older.signed.verify_role(newer).is_ok() || self.anchored(anchor)?;
            if related {
                return Ok(start);
            }
        }
        for name in KEPT {
            remove(&self.folder.join(name)).map_err(|error| self.failed(error))?;
        }
        self.write("anchor.json", anchor)?;
        Ok(anchor.to_vec())
    }

    /// Whether what is kept was reached from this very anchor.
    fn anchored(&self, anchor: &[u8]) -> Result<bool, FetchError> {
        match fs::read(self.folder.join("anchor.json")) {
            Ok(bytes) => Ok(bytes == anchor),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// A fresh working copy.
    fn open(&self) -> Result<PathBuf, FetchError> {
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

    fn close(&self) -> Result<(), FetchError> {
        match fs::remove_dir_all(self.work()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Keeps the working copy of these documents.
    fn keep(&self, names: &[&str]) -> Result<(), FetchError> {
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
        let new = self.folder.join(format!("{name}.new"));
        let write = || {
            let mut file = fs::File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| self.failed(error))
    }
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

/// The metadata of one repository, verified.
#[derive(Debug)]
pub(crate) struct Metadata {
    repository: tough::Repository,
    requests: Documents,
}

impl Metadata {
    /// Reads and verifies the metadata at `address`.
    pub(crate) async fn read(
        address: &Address,
        transport: &Transport,
        retry: Retry,
        anchor: &[u8],
        datastore: &Datastore,
    ) -> Result<Result<Self, Failure>, FetchError> {
        let start = datastore.begin(anchor)?;
        let work = datastore.open()?;
        let requests = Documents {
            address: address.clone(),
            transport: transport.clone(),
            retry,
            last: Arc::default(),
        };
        let loaded = RepositoryLoader::new(&start, base("metadata/"), base("targets/channels/"))
            .transport(requests.clone())
            .limits(LIMITS)
            .datastore(&work)
            .expiration_enforcement(ExpirationEnforcement::Safe)
            .load()
            .await;
        // A root stands on its own: what it revokes is revoked.
        datastore.keep(&KEPT[..1])?;
        let read = match loaded {
            Ok(repository) => {
                datastore.keep(&KEPT)?;
                Ok(Self {
                    repository,
                    requests,
                })
            }
            Err(error) => Err(requests.failure(&error, &work)),
        };
        if read.is_err() {
            datastore.close()?;
        }
        Ok(read)
    }

    /// The content of a channel's file.
    pub(crate) async fn channel(&self, name: &str) -> Result<Vec<u8>, FetchError> {
        let refuse = |why: String| FetchError::Channel {
            name: name.to_owned(),
            why,
        };
        let file =
            TargetName::new(format!("{name}.json")).map_err(|error| refuse(error.to_string()))?;
        let target = self
            .repository
            .targets()
            .signed
            .targets
            .get(&file)
            .ok_or_else(|| {
                let mut known: Vec<String> = self
                    .repository
                    .all_targets()
                    .filter_map(|(name, _)| name.raw().strip_suffix(".json"))
                    .map(|name| name.escape_default().to_string())
                    .take(8)
                    .collect();
                known.sort();
                refuse(format!(
                    "not in the repository, which has: {}",
                    known.join(", ")
                ))
            })?;
        if target.length > MAX_CHANNEL {
            return Err(refuse(format!(
                "{} bytes long, and at most {} are read",
                target.length, MAX_CHANNEL
            )));
        }
        let stream = self.repository.read_target(&file).await;
        let failed = |error: &tough::error::Error| {
            refuse(self.requests.failure(error, Path::new("")).to_string())
        };
        match stream {
            Ok(Some(stream)) => stream.into_vec().await.map_err(|error| failed(&error)),
            Ok(None) => Err(refuse("not in the repository".to_owned())),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// An address that only [`Documents`] understands: real ones may have a query,
/// which joining would lose.
fn base(path: &str) -> Url {
    // The parts are constants, and this is an address.
    #[expect(clippy::expect_used)]
    Url::parse(&format!("repository:///{path}")).expect("an address")
}

/// `tough`'s view of a repository: whole documents, each bounded.
#[derive(Clone, Debug)]
struct Documents {
    address: Address,
    transport: Transport,
    retry: Retry,
    last: Arc<Mutex<Last>>,
}

/// The request before, for errors.
#[derive(Debug, Default)]
struct Last {
    /// Its address for people.
    address: String,
    failure: Option<Failure>,
    document: Vec<u8>,
}

impl Documents {
    async fn read(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let Some(address) = self.address.join(path) else {
            return Err(Failure {
                address: self.address.shown(),
                fault: Fault::Wrong(format!("'{path}' is no file's name")),
            });
        };
        let mut failures = 0;
        loop {
            let read = async {
                let wanted = Wanted::AtMost(LONGEST);
                self.transport.get(&address, wanted).await?.all().await
            };
            match read.await {
                Err(failure) if failure.fault.may_pass() => {
                    failures += 1;
                    if failures >= self.retry.attempts {
                        return Err(failure);
                    }
                    tokio::time::sleep(self.retry.delay(failures, jitter())).await;
                }
                read => return read,
            }
        }
    }

    fn failure(&self, error: &tough::error::Error, work: &Path) -> Failure {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &last.failure
            && !matches!(failure.fault, Fault::NotFound if last.address.ends_with(".root.json"))
        {
            return failure.clone();
        }
        let why = match error {
            tough::error::Error::ExpiredMetadata { role, .. } => {
                let document = match role {
                    RoleType::Root => fs::read(work.join(KEPT[0])).unwrap_or_default(),
                    _ => last.document.clone(),
                };
                expired(&role.to_string(), &document)
            }
            tough::error::Error::OlderMetadata {
                role,
                current_version,
                new_version,
                ..
            } => format!(
                "replayed: its {role} metadata has version {new_version}, and version \
                 {current_version} was seen before"
            ),
            tough::error::Error::VerifyMetadata { role, source, .. } => format!(
                "its {role} metadata is not signed by enough keys that the root trusts: {source}"
            ),
            error => error.to_string(),
        };
        let address = match (error, last.address.is_empty()) {
            (
                tough::error::Error::ExpiredMetadata {
                    role: RoleType::Root,
                    ..
                },
                _,
            )
            | (_, true) => self.address.shown(),
            _ => last.address.clone(),
        };
        Failure {
            address,
            fault: Fault::Wrong(why),
        }
    }
}

/// Says when a document expired by which clock, and what to do.
fn expired(role: &str, document: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(document).ok();
    let expires = document
        .as_ref()
        .and_then(|document| document["signed"]["expires"].as_str())
        .unwrap_or("a time that cannot be read");
    let now = Timestamp::now().round(jiff::Unit::Second);
    let now = now.map_or_else(|error| error.to_string(), |now| now.to_string());
    format!(
        "its {role} metadata expired at {expires}, and this machine's clock says {now}: set the \
         clock if it is wrong, else the repository's operator has to sign the metadata again"
    )
}

#[async_trait::async_trait]
impl tough::Transport for Documents {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let path = url.path().trim_start_matches('/').to_owned();
        let read = self.read(&path).await;
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.address = self
                .address
                .join(&path)
                .map_or_else(|| self.address.shown(), |address| address.shown());
            last.failure = read.as_ref().err().cloned();
            last.document = read.as_ref().map_or_else(|_| Vec::new(), Vec::clone);
        }
        // As part of the stream: `tough` takes an error of this call for "there is
        // no later root".
        let item = read.map(Into::into).map_err(|failure| {
            let kind = match failure.fault {
                Fault::NotFound => TransportErrorKind::FileNotFound,
                _ => TransportErrorKind::Other,
            };
            TransportError::new_with_cause(kind, url, failure)
        });
        Ok(Box::pin(futures_util::stream::once(std::future::ready(
            item,
        ))))
    }
}
