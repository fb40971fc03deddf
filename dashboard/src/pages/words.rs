//! Numbers and times as people read them.

use std::time::{Duration, UNIX_EPOCH};

/// What stands for something unknown.
pub(super) const UNKNOWN: &str = "unknown";

/// Bytes as people read them: `999 B`, `1.0 kB`, `67.1 MB`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" || value >= 99.5 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// So many a second.
pub(super) fn rate(value: f64) -> String {
    if value >= 9.95 || value == 0.0 { format!("{value:.0}/s") } else { format!("{value:.1}/s") }
}

/// A signal's value, in three digits or so.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 99.95 => format!("{value:.0}"),
        some if some >= 0.095 => format!("{value:.2}"),
        some if some >= 0.000_95 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// A length of time in milliseconds, of an answer or a move.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms >= 9_950.0 => format!("{:.0} s", ms / 1000.0),
        ms if ms >= 995.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 9.95 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

/// The same in microseconds.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn micros(us: u64) -> String {
    millis(us as f64 / 1000.0)
}

/// How long something is over, in milliseconds: no more often another word than needed.
pub(super) fn ago(ms: u64) -> String {
    match ms / 1000 {
        0..5 => "just now".to_owned(),
        seconds @ 5..60 => format!("{} s", seconds / 5 * 5),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// A moment for machines: `2026-11-26T18:03:12Z`.
pub(super) fn moment(at_ms: u64) -> String {
    // The last second that has such a form; what is later is nonsense anyway.
    const LAST: u64 = 253_402_300_799;
    let seconds = Duration::from_secs((at_ms / 1000).min(LAST));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + seconds).to_string()
}

/// A time of day, UTC.
pub(super) fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `1 session`, `2 sessions`.
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// What is known, in words, or that it is not.
pub(super) fn known<T>(value: Option<T>, words: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([rate(0.0), rate(0.25), rate(120.4)], ["0/s", "0.2/s", "120/s"]);
        assert_eq!([millis(0.84), millis(33.3), millis(1500.0)], ["0.8 ms", "33 ms", "1.5 s"]);
        assert_eq!([ago(900), ago(13_000), ago(125_000)], ["just now", "10 s", "2 min"]);
        assert_eq!([count(1, "move"), count(0, "move")], ["1 move", "0 moves"]);
        assert_eq!([number(0.0), number(30.07), number(0.0103)], ["0", "30.07", "0.0103"]);
        assert_eq!(known(None, rate), "unknown");
    }

    #[test]
    fn sizes_have_two_digits_at_most_after_a_point() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_400, "99.4 kB"),
            (150_000, "150 kB"),
            (999_999, "1.0 MB"),
            (64 << 20, "67.1 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(clock(86_400_000 + 3_723_999), "01:02:03");
        assert_eq!(moment(3_723_999), "1970-01-01T01:02:03Z");
        assert_eq!(moment(u64::MAX).len(), moment(0).len());
    }
}
