//! Many containers at once, and torn down at once.

use crate::bundle::Bundles;
use crate::command::Runtime;
use crate::in_process::{Library, Running};
use crate::single::INIT;
use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, wait};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;

/// What a program in these containers does.
const STAYS: [&str; 2] = ["/bin/sleep", "100000"];
/// Of a running container the library's caller holds this many at most.
const DESCRIPTORS_EACH: u64 = 8;

/// A fifth of the containers, and all of them: the cost of each shall not grow.
pub fn all(
    bundles: &Bundles,
    library: &Library,
    runtimes: &[Runtime],
    count: usize,
) -> Result<Vec<Value>> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = (count as u64) * DESCRIPTORS_EACH + 64;
    setrlimit(Resource::RLIMIT_NOFILE, needed.max(soft).min(hard), hard)
        .context("raise the limit of open files")?;
    let mut results = Vec::new();
    for count in [count.div_ceil(5), count] {
        eprintln!("{count} at once");
        results.push(by_library(library, count)?);
        // runc and youki tell nothing new here, and take minutes.
        for runtime in runtimes
            .iter()
            .filter(|runtime| ["wherry-runtime", "crun"].contains(&runtime.name.as_str()))
        {
            results.push(by_command(bundles, runtime, count)?);
        }
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(results)
}

fn by_library(library: &Library, count: usize) -> Result<Value> {
    let begin = Instant::now();
    let started: Vec<Result<Running>> = (0..count)
        .map(|number| library.start_long(&format!("burst-{number}")))
        .collect();
    let mut failures = started.iter().filter(|one| one.is_err()).count();
    let running: Vec<Running> = started.into_iter().flatten().collect();
    for one in &running {
        failures += usize::from(one.wait_executed().is_err());
    }
    let start = begin.elapsed();
    let begin = Instant::now();
    for one in &running {
        one.kill()?;
    }
    for one in &running {
        failures += usize::from(one.remove().is_err());
    }
    Ok(json!({
        "runtime": INIT,
        "count": count,
        "failures": failures,
        "start_ms": start.as_secs_f64() * 1e3,
        "stop_ms": begin.elapsed().as_secs_f64() * 1e3,
    }))
}

fn by_command(bundles: &Bundles, runtime: &Runtime, count: usize) -> Result<Value> {
    let ids: Vec<String> = (0..count)
        .map(|number| format!("{}-burst-{number}", runtime.name))
        .collect();
    let mut starts = Vec::new();
    for id in &ids {
        let bundle = bundles.bundle(id, &STAYS)?.display().to_string();
        starts.push(["run", "--detach", "--bundle", &bundle, id].map(str::to_owned));
    }
    let begin = Instant::now();
    let mut failures = at_once(runtime, &starts)?;
    let start = begin.elapsed();
    let deletes: Vec<_> = ids
        .iter()
        .map(|id| ["delete", "--force", id].map(str::to_owned))
        .collect();
    let begin = Instant::now();
    failures += at_once(runtime, &deletes)?;
    Ok(json!({
        "runtime": runtime.name,
        "count": count,
        "failures": failures,
        "start_ms": start.as_secs_f64() * 1e3,
        "stop_ms": begin.elapsed().as_secs_f64() * 1e3,
    }))
}

/// Runs all of these at the same time, and returns how many failed. Containers'
/// processes are reaped on the way: this process is their reaper.
fn at_once<const N: usize>(runtime: &Runtime, calls: &[[String; N]]) -> Result<usize> {
    let mut calling = BTreeSet::new();
    for call in calls {
        let call: Vec<&str> = call.iter().map(String::as_str).collect();
        calling.insert(runtime.begin(&call)?.id().cast_signed());
    }
    let mut failures = 0;
    while !calling.is_empty() {
        let status = wait()?;
        if let Some(pid) = status.pid()
            && calling.remove(&pid.as_raw())
        {
            failures += usize::from(!matches!(status, WaitStatus::Exited(_, 0)));
        }
    }
    Ok(failures)
}
