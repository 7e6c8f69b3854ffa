//! `cargo xtask test`: everything that has to hold before a change lands, the
//! quickest to fail first.
//!
//! While tests run that need no machine, what machines need is built in the
//! background; while those on machines run, the second build is made. Tests wait for
//! time to pass now and then, so that costs little, and saves the whole run minutes.

use crate::background::Background;
use crate::bench::{self, PowerCut};
use crate::changed::{self, Affected};
use crate::libtest::{Clock, Lists};
use crate::workspace::Workspace;
use crate::{crates, guest, image, kernel, process, reproduce, skipped, test_releases, tools};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The name of the power cuts among the tests.
const POWER_CUT: &str = "a_power_cut_at_any_moment_leaves_a_release_that_boots";

/// A test of a crate that needs the image: it runs with those on machines.
const BUILT_IMAGE: &str = "built_image::the_built_image_is_a_system_disk";

/// The tests in the Debian guest, among those on machines.
const GUEST: &str = "guest::";

/// How many of the slowest tests are named at the end.
const SLOWEST: usize = 10;

/// Which tests run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those whose name contains this.
    Named(String),
    /// Those that what changed since `main` can affect.
    Changed,
    /// None: what they need is built.
    Nothing,
}

impl Selection {
    /// Whether it has tests that may be skipped.
    fn may_skip(&self) -> bool {
        match self {
            Self::All | Self::Changed => true,
            Self::Named(name) => name != reproduce::NAME,
            Self::Nothing => false,
        }
    }
}

/// Runs tests, and tells at the end which were skipped and what took how long.
pub fn test(workspace: &Workspace, selection: &Selection) -> Result<()> {
    if selection.may_skip() {
        skipped::forget(workspace)?;
    }
    let mut run = Run {
        workspace,
        times: Times::default(),
    };
    let outcome = match selection {
        Selection::All => run.all(),
        Selection::Named(name) => run.named(name),
        Selection::Changed => run.changed(),
        Selection::Nothing => run.nothing(),
    };
    if selection.may_skip()
        && let Some(summary) = skipped::summary(workspace)
    {
        eprintln!("\n{summary}");
    }
    eprint!("{}", run.times);
    outcome
}

struct Run<'a> {
    workspace: &'a Workspace,
    times: Times,
}

