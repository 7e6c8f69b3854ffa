//! The picture. Above, the whole boot as one strip; below, what follows the
//! kernel under a magnifying glass, a line for each of PID 1's stages and each
//! service.
//!
//! It has no background, and its tones are legible on white and on black: it
//! can stand in any page. Nothing in it needs a script or a font of its own.

use svg::Document;
use svg::node::element::{Group, Line, Path, Rectangle, Text, Title};

use super::rows::{Chart, End, Row};
use super::scale::{Scale, label};
use crate::units;

const WIDTH: f64 = 960.0;
/// The names stand left of this.
const LEFT: f64 = 150.0;
/// The durations stand right of this.
const RIGHT: f64 = 850.0;
const MARGIN: f64 = 16.0;
const STRIP_TOP: f64 = 72.0;
const STRIP_HEIGHT: f64 = 26.0;
/// The axis' labels; the rows begin below.
const AXIS: f64 = 168.0;
const ROW: f64 = 24.0;
const BAR: f64 = 12.0;

const INK: &str = "#7d8590";
const KERNEL: &str = "#8b949e";
const INIT: &str = "#4184e4";
const SET_UP: &str = "#d29922";
const START: &str = "#2da44e";
const FAILED: &str = "#e5534b";
const CRITICAL: &str = "#e0823d";

/// The chart as SVG.
pub fn picture(chart: &Chart) -> String {
    // Some space after the end, so that the last service's readiness shows.
    let air = (chart.end - chart.init) / 40;
    let scale = Scale::new(chart.init, chart.end + air, LEFT, RIGHT);
    let rows = chart.stages.len() + chart.services.len() + 2;
    #[expect(clippy::cast_precision_loss, reason = "rows are few")]
    let bottom = AXIS + 12.0 + ROW * rows as f64 + 8.0;
    let height = bottom + 48.0;
    let document = Document::new()
        .set("viewBox", format!("0 0 {WIDTH} {height}"))
        .set("width", WIDTH)
        .set("height", height)
        .set(
            "font-family",
            "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
        )
        .set("font-size", 12)
        .set("fill", INK)
        .add(Title::new(headline(chart)))
        .add(head(chart))
        .add(strip(chart, &scale))
        .add(axis(chart, &scale, bottom))
        .add(body(chart, &scale))
        .add(legend(bottom + 26.0));
    format!("{document}\n")
}

fn headline(chart: &Chart) -> String {
    match chart.settled {
        Some(settled) => format!(
            "Wherry {}: all services settled after {}",
            chart.version,
            units::seconds(settled)
        ),
        None => format!("Wherry {}: still booting", chart.version),
    }
}

fn head(chart: &Chart) -> Group {
    let names: Vec<&str> = chart
        .critical
        .iter()
        .map(|index| chart.services[*index].name.as_str())
        .collect();
    let path = match names.as_slice() {
        [] => String::new(),
        names => format!("critical path: {}", names.join(" → ")),
    };
    Group::new()
        .add(
            text(MARGIN, 30.0, headline(chart))
                .set("font-size", 18)
                .set("font-weight", 600),
        )
        .add(text(MARGIN, 52.0, path).set("fill", CRITICAL))
        .add(text(WIDTH - MARGIN, 52.0, shares(chart)).set("text-anchor", "end"))
}

/// The boot's parts: their owner, start and end.
fn parts(chart: &Chart) -> [(&'static str, u64, u64, &'static str); 3] {
    [
        ("kernel", 0, chart.init, KERNEL),
        ("PID 1", chart.init, chart.services_begin, INIT),
        ("services", chart.services_begin, chart.end, START),
    ]
}

fn shares(chart: &Chart) -> String {
    let shares: Vec<String> = parts(chart)
        .iter()
        .map(|(name, from, to, _)| format!("{name} {}", units::seconds(to - from)))
        .collect();
    shares.join(", ")
}

