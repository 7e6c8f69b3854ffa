//! Boots one machine and reads its figures off the console.

use super::figures::{Booted, Memory};
use super::floor::Floor;
use anyhow::{Context, Result, bail};
use machine::{Build, Machine, MachineBuilder};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No boot takes this long, on the slowest of hosts.
const BOOT: Duration = Duration::from_secs(120);
/// Room for the state partition to grow into, as on any machine.
const DISK: u64 = 2 << 30;
/// A command on the console.
const COMMAND: Duration = Duration::from_secs(30);

/// The floor: it prints and turns the machine off.
pub fn floor(build: &Build, floor: &Floor) -> Result<Booted> {
    let mut machine = Machine::builder(build, "bench-floor")
        .disk(&floor.disk)
        .append(&floor.command_line)
        .start()?;
    let Line { line, wall, cpu } = line(&mut machine, "floor: ")?;
    let (ready, memory) =
        floor_line(&line).with_context(|| format!("the floor printed '{line}'"))?;
    Ok(Booted {
        ready,
        wall,
        cpu,
        kernel: ready,
        memory,
        init_private: 0.0,
    })
}

/// A machine's disk that has been booted before: the first boot grows the state
/// partition, which the others need not.
pub struct Installed {
    disk: PathBuf,
    /// The first boot, started directly.
    pub first: Booted,
}

impl Installed {
    /// Makes a disk in `scratch` and boots it once.
    pub fn make(build: &Build, scratch: &Path, name: &str) -> Result<Self> {
        let disk = scratch.join(format!("{name}.raw"));
        build.make_disk(&disk, DISK)?;
        let first = wherry(Machine::builder(build, "bench-first").disk(&disk))?;
        Ok(Self { disk, first })
    }

    /// Wherry, its kernel started by QEMU.
    pub fn direct(&self, build: &Build) -> Result<Booted> {
        wherry(Machine::builder(build, "bench-direct").disk(&self.disk))
    }

    /// Wherry through OVMF and systemd-boot.
    pub fn firmware(&self, build: &Build) -> Result<Booted> {
        wherry(
            Machine::builder(build, "bench-firmware")
                .disk(&self.disk)
                .firmware(),
        )
    }
}

fn wherry(builder: MachineBuilder<'_>) -> Result<Booted> {
    let mut machine = builder.start()?;
    let Line { line, wall, cpu } = line(&mut machine, "wherry: ")?;
    let Some((ready, kernel)) = ready_line(&line) else {
        bail!(
            "instead of being ready the machine said '{line}'; its console is in {}",
            machine.log().display()
        );
    };
    let status = machine.shell("wherry status --json", COMMAND)?;
    let (memory, init_private) = status_memory(&status.text).with_context(|| {
        format!(
            "wherry status --json (exit {}) printed '{}'",
            status.exit, status.text
        )
    })?;
    machine.type_line("wherry poweroff")?;
    machine.wait_end(BOOT)?;
    Ok(Booted {
        ready,
        wall,
        cpu,
        kernel,
        memory,
        init_private,
    })
}

/// A line of the console, and what had passed when it was seen, in seconds.
struct Line {
    line: String,
    wall: f64,
    cpu: f64,
}

/// The first line that has `begin` in it, from there on.
fn line(machine: &mut Machine, begin: &str) -> Result<Line> {
    let started = Instant::now();
    machine.wait_for(begin, BOOT)?;
    let wall = started.elapsed().as_secs_f64();
    let cpu = machine.cpu_time()?.as_secs_f64();
    // The rest of the line may come later.
    machine.wait_for("\n", COMMAND)?;
    let console = machine.console();
    let line = console
        .lines()
        .find_map(|line| line.find(begin).map(|at| &line[at..]))
        .unwrap_or_default();
    Ok(Line {
        line: line.trim_end().to_owned(),
        wall,
        cpu,
    })
}

/// Seconds and memory of `floor: 0.9 s MemTotal 1 kB MemFree 1 kB MemAvailable 1 kB`.
fn floor_line(line: &str) -> Option<(f64, Memory)> {
    let words: Vec<&str> = line
        .split_once("floor: ")?
        .1
        .split_ascii_whitespace()
        .collect();
    let kibibytes = |name: &str| -> Option<f64> {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse::<f64>().ok()
    };
    let memory = Memory {
        total: kibibytes("MemTotal")? / 1024.0,
        free: kibibytes("MemFree")? / 1024.0,
        available: kibibytes("MemAvailable")? / 1024.0,
    };
    Some((words.first()?.parse().ok()?, memory))
}

/// Both figures of `wherry: ready in 1.2 s (kernel 0.9 s, services 0.3 s)`.
fn ready_line(line: &str) -> Option<(f64, f64)> {
    let rest = line.split_once("wherry: ready in ")?.1;
    let (ready, rest) = rest.split_once(" s (kernel ")?;
    let (kernel, _) = rest.split_once(" s")?;
    Some((ready.parse().ok()?, kernel.parse().ok()?))
}

/// The machine's memory and PID 1's private part, in MiB.
fn status_memory(text: &str) -> Option<(Memory, f64)> {
    let object = text.get(text.find('{')?..=text.rfind('}')?)?;
    let status: Value = serde_json::from_str(object).ok()?;
    let mebibytes = |name: &str| Some(status["memory"][name].as_f64()? / f64::from(1 << 20));
    let memory = Memory {
        total: mebibytes("total")?,
        free: mebibytes("free")?,
        available: mebibytes("available")?,
    };
    Some((memory, mebibytes("init_private")?))
}

#[cfg(test)]
mod tests {
    use super::{floor_line, ready_line, status_memory};

    #[test]
    fn the_floors_line_gives_seconds_and_mebibytes() {
        let line = "floor: 0.912345 s MemTotal 2048 kB MemFree 1024 kB MemAvailable 1536 kB";
        let (ready, memory) = floor_line(line).unwrap();
        assert_eq!(ready, 0.912345);
        assert_eq!(
            (memory.total, memory.free, memory.available),
            (2.0, 1.0, 1.5)
        );
        assert_eq!(floor_line("floor: no clock: EINVAL"), None);
    }

    #[test]
    fn the_ready_line_gives_both_figures() {
        let line = "wherry: ready in 1.234 s (kernel 0.900 s, services 0.334 s)";
        assert_eq!(ready_line(line), Some((1.234, 0.9)));
        assert_eq!(ready_line("wherry: degraded: no state"), None);
    }

    #[test]
    fn a_status_with_noise_around_it_is_read() {
        let text = "\u{1b}[0m\n{\"memory\":{\"total\":4194304,\"free\":1048576,\
                    \"available\":2097152,\"init_private\":1048576}}\n";
        let (memory, init) = status_memory(text).unwrap();
        assert_eq!((memory.total, memory.available, init), (4.0, 2.0, 1.0));
        assert_eq!(status_memory("not found"), None);
    }
}
