//! `wherry update …`: asks the updater, shows its progress, prints the answer.

mod bar;
mod render;

use std::time::SystemTime;

use updater_control::{Client, Reply, Request};

use crate::arguments::{Place, Reboot, Update, UpdateCommand};
use crate::failure::Failure;
use crate::output;
use crate::terminal::Reader;
use crate::when;
use bar::Bar;

pub fn run(place: &Place, update: &Update) -> Result<(), Failure> {
    let request = request(&update.command, SystemTime::now())?;
    let mut client = Client::connect(&update.updater)?;
    let mut bar = Bar::new(place.json);
    let result = client.ask_with_progress(&request, |reply| {
        if let Reply::Progress(progress) = reply {
            bar.show(progress);
        }
    });
    bar.clear();
    let mut reply = result?;
    if let (Reply::History { records }, UpdateCommand::History { lines: Some(lines) }) =
        (&mut reply, &update.command)
    {
        records.drain(..records.len().saturating_sub(*lines));
    }
    if place.json {
        return print_json(&reply);
    }
    let sentence = sentence(&update.command);
    output::print(&render::reply(&reply, &sentence, Reader::of_stdout()))
}

/// The request, at the time `now`.
fn request(command: &UpdateCommand, now: SystemTime) -> Result<Request, Failure> {
    Ok(match command {
        UpdateCommand::Check => Request::Check,
        UpdateCommand::Apply {
            version,
            reboot,
            allow_downgrade,
        } => Request::Apply {
            version: version.clone(),
            reboot: (*reboot).into(),
            allow_downgrade: *allow_downgrade,
        },
        UpdateCommand::Status => Request::Status,
        UpdateCommand::History { .. } => Request::History,
        UpdateCommand::Rollback { reboot } => Request::RollBack {
            reboot: (*reboot).into(),
        },
        UpdateCommand::Pin { version } => Request::Pin {
            version: version.clone(),
        },
        UpdateCommand::Unpin => Request::Unpin,
        UpdateCommand::Hold { until, because } => Request::Hold {
            until: until
                .as_deref()
                .map(|text| end_of_hold(text, now))
                .transpose()?,
            because: because.clone(),
        },
        UpdateCommand::Resume => Request::Resume,
    })
}

impl From<Reboot> for updater_control::Reboot {
    fn from(reboot: Reboot) -> Self {
        match reboot {
            Reboot::Now => Self::Now,
            Reboot::Policy => Self::Policy,
            Reboot::Never => Self::Never,
        }
    }
}

/// A duration counts from now; any other time is absolute.
fn end_of_hold(text: &str, now: SystemTime) -> Result<String, Failure> {
    let until = match humantime::parse_duration(text) {
        Ok(length) => now.checked_add(length),
        Err(_) => Some(when::parse(text, now).map_err(|_| {
            Failure::Usage(format!(
                "'{text}' is not a time; write it as 2d (for so long), 2026-11-23, \
                 \"2026-11-23 06:00:00\" or 2026-11-23T06:00:00Z, in UTC"
            ))
        })?),
    };
    // After 9999 the formatter panics.
    let last = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    match until {
        Some(until) if until > now && until <= last => {
            Ok(humantime::format_rfc3339_seconds(until).to_string())
        }
        Some(until) if until <= now => Err(Failure::Usage(format!(
            "'{text}' is past: a hold ends in the future"
        ))),
        Some(_) | None => Err(Failure::Usage(format!(
            "'{text}' is too far away; without --until the hold ends with `wherry update resume`"
        ))),
    }
}

/// The message for a bare success.
fn sentence(command: &UpdateCommand) -> String {
    match command {
        UpdateCommand::Pin { version } => {
            format!("pinned: only {version} is installed until `wherry update unpin`")
        }
        UpdateCommand::Unpin => String::from("unpinned: releases from the channel are installed"),
        UpdateCommand::Hold { until: None, .. } => {
            String::from("held: nothing is installed automatically until `wherry update resume`")
        }
        UpdateCommand::Hold { .. } => {
            String::from("held: nothing is installed automatically until then")
        }
        UpdateCommand::Resume => String::from("resumed"),
        UpdateCommand::Check
        | UpdateCommand::Apply { .. }
        | UpdateCommand::Status
        | UpdateCommand::History { .. }
        | UpdateCommand::Rollback { .. } => String::from("done"),
    }
}

/// The answer's content, without the wire's envelope.
fn print_json(reply: &Reply) -> Result<(), Failure> {
    match reply {
        Reply::Checked(checked) => output::print_json(checked),
        Reply::Applied(applied) => output::print_json(applied),
        Reply::Status(status) => output::print_json(status),
        Reply::History { records } => output::print_json(records),
        Reply::Done { notes } => output::print_json(&serde_json::json!({ "notes": notes })),
        // The client hands out neither.
        Reply::Progress(_) | Reply::Refused(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
    }

    #[test]
    fn a_hold_ends_after_a_while_or_at_a_time() {
        let cases = [
            ("2d", "2026-11-23T10:00:00Z"),
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("2026-11-22T06:00:00Z", "2026-11-22T06:00:00Z"),
        ];
        for (text, until) in cases {
            assert_eq!(end_of_hold(text, now()).unwrap(), until, "{text}");
        }
    }

    #[test]
    fn an_invalid_hold_is_a_usage_error() {
        for text in ["yesterday", "2026-11-21", "soon", "9000y", "0s"] {
            let failure = end_of_hold(text, now()).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{text}: {failure:?}");
        }
    }

    #[test]
    fn arguments_become_requests() {
        let command = UpdateCommand::Apply {
            version: Some("2.0".into()),
            reboot: Reboot::Never,
            allow_downgrade: true,
        };
        assert_eq!(
            request(&command, now()).unwrap(),
            Request::Apply {
                version: Some("2.0".into()),
                reboot: updater_control::Reboot::Never,
                allow_downgrade: true,
            }
        );
    }
}