/// The whole boot from the kernel's start, and the magnifying glass over the
/// part after the kernel.
fn strip(chart: &Chart, detail: &Scale) -> Group {
    let whole = Scale::new(0, chart.end, MARGIN, WIDTH - MARGIN);
    let strip_bottom = STRIP_TOP + STRIP_HEIGHT;
    let glass = format!(
        "M{} {strip_bottom} H{} L{} {top} H{} Z",
        whole.x(chart.init),
        whole.x(chart.end),
        detail.x(chart.end),
        detail.x(chart.init),
        top = AXIS - 16.0,
    );
    let mut group = Group::new().add(Path::new().set("d", glass).set("fill-opacity", 0.1));
    for (name, from, to, colour) in parts(chart) {
        let (left, right) = (whole.x(from), whole.x(to));
        let words = format!("{name} {}", units::seconds(to - from));
        group = group.add(
            Rectangle::new()
                .set("x", left)
                .set("y", STRIP_TOP)
                .set("width", tenth(right - left))
                .set("height", STRIP_HEIGHT)
                .set("fill", colour)
                .set("fill-opacity", 0.85)
                .add(Title::new(words.clone())),
        );
        if right - left > width_of(&words) + 12.0 {
            group = group.add(
                text(tenth((left + right) / 2.0), STRIP_TOP + 17.5, words)
                    .set("text-anchor", "middle")
                    .set("fill", "#fff")
                    .set("font-weight", 600),
            );
        }
    }
    group
}

fn axis(chart: &Chart, scale: &Scale, bottom: f64) -> Group {
    let (ticks, step) = scale.ticks(9);
    let mut group = Group::new();
    for tick in ticks {
        let x = scale.x(tick);
        group = group
            .add(
                line(x, AXIS + 6.0, x, bottom)
                    .set("stroke", INK)
                    .set("stroke-opacity", 0.25),
            )
            .add(
                text(x, AXIS, label(tick, step))
                    .set("text-anchor", "middle")
                    .set("font-size", 11),
            );
    }
    if let Some(settled) = chart.settled {
        let x = scale.x(settled);
        group = group.add(
            line(x, AXIS + 6.0, x, bottom)
                .set("stroke", START)
                .set("stroke-dasharray", "4 3"),
        );
    }
    group.add(
        text(WIDTH - MARGIN, AXIS, "start to ready")
            .set("text-anchor", "end")
            .set("font-size", 11),
    )
}

fn body(chart: &Chart, scale: &Scale) -> Group {
    let mut group = Group::new();
    let mut middle = AXIS + 12.0 + ROW / 2.0;
    group = group.add(heading("PID 1", middle));
    for stage in &chart.stages {
        middle += ROW;
        group = group.add(stage_row(stage, scale, middle));
    }
    middle += ROW;
    group = group.add(heading("Services", middle));
    let middles: Vec<f64> = chart
        .services
        .iter()
        .map(|_| {
            middle += ROW;
            middle
        })
        .collect();
    for (index, service) in chart.services.iter().enumerate() {
        let is_critical = chart.critical.contains(&index);
        group = group.add(service_row(
            service,
            chart.end,
            scale,
            middles[index],
            is_critical,
        ));
    }
    // Above the bars, and what decides above what does not.
    let mut links = links(chart);
    links.sort_by_key(|link| link.critical);
    for link in links {
        group = group.add(arrow(&link, chart, scale, &middles));
    }
    group
}

fn heading(name: &str, middle: f64) -> Text {
    text(MARGIN, middle + 4.0, name).set("font-weight", 600)
}

fn name_of(row: &Row, middle: f64) -> Text {
    // The row's title has the full text.
    let name = crate::table::shortened(&row.name, 18);
    text(LEFT - 10.0, middle + 4.0, name).set("text-anchor", "end")
}

fn duration(words: impl Into<String>, middle: f64) -> Text {
    text(WIDTH - MARGIN, middle + 4.0, words).set("text-anchor", "end")
}

fn stage_row(stage: &Row, scale: &Scale, middle: f64) -> Group {
    let from = stage.started.unwrap_or(stage.defined);
    let to = stage.end.time().unwrap_or(from);
    let took = milliseconds(to.saturating_sub(from));
    Group::new()
        .add(Title::new(format!("{}: {took}", stage.name)))
        .add(name_of(stage, middle))
        .add(bar(scale, from, to, middle, BAR, INIT))
        .add(duration(took, middle))
}

