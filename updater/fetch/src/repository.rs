//! A repository: its metadata, and its mirrors.

use std::cell::RefCell;
use std::path::Path;

use block_device::BlockDevice;
use release::{Artifact, Channel};

use crate::address::Address;
use crate::datastore::Datastore;
use crate::metadata::Metadata;
use crate::mirrors::{MirrorUse, Mirrors};
use crate::source::Source;
use crate::{FetchError, Settings};

/// A slot's two partitions.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    /// The root.
    pub data: &'a dyn BlockDevice,
    /// Its hash tree.
    pub tree: &'a dyn BlockDevice,
}

/// Progress, in bytes of the final content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Came from a mirror.
    pub fetched: u64,
    /// Was on this machine.
    pub reused: u64,
    /// Proved and in place, of both kinds.
    pub verified: u64,
    /// The total.
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

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    pub(crate) settings: Settings,
    pub(crate) source: Source,
    metadata: Metadata,
    address: Address,
    pub(crate) mirrors: RefCell<Mirrors>,
}

impl Repository {
    /// Reads the metadata of the first address in `settings` that has metadata
    /// which `trust` (root metadata in JSON) leads to, none of it expired or older
    /// than what is kept in `datastore`, a folder for this alone. What cannot be
    /// written there is kept in `spare`, a folder in memory.
    ///
    /// # Errors
    /// A setting or the trust anchor cannot be used, or no address gave good
    /// metadata; the error has the reason for each.
    pub async fn open(
        settings: Settings,
        trust: &[u8],
        datastore: &Path,
        spare: Option<&Path>,
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
        let source = Source::new(&settings)?;
        let datastore = Datastore::new(datastore, spare)?;
        let mut failures = Vec::new();
        for address in &addresses {
            let read = Metadata::read(address, &source, settings.retry, trust, &datastore).await?;
            match read {
                Ok(metadata) => {
                    // The one that has what is newest is asked first.
                    let mut mirrors = Mirrors::default();
                    mirrors.add(address.clone());
                    addresses
                        .iter()
                        .for_each(|other| mirrors.add(other.clone()));
                    return Ok(Self {
                        address: address.clone(),
                        mirrors: RefCell::new(mirrors),
                        settings,
                        source,
                        metadata,
                    });
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(FetchError::Metadata(failures))
    }

    /// The folder for metadata, if it cannot be written, so that metadata is kept
    /// until the next boot only.
    pub fn unwritable_datastore(&self) -> Option<&Path> {
        self.metadata.datastore().unwritable()
    }

    /// The address that gave the metadata.
    pub fn address(&self) -> String {
        self.address.shown()
    }

    /// Bytes that came from mirrors so far, metadata included.
    pub fn received(&self) -> u64 {
        self.source.received()
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
        let channel = Channel::parse(&bytes).map_err(|error| refuse(error.to_string()))?;
        if channel.name != name {
            return Err(refuse(format!("its file is that of '{}'", channel.name)));
        }
        let mut mirrors = self.mirrors.borrow_mut();
        for text in &channel.mirrors {
            let mirror = Address::parse(text).map_err(|error| refuse(error.to_string()))?;
            // A folder of this machine is the machine's own business.
            if matches!(mirror, Address::Http(_)) {
                mirrors.add(mirror);
            }
        }
        Ok(channel)
    }

    /// A small file of a release, such as the boot loader.
    ///
    /// # Errors
    /// No mirror gave it as it was signed.
    pub async fn artifact(&self, artifact: &Artifact) -> Result<Vec<u8>, FetchError> {
        self.whole(artifact).await
    }

    pub(crate) fn count(&self) -> (u64, u64) {
        (self.source.received(), self.source.requests())
    }

    pub(crate) fn used(&self, (bytes, requests): (u64, u64), reused: u64) -> Fetched {
        Fetched {
            bytes: self.source.received() - bytes,
            reused,
            requests: self.source.requests() - requests,
            mirrors: self.mirrors.borrow().uses(),
        }
    }
}
