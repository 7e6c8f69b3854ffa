//! `run`.

use anyhow::{Context, Result};

use crate::arguments::{Global, Run};
use crate::foreground::{self, Signals};
use crate::log;
use crate::store::Store;
use crate::{create, delete, start};

pub fn run(store: &Store, global: &Global, options: &Run) -> Result<u8> {
    let signals = match options.detach {
        true => None,
        false => Some(Signals::take()?),
    };
    let made =
        create::create(store, global, &options.create, options.detach).context("run failed")?;
    let started = start::start(&made.container);
    if started.is_err() || !options.detach {
        // Other commands may need the lock, so it is not held.
        let (container, lock) = (made.container, made.lock);
        drop(lock);
        let status = match (started, &signals) {
            (Ok(()), Some(signals)) => foreground::wait(&made.started, made.terminal, signals),
            (Ok(()), None) => Ok(0),
            (Err(error), _) => Err(error).context("run failed"),
        };
        if status.is_err() || !options.keep {
            // Another command may have deleted it by now.
            if let Err(error) = delete::finish(&container) {
                log::warn(&format!("{error:#}"));
            }
        }
        return status.map(|status| status as u8);
    }
    Ok(0)
}
