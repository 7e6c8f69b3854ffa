//! The updater's progress: a bar on a terminal, otherwise a line for each
//! phase and each quarter of it. On standard error; with `--json` nothing.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use updater_control::{Phase, Progress};

use crate::terminal::harmless;
use crate::units;

/// Bytes of a block that is verified on its own.
const BLOCK: u64 = 4096;
/// Ten drawings a second are too many for a serial line.
const DRAWINGS: u8 = 4;

/// Shows progress.
pub struct Bar {
    form: Form,
}

enum Form {
    Silent,
    Lines { last: Option<(Phase, u64)> },
    Drawn { bar: ProgressBar, phase: Phase },
}

impl Bar {
    /// For a person, unless the output is `json`.
    pub fn new(json: bool) -> Self {
        let form = if json {
            Form::Silent
        } else if std::io::stderr().is_terminal() {
            let target = ProgressDrawTarget::stderr_with_hz(DRAWINGS);
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(style(false));
            Form::Drawn {
                bar,
                phase: Phase::Idle,
            }
        } else {
            Form::Lines { last: None }
        };
        Self { form }
    }

    /// Shows new progress.
    pub fn show(&mut self, progress: &Progress) {
        match &mut self.form {
            Form::Silent => {}
            Form::Lines { last } => {
                if let Some(line) = line(progress, last) {
                    eprintln!("{line}");
                }
            }
            Form::Drawn { bar, phase } => {
                if *phase != progress.phase {
                    bar.println(heading(progress));
                    bar.set_style(style(progress.total > 0));
                    bar.reset();
                    *phase = progress.phase;
                }
                if progress.total > 0 && bar.length() != Some(progress.total) {
                    bar.set_length(progress.total);
                    bar.set_style(style(true));
                }
                bar.set_position(done(progress));
                bar.set_message(parts(progress));
                bar.tick();
            }
        }
    }

    /// Clears it from the terminal.
    pub fn clear(&self) {
        if let Form::Drawn { bar, .. } = &self.form {
            bar.finish_and_clear();
        }
    }
}

/// ASCII: a console's font has little more.
fn style(is_measured: bool) -> ProgressStyle {
    let template = if is_measured {
        "[{bar:10}] {percent:>3} %, {left} left: {wide_msg}"
    } else {
        "{spinner} {wide_msg}"
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "left",
            |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                let left = u64::try_from(state.eta().as_micros()).unwrap_or(u64::MAX);
                // Writing to a string cannot fail.
                let _ = text.write_str(&units::span(left));
            },
        )
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

fn done(progress: &Progress) -> u64 {
    (progress.fetched + progress.reused)
        .max(progress.verified)
        .min(progress.total.max(1))
}

/// What is being done.
fn heading(progress: &Progress) -> String {
    match &progress.version {
        Some(version) => format!("{} for {}", progress.phase.as_str(), harmless(version)),
        None => progress.phase.as_str().to_owned(),
    }
}

/// The amounts, most important first, since a narrow terminal cuts the line.
fn parts(progress: &Progress) -> String {
    let parts = [
        (progress.fetched > 0).then(|| format!("fetched {}", units::size(progress.fetched))),
        (progress.reused > 0).then(|| format!("reused {}", units::size(progress.reused))),
        (progress.verified > 0)
            .then(|| format!("verified {} blocks", progress.verified.div_ceil(BLOCK))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

fn message(progress: &Progress) -> String {
    match parts(progress).as_str() {
        "" => heading(progress),
        parts => format!("{}: {parts}", heading(progress)),
    }
}

/// A line for a new phase or another quarter of one.
fn line(progress: &Progress, last: &mut Option<(Phase, u64)>) -> Option<String> {
    let quarter = (done(progress) * 4)
        .checked_div(progress.total)
        .unwrap_or(0);
    let now = (progress.phase, quarter);
    if *last == Some(now) || progress.phase == Phase::Idle {
        return None;
    }
    *last = Some(now);
    let share = match progress.total {
        0 => String::new(),
        _ => format!("{} %  ", quarter * 25),
    };
    Some(share + &message(progress))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writing(fetched: u64, reused: u64) -> Progress {
        Progress {
            phase: Phase::Writing,
            version: Some("2.0".into()),
            fetched,
            reused,
            verified: fetched + reused,
            total: 100 << 20,
        }
    }

    #[test]
    fn a_pipe_gets_a_line_for_each_phase_and_each_quarter() {
        let mut last = None;
        let checking = Progress {
            phase: Phase::Checking,
            version: None,
            fetched: 0,
            reused: 0,
            verified: 0,
            total: 0,
        };
        let steps = [
            checking.clone(),
            checking,
            writing(0, 0),
            writing(1 << 20, 10 << 20),
            writing(2 << 20, 30 << 20),
            writing(3 << 20, 31 << 20),
            writing(10 << 20, 90 << 20),
        ];
        let lines: Vec<String> = steps
            .iter()
            .filter_map(|step| line(step, &mut last))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn progress_is_at_most_complete() {
        assert_eq!(done(&writing(100 << 20, 1 << 20)), 100 << 20);
    }

    #[test]
    fn both_forms_can_be_drawn() {
        let mut drawn = Bar {
            form: Form::Drawn {
                bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
                phase: Phase::Idle,
            },
        };
        drawn.show(&Progress {
            total: 0,
            ..writing(0, 0)
        });
        drawn.show(&writing(1 << 20, 0));
        let Form::Drawn { bar, phase } = &drawn.form else {
            panic!("another form")
        };
        assert_eq!((bar.position(), *phase), (1 << 20, Phase::Writing));
        assert_eq!(bar.message(), "fetched 1.0 MiB, verified 256 blocks");
    }
}
