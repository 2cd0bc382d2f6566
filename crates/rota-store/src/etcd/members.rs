//! What all connections know of etcd's members together: who was found silent, and when.
//!
//! A machine that loses its power or its network closes no connection: each connection to it would
//! find out by itself, one timeout after the other. So the first one that does has the others leave.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Who was found silent is not chosen anew for so long, unless all were.
const AVOIDED: Duration = Duration::from_secs(10);

/// When each member was last found silent, by its place among the endpoints.
#[derive(Debug)]
pub(super) struct Members(watch::Sender<Vec<Option<Instant>>>);

impl Members {
    pub(super) fn new(count: usize) -> Self {
        Self(watch::Sender::new(vec![None; count]))
    }

    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// This member did not answer in time: what is connected to it is to go elsewhere.
    pub(super) fn found_silent(&self, member: usize) {
        self.0.send_modify(|silent| silent[member] = Some(Instant::now()));
    }

    /// Whether the member was found silent after that moment, and there is another.
    pub(super) fn is_suspect(&self, member: usize, since: Instant) -> bool {
        let silent = self.0.borrow();
        silent.len() > 1 && silent[member].is_some_and(|found| found >= since)
    }

    /// Resolves when [`is_suspect`](Self::is_suspect) holds. Cancel safe.
    pub(super) async fn suspected(&self, member: usize, since: Instant) {
        let mut changes = self.0.subscribe();
        while !self.is_suspect(member, since) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Where to go on after that member: to the next one that was not found silent lately.
    pub(super) fn after(&self, member: usize) -> usize {
        self.after_at(member, Instant::now())
    }

    fn after_at(&self, member: usize, now: Instant) -> usize {
        let silent = self.0.borrow();
        let count = silent.len();
        let others = (1..=count).map(|step| (member + step) % count);
        let answers = |other: &usize| silent[*other].is_none_or(|found| now - found > AVOIDED);
        others.clone().find(answers).unwrap_or((member + 1) % count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_member_is_left_and_avoided_for_a_while() {
        let members = Members::new(3);
        let before = Instant::now();
        assert!(!members.is_suspect(1, before));
        members.found_silent(1);
        assert!(members.is_suspect(1, before) && !members.is_suspect(0, before));
        members.suspected(1, before).await;
        let since = Instant::now() + Duration::from_millis(1);
        assert!(!members.is_suspect(1, since), "a connection made since is as good as any");
        let after = |member| members.after_at(member, since);
        assert_eq!((after(0), after(1), after(2)), (2, 2, 0));
        members.found_silent(2);
        members.found_silent(0);
        assert_eq!(members.after(0), 1, "where all are silent, each has its turn");
        members.found_silent(1);
        let later = Instant::now() + AVOIDED + Duration::from_millis(1);
        assert_eq!(members.after_at(0, later), 1, "none is avoided for ever");
    }

    #[test]
    fn there_is_nowhere_to_go_from_an_only_member() {
        let members = Members::new(1);
        let before = Instant::now();
        members.found_silent(0);
        assert!(!members.is_suspect(0, before));
        assert_eq!(members.after(0), 0);
    }
}
