//! Requests to the FleetLock server, as `policy` asks for them.

use std::time::Duration;

use fetch::Settings;
use policy::{Answer, HEADER, Request};

/// A server that takes longer counts as one that does not answer.
const LIMIT: Duration = Duration::from_secs(30);
/// What is read of an answer: a reason fits.
const LONGEST: usize = 4096;

/// Sends one request; whatever goes wrong is the answer.
pub async fn send(request: &Request, settings: &Settings) -> Answer {
    match tokio::time::timeout(LIMIT, try_send(request, settings)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => Answer::None(why),
        Err(_) => Answer::None(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

async fn try_send(request: &Request, settings: &Settings) -> Result<Answer, String> {
    let client = fetch::http_client(settings).map_err(|error| error.to_string())?;
    let mut response = client
        .post(request.url())
        .header(HEADER.0, HEADER.1)
        .header("content-type", "application/json")
        .body(request.body())
        .send()
        .await
        .map_err(|error| sentence(&error))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < LONGEST {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(sentence(&error)),
        }
    }
    Ok(Answer::of(status, &body))
}

fn sentence(error: &reqwest::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        sentence = format!("{sentence}: {error}");
        source = error.source();
    }
    sentence
}
