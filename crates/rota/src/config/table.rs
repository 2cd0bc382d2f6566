//! The table of all keys.

use super::{
    keys::{AFTER_STORES, BEFORE_STORES, Key},
    store_keys::STORE_KEYS,
};

/// All settings, in the order in which they are shown.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
    [BEFORE_STORES, STORE_KEYS, AFTER_STORES].into_iter().flatten()
}
