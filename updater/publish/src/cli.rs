//! The command line and its output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use release::Version;
use serde::Serialize;
use serde_json::json;
use wherry_release::progress::{Bar, Progress, Silent};
use wherry_release::{
    Expiry, Init, KeyFolder, Lifetime, Publish, Published, ReleaseFolder, Repository, Role,
    Rotation, WaveRule, keys, sign_draft, verify,
};

/// Publishes Wherry's releases: keys, signed metadata and channels, in a folder
/// for any static web server.
#[derive(Debug, Parser)]
#[command(name = "wherry-release", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, list, rotate, back up and restore signing keys
    #[command(subcommand)]
    Keys(Keys),
    /// Make an empty repository, and pin its root in the keys' folder
    Init {
        #[command(flatten)]
        at: Place,
        /// How many of the root's keys must sign a new root [default: more than
        /// half]
        #[arg(long, value_name = "N")]
        threshold: Option<u64>,
    },
    /// Publish a release on a channel
    Publish {
        #[command(flatten)]
        at: Place,
        /// The channel; created if it does not exist
        #[arg(long)]
        channel: String,
        /// The folder with wherry_<version>.root and the other files
        #[arg(long, value_name = "FOLDER")]
        release: PathBuf,
        /// Which release, if the folder has several
        #[arg(long)]
        version: Option<Version>,
        /// Oldest version from which machines can be updated to this one
        #[arg(long, value_name = "VERSION")]
        min_version: Option<Version>,
        /// A share of the fleet and its start, such as 10%@+6h; repeatable,
        /// ascending
        #[arg(long = "wave", value_name = "PERCENT%@TIME")]
        waves: Vec<WaveRule>,
        /// A text file: what is new
        #[arg(long, value_name = "FILE")]
        notes: Option<PathBuf>,
        /// Another address of the repository; repeatable. Default: keep the
        /// current ones
        #[arg(long = "mirror", value_name = "URL")]
        mirrors: Vec<String>,
        /// Remove all mirrors
        #[arg(long, conflicts_with = "mirrors")]
        no_mirrors: bool,
        /// Only checks keys, repository and options: the release need not be there yet
        #[arg(long)]
        dry_run: bool,
    },
    /// Offer a release from one channel in another
    Promote {
        #[command(flatten)]
        at: Place,
        /// The channel that has it
        #[arg(long)]
        from: String,
        /// The channel that gets it
        #[arg(long)]
        to: String,
        /// The release
        version: Version,
        /// A share of the fleet and its start, such as 10%@+6h; repeatable,
        /// ascending
        #[arg(long = "wave", value_name = "PERCENT%@TIME")]
        waves: Vec<WaveRule>,
    },
    /// Stop a release: no machine takes it any more
    Halt {
        #[command(flatten)]
        at: Place,
        /// The channel
        #[arg(long)]
        channel: String,
        /// The release
        version: Version,
        /// The reason; machines show it
        #[arg(long)]
        because: String,
    },
    /// Let machines take a halted release again
    Unhalt {
        #[command(flatten)]
        at: Place,
        /// The channel
        #[arg(long)]
        channel: String,
        /// The release
        version: Version,
    },
    /// Sign the timestamp again before it expires; for a cron job
    Timestamp {
        #[command(flatten)]
        at: Place,
        /// Also sign the snapshot and the list of channels again
        #[arg(long)]
        all: bool,
    },
    /// List channels and releases
    List {
        #[command(flatten)]
        at: Place,
    },
    /// Verify signatures, every file, and that root, hash tree and kernel image
    /// belong together
    Verify {
        /// The repository's folder
        repository: PathBuf,
        /// The trusted root [default: root.json of the keys' folder]
        #[arg(long, value_name = "FILE", required_unless_present = "keys")]
        trust: Option<PathBuf>,
        /// The folder of keys
        #[arg(long, value_name = "FOLDER", env = "WHERRY_KEYS")]
        keys: Option<PathBuf>,
    },
    /// Remove releases that no channel needs; those that barriers need stay
    Prune {
        #[command(flatten)]
        at: Place,
        /// How many of the newest releases of a channel always stay
        #[arg(long, default_value_t = 2)]
        keep: usize,
        /// Only print what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Make new keys in a new folder
    Make {
        /// The folder
        folder: PathBuf,
        /// How many keys the root gets
        #[arg(long, default_value_t = 3, value_name = "N")]
        root_keys: usize,
    },
    /// List the keys of a folder
    List {
        /// The folder
        folder: PathBuf,
    },
    /// Replace a key with a new one, in the repository and for all machines
    Rotate {
        #[command(flatten)]
        at: Place,
        /// root, targets, snapshot or timestamp
        #[arg(long)]
        role: Role,
        /// The start of the old key's id, if the role has several
        #[arg(long, value_name = "ID")]
        old: Option<String>,
        /// Only write the new root to this file, for others to sign
        #[arg(long, value_name = "FILE")]
        draft: Option<PathBuf>,
    },
    /// Sign the root again with the same keys, before it expires
    Renew {
        #[command(flatten)]
        at: Place,
        /// Only write the new root to this file, for others to sign
        #[arg(long, value_name = "FILE")]
        draft: Option<PathBuf>,
    },
    /// Add the signatures of the available root keys to a draft
    Sign {
        /// The draft
        draft: PathBuf,
        /// The folder of keys
        #[arg(long, value_name = "FOLDER", env = "WHERRY_KEYS")]
        keys: PathBuf,
    },
    /// Publish a draft that enough root keys have signed
    Install {
        #[command(flatten)]
        at: Place,
        /// The draft
        draft: PathBuf,
    },
    /// Copy the keys with checksums into a new folder
    Backup {
        /// The folder of keys
        folder: PathBuf,
        /// The new folder
        archive: PathBuf,
    },
    /// Make a new folder of keys from a backup
    Restore {
        /// The backup
        archive: PathBuf,
        /// The new folder
        folder: PathBuf,
    },
}

