//! Limits, from the specification's fields (which are those of cgroup v1) to
//! the files of cgroup v2. Pure.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::Error;

/// The limit of swap, which is there only where the kernel has swap.
pub(super) const SWAP: &str = "memory.swap.max";

/// A value to be written, line by line, to a file of the cgroup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The field that asks for it.
    pub field: String,
    pub file: String,
    pub value: String,
}

fn setting(field: impl Into<String>, file: impl Into<String>, value: impl Into<String>) -> Setting {
    Setting {
        field: field.into(),
        file: file.into(),
        value: value.into(),
    }
}

/// The settings, in the order in which they are to be written.
pub(super) fn plan(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut settings)?;
    }
    if let Some(pids) = resources.pids() {
        settings.push(setting(
            "linux.resources.pids.limit",
            "pids.max",
            // As the other runtimes: zero, too, is no limit.
            or_max(pids.limit(), pids.limit() <= 0),
        ));
    }
    if let Some(io) = resources.block_io() {
        plan_io(io, &mut settings)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let field = "linux.resources.hugepageLimits";
        let size = limit.page_size();
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::invalid(field, format!("\"{size}\" is no page size")));
        }
        settings.push(setting(
            format!("{field}[{size}]"),
            format!("hugetlb.{size}.max"),
            or_max(limit.limit(), limit.limit() < 0),
        ));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let field = format!("linux.resources.unified[{file}]");
        let structure = file.starts_with("cgroup.") && !file.starts_with("cgroup.max.");
        if file.contains('/') || !file.contains('.') || structure {
            return Err(Error::invalid(field, "is no limit of a cgroup"));
        }
        settings.push(setting(field, file, value));
    }
    Ok(settings)
}

fn or_max(value: i64, unlimited: bool) -> String {
    if unlimited {
        "max".to_string()
    } else {
        value.to_string()
    }
}

fn plan_memory(memory: &LinuxMemory, settings: &mut Vec<Setting>) -> Result<(), Error> {
    let bytes = |field: &str, value: i64| match value {
        -1 => Ok("max".to_string()),
        1.. => Ok(value.to_string()),
        _ => Err(Error::invalid(
            field,
            "is neither a size nor -1 for no limit",
        )),
    };
    if let Some(limit) = memory.limit() {
        let field = "linux.resources.memory.limit";
        settings.push(setting(field, "memory.max", bytes(field, limit)?));
    }
    if let Some(swap) = memory.swap() {
        // The field counts memory and swap together, cgroup v2 swap alone.
        let field = "linux.resources.memory.swap";
        let value = match (swap, memory.limit()) {
            (-1, _) => "max".to_string(),
            (swap, Some(limit)) if limit > 0 && swap >= limit => (swap - limit).to_string(),
            _ => {
                return Err(Error::invalid(
                    field,
                    "is -1, or at least linux.resources.memory.limit, which must be set",
                ));
            }
        };
        settings.push(setting(field, SWAP, value));
    }
    if let Some(reservation) = memory.reservation() {
        let field = "linux.resources.memory.reservation";
        settings.push(setting(field, "memory.low", bytes(field, reservation)?));
    }
    Ok(())
}

