//! `wherry version`: this command's version and, where PID 1 can be asked,
//! the machine's.

use control::{Client, Slot};
use serde::Serialize;

use crate::arguments::Place;
use crate::failure::Failure;
use crate::{output, status};

/// As `--json` prints it.
#[derive(Debug, Serialize)]
struct Versions {
    wherry: &'static str,
    machine: Option<MachineVersions>,
}

#[derive(Debug, Serialize)]
struct MachineVersions {
    version: String,
    kernel: String,
    slot: Option<Slot>,
    root_hash: Option<String>,
}

pub fn run(place: &Place) -> Result<(), Failure> {
    // Away from a Wherry machine the command still has a version.
    let machine = Client::connect(&place.socket)
        .map_err(Failure::from)
        .and_then(|mut client| status::ask(&mut client))
        .ok()
        .map(|status| MachineVersions {
            version: status.machine.version,
            kernel: status.machine.kernel,
            slot: status.machine.slot,
            root_hash: status.machine.root_hash,
        });
    let versions = Versions {
        wherry: env!("CARGO_PKG_VERSION"),
        machine,
    };
    if place.json {
        return output::print_json(&versions);
    }
    let mut text = format!("wherry {}\n", versions.wherry);
    if let Some(machine) = &versions.machine {
        text += &format!("machine {}\n", machine.version);
        text += &format!("kernel {}\n", machine.kernel);
        if let Some(hash) = &machine.root_hash {
            text += &format!("root {hash}\n");
        }
    }
    output::print(&text)
}