impl Run<'_> {
    fn all(&mut self) -> Result<()> {
        self.stage("format", Self::format)?;
        self.stage("clippy", |run| run.lint(&["--workspace".to_owned()]))?;
        self.make("tools", |workspace| tools::make(workspace).map(drop))?;
        let packages = without_machines();
        self.build_tests(&packages)?;
        let made = self.background("what machines need", &["test", "--no-run"])?;
        self.programs(&packages, None)?;
        self.stage("what machines need", |_| made.finish())?;
        self.make_image()?;
        self.make_guest()?;
        let second = self.background("second build", &["test", reproduce::NAME])?;
        self.machines(&[])?;
        self.built_image()?;
        self.power_cut()?;
        self.stage("second build", |_| second.finish())?;
        eprintln!("test {} ... ok", reproduce::NAME);
        Ok(())
    }

    /// Builds what all tests need.
    fn nothing(&mut self) -> Result<()> {
        self.make("tools", |workspace| tools::make(workspace).map(drop))?;
        self.build_tests(&without_machines())?;
        self.make_image()?;
        self.make_guest()?;
        self.build_tests(&with_machines())
    }

    fn named(&mut self, name: &str) -> Result<()> {
        // This one is no test of cargo's, which would build all of them for nothing.
        if name == reproduce::NAME {
            return self.reproduce();
        }
        self.make("tools", |workspace| tools::make(workspace).map(drop))?;
        self.programs(&without_machines(), Some(name))?;
        self.make_image()?;
        self.make_guest()?;
        self.machines(&[name])?;
        if BUILT_IMAGE.contains(name) {
            self.built_image()?;
        }
        if POWER_CUT.contains(name) {
            self.power_cut()?;
        }
        if reproduce::NAME.contains(name) {
            self.reproduce()?;
        }
        Ok(())
    }

    fn changed(&mut self) -> Result<()> {
        let files = changed::files(self.workspace)?;
        let affected = changed::Map::load(self.workspace, &files)?.affected(&files);
        let Affected {
            packages,
            image,
            guest,
            power_cut,
        } = &affected;
        let packages: Vec<String> = packages
            .iter()
            .flat_map(|name| ["--package".to_owned(), crates::exactly(name)])
            .collect();
        eprintln!("{} files changed; {affected}", files.len());
        self.stage("format", Self::format)?;
        if !packages.is_empty() {
            self.stage("clippy", |run| run.lint(&packages))?;
            self.make("tools", |workspace| tools::make(workspace).map(drop))?;
            self.programs(&packages, None)?;
        }
        if *image || *power_cut {
            self.make_image()?;
        }
        if *guest {
            self.make_guest()?;
        }
        match (image, guest) {
            (true, true) => self.machines(&[])?,
            (true, false) => self.machines(&["--", "--skip", GUEST])?,
            (false, true) => self.machines(&[GUEST])?,
            (false, false) => {}
        }
        if *image {
            self.built_image()?;
        }
        if *power_cut {
            self.power_cut()?;
        }
        if *image {
            self.reproduce()?;
        }
        Ok(())
    }

    fn stage(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let (start, worked) = (Instant::now(), cpu_of_children()?);
        let outcome = work(self);
        self.times.stages.push(Stage {
            name: name.to_owned(),
            took: start.elapsed(),
            cpu: cpu_of_children()?.saturating_sub(worked),
        });
        outcome
    }

    fn make(&mut self, name: &str, work: impl FnOnce(&Workspace) -> Result<()>) -> Result<()> {
        self.stage(name, |run| {
            let _lock = run.workspace.lock()?;
            work(run.workspace)
        })
    }

    fn make_image(&mut self) -> Result<()> {
        self.make("kernel", |workspace| {
            let tree = tools::make(workspace)?;
            kernel::make(workspace, &tree).map(drop)
        })?;
        self.make("image", |workspace| image::make(workspace).map(drop))?;
        self.make("test releases", test_releases::make)
    }

    fn make_guest(&mut self) -> Result<()> {
        self.make("Debian guest", |workspace| guest::make(workspace).map(drop))
    }

    fn format(&mut self) -> Result<()> {
        let mut cargo = self::cargo(self.workspace, "fmt", "rustfmt")?;
        run(
            cargo.args(["--all", "--check"]),
            "the code is not formatted: cargo fmt --all",
        )
    }

    fn lint(&mut self, packages: &[String]) -> Result<()> {
        let mut cargo = self::cargo(self.workspace, "clippy", "clippy")?;
        cargo.args(packages);
        cargo.args(["--all-targets", "--", "-D", "warnings"]);
        run(&mut cargo, "clippy has something to say")
    }

    /// The tests that need no machine: pure ones, and those on real files.
    fn programs(&mut self, packages: &[String], name: Option<&str>) -> Result<()> {
        let words: Vec<&str> = name
            .into_iter()
            .chain(["--", "--skip", BUILT_IMAGE])
            .collect();
        self.stage("tests without machines", |run| {
            run.tests(packages, &words).context("a test failed")
        })
    }

    /// The tests on machines. Each boots machines of one CPU, so as many run at a
    /// time as there are CPUs.
    fn machines(&mut self, words: &[&str]) -> Result<()> {
        self.stage("tests on machines", |run| {
            run.tests(&with_machines(), words)
                .context("a test of the image failed; the machines' consoles are in build/console")
        })
    }

    /// The test of a crate on the image that was built.
    fn built_image(&mut self) -> Result<()> {
        let package = ["--package", "system-disk", "--test", "system_disk"].map(str::to_owned);
        self.stage("the built image", |run| {
            run.tests(&package, &[BUILT_IMAGE, "--", "--exact"])
                .context("the image is no disk that can be updated")
        })
    }

    fn background(&self, name: &'static str, words: &[&str]) -> Result<Background> {
        let log = self.workspace.log(&name.replace(' ', "-"));
        Background::start(name, log, words)
    }

    fn build_tests(&mut self, packages: &[String]) -> Result<()> {
        self.stage("building tests", |run| build(run.workspace, packages))
    }

    /// `cargo test PACKAGES WORDS`, built first, with the time of each test.
    fn tests(&mut self, packages: &[String], words: &[&str]) -> Result<()> {
        build(self.workspace, packages)?;

        // Words for cargo end at `--`; `--list` and the others are libtest's.
        let own = words.iter().position(|word| *word == "--");
        let (own, libtests) = words.split_at(own.unwrap_or(words.len()));
        let libtests: Vec<&str> = libtests.iter().skip(1).copied().collect();
        let mut list = cargo(self.workspace, "test", "cargo")?;
        list.args(packages).arg("--tests").args(own);
        list.args(["--", "--list"]).args(&libtests);
        let mut text = String::new();
        process::watch(&mut list, &self.workspace.log("tests"), |line| {
            text += line;
            text.push('\n');
            true
        })?;

        let threads = threads();
        let mut cargo = self::cargo(self.workspace, "test", "cargo")?;
        cargo.args(packages).args(own);
        cargo.args(["--", "--test-threads", &threads.to_string()]);
        cargo.args(&libtests);
        eprintln!("\n$ {}", self::words(&cargo));
        let mut clock = Clock::new(Lists::parse(&text), threads);
        let (start, mut out) = (Instant::now(), std::io::stdout());
        let status = process::follow(&mut cargo, |line| {
            clock.line(&line, start.elapsed());
            writeln!(out, "{line}")
        })?;
        self.times.tests.extend(clock.took());
        ensure!(status.success(), "cargo test failed ({status})");
        Ok(())
    }

    fn power_cut(&mut self) -> Result<()> {
        self.stage("power cuts", |run| power_cut(run.workspace))
    }

    fn reproduce(&mut self) -> Result<()> {
        self.stage("second build", |run| reproduce::test(run.workspace))
    }
}

