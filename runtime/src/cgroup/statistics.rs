//! Everything that a cgroup reports about the resource use of its processes.
//!
//! Field names and units are those of the object that runc's `events` prints,
//! so that serialising [`Statistics`] gives what programs that read it expect.
//! That object was made for cgroup v1: swap includes memory, and input and
//! output have one entry for each device and direction. Values of a missing
//! controller are zero or absent.

use std::collections::BTreeMap;

use nix::errno::Errno;
use serde::Serialize;

use super::{Cgroup, files, read, value_of};
use crate::Error;

/// No limit, as runc writes it.
const UNLIMITED: u64 = u64::MAX;

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// CPU time.
    pub cpu: Cpu,
    /// The CPUs and memory nodes that it may use.
    pub cpuset: CpuSet,
    /// Memory and swap.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Input and output of block devices.
    pub blkio: BlockIo,
    /// Huge pages by their size (`2MB`).
    pub hugetlb: BTreeMap<String, HugePages>,
    /// RDMA resources in use, by device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Nothing: a class of service is no part of a cgroup.
    pub intel_rdt: Empty,
}

/// An object without fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Empty {}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// How the quota has held it back.
    pub throttling: Throttling,
    /// Time in which processes waited for a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// In all.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// How a CPU quota has held processes back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds for which processes were throttled.
    pub throttled_time: u64,
}

/// The CPUs and memory nodes that it may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuSet {
    /// Numbers of CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// Numbers of memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// From here on: properties that only cgroup v1 has.
    pub cpu_exclusive: u64,
    #[allow(missing_docs)]
    pub mem_hardwall: u64,
    #[allow(missing_docs)]
    pub mem_exclusive: u64,
    #[allow(missing_docs)]
    pub memory_migrate: u64,
    #[allow(missing_docs)]
    pub memory_spread_page: u64,
    #[allow(missing_docs)]
    pub memory_spread_slab: u64,
    #[allow(missing_docs)]
    pub memory_pressure: u64,
    #[allow(missing_docs)]
    pub sched_load_balance: u64,
    #[allow(missing_docs)]
    pub sched_relax_domain_level: i64,
}

/// Memory and swap, bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// Kernel memory, which is part of the memory and has no limit of its own.
    pub kernel: MemoryEntry,
    /// Buffers of sockets, which are part of the memory and have no limit of
    /// their own.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat` as it is.
    pub raw: BTreeMap<String, u64>,
    /// Time in which processes waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
    /// How often limits were reached.
    pub event_count: MemoryEvents,
}

/// Use and limit of one kind of memory, bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The limit; without one, the highest number.
    pub limit: u64,
    /// In use.
    pub usage: u64,
    /// Peak use.
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// `memory.events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryEvents {
    /// Memory was reclaimed although the cgroup was below its reservation.
    pub low: u64,
    /// It was throttled for being above `memory.high`.
    pub high: u64,
    /// It reached its limit.
    pub max: u64,
    /// Nothing could be reclaimed.
    pub oom: u64,
    /// A process was killed.
    pub oom_kill: u64,
    /// All processes were killed together.
    pub oom_group_kill: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pids {
    /// Existing ones.
    pub current: u64,
    /// The maximum; zero if there is no limit.
    pub limit: u64,
}

/// Input and output of block devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes read and written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// Time in which processes waited for devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// A count of one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlockIoEntry {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// `Read`, `Write` or `Discard`.
    pub op: String,
    /// The count.
    pub value: u64,
}

/// Huge pages of one size, bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HugePages {
    /// In use.
    pub usage: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// RDMA resources of one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rdma {
    /// Handles in use.
    #[serde(rename = "hcaHandles")]
    pub handles: u64,
    /// Objects in use.
    #[serde(rename = "hcaObjects")]
    pub objects: u64,
}

/// Pressure stall information.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one process waited.
    pub some: PressureLine,
    /// All processes waited.
    pub full: PressureLine,
}

/// Percentages of time, and a sum.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PressureLine {
    /// Over 10 seconds.
    pub avg10: f64,
    /// Over a minute.
    pub avg60: f64,
    /// Over five minutes.
    pub avg300: f64,
    /// Total, microseconds.
    pub total: u64,
}

/// The files that statistics are made from, by name; a missing one is empty.
type Files<'a> = dyn Fn(&str) -> Result<String, Error> + 'a;

impl Cgroup {
    /// Everything that the kernel reports about it.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let names = files(self.fd()).map_err(|errno| self.error("", "list".into(), errno))?;
        let text = |file: &str| match read(self.fd(), file) {
            Ok(text) => Ok(text),
            // Pressure cannot be read (EOPNOTSUPP) if the kernel was started
            // without it.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(String::new()),
            Err(errno) => Err(self.error(file, "read".into(), errno)),
        };
        statistics(&names, &text)
    }
}

