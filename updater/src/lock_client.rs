//! Requests to the FleetLock server, as `policy` asks for them.

use std::time::Duration;

use fetch::Settings;
use http_client::{Bounds, Client};
use policy::{Answer, HEADER, Request};

/// A slower server counts as one that does not answer. Only a reason is read
/// from an answer.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(30),
    length: 4096,
};

/// Sends one request; a failure is an answer too.
pub async fn send(request: &Request, settings: &Settings) -> Answer {
    try_send(request, settings)
        .await
        .unwrap_or_else(Answer::None)
}

async fn try_send(request: &Request, settings: &Settings) -> Result<Answer, String> {
    let url = request.url();
    let url = url
        .parse()
        .map_err(|error| format!("'{url}' is not a URL: {error}"))?;
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
