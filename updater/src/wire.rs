//! Translates between the socket's types ([`updater_control`]) and those of
//! [`lifecycle`].

use jiff::Timestamp;
use lifecycle::{Kind, RestartWhen};
use release::Version;
use updater_control::{
    Applied, Available, Checked, Phase, Progress, Reboot, RecordKind, Refusal, Reply, Request,
};

/// A request; `None`: it changes nothing, and the lifecycle need not see it.
///
/// # Errors
/// A value in it is invalid.
pub fn request(request: Request) -> Result<Option<lifecycle::Request>, Refusal> {
    Ok(Some(match request {
        Request::Status | Request::History => return Ok(None),
        Request::Check => lifecycle::Request::Check,
        Request::Apply {
            version,
            reboot,
            allow_downgrade,
        } => lifecycle::Request::Apply {
            version: version.map(|text| parse_version(&text)).transpose()?,
            restart: restart(reboot),
            allow_downgrade,
        },
        Request::RollBack { reboot } => lifecycle::Request::RollBack {
            restart: restart(reboot),
        },
        Request::Pin { version } => lifecycle::Request::Pin(parse_version(&version)?),
        Request::Unpin => lifecycle::Request::Unpin,
        Request::Hold { until, because } => lifecycle::Request::Hold {
            until: until.map(|text| parse_end(&text)).transpose()?,
            reason: Some(because).filter(|because| !because.is_empty()),
        },
        Request::Resume => lifecycle::Request::Resume,
    }))
}

fn parse_version(text: &str) -> Result<Version, Refusal> {
    text.parse().map_err(malformed)
}

fn parse_end(text: &str) -> Result<Timestamp, Refusal> {
    text.parse()
        .map_err(|error: jiff::Error| malformed(format!("the end of the hold: {error}")))
}

fn malformed(error: impl ToString) -> Refusal {
    Refusal::Malformed {
        message: error.to_string(),
    }
}

fn restart(reboot: Reboot) -> RestartWhen {
    match reboot {
        Reboot::Now => RestartWhen::Now,
        Reboot::Policy => RestartWhen::Policy,
        Reboot::Never => RestartWhen::Never,
    }
}

/// A reply, with `notes` for the person who asked.
pub fn reply(reply: lifecycle::Reply, notes: Vec<String>) -> Reply {
    match reply {
        lifecycle::Reply::Checked(found) => Reply::Checked(Box::new(checked(&found))),
        lifecycle::Reply::Applied(applied) => Reply::Applied(Applied {
            version: applied.version.to_string(),
            changed: applied.changed,
            fetched: applied.fetched,
            reused: applied.reused,
            reboot: applied.restart,
        }),
        lifecycle::Reply::Done => Reply::Done { notes },
        lifecycle::Reply::Refused(refusal) => Reply::Refused(match refusal {
            lifecycle::Refusal::Busy(doing) => Refusal::Busy {
                doing: phase(doing).as_str().to_owned(),
            },
            lifecycle::Refusal::Declined(message) => Refusal::Declined { message },
            lifecycle::Refusal::Failed(message) => Refusal::Failed { message },
        }),
    }
}

fn checked(found: &lifecycle::Found) -> Checked {
    Checked {
        running: found.running.to_string(),
        channel: found.channel.clone(),
        available: found.available.as_ref().map(|manifest| Available {
            version: manifest.version.to_string(),
            published: manifest.published.clone(),
            notes: manifest.notes.clone(),
            size: manifest.root.length + manifest.uki.length,
        }),
        reason: found.sentence.clone(),
        newest: found.newest.as_ref().map(ToString::to_string),
    }
}

/// The worker's progress.
pub fn progress(progress: &lifecycle::Progress) -> Progress {
    Progress {
        phase: phase(progress.phase),
        version: progress.version.as_ref().map(ToString::to_string),
        fetched: progress.fetched,
        reused: progress.reused,
        verified: progress.verified,
        total: progress.total,
    }
}

/// What the worker is doing.
pub fn phase(phase: lifecycle::Phase) -> Phase {
    match phase {
        lifecycle::Phase::Idle => Phase::Idle,
        lifecycle::Phase::Checking => Phase::Checking,
        lifecycle::Phase::Preparing => Phase::Preparing,
        lifecycle::Phase::Writing => Phase::Writing,
        lifecycle::Phase::Proving => Phase::Proving,
        lifecycle::Phase::FetchingKernel => Phase::FetchingKernel,
        lifecycle::Phase::Switching => Phase::Switching,
    }
}

/// A kind of the history.
pub fn kind(kind: Kind) -> RecordKind {
    match kind {
        Kind::Installed => RecordKind::Installed,
        Kind::InstallFailed => RecordKind::InstallFailed,
        Kind::Blessed => RecordKind::Blessed,
        Kind::FellBack => RecordKind::FellBack,
        Kind::RolledBack => RecordKind::RolledBack,
        Kind::Repaired => RecordKind::Repaired,
        Kind::Credited => RecordKind::Credited,
    }
}
