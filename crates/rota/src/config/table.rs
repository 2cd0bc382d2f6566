//! The table of all keys.

use super::{
    keys::{AFTER_LIMITS, AFTER_STORES, BEFORE_STORES, Key},
    limit_keys::LIMIT_KEYS,
    store_keys::STORE_KEYS,
};

/// All settings, in the order in which they are shown.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
    [BEFORE_STORES, STORE_KEYS, AFTER_STORES, LIMIT_KEYS, AFTER_LIMITS].into_iter().flatten()
}
