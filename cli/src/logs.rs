//! `wherry logs`: reads the journal's files directly, so that it works without
//! the log service and PID 1.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::time::{Duration, SystemTime};

use journal::{Boot, BootSelector, Entry, Journal, Level, Query};
use serde::Serialize;

use crate::arguments::{Lines, LogSelection, Place};
use crate::failure::Failure;
use crate::output;
use crate::table::{Align, Cell, Table};
use crate::terminal::{Reader, Tone, harmless};
use crate::when;

/// How many old entries precede the new ones while following.
const FOLLOW_TAIL: usize = 10;

pub fn run(place: &Place, selection: &LogSelection) -> Result<(), Failure> {
    if selection.list_boots {
        return list_boots(place);
    }
    show(place, &selection.service, &selection.lines)
}

/// Prints the entries of `services`, or all if none is named.
pub fn show(place: &Place, services: &[String], lines: &Lines) -> Result<(), Failure> {
    let query = query(services, lines, SystemTime::now())?;
    let journal = open(place)?;
    let style = Style {
        json: place.json,
        monotonic: lines.monotonic,
        reader: Reader::of_stdout(),
    };
    let mut printer = Printer {
        out: BufWriter::new(std::io::stdout().lock()),
        style,
        boot: None,
    };
    if lines.follow {
        let mut follow = journal.follow(&query).map_err(failed)?;
        while let Some(entry) = follow.next_within(None) {
            printer.take(entry)?;
            // Each entry as it comes; a burst is still few writes, since what
            // is there already comes without a wait.
            printer.flush()?;
        }
    } else {
        for entry in journal.entries(&query).map_err(failed)? {
            printer.take(entry)?;
        }
    }
    printer.flush()
}

/// The reader takes a missing directory for an empty journal, but a person who
/// named it, or whose state partition is not mounted, must know.
fn open(place: &Place) -> Result<Journal, Failure> {
    std::fs::read_dir(&place.journal).map_err(|error| {
        Failure::io(format!("no journal in {}", place.journal.display()), &error)
    })?;
    Ok(Journal::open(&place.journal))
}

fn failed(error: journal::Error) -> Failure {
    match std::error::Error::source(&error) {
        Some(source) => Failure::Failed(format!("{error}: {source}")),
        None => Failure::Failed(error.to_string()),
    }
}

/// The filter for these options. Without a boot or a time it is the newest boot,
/// which operators usually want.
fn query(services: &[String], lines: &Lines, now: SystemTime) -> Result<Query, Failure> {
    let time = |text: &Option<String>| {
        text.as_deref()
            .map(|text| when::parse(text, now).map_err(Failure::Usage))
            .transpose()
    };
    let since = time(&lines.since)?;
    let until = time(&lines.until)?;
    let newest = !lines.all_boots && since.is_none() && until.is_none();
    Ok(Query {
        services: services.to_vec(),
        boot: lines.boot.or(newest.then_some(BootSelector::Back(0))),
        since,
        until,
        level: lines.level,
        after: None,
        tail: lines.lines.or(lines.follow.then_some(FOLLOW_TAIL)),
    })
}

/// How entries are printed.
#[derive(Clone, Copy, Debug)]
struct Style {
    json: bool,
    /// Time since the boot instead of the wall clock's.
    monotonic: bool,
    reader: Reader,
}

struct Printer<W: Write> {
    out: W,
    style: Style,
    /// The boot of the last entry: a line marks a change.
    boot: Option<u64>,
}

