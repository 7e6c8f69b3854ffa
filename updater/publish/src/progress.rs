//! Progress while files are copied and hashed.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Receives the progress of a long stage.
pub trait Progress {
    /// A stage over this many bytes starts.
    fn begin(&self, what: &str, bytes: u64);
    /// This many more bytes are done.
    fn add(&self, bytes: u64);
}

/// Ignores it.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _bytes: u64) {}
    fn add(&self, _bytes: u64) {}
}

/// A bar on the terminal, or nothing if standard error is not a terminal.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that appears when the first stage starts.
    pub fn new() -> Self {
        Self(ProgressBar::with_draw_target(
            Some(0),
            ProgressDrawTarget::stderr(),
        ))
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, bytes: u64) {
        if let Ok(style) = ProgressStyle::with_template(
            "{msg:24} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, \
             about {eta} left",
        ) {
            self.0.set_style(style.progress_chars("=> "));
        }
        self.0.reset();
        self.0.set_length(bytes);
        self.0.set_message(what.to_owned());
    }

    fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
