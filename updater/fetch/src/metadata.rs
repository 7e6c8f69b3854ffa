//! Metadata that can be trusted: TUF, by way of `tough`.
//!
//! Where this decides more than `tough` does:
//!
//! - **The newest root that was ever seen is where the next run begins.** `tough`
//!   begins at the trust anchor each time; a mirror that keeps later roots back
//!   could then have keys accepted that were revoked long ago.
//! - **Metadata is kept completely or not at all.** A run works on a copy of the kept metadata,
//!   which takes the place of the old file by file, flushed, when the repository
//!   turned out to be valid. Incomplete metadata from a mirror leaves no trace. A new
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
//! - **What has not changed is not fetched again.** Snapshot, targets and channels
//!   have a version or a sum in their names; those of the last run are kept, so that
//!   a check costs the timestamp and the request for a newer root.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use release::MAX_CHANNEL;
use tough::schema::RoleType;
use tough::{
    ExpirationEnforcement, IntoVec, Limits, RepositoryLoader, TargetName, TransportError,
    TransportErrorKind, TransportStream,
};
use url::Url;

use crate::address::Address;
use crate::datastore::{Datastore, KEPT};
use crate::source::Source;
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
        source: &Source,
        retry: Retry,
        anchor: &[u8],
        datastore: &Datastore,
    ) -> Result<Result<Self, Failure>, FetchError> {
        let requests = Documents {
            address: address.clone(),
            source: source.clone(),
            retry,
            datastore: datastore.clone(),
            run: Arc::default(),
        };
        let read = requests.load(anchor).await?;
        if read.is_ok() || !requests.run().from_last_run {
            return Ok(read);
        }
        // What was kept of the last run may be what is wrong.
        datastore.forget_documents(|_| true);
        requests.load(anchor).await
    }

    /// Where it is kept.
    pub(crate) fn datastore(&self) -> &Datastore {
        &self.requests.datastore
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
                refuse(match known.is_empty() {
                    true => "not in the repository, which has no channels: nothing has been \
                             published there yet"
                        .to_owned(),
                    false => format!("not in the repository, which has: {}", known.join(", ")),
                })
            })?;
        if target.length > MAX_CHANNEL {
            return Err(refuse(format!(
                "{} bytes long, and at most {} are read",
                target.length, MAX_CHANNEL
            )));
        }
        let read = async || match self.repository.read_target(&file).await {
            Ok(Some(stream)) => stream.into_vec().await,
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        self.requests.run().from_last_run = false;
        let mut bytes = read().await;
        if bytes.is_err() && self.requests.run().from_last_run {
            let end = format!(".{name}.json");
            self.requests
                .datastore
                .forget_documents(|kept| kept.ends_with(&end));
            bytes = read().await;
        }
        let bytes = bytes
            .map_err(|error| refuse(self.requests.failure(&error, Path::new("")).to_string()))?;
        self.requests.keep_documents();
        Ok(bytes)
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
    source: Source,
    retry: Retry,
    datastore: Datastore,
    run: Arc<Mutex<Run>>,
}

/// What was asked for so far.
#[derive(Debug, Default)]
struct Run {
    /// The latest document's address for people.
    address: String,
    /// Why it could not be fetched.
    failure: Option<Failure>,
    document: Vec<u8>,
    /// Roots.
    roots: Vec<Vec<u8>>,
    /// Documents that stay what they are, by their names.
    lasting: BTreeMap<String, Vec<u8>>,
    /// Some of them come from the last run.
    from_last_run: bool,
}

impl Documents {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, anchor: &[u8]) -> Result<Result<Metadata, Failure>, FetchError> {
        *self.run() = Run::default();
        let start = self.datastore.begin(anchor)?;
        let work = self.datastore.open()?;
        let loaded = RepositoryLoader::new(&start, base("metadata/"), base("targets/channels/"))
            .transport(self.clone())
            .limits(LIMITS)
            .datastore(&work)
            .expiration_enforcement(ExpirationEnforcement::Safe)
            .load()
            .await;
        // A root stands on its own: what it revokes is revoked.
        self.datastore.keep(&KEPT[..1])?;
        match loaded {
            Ok(repository) => {
                self.datastore.keep(&KEPT)?;
                let roots = std::mem::take(&mut self.run().roots);
                let through = roots.iter().map(Vec::as_slice).chain([anchor]);
                self.datastore.add_roots(through)?;
                self.keep_documents();
                Ok(Ok(Metadata {
                    repository,
                    requests: self.clone(),
                }))
            }
            Err(error) => {
                let failure = self.failure(&error, &work);
                self.datastore.close()?;
                Ok(Err(failure))
            }
        }
    }

    /// Keeps what the next run need not fetch, and only that.
    fn keep_documents(&self) {
        let run = self.run();
        for (name, bytes) in &run.lasting {
            // A failure here only costs bytes.
            if self.datastore.keep_document(name, bytes).is_err() {
                return;
            }
        }
        let kinds: Vec<&str> = run.lasting.keys().filter_map(|name| kind(name)).collect();
        self.datastore.forget_documents(|name| {
            !run.lasting.contains_key(name) && kind(name).is_none_or(|kind| kinds.contains(&kind))
        });
    }

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
                let wanted = http_client::Wanted::AtMost(LONGEST);
                self.source.get(&address, &wanted).await?.all().await
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
        let last = self.run();
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
        .unwrap_or("an unreadable time");
    let now = Timestamp::now().round(jiff::Unit::Second);
    let now = now.map_or_else(|error| error.to_string(), |now| now.to_string());
    format!(
        "its {role} metadata expired at {expires}, and this machine's clock says {now}: set the \
         clock if it is wrong, else the repository's operator has to sign the metadata again"
    )
}

/// What follows the version or the sum in the name of a document that stays what
/// it is.
fn kind(name: &str) -> Option<&str> {
    let (before, kind) = name.split_once('.')?;
    let counted = before.bytes().all(|byte| byte.is_ascii_hexdigit());
    (counted && kind.ends_with(".json") && kind != "root.json").then_some(kind)
}

#[async_trait::async_trait]
impl tough::Transport for Documents {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let path = url.path().trim_start_matches('/').to_owned();
        let name = path.rsplit('/').next().unwrap_or(&path);
        let lasting = kind(name).is_some();
        let kept = lasting.then(|| self.datastore.document(name)).flatten();
        let from_last_run = kept.is_some();
        let read = match kept {
            Some(bytes) => Ok(bytes),
            None => self.read(&path).await,
        };
        {
            let mut run = self.run();
            run.address = self
                .address
                .join(&path)
                .map_or_else(|| self.address.shown(), |address| address.shown());
            run.failure = read.as_ref().err().cloned();
            run.document = read.as_ref().map_or_else(|_| Vec::new(), Vec::clone);
            run.from_last_run |= from_last_run;
            if let Ok(bytes) = &read {
                if name.ends_with(".root.json") {
                    run.roots.push(bytes.clone());
                } else if lasting {
                    run.lasting.insert(name.to_owned(), bytes.clone());
                }
            }
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
