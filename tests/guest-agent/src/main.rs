//! Runs in the Debian guest what a test asks for (`machine::Guest` is the other
//! side), over a port between host and guest that carries nothing else.
//!
//! A request is a line with a time limit in seconds and a length, then a shell
//! script of that length. The answer is a line with the exit status and a length,
//! then what the script printed: standard output and error, in their order. A
//! script that takes too long is ended, with the status 124 (timeout(1)).
//!
//! The output goes through a file: what the script leaves running in the
//! background may keep it open.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

/// The port's name, as given to QEMU.
const PORT: &str = "wherry.guest-agent";
/// Where outputs go.
const OUTPUT: &str = "/run/guest-agent.output";

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let port = File::options().read(true).write(true).open(port()?)?;
    let mut requests = BufReader::new(port.try_clone()?);
    let mut answers = port;
    answers.write_all(b"ready\n")?;
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line)? == 0 {
            // The host has not opened its side.
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        let (limit, length) = header(&line)
            .ok_or_else(|| io::Error::other(format!("{line:?} is no request's first line")))?;
        let mut script = vec![0; length];
        requests.read_exact(&mut script)?;
        let status = run(&String::from_utf8_lossy(&script), limit)?;
        let output = fs::read(OUTPUT)?;
        writeln!(answers, "{status} {}", output.len())?;
        answers.write_all(&output)?;
    }
}

/// The device of the port with our name.
fn port() -> io::Result<PathBuf> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == PORT {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(io::Error::other(format!("no port is called {PORT}")))
}

fn header(line: &str) -> Option<(u64, usize)> {
    let (limit, length) = line.trim_end().split_once(' ')?;
    Some((limit.parse().ok()?, length.parse().ok()?))
}

/// The script's exit status, or 128 and the signal that ended it.
fn run(script: &str, limit: u64) -> io::Result<i32> {
    let output = File::create(OUTPUT)?;
    let status = Command::new("timeout")
        .args(["--kill-after=3", &limit.to_string(), "sh", "-c", script])
        .current_dir("/root")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn a_requests_first_line_has_limit_and_length() {
        assert_eq!(header("30 12\n"), Some((30, 12)));
        assert_eq!(header("30\n"), None);
        assert_eq!(header("soon 12\n"), None);
    }
}
