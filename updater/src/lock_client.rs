//! Requests to the FleetLock server, as `policy` asks for them.

use std::time::Duration;

use fetch::Settings;
use http_client::{Bounds, Client};
use policy::{Answer, HEADER, Request};

/// A server that takes longer counts as one that does not answer. Of an answer a
/// reason is read.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(30),
    length: 4096,
};

/// Sends one request; whatever goes wrong is the answer.
pub async fn send(request: &Request, settings: &Settings) -> Answer {
    try_send(request, settings)
        .await
        .unwrap_or_else(Answer::None)
}

async fn try_send(request: &Request, settings: &Settings) -> Result<Answer, String> {
    let url = request.url();
    let url = url
        .parse()
        .map_err(|error| format!("'{url}' is no address: {error}"))?;
    let settings = http_client::Settings {
        redirects: 0,
        ..settings.http()
    };
    let client = Client::new(&settings).map_err(|error| error.to_string())?;
    let headers = [HEADER, ("content-type", "application/json")];
    let answer = client
        .post(&url, &headers, request.body(), BOUNDS)
        .await
        .map_err(|failure| failure.to_string())?;
    Ok(Answer::of(answer.status, &answer.body))
}
