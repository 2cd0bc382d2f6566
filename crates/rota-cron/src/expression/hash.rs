//! The stable hash behind `H`: it spreads schedules over a field by their names.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A number below `size` for the place `item` in the field `field` of the schedule `name`.
///
/// No version may change it: schedules would move. The vectors in `tests/vectors.rs` hold it.
pub(super) fn place(name: &str, field: u8, item: u8, size: u32) -> u32 {
    let seed = u64::from(field) << 8 | u64::from(item);
    let hash = xxh3_64_with_seed(name.as_bytes(), seed);
    // The upper half of a product spreads evenly and fits by construction.
    let scaled = ((hash >> 32) * u64::from(size)) >> 32;
    u32::try_from(scaled).unwrap_or(0)
}
