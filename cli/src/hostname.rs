//! `wherry hostname set`

use control::{Client, Reply, Request};

use crate::arguments::Place;
use crate::failure::Failure;
use crate::{output, status};

pub fn set(place: &Place, hostname: &str) -> Result<(), Failure> {
    let request = Request::SetHostname {
        hostname: hostname.to_owned(),
    };
    let outcome = match Client::connect(&place.socket)?.ask(&request)? {
        Reply::Done(outcome) => outcome,
        other => return Err(status::unexpected(&other)),
    };
    if place.json {
        return output::print_json(&outcome);
    }
    output::print(&format!(
        "the machine is called {hostname} until the next boot\n"
    ))
}
