//! What the chart shows, in order, before layout.

use control::{BootRecord, Span};

/// The chart's content. All times are microseconds since the kernel's start.
#[derive(Debug, PartialEq, Eq)]
pub struct Chart {
    pub version: String,
    /// When PID 1 took over from the kernel.
    pub init: u64,
    /// When PID 1 began the first service.
    pub services_begin: u64,
    /// When all had settled, if they have.
    pub settled: Option<u64>,
    /// The last instant that is shown.
    pub end: u64,
    pub stages: Vec<Row>,
    pub services: Vec<Row>,
    /// The services that the boot waited for last, in their order: each could
    /// begin only when the one before it was ready.
    pub critical: Vec<usize>,
}

/// One stage or service.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    /// When PID 1 could have begun it.
    pub defined: u64,
    /// When it was begun, where it was.
    pub started: Option<u64>,
    /// When its program ran.
    pub executed: Option<u64>,
    pub end: End,
    /// The services it waited for, as indexes into [`Chart::services`].
    pub requires: Vec<usize>,
}

/// How a row's start-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Ready(u64),
    Failed(u64),
    /// It has not ended.
    Open,
}

impl End {
    pub fn time(self) -> Option<u64> {
        match self {
            Self::Ready(time) | Self::Failed(time) => Some(time),
            Self::Open => None,
        }
    }
}

/// Puts the record in the order of the picture.
pub fn arrange(record: &BootRecord) -> Chart {
    let stages: Vec<Row> = record.stages.iter().map(|span| row(span, &[])).collect();
    let mut spans: Vec<Span> = record
        .services
        .iter()
        .filter_map(|span| within_boot(span, record.settled_us))
        .collect();
    spans.sort_by_key(|span| (span.started_us.unwrap_or(u64::MAX), span.defined_us));
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let services: Vec<Row> = spans.iter().map(|span| row(span, &names)).collect();
    let last = stages
        .iter()
        .chain(&services)
        .flat_map(|row| [Some(row.defined), row.started, row.executed, row.end.time()])
        .flatten()
        .max()
        .unwrap_or(0);
    let init = record.init_us;
    let end = record.settled_us.unwrap_or(0).max(last).max(init + 1);
    let services_begin = services
        .iter()
        .filter_map(|row| row.started)
        .min()
        .unwrap_or(end);
    Chart {
        version: record.version.clone(),
        init,
        services_begin: services_begin.max(init),
        settled: record.settled_us,
        end,
        critical: critical(&services),
        stages,
        services,
    }
}

/// The span as far as it belongs to the boot, which is over once all has
/// settled: what was not begun by then was not asked for.
fn within_boot(span: &Span, settled: Option<u64>) -> Option<Span> {
    let Some(settled) = settled else {
        return Some(span.clone());
    };
    let in_time = |time: Option<u64>| time.filter(|time| *time <= settled);
    let span = Span {
        started_us: in_time(span.started_us),
        executed_us: in_time(span.executed_us),
        ready_us: in_time(span.ready_us),
        failed_us: in_time(span.failed_us),
        ..span.clone()
    };
    (span.started_us.is_some() || span.failed_us.is_some()).then_some(span)
}

fn row(span: &Span, services: &[&str]) -> Row {
    Row {
        name: span.name.clone(),
        defined: span.defined_us,
        started: span.started_us,
        executed: span.executed_us,
        end: match (span.ready_us, span.failed_us) {
            (Some(ready), _) => End::Ready(ready),
            (None, Some(failed)) => End::Failed(failed),
            (None, None) => End::Open,
        },
        requires: span
            .requires
            .iter()
            .filter_map(|name| services.iter().position(|service| service == name))
            .collect(),
    }
}

/// From the service that was ready last, back along the longest waits.
fn critical(services: &[Row]) -> Vec<usize> {
    let time = |index: &usize| services[*index].end.time();
    let mut path: Vec<usize> = (0..services.len())
        .filter(|index| time(index).is_some())
        .max_by_key(time)
        .into_iter()
        .collect();
    while let Some(next) = path
        .last()
        .and_then(|last| services[*last].requires.iter().copied().max_by_key(time))
        // A cycle never starts, but the chart must draw any input.
        .filter(|next| !path.contains(next) && time(next).is_some())
    {
        path.push(next);
    }
    path.reverse();
    path
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn span(name: &str, times: [u64; 4], requires: &[&str]) -> Span {
        Span {
            name: name.into(),
            defined_us: times[0] * 1000,
            started_us: Some(times[1] * 1000),
            executed_us: Some(times[2] * 1000),
            ready_us: Some(times[3] * 1000),
            failed_us: None,
            requires: requires.iter().map(|name| (*name).into()).collect(),
        }
    }

    pub fn record() -> BootRecord {
        let stage = |name: &str, from, to| Span {
            executed_us: None,
            ..span(name, [from, from, from, to], &[])
        };
        let mut broken = span("broken", [956, 1001, 1008, 1008], &["state"]);
        broken.ready_us = None;
        broken.failed_us = Some(1_020_000);
        let mut slow = span("slow <&>", [956, 1044, 1051, 0], &["log", "missing"]);
        slow.ready_us = None;
        BootRecord {
            version: "0.1.0".into(),
            init_us: 941_300,
            settled_us: Some(1_234_000),
            stages: vec![
                stage("mounts", 941, 948),
                stage("cgroups", 948, 950),
                stage("definitions", 950, 956),
            ],
            services: vec![
                span("console", [956, 1003, 1012, 1031], &["state"]),
                span("state", [956, 957, 964, 1001], &[]),
                span("log", [956, 1001, 1009, 1042], &["state"]),
                span("network", [956, 1043, 1050, 1234], &["log"]),
                broken,
                slow,
            ],
        }
    }

    #[test]
    fn services_stand_in_the_order_of_their_start() {
        let chart = arrange(&record());
        let names: Vec<&str> = chart.services.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(
            names,
            ["state", "log", "broken", "console", "network", "slow <&>"]
        );
        assert_eq!(chart.services_begin, 957_000);
        assert_eq!(chart.end, 1_234_000);
    }

    #[test]
    fn the_critical_path_leads_to_the_last_service_to_become_ready() {
        let chart = arrange(&record());
        let names: Vec<&str> = chart
            .critical
            .iter()
            .map(|index| chart.services[*index].name.as_str())
            .collect();
        assert_eq!(names, ["state", "log", "network"]);
    }

    #[test]
    fn a_service_that_an_operator_starts_later_is_not_part_of_the_boot() {
        let mut record = record();
        let later = [956, 9000, 9001, 9002];
        record.services.push(span("on-demand", later, &[]));
        record
            .services
            .push(span("slow", [956, 1100, 1101, 9002], &[]));
        let chart = arrange(&record);
        assert_eq!(chart.end, 1_234_000);
        let find = |name| chart.services.iter().find(|row| row.name == name);
        assert_eq!(find("on-demand"), None);
        assert_eq!(find("slow").map(|row| row.end), Some(End::Open));
    }

    #[test]
    fn a_boot_without_services_or_stages_can_be_drawn() {
        let record = BootRecord {
            version: String::new(),
            init_us: 5,
            settled_us: None,
            stages: vec![],
            services: vec![],
        };
        let chart = arrange(&record);
        assert_eq!((chart.init, chart.services_begin, chart.end), (5, 6, 6));
        assert!(chart.critical.is_empty());
    }
}
