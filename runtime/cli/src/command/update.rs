//! `update`.

use std::fs::File;
use std::io::stdin;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::arguments::Update;
use crate::bundle::read_bounded;
use crate::state::{Container, Status};
use crate::store::{NoSuchContainer, Store};

pub fn run(store: &Store, options: &Update) -> Result<()> {
    let Some(_lock) = store.folder(&options.id).lock()? else {
        return Err(NoSuchContainer(options.id.clone()).into());
    };
    let container = Container::load(store, &options.id)?;
    if container.status()? == Status::Stopped {
        bail!("container not running");
    }
    let resources = match options.resources.as_deref() {
        Some(path) => read(path)?,
        None => {
            let value = by_options(options)?;
            serde_json::from_value(value).context("the options")?
        }
    };
    let state = &container.state;
    let schemas = [&options.l3_cache_schema, &options.mem_bw_schema];
    let lines: Vec<String> = schemas.into_iter().flatten().cloned().collect();
    if !lines.is_empty() {
        let options = "--l3-cache-schema, --mem-bw-schema";
        state.resctrl.update(&lines).context(options)?;
    }
    match &state.cgroup {
        Some(place) => place.update(&state.id, &container.cgroup()?, &resources),
        None => bail!("container {} has no cgroup", state.id),
    }
}

fn read(path: &Path) -> Result<LinuxResources> {
    let text = if path == Path::new("-") {
        read_bounded(stdin()).context("read the resources")?
    } else {
        File::open(path)
            .and_then(read_bounded)
            .with_context(|| format!("read {}", path.display()))?
    };
    serde_json::from_slice(&text).context("parse the resources")
}

/// `linux.resources` from the individual options.
fn by_options(options: &Update) -> Result<Value> {
    let mut all = Map::new();
    let mut set = |object: &str, field: &str, value: Option<Value>| {
        if let Some(value) = value {
            let entry = all.entry(object).or_insert_with(|| json!({}));
            entry[field] = value;
        }
    };
    let bytes = |option: &str, text: &Option<String>| {
        text.as_deref()
            .map(|text| size(text).ok_or_else(|| anyhow!("--{option}: {text:?} is not a size")))
            .transpose()
            .map(|size| size.map(|size| json!(size)))
    };
    set(
        "blockIO",
        "weight",
        options.blkio_weight.map(|value| json!(value)),
    );
    set(
        "cpu",
        "period",
        options.cpu_period.map(|value| json!(value)),
    );
    set("cpu", "quota", options.cpu_quota.map(|value| json!(value)));
    set("cpu", "burst", options.cpu_burst.map(|value| json!(value)));
    set(
        "cpu",
        "realtimePeriod",
        options.cpu_rt_period.map(|value| json!(value)),
    );
    set(
        "cpu",
        "realtimeRuntime",
        options.cpu_rt_runtime.map(|value| json!(value)),
    );
    set("cpu", "shares", options.cpu_share.map(|value| json!(value)));
    set("cpu", "idle", options.cpu_idle.map(|value| json!(value)));
    set(
        "cpu",
        "cpus",
        options.cpuset_cpus.as_ref().map(|value| json!(value)),
    );
    set(
        "cpu",
        "mems",
        options.cpuset_mems.as_ref().map(|value| json!(value)),
    );
    set("memory", "limit", bytes("memory", &options.memory)?);
    set(
        "memory",
        "reservation",
        bytes("memory-reservation", &options.memory_reservation)?,
    );
    set(
        "memory",
        "swap",
        bytes("memory-swap", &options.memory_swap)?,
    );
    set(
        "memory",
        "kernel",
        bytes("kernel-memory", &options.kernel_memory)?,
    );
    set(
        "memory",
        "kernelTCP",
        bytes("kernel-memory-tcp", &options.kernel_memory_tcp)?,
    );
    set(
        "pids",
        "limit",
        options.pids_limit.map(|value| json!(value)),
    );
    Ok(Value::Object(all))
}

/// Bytes as docker writes them: `-1`, `1024`, `32m`, `1.5g`, `1GiB`.
fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let prefix = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let power = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1024_i64.pow(power);
    match number.parse::<i64>() {
        Ok(number) => number.checked_mul(factor),
        Err(_) => {
            let number: f64 = number.parse().ok()?;
            Some((number * factor as f64) as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("32m", Some(32 << 20)),
            ("32MB", Some(32 << 20)),
            ("1GiB", Some(1 << 30)),
            ("1.5k", Some(1536)),
            ("m", None),
            ("1x", None),
            ("-2", None),
            ("9000000000g", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn options_become_the_fields_of_the_specification() {
        let line = "wherry-runtime update --memory 32m --cpu-share 512 --pids-limit 9 box";
        let Command::Update(update) = Arguments::parse_from(line.split(' ')).command else {
            panic!("another command");
        };
        assert_eq!(
            by_options(&update).unwrap(),
            json!({
                "memory": { "limit": 33_554_432 },
                "cpu": { "shares": 512 },
                "pids": { "limit": 9 },
            })
        );
    }
}
