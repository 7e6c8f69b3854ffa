//! What is done to a real machine while each write of its disk is logged.

use super::log::{self, Request};
use anyhow::{Context, Result, bail, ensure};
use machine::{Build, Machine, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From QEMU's start until the console's shell answers.
const BOOT: Duration = Duration::from_secs(240);
/// A command at the shell.
const COMMAND: Duration = Duration::from_secs(180);
/// A whole scenario.
const LIFE: Duration = Duration::from_secs(900);
/// Larger than the image, so that the state has room.
const DISK: u64 = 1 << 30;

/// One boot of the machine and what is done in it.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What is typed; each has to succeed.
    commands: &'static [&'static str],
    /// The release that runs.
    pub runs: &'static str,
    /// Releases of which everything is there at every moment.
    pub stay: &'static [&'static str],
    /// The channel that the machine follows.
    pub channel: &'static str,
    /// What a machine that was cut off does again: `install`, `bless`,
    /// `rollback`.
    pub goal: &'static str,
    /// The release that runs in the end.
    pub ends: &'static str,
}

/// In their order, on one disk. An update runs as far as the restart; what the
/// boot loader writes of the new release's first boot belongs to the next one.
pub const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "install",
        commands: &["wherry update apply --reboot never"],
        runs: "1.0",
        stay: &["1.0"],
        channel: "service",
        goal: "install",
        ends: "1.2",
    },
    Scenario {
        name: "first boot, bless",
        commands: &[BLESSED],
        runs: "1.2",
        stay: &["1.0", "1.2"],
        channel: "service",
        goal: "bless",
        ends: "1.2",
    },
    Scenario {
        name: "update over the older one",
        commands: &["wherry update apply --reboot never"],
        runs: "1.2",
        stay: &["1.2"],
        channel: "everything",
        goal: "install",
        ends: "2.0",
    },
    Scenario {
        name: "first boot, bless, roll back",
        commands: &[BLESSED, "wherry update rollback --reboot never"],
        runs: "2.0",
        stay: &["1.2", "2.0"],
        channel: "everything",
        goal: "rollback",
        ends: "1.2",
    },
    Scenario {
        name: "the one rolled back to",
        commands: &["sleep 8"],
        runs: "1.2",
        stay: &["1.2", "2.0"],
        channel: "everything",
        goal: "bless",
        ends: "1.2",
    },
];

/// Waits until the running release is on trial no more.
const BLESSED: &str = "i=0; until wherry update status --json | grep -q '\"trial\": *null'; do \
                       i=$((i+1)); [ $i -lt 90 ] || break; sleep 1; done; [ $i -lt 90 ]";

/// What a scenario left.
#[derive(Debug)]
pub struct Recorded {
    /// Which it was.
    pub scenario: Scenario,
    /// The disk before it.
    pub before: PathBuf,
    /// What was written.
    pub requests: Vec<Request>,
}

/// A machine's disk, from scenario to scenario.
pub struct Site<'a> {
    build: &'a Build,
    folder: &'a Path,
    server: Server,
}

impl<'a> Site<'a> {
    /// A disk in `folder` with the first of the test releases.
    pub fn new(releases: &Path, build: &'a Build, folder: &'a Path) -> Result<Self> {
        let site = Self {
            build,
            folder,
            server: Server::serve(releases)?,
        };
        Build::at(releases.join("1.0")).make_disk(&site.disk(), DISK)?;
        // The first boot grows the state partition; that is not what is looked at.
        let mut machine = site.start("first-boot", None)?;
        site.shell(&mut machine, "true")?;
        site.power_off(machine)?;
        Ok(site)
    }

    /// The disk as it is now.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.raw")
    }

    /// Plays a scenario.
    pub fn play(&self, scenario: Scenario) -> Result<Recorded> {
        let name = scenario.name.replace([' ', ','], "-");
        let before = self.folder.join(format!("{name}.raw"));
        machine::copy_sparse(&self.disk(), &before, 0)?;
        let log = self.folder.join(format!("{name}.log"));
        let mut machine = self.start(&name, Some(&log))?;
        let running = self.shell(&mut machine, "wherry update status --json")?;
        ensure!(
            running.contains(&format!("\"version\": \"{}\"", scenario.runs))
                || running.contains(&format!("\"version\":\"{}\"", scenario.runs)),
            "{}: {} should run: {running}",
            scenario.name,
            scenario.runs
        );
        self.shell(
            &mut machine,
            &format!(
                "grep -qs '\"{0}\"' /state/config/updater/update.toml || \
                 {{ echo 'channel = \"{0}\"' > /state/config/updater/update.toml; \
                 wherry service restart updater; }}; \
                 for i in $(seq 60); do wherry update check && break; sleep 1; done",
                scenario.channel
            ),
        )?;
        for command in scenario.commands {
            self.shell(&mut machine, command)?;
        }
        self.power_off(machine)?;
        let bytes = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
        let requests = log::parse(&bytes).with_context(|| format!("in {}", log.display()))?;
        Ok(Recorded {
            scenario,
            before,
            requests,
        })
    }

    /// Boots a disk and returns the kernel's command line.
    pub fn boot(&self, disk: &Path, name: &str) -> Result<String> {
        let mut machine = Machine::builder(self.build, &format!("power-cut-{name}"))
            .firmware()
            .disk(disk)
            .server(&self.server)
            .limit(LIFE)
            .start()?;
        machine.wait_for("wherry: ", BOOT)?;
        machine.wait_for("# ", BOOT)?;
        self.shell(&mut machine, "cat /proc/cmdline")
    }

    fn start(&self, name: &str, log: Option<&Path>) -> Result<Machine> {
        let mut builder = Machine::builder(self.build, &format!("power-cut-{name}"))
            .firmware()
            .variables(self.folder.join("variables"))
            .disk(self.disk())
            .server(&self.server)
            .limit(LIFE);
        if let Some(log) = log {
            builder = builder.log_writes(log);
        }
        let mut machine = builder.start()?;
        machine.wait_for("wherry: ", BOOT)?;
        machine.wait_for("# ", BOOT)?;
        Ok(machine)
    }

    fn shell(&self, machine: &mut Machine, command: &str) -> Result<String> {
        let output = machine.shell(command, COMMAND)?;
        if output.exit != 0 {
            bail!("{command} ended with {}: {}", output.exit, output.text);
        }
        Ok(output.text)
    }

    fn power_off(&self, mut machine: Machine) -> Result<()> {
        machine.type_line("wherry poweroff")?;
        machine.wait_end(COMMAND)?;
        Ok(())
    }
}
