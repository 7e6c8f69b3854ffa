//! The updater's answers as people read them.

use updater_control::{
    Applied, Checked, Phase, Progress, Record, RecordKind, Reply, SlotState, SlotStatus, Status,
};

use crate::table::{Align, Cell, Table};
use crate::terminal::{Reader, Tone, harmless};
use crate::units;

/// `reply` as text; `sentence` is what a bare success means.
pub fn reply(reply: &Reply, sentence: &str, reader: Reader) -> String {
    match reply {
        Reply::Checked(found) => checked(found, reader),
        Reply::Applied(done) => applied(done),
        Reply::Status(all) => status(all, reader),
        Reply::History { records } => history(records, reader),
        Reply::Done { notes } => {
            let mut text = format!("{sentence}\n");
            for note in notes {
                text += &format!("  {}\n", harmless(note));
            }
            text
        }
        // The client hands out neither.
        Reply::Progress(_) | Reply::Refused(_) => String::new(),
    }
}

fn checked(found: &Checked, reader: Reader) -> String {
    let running = harmless(&found.running);
    let Some(release) = &found.available else {
        return format!(
            "{running} stays: {} (channel {})\n",
            harmless(&found.reason),
            harmless(&found.channel)
        );
    };
    let mut text = format!(
        "{} is available, {running} runs (channel {})\n",
        reader.paint(Tone::Good, &harmless(&release.version)),
        harmless(&found.channel)
    );
    text += &format!(
        "  published {}, {} at most\n",
        harmless(&release.published),
        units::size(release.size)
    );
    for line in release.notes.lines() {
        text += &format!("  {}\n", harmless(line));
    }
    if !found.reason.is_empty() {
        text += &format!("  {}\n", harmless(&found.reason));
    }
    text
}

fn applied(done: &Applied) -> String {
    let version = harmless(&done.version);
    let mut text = if done.changed {
        format!(
            "{version} boots next; {} fetched, {} reused\n",
            units::size(done.fetched),
            units::size(done.reused)
        )
    } else {
        format!("{version} boots next anyway; nothing was changed\n")
    };
    if !done.reboot.is_empty() {
        text += &format!("  {}\n", harmless(&done.reboot));
    }
    text
}

fn status(status: &Status, reader: Reader) -> String {
    let mut text = head(status, reader);
    let mut facts: Vec<(&str, String)> = Vec::new();
    if let Some(doing) = doing(&status.progress) {
        facts.push(("Doing", doing));
    }
    if let Some(version) = &status.reboot_required {
        let waits = status
            .reboot_waits_for
            .as_ref()
            .map_or_else(String::new, |why| {
                format!("; it waits for {}", harmless(why))
            });
        let line = format!("needed for {}{waits}", harmless(version));
        facts.push(("Restart", reader.paint(Tone::Busy, &line)));
    }
    facts.push(("Mode", harmless(&status.mode)));
    if let Some(channel) = &status.channel {
        let from = status.repositories.iter().map(|from| harmless(from));
        let from: Vec<String> = from.collect();
        facts.push((
            "Channel",
            format!("{} from {}", harmless(channel), from.join(", ")),
        ));
    }
    if let Some(check) = &status.last_check {
        let found = match &check.error {
            Some(error) => reader.paint(Tone::Bad, &harmless(error)),
            None => harmless(&check.found),
        };
        facts.push(("Checked", format!("{}: {found}", harmless(&check.time))));
    }
    if let Some(next) = &status.next_check {
        facts.push(("Next check", harmless(next)));
    }
    if let Some(pin) = &status.pin {
        facts.push(("Pinned to", harmless(pin)));
    }
    if let Some(hold) = &status.hold {
        let until = hold
            .until
            .as_ref()
            .map_or_else(|| String::from("`wherry update resume`"), |it| harmless(it));
        let because = match hold.because.as_str() {
            "" => String::new(),
            because => format!(": {}", harmless(because)),
        };
        facts.push((
            "Held until",
            reader.paint(Tone::Busy, &format!("{until}{because}")),
        ));
    }
    for failed in &status.failed {
        facts.push((
            "Failed",
            format!(
                "{} ({}): {}",
                harmless(&failed.version),
                harmless(&failed.time),
                harmless(&failed.reason)
            ),
        ));
    }
    for (name, value) in facts {
        text += &format!("{name:<10} {value}\n");
    }
    text.push('\n');
    text + &slots(&status.slots, reader)
}

