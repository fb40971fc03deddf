//! Chance from a seed: what a simulation draws, it draws again when it is replayed.

use std::time::{Duration, SystemTime};

use funicular::node::Machine;
use parking_lot::Mutex;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use tokio::time::Instant;

/// A stream of chance. Each part of a simulation has one of its own, so that a
/// change of one part leaves the others what they were.
#[derive(Debug)]
pub struct Chance {
    rng: Mutex<Xoshiro256PlusPlus>,
    began: Instant,
}

impl Chance {
    /// The stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.rotate_left(32);
        Self { rng: Mutex::new(Xoshiro256PlusPlus::seed_from_u64(mixed)), began: Instant::now() }
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        self.rng.lock().random_range(least..=most.max(least))
    }

    /// An index below `len`.
    pub fn index(&self, len: usize) -> usize {
        self.rng.lock().random_range(0..len.max(1))
    }

    /// One of these.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// Happens this often in a thousand times.
    pub fn hits(&self, in_a_thousand: u32) -> bool {
        in_a_thousand > 0 && self.rng.lock().random_range(0..1000) < in_a_thousand
    }

    /// A length of time in milliseconds from `least` to `most`.
    pub fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    /// The seed of another stream.
    pub fn seed(&self) -> u64 {
        self.rng.lock().next_u64()
    }
}

impl Machine for Chance {
    fn random(&self) -> u128 {
        self.rng.lock().random()
    }

    fn wall_clock(&self) -> SystemTime {
        // Any day will do.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) + self.began.elapsed()
    }
}
