//! What a person sees while a long stage runs.
//!
//! On a terminal: a bar with the stage, the time it took so far, and what is
//! left. Anywhere else: plain lines, one at the start, one now and then, one at
//! the end.

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line is written while a stage goes on.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// One long stage.
pub struct Stage {
    name: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    total: Option<u64>,
    position: u64,
}

impl Stage {
    /// Begins a stage; `what` says what it does.
    pub fn begin(name: &'static str, what: &str) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(style("{spinner} {prefix:>8} {elapsed_precise} {wide_msg}"));
            bar.set_prefix(name);
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{name}: {what}");
        }
        Self {
            name,
            bar,
            started: now,
            last_line: now,
            total: None,
            position: 0,
        }
    }

    /// Says how many more steps the stage has, once that is known or estimated.
    pub fn expect_more(&mut self, steps: u64) {
        let steps = self.position.max(self.total.unwrap_or(0)) + steps;
        self.total = Some(steps);
        if let Some(bar) = &self.bar {
            bar.set_length(steps);
            bar.set_style(
                style(
                    "{spinner} {prefix:>8} {elapsed_precise} [{bar:30}] {pos}/{len}, \
                     about {eta} left  {wide_msg}",
                )
                .progress_chars("=> "),
            );
        }
    }

    /// One step is done; `what` says which.
    pub fn step(&mut self, what: &str) {
        self.position += 1;
        // An estimate that was too low must not show more than all.
        if self.total.is_some_and(|total| self.position > total) {
            self.expect_more(0);
        }
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.position);
                bar.set_message(what.to_owned());
            }
            None => self.plain(what),
        }
    }

    /// Ends the stage.
    pub fn end(self) {
        let took = HumanDuration(self.started.elapsed());
        match self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("  {:>8} done in {took}", self.name);
            }
            None => eprintln!("{}: done in {took}", self.name),
        }
    }

    fn plain(&mut self, what: &str) {
        if self.last_line.elapsed() < PLAIN_INTERVAL {
            return;
        }
        self.last_line = Instant::now();
        let elapsed = self.started.elapsed();
        match self.total {
            Some(total) => eprintln!(
                "{}: {}/{total} after {}, about {} left",
                self.name,
                self.position,
                HumanDuration(elapsed),
                HumanDuration(left(elapsed, self.position, total)),
            ),
            None => eprintln!("{}: {what} after {}", self.name, HumanDuration(elapsed)),
        }
    }
}

/// The time left when steps go on taking as long as they did.
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
    use super::left;
    use std::time::Duration;

    #[test]
    fn what_is_left_follows_from_the_steps_done() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(minute, 1, 3), 2 * minute);
        assert_eq!(left(minute, 3, 3), Duration::ZERO);
        assert_eq!(left(minute, 4, 3), Duration::ZERO);
    }
}