/// A repository and the settings to change it.
#[derive(Debug, Args)]
struct Place {
    /// The repository's folder
    repository: PathBuf,
    /// The folder of keys
    #[arg(long, value_name = "FOLDER", env = "WHERRY_KEYS")]
    keys: PathBuf,
    /// Another folder with keys, such as the root's on a stick; repeatable
    #[arg(long = "more-keys", value_name = "FOLDER")]
    more: Vec<PathBuf>,
    /// How long a root signed now is valid
    #[arg(long, value_name = "STRETCH", default_value = "1y")]
    root_expires: Lifetime,
    /// How long the list of channels signed now is valid
    #[arg(long, value_name = "STRETCH", default_value = "90d")]
    targets_expires: Lifetime,
    /// How long a snapshot signed now is valid
    #[arg(long, value_name = "STRETCH", default_value = "90d")]
    snapshot_expires: Lifetime,
    /// How long a timestamp signed now is valid
    #[arg(long, value_name = "STRETCH", default_value = "7d")]
    timestamp_expires: Lifetime,
}

impl Place {
    fn keys(&self) -> Result<KeyFolder> {
        let mut keys = KeyFolder::open(&self.keys)?;
        for folder in &self.more {
            keys.include(folder)?;
        }
        Ok(keys)
    }

    fn expiry(&self) -> Expiry {
        Expiry {
            root: self.root_expires,
            targets: self.targets_expires,
            snapshot: self.snapshot_expires,
            timestamp: self.timestamp_expires,
        }
    }

    fn open(&self) -> Result<Repository> {
        let mut repository = Repository::open(&self.repository, self.keys()?)?;
        repository.set_expiry(self.expiry());
        Ok(repository)
    }
}

/// The output format.
struct Answer {
    json: bool,
}

