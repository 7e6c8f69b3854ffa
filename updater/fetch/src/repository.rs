//! A repository: its metadata, and its mirrors.

use std::cell::RefCell;
use std::path::Path;

use block_device::{BlockDevice, ReadAt};
use release::{Artifact, Channel, Manifest, Sha256Sum};
use sha2::{Digest, Sha256};

use crate::address::Address;
use crate::metadata::{Datastore, Metadata};
use crate::transport::{Transport, Wanted};
use crate::{Failure, Fault, FetchError, Settings};

/// A slot's two partitions.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    /// The root.
    pub data: &'a dyn BlockDevice,
    /// Its hash tree.
    pub tree: &'a dyn BlockDevice,
}

/// How far something is, in bytes of what is to be there in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Came from a mirror.
    pub fetched: u64,
    /// Was on this machine.
    pub reused: u64,
    /// Proved right and where it belongs, of both kinds.
    pub verified: u64,
    /// All there is to do.
    pub total: u64,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes from mirrors: all bodies, indexes and repeated ones included.
    pub bytes: u64,
    /// Bytes that were on this machine already.
    pub reused: u64,
    /// Requests.
    pub requests: u64,
    /// Which mirrors gave how much, and which were dropped.
    pub mirrors: Vec<MirrorUse>,
}

/// What came from one mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorUse {
    /// Its address, without secrets.
    pub address: String,
    /// Bytes that came and were right.
    pub bytes: u64,
    /// Why it was dropped.
    pub dropped: Option<String>,
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    pub(crate) settings: Settings,
    pub(crate) transport: Transport,
    metadata: Metadata,
    address: Address,
    pub(crate) mirrors: RefCell<Vec<Address>>,
}

