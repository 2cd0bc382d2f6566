//! Random numbers: one seed for a whole run, split by purpose.
//!
//! Each purpose draws from a generator of its own, so that one more draw in one place does not change
//! what all the others get.

use std::sync::{Mutex, PoisonError};

use rota_engine::Random;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The seed of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// The generator of one purpose; `number` tells apart the many of one kind.
    pub(crate) fn rng(self, purpose: &str, number: u64) -> fastrand::Rng {
        let purpose = xxh3_64_with_seed(purpose.as_bytes(), self.0);
        fastrand::Rng::with_seed(xxh3_64_with_seed(&number.to_le_bytes(), purpose))
    }
}

/// What a simulated machine draws from.
#[derive(Debug)]
pub(crate) struct SimRandom(Mutex<fastrand::Rng>);

impl SimRandom {
    pub(crate) fn new(rng: fastrand::Rng) -> Self {
        Self(Mutex::new(rng))
    }
}

impl Random for SimRandom {
    fn next(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).u64(..)
    }
}

/// Whether something of that chance happens: so many in a thousand.
pub(crate) fn per_mille(rng: &mut fastrand::Rng, chance: u32) -> bool {
    chance > 0 && rng.u32(..1000) < chance
}
