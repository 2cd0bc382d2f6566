//! The checker: compares what was acknowledged, what the API says at the end, and what happened.

use std::collections::{HashMap, HashSet};

/// A task at the end, as the API lists it.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) completed: bool,
    /// Attempts begun, lost ones included.
    pub(crate) attempts: u32,
    /// The lease of the last attempt.
    pub(crate) token: u64,
}

/// One run of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Effect {
    pub(crate) id: String,
    pub(crate) token: u64,
}

/// What went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It was acknowledged and is not there.
    Lost(String),
    /// It is there twice.
    Duplicate(String),
    /// It was acknowledged and has not completed.
    NotCompleted(String),
    /// The attempt that completed it never ran.
    NeverRan(String),
    /// One lease ran twice.
    RanTwice(Effect),
    /// It ran more often than it had attempts.
    RanTooOften(String),
    /// It ran under a later lease than the one that completed it.
    RanAfterItsEnd(String),
}

/// Checks that nothing was lost and nothing happened twice. A task may run again only under a new
/// lease, and a new lease is an attempt that its record counts.
pub(crate) fn verify(
    acknowledged: &[String],
    ended: &[Ended],
    effects: &[Effect],
) -> Result<(), Fault> {
    let mut by_id = HashMap::with_capacity(ended.len());
    for task in ended {
        if by_id.insert(task.id.as_str(), task).is_some() {
            return Err(Fault::Duplicate(task.id.clone()));
        }
    }
    let mut seen = HashSet::with_capacity(effects.len());
    let mut runs: HashMap<&str, Vec<u64>> = HashMap::with_capacity(ended.len());
    for effect in effects {
        if !seen.insert(effect) {
            return Err(Fault::RanTwice(effect.clone()));
        }
        runs.entry(&effect.id).or_default().push(effect.token);
    }
    for id in acknowledged {
        let task = by_id.get(id.as_str()).ok_or_else(|| Fault::Lost(id.clone()))?;
        if !task.completed {
            return Err(Fault::NotCompleted(id.clone()));
        }
        let tokens = runs.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        if !tokens.contains(&task.token) {
            return Err(Fault::NeverRan(id.clone()));
        }
        if tokens.len() > task.attempts as usize {
            return Err(Fault::RanTooOften(id.clone()));
        }
        if tokens.iter().any(|token| *token > task.token) {
            return Err(Fault::RanAfterItsEnd(id.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(completed: bool, attempts: u32, token: u64) -> Vec<Ended> {
        vec![Ended { id: "a".to_owned(), completed, attempts, token }]
    }

    fn runs(tokens: &[u64]) -> Vec<Effect> {
        tokens.iter().map(|token| Effect { id: "a".to_owned(), token: *token }).collect()
    }

    #[test]
    fn planted_faults_are_found() {
        let a = ["a".to_owned()];
        let id = || "a".to_owned();
        assert_eq!(verify(&a, &task(true, 1, 5), &runs(&[5])), Ok(()));
        assert_eq!(verify(&a, &task(true, 2, 9), &runs(&[5, 9])), Ok(()));
        assert_eq!(verify(&a, &[], &runs(&[5])), Err(Fault::Lost(id())));
        let twice = [task(true, 1, 5), task(true, 1, 5)].concat();
        assert_eq!(verify(&a, &twice, &runs(&[5])), Err(Fault::Duplicate(id())));
        assert_eq!(verify(&a, &task(false, 1, 5), &runs(&[5])), Err(Fault::NotCompleted(id())));
        assert_eq!(verify(&a, &task(true, 1, 5), &[]), Err(Fault::NeverRan(id())));
        let again = Fault::RanTwice(runs(&[5]).remove(0));
        assert_eq!(verify(&a, &task(true, 2, 5), &runs(&[5, 5])), Err(again));
        assert_eq!(verify(&a, &task(true, 1, 9), &runs(&[5, 9])), Err(Fault::RanTooOften(id())));
        let late = Err(Fault::RanAfterItsEnd(id()));
        assert_eq!(verify(&a, &task(true, 2, 5), &runs(&[5, 9])), late);
    }
}
