//! Which workers may have lost their leases, and when: those that were killed, from then on, and those
//! that could not reach a node for as long as a session lives, for that while.
//!
//! The time is told in numbers of batches, which no clock that jumps can shift.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// A span of batches, inclusive. Without an end it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BatchRange {
    from: u64,
    to: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct ExpectedLosses {
    spans: BTreeMap<String, Vec<BatchRange>>,
    /// Workers that were cut off, whose span is to be closed, and the moment from which they lose nothing
    /// more by it.
    open: Vec<String>,
    closes_at: Option<Instant>,
}

impl ExpectedLosses {
    /// The worker was killed when this batch was the last one.
    pub fn killed(&mut self, worker: &str, at: u64) {
        let span = BatchRange { from: at, to: None };
        self.spans.entry(worker.to_owned()).or_default().push(span);
    }

    /// The workers were cut off when this batch was the last one. Losses are expected until
    /// [`ExpectedLosses::close`].
    pub fn cut_off<'a>(&mut self, workers: impl IntoIterator<Item = &'a String>, at: u64) {
        for worker in workers {
            self.killed(worker, at);
            self.open.push(worker.clone());
        }
    }

    /// Nobody is cut off any more. What was lost by it shows until that moment.
    pub fn healed(&mut self, shows_until: Instant) {
        self.closes_at = Some(shows_until);
    }

    /// When the spans of those who were cut off can be closed, if any are open.
    #[must_use]
    pub fn closes_at(&self) -> Option<Instant> {
        self.closes_at
    }

    /// Ends the spans of those who were cut off. This batch was the last one.
    pub fn close(&mut self, at: u64) {
        self.closes_at = None;
        for worker in std::mem::take(&mut self.open) {
            let spans = self.spans.get_mut(&worker).into_iter().flatten();
            let open = spans.rev().find(|span| span.to.is_none());
            open.expect("it was opened").to = Some(at);
        }
    }

    /// Whether a worker may have lost a lease that was given by batch `from`, and was lost before batch
    /// `to` gave the task to another.
    #[must_use]
    pub fn covers(&self, worker: &str, from: u64, to: Option<u64>) -> bool {
        let spans = self.spans.get(worker).into_iter().flatten();
        spans.into_iter().any(|span| {
            to.is_none_or(|to| span.from <= to) && span.to.is_none_or(|end| from <= end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_expected_of_a_killed_worker_from_then_on_and_of_nobody_else() {
        let mut expected_losses = ExpectedLosses::default();
        expected_losses.killed("w1", 10);
        assert!(expected_losses.covers("w1", 9, Some(11)), "it held the lease when it was killed");
        assert!(!expected_losses.covers("w1", 5, Some(9)), "the lease was lost before that");
        assert!(!expected_losses.covers("w2", 9, Some(11)));
    }

    #[test]
    fn losses_are_expected_of_who_was_cut_off_for_that_while() {
        let mut expected_losses = ExpectedLosses::default();
        expected_losses.cut_off([&"w1".to_owned()], 10);
        expected_losses.healed(Instant::now());
        assert!(
            expected_losses.closes_at().is_some() && expected_losses.covers("w1", 30, Some(40))
        );
        expected_losses.close(20);
        assert!(expected_losses.closes_at().is_none());
        for (from, to, covered) in [(5, 9, false), (5, 11, true), (15, 16, true), (21, 25, false)] {
            assert_eq!(expected_losses.covers("w1", from, Some(to)), covered, "{from}..{to}");
        }
        expected_losses.killed("w1", 50);
        assert!(expected_losses.covers("w1", 45, None));
    }
}
