//! From settings to a repository, and from its channel to a decision.

use std::path::{Path, PathBuf};

use fetch::{Repository, Settings};
use jiff::Timestamp;
use lifecycle::Decision;
use policy::{Config, MachineId, Standing};
use release::Channel;

use crate::error::Error;
use crate::say::{self, Level};

/// The longest trust anchor and list of certificates that are read, in bytes.
pub const LONGEST: usize = 1 << 20;

/// What decides which release is taken, and from where.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The settings.
    pub config: Config,
    /// What the machine remembers.
    pub standing: Standing,
    /// Who asks.
    pub machine: MachineId,
    /// Where a trust anchor may be; the first that exists is used.
    pub anchors: Vec<PathBuf>,
    /// The folder for metadata.
    pub datastore: PathBuf,
    /// Where metadata is kept if that folder cannot be written.
    pub spare_datastore: Option<PathBuf>,
}

impl Asking {
    /// Reads the repository's metadata.
    ///
    /// # Errors
    /// A setting is missing, or no repository gave metadata that can be trusted.
    pub async fn open(&self) -> Result<Repository, Error> {
        let config = &self.config;
        if config.repositories.is_empty() {
            return Err(Error::Setting(
                "no repository is set: put `repository = \"https://…\"` into \
                 /state/config/updater/update.toml"
                    .to_owned(),
            ));
        }
        let trust = self.trust()?;
        let mut settings = Settings::new(config.repositories.clone());
        settings.proxy.clone_from(&config.proxy);
        settings.rate_limit = config.rate_limit;
        settings.connections = config.connections;
        if let Some(path) = &config.certificates {
            settings.certificates = required(path, "read the certificates in")?;
        }
        let spare = self.spare_datastore.as_deref();
        let repository = Repository::open(settings, &trust, &self.datastore, spare).await?;
        if let Some(folder) = repository.unwritable_datastore() {
            say::event(
                Level::Warning,
                "metadata-volatile",
                &[],
                &format!(
                    "{} cannot be written, so which metadata was seen is forgotten at the next \
                     boot",
                    folder.display()
                ),
            );
        }
        Ok(repository)
    }

    fn trust(&self) -> Result<Vec<u8>, Error> {
        for path in &self.anchors {
            if let Some(bytes) = read(path, "read the trust anchor")? {
                return Ok(bytes);
            }
        }
        let first = self
            .anchors
            .first()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        Err(Error::Setting(format!(
            "there is no trust anchor, so no update can be trusted: put the repository's \
             root metadata (its first N.root.json) at {first}"
        )))
    }

    /// Asks for the channel, and decides.
    ///
    /// # Errors
    /// The channel is missing or does not match its signature.
    pub async fn decide(&self, repository: &Repository) -> Result<(Channel, Decision), Error> {
        let channel = repository.channel(&self.config.channel).await?;
        let choice = policy::choose(
            &self.config,
            &self.standing,
            &channel,
            &self.machine,
            Timestamp::now(),
        );
        let decision = Decision::of(&choice, &channel);
        Ok((channel, decision))
    }
}

fn required(path: &Path, doing: &'static str) -> Result<Vec<u8>, Error> {
    read(path, doing)?.ok_or_else(|| Error::File {
        doing,
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

/// Reads a file that an operator puts there, and whatever else is in its place.
fn read(path: &Path, doing: &'static str) -> Result<Option<Vec<u8>>, Error> {
    config::read_bytes(path, LONGEST).map_err(|error| Error::Unusable {
        doing,
        error: Box::new(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hostile: A FIFO, a device or a folder is in place of the trust anchor or of the certificates. Outcome: The check fails at once and names the path and what is there.
    #[test]
    fn what_is_no_file_is_no_trust_anchor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update-root.json");
        assert!(read(&path, "read the trust anchor").unwrap().is_none());
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&path, mode).unwrap();
        for path in [&path, Path::new("/dev/zero"), folder.path()] {
            let text = read(path, "read the trust anchor").unwrap_err().sentence();
            let named = format!("cannot read the trust anchor: {}: is ", path.display());
            assert!(text.starts_with(&named), "{text}");
        }
    }
}
