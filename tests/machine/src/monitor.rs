//! QEMU's machine protocol (QMP), as much of it as driving a machine needs.

use crate::Error;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No command that is used here takes QEMU longer, a loaded host included.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection on which commands have been enabled.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).map_err(Error::io("connect to", socket))?;
        stream
            .set_read_timeout(Some(LIMIT))
            .map_err(Error::io("set a time limit on", socket))?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        monitor.read("greeting")?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns its result; events in between are passed over.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{request}")
            .map_err(|error| refused(command, error.to_string()))?;
        loop {
            let mut answer = self.read(command)?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if answer.get("error").is_some() {
                return Err(refused(command, answer.to_string()));
            }
        }
    }

    fn read(&mut self, command: &str) -> Result<Value, Error> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(refused(command, "end of stream".to_owned())),
            Ok(_) => serde_json::from_str(&line).map_err(|_| refused(command, line)),
            Err(error) => Err(refused(command, error.to_string())),
        }
    }
}

fn refused(command: &str, answer: String) -> Error {
    Error::Monitor {
        command: command.to_owned(),
        answer,
    }
}
