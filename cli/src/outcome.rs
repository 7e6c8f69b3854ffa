//! `wherry service start | stop | restart`: asks, then watches until each
//! service has reached its new state or failed to.
//!
//! ```text
//!            ask                 a change says so
//! (known) ────────▶ under way ─────────────────────▶ reached | missed
//!                       └── the time is over ──────▶ missed
//! ```
//! Watching begins before asking, so no change is missed; PID 1's report right
//! after it has accepted tells a service that was there already from one that
//! has yet to change.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use control::{Client, Reply, Request, Service, ServiceState};
use serde::Serialize;

use crate::arguments::{Change, Place};
use crate::failure::Failure;
use crate::output;
use crate::status;
use crate::terminal::{Reader, Tone, harmless};
use crate::units;

/// What is asked of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Start,
    Stop,
    Restart,
}

impl Wish {
    fn request(self, service: &str) -> Request {
        let service = service.to_owned();
        match self {
            Self::Start => Request::Start { service },
            Self::Stop => Request::Stop { service },
            Self::Restart => Request::Restart { service },
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Restart => "restarting",
        }
    }
}

/// One service's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    UnderWay,
    Reached,
    /// It will not reach the state, for this reason.
    Missed(String),
}

/// One service of the request and its progress.
#[derive(Debug)]
struct Course {
    wish: Wish,
    service: Service,
    /// Since when it was in its state before the request.
    before_us: u64,
    progress: Progress,
}

impl Course {
    /// Records the service's newest state.
    fn observe(&mut self, service: Service) {
        self.progress = judge(self.wish, &service, self.before_us);
        self.service = service;
    }
}

/// The progress of `service`, whose former state began at `before_us`.
fn judge(wish: Wish, service: &Service, before_us: u64) -> Progress {
    use ServiceState as S;
    // The state before the restart does not count.
    if wish == Wish::Restart && service.since_us == before_us {
        return Progress::UnderWay;
    }
    let detail = || match service.detail.as_str() {
        "" => String::from("PID 1 gives no reason"),
        detail => detail.to_owned(),
    };
    match (wish, service.state) {
        (Wish::Stop, S::Stopped | S::Ended | S::Failed | S::Invalid) => Progress::Reached,
        (Wish::Stop, S::Waiting | S::Starting | S::Ready | S::Stopping | S::Backoff) => {
            Progress::UnderWay
        }
        (Wish::Start | Wish::Restart, S::Ready | S::Ended) => Progress::Reached,
        (Wish::Start | Wish::Restart, S::Waiting | S::Starting | S::Stopping) => Progress::UnderWay,
        (Wish::Start | Wish::Restart, S::Failed | S::Invalid) => Progress::Missed(detail()),
        (Wish::Start | Wish::Restart, S::Backoff) => {
            Progress::Missed(format!("{}; it is started again", detail()))
        }
        // A restart passes through this state; a start does not.
        (Wish::Restart, S::Stopped) => Progress::UnderWay,
        (Wish::Start, S::Stopped) => {
            Progress::Missed(String::from("it was stopped in the meantime"))
        }
    }
}

/// One service's outcome as `--json` prints it.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    service: &'a str,
    state: &'static str,
    reached: bool,
    detail: &'a str,
}

/// Asks for `wish` for each service of `change` and waits for the outcome.
///
/// # Errors
/// [`Failure::Reported`] if a service does not reach the state.
pub fn bring_about(place: &Place, wish: Wish, change: &Change) -> Result<(), Failure> {
    let mut client = Client::connect(&place.socket)?;
    if change.no_wait {
        for name in &change.names {
            accept(&mut client, &wish.request(name))?;
        }
        return Ok(());
    }
    let started = Instant::now();
    let mut watch = Client::connect(&place.socket)?;
    watch.watch()?;
    let mut courses = Vec::new();
    for name in &change.names {
        let before = show(&mut client, name)?;
        let before_us = before.since_us;
        accept(&mut client, &wish.request(name))?;
        let service = show(&mut client, name)?;
        courses.push(Course {
            wish,
            // A service that did not change was there already, or has
            // reported why it cannot change.
            progress: judge(wish, &service, before_us),
            service,
            before_us,
        });
    }
    let mut spinner = Spinner::new();
    while courses
        .iter()
        .any(|course| course.progress == Progress::UnderWay)
    {
        let left = change.timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            give_up(&mut courses, change.timeout);
            break;
        }
        spinner.turn(&courses, started.elapsed());
        if let Some(service) = watch.next_change(Some(left.min(Spinner::TURN)))? {
            let found = courses
                .iter_mut()
                .find(|course| course.service.name == service.name);
            // Changes from before the request may still be in the stream.
            if let Some(course) = found.filter(|it| it.service.since_us <= service.since_us) {
                course.observe(service);
            }
        }
    }
    spinner.clear();
    report(place, &courses, started.elapsed())
}

/// Timeout: a service still in progress counts as missed.
fn give_up(courses: &mut [Course], limit: Duration) {
    for course in courses {
        if course.progress == Progress::UnderWay {
            let mut why = format!(
                "still {} after {}",
                course.service.state.as_str(),
                humantime::format_duration(limit)
            );
            if !course.service.detail.is_empty() {
                why += &format!(": {}", course.service.detail);
            }
            course.progress = Progress::Missed(why);
        }
    }
}

fn accept(client: &mut Client, request: &Request) -> Result<(), Failure> {
    match client.ask(request)? {
        Reply::Done(outcome) => {
            for note in outcome.notes {
                eprintln!("wherry: {}", harmless(&note));
            }
            Ok(())
        }
        other => Err(status::unexpected(&other)),
    }
}

