//! The figures of all runs, against what they are to reach.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// Memory as `/proc/meminfo` counts it, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// `MemTotal`: what the kernel left for use.
    pub total: f64,
    /// `MemFree`: used for nothing.
    pub free: f64,
    /// `MemAvailable`: what programs could have without swapping; it counts
    /// caches that the kernel would give up.
    pub available: f64,
}

impl Memory {
    /// What no other process can have.
    fn in_use(self) -> f64 {
        self.total - self.available
    }

    /// The same with caches: most of those hold the root's files.
    fn with_caches(self) -> f64 {
        self.total - self.free
    }
}

/// One machine, booted once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Booted {
    /// Seconds of the guest's CLOCK_BOOTTIME, which starts with the kernel,
    /// until all services were ready.
    pub ready: f64,
    /// Seconds of the host from QEMU's start until the line was seen.
    pub wall: f64,
    /// Seconds of processor time that QEMU had taken by then.
    pub cpu: f64,
    /// Seconds until PID 1 began.
    pub kernel: f64,
    /// Memory after that.
    pub memory: Memory,
    /// PID 1's private memory in MiB.
    pub init_private: f64,
}

/// The three machines of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// The floor, started directly.
    pub floor: Booted,
    /// Wherry, started directly.
    pub direct: Booted,
    /// Wherry through its firmware.
    pub firmware: Booted,
}

/// Bytes of what a release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The unified kernel image.
    pub uki: u64,
    /// The root file system.
    pub root: u64,
    /// Its hash tree.
    pub hash_tree: u64,
}

/// What the boot may cost.
mod target {
    /// Ready, in multiples of the floor.
    pub const READY_OVER_FLOOR: f64 = 1.30;
    /// All services together, in MiB above the floor.
    pub const SERVICES_MIB: f64 = 24.0;
    /// PID 1's private memory in MiB.
    pub const INIT_PRIVATE_MIB: f64 = 2.0;
    /// UKI and root, in bytes.
    pub const RELEASE_BYTES: u64 = 22_000_000;
}

/// From this share of time on in which programs waited for a processor, times
/// say more about the host than about the guest.
const BUSY: f64 = 0.2;

/// The benchmark's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    runs: Vec<Run>,
    sizes: Sizes,
    floor: f64,
    ready: f64,
    kernel: f64,
    services_mib: f64,
    services_with_caches_mib: f64,
    floor_in_use_mib: f64,
    init_private_mib: f64,
    floor_wall: f64,
    direct_wall: f64,
    firmware_wall: f64,
    firmware_kernel_to_ready: f64,
    floor_cpu: f64,
    ready_cpu: f64,
    first: Booted,
    pressure: Option<f64>,
}

impl Figures {
    /// The figures of `runs`, of which there is one at least; of the `first`
    /// boot; and of how much the host's other programs got in the way.
    pub fn of(runs: &[Run], first: Booted, pressure: Option<f64>, sizes: Sizes) -> Self {
        let over = |of: fn(&Run) -> f64| median(runs.iter().map(of).collect());
        let least = |of: fn(&Run) -> f64| runs.iter().map(of).fold(f64::INFINITY, f64::min);
        Self {
            floor: least(|run| run.floor.ready),
            ready: least(|run| run.direct.ready),
            kernel: least(|run| run.direct.kernel),
            services_mib: over(|run| run.direct.memory.in_use() - run.floor.memory.in_use()),
            services_with_caches_mib: over(|run| {
                run.direct.memory.with_caches() - run.floor.memory.with_caches()
            }),
            floor_in_use_mib: over(|run| run.floor.memory.in_use()),
            init_private_mib: over(|run| run.direct.init_private),
            floor_wall: least(|run| run.floor.wall),
            direct_wall: least(|run| run.direct.wall),
            firmware_wall: least(|run| run.firmware.wall),
            firmware_kernel_to_ready: least(|run| run.firmware.ready),
            floor_cpu: least(|run| run.floor.cpu),
            ready_cpu: least(|run| run.direct.cpu),
            runs: runs.to_vec(),
            first,
            pressure,
            sizes,
        }
    }

    fn ready_over_floor(&self) -> f64 {
        self.ready / self.floor
    }

    fn release_bytes(&self) -> u64 {
        self.sizes.uki + self.sizes.root
    }

