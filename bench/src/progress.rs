//! What a person sees while something is measured: a bar on a terminal, one line
//! at the beginning and one at the end elsewhere.

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// One measurement.
pub struct Stage {
    name: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Stage {
    /// Begins one of `steps` steps; `what` says what is measured.
    pub fn begin(name: &'static str, what: &str, steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps);
            let template = "{spinner} {prefix:>9} {elapsed_precise} [{bar:30}] {pos}/{len}, \
                            about {eta} left  {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
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
            started: Instant::now(),
        }
    }

    /// One step is done; `what` says which.
    pub fn step(&mut self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(what.to_owned());
        }
    }

    /// Ends the measurement.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let took = HumanDuration(self.started.elapsed());
        eprintln!("{}: done in {took}", self.name);
    }
}