fn show(client: &mut Client, name: &str) -> Result<Service, Failure> {
    let request = Request::Show {
        service: name.to_owned(),
    };
    match client.ask(&request)? {
        Reply::Service(detail) => Ok(detail.service),
        other => Err(status::unexpected(&other)),
    }
}

fn report(place: &Place, courses: &[Course], took: Duration) -> Result<(), Failure> {
    if place.json {
        let outcomes: Vec<Outcome> = courses
            .iter()
            .map(|course| Outcome {
                service: &course.service.name,
                state: course.service.state.as_str(),
                reached: course.progress == Progress::Reached,
                detail: match &course.progress {
                    Progress::Missed(why) => why,
                    Progress::Reached | Progress::UnderWay => &course.service.detail,
                },
            })
            .collect();
        output::print_json(&outcomes)?;
    }
    let mut missed = false;
    let reader = Reader::of_stdout();
    let took = units::span(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    for course in courses {
        let name = &course.service.name;
        match &course.progress {
            Progress::Missed(why) => {
                missed = true;
                eprintln!(
                    "wherry: {name} did not become {}: {}\nwherry: `wherry service logs {name}` may say more",
                    match course.wish {
                        Wish::Start | Wish::Restart => "ready",
                        Wish::Stop => "stopped",
                    },
                    harmless(why)
                );
            }
            Progress::Reached | Progress::UnderWay if place.json => {}
            Progress::Reached | Progress::UnderWay => {
                let state = reader.paint(Tone::Good, course.service.state.as_str());
                output::print(&format!("{name}: {state} after {took}\n"))?;
            }
        }
    }
    if missed {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// A line that lives on a terminal while the command waits. It is ASCII: a
/// console's font has little more.
struct Spinner {
    on: bool,
    /// How often it has turned: short waits need no spinner.
    turns: u32,
}

impl Spinner {
    /// Slow enough to cost nothing over a serial line.
    const TURN: Duration = Duration::from_millis(200);

    fn new() -> Self {
        Self {
            on: std::io::stderr().is_terminal(),
            turns: 0,
        }
    }

    fn turn(&mut self, courses: &[Course], elapsed: Duration) {
        let due = Self::TURN * (self.turns + 1);
        if !self.on || elapsed < due {
            return;
        }
        self.turns = u32::try_from(elapsed.as_millis() / Self::TURN.as_millis()).unwrap_or(0);
        let hand = ['|', '/', '-', '\\'][self.turns as usize % 4];
        let waiting: Vec<String> = courses
            .iter()
            .filter(|course| course.progress == Progress::UnderWay)
            .map(|course| {
                format!(
                    "{} ({})",
                    course.service.name,
                    course.service.state.as_str()
                )
            })
            .collect();
        let doing = courses.first().map_or("", |course| course.wish.doing());
        let line = format!(
            "{hand} {doing} {}, {} s",
            waiting.join(", "),
            elapsed.as_secs()
        );
        let line = crate::table::shortened(&line, 79);
        let mut stderr = std::io::stderr().lock();
        // A closed terminal does not end the wait.
        let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
    }

    fn clear(&self) {
        if self.turns > 0 {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::ServiceState as S;

    fn at(state: S, since_us: u64) -> Service {
        let mut service = status::tests::service("web", state);
        service.since_us = since_us;
        service.detail = "exited with 3".into();
        service
    }

    #[test]
    fn a_start_is_reached_when_ready_and_missed_when_failed() {
        let missed = |why: &str| Progress::Missed(why.into());
        let cases = [
            (S::Waiting, Progress::UnderWay),
            (S::Starting, Progress::UnderWay),
            (S::Stopping, Progress::UnderWay),
            (S::Ready, Progress::Reached),
            (S::Ended, Progress::Reached),
            (S::Failed, missed("exited with 3")),
            (S::Invalid, missed("exited with 3")),
            (S::Backoff, missed("exited with 3; it is started again")),
            (S::Stopped, missed("it was stopped in the meantime")),
        ];
        for (state, progress) in cases {
            assert_eq!(
                judge(Wish::Start, &at(state, 5), 5),
                progress,
                "{}",
                state.as_str()
            );
        }
    }

    #[test]
    fn a_restart_is_not_reached_by_the_run_from_before() {
        let ready = at(S::Ready, 5);
        assert_eq!(judge(Wish::Restart, &ready, 5), Progress::UnderWay);
        assert_eq!(judge(Wish::Restart, &ready, 4), Progress::Reached);
        assert_eq!(
            judge(Wish::Restart, &at(S::Stopped, 6), 5),
            Progress::UnderWay
        );
    }

    #[test]
    fn a_stop_is_reached_by_every_state_that_does_not_run() {
        for state in [S::Stopped, S::Ended, S::Failed, S::Invalid] {
            assert_eq!(judge(Wish::Stop, &at(state, 6), 5), Progress::Reached);
        }
        for state in [S::Ready, S::Stopping, S::Starting, S::Waiting, S::Backoff] {
            assert_eq!(judge(Wish::Stop, &at(state, 6), 5), Progress::UnderWay);
        }
    }

    #[test]
    fn at_the_timeout_a_service_in_progress_reports_its_state() {
        let mut courses = [Course {
            wish: Wish::Start,
            service: at(S::Starting, 5),
            before_us: 4,
            progress: Progress::UnderWay,
        }];
        give_up(&mut courses, Duration::from_secs(90));
        assert_eq!(
            courses[0].progress,
            Progress::Missed("still starting after 1m 30s: exited with 3".into())
        );
    }
}
