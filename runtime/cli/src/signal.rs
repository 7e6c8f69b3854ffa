//! Signals by name or number.

use nix::sys::signal::Signal;

/// Reads a signal: `TERM`, `SIGTERM`, `term`, `15`; realtime ones as `RTMIN+1`, `RTMAX-1`.
pub fn parse(text: &str) -> Result<i32, String> {
    let unknown = || format!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            0..=64 => Ok(number),
            _ => Err(unknown()),
        };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let other = match name {
        "CLD" => Some(Signal::SIGCHLD as i32),
        "IOT" => Some(Signal::SIGABRT as i32),
        "POLL" => Some(Signal::SIGIO as i32),
        "UNUSED" => Some(Signal::SIGSYS as i32),
        // The C library reserves the first two of the kernel's realtime
        // signals.
        "RTMIN" => Some(34),
        "RTMAX" => Some(64),
        _ => None,
    };
    if let Some(number) = other {
        return Ok(number);
    }
    let offset = |rest: &str, most| {
        rest.parse::<i32>()
            .ok()
            .filter(|offset| (1..=most).contains(offset))
    };
    if let Some(offset) = name
        .strip_prefix("RTMIN+")
        .and_then(|rest| offset(rest, 30))
    {
        return Ok(34 + offset);
    }
    if let Some(offset) = name
        .strip_prefix("RTMAX-")
        .and_then(|rest| offset(rest, 30))
    {
        return Ok(64 - offset);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("0", 0),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-2", 62),
            ("SIGCLD", 17),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for unknown in ["", "SIG", "NOTHING", "65", "-1", "RTMIN+31", "9x"] {
            assert!(parse(unknown).is_err(), "{unknown}");
        }
    }
}
