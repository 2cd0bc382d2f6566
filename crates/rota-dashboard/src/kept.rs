//! Answers of the API that are kept for a hundred times as long as they took, so that the pages that ask for them, however
//! many they are, cost the leader at most a hundredth of a core.
//!
//! While one page asks anew, the others go on with what is kept.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// An answer is kept for so many times the time that it took, within these bounds.
const SHARE: u32 = 100;
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// Questions whose answers are kept. The answers to more are asked for by every page.
pub(crate) const QUESTIONS: usize = 64;

#[derive(Debug)]
struct Answer<T> {
    until: Instant,
    value: T,
}

/// The answers that a node keeps, by the question.
#[derive(Debug)]
pub(crate) struct Kept<T>(Mutex<HashMap<String, Answer<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// The answer that is kept for a question, or else the one that `ask` gives.
    ///
    /// # Errors
    /// The error of `ask`, after which nothing is kept.
    pub(crate) async fn or_ask<E>(
        &self,
        question: String,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started = Instant::now();
        if let Some(value) = self.known(&question, started) {
            return Ok(value);
        }
        let asked = ask.await;
        match &asked {
            Ok(value) => {
                let until = started + (started.elapsed() * SHARE).clamp(LEAST, MOST);
                self.keep(question, Answer { until, value: value.clone() }, started);
            }
            Err(_) => drop(self.lock().remove(&question)),
        }
        asked
    }

    /// What is kept. Whoever is told nothing asks, and until the answer comes, others are told what was kept.
    fn known(&self, question: &str, now: Instant) -> Option<T> {
        let mut kept = self.lock();
        let answer = kept.get_mut(question)?;
        if now < answer.until {
            return Some(answer.value.clone());
        }
        answer.until = now + LEAST;
        None
    }

    fn keep(&self, question: String, new: Answer<T>, now: Instant) {
        let mut kept = self.lock();
        if kept.len() >= QUESTIONS {
            kept.retain(|_, one| now < one.until);
        }
        if kept.len() < QUESTIONS || kept.contains_key(&question) {
            kept.insert(question, new);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Answer<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let kept = Kept::default();
        let asked = &Cell::new(0);
        let ask = |answer: Result<u8, &'static str>| {
            kept.or_ask("q".to_owned(), async move {
                asked.set(asked.get() + 1);
                answer
            })
        };
        assert_eq!(ask(Err("no leader")).await, Err("no leader"));
        for _ in 0..3 {
            assert_eq!(ask(Ok(1)).await, Ok(1));
        }
        assert_eq!(asked.get(), 2);
        kept.lock().get_mut("q").expect("kept").until = Instant::now();
        assert_eq!(ask(Err("no leader")).await, Err("no leader"), "an old answer hides a failure");
        assert_eq!(ask(Ok(2)).await, Ok(2));
    }

    #[tokio::test]
    async fn one_page_asks_anew_and_the_others_do_not_wait() {
        let kept = Kept::default();
        let ask = |answer: u8| kept.or_ask("q".to_owned(), ready(Ok::<_, ()>(answer)));
        assert_eq!(ask(1).await, Ok(1));
        kept.lock().get_mut("q").expect("kept").until = Instant::now();
        let (answer, comes) = oneshot::channel();
        let asking = kept.or_ask("q".to_owned(), comes);
        let others = async {
            for _ in 0..3 {
                assert_eq!(ask(3).await, Ok(1));
            }
            answer.send(2).expect("it is waited for");
        };
        assert_eq!(futures_util::future::join(asking, others).await.0, Ok(2));
        assert_eq!(ask(3).await, Ok(2));
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let kept = Kept::default();
        for number in 0..QUESTIONS * 2 {
            kept.or_ask(number.to_string(), ready(Ok::<_, ()>(number))).await.expect("an answer");
        }
        assert_eq!(kept.lock().len(), QUESTIONS);
    }
}