/// All packages but the one whose tests are those on machines.
fn without_machines() -> [String; 3] {
    ["--workspace", "--exclude", changed::TESTS].map(str::to_owned)
}

fn with_machines() -> [String; 2] {
    ["--package", changed::TESTS].map(str::to_owned)
}

/// Builds the test programs of some packages.
fn build(workspace: &Workspace, packages: &[String]) -> Result<()> {
    let mut build = cargo(workspace, "test", "cargo")?;
    build.args(packages).arg("--no-run");
    crate::cargo::build(workspace, &mut build, "tests", "the tests").map(drop)
}

/// What took how long.
#[derive(Debug, Default)]
struct Times {
    stages: Vec<Stage>,
    tests: Vec<(String, Duration)>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    took: Duration,
    /// CPU time of the programs that it ran: what it would cost on an idle host.
    cpu: Duration,
}

/// CPU time of all programs that this one started and that have ended.
fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("read the CPU time of children")?;
    let all = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(
        all.num_microseconds(),
    )?))
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nstages (time, CPU time):")?;
        let mut line = |name: &str, took, cpu| {
            writeln!(f, "  {:>5} {:>6}  {name}", minutes(took), minutes(cpu))
        };
        for stage in &self.stages {
            line(&stage.name, stage.took, stage.cpu)?;
        }
        let took = self.stages.iter().map(|stage| stage.took).sum();
        let cpu = self.stages.iter().map(|stage| stage.cpu).sum();
        line("together", took, cpu)?;
        if self.tests.is_empty() {
            return Ok(());
        }
        writeln!(f, "the slowest of {} tests:", self.tests.len())?;
        let mut tests: Vec<_> = self.tests.iter().collect();
        tests.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        for (name, took) in tests.into_iter().take(SLOWEST) {
            writeln!(f, "  {:>5.1} s  {name}", took.as_secs_f64())?;
        }
        Ok(())
    }
}

/// `3:07`
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// As many tests run at once as libtest itself would run.
fn threads() -> usize {
    std::env::var("RUST_TEST_THREADS")
        .ok()
        .and_then(|threads| threads.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Fewer scenarios, runs and boots than `cargo xtask power-cut` has.
fn power_cut(workspace: &Workspace) -> Result<()> {
    eprintln!("\ntest {POWER_CUT}");
    let some = PowerCut {
        converge: 12,
        boots: 1,
        scenarios: Some(2),
        json: false,
    };
    bench::power_cut_made(workspace, some).context(POWER_CUT)?;
    eprintln!("test {POWER_CUT} ... ok");
    Ok(())
}

fn cargo(workspace: &Workspace, command: &str, component: &str) -> Result<Command> {
    let known = Command::new("cargo")
        .args([command, "--help"])
        .output()
        .context("start cargo")?;
    if !known.status.success() {
        bail!("this Rust has no cargo {command}:\n  rustup component add {component}");
    }
    let mut cargo = Command::new("cargo");
    cargo
        .arg(command)
        .current_dir(&workspace.root)
        .env("WHERRY_BUILD", &workspace.build);
    Ok(cargo)
}

fn run(command: &mut Command, otherwise: &str) -> Result<()> {
    eprintln!("\n$ {}", words(command));
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("{otherwise}");
    }
    Ok(())
}

fn words(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Stage, Times};
    use std::time::Duration;

    #[test]
    fn stages_and_the_slowest_tests_are_told() {
        let of = |name: &str, seconds| (name.to_owned(), Duration::from_millis(seconds));
        let mut times = Times::default();
        assert_eq!(
            times.to_string(),
            "\nstages (time, CPU time):\n   0:00   0:00  together\n"
        );
        times.stages = [("clippy", 62_400, 111_000), ("image", 9_000, 8_000)]
            .map(|(name, took, cpu)| Stage {
                name: name.to_owned(),
                took: Duration::from_millis(took),
                cpu: Duration::from_millis(cpu),
            })
            .into();
        times.tests = (0..12).map(|n| of(&format!("test {n}"), 100 * n)).collect();
        assert_eq!(
            times.to_string(),
            "\nstages (time, CPU time):\n   1:02   1:51  clippy\n   0:09   0:08  image\n   \
             1:11   1:59  together\n\
             the slowest of 12 tests:\n    1.1 s  test 11\n    1.0 s  test 10\n    \
             0.9 s  test 9\n    0.8 s  test 8\n    0.7 s  test 7\n    0.6 s  test 6\n    \
             0.5 s  test 5\n    0.4 s  test 4\n    0.3 s  test 3\n    0.2 s  test 2\n"
        );
    }
}
