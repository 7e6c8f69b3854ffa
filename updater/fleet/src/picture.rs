//! A run as SVG: above, how many machines run which release, with the waves and
//! windows that allow it; below, how many are away for a reboot, against the
//! slots of the FleetLock server.
//!
//! It has no background, and its tones are legible on white and on black.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use svg::Document;
use svg::node::element::path::Data;
use svg::node::element::{Group, Line, Path, Rectangle, Text, Title};

use crate::machine::windows;
use crate::record::Record;
use crate::scenario::{DAY, Moment, Publication, Scenario};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 88.0;
const RIGHT: f64 = 936.0;
/// Rows for waves and windows start here.
const ROWS: f64 = 64.0;
const ROW: f64 = 20.0;
const BAND: f64 = 13.0;
const CURVES: f64 = 260.0;
const REBOOTS: f64 = 120.0;

const INK: &str = "#7d8590";
const FIRST: &str = "#8b949e";
const RELEASES: [&str; 4] = ["#4184e4", "#e5534b", "#2da44e", "#a371f7"];
const WINDOW: &str = "#d29922";
const AWAY: &str = "#d2752a";
const LIMIT: &str = "#e5534b";

/// The layout of the page.
struct Page<'a> {
    scenario: &'a Scenario,
    record: &'a Record,
    /// Upper and lower end of the curves.
    curves: (f64, f64),
    /// The same for the reboots.
    reboots: (f64, f64),
}

/// Draws the run.
pub fn draw(scenario: &Scenario, record: &Record) -> String {
    let rows = scenario.releases.len() + scenario.regions.len();
    let top = ROWS + ROW * count(rows) + 16.0;
    let page = Page {
        scenario,
        record,
        curves: (top, top + CURVES),
        reboots: (top + CURVES + 56.0, top + CURVES + 56.0 + REBOOTS),
    };
    let height = page.reboots.1 + 76.0;
    let headline = format!(
        "{} machines, {} releases, at most {} reboots at once",
        scenario.machines,
        scenario.releases.len(),
        scenario.lock_slots
    );
    Document::new()
        .set("viewBox", format!("0 0 {WIDTH} {height}"))
        .set("width", WIDTH)
        .set("height", height)
        .set(
            "font-family",
            "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
        )
        .set("font-size", 12)
        .set("fill", INK)
        .add(Title::new(headline.clone()))
        .add(
            words(LEFT, 24.0, &headline)
                .set("font-size", 17)
                .set("font-weight", "bold"),
        )
        .add(words(
            LEFT,
            44.0,
            &format!(
                "simulated with the real update policy, seed {}; times are UTC",
                scenario.seed
            ),
        ))
        .add(page.outages())
        .add(page.waves())
        .add(page.windows())
        .add(page.days())
        .add(page.rollouts())
        .add(page.halts())
        .add(page.away())
        .add(page.legend(page.reboots.1 + 56.0))
        .to_string()
}

