//! Names that clients choose, as values of labels, in a limited number.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// The label value for all names beyond the limit.
pub const OTHER: &str = "other";

static OTHER_NAME: LazyLock<Arc<str>> = LazyLock::new(|| OTHER.into());

/// The first names of a kind, up to a limit. All later ones become [`OTHER`]. Names are never dropped,
/// because an exposed total must not disappear.
#[derive(Debug)]
pub struct Names {
    limit: usize,
    known: Mutex<HashSet<Arc<str>>>,
}

impl Names {
    /// An empty set for up to `limit` names.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// The name, or [`OTHER`] beyond the limit.
    #[must_use]
    pub fn fold(&self, name: &str) -> Arc<str> {
        // A set is consistent between two calls of its methods.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(name) {
            return name.clone();
        }
        if known.len() >= self.limit {
            return OTHER_NAME.clone();
        }
        let name: Arc<str> = name.into();
        known.insert(name.clone());
        name
    }

    /// Adds a name that was exposed before, even beyond the limit.
    pub fn remember(&self, name: &str) {
        if name != OTHER {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_others_for_good() {
        let names = Names::new(2);
        names.remember("old");
        assert_eq!(&*names.fold("a"), "a");
        assert_eq!(&*names.fold("b"), OTHER);
        assert_eq!(&*names.fold("old"), "old");
        names.remember("known-elsewhere");
        assert_eq!(&*names.fold("known-elsewhere"), "known-elsewhere");
        assert_eq!(&*names.fold("a"), "a");
    }
}
