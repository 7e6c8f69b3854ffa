//! The channel: the releases that are on offer, and to whom.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use crate::Manifest;
use crate::bounds::{MAX_CHANNEL, MAX_MIRRORS, MAX_OFFERS, MAX_TEXT, MAX_WAVES};
use crate::check::{Check, time};

/// The format's number. A later format has another name of the TUF target, so
/// that machines that know only this one still find it.
pub const FORMAT: u32 = 1;

/// A part of the fleet and its start time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// How many of a hundred machines may take the release then, the waves before
    /// included.
    pub percent: u8,
    /// When it starts (RFC 3339).
    pub start: String,
}

/// A release on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The release.
    pub manifest: Manifest,
    /// Who may take it when, ascending; empty: everyone immediately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// Why it is halted, if the operator has halted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
}

/// A channel, as it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The format's number, 1.
    pub format: u32,
    /// The channel's name.
    pub name: String,
    /// Further addresses with the same files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// The releases, in no particular order.
    pub offers: Vec<Offer>,
}

/// A channel that machines refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// It is longer than [`MAX_CHANNEL`].
    #[error(
        "the channel has {0} bytes, at most {MAX_CHANNEL} are allowed; `wherry-release prune` \
         takes old releases away"
    )]
    Length(u64),
    /// It has a format that this program does not know.
    #[error(
        "the channel has format {0}, and this program knows {FORMAT}: a newer release of it is \
         needed"
    )]
    Format(u32),
    /// A field is invalid.
    #[error("the channel's {field}: {problem}")]
    Field {
        /// Where it is, such as `offers[0].manifest.root.length`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Channel {
    /// A channel without releases.
    pub fn new(name: &str) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            mirrors: Vec::new(),
            offers: Vec::new(),
        }
    }

    /// Reads a channel.
    ///
    /// # Errors
    /// It is not one that a machine could take; the error names the field.
    pub fn parse(file: &[u8]) -> Result<Self, ChannelError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        if file.len() as u64 > MAX_CHANNEL {
            return Err(ChannelError::Length(file.len() as u64));
        }
        // First, because a later format may have other fields.
        if let Ok(Format { format }) = serde_json::from_slice(file)
            && format != FORMAT
        {
            return Err(ChannelError::Format(format));
        }
        let mut json = serde_json::Deserializer::from_slice(file);
        let channel: Self =
            serde_path_to_error::deserialize(&mut json).map_err(|error| ChannelError::Field {
                field: error.path().to_string(),
                problem: error.into_inner().to_string(),
            })?;
        json.end().map_err(|error| ChannelError::Field {
            field: "end".to_owned(),
            problem: error.to_string(),
        })?;
        channel.check()?;
        Ok(channel)
    }

    /// The file.
    ///
    /// # Errors
    /// [`Channel::parse`] would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, ChannelError> {
        self.check()?;
        let mut file = serde_json::to_vec_pretty(self).map_err(|error| ChannelError::Field {
            field: "json".to_owned(),
            problem: error.to_string(),
        })?;
        file.push(b'\n');
        if file.len() as u64 > MAX_CHANNEL {
            return Err(ChannelError::Length(file.len() as u64));
        }
        Ok(file)
    }

    /// Whether `name` can be a channel's.
    pub fn is_name(name: &str) -> bool {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        name.len() <= 64
            && name.bytes().next().is_some_and(lower)
            && name
                .bytes()
                .all(|byte| lower(byte) || b".-".contains(&byte))
    }

    fn check(&self) -> Result<(), ChannelError> {
        let mut check = Check::default();
        if self.format != FORMAT {
            return Err(ChannelError::Format(self.format));
        }
        if !Self::is_name(&self.name) {
            check.wrong(
                "name",
                "1 to 64 lower-case letters, digits, '.', '-', a letter or digit first".to_owned(),
            );
        }
        if self.mirrors.len() > MAX_MIRRORS {
            check.wrong("mirrors", format!("more than {MAX_MIRRORS}"));
        }
        for (number, mirror) in self.mirrors.iter().enumerate() {
            let web = mirror.starts_with("https://") || mirror.starts_with("http://");
            let plain = mirror.bytes().all(|byte| byte.is_ascii_graphic());
            if !web || !plain || mirror.len() > MAX_TEXT {
                check.wrong(
                    &format!("mirrors[{number}]"),
                    format!("an http:// or https:// address of at most {MAX_TEXT} bytes"),
                );
            }
        }
        if self.offers.len() > MAX_OFFERS {
            check.wrong(
                "offers",
                format!(
                    "{} releases, at most {MAX_OFFERS} are allowed",
                    self.offers.len()
                ),
            );
        }
        let mut versions = BTreeSet::new();
        for (number, offer) in self.offers.iter().enumerate() {
            check.within(&format!("offers[{number}]"), |check| {
                check.within("manifest", |check| {
                    if !versions.insert(&offer.manifest.version) {
                        check.wrong(
                            "version",
                            format!("{} is offered twice", offer.manifest.version),
                        );
                    }
                    offer.manifest.check(check);
                });
                offer.check(check);
            });
        }
        check.end().map_err(|wrong| ChannelError::Field {
            field: wrong.field,
            problem: wrong.problem,
        })
    }
}

impl Offer {
    fn check(&self, check: &mut Check) {
        if self.waves.len() > MAX_WAVES {
            check.wrong("waves", format!("more than {MAX_WAVES}"));
        }
        let mut before: Option<(u8, Timestamp)> = None;
        for (number, wave) in self.waves.iter().enumerate() {
            check.within(&format!("waves[{number}]"), |check| {
                if !(1..=100).contains(&wave.percent) {
                    check.wrong("percent", format!("{} is not 1 to 100", wave.percent));
                }
                let start = match time(&wave.start) {
                    Ok(start) => start,
                    Err(problem) => return check.wrong("start", problem),
                };
                if let Some((percent, moment)) = before {
                    if wave.percent <= percent {
                        check.wrong(
                            "percent",
                            format!("{} is not more than {percent} before", wave.percent),
                        );
                    }
                    if start < moment {
                        check.wrong("start", format!("{start} is before {moment}"));
                    }
                }
                before = Some((wave.percent, start));
            });
        }
        if self.halted.as_ref().is_some_and(|why| why.len() > MAX_TEXT) {
            check.wrong("halted", format!("more than {MAX_TEXT} bytes"));
        }
    }
}
