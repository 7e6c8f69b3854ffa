//! The runtime with the programs that people use one with: Debian's docker,
//! containerd and podman, in a Debian machine on our kernel.
//!
//! Debian is booted once and saved; each of them has a machine that goes on from
//! there, on which a table of behaviours is tried, one after the other. All that
//! fail are told at the end.
//! `WHERRY_TESTED_RUNTIME=/usr/bin/runc` tries another runtime of the guest's, to
//! see whether a test asks for what runc does.

mod conformance;
mod containerd;
mod docker;
mod podman;

use std::any::Any;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use machine::{Build, Guest, Snapshot};

/// A script takes no longer, on the slowest of hosts.
const SCRIPT: Duration = Duration::from_secs(240);
/// The same for a table of behaviours.
const MACHINE: Duration = Duration::from_secs(1500);

/// A Debian machine that runs.
struct Debian {
    guest: Guest,
    /// The path of the runtime that is tested.
    runtime: String,
    /// The behaviours that did not hold, and why.
    failed: String,
}

/// One behaviour: what it says, and what tries it.
type Behaviour = (&'static str, fn(&mut Debian));

/// A table of behaviours, of functions whose names are sentences.
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name as fn(&mut $crate::guest::Debian))),*]
    };
}
use behaviours;

impl Debian {
    /// A machine restored from where the guest was saved after its only boot.
    fn restored(name: &str) -> Self {
        static BOOTED: OnceLock<Snapshot> = OnceLock::new();
        let build = Build::from_env().unwrap();
        let booted = BOOTED.get_or_init(|| Guest::save(&build).unwrap());
        Self {
            guest: Guest::restore(&build, booted, name, MACHINE).unwrap(),
            runtime: std::env::var("WHERRY_TESTED_RUNTIME")
                .unwrap_or_else(|_| "/usr/local/bin/wherry-runtime".to_owned()),
            failed: String::new(),
        }
    }

    /// What a script prints that has to succeed.
    fn run(&mut self, script: &str) -> String {
        let output = self.guest.run(script, SCRIPT).unwrap();
        assert_eq!(output.exit, 0, "$ {script}\n{}", output.text);
        output.text
    }

    /// What a script prints that has to fail.
    fn fail(&mut self, script: &str) -> String {
        let output = self.guest.run(script, SCRIPT).unwrap();
        assert_ne!(output.exit, 0, "$ {script}\n{}", output.text);
        output.text
    }

    /// A script's exit status.
    fn status(&mut self, script: &str) -> i32 {
        self.guest.run(script, SCRIPT).unwrap().exit
    }

    /// Has a script tried until it prints `wanted`.
    fn wait_until(&mut self, script: &str, wanted: &str) {
        let deadline = Instant::now() + SCRIPT;
        loop {
            let output = self.guest.run(script, SCRIPT).unwrap();
            if output.text.contains(wanted) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "$ {script}\nnever printed {wanted}, but at last:\n{}",
                output.text
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Writes a file of the machine's.
    fn write(&mut self, path: &str, text: &str) {
        self.run(&format!(
            "mkdir -p \"$(dirname {path})\"; cat > {path} <<'the-end'\n{text}\nthe-end\n"
        ));
    }

    /// Tries all behaviours; `after` removes what one that failed left behind.
    fn hold(&mut self, behaviours: &[Behaviour], after: &str) {
        for (name, behaviour) in behaviours {
            let begin = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| behaviour(self)));
            let seconds = begin.elapsed().as_secs();
            eprintln!(
                "{}: {name}: {} ({seconds} s)",
                self.guest.name(),
                if outcome.is_ok() { "holds" } else { "FAILED" }
            );
            if let Err(panic) = outcome {
                let _ = writeln!(self.failed, "--- {name}:\n{}", words(panic.as_ref()));
                // Where that fails too, the next behaviour tells.
                let _ = self.guest.run(after, SCRIPT);
            }
        }
    }

    /// Panics where a behaviour did not hold.
    fn end(self) {
        assert!(
            self.failed.is_empty(),
            "with {} in {}:\n{}",
            self.runtime,
            self.guest.name(),
            self.failed
        );
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}