fn service_row(service: &Row, end: u64, scale: &Scale, middle: f64, is_critical: bool) -> Group {
    let name = name_of(service, middle);
    let name = if is_critical {
        name.set("fill", CRITICAL)
    } else {
        name
    };
    let mut group = Group::new().add(Title::new(story(service))).add(name);
    let stop = service.end.time().unwrap_or(end);
    let started = service.started.unwrap_or(stop);
    let executed = service.executed.unwrap_or(stop);
    // A service without a program of its own, such as the state partition's
    // where nothing is to be done to it, is PID 1's work.
    let first = match (service.executed, service.end) {
        (None, End::Ready(_)) => INIT,
        _ => SET_UP,
    };
    group = group
        .add(bar(scale, service.defined, started, middle, 2.0, INK).set("fill-opacity", 0.7))
        .add(bar(scale, started, executed, middle, BAR, first))
        .add(bar(scale, executed, stop, middle, BAR, START));
    let (group, words) = match (service.end, service.started) {
        (End::Ready(ready), _) => (
            group.add(bar(scale, ready, end, middle, BAR, START).set("fill-opacity", 0.15)),
            milliseconds(ready.saturating_sub(started)),
        ),
        (End::Failed(failed), _) => (
            group.add(cross(scale.x(failed), middle)),
            String::from("failed"),
        ),
        (End::Open, Some(_)) => (group, String::from("not ready")),
        (End::Open, None) => (group, String::from("waiting")),
    };
    let words = duration(words, middle);
    match service.end {
        End::Failed(_) => group.add(words.set("fill", FAILED)),
        End::Ready(_) | End::Open => group.add(words),
    }
}

/// A service's row in words, for tooltips and screen readers.
fn story(service: &Row) -> String {
    let mut parts = Vec::new();
    let mut from = service.defined;
    let steps = [("waited", service.started), ("set up", service.executed)];
    for (step, time) in steps {
        if let Some(time) = time {
            parts.push(format!(
                "{step} {}",
                milliseconds(time.saturating_sub(from))
            ));
            from = time;
        }
    }
    parts.push(match service.end {
        End::Ready(time) => format!("ready after {}", milliseconds(time.saturating_sub(from))),
        End::Failed(time) => format!("failed after {}", milliseconds(time.saturating_sub(from))),
        End::Open => String::from("not ready"),
    });
    format!("{}: {}", service.name, parts.join(", "))
}

/// One service waited for another. An indirect wait is not drawn: the arrows
/// through the third service show it.
struct Link {
    from: usize,
    to: usize,
    critical: bool,
}

fn links(chart: &Chart) -> Vec<Link> {
    let mut links = Vec::new();
    for (to, service) in chart.services.iter().enumerate() {
        for &from in &service.requires {
            let through_another = service
                .requires
                .iter()
                .any(|&other| chart.services[other].requires.contains(&from));
            if through_another {
                continue;
            }
            let critical = chart.critical.windows(2).any(|pair| *pair == [from, to]);
            links.push(Link { from, to, critical });
        }
    }
    links
}

/// From where one is ready down to where the other starts.
fn arrow(link: &Link, chart: &Chart, scale: &Scale, middles: &[f64]) -> Group {
    let (from, to) = (&chart.services[link.from], &chart.services[link.to]);
    let (Some(ready), Some(started)) = (from.end.time(), to.started) else {
        return Group::new();
    };
    let colour = if link.critical { CRITICAL } else { INK };
    let (x, tip) = (scale.x(ready), scale.x(started.max(ready)));
    let downwards = middles[link.to] > middles[link.from];
    let (top, middle) = (middles[link.from], middles[link.to]);
    // The line comes in from above (or below) and ends in an arrow at the bar.
    let edge = if downwards {
        middle - BAR / 2.0
    } else {
        middle + BAR / 2.0
    };
    let bend = if downwards { edge - 4.0 } else { edge + 4.0 };
    let way = if (tip - x).abs() < 1.0 {
        format!("M{tip} {top} V{edge}")
    } else {
        format!("M{x} {top} V{bend} H{tip} V{edge}")
    };
    let back = if downwards { -4.0 } else { 4.0 };
    let head = format!("M{tip} {edge} l-3 {back} h6 Z");
    Group::new()
        .set("stroke", colour)
        .set("fill", colour)
        .set("stroke-opacity", if link.critical { 1.0 } else { 0.7 })
        .add(
            Path::new()
                .set("d", way)
                .set("fill", "none")
                .set("stroke-width", if link.critical { 1.8 } else { 1.0 }),
        )
        .add(Path::new().set("d", head).set("stroke", "none"))
}