impl Answer {
    fn give(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<ExitCode> {
        let text = if self.json {
            serde_json::to_string(value).context("write JSON")?
        } else {
            text()
        };
        println!("{}", text.trim_end());
        Ok(ExitCode::SUCCESS)
    }

    fn progress(&self) -> Box<dyn Progress> {
        if self.json {
            Box::new(Silent)
        } else {
            Box::new(Bar::new())
        }
    }

    fn published(&self, done: &Published, verb: &str) -> Result<ExitCode> {
        for warning in &done.warnings {
            eprintln!("warning: {warning}");
        }
        self.give(done, || {
            if done.changed {
                format!("{} {verb} on {}", done.version, done.channel)
            } else {
                format!("{} is {verb} on {} already", done.version, done.channel)
            }
        })
    }

    fn rotation(&self, done: &Rotation) -> Result<ExitCode> {
        self.give(done, || {
            format!(
                "root {} is in force until {}\n{}",
                done.root_version,
                done.expires,
                key_changes(done)
            )
        })
    }

    fn draft(&self, done: &Rotation, draft: &Path) -> Result<ExitCode> {
        self.give(done, || {
            format!(
                "{} is root {}, until {}\n{}signed by {}\n\
                 to be signed with `keys sign`, and published with `keys install`",
                draft.display(),
                done.root_version,
                done.expires,
                key_changes(done),
                if done.signed_by.is_empty() {
                    "nobody yet".to_owned()
                } else {
                    done.signed_by.join(", ")
                }
            )
        })
    }

    fn files(&self, what: &str, files: &[PathBuf]) -> Result<ExitCode> {
        self.give(&json!({ "files": files }), || {
            let lines: Vec<String> = files.iter().map(|f| format!("  {}", f.display())).collect();
            format!("{what}:\n{}", lines.join("\n"))
        })
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let answer = Answer {
        json: arguments.json,
    };
    match &arguments.command {
        Command::Keys(keys) => run_keys(keys, &answer),
        Command::Init { at, threshold } => {
            let init = Init {
                threshold: *threshold,
                expiry: at.expiry(),
            };
            let repository = Repository::init(&at.repository, at.keys()?, &init)?;
            let trust = repository.trust();
            answer.give(&json!({ "trust": trust }), || {
                format!(
                    "{} is a repository; machines need {}\n\
                     keep the keys of {} offline, and back them up: wherry-release keys backup",
                    at.repository.display(),
                    trust.display(),
                    at.keys.join("root").display()
                )
            })
        }
        Command::Publish {
            at,
            channel,
            release,
            version,
            min_version,
            waves,
            notes,
            mirrors,
            no_mirrors,
            dry_run,
        } => {
            let notes = notes.as_deref().map(read_text).transpose()?;
            let publish = Publish {
                channel: channel.clone(),
                min_version: min_version.clone(),
                waves: waves.clone(),
                notes: notes.unwrap_or_default(),
                mirrors: (*no_mirrors || !mirrors.is_empty()).then(|| mirrors.clone()),
            };
            let mut repository = at.open()?;
            if *dry_run {
                return Ok(ExitCode::SUCCESS);
            }
            let progress = answer.progress();
            let release = ReleaseFolder::open(release, version.as_ref(), &*progress)?;
            let done = repository.publish(&release, &publish, &*progress)?;
            drop(progress);
            answer.published(&done, "published")
        }
        Command::Promote {
            at,
            from,
            to,
            version,
            waves,
        } => answer.published(&at.open()?.promote(from, to, version, waves)?, "published"),
        Command::Halt {
            at,
            channel,
            version,
            because,
        } => answer.published(&at.open()?.halt(channel, version, because)?, "halted"),
        Command::Unhalt {
            at,
            channel,
            version,
        } => answer.published(&at.open()?.unhalt(channel, version)?, "on offer again"),
        Command::Timestamp { at, all } => {
            let mut repository = at.open()?;
            if *all {
                repository.renew()?;
            } else {
                repository.renew_timestamp()?;
            }
            expiries(&repository, &answer)
        }
        Command::List { at } => list(&at.open()?, &answer),
        Command::Verify {
            repository,
            trust,
            keys,
        } => {
            let trust = trust
                .clone()
                .or_else(|| keys.as_ref().map(|keys| keys.join("root.json")))
                .context("name the trusted root with --trust")?;
            verify_all(repository, &trust, &answer)
        }
        Command::Prune { at, keep, dry_run } => {
            let pruned = at.open()?.prune(*keep, *dry_run)?;
            answer.give(&pruned, || {
                let verb = if *dry_run {
                    "would be removed"
                } else {
                    "removed"
                };
                let mut text = String::new();
                for (channel, version) in &pruned.offers {
                    text.push_str(&format!("{version} on {channel} {verb}\n"));
                }
                for path in &pruned.removed {
                    text.push_str(&format!("{} {verb}\n", path.display()));
                }
                if text.is_empty() {
                    text.push_str("nothing to remove");
                }
                text
            })
        }
    }
}

fn key_changes(done: &Rotation) -> String {
    let lines = |verb: &str, ids: &[String]| -> String {
        ids.iter().map(|id| format!("{verb} {id}\n")).collect()
    };
    lines("drops", &done.removed) + &lines("takes", &done.added)
}

fn run_keys(command: &Keys, answer: &Answer) -> Result<ExitCode> {
    match command {
        Keys::Make { folder, root_keys } => {
            list_keys(&KeyFolder::make(folder, *root_keys)?, answer)
        }
        Keys::List { folder } => list_keys(&KeyFolder::open(folder)?, answer),
        Keys::Rotate {
            at,
            role,
            old,
            draft: None,
        } => answer.rotation(&at.open()?.rotate(*role, old.as_deref())?),
        Keys::Rotate {
            at,
            role,
            old,
            draft: Some(draft),
        } => {
            let mut repository = at.open()?;
            answer.draft(
                &repository.draft_rotation(*role, old.as_deref(), draft)?,
                draft,
            )
        }
        Keys::Renew { at, draft: None } => answer.rotation(&at.open()?.renew_root()?),
        Keys::Renew {
            at,
            draft: Some(draft),
        } => answer.draft(&at.open()?.draft_renewal(draft)?, draft),
        Keys::Sign { draft, keys } => {
            answer.draft(&sign_draft(draft, &KeyFolder::open(keys)?)?, draft)
        }
        Keys::Install { at, draft } => answer.rotation(&at.open()?.install_draft(draft)?),
        Keys::Backup { folder, archive } => {
            let files = keys::backup(folder, archive)?;
            answer.files(&format!("in {}", archive.display()), &files)
        }
        Keys::Restore { archive, folder } => {
            let files = keys::restore(archive, folder)?;
            answer.files(&format!("in {}", folder.display()), &files)
        }
    }
}

fn list_keys(keys: &KeyFolder, answer: &Answer) -> Result<ExitCode> {
    let list: Vec<_> = keys
        .keys()
        .iter()
        .map(|key| json!({ "role": key.role, "id": key.id, "file": key.path }))
        .collect();
    answer.give(&json!({ "keys": list }), || {
        let lines: Vec<String> = keys
            .keys()
            .iter()
            .map(|key| format!("{:9}  {}  {}", key.role, key.id, key.path.display()))
            .collect();
        lines.join("\n")
    })
}

fn expiries(repository: &Repository, answer: &Answer) -> Result<ExitCode> {
    let list = repository.expiries();
    answer.give(&json!({ "expires": list }), || expiry_lines(&list))
}

fn expiry_lines(list: &[(Role, u64, Timestamp)]) -> String {
    let now = Timestamp::now();
    let lines: Vec<String> = list
        .iter()
        .map(|(role, version, expires)| {
            let left = (expires.as_second() - now.as_second() + 43_200).div_euclid(86_400);
            format!("{role:9}  version {version:<4} expires {expires} (in {left} days)")
        })
        .collect();
    lines.join("\n")
}

fn list(repository: &Repository, answer: &Answer) -> Result<ExitCode> {
    let channels: Vec<_> = repository.channels().collect();
    let value = json!({ "channels": channels, "expires": repository.expiries() });
    answer.give(&value, || {
        let mut text = String::new();
        for channel in &channels {
            text.push_str(&format!("{}\n", channel.name));
            for offer in &channel.offers {
                let manifest = &offer.manifest;
                text.push_str(&format!(
                    "  {:16} published {}",
                    manifest.version, manifest.published
                ));
                if let Some(least) = &manifest.min_version {
                    text.push_str(&format!(", from {least} on"));
                }
                for wave in &offer.waves {
                    text.push_str(&format!(", {}% from {}", wave.percent, wave.start));
                }
                if let Some(why) = &offer.halted {
                    text.push_str(&format!(", halted: {why}"));
                }
                text.push('\n');
            }
        }
        text + &expiry_lines(&repository.expiries())
    })
}

fn verify_all(folder: &Path, trust: &Path, answer: &Answer) -> Result<ExitCode> {
    let progress = answer.progress();
    let report = verify::verify(folder, trust, Timestamp::now(), &*progress)?;
    drop(progress);
    answer.give(&report, || {
        let mut text = expiry_lines(&report.expires);
        text.push_str(&format!(
            "\n{} channels, {} releases, {} files with {} bytes\n",
            report.channels, report.releases, report.files, report.bytes
        ));
        for remark in &report.remarks {
            text.push_str(&format!("remark: {remark}\n"));
        }
        for problem in &report.problems {
            text.push_str(&format!("WRONG: {problem}\n"));
        }
        if report.problems.is_empty() {
            text.push_str("everything matches what was signed\n");
        }
        text
    })?;
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
