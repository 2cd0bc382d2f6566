//! Names that clients give, as values of labels: bounded, whatever they send.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// What stands for every name beyond the limit.
pub const OTHER: &str = "other";

static OTHER_NAME: LazyLock<Arc<str>> = LazyLock::new(|| OTHER.into());

/// The first so many names of a sort, which stand for themselves; all later ones are [`OTHER`].
/// Names are never dropped: a total that was shown must not vanish.
#[derive(Debug)]
pub struct Names {
    limit: usize,
    known: Mutex<HashSet<Arc<str>>>,
}

impl Names {
    /// No name yet, and at most `limit`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// The name, or [`OTHER`] when there is no room for it.
    #[must_use]
    pub fn fold(&self, name: &str) -> Arc<str> {
        // A set is whole between two calls of its methods.
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

    /// Takes up a name that was shown before, room or not.
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
