//! Standard output.

use std::io::{IsTerminal, Write};

use crate::failure::Failure;

/// Writes to standard output. A reader that has gone away (`| head`) ends the
/// command quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    match write_stdout(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| Failure::io("standard output", &error)),
    }
}

fn write_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes one JSON value to standard output: indented for a person at a
/// terminal, on one line otherwise.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    let json = json.map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
    print(&(json + "\n"))
}