fn legend(middle: f64) -> Group {
    let mut group = Group::new().set("font-size", 11);
    let mut x = MARGIN;
    let bars = [
        ("PID 1's stage", INIT, BAR, 1.0),
        ("waits", INK, 2.0, 0.7),
        ("container is set up", SET_UP, BAR, 1.0),
        ("program starts", START, BAR, 1.0),
        ("ready", START, BAR, 0.15),
    ];
    for (words, colour, height, opacity) in bars {
        group = group
            .add(
                Rectangle::new()
                    .set("x", x)
                    .set("y", middle - height / 2.0)
                    .set("width", 18)
                    .set("height", height)
                    .set("fill", colour)
                    .set("fill-opacity", opacity),
            )
            .add(text(x + 24.0, middle + 4.0, words));
        x = tenth(x + 24.0 + width_of(words) + 18.0);
    }
    group = group
        .add(cross(x + 6.0, middle))
        .add(text(x + 18.0, middle + 4.0, "failed"));
    x = tenth(x + 18.0 + width_of("failed") + 18.0);
    for (words, colour) in [("waited for", INK), ("critical path", CRITICAL)] {
        group = group
            .add(
                line(x, middle, x + 18.0, middle)
                    .set("stroke", colour)
                    .set("stroke-width", if colour == INK { 1.0 } else { 1.8 }),
            )
            .add(text(x + 24.0, middle + 4.0, words));
        x = tenth(x + 24.0 + width_of(words) + 18.0);
    }
    group
}

fn text(x: f64, y: f64, words: impl Into<String>) -> Text {
    Text::new(words).set("x", x).set("y", y)
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64) -> Line {
    Line::new()
        .set("x1", x1)
        .set("y1", y1)
        .set("x2", x2)
        .set("y2", y2)
}

/// A bar from one time to another, at least wide enough to be seen.
fn bar(scale: &Scale, from: u64, to: u64, middle: f64, height: f64, colour: &str) -> Rectangle {
    let x = scale.x(from);
    let width = tenth(scale.x(to) - x);
    let visible = if to > from { width.max(1.0) } else { 0.0 };
    Rectangle::new()
        .set("x", x)
        .set("y", middle - height / 2.0)
        .set("width", visible)
        .set("height", height)
        .set("fill", colour)
}

fn cross(x: f64, middle: f64) -> Path {
    Path::new()
        .set(
            "d",
            format!("M{} {} l8 8 m0 -8 l-8 8", tenth(x - 4.0), middle - 4.0),
        )
        .set("stroke", FAILED)
        .set("stroke-width", 2.5)
        .set("fill", "none")
}

fn milliseconds(microseconds: u64) -> String {
    match microseconds {
        0..10_000 => format!("{}.{} ms", microseconds / 1000, microseconds / 100 % 10),
        10_000..10_000_000 => format!("{} ms", (microseconds + 500) / 1000),
        _ => units::span(microseconds),
    }
}

/// The approximate width of text at the body's size: no font is known here.
#[expect(clippy::cast_precision_loss, reason = "words are short")]
fn width_of(words: &str) -> f64 {
    words.chars().count() as f64 * 6.6
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::rows::{arrange, tests::record};
    use super::*;

    #[test]
    fn a_boot_is_drawn() {
        insta::assert_snapshot!(picture(&arrange(&record())));
    }

    #[test]
    fn a_boot_that_has_not_settled_is_drawn_as_far_as_it_came() {
        let mut record = record();
        record.settled_us = None;
        record.services.clear();
        let picture = picture(&arrange(&record));
        assert!(picture.contains("still booting"));
    }
}