fn statistics(names: &[String], text: &Files<'_>) -> Result<Statistics, Error> {
    let mut hugetlb = BTreeMap::new();
    for name in names {
        let size = name
            .strip_prefix("hugetlb.")
            .and_then(|rest| rest.strip_suffix(".current"))
            .filter(|size| !size.contains('.'));
        if let Some(size) = size {
            let events = text(&format!("hugetlb.{size}.events"))?;
            let pages = HugePages {
                usage: number(&text(name)?),
                failcnt: value_of(&events, "max").unwrap_or(0),
            };
            hugetlb.insert(size.to_string(), pages);
        }
    }
    Ok(Statistics {
        cpu: cpu(text)?,
        cpuset: CpuSet {
            cpus: list(&text("cpuset.cpus.effective")?),
            mems: list(&text("cpuset.mems.effective")?),
            ..CpuSet::default()
        },
        memory: memory(text)?,
        pids: Pids {
            current: number(&text("pids.current")?),
            limit: text("pids.max")?.trim().parse().unwrap_or(0),
        },
        blkio: block_io(text)?,
        hugetlb,
        rdma: rdma(&text("rdma.current")?),
        intel_rdt: Empty {},
    })
}

/// The number in a file; zero if the file is missing, the maximum if there is
/// no limit.
fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => UNLIMITED,
        text => text.parse().unwrap_or(0),
    }
}

fn cpu(text: &Files<'_>) -> Result<Cpu, Error> {
    let stat = text("cpu.stat")?;
    let value = |key| value_of(&stat, key).unwrap_or(0);
    Ok(Cpu {
        usage: CpuUsage {
            total: value("usage_usec") * 1000,
            kernel: value("system_usec") * 1000,
            user: value("user_usec") * 1000,
        },
        throttling: Throttling {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: value("throttled_usec") * 1000,
        },
        psi: pressure(&text("cpu.pressure")?),
    })
}

fn memory(text: &Files<'_>) -> Result<Memory, Error> {
    let raw: BTreeMap<String, u64> = text("memory.stat")?
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key.to_string(), value.parse().ok()?)))
        .collect();
    let stat = |key| raw.get(key).copied().unwrap_or(0);
    let events = text("memory.events")?;
    let event = |key| value_of(&events, key).unwrap_or(0);
    let part = |usage| MemoryEntry {
        usage,
        limit: UNLIMITED,
        ..MemoryEntry::default()
    };
    let usage = MemoryEntry {
        limit: number(&text("memory.max")?),
        usage: number(&text("memory.current")?),
        max: number(&text("memory.peak")?),
        failcnt: event("max"),
    };
    let swap_limit = text("memory.swap.max")?;
    let swap = MemoryEntry {
        usage: usage.usage + number(&text("memory.swap.current")?),
        limit: match number(&swap_limit) {
            // Without swap the sum is the memory.
            0 if swap_limit.is_empty() => usage.limit,
            limit => limit.saturating_add(usage.limit),
        },
        // The kernel has the peak of both, which need not have been at the same
        // time.
        max: usage.max + number(&text("memory.swap.peak")?),
        failcnt: value_of(&text("memory.swap.events")?, "max").unwrap_or(0),
    };
    Ok(Memory {
        cache: stat("file"),
        usage,
        swap,
        kernel: part(stat("kernel")),
        kernel_tcp: part(stat("sock")),
        psi: pressure(&text("memory.pressure")?),
        event_count: MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: event("oom_kill"),
            oom_group_kill: event("oom_group_kill"),
        },
        raw,
    })
}

