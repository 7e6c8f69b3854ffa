//! One container at a time, each runtime in turn.

use crate::bundle::Bundles;
use crate::command::Runtime;
use crate::floor;
use crate::in_process::Library;
use anyhow::{Context, Result, ensure};
use nix::sys::wait::waitpid;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

/// Milliseconds of each run, by runtime.
pub type Samples = BTreeMap<String, Vec<f64>>;

/// Runs before the ones that count: caches, seccomp programs.
const WARM_UP: usize = 3;
/// Peak memory differs little from run to run.
const PEAKS: usize = 5;

/// This program, whatever is mounted over the folder that it is from.
const OURSELVES: &str = "/proc/self/exe";

/// The names of what is not a command line.
pub const FLOOR: &str = "floor";
/// The library.
pub const INIT: &str = "init";

/// Create, start, exit and delete of `/bin/true`, by one call (`run`); and the
/// runtimes that cannot do it, with their reasons.
pub fn starts(
    bundles: &Bundles,
    library: &Library,
    runtimes: &[Runtime],
    runs: usize,
) -> Result<(Samples, BTreeMap<String, String>)> {
    eprintln!("create, start, exit and delete");
    let mut samples = Samples::new();
    let mut failures = BTreeMap::new();
    for run in 0..runs + WARM_UP {
        let mut keep = |name: &str, took: Result<f64>| match took {
            Ok(took) if run >= WARM_UP => samples.entry(name.to_owned()).or_default().push(took),
            Ok(_) => {}
            Err(error) => {
                failures
                    .entry(name.to_owned())
                    .or_insert(format!("{error:#}"));
            }
        };
        keep(
            FLOOR,
            floor::start(bundles).map(|took| took.as_secs_f64() * 1e3),
        );
        keep(INIT, library.start().map(|took| took.as_secs_f64() * 1e3));
        for runtime in runtimes {
            keep(&runtime.name, run_once(bundles, runtime));
        }
    }
    Ok((samples, failures))
}

fn run_once(bundles: &Bundles, runtime: &Runtime) -> Result<f64> {
    let id = format!("{}-run", runtime.name);
    let bundle = bundles.bundle(&id, &["/bin/true"])?.display().to_string();
    let begin = Instant::now();
    runtime.run(&["run", "--bundle", &bundle, &id])?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// The same in three calls, as engines do it: create, start, delete.
pub fn lifecycles(bundles: &Bundles, runtimes: &[Runtime], runs: usize) -> Result<Samples> {
    eprintln!("create, start and delete by a call each");
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut samples = Samples::new();
    for run in 0..runs + WARM_UP {
        for runtime in runtimes {
            let begin = Instant::now();
            let id = format!("{}-engine", runtime.name);
            let done = runtime.start(bundles, &id, &["/bin/true"]).and_then(|pid| {
                waitpid(pid, None)?;
                runtime.delete(&id)
            });
            if done.is_ok() && run >= WARM_UP {
                let took = begin.elapsed().as_secs_f64() * 1e3;
                samples.entry(runtime.name.clone()).or_default().push(took);
            }
        }
    }
    Ok(samples)
}

/// `/bin/true` in a running container.
pub fn execs(
    bundles: &Bundles,
    library: &Library,
    runtimes: &[Runtime],
    runs: usize,
) -> Result<Samples> {
    eprintln!("exec into a running container");
    let ours = library.start_long("exec")?;
    ours.wait_executed()?;
    let mut running = Vec::new();
    for runtime in runtimes {
        let id = format!("{}-exec", runtime.name);
        match runtime.start(bundles, &id, &["/bin/sleep", "100000"]) {
            Ok(pid) => running.push((runtime, id, pid)),
            Err(error) => eprintln!("no exec is measured: {error:#}"),
        }
    }
    let mut samples = Samples::new();
    for run in 0..runs + WARM_UP {
        let mut keep = |name: &str, took: f64| {
            if run >= WARM_UP {
                samples.entry(name.to_owned()).or_default().push(took);
            }
        };
        keep(INIT, library.exec(&ours)?.as_secs_f64() * 1e3);
        for (runtime, id, _) in &running {
            let begin = Instant::now();
            if runtime.run(&["exec", id, "/bin/true"]).is_ok() {
                keep(&runtime.name, begin.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    ours.kill()?;
    ours.remove()?;
    for (runtime, id, pid) in running {
        runtime.end(&id, pid)?;
    }
    Ok(samples)
}

/// The most memory that one of a runtime's processes had, in KiB: the whole tree
/// of a `run`, the container's process included before it executes its program.
pub fn peaks(bundles: &Bundles, runtimes: &[Runtime]) -> Result<BTreeMap<String, u64>> {
    eprintln!("peak memory");
    let mut peaks = BTreeMap::new();
    let folder = bundles.folder().display().to_string();
    let once = [OURSELVES, "once", folder.as_str()].map(str::to_owned);
    peaks.insert(INIT.to_owned(), peak(&once)?);
    for runtime in runtimes {
        let id = format!("{}-run", runtime.name);
        let bundle = bundles.bundle(&id, &["/bin/true"])?.display().to_string();
        if let Ok(kib) = peak(&runtime.words(&["run", "--bundle", &bundle, &id])) {
            peaks.insert(runtime.name.clone(), kib);
        }
    }
    Ok(peaks)
}

fn peak(words: &[String]) -> Result<u64> {
    let mut most = 0;
    for _ in 0..PEAKS {
        let output = Command::new(OURSELVES)
            .args(["spawn", "--"])
            .args(words)
            .output()?;
        ensure!(
            output.status.success(),
            "{}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let kib: u64 = text.trim().parse().context("read a peak")?;
        most = most.max(kib);
    }
    Ok(most)
}
