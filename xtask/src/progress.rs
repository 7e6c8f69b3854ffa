//! What a person sees while stages run: one display from the first to the last.
//!
//! On a terminal: a bar with the stage, the time it took so far, and what is
//! left, of the stage and of everything planned. Anywhere else: plain lines, one
//! at a stage's start, one now and then, one at its end.

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a plain line is written while a stage runs.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// A stage that will be needed, and how long it usually takes on 2 cores.
pub type Planned = (&'static str, Duration);

/// All stages of one command.
#[derive(Debug, Default)]
pub struct Progress {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many stages were planned.
    planned: usize,
    /// Those that have not begun.
    to_come: Vec<Planned>,
}

impl Progress {
    /// Says which stages are to come, in their order, as far as that is known.
    pub fn plan(&self, stages: Vec<Planned>) {
        if !stages.is_empty() {
            let names: Vec<&str> = stages.iter().map(|(name, _)| *name).collect();
            let total = stages.iter().map(|(_, usual)| *usual).sum();
            eprintln!(
                "to build: {} (about {} on 2 cores)",
                names.join(", "),
                HumanDuration(total)
            );
        }
        *self.state.borrow_mut() = State {
            planned: stages.len(),
            to_come: stages,
        };
    }

    /// A stage begins: returns its place in the plan, how long it usually takes,
    /// and how long those behind it do. Those before it were not needed.
    fn begin(&self, name: &str) -> (Option<String>, Option<Duration>, Duration) {
        let mut state = self.state.borrow_mut();
        let Some(at) = state.to_come.iter().position(|stage| stage.0 == name) else {
            return (None, None, Duration::ZERO);
        };
        let place = state.planned - state.to_come.len() + at + 1;
        let place = format!("{place}/{}", state.planned);
        let usual = state.to_come[at].1;
        state.to_come.drain(..=at);
        let behind = state.to_come.iter().map(|(_, usual)| *usual).sum();
        (Some(place), Some(usual), behind)
    }
}

/// One long stage.
pub struct Stage {
    name: String,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    usual: Option<Duration>,
    behind: Duration,
    total: Option<u64>,
    position: u64,
}

impl Stage {
    /// Begins a stage; `what` says what it does.
    pub fn begin(progress: &Rc<Progress>, name: &str, what: &str) -> Self {
        let now = Instant::now();
        let (place, usual, behind) = progress.begin(name);
        let name = match place {
            Some(place) => format!("{place} {name}"),
            None => name.to_owned(),
        };
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(style("{spinner} {prefix:>12} {elapsed_precise} {wide_msg}"));
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let stage = Self {
            name,
            bar,
            started: now,
            last_line: now,
            usual,
            behind,
            total: None,
            position: 0,
        };
        match &stage.bar {
            Some(bar) => bar.set_message(stage.message(what)),
            None => eprintln!("{}: {what}", stage.name),
        }
        stage
    }

    /// Says how many more steps the stage has, once that is known or estimated.
    pub fn expect_more(&mut self, steps: u64) {
        self.set_total(self.position.max(self.total.unwrap_or(0)) + steps);
    }

    /// One step is done; `what` says which.
    pub fn step(&mut self, what: &str) {
        self.at(self.position + 1, what);
    }

    /// So many of all steps are done; `what` says which is next.
    pub fn progress(&mut self, position: u64, total: u64, what: &str) {
        if self.total != Some(total) {
            self.set_total(total);
        }
        self.at(position, what);
    }

    fn set_total(&mut self, total: u64) {
        self.total = Some(total);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_style(
                style("{spinner} {prefix:>12} {elapsed_precise} [{bar:24}] {wide_msg}")
                    .progress_chars("=> "),
            );
        }
    }

    fn at(&mut self, position: u64, what: &str) {
        self.position = position;
        // An estimate that was too low must not show more than all.
        if self.total.is_some_and(|total| position > total) {
            self.set_total(position);
        }
        let message = self.message(what);
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(message);
            }
            None if self.last_line.elapsed() >= PLAIN_INTERVAL => {
                self.last_line = Instant::now();
                let elapsed = HumanDuration(self.started.elapsed());
                eprintln!("{}: after {elapsed}: {message}", self.name);
            }
            None => {}
        }
    }

    /// Ends the stage.
    pub fn end(self) {
        let took = HumanDuration(self.started.elapsed());
        match self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("  {:>12} done in {took}", self.name);
            }
            None => eprintln!("{}: done in {took}", self.name),
        }
    }

    /// What is done, what is left, and what is running.
    fn message(&self, what: &str) -> String {
        let elapsed = self.started.elapsed();
        let left = match self.total {
            Some(total) if self.position > 0 => Some(left(elapsed, self.position, total)),
            _ => self.usual.map(|usual| usual.saturating_sub(elapsed)),
        };
        let count = match self.total {
            Some(total) => format!("{}/{total}, ", self.position),
            None => String::new(),
        };
        let left = match left {
            Some(left) if self.behind.is_zero() => format!("about {} left, ", HumanDuration(left)),
            Some(left) => format!(
                "about {} left, {} in all, ",
                HumanDuration(left),
                HumanDuration(left + self.behind)
            ),
            None => String::new(),
        };
        format!("{count}{left}{what}")
    }
}

/// The time left if steps keep taking as long as they did.
fn left(elapsed: Duration, position: u64, total: u64) -> Duration {
    let per_step = elapsed.as_secs_f64() / position.max(1) as f64;
    Duration::from_secs_f64(per_step * total.saturating_sub(position) as f64)
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are fixed; a wrong one shows as indicatif's own bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::{Progress, left};
    use std::time::Duration;

    #[test]
    fn what_is_left_follows_from_the_steps_done() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(minute, 1, 3), 2 * minute);
        assert_eq!(left(minute, 3, 3), Duration::ZERO);
        assert_eq!(left(minute, 4, 3), Duration::ZERO);
    }

    #[test]
    fn a_stage_that_was_not_needed_is_not_left() {
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        let progress = Progress::default();
        progress.plan(vec![
            ("tools", minute),
            ("kernel", minute),
            ("image", second),
        ]);
        assert_eq!(
            progress.begin("kernel"),
            (Some("2/3".to_owned()), Some(minute), second)
        );
        assert_eq!(progress.begin("guest"), (None, None, Duration::ZERO));
        assert_eq!(
            progress.begin("image"),
            (Some("3/3".to_owned()), Some(second), Duration::ZERO)
        );
    }
}