impl<W: Write> Printer<W> {
    fn take(&mut self, entry: Result<Entry, journal::Error>) -> Result<(), Failure> {
        let entry = match entry {
            Ok(entry) => entry,
            // Report what is lost and print the rest.
            Err(error) if error.is_damage() => {
                eprintln!("wherry: {}", harmless(&error.to_string()));
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut text = String::new();
        if self.style.json {
            let json = serde_json::to_string(&EntryJson::of(&entry))
                .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
            text = output::escaped(&json);
        } else {
            if self.boot.is_some_and(|boot| boot != entry.boot) {
                let line = format!("-- boot {} ({}) --", entry.boot, entry.boot_id);
                text = self.style.reader.paint(Tone::Heading, &line) + "\n";
            }
            self.boot = Some(entry.boot);
            text += &line(&entry, self.style);
        }
        text.push('\n');
        self.out.write_all(text.as_bytes()).or_else(stopped)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().or_else(stopped)
    }
}

/// A closed pipe (`| head`) ends the command quietly.
fn stopped(error: std::io::Error) -> Result<(), Failure> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(Failure::io("standard output", &error))
}

fn line(entry: &Entry, style: Style) -> String {
    let time = if style.monotonic {
        format!(
            "[{:>5}.{:06}]",
            entry.monotonic.as_secs(),
            entry.monotonic.subsec_micros()
        )
    } else {
        when::show(entry.realtime)
    };
    let tone = match entry.level {
        Level::Emergency | Level::Alert | Level::Critical | Level::Error => Tone::Bad,
        Level::Warning => Tone::Busy,
        Level::Notice => Tone::Heading,
        Level::Info => Tone::Plain,
        Level::Debug => Tone::Quiet,
    };
    format!(
        "{} {}: {}",
        style.reader.paint(Tone::Quiet, &time),
        harmless(&entry.service),
        style.reader.paint(tone, &harmless(&entry.text()))
    )
}

/// One entry as `--json` prints it.
#[derive(Debug, Serialize)]
struct EntryJson<'a> {
    sequence: u64,
    time: String,
    boottime_us: u64,
    boot: u64,
    boot_id: String,
    service: &'a str,
    level: &'static str,
    message: String,
    unfinished: bool,
    fields: BTreeMap<&'a str, String>,
}

impl<'a> EntryJson<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            sequence: entry.sequence,
            time: humantime::format_rfc3339_micros(entry.realtime).to_string(),
            boottime_us: microseconds(entry.monotonic),
            boot: entry.boot,
            boot_id: entry.boot_id.to_string(),
            service: &entry.service,
            level: entry.level.name(),
            message: entry.text().into_owned(),
            unfinished: entry.unfinished,
            fields: entry
                .fields
                .iter()
                .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned()))
                .collect(),
        }
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// One boot as `--json` prints it.
#[derive(Debug, Serialize)]
struct BootJson {
    back: usize,
    boot: u64,
    boot_id: String,
    first: String,
    last: String,
    entries: u64,
}

fn list_boots(place: &Place) -> Result<(), Failure> {
    let boots = open(place)?.boots().map_err(failed)?;
    if place.json {
        let boots: Vec<BootJson> = boots
            .iter()
            .enumerate()
            .map(|(index, boot)| BootJson {
                back: boots.len() - 1 - index,
                boot: boot.index,
                boot_id: boot.id.to_string(),
                first: humantime::format_rfc3339_micros(boot.first).to_string(),
                last: humantime::format_rfc3339_micros(boot.last).to_string(),
                entries: boot.entries,
            })
            .collect();
        return output::print_json(&boots);
    }
    output::print(&boot_table(&boots, Reader::of_stdout()))
}

