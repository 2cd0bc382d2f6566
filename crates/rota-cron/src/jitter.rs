//! Jitter: a delay that depends on the schedule and the instant alone.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::civil::Timestamp;

/// A delay from zero up to `max`, both included, in whole milliseconds. The caller keeps it short of the next instant.
///
/// It is XXH3 of the schedule's name, with the nominal instant in milliseconds as the seed, scaled to `max`. No version
/// may change it: the vectors in `tests/vectors.rs` hold it.
#[must_use]
pub fn jitter(name: &str, nominal: Timestamp, max: Duration) -> Duration {
    let hash = xxh3_64_with_seed(name.as_bytes(), nominal.0.cast_unsigned());
    let most = max.as_millis().min(u128::from(u64::MAX - 1));
    let scaled = (u128::from(hash) * (most + 1)) >> 64;
    Duration::from_millis(u64::try_from(scaled).unwrap_or(0))
}
