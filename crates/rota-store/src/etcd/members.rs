//! The shared knowledge of all connections about the members of etcd: which were found silent, and which
//! answered a check.
//!
//! A machine that loses its power or network closes no connections, so each connection to it would need its
//! own timeout to notice. So the first one that notices makes the others leave.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

/// Time for which a silent member is not chosen again, unless all are silent.
const AVOIDED: Duration = Duration::from_secs(10);

/// See the module documentation. Members are identified by their index in the endpoints.
#[derive(Debug)]
pub(super) struct Members {
    /// When each member was last found silent.
    silent: watch::Sender<Vec<Option<Instant>>>,
    questions: Vec<Question>,
}

/// The liveness check of a member.
#[derive(Debug)]
struct Question {
    /// Shares one check among many waiting requests.
    turn: Semaphore,
    /// Time of the last answer.
    answered: RwLock<Option<Instant>>,
}

impl Members {
    pub(super) fn new(count: usize) -> Self {
        let question = |_| Question { turn: Semaphore::new(1), answered: RwLock::new(None) };
        Self {
            silent: watch::Sender::new(vec![None; count]),
            questions: (0..count).map(question).collect(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.questions.len()
    }

    /// Whether the member answers this check, or a concurrent one, after the start of this call. Cancel safe.
    pub(super) async fn lives(&self, member: usize, ask: impl Future<Output = bool>) -> bool {
        let began = Instant::now();
        let Question { turn, answered } = &self.questions[member];
        let Ok(_turn) = turn.acquire().await else { return false };
        let last = *answered.read().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|answered| answered >= began) {
            return true;
        }
        let lives = ask.await;
        if lives {
            *answered.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        lives
    }

    /// Marks this member as silent, so that all connections leave it.
    pub(super) fn found_silent(&self, member: usize) {
        self.silent.send_modify(|silent| silent[member] = Some(Instant::now()));
    }

    /// Whether the member was found silent after this moment, and there is another member.
    pub(super) fn is_suspect(&self, member: usize, since: Instant) -> bool {
        let silent = self.silent.borrow();
        silent.len() > 1 && silent[member].is_some_and(|found| found >= since)
    }

    /// Resolves when [`is_suspect`](Self::is_suspect) holds. Cancel safe.
    pub(super) async fn suspected(&self, member: usize, since: Instant) {
        let mut changes = self.silent.subscribe();
        while !self.is_suspect(member, since) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next member after this one that was not found silent recently.
    pub(super) fn after(&self, member: usize) -> usize {
        self.after_at(member, Instant::now())
    }

    fn after_at(&self, member: usize, now: Instant) -> usize {
        let silent = self.silent.borrow();
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

    #[tokio::test]
    async fn many_who_wait_ask_once() {
        let members = Members::new(1);
        let asked = std::cell::Cell::new(0);
        let ask = async || {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            true
        };
        let all = (0..10).map(|_| members.lives(0, ask()));
        let lived = futures_util::future::join_all(all).await;
        assert_eq!((lived, asked.get()), (vec![true; 10], 1));
        assert!(!members.lives(0, async { false }).await, "an older answer says nothing of now");
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