fn boot_table(boots: &[Boot], reader: Reader) -> String {
    if boots.is_empty() {
        return String::from("the journal is empty\n");
    }
    let mut table = Table::new(&[
        ("BACK", Align::Right),
        ("BOOT", Align::Right),
        ("FIRST ENTRY", Align::Left),
        ("LAST ENTRY", Align::Left),
        ("ENTRIES", Align::Right),
        ("BOOT ID", Align::Left),
    ]);
    for (index, boot) in boots.iter().enumerate() {
        let back = match boots.len() - 1 - index {
            0 => String::from("0"),
            back => format!("-{back}"),
        };
        table.row([
            Cell::from(back),
            Cell::from(boot.index.to_string()),
            Cell::from(when::show_seconds(boot.first)),
            Cell::from(when::show_seconds(boot.last)),
            Cell::from(boot.entries.to_string()),
            Cell::from(boot.id.to_string()),
        ]);
    }
    table.render(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::BootId;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn entry(boot: u64, service: &str, level: Level, message: &[u8]) -> Entry {
        Entry {
            sequence: 7,
            boot,
            boot_id: BootId([u8::try_from(boot).unwrap(); 16]),
            realtime: at(1_795_255_200) + Duration::from_micros(123_456),
            monotonic: Duration::from_micros(1_234_567),
            service: service.into(),
            level,
            unfinished: false,
            message: message.to_vec(),
            fields: vec![("PID".into(), b"12".to_vec())],
        }
    }

    fn printed(style: Style) -> String {
        let mut printer = Printer {
            out: Vec::new(),
            style,
            boot: None,
        };
        for entry in [
            entry(1, "network", Level::Info, b"eth0 is up"),
            entry(1, "kernel", Level::Error, b"disk \x1b[31m on fire\xff"),
            entry(2, "init", Level::Warning, b"booted again"),
            entry(2, "web", Level::Debug, b""),
        ] {
            printer.take(Ok(entry)).unwrap();
        }
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn entries_are_lines_and_a_new_boot_is_marked() {
        let style = Style {
            json: false,
            monotonic: false,
            reader: Reader::PLAIN,
        };
        insta::assert_snapshot!(printed(style));
    }

    #[test]
    fn a_terminal_sees_levels_as_colours() {
        let style = Style {
            json: false,
            monotonic: true,
            reader: Reader {
                colour: true,
                width: Some(80),
            },
        };
        insta::assert_snapshot!(printed(style).replace('\x1b', "^"));
    }

    /// The shape is documented: it changes together with docs/cli.md.
    #[test]
    fn the_json_shape_is_stable() {
        let style = Style {
            json: true,
            monotonic: false,
            reader: Reader::PLAIN,
        };
        insta::assert_snapshot!(printed(style));
    }

    #[test]
    fn boots_are_listed_oldest_first_and_counted_back() {
        let boot = |index: u64| Boot {
            index,
            id: BootId([u8::try_from(index).unwrap(); 16]),
            sequences: (index * 100, index * 100 + 41),
            first: at(1_795_255_200 + index * 3600),
            last: at(1_795_257_000 + index * 3600),
            entries: 42,
        };
        insta::assert_snapshot!(boot_table(&[boot(8), boot(9)], Reader::PLAIN));
    }

    fn lines() -> Lines {
        Lines {
            follow: false,
            boot: None,
            all_boots: false,
            since: None,
            until: None,
            level: None,
            lines: None,
            monotonic: false,
        }
    }

    #[test]
    fn without_a_boot_or_a_time_the_newest_boot_is_shown() {
        let now = at(1_795_255_200);
        let boot = |lines: &Lines| query(&[], lines, now).unwrap().boot;
        assert_eq!(boot(&lines()), Some(BootSelector::Back(0)));
        let since = Lines {
            since: Some("1h".into()),
            ..lines()
        };
        assert_eq!(boot(&since), None);
        let all = Lines {
            all_boots: true,
            ..lines()
        };
        assert_eq!(boot(&all), None);
        let one = Lines {
            since: Some("1h".into()),
            boot: Some(BootSelector::Index(3)),
            ..lines()
        };
        assert_eq!(boot(&one), Some(BootSelector::Index(3)));
    }

    #[test]
    fn following_begins_with_the_last_ten_entries_unless_told_otherwise() {
        let now = at(1_795_255_200);
        let tail = |lines: &Lines| query(&[], lines, now).unwrap().tail;
        let mut following = lines();
        following.follow = true;
        assert_eq!(tail(&following), Some(10));
        following.lines = Some(3);
        assert_eq!(tail(&following), Some(3));
        assert_eq!(tail(&lines()), None);
    }
}
