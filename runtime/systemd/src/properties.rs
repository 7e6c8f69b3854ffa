//! Limits as properties of a unit. Pure.
//!
//! Limits for which systemd has no property, or one with other units, are only
//! in the cgroup. Device rules too: the runtime's own program decides on them,
//! and systemd removes only those that it has attached.

use runtime::cgroup::Setting;
use zbus::Variant;

/// The kernel's period of a CPU quota, microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

pub(crate) type Property = (&'static str, Variant<'static>);

/// The properties for settings of a cgroup.
pub(crate) fn of(settings: &[Setting]) -> Vec<Property> {
    settings
        .iter()
        .flat_map(|setting| {
            let (file, value) = match &setting.otherwise {
                Some((file, value)) => (file, value),
                None => (&setting.file, &setting.value),
            };
            convert(file, value.trim()).unwrap_or_default()
        })
        .collect()
}

/// `None` if systemd has nothing for it, or would refuse the value, which the
/// kernel then judges.
fn convert(file: &str, value: &str) -> Option<Vec<Property>> {
    let number = || match value {
        "max" => Some(u64::MAX),
        value => value.parse().ok(),
    };
    let one = |name, value: u64| Some(vec![(name, Variant::from(value))]);
    match file {
        "memory.max" => one("MemoryMax", number()?),
        "memory.high" => one("MemoryHigh", number()?),
        "memory.low" => one("MemoryLow", number()?),
        "memory.min" => one("MemoryMin", number()?),
        "memory.swap.max" => one("MemorySwapMax", number()?),
        "pids.max" => one("TasksMax", number()?),
        "cpu.weight" => one("CPUWeight", number()?),
        "io.weight" => one("IOWeight", value.strip_prefix("default ")?.parse().ok()?),
        "cpu.max" => quota(value),
        "cpuset.cpus" => Some(vec![("AllowedCPUs", Variant::from(bits(value)?))]),
        "cpuset.mems" => Some(vec![("AllowedMemoryNodes", Variant::from(bits(value)?))]),
        _ => None,
    }
}

/// systemd has microseconds per second, in whole per cents: rounded up, so that
/// the cgroup below can have the exact value.
fn quota(value: &str) -> Option<Vec<Property>> {
    const PER_CENT: u64 = 10_000;
    let mut words = value.split_ascii_whitespace();
    let quota = words.next()?;
    let period = match words.next() {
        Some(word) => word.parse().ok()?,
        None => DEFAULT_PERIOD,
    };
    let per_second = match quota {
        "max" => u64::MAX,
        quota => {
            let quota: u64 = quota.parse().ok()?;
            let exact = quota.checked_mul(1_000_000)?.checked_div(period)?;
            exact.div_ceil(PER_CENT) * PER_CENT
        }
    };
    Some(vec![
        ("CPUQuotaPeriodUSec", Variant::from(period)),
        ("CPUQuotaPerSecUSec", Variant::from(per_second)),
    ])
}

/// A list like `0-3,7` as a bit each, the lowest first.
fn bits(list: &str) -> Option<Vec<u8>> {
    // More CPUs than any kernel can be built for.
    const MOST: usize = 8192;
    let mut bits = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for number in first..=last {
            if bits.len() <= number / 8 {
                bits.resize(number / 8 + 1, 0);
            }
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_resources(value: serde_json::Value) -> Vec<Property> {
        let resources = serde_json::from_value(value).unwrap();
        of(&runtime::cgroup::settings(&resources).unwrap())
    }

    fn number(name: &'static str, value: u64) -> Property {
        (name, Variant::from(value))
    }

    #[test]
    fn limits_that_systemd_knows_are_properties() {
        let resources = serde_json::json!({
            "memory": { "limit": 1000, "swap": 1500, "reservation": 500 },
            "cpu": { "shares": 1024, "quota": 12_345, "period": 50_000, "cpus": "0-1,9", "mems": "0" },
            "pids": { "limit": 7 },
            "blockIO": { "weight": 10 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 1 }],
            "unified": { "memory.high": "800", "memory.oom.group": "1" },
        });
        assert_eq!(
            of_resources(resources),
            [
                number("MemorySwapMax", 500),
                number("MemoryMax", 1000),
                number("MemoryLow", 500),
                number("CPUWeight", 100),
                number("CPUQuotaPeriodUSec", 50_000),
                // 24.69 per cent.
                number("CPUQuotaPerSecUSec", 250_000),
                ("AllowedCPUs", Variant::from(vec![3_u8, 2])),
                ("AllowedMemoryNodes", Variant::from(vec![1_u8])),
                number("TasksMax", 7),
                number("IOWeight", 1),
                number("MemoryHigh", 800),
            ]
        );
    }

    #[test]
    fn no_limit_is_infinity() {
        let resources = serde_json::json!({
            "memory": { "limit": -1 },
            "cpu": { "quota": -1 },
            "pids": { "limit": -1 },
        });
        assert_eq!(
            of_resources(resources),
            [
                number("MemorySwapMax", u64::MAX),
                number("MemoryMax", u64::MAX),
                number("CPUQuotaPeriodUSec", 100_000),
                number("CPUQuotaPerSecUSec", u64::MAX),
                number("TasksMax", u64::MAX),
            ]
        );
    }

    #[test]
    fn what_systemd_would_refuse_is_left_to_the_kernel() {
        let resources = serde_json::json!({
            "cpu": { "cpus": "3-1" },
            "unified": { "cpu.max": "x", "pids.max": "many" },
        });
        assert_eq!(of_resources(resources), []);
    }
}