    /// One object for machines.
    pub fn json(&self) -> Value {
        let each = |of: fn(&Run) -> f64| -> Vec<f64> {
            self.runs.iter().map(|run| thousandths(of(run))).collect()
        };
        json!({
            "runs": self.runs.len(),
            "ready_s": thousandths(self.ready),
            "floor_s": thousandths(self.floor),
            "ready_over_floor": thousandths(self.ready_over_floor()),
            "kernel_s": thousandths(self.kernel),
            "services_mib": thousandths(self.services_mib),
            "services_with_caches_mib": thousandths(self.services_with_caches_mib),
            "floor_mib": thousandths(self.floor_in_use_mib),
            "init_private_mib": thousandths(self.init_private_mib),
            "uki_bytes": self.sizes.uki,
            "root_bytes": self.sizes.root,
            "hash_tree_bytes": self.sizes.hash_tree,
            "firmware_ready_s": thousandths(self.firmware_wall),
            "firmware_kernel_to_ready_s": thousandths(self.firmware_kernel_to_ready),
            "direct_wall_s": thousandths(self.direct_wall),
            "floor_wall_s": thousandths(self.floor_wall),
            "first_boot_ready_s": thousandths(self.first.ready),
            "ready_cpu_s": thousandths(self.ready_cpu),
            "floor_cpu_s": thousandths(self.floor_cpu),
            "host_pressure": self.pressure.map(thousandths),
            "each": {
                "ready_s": each(|run| run.direct.ready),
                "floor_s": each(|run| run.floor.ready),
                "firmware_ready_s": each(|run| run.firmware.wall),
            },
            "targets": {
                "ready_over_floor": target::READY_OVER_FLOOR,
                "services_mib": target::SERVICES_MIB,
                "init_private_mib": target::INIT_PRIVATE_MIB,
                "uki_and_root_bytes": target::RELEASE_BYTES,
            },
        })
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let mut row = |name: &str, value: String, target: Option<(String, bool)>| {
            let verdict = match target {
                Some((target, true)) => format!("at most {target}: met"),
                Some((target, false)) => format!("at most {target}: MISSED"),
                None => String::new(),
            };
            let line = format!("{name:<44}{value:>12}   {verdict}");
            // Writing to a String does not fail.
            let _ = writeln!(table, "{}", line.trim_end());
        };
        row(
            "runs (times: the fastest; memory: median)",
            self.runs.len().to_string(),
            None,
        );
        row("from kernel start", String::new(), None);
        row(
            "  floor: a PID 1 that prints and stops",
            seconds(self.floor),
            None,
        );
        row("  Wherry's PID 1 begins", seconds(self.kernel), None);
        row("  Wherry, all services ready", seconds(self.ready), None);
        row(
            "  ready / floor",
            format!("{:.2}", self.ready_over_floor()),
            Some((
                format!("{:.2}", target::READY_OVER_FLOOR),
                self.ready_over_floor() <= target::READY_OVER_FLOOR,
            )),
        );
        row("  a first boot", seconds(self.first.ready), None);
        row("processor time of QEMU until then", String::new(), None);
        row("  floor", seconds(self.floor_cpu), None);
        row(
            "  Wherry, all services ready",
            seconds(self.ready_cpu),
            None,
        );
        row("from QEMU's start", String::new(), None);
        row("  floor, direct", seconds(self.floor_wall), None);
        row("  Wherry, direct", seconds(self.direct_wall), None);
        row(
            "  Wherry, firmware and boot loader",
            seconds(self.firmware_wall),
            None,
        );
        row(
            "    of it from kernel start",
            seconds(self.firmware_kernel_to_ready),
            None,
        );
        row("memory in use", String::new(), None);
        row("  floor", mebibytes(self.floor_in_use_mib), None);
        row(
            "  all services, above the floor",
            mebibytes(self.services_mib),
            Some((
                mebibytes(target::SERVICES_MIB),
                self.services_mib <= target::SERVICES_MIB,
            )),
        );
        row(
            "    and with the caches that they filled",
            mebibytes(self.services_with_caches_mib),
            None,
        );
        row(
            "  PID 1, private",
            mebibytes(self.init_private_mib),
            Some((
                mebibytes(target::INIT_PRIVATE_MIB),
                self.init_private_mib <= target::INIT_PRIVATE_MIB,
            )),
        );
        row("size", String::new(), None);
        row("  UKI", megabytes(self.sizes.uki), None);
        row("  root", megabytes(self.sizes.root), None);
        row(
            "  both",
            megabytes(self.release_bytes()),
            Some((
                megabytes(target::RELEASE_BYTES),
                self.release_bytes() <= target::RELEASE_BYTES,
            )),
        );
        row("  hash tree", megabytes(self.sizes.hash_tree), None);
        if let Some(pressure) = self.pressure.filter(|pressure| *pressure > BUSY) {
            let _ = writeln!(
                table,
                "\nOther programs wanted the processors {:.0} % of the time: all times are too \
                 long, and their ratio says little. Measure again when nothing else runs.",
                pressure * 100.0
            );
        }
        table
    }
}

/// The middle one, or the mean of both middle ones.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (below, above) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(below), values.get(above)) {
        (Some(below), Some(above)) => (below + above) / 2.0,
        _ => f64::NAN,
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn seconds(value: f64) -> String {
    format!("{value:.3} s")
}

fn mebibytes(value: f64) -> String {
    format!("{value:.1} MiB")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::{Booted, Figures, Memory, Run, Sizes, median};

    fn booted(ready: f64, available: f64) -> Booted {
        Booted {
            ready,
            wall: ready + 1.0,
            cpu: ready,
            kernel: 1.0,
            memory: Memory {
                total: 500.0,
                free: available - 10.0,
                available,
            },
            init_private: 1.5,
        }
    }

    fn figures(ready: f64) -> Figures {
        let run = Run {
            floor: booted(1.0, 460.0),
            direct: booted(ready, 440.0),
            firmware: booted(ready, 440.0),
        };
        let sizes = Sizes {
            uki: 11_000_000,
            root: 10_000_000,
            hash_tree: 90_000,
        };
        let slow = Run {
            floor: booted(9.0, 460.0),
            ..run
        };
        Figures::of(&[run, slow, run], run.direct, Some(0.05), sizes)
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_missed_target_shows() {
        assert!(!figures(1.25).table().contains("MISSED"));
        assert!(figures(1.35).table().contains("at most 1.30: MISSED"));
    }

    #[test]
    fn the_object_has_what_it_is_asked_for() {
        let json = figures(1.25).json();
        for name in [
            "ready_s",
            "floor_s",
            "ready_over_floor",
            "services_mib",
            "init_private_mib",
            "uki_bytes",
            "root_bytes",
            "firmware_ready_s",
        ] {
            assert!(json[name].is_number(), "{name}");
        }
        assert_eq!(json["services_mib"], 20.0);
        assert_eq!(json["ready_over_floor"], 1.25);
    }
}