fn block_io(text: &Files<'_>) -> Result<BlockIo, Error> {
    let mut io = BlockIo {
        psi: pressure(&text("io.pressure")?),
        ..BlockIo::default()
    };
    for line in text("io.stat")?.lines() {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((major, minor)) = device else {
            continue;
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let (entries, op) = match key {
                "rbytes" => (&mut io.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut io.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut io.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut io.io_serviced_recursive, "Read"),
                "wios" => (&mut io.io_serviced_recursive, "Write"),
                "dios" => (&mut io.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            entries.push(BlockIoEntry {
                major: number(major),
                minor: number(minor),
                op: op.to_string(),
                value: number(value),
            });
        }
    }
    Ok(io)
}

fn rdma(text: &str) -> BTreeMap<String, Rdma> {
    let device = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let value = |key: &str| {
            rest.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
                .unwrap_or(0)
        };
        let rdma = Rdma {
            handles: value("hca_handle"),
            objects: value("hca_object"),
        };
        Some((name.to_string(), rdma))
    };
    text.lines().filter_map(device).collect()
}

fn pressure(text: &str) -> Option<Pressure> {
    let line = |name: &str| {
        let rest = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        let value = |key: &str| {
            rest.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let share = |key| value(key).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Some(PressureLine {
            avg10: share("avg10"),
            avg60: share("avg60"),
            avg300: share("avg300"),
            total: value("total").map_or(0, number),
        })
    };
    Some(Pressure {
        some: line("some")?,
        // Kernels before 5.13 do not report it for CPUs.
        full: line("full").unwrap_or_default(),
    })
}

/// Numbers of a list like `0-3,7`.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(files: &[(&str, &str)]) -> serde_json::Value {
        let names: Vec<String> = files.iter().map(|(name, _)| name.to_string()).collect();
        let text = |wanted: &str| {
            let file = files.iter().find(|(name, _)| *name == wanted);
            Ok(file.map_or("", |(_, text)| *text).to_string())
        };
        serde_json::to_value(statistics(&names, &text).unwrap()).unwrap()
    }

    #[test]
    fn cpu_time_is_in_nanoseconds() {
        let all = of(&[
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
            ),
            (
                "cpu.pressure",
                "some avg10=0.50 avg60=1.00 avg300=0.25 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
            ),
        ]);
        assert_eq!(
            all["cpu"],
            json!({
                "usage": { "total": 30_000, "kernel": 10_000, "user": 20_000 },
                "throttling": { "periods": 5, "throttledPeriods": 2, "throttledTime": 7000 },
                "psi": {
                    "some": { "avg10": 0.5, "avg60": 1.0, "avg300": 0.25, "total": 99 },
                    "full": { "avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 3 },
                },
            })
        );
    }

    #[test]
    fn swap_counts_memory_too() {
        let all = of(&[
            ("memory.current", "100\n"),
            ("memory.max", "1000\n"),
            ("memory.peak", "150\n"),
            ("memory.swap.current", "11\n"),
            ("memory.swap.max", "500\n"),
            ("memory.stat", "anon 60\nfile 40\nkernel 7\nsock 3\n"),
            (
                "memory.events",
                "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n",
            ),
        ]);
        let memory = &all["memory"];
        assert_eq!(
            memory["usage"],
            json!({ "limit": 1000, "usage": 100, "max": 150, "failcnt": 3 })
        );
        assert_eq!(memory["swap"]["usage"], 111);
        assert_eq!(memory["swap"]["limit"], 1500);
        assert_eq!(memory["cache"], 40);
        assert_eq!(memory["raw"]["anon"], 60);
        assert_eq!(memory["kernel"]["usage"], 7);
        assert_eq!(memory["event_count"]["oom_kill"], 5);
    }

    #[test]
    fn no_limit_of_memory_is_the_highest_number_and_none_of_processes_is_zero() {
        let all = of(&[
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("pids.current", "2\n"),
            ("pids.max", "max\n"),
        ]);
        assert_eq!(all["memory"]["usage"]["limit"], u64::MAX);
        assert_eq!(all["memory"]["swap"]["limit"], u64::MAX);
        assert_eq!(all["pids"], json!({ "current": 2, "limit": 0 }));
    }

    #[test]
    fn devices_have_an_entry_for_each_direction() {
        let all = of(&[(
            "io.stat",
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1 rbytes=7\n8:16\n",
        )]);
        let entry = |major: u64, minor: u64, op: &str, value: u64| json!({ "major": major, "minor": minor, "op": op, "value": value });
        assert_eq!(
            all["blkio"],
            json!({
                "ioServiceBytesRecursive": [
                    entry(8, 0, "Read", 1),
                    entry(8, 0, "Write", 2),
                    entry(8, 0, "Discard", 5),
                    entry(253, 1, "Read", 7),
                ],
                "ioServicedRecursive": [
                    entry(8, 0, "Read", 3),
                    entry(8, 0, "Write", 4),
                    entry(8, 0, "Discard", 6),
                ],
            })
        );
    }

    #[test]
    fn huge_pages_rdma_and_sets_are_told() {
        let all = of(&[
            ("hugetlb.2MB.current", "4096\n"),
            ("hugetlb.2MB.rsvd.current", "9\n"),
            ("hugetlb.2MB.events", "max 3\n"),
            ("rdma.current", "mlx5_0 hca_handle=1 hca_object=20\n"),
            ("cpuset.cpus.effective", "0-2,7\n"),
            ("cpuset.mems.effective", "0\n"),
        ]);
        assert_eq!(
            all["hugetlb"],
            json!({ "2MB": { "usage": 4096, "failcnt": 3 } })
        );
        assert_eq!(
            all["rdma"],
            json!({ "mlx5_0": { "hcaHandles": 1, "hcaObjects": 20 } })
        );
        assert_eq!(all["cpuset"]["cpus"], json!([0, 1, 2, 7]));
        assert_eq!(all["cpuset"]["mems"], json!([0]));
    }

    #[test]
    fn without_controllers_there_are_zeros_and_no_pressure() {
        let all = of(&[]);
        assert_eq!(all["cpu"]["usage"]["total"], 0);
        assert!(all["cpu"].get("psi").is_none());
        assert_eq!(all["hugetlb"], json!({}));
        assert_eq!(all["blkio"], json!({}));
        assert_eq!(all["intel_rdt"], json!({}));
    }
}
