//! Points in time, as people type and read them. All are UTC: a Wherry machine
//! has no other time zone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A day's length: UTC as computers count it has no leap seconds.
const DAY: u64 = 86_400;

/// Reads `10m` (that long ago), `today`, `yesterday`, `2026-11-21`,
/// `2026-11-21 09:00:00` or RFC 3339.
///
/// # Errors
/// A sentence that says what would be understood.
pub fn parse(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let today = || midnight_before(now);
    match text {
        "now" => return Ok(now),
        "today" => return Ok(today()),
        "yesterday" => return Ok(today() - Duration::from_secs(DAY)),
        _ => {}
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        // Nothing was written before 1970.
        return Ok(now.checked_sub(ago).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH));
    }
    let is_day = text.len() == "2026-11-21".len();
    let midnight = format!("{text}T00:00:00Z");
    humantime::parse_rfc3339_weak(if is_day { &midnight } else { text }).map_err(|_| {
        format!(
            "'{text}' is not a time; write it as 10m (that long ago), today, yesterday, \
             2026-11-21, \"2026-11-21 09:00:00\" or 2026-11-21T09:00:00Z, in UTC"
        )
    })
}

fn midnight_before(now: SystemTime) -> SystemTime {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UNIX_EPOCH + Duration::from_secs(seconds / DAY * DAY)
}

/// To the millisecond, sortable, as [`parse`] reads it: `2026-11-21 09:00:00.123`.
pub fn show(time: SystemTime) -> String {
    // Before 1970 or after 9999 the formatter panics.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let time = time.clamp(UNIX_EPOCH, last);
    let text = humantime::format_rfc3339_millis(time).to_string();
    text.trim_end_matches('Z').replacen('T', " ", 1)
}

/// As [`show`], to the second.
pub fn show_seconds(time: SystemTime) -> String {
    let mut text = show(time);
    text.truncate("2026-11-21 09:00:00".len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_times_in_many_ways() {
        let now = humantime::parse_rfc3339("2026-11-21T10:20:30Z").unwrap();
        let cases = [
            ("10m", "2026-11-21T10:10:30Z"),
            ("1h 30m", "2026-11-21T08:50:30Z"),
            ("now", "2026-11-21T10:20:30Z"),
            ("today", "2026-11-21T00:00:00Z"),
            ("yesterday", "2026-11-20T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01 09:00:00", "2026-11-01T09:00:00Z"),
            ("2026-11-01T09:00:00.5Z", "2026-11-01T09:00:00.5Z"),
            ("100000y", "1970-01-01T00:00:00Z"),
        ];
        for (text, time) in cases {
            let expected = humantime::parse_rfc3339(time).unwrap();
            assert_eq!(parse(text, now), Ok(expected), "{text}");
        }
        for text in ["", "soon", "2026-13-01", "2026-11-2x", "10"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let time = humantime::parse_rfc3339("2026-11-21T10:20:30.250Z").unwrap();
        assert_eq!(show(time), "2026-11-21 10:20:30.250");
        assert_eq!(parse(&show(time), UNIX_EPOCH), Ok(time));
    }
}
