//! Word to PID 1, as sd_notify(3)

use std::env;
use std::os::unix::net::UnixDatagram;

/// Says something on `$NOTIFY_SOCKET`, where there is one. What cannot be said
/// is not: nobody else would hear that either.
pub fn say(state: &str) {
    if let (Some(path), Ok(socket)) = (env::var_os("NOTIFY_SOCKET"), UnixDatagram::unbound()) {
        let _ = socket.send_to(state.as_bytes(), path);
    }
}