fn plan_cpu(cpu: &LinuxCpu, settings: &mut Vec<Setting>) -> Result<(), Error> {
    const PREFIX: &str = "linux.resources.cpu";
    if let Some(shares) = cpu.shares() {
        let field = format!("{PREFIX}.shares");
        if !(2..=262_144).contains(&shares) {
            return Err(Error::invalid(field, "is not between 2 and 262144"));
        }
        settings.push(setting(field, "cpu.weight", weight(shares).to_string()));
    }
    if cpu.quota().is_some() || cpu.period().is_some() {
        let quota = cpu.quota().unwrap_or(-1);
        settings.push(setting(
            format!("{PREFIX}.quota"),
            "cpu.max",
            format!(
                "{} {}",
                or_max(quota, quota <= 0),
                // The kernel's own default.
                cpu.period().unwrap_or(100_000)
            ),
        ));
    }
    if let Some(burst) = cpu.burst() {
        settings.push(setting(
            format!("{PREFIX}.burst"),
            "cpu.max.burst",
            burst.to_string(),
        ));
    }
    if let Some(idle) = cpu.idle() {
        settings.push(setting(
            format!("{PREFIX}.idle"),
            "cpu.idle",
            idle.to_string(),
        ));
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
    Ok(())
}

/// v1 shares (2 to 262144, usually 1024) to a v2 weight (1 to 10000, usually 100).
///
/// A parabola through these three pairs on logarithmic scales, so that the two
/// usual values, and only nearly the ratios, agree.
fn weight(shares: u64) -> u64 {
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

fn plan_io(io: &LinuxBlockIo, settings: &mut Vec<Setting>) -> Result<(), Error> {
    const PREFIX: &str = "linux.resources.blockIO";
    // v1 weights are 10 to 1000, v2's 1 to 10000.
    let weight = |field: &str, weight: u16| match u64::from(weight) {
        weight @ 10..=1000 => Ok(1 + (weight - 10) * 9999 / 990),
        _ => Err(Error::invalid(field, "is not between 10 and 1000")),
    };
    if let Some(value) = io.weight() {
        let field = format!("{PREFIX}.weight");
        let value = format!("default {}", weight(&field, value)?);
        settings.push(setting(field, "io.weight", value));
    }
    for device in io.weight_device().iter().flatten() {
        let field = format!("{PREFIX}.weightDevice");
        let Some(value) = device.weight() else {
            return Err(Error::invalid(field, "names no weight"));
        };
        let value = format!(
            "{}:{} {}",
            device.major(),
            device.minor(),
            weight(&field, value)?
        );
        settings.push(setting(field, "io.weight", value));
    }
    let throttles: [(&str, &str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
        ("ReadBps", "rbps", io.throttle_read_bps_device()),
        ("WriteBps", "wbps", io.throttle_write_bps_device()),
        ("ReadIOPS", "riops", io.throttle_read_iops_device()),
        ("WriteIOPS", "wiops", io.throttle_write_iops_device()),
    ];
    for (name, key, devices) in throttles {
        for device in devices.iter().flatten() {
            settings.push(setting(
                format!("{PREFIX}.throttle{name}Device"),
                "io.max",
                format!(
                    "{}:{} {key}={}",
                    device.major(),
                    device.minor(),
                    device.rate()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPids};

    use super::*;

    fn written(resources: &LinuxResources) -> Vec<(String, String)> {
        let settings = plan(resources).unwrap();
        settings
            .into_iter()
            .map(|setting| (setting.file, setting.value))
            .collect()
    }

    fn pair(file: &str, value: &str) -> (String, String) {
        (file.to_string(), value.to_string())
    }

    #[test]
    fn swap_is_counted_without_memory() {
        let mut resources = LinuxResources::default();
        resources.set_memory(Some(
            LinuxMemoryBuilder::default()
                .limit(32)
                .swap(48)
                .reservation(-1)
                .build()
                .unwrap(),
        ));
        assert_eq!(
            written(&resources),
            [
                pair("memory.max", "32"),
                pair("memory.swap.max", "16"),
                pair("memory.low", "max")
            ]
        );
    }

    #[test]
    fn no_limit_is_written_as_max() {
        let mut resources = LinuxResources::default();
        resources
            .set_cpu(Some(LinuxCpuBuilder::default().quota(-1).build().unwrap()))
            .set_pids(Some(LinuxPids::default()));
        assert_eq!(
            written(&resources),
            [pair("cpu.max", "max 100000"), pair("pids.max", "max")]
        );
    }

    #[test]
    fn the_usual_shares_are_the_usual_weight() {
        for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight(shares), expected);
        }
    }

    #[test]
    fn what_is_no_limit_is_refused_by_name() {
        for key in ["cgroup.procs", "../memory.max", "memory"] {
            let mut resources = LinuxResources::default();
            resources.set_unified(Some(HashMap::from([(key.into(), "1".into())])));
            let text = plan(&resources).unwrap_err().to_string();
            assert!(text.contains(key), "{text}");
        }
        for memory in [
            LinuxMemoryBuilder::default().limit(0),
            LinuxMemoryBuilder::default().swap(5),
            LinuxMemoryBuilder::default().limit(5).swap(4),
        ] {
            let mut resources = LinuxResources::default();
            resources.set_memory(Some(memory.build().unwrap()));
            let text = plan(&resources).unwrap_err().to_string();
            assert!(text.starts_with("linux.resources.memory."), "{text}");
        }
    }
}