fn head(status: &Status, reader: Reader) -> String {
    let booted = &status.booted;
    let slot = booted.slot.as_ref().map_or_else(String::new, |slot| {
        format!(", slot {}", harmless(&slot.to_uppercase()))
    });
    let title = format!("Wherry {}{slot}", harmless(&booted.version));
    let mut text = reader.paint(Tone::Heading, &title);
    match &booted.trial {
        None => text.push('\n'),
        Some(trial) => {
            let line = format!(
                ": on trial, {} left, {} more tries",
                units::span(trial.seconds_left.saturating_mul(1_000_000)),
                trial.tries_left
            );
            text += &format!("{}\n", reader.paint(Tone::Busy, &line));
            for wait in &trial.waits_for {
                text += &format!("  waits: {}\n", harmless(wait));
            }
        }
    }
    for problem in &status.problems {
        let line = format!("  ! {}", harmless(problem));
        text += &format!("{}\n", reader.paint(Tone::Bad, &line));
    }
    text
}

fn doing(progress: &Progress) -> Option<String> {
    if progress.phase == Phase::Idle {
        return None;
    }
    let mut text = String::from(progress.phase.as_str());
    if let Some(version) = &progress.version {
        text += &format!(" for {}", harmless(version));
    }
    if progress.total > 0 {
        let done = (progress.fetched + progress.reused).max(progress.verified);
        text += &format!(
            ", {} of {}",
            units::size(done.min(progress.total)),
            units::size(progress.total)
        );
    }
    Some(text)
}

fn slots(slots: &[SlotStatus], reader: Reader) -> String {
    let mut table = Table::new(&[
        ("SLOT", Align::Left),
        ("RELEASE", Align::Left),
        ("STATE", Align::Left),
        ("TRIES LEFT", Align::Right),
        ("BOOTS NEXT", Align::Left),
    ]);
    for slot in slots {
        let tone = match slot.state {
            SlotState::Booted | SlotState::Good => Tone::Good,
            SlotState::Trial => Tone::Busy,
            SlotState::Bad => Tone::Bad,
            SlotState::Empty => Tone::Quiet,
        };
        table.row([
            slot.slot.to_uppercase().into(),
            slot.version.as_deref().unwrap_or("").into(),
            Cell::new(tone, slot.state.as_str()),
            slot.tries_left
                .map_or_else(String::new, |left| left.to_string())
                .into(),
            if slot.next { "yes" } else { "" }.into(),
        ]);
    }
    table.render(reader)
}