impl Page<'_> {
    fn x(&self, moment: Moment) -> f64 {
        LEFT + (RIGHT - LEFT) * ratio(moment.min(self.scenario.length), self.scenario.length)
    }

    /// A bar in a row, from one moment to another.
    fn bar(&self, from: Moment, until: Moment, y: f64) -> Rectangle {
        Rectangle::new()
            .set("x", round(self.x(from)))
            .set("y", round(y))
            .set("width", round((self.x(until) - self.x(from)).max(0.5)))
            .set("height", BAND)
    }

    /// One row per release: its waves, each darker than the one before, until
    /// the next release or the halt.
    fn waves(&self) -> Group {
        let mut group = Group::new();
        for (number, publication) in self.scenario.releases.iter().enumerate() {
            let y = ROWS + ROW * count(number);
            group = group.add(row_label(&format!("waves {}", publication.version), y));
            let end = self.end_of(publication);
            for (place, (percent, start)) in publication.waves.iter().enumerate() {
                let next = publication.waves.get(place + 1);
                let planned =
                    next.map_or_else(|| self.superseded(publication), |(_, start)| *start);
                // What a halt has prevented.
                if planned > end {
                    let from = end.max(*start);
                    let bar = self.bar(from, planned, y).set("fill", "none");
                    group = group.add(
                        bar.set("stroke", color(number))
                            .set("stroke-dasharray", "2 2"),
                    );
                    group = group.add(
                        words(self.x(from) + 4.0, y + 10.5, &format!("{percent} %"))
                            .set("font-size", 10)
                            .set("fill", color(number)),
                    );
                }
                let until = planned.min(end);
                if *start >= until {
                    continue;
                }
                let bar = self
                    .bar(*start, until, y)
                    .set("fill", color(number))
                    .set("opacity", 0.35 + 0.25 * count(place));
                let label = format!("{percent} %");
                let room = self.x(until) - self.x(*start);
                group = group.add(bar);
                if room > 30.0 {
                    group = group.add(
                        words(self.x(*start) + 4.0, y + 10.5, &label)
                            .set("font-size", 10)
                            .set("fill", "#ffffff"),
                    );
                }
            }
        }
        group
    }

    /// When no machine takes it any more: it is halted, or there is a newer
    /// one.
    fn end_of(&self, publication: &Publication) -> Moment {
        let halted = self
            .record
            .halted
            .iter()
            .find(|(version, _)| version.as_str() == publication.version)
            .map(|(_, at)| *at);
        halted.unwrap_or_else(|| self.superseded(publication))
    }

    /// When there is a newer one that is not halted.
    fn superseded(&self, publication: &Publication) -> Moment {
        let mut halted = self.record.halted.keys();
        self.scenario
            .releases
            .iter()
            .filter(|newer| newer.at > publication.at)
            .filter(|newer| !halted.any(|version| version.as_str() == newer.version))
            .map(|newer| newer.at)
            .min()
            .unwrap_or(self.scenario.length)
    }

    /// One row per region: when its machines may reboot.
    fn windows(&self) -> Group {
        let mut group = Group::new();
        for (number, region) in self.scenario.regions.iter().enumerate() {
            let y = ROWS + ROW * count(self.scenario.releases.len() + number);
            group = group.add(row_label(region.name, y));
            let windows = windows(region);
            let mut now = 0;
            while now < self.scenario.length {
                let (from, until) = if windows.is_any() {
                    (0, self.scenario.length)
                } else {
                    let openings = windows.openings(self.scenario.time(now));
                    let Some(next) = openings.first() else {
                        break;
                    };
                    (
                        self.scenario.moment(next.start),
                        self.scenario.moment(next.end),
                    )
                };
                if from >= self.scenario.length {
                    break;
                }
                let bar = self.bar(from, until, y).set("fill", WINDOW);
                group = group.add(bar.set("opacity", 0.55));
                now = until.max(now + 1);
            }
        }
        group
    }

    /// The days, through all parts of the page.
    fn days(&self) -> Group {
        let mut group = Group::new();
        for day in 0..=self.scenario.length / DAY {
            let x = self.x(day * DAY);
            group = group.add(line(x, ROWS - 4.0, x, self.reboots.1).set("opacity", 0.18));
            if day * DAY == self.scenario.length {
                break;
            }
            let time = self.scenario.time(day * DAY).to_zoned(TimeZone::UTC);
            let middle = self.x(day * DAY + DAY / 2);
            let label = format!(
                "{} {:02}-{:02}",
                short(time.weekday()),
                time.month(),
                time.day()
            );
            for y in [self.curves.1, self.reboots.1] {
                group = group.add(
                    words(middle, y + 15.0, &label)
                        .set("font-size", 10)
                        .set("text-anchor", "middle"),
                );
            }
        }
        group
    }

    /// How many machines run which release.
    fn rollouts(&self) -> Group {
        let (top, bottom) = self.curves;
        let all = self.scenario.machines;
        let y = |machines: usize| bottom - (bottom - top) * part(machines, all);
        let mut group = axis("machines that run the release", top, bottom);
        for quarter in 0..=4 {
            let machines = all * quarter / 4;
            group = group.add(tick(&machines.to_string(), y(machines)));
        }
        let releases = self.scenario.releases.iter().enumerate();
        let curves = std::iter::once(("1.0", FIRST))
            .chain(releases.map(|(number, release)| (release.version, color(number))));
        for (version, color) in curves {
            let value = |sample: &crate::Sample| {
                let mut counts = sample.running.iter();
                let found = counts.find(|(running, _)| running.as_str() == version);
                found.map_or(0, |(_, count)| *count)
            };
            let mut data = Data::new();
            let mut last = None;
            let mut drawn = false;
            let end = self
                .record
                .samples
                .iter()
                .rposition(|sample| value(sample) > 0);
            // The line ends where the release has lost its last machine.
            for sample in self
                .record
                .samples
                .iter()
                .take(end.map_or(0, |end| end + 2))
            {
                let (x, y) = (round(self.x(sample.at)), round(y(value(sample))));
                // The line begins where the release has its first machine.
                if last.is_none() && value(sample) == 0 {
                    continue;
                }
                data = match last {
                    None => data.move_to((x, y)),
                    Some(last) if last == y => {
                        drawn = true;
                        data.horizontal_line_to(x)
                    }
                    Some(_) => {
                        drawn = true;
                        data.horizontal_line_to(x).vertical_line_to(y)
                    }
                };
                last = Some(y);
            }
            if drawn {
                group = group.add(
                    Path::new()
                        .set("d", data)
                        .set("fill", "none")
                        .set("stroke", color)
                        .set("stroke-width", 2),
                );
            }
        }
        let kept = self.record.kept.len();
        group.add(
            words(
                RIGHT - 6.0,
                y(kept) - 6.0,
                &format!("{kept} on hold or pinned stay with 1.0"),
            )
            .set("text-anchor", "end")
            .set("font-size", 11),
        )
    }

    /// Where the operator stopped a release.
    fn halts(&self) -> Group {
        let mut group = Group::new();
        for (version, at) in &self.record.halted {
            let x = self.x(*at);
            let (top, bottom) = self.curves;
            let count = |of: &std::collections::BTreeMap<_, std::collections::BTreeMap<_, _>>| {
                of.get(version).map_or(0, std::collections::BTreeMap::len)
            };
            let lines = [
                format!("{version} is halted:"),
                format!("{} machines have tried it,", count(&self.record.tried)),
                format!("{} fell back by themselves", count(&self.record.fell_back)),
            ];
            group = group.add(
                line(x, ROWS, x, bottom)
                    .set("stroke", LIMIT)
                    .set("stroke-width", 1.5)
                    .set("stroke-dasharray", "5 3"),
            );
            for (number, text) in lines.iter().enumerate() {
                let y = top + (bottom - top) * 0.42 + 15.0 * crate::picture::count(number);
                group = group.add(words(x + 6.0, y, text).set("fill", LIMIT));
            }
        }
        group
    }

    /// When the FleetLock server does not answer.
    fn outages(&self) -> Group {
        let mut group = Group::new();
        for (from, until) in &self.scenario.lock_down {
            let (x, end) = (self.x(*from), self.x(*until));
            for (top, bottom) in [self.curves, self.reboots] {
                group = group.add(
                    Rectangle::new()
                        .set("x", round(x))
                        .set("y", top)
                        .set("width", round(end - x))
                        .set("height", bottom - top)
                        .set("fill", INK)
                        .set("opacity", 0.25),
                );
            }
            group = group.add(
                words((x + end) / 2.0, self.reboots.0 - 6.0, "lock server down")
                    .set("text-anchor", "middle"),
            );
        }
        group
    }

    /// How many machines are away, at most between two samples.
    fn away(&self) -> Group {
        let (top, bottom) = self.reboots;
        let limit = self.scenario.lock_slots;
        let all = (limit + limit / 5).max(1);
        let y = |machines: usize| bottom - (bottom - top) * part(machines, all);
        let mut group = axis("reboots at once (most in 20 minutes)", top, bottom);
        for machines in [0, limit / 2, limit] {
            group = group.add(tick(&machines.to_string(), y(machines)));
        }
        let mut data = Data::new().move_to((round(LEFT), bottom));
        for pair in self.record.samples.windows(2) {
            let height = round(y(pair[1].away));
            data = data
                .horizontal_line_to(round(self.x(pair[0].at)))
                .vertical_line_to(height)
                .horizontal_line_to(round(self.x(pair[1].at)));
        }
        data = data.vertical_line_to(bottom).close();
        group
            .add(
                Path::new()
                    .set("d", data)
                    .set("fill", AWAY)
                    .set("opacity", 0.85),
            )
            .add(
                line(LEFT, y(limit), RIGHT, y(limit))
                    .set("stroke", LIMIT)
                    .set("stroke-width", 1.5)
                    .set("stroke-dasharray", "5 3"),
            )
            .add(
                words(
                    RIGHT,
                    y(limit) - 5.0,
                    &format!("{limit} slots of the FleetLock server"),
                )
                .set("text-anchor", "end")
                .set("fill", LIMIT),
            )
    }

    fn legend(&self, y: f64) -> Group {
        let mut group = Group::new();
        let mut x = LEFT;
        let releases = self.scenario.releases.iter().enumerate();
        let releases = releases.map(|(number, release)| {
            let what = if release.bad_permille > 0 {
                format!(
                    "{} (never healthy on {} % of machines)",
                    release.version,
                    release.bad_permille / 10
                )
            } else {
                release.version.to_owned()
            };
            (what, color(number), 1.0)
        });
        let entries = std::iter::once(("1.0".to_owned(), FIRST, 1.0))
            .chain(releases)
            .chain([
                ("maintenance windows".to_owned(), WINDOW, 0.55),
                ("away for a reboot".to_owned(), AWAY, 0.85),
            ]);
        for (what, color, opacity) in entries {
            group = group
                .add(
                    Rectangle::new()
                        .set("x", round(x))
                        .set("y", y - 10.0)
                        .set("width", 12)
                        .set("height", 12)
                        .set("fill", color)
                        .set("opacity", opacity),
                )
                .add(words(x + 17.0, y, &what));
            x += 38.0 + 6.4 * count(what.chars().count());
        }
        group
    }
}

