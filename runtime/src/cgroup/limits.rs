//! Limits, from the specification's fields (which are those of cgroup v1) to
//! the files of cgroup v2. Pure.
//!
//! Engines write zero for a limit that is not set (`memory.limit`,
//! `pids.limit`, `blockIO.weight` …): it asks for nothing, and -1 removes a
//! limit.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::Error;

/// The limit of swap, which exists only if the kernel has swap.
pub(super) const SWAP: &str = "memory.swap.max";
/// The kernel refuses one above the quota: it is written before the quota or,
/// if necessary, after.
pub(super) const BURST: &str = "cpu.max.burst";

/// A value to be written, line by line, to a file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The field that asks for it, by its path in the specification.
    pub field: String,
    /// The file in the cgroup's directory.
    pub file: String,
    /// What to write.
    pub value: String,
    /// File and value to write if the kernel does not have the first one.
    pub otherwise: Option<(String, String)>,
    /// If the file is missing, the kernel does what the field asks for anyway.
    pub needless_without_file: bool,
}

/// The current settings of a cgroup, as far as a partial update depends on
/// them.
#[derive(Debug, Clone, Default)]
pub(super) struct Current {
    /// Bytes; `None` is no limit.
    pub memory_max: Option<i64>,
    /// Quota and period in `cpu.max`.
    pub cpu_max: Option<(String, String)>,
}

/// Whether [`plan`] needs to know the current memory limit, and the current `cpu.max`.
pub(super) fn depends_on(resources: &LinuxResources) -> (bool, bool) {
    let named = |value: Option<i64>| value.is_some_and(|value| value != 0);
    (
        resources.memory().is_some_and(|memory| {
            memory.swap().is_some_and(|swap| swap > 0) && !named(memory.limit())
        }),
        resources.cpu().as_ref().is_some_and(|cpu| {
            named(cpu.quota()) != cpu.period().is_some_and(|period| period != 0)
        }),
    )
}

fn setting(field: impl Into<String>, file: impl Into<String>, value: impl Into<String>) -> Setting {
    let value = value.into();
    Setting {
        field: field.into(),
        file: file.into(),
        needless_without_file: value.split(' ').next() == Some("max"),
        value,
        otherwise: None,
    }
}

/// The settings, in the order in which to write them.
pub(super) fn plan(resources: &LinuxResources, current: &Current) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        plan_memory(memory, current, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, current, &mut settings);
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        settings.push(setting(
            "linux.resources.pids.limit",
            "pids.max",
            or_max(pids.limit()),
        ));
    }
    if let Some(io) = resources.block_io() {
        plan_io(io, &mut settings)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let field = "linux.resources.hugepageLimits";
        let size = limit.page_size();
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::invalid(
                field,
                format!("\"{size}\" is not a page size"),
            ));
        }
        let field = format!("{field}[{size}]");
        let value = or_max(limit.limit());
        settings.push(setting(&field, format!("hugetlb.{size}.max"), &value));
        // Reservations, which a process could otherwise make beyond its limit.
        settings.push(Setting {
            needless_without_file: true,
            ..setting(&field, format!("hugetlb.{size}.rsvd.max"), &value)
        });
    }
    plan_rdma(resources, &mut settings)?;
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let field = format!("linux.resources.unified[{file}]");
        let structure = file.starts_with("cgroup.") && !file.starts_with("cgroup.max.");
        if file.contains('/') || !file.contains('.') || structure {
            return Err(Error::invalid(field, "is not a cgroup limit"));
        }
        settings.push(Setting {
            needless_without_file: false,
            ..setting(field, file, value)
        });
    }
    Ok(settings)
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_string()
    } else {
        value.to_string()
    }
}

fn plan_memory(
    memory: &LinuxMemory,
    current: &Current,
    settings: &mut Vec<Setting>,
) -> Result<(), Error> {
    let named = |value: Option<i64>| value.filter(|value| *value != 0);
    let bytes = |field: &str, value: i64| match value {
        -1.. => Ok(or_max(value)),
        _ => Err(Error::invalid(
            field,
            "is neither a size nor -1 for no limit",
        )),
    };
    let limit = named(memory.limit());
    // Swap first: memory that a lower limit pushes out needs a place to go. The
    // field counts memory and swap together, cgroup v2 swap alone.
    let field = "linux.resources.memory.swap";
    let in_force = limit.or(current.memory_max).filter(|limit| *limit > 0);
    let swap = match (named(memory.swap()), in_force) {
        // As in cgroup v1: without a limit of memory there is no limit of the
        // sum either.
        (None, _) if limit == Some(-1) => Some("max".to_string()),
        (None, _) => None,
        (Some(-1), _) => Some("max".to_string()),
        (Some(swap), Some(limit)) if swap >= limit => Some((swap - limit).to_string()),
        (Some(_), _) => {
            return Err(Error::invalid(
                field,
                "is -1, or at least linux.resources.memory.limit, which must be set",
            ));
        }
    };
    if let Some(swap) = swap {
        settings.push(Setting {
            // A kernel without swap: whatever the limit, none is used.
            needless_without_file: true,
            ..setting(field, SWAP, swap)
        });
    }
    if let Some(limit) = limit {
        let field = "linux.resources.memory.limit";
        settings.push(setting(field, "memory.max", bytes(field, limit)?));
    }
    if let Some(reservation) = named(memory.reservation()) {
        let field = "linux.resources.memory.reservation";
        settings.push(Setting {
            needless_without_file: false,
            ..setting(field, "memory.low", bytes(field, reservation)?)
        });
    }
    Ok(())
}

