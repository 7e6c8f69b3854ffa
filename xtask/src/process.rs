//! Running a stage's programs: quiet, logged, and clear when one fails.

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// How many of a failed program's last lines are shown.
const SHOWN: usize = 40;

/// Runs `command`, adds what it prints to `log`, and passes each line to `line`.
/// The error of one that fails shows its last lines and names the log.
pub fn run(command: &mut Command, log: &Path, mut line: impl FnMut(&str)) -> Result<()> {
    watch(command, log, |text| {
        line(text);
        true
    })
}

/// The same, where `line` also says whether a line is worth keeping. Lines end at
/// carriage returns too: bars are written with them.
pub fn watch(command: &mut Command, log: &Path, mut line: impl FnMut(&str) -> bool) -> Result<()> {
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

    let mut last = VecDeque::with_capacity(SHOWN);
    let status = follow(command, |text| {
        if line(&text) {
            writeln!(saved, "{text}")?;
            if last.len() == SHOWN {
                last.pop_front();
            }
            last.push_back(text);
        }
        Ok(())
    })?;
    if !status.success() {
        bail!(
            "{name} failed ({status}); its last lines, all of them in {}:\n  {}",
            log.display(),
            last.make_contiguous().join("\n  ")
        );
    }
    Ok(())
}

/// Runs `command` and passes each line that it prints to `line`.
pub fn follow(
    command: &mut Command,
    mut line: impl FnMut(String) -> io::Result<()>,
) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
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
    for text in lines(BufReader::new(File::from(reader))) {
        let text = text.with_context(|| format!("read from {name}"))?;
        line(text).with_context(|| format!("pass on what {name} prints"))?;
    }
    child.wait().with_context(|| format!("wait for {name}"))
}

/// Lines that end with a newline, a carriage return, or both.
fn lines(mut reader: impl BufRead) -> impl Iterator<Item = io::Result<String>> {
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        loop {
            let available = match reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Some(Err(error)),
            };
            if available.is_empty() {
                return (!line.is_empty()).then(|| Ok(take(&mut line)));
            }
            let end = available.iter().position(|byte| b"\r\n".contains(byte));
            line.extend_from_slice(&available[..end.unwrap_or(available.len())]);
            let used = end.map_or(available.len(), |end| end + 1);
            let newline = end.is_some_and(|end| available[end] == b'\n');
            reader.consume(used);
            // A bar's last return comes before the line that replaces it.
            if newline || (end.is_some() && !line.is_empty()) {
                return Some(Ok(take(&mut line)));
            }
        }
    })
}

fn take(line: &mut Vec<u8>) -> String {
    let text = String::from_utf8_lossy(line).into_owned();
    line.clear();
    text
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

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn a_bar_that_is_written_over_gives_a_line_each_time() {
        let text = b"Compiling a\n\rBuilding 1/2\rBuilding 2/2\r\nlast";
        let lines: Vec<String> = lines(&text[..]).map(Result::unwrap).collect();
        assert_eq!(
            lines,
            ["Compiling a", "Building 1/2", "Building 2/2", "", "last"]
        );
    }
}