impl Repository {
    /// Reads the metadata of the first address in `settings` that has metadata
    /// which `trust` (root metadata in JSON) leads to, none of it expired or older
    /// than what is kept in `datastore`, a folder for this alone.
    ///
    /// # Errors
    /// A setting or the trust anchor cannot be used, or no address gave good
    /// metadata; the error has the reason for each.
    pub async fn open(
        settings: Settings,
        trust: &[u8],
        datastore: &Path,
    ) -> Result<Self, FetchError> {
        let mut addresses = Vec::new();
        for text in &settings.repositories {
            addresses.push(Address::parse(text)?);
        }
        if addresses.is_empty() {
            return Err(FetchError::Setting {
                what: "repositories".to_owned(),
                why: "none is set, so there is nothing to fetch from".to_owned(),
            });
        }
        let transport = Transport::new(&settings)?;
        let datastore = Datastore::new(datastore)?;
        let mut failures = Vec::new();
        for address in &addresses {
            let read =
                Metadata::read(address, &transport, settings.retry, trust, &datastore).await?;
            match read {
                Ok(metadata) => {
                    // The one that has what is newest is asked first.
                    let mut mirrors = vec![address.clone()];
                    mirrors.extend(addresses.iter().filter(|other| *other != address).cloned());
                    return Ok(Self {
                        address: address.clone(),
                        mirrors: RefCell::new(mirrors),
                        settings,
                        transport,
                        metadata,
                    });
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(FetchError::Metadata(failures))
    }

    /// The address that gave the metadata.
    pub fn address(&self) -> String {
        self.address.shown()
    }

    /// Bytes that came from mirrors so far, metadata included.
    pub fn received(&self) -> u64 {
        self.transport.received()
    }

    /// What `name` has on offer. Its mirrors are asked too from now on.
    ///
    /// # Errors
    /// There is no such channel, it is not what was signed, or it breaks a bound.
    pub async fn channel(&self, name: &str) -> Result<Channel, FetchError> {
        let bytes = self.metadata.channel(name).await?;
        let refuse = |why: String| FetchError::Channel {
            name: name.to_owned(),
            why,
        };
        let channel: Channel =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        if channel.name != name {
            return Err(refuse(format!("its file is that of '{}'", channel.name)));
        }
        let mut mirrors = self.mirrors.borrow_mut();
        for text in &channel.mirrors {
            let mirror = Address::parse(text).map_err(|error| refuse(error.to_string()))?;
            // A folder of this machine is the machine's own business.
            if matches!(mirror, Address::Http(_)) && !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
        Ok(channel)
    }

    /// Makes `target` the root of `manifest` and its hash tree: what it or `seeds`
    /// have is used, the rest fetched. What was interrupted goes on where it was.
    ///
    /// # Errors
    /// The release does not fit, the slot cannot be read or written, or no mirror
    /// gave what is missing. What was right so far is kept and used next time.
    pub async fn fill_slot(
        &self,
        manifest: &Manifest,
        target: Slot<'_>,
        _seeds: &[Slot<'_>],
        progress: &dyn Fn(Progress),
    ) -> Result<Fetched, FetchError> {
        let mut state = Progress {
            total: manifest.root.length,
            ..Progress::default()
        };
        let before = (self.transport.received(), self.transport.requests());
        for (artifact, device) in [(&manifest.root, target.data), (&manifest.tree, target.tree)] {
            self.whole(artifact, &mut |bytes, offset| {
                state.fetched = state.total.min(offset + bytes.len() as u64);
                progress(state);
                device.write_at(bytes, offset)
            })
            .await?;
            device.flush().map_err(|source| FetchError::Device {
                doing: "writing the slot",
                source,
            })?;
        }
        Ok(self.used(before, 0))
    }

    /// Gives the unified kernel image of `manifest` to `sink`, in order: what
    /// `seeds` (older images) have comes from there.
    ///
    /// # Errors
    /// No mirror gave what is missing, or `sink` failed.
    pub async fn uki(
        &self,
        manifest: &Manifest,
        _seeds: &[&dyn ReadAt],
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
        progress: &dyn Fn(Progress),
    ) -> Result<Fetched, FetchError> {
        let before = (self.transport.received(), self.transport.requests());
        let bytes = self.artifact(&manifest.uki).await?;
        sink(&bytes).map_err(|source| FetchError::Device {
            doing: "writing the unified kernel image",
            source,
        })?;
        let total = bytes.len() as u64;
        progress(Progress {
            fetched: total,
            reused: 0,
            verified: total,
            total,
        });
        Ok(self.used(before, 0))
    }

    /// A small file of a release, such as the boot loader.
    ///
    /// # Errors
    /// No mirror gave it as it was signed.
    pub async fn artifact(&self, artifact: &Artifact) -> Result<Vec<u8>, FetchError> {
        let mut all = Vec::new();
        self.whole(artifact, &mut |bytes, offset| {
            all.truncate(offset as usize);
            all.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    fn used(&self, (bytes, requests): (u64, u64), reused: u64) -> Fetched {
        Fetched {
            bytes: self.transport.received() - bytes,
            reused,
            requests: self.transport.requests() - requests,
            mirrors: Vec::new(),
        }
    }

    /// A whole file, from one mirror after the other until one has it. `sink` gets
    /// bytes and where they belong; a next mirror begins at 0 again.
    async fn whole(
        &self,
        artifact: &Artifact,
        sink: &mut dyn FnMut(&[u8], u64) -> std::io::Result<()>,
    ) -> Result<(), FetchError> {
        let mut failures = Vec::new();
        let mirrors = self.mirrors.borrow().clone();
        for mirror in &mirrors {
            let Some(address) = mirror.join(&artifact.path) else {
                continue;
            };
            match self.try_whole(&address, artifact, sink).await? {
                Ok(()) => return Ok(()),
                Err(failure) => failures.push(failure),
            }
        }
        Err(FetchError::Artifact {
            path: artifact.path.clone(),
            failures,
        })
    }

    async fn try_whole(
        &self,
        address: &Address,
        artifact: &Artifact,
        sink: &mut dyn FnMut(&[u8], u64) -> std::io::Result<()>,
    ) -> Result<Result<(), Failure>, FetchError> {
        let wanted = Wanted::Whole(artifact.length);
        let mut body = match self.transport.get(address, wanted).await {
            Ok(body) => body,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut hash = Sha256::new();
        let mut offset = 0;
        loop {
            match body.chunk().await {
                Ok(Some(chunk)) => {
                    hash.update(&chunk);
                    sink(&chunk, offset).map_err(|source| FetchError::Device {
                        doing: "writing what was fetched",
                        source,
                    })?;
                    offset += chunk.len() as u64;
                }
                Ok(None) => break,
                Err(failure) => return Ok(Err(failure)),
            }
        }
        let sum = Sha256Sum(hash.finalize().into());
        if sum == artifact.sha256 {
            return Ok(Ok(()));
        }
        Ok(Err(Failure {
            address: address.shown(),
            fault: Fault::Wrong(format!(
                "its SHA-256 is {sum}, and {} was signed",
                artifact.sha256
            )),
        }))
    }
}