fn plan_cpu(cpu: &LinuxCpu, current: &Current, settings: &mut Vec<Setting>) {
    const PREFIX: &str = "linux.resources.cpu";
    let idle = cpu.idle().map(|idle| Setting {
        needless_without_file: idle == 0,
        ..setting(format!("{PREFIX}.idle"), "cpu.idle", idle.to_string())
    });
    let weight = cpu.shares().filter(|shares| *shares != 0).map(|shares| {
        setting(
            format!("{PREFIX}.shares"),
            "cpu.weight",
            weight(shares).to_string(),
        )
    });
    // An idle cgroup accepts no weight: it has to stop being idle first, and
    // become idle last.
    let (first, last) = match cpu.idle() {
        Some(0) => (idle, weight),
        _ => (weight, idle),
    };
    settings.extend(first);
    settings.extend(last);
    if let Some(burst) = cpu.burst() {
        settings.push(Setting {
            needless_without_file: burst == 0,
            ..setting(format!("{PREFIX}.burst"), BURST, burst.to_string())
        });
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    let value = match (quota, period, &current.cpu_max) {
        (None, None, _) => None,
        (Some(quota), Some(period), _) => Some(("quota", format!("{} {period}", or_max(quota)))),
        (Some(quota), None, Some((_, period))) => {
            Some(("quota", format!("{} {period}", or_max(quota))))
        }
        // The kernel keeps the period.
        (Some(quota), None, None) => Some(("quota", or_max(quota))),
        (None, Some(period), Some((quota, _))) => Some(("period", format!("{quota} {period}"))),
        (None, Some(period), None) => Some(("period", format!("max {period}"))),
    };
    if let Some((name, value)) = value {
        settings.push(setting(format!("{PREFIX}.{name}"), "cpu.max", value));
    }
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            settings.push(setting(
                format!("{PREFIX}.{name}"),
                format!("cpuset.{name}"),
                list,
            ));
        }
    }
}

/// v1 shares (2 to 262144, usually 1024) to a v2 weight (1 to 10000, usually
/// 100).
///
/// A parabola through these three pairs on logarithmic scales, so that the
/// usual values agree exactly and ratios approximately. Values out of range are
/// clamped, as in cgroup v1.
fn weight(shares: u64) -> u64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// A weight for the scheduler BFQ, which keeps the range of v1 (10 to 1000), or
/// else one for the cost model (1 to 10000).
fn io_weight(field: String, device: &str, weight: u16) -> Result<Setting, Error> {
    let weight @ 10..=1000 = u64::from(weight) else {
        return Err(Error::invalid(field, "is not between 10 and 1000"));
    };
    Ok(Setting {
        otherwise: Some((
            "io.weight".to_string(),
            format!("{device} {}", 1 + (weight - 10) * 9999 / 990),
        )),
        ..setting(field, "io.bfq.weight", format!("{device} {weight}"))
    })
}

fn plan_io(io: &LinuxBlockIo, settings: &mut Vec<Setting>) -> Result<(), Error> {
    const PREFIX: &str = "linux.resources.blockIO";
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        settings.push(io_weight(format!("{PREFIX}.weight"), "default", weight)?);
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let field = format!("{PREFIX}.weightDevice[{index}].weight");
            let name = format!("{}:{}", device.major(), device.minor());
            settings.push(io_weight(field, &name, weight)?);
        }
    }
    let throttles: [(&str, &str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
        ("ReadBps", "rbps", io.throttle_read_bps_device()),
        ("WriteBps", "wbps", io.throttle_write_bps_device()),
        ("ReadIOPS", "riops", io.throttle_read_iops_device()),
        ("WriteIOPS", "wiops", io.throttle_write_iops_device()),
    ];
    for (name, key, devices) in throttles {
        for (index, device) in devices.iter().flatten().enumerate() {
            // In cgroup v1 a rate of zero removed the limit.
            let rate = match device.rate() {
                0 => "max".to_string(),
                rate => rate.to_string(),
            };
            settings.push(setting(
                format!("{PREFIX}.throttle{name}Device[{index}].rate"),
                "io.max",
                format!("{}:{} {key}={rate}", device.major(), device.minor()),
            ));
        }
    }
    Ok(())
}

fn plan_rdma(resources: &LinuxResources, settings: &mut Vec<Setting>) -> Result<(), Error> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limit) in devices {
        let field = format!("linux.resources.rdma[{name}]");
        if name.is_empty() || name.contains(|letter: char| letter.is_ascii_whitespace()) {
            return Err(Error::invalid(field, "is not the name of a device"));
        }
        let mut value = name.clone();
        for (key, limit) in [
            ("hca_handle", limit.hca_handles()),
            ("hca_object", limit.hca_objects()),
        ] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {key}={limit}"));
            }
        }
        if value.len() > name.len() {
            settings.push(setting(field, "rdma.max", value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
