//! runc's command line: run, and what applies to all commands.

use std::fs;

use crate::bench::{Bench, until};
use crate::clause::{Check, Clause, Try, command_line, demand};
use crate::probe::Step;

pub const CLAUSES: &[Clause] = &[
    command_line(
        "command line: create",
        "--pid-file contains the pid, without a newline",
        &[],
        pid_file,
    ),
    command_line(
        "command line: run",
        "run creates, starts, waits, deletes and returns the program's exit code",
        &[],
        run_returns_the_code,
    ),
    command_line(
        "command line: run",
        "run returns 128 plus the signal's number for a program that a signal killed",
        &[],
        run_returns_the_signal,
    ),
    command_line(
        "command line: run",
        "run --detach returns while the program is running",
        &[],
        run_detached,
    ),
    command_line(
        "command line: run",
        "run --keep leaves a stopped container",
        &[],
        run_kept,
    ),
    command_line(
        "command line",
        "an unknown command and an unknown option are errors",
        &[],
        unknown_words,
    ),
    command_line(
        "command line",
        "--log FILE --log-format json writes errors there as JSON with level and msg",
        &[],
        json_log,
    ),
    command_line(
        "command line",
        "--version names the runtime and the specification's version",
        &[],
        version,
    ),
];

fn pid_file(bench: &Bench) -> Check {
    let bundle = bench.bundle()?;
    bundle.save()?;
    let path = bench.path("pid");
    bench.must(&[
        "create",
        "--bundle",
        &bundle.folder().to_string_lossy(),
        "--pid-file",
        &path.to_string_lossy(),
        &bench.id(),
    ])?;
    let text = fs::read_to_string(path)?;
    demand!(text.parse::<u32>().is_ok(), "it holds {text:?}");
    Ok(())
}

fn run_command(
    bench: &Bench,
    steps: &[Step],
    options: &[&str],
) -> Try<(String, crate::bench::Output)> {
    let mut bundle = bench.bundle()?;
    bundle.steps(steps);
    bundle.save()?;
    let folder = bundle.folder().to_string_lossy().into_owned();
    let id = bench.id();
    let mut words = vec!["run", "--bundle", folder.as_str()];
    words.extend(options);
    words.push(&id);
    let output = bench.call(&words)?;
    Ok((id, output))
}

fn run_returns_the_code(bench: &Bench) -> Check {
    let (id, output) = run_command(bench, &[Step::World, Step::Exit(23)], &[])?;
    demand!(
        output.code == Some(23),
        "it returned {:?}: {}",
        output.code,
        output.stderr
    );
    demand!(
        crate::probe::lines(&output.stdout).len() == 1,
        "its output is {:?}",
        output.stdout
    );
    bench.refused(&["state", &id])?;
    Ok(())
}

fn run_returns_the_signal(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Create("/ready".to_owned()), Step::Sleep(60_000)]);
    bundle.save()?;
    let id = bench.id();
    let folder = bundle.folder().to_string_lossy().into_owned();
    let out = fs::File::create(bench.path("out"))?;
    let mut running = bench
        .command(&["run", "--bundle", &folder, &id])
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    until("the program runs", || {
        Ok(bundle.root().join("ready").exists())
    })?;
    bench.must(&["kill", &id, "KILL"])?;
    let status = running.wait()?;
    demand!(status.code() == Some(137), "it returned {status}");
    Ok(())
}

fn run_detached(bench: &Bench) -> Check {
    let (id, output) = run_command(bench, &[Step::Sleep(60_000)], &["--detach"])?;
    demand!(output.worked(), "it failed: {}", output.stderr);
    let state: serde_json::Value = serde_json::from_str(&bench.must(&["state", &id])?.stdout)?;
    demand!(state["status"] == "running", "the state is {state}");
    Ok(())
}

fn run_kept(bench: &Bench) -> Check {
    let (id, output) = run_command(bench, &[Step::Exit(3)], &["--keep"])?;
    demand!(
        output.code == Some(3),
        "it returned {:?}: {}",
        output.code,
        output.stderr
    );
    let state: serde_json::Value = serde_json::from_str(&bench.must(&["state", &id])?.stdout)?;
    demand!(state["status"] == "stopped", "the state is {state}");
    Ok(())
}

fn unknown_words(bench: &Bench) -> Check {
    bench.refused(&["nonsense"])?;
    bench.refused(&["state", "--nonsense", "x"])?;
    Ok(())
}

fn json_log(bench: &Bench) -> Check {
    let log = bench.path("log");
    let path = log.to_string_lossy();
    bench.refused(&[
        "--log",
        &path,
        "--log-format",
        "json",
        "start",
        "conformance-nobody",
    ])?;
    let text = fs::read_to_string(&log)?;
    let errors = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["level"] == "error" && line["msg"].is_string())
        .count();
    demand!(errors > 0, "the log holds {text:?}");
    Ok(())
}

fn version(bench: &Bench) -> Check {
    let output = bench.must(&["--version"])?;
    demand!(
        output.stdout.contains("version") && output.stdout.contains("spec: 1."),
        "it printed {:?}",
        output.stdout
    );
    Ok(())
}
