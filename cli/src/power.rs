//! `wherry poweroff | reboot | halt | reexec`.

use std::time::{Duration, Instant};

use control::{Client, ClientError, Outcome, Reply, Request, Shutdown};

use crate::arguments::{self, Place};
use crate::failure::Failure;
use crate::output;
use crate::status;
use crate::terminal::harmless;

/// A fresh PID 1 answers within milliseconds; on an emulated machine under
/// load it may be a second.
const REEXEC_LIMIT: Duration = Duration::from_secs(10);
/// Between two attempts to reach the fresh PID 1.
const REEXEC_STEP: Duration = Duration::from_millis(50);

pub fn shut_down(
    place: &Place,
    shutdown: Shutdown,
    how: &arguments::Shutdown,
) -> Result<(), Failure> {
    let (request, doing) = match shutdown {
        Shutdown::Poweroff => (Request::Poweroff, "switching off"),
        Shutdown::Reboot => (Request::Reboot, "rebooting"),
        Shutdown::Halt => (Request::Halt, "halting"),
    };
    let request = if how.force {
        Request::ForceShutdown { shutdown }
    } else {
        request
    };
    let outcome = match Client::connect(&place.socket)?.ask(&request)? {
        Reply::Done(outcome) => outcome,
        other => return Err(status::unexpected(&other)),
    };
    let sentence = if outcome.notes.is_empty() {
        format!("{doing}: services are being stopped")
    } else {
        format!("{doing} after a delay")
    };
    told(place, &outcome, &sentence)
}

pub fn reexec(place: &Place) -> Result<(), Failure> {
    let mut client = Client::connect(&place.socket)?;
    let before = status::ask(&mut client)?.machine.reexecuted;
    match client.ask(&Request::Reexec) {
        // The connection may end with the old program.
        Ok(Reply::Done(_)) | Err(ClientError::Closed { .. } | ClientError::Connection { .. }) => {}
        Ok(other) => return Err(status::unexpected(&other)),
        Err(error) => return Err(error.into()),
    }
    drop(client);
    let started = Instant::now();
    while started.elapsed() < REEXEC_LIMIT {
        let fresh = Client::connect(&place.socket)
            .map_err(Failure::from)
            .and_then(|mut client| status::ask(&mut client));
        match fresh {
            Ok(status) if status.machine.reexecuted > before => {
                return told(place, &Outcome::default(), "PID 1 runs afresh");
            }
            Ok(_) | Err(Failure::Unreachable(_)) => std::thread::sleep(REEXEC_STEP),
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Failed(format!(
        "PID 1 has not re-executed itself within {} s; `wherry logs -s init` may say why",
        REEXEC_LIMIT.as_secs()
    )))
}

fn told(place: &Place, outcome: &Outcome, sentence: &str) -> Result<(), Failure> {
    if place.json {
        return output::print_json(outcome);
    }
    let mut text = format!("{sentence}\n");
    for note in &outcome.notes {
        text += &format!("  {}\n", harmless(note));
    }
    output::print(&text)
}