fn history(records: &[Record], reader: Reader) -> String {
    if records.is_empty() {
        return String::from("nothing has been done yet\n");
    }
    let mut table = Table::new(&[
        ("TIME", Align::Left),
        ("WHAT", Align::Left),
        ("FROM", Align::Left),
        ("RELEASE", Align::Left),
        ("FETCHED", Align::Right),
        ("REUSED", Align::Right),
        ("WHY", Align::Left),
    ]);
    let size = |bytes| match bytes {
        0 => String::new(),
        bytes => units::size(bytes),
    };
    for record in records {
        let tone = match record.kind {
            RecordKind::Installed | RecordKind::Blessed | RecordKind::Repaired => Tone::Good,
            RecordKind::RolledBack | RecordKind::Credited => Tone::Busy,
            RecordKind::InstallFailed | RecordKind::FellBack => Tone::Bad,
        };
        table.row([
            (&record.time).into(),
            Cell::new(tone, record.kind.as_str()),
            record.from.as_deref().unwrap_or("").into(),
            (&record.to).into(),
            size(record.fetched).into(),
            size(record.reused).into(),
            (&record.reason).into(),
        ]);
    }
    // A reason is never cut: a long one wraps.
    table.render(Reader {
        width: None,
        ..reader
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use updater_control::{Available, Booted, Failed, Hold, LastCheck, Trial};

    fn all() -> Status {
        Status {
            booted: Booted {
                version: "2.0".into(),
                slot: Some("b".into()),
                root_hash: Some("c0ffee".into()),
                trial: Some(Trial {
                    tries_left: 2,
                    waits_for: vec!["network is not ready: asks for an address".into()],
                    seconds_left: 540,
                }),
            },
            slots: vec![
                SlotStatus {
                    slot: "a".into(),
                    version: Some("1.0".into()),
                    state: SlotState::Good,
                    tries_left: None,
                    next: false,
                },
                SlotStatus {
                    slot: "b".into(),
                    version: Some("2.0".into()),
                    state: SlotState::Booted,
                    tries_left: Some(2),
                    next: true,
                },
            ],
            progress: Progress {
                phase: Phase::Idle,
                version: None,
                fetched: 0,
                reused: 0,
                verified: 0,
                total: 0,
            },
            reboot_required: None,
            reboot_waits_for: None,
            mode: "automatic".into(),
            channel: Some("stable".into()),
            repositories: vec!["https://updates.example/wherry".into()],
            last_check: Some(LastCheck {
                time: "2026-11-21T09:00:00Z".into(),
                error: None,
                found: "2.0 is the newest".into(),
            }),
            next_check: Some("2026-11-21T10:00:00Z".into()),
            pin: None,
            hold: Some(Hold {
                until: None,
                because: "the fair is on".into(),
            }),
            failed: vec![Failed {
                version: "1.9".into(),
                time: "2026-11-20T09:00:00Z".into(),
                reason: "kernel panic: \x1b[2Jno init".into(),
            }],
            problems: vec!["/state/updater cannot be written: read-only file system".into()],
        }
    }

    fn record(kind: RecordKind, to: &str, reason: &str) -> Record {
        Record {
            time: "2026-11-21T09:00:00Z".into(),
            kind,
            from: Some("1.0".into()),
            to: to.into(),
            reason: reason.into(),
            fetched: 2_000_000,
            reused: 60_000_000,
        }
    }

    fn plain(answer: &Reply) -> String {
        reply(answer, "done", Reader::PLAIN)
    }

    #[test]
    fn the_status_fits_on_one_screen() {
        insta::assert_snapshot!(plain(&Reply::Status(Box::new(all()))));
    }

    #[test]
    fn a_restart_that_waits_says_for_what() {
        let mut status = all();
        status.booted.trial = None;
        status.hold = None;
        status.failed.clear();
        status.problems.clear();
        status.pin = Some("2.1".into());
        status.reboot_required = Some("2.1".into());
        status.reboot_waits_for = Some("the window Sat 02:00".into());
        status.progress.phase = Phase::Writing;
        status.progress.version = Some("2.1".into());
        status.progress.reused = 5 << 20;
        status.progress.total = 10 << 20;
        insta::assert_snapshot!(plain(&Reply::Status(Box::new(status))));
    }

    #[test]
    fn the_history_shows_what_was_done_and_why() {
        let records = vec![
            record(RecordKind::Installed, "2.0", ""),
            Record {
                fetched: 0,
                reused: 0,
                ..record(
                    RecordKind::FellBack,
                    "2.0",
                    "the service web failed for good: exited with 3",
                )
            },
        ];
        insta::assert_snapshot!(plain(&Reply::History { records }));
        let nothing = plain(&Reply::History { records: vec![] });
        assert_eq!(nothing, "nothing has been done yet\n");
    }

    #[test]
    fn the_result_of_a_check_has_its_reason() {
        let mut found = Checked {
            running: "1.0".into(),
            channel: "stable".into(),
            available: Some(Available {
                version: "2.0".into(),
                published: "2026-11-20T12:00:00Z".into(),
                notes: "Faster.\nSmaller.".into(),
                size: 80 << 20,
            }),
            reason: String::new(),
            newest: Some("2.0".into()),
        };
        let with = plain(&Reply::Checked(Box::new(found.clone())));
        found.available = None;
        found.reason = "2.0 is for other machines until 2026-11-22T00:00:00Z".into();
        let without = plain(&Reply::Checked(Box::new(found)));
        insta::assert_snapshot!(with + "--\n" + &without);
    }

    #[test]
    fn an_applied_release_is_shown_with_its_cost() {
        let done = Applied {
            version: "2.0".into(),
            changed: true,
            fetched: 2_000_000,
            reused: 60_000_000,
            reboot: "the machine restarts now".into(),
        };
        let again = Applied {
            changed: false,
            reboot: String::new(),
            ..done.clone()
        };
        insta::assert_snapshot!(plain(&Reply::Applied(done)) + &plain(&Reply::Applied(again)));
    }

    /// The shapes are documented: they change together with docs/cli.md.
    #[test]
    fn the_json_shapes_are_stable() {
        let record = record(RecordKind::InstallFailed, "2.0", "no space");
        let text = serde_json::to_string_pretty(&(all(), record)).unwrap();
        insta::assert_snapshot!(text);
    }
}
