//! Running a stage's programs: quiet, logged, and clear when one fails.

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// How many of a failed program's last lines are shown.
const SHOWN: usize = 25;

/// Runs `command`, adds what it prints to `log`, and passes each line to `line`.
/// The error of one that fails shows its last lines and names the log.
pub fn run(command: &mut Command, log: &Path, mut line: impl FnMut(&str)) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut saved = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {}", log.display()))?;
    writeln!(saved, "\n$ {command:?}")?;

    // One pipe for both, so that their lines stay in order.
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("make a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    // The command holds the pipe's write end, which has to close for the end
    // of the output to show.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut last = VecDeque::with_capacity(SHOWN);
    for text in BufReader::new(File::from(reader)).split(b'\n') {
        let text = text.with_context(|| format!("read from {name}"))?;
        let text = String::from_utf8_lossy(&text);
        writeln!(saved, "{text}")?;
        line(&text);
        if last.len() == SHOWN {
            last.pop_front();
        }
        last.push_back(text.into_owned());
    }
    let status = child.wait().with_context(|| format!("wait for {name}"))?;
    if !status.success() {
        bail!(
            "{name} failed ({status}); its last lines, all of them in {}:\n  {}",
            log.display(),
            last.make_contiguous().join("\n  ")
        );
    }
    Ok(())
}

/// Runs `command` and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {command:?}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no text"))
}
