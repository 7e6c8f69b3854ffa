//! Sizes and times as people read them. Plain ASCII: a console's font has
//! little more.

/// A size: `512 B`, `1.4 MiB`, `12 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit = UNITS[unit];
    if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A duration by its two largest units: `412 ms`, `3.2 s`, `4 min 10 s`,
/// `2 h 5 min`, `12 d 3 h`.
pub fn span(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    match seconds {
        0 => format!("{} ms", microseconds / 1000),
        1..60 => format!("{}.{} s", seconds, microseconds / 100_000 % 10),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// How long ago something was, to the precision that a list needs: `12 s ago`.
pub fn ago(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Seconds with three digits, as PID 1 prints them: `1.234 s`.
pub fn seconds(microseconds: u64) -> String {
    let milliseconds = (microseconds + 500) / 1000;
    format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
}

/// `CLOCK_BOOTTIME` now, in microseconds: the clock of all of PID 1's times.
pub fn boottime_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_two_digits_at_least() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_474_560, "1.4 MiB"),
            (104_857_600, "100 MiB"),
            (1_073_700_000, "1.0 GiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        let cases = [
            (999, "0 ms"),
            (412_000, "412 ms"),
            (3_250_000, "3.2 s"),
            (250_000_000, "4 min 10 s"),
            (7_500_000_000, "2 h 5 min"),
            (1_047_600_000_000, "12 d 3 h"),
        ];
        for (microseconds, text) in cases {
            assert_eq!(span(microseconds), text, "{microseconds}");
        }
    }

    #[test]
    fn how_long_ago_has_one_unit() {
        assert_eq!(ago(59_999_999), "59 s ago");
        assert_eq!(ago(60_000_000), "1 min ago");
        assert_eq!(ago(172_799_000_000), "47 h ago");
        assert_eq!(ago(172_800_000_000), "2 d ago");
    }

    #[test]
    fn seconds_are_rounded_to_milliseconds() {
        assert_eq!(seconds(1_234_499), "1.234 s");
        assert_eq!(seconds(999_500), "1.000 s");
    }
}