fn color(number: usize) -> &'static str {
    RELEASES[number % RELEASES.len()]
}

fn short(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

fn axis(title: &str, top: f64, bottom: f64) -> Group {
    Group::new()
        .add(words(LEFT + 6.0, top - 6.0, title).set("font-weight", "bold"))
        .add(line(LEFT, top, LEFT, bottom))
        .add(line(LEFT, bottom, RIGHT, bottom))
}

fn tick(label: &str, y: f64) -> Group {
    Group::new()
        .add(words(LEFT - 8.0, y + 4.0, label).set("text-anchor", "end"))
        .add(line(LEFT - 4.0, y, LEFT, y))
}

fn row_label(label: &str, y: f64) -> Text {
    words(LEFT - 8.0, y + 10.5, label)
        .set("text-anchor", "end")
        .set("font-size", 11)
}

fn words(x: f64, y: f64, text: &str) -> Text {
    Text::new(text).set("x", round(x)).set("y", round(y))
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64) -> Line {
    Line::new()
        .set("x1", round(x1))
        .set("y1", round(y1))
        .set("x2", round(x2))
        .set("y2", round(y2))
        .set("stroke", INK)
}

/// A tenth of a pixel is enough, and keeps the file small.
fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "a few things on a page")]
fn count(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "machines are few")]
fn part(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "some weeks in milliseconds")]
fn ratio(part: Moment, whole: Moment) -> f64 {
    part as f64 / whole.max(1) as f64
}
