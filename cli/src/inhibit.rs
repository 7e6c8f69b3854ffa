//! `wherry inhibit -- COMMAND`: runs a command, and inhibits a shutdown meanwhile.
//!
//! PID 1 drops the inhibitor when the connection closes. A thread watches the
//! connection: it reports a waiting shutdown, and reconnects when PID 1 has
//! re-executed itself.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use control::{Client, ClientError, Reply, Request};

use crate::arguments::{Inhibit, InhibitMode, Place};
use crate::failure::Failure;
use crate::status;

/// Between two attempts to reach a fresh PID 1.
const RETRY: Duration = Duration::from_millis(50);

pub fn run(place: &Place, inhibit: &Inhibit) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = inhibit.command.split_first() else {
        return Err(Failure::Usage("the command is missing".into()));
    };
    let request = Request::Inhibit {
        who: inhibit
            .who
            .clone()
            .unwrap_or_else(|| program.display().to_string()),
        why: inhibit.why.clone(),
        mode: match inhibit.mode {
            InhibitMode::Block => control::InhibitMode::Block,
            InhibitMode::Delay => control::InhibitMode::Delay,
        },
    };
    let held = hold(&place.socket, &request)?;
    let socket = place.socket.clone();
    // Ends with this program, and the connection with it.
    std::thread::spawn(move || watch(held, &socket, &request));
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|error| Failure::io(program.display(), &error))?;
    // Like a shell: 128 + signal.
    let code = status.code().unwrap_or_else(|| {
        use std::os::unix::process::ExitStatusExt;
        128 + status.signal().unwrap_or_default()
    });
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn hold(socket: &PathBuf, request: &Request) -> Result<Client, Failure> {
    let mut client = Client::connect(socket)?;
    match client.ask(request)? {
        Reply::Done(_) => Ok(client),
        other => Err(status::unexpected(&other)),
    }
}

fn watch(mut held: Client, socket: &PathBuf, request: &Request) {
    loop {
        match held.receive(None) {
            Ok(_) => eprintln!("wherry: the machine shuts down and waits for this command"),
            Err(ClientError::Closed { .. } | ClientError::Connection { .. }) => loop {
                match hold(socket, request) {
                    Ok(client) => {
                        held = client;
                        break;
                    }
                    Err(Failure::Unreachable(_)) => std::thread::sleep(RETRY),
                    Err(_) => return,
                }
            },
            Err(_) => return,
        }
    }
}
