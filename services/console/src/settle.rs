//! Waiting for the machine to settle: until PID 1 no longer calls it booting.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use control::{Client, Phase, Reply, Request, ServiceState};

/// A machine that takes longer has a problem, and who waits for a prompt may
/// not know that a key brings it. Long enough for a slow machine under load, so
/// that the prompt still follows what PID 1 says at the end of the boot.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Follows the services' states until all have settled.
#[derive(Debug)]
pub struct Settling {
    watch: Client,
    services: BTreeMap<String, ServiceState>,
}

impl Settling {
    /// Begins to watch; `None` where PID 1 cannot be reached, so that there is
    /// nothing to wait for.
    pub fn watch(socket: &Path) -> Option<Self> {
        let mut watch = Client::connect(socket).ok()?;
        watch.watch().ok()?;
        Some(Self {
            watch,
            services: BTreeMap::new(),
        })
    }

    /// Takes what PID 1 has said; whether the wait is over.
    pub fn is_over(&mut self, socket: &Path) -> bool {
        loop {
            // There is something to read: the time bounds only the rest of a
            // frame whose beginning is here.
            match self.watch.next_change(Some(Duration::from_millis(1))) {
                Ok(Some(service)) => {
                    self.services.insert(service.name, service.state);
                }
                Ok(None) => break,
                Err(_) => return true,
            }
        }
        let under_way = self
            .services
            .values()
            .any(|state| matches!(state, ServiceState::Waiting | ServiceState::Starting));
        !under_way && !is_booting(socket)
    }
}

impl AsFd for Settling {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// PID 1 has the last word, since it knows what it has yet to define.
fn is_booting(socket: &Path) -> bool {
    let status = Client::connect(socket).and_then(|mut client| client.ask(&Request::Status));
    match status {
        Ok(Reply::Status(status)) => status.machine.phase == Phase::Booting,
        Ok(_) | Err(_) => false,
    }
}
