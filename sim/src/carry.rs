//! What a move costs: how long it takes, how long its writes wait, what it makes two nodes do.
//!
//! The figures are those of `docs/performance.md` (durability `everysec`), with the way
//! between the two nodes added.

/// Round trips between target and source, from opening to settling.
const ROUND_TRIPS: f64 = 4.0;
/// What a move takes without any way or bytes, in seconds.
const BARE: f64 = 0.001_4;
/// What it takes beyond that for a byte, in seconds: 64 MB a second through two stores.
const A_BYTE: f64 = 6.4e-9;
/// Half of it is work of the source, half of the target.
const SHARE: f64 = 0.5;

/// Bytes of a session, and how long the unluckiest write of most moves waited, in seconds.
const DOWNTIME: [(f64, f64); 5] =
    [(1e3, 0.000_53), (1e5, 0.000_76), (1e6, 0.001_05), (16e6, 0.002_22), (64e6, 0.004_41)];

/// Seconds from opening to settling, for nodes that are `rtt` seconds apart.
pub fn seconds(bytes: f64, rtt: f64, bandwidth: f64) -> f64 {
    ROUND_TRIPS * rtt + BARE + bytes * A_BYTE + bytes / bandwidth
}

/// Seconds that a write waits because of it: what was measured on one machine, and the way
/// of the freeze's answer and of the redirect's.
pub fn downtime(bytes: f64, rtt: f64) -> f64 {
    rtt + table(bytes)
}

/// Seconds of work at each of the two nodes.
pub fn work(bytes: f64) -> f64 {
    (BARE + bytes * A_BYTE) * SHARE
}

/// Between two rows of the table as a line.
fn table(bytes: f64) -> f64 {
    let (mut before, first) = DOWNTIME[0];
    let mut waited = first;
    for (size, seconds) in DOWNTIME {
        if bytes <= size {
            let share = if size > before { (bytes - before) / (size - before) } else { 1.0 };
            return waited + (seconds - waited) * share.clamp(0.0, 1.0);
        }
        (before, waited) = (size, seconds);
    }
    waited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_met_at_its_rows_and_between_them() {
        for (bytes, seconds) in DOWNTIME {
            assert!((table(bytes) - seconds).abs() < 1e-9);
        }
        assert!((table(550_000.0) - 0.000_905).abs() < 1e-6);
        assert!((table(10.0) - 0.000_53).abs() < 1e-9);
        assert!((table(1e9) - 0.004_41).abs() < 1e-9);
    }

    #[test]
    fn a_move_takes_longer_the_further_and_the_larger() {
        let near = seconds(1e3, 0.008, 1e7);
        assert!(near < seconds(1e3, 0.04, 1e7) && near < seconds(1e6, 0.008, 1e7));
    }
}
