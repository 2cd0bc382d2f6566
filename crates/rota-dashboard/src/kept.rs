//! Answers of the API that are kept for many times as long as they took, so that the pages that ask for them, however
//! many and different they are, together cost the leader at most a small share of a core.
//!
//! While one page asks anew, the others go on with what is kept. A page that was told what is kept knows
//! [when to ask again](AskAgain).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// All answers that a node keeps together cost the leader one part of a core in so many.
const PARTS: u32 = 50;
/// An answer is kept until its cost is paid for, within these bounds.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// No answer pays for more of those before it than this. Otherwise somebody who looks at many filters would let the numbers
/// on all pages grow old.
const DEBT_MOST: Duration = Duration::from_secs(10);

/// Says how long answers are kept, by what all of them cost: a leaky bucket. Clones are of one budget.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    /// When all answers so far are paid for.
    paid_at: Arc<Mutex<Option<Instant>>>,
}

impl Budget {
    /// How long an answer is kept that cost the leader this time of a core.
    fn pay(&self, cost: Duration, now: Instant) -> Duration {
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let debt = paid_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let own = cost * PARTS;
        *paid_at = Some(now + (debt + own).min(MOST));
        (debt.min(DEBT_MOST) + own).clamp(LEAST, MOST)
    }
}

/// When a page has to ask again, because it shows answers that are older than its request. Clones are of one page.
#[derive(Debug, Clone)]
pub(crate) struct AskAgain {
    millis: Arc<AtomicU64>,
    /// Shortest time between two requests of a page.
    pace: Duration,
}

impl AskAgain {
    pub(crate) fn new(pace: Duration) -> Self {
        Self { millis: Arc::new(AtomicU64::new(u64::MAX)), pace }
    }

    /// Milliseconds until the first of the answers can be newer. `None` if all are of this request.
    pub(crate) fn millis(&self) -> Option<u64> {
        Some(self.millis.load(Ordering::Relaxed)).filter(|millis| *millis != u64::MAX)
    }

    fn within(&self, time: Duration) {
        let millis = u64::try_from(time.max(self.pace).as_millis()).unwrap_or(u64::MAX - 1);
        // A page that asks at the very end may still be told what is kept.
        self.millis.fetch_min(millis + 1, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone)]
struct Answer<T> {
    /// Number of the request that it answers.
    number: u64,
    until: Instant,
    value: T,
}

/// Answers by the question.
#[derive(Debug)]
struct Answers<T> {
    of: HashMap<String, Answer<T>>,
    /// Number of the last request.
    last: u64,
    /// The last request before all was forgotten. The answers up to it may be from before a change.
    forgotten: u64,
}

/// The answers that a node keeps.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    budget: Budget,
    /// Questions whose answers are kept. The answers to more are asked for by every page.
    questions: usize,
    answers: Mutex<Answers<T>>,
}

impl<T: Clone> Kept<T> {
    pub(crate) fn new(budget: Budget, questions: usize) -> Self {
        let none = Answers { of: HashMap::new(), last: 0, forgotten: 0 };
        Self { budget, questions, answers: Mutex::new(none) }
    }

    /// The answer that is kept for a question, or else the one that `ask` gives, which keeps at most so many cores busy.
    /// Answers never go back: an older one that comes late is not told where a newer one is known.
    ///
    /// # Errors
    /// The error of `ask`, after which nothing older is kept.
    pub(crate) async fn or_ask<E>(
        &self,
        again: &AskAgain,
        question: String,
        cores: u32,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let number = match self.known(&question, started) {
            Ok(Answer { until, value, .. }) => {
                again.within(until.saturating_duration_since(started));
                return Ok(value);
            }
            Err(number) => number,
        };
        let asked = ask.await;
        let mut kept = self.lock();
        let newer = kept.of.get(&question).filter(|one| one.number > number);
        match asked {
            Ok(value) => {
                if let Some(newer) = newer {
                    return Ok(newer.value.clone());
                }
                if number > kept.forgotten {
                    let until = started + self.budget.pay(started.elapsed() * cores, started);
                    let answer = Answer { number, until, value: value.clone() };
                    self.keep(&mut kept, question, answer, started);
                }
                Ok(value)
            }
            Err(error) => {
                if newer.is_none() {
                    kept.of.remove(&question);
                }
                Err(error)
            }
        }
    }

    /// Forgets all, after a change: whoever made it looks for it.
    pub(crate) fn forget(&self) {
        let mut kept = self.lock();
        kept.of.clear();
        kept.forgotten = kept.last;
    }

    /// What is kept, or else the number of the request that has to be made. Until its answer comes, others are told what was
    /// kept.
    fn known(&self, question: &str, now: Instant) -> Result<Answer<T>, u64> {
        let mut kept = self.lock();
        if let Some(answer) = kept.of.get_mut(question) {
            if now < answer.until {
                return Ok(answer.clone());
            }
            answer.until = now + LEAST;
        }
        kept.last += 1;
        Err(kept.last)
    }

    fn keep(&self, kept: &mut Answers<T>, question: String, new: Answer<T>, now: Instant) {
        if kept.of.len() >= self.questions {
            kept.of.retain(|_, one| now < one.until);
        }
        if kept.of.len() < self.questions || kept.of.contains_key(&question) {
            kept.of.insert(question, new);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers<T>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use tokio::sync::oneshot;

    use super::*;

    const QUESTIONS: usize = 64;

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (kept, again) =
            (Kept::new(Budget::default(), QUESTIONS), AskAgain::new(Duration::ZERO));
        let asked = &Cell::new(0);
        let ask = |answer: Result<u8, &'static str>| {
            kept.or_ask(&again, "q".to_owned(), 1, async move {
                asked.set(asked.get() + 1);
                answer
            })
        };
        assert_eq!(ask(Err("no leader")).await, Err("no leader"));
        for _ in 0..3 {
            assert_eq!(ask(Ok(1)).await, Ok(1));
        }
        assert_eq!(asked.get(), 2);
        kept.lock().of.get_mut("q").expect("kept").until = Instant::now();
        assert_eq!(ask(Err("no leader")).await, Err("no leader"), "an old answer hides a failure");
        assert_eq!(ask(Ok(2)).await, Ok(2));
    }

    #[tokio::test]
    async fn one_page_asks_anew_and_the_others_do_not_wait() {
        let (kept, again) =
            (Kept::new(Budget::default(), QUESTIONS), AskAgain::new(Duration::ZERO));
        let ask = |answer: u8| kept.or_ask(&again, "q".to_owned(), 1, ready(Ok::<_, ()>(answer)));
        assert_eq!(ask(1).await, Ok(1));
        kept.lock().of.get_mut("q").expect("kept").until = Instant::now();
        let (answer, comes) = oneshot::channel();
        let asking = kept.or_ask(&again, "q".to_owned(), 1, comes);
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
    async fn an_older_answer_that_comes_late_takes_the_place_of_no_newer_one() {
        let (kept, again) =
            (Kept::new(Budget::default(), QUESTIONS), AskAgain::new(Duration::ZERO));
        let ask = |answer: u8| kept.or_ask(&again, "q".to_owned(), 1, ready(Ok::<_, ()>(answer)));
        let (answer, comes) = oneshot::channel();
        let slow = kept.or_ask(&again, "q".to_owned(), 1, comes);
        let others = async {
            kept.forget();
            assert_eq!(ask(2).await, Ok(2));
            answer.send(1).expect("it is waited for");
        };
        let (told, ()) = futures_util::future::join(slow, others).await;
        assert_eq!(told, Ok(2), "a newer answer is known");
        assert_eq!(ask(3).await, Ok(2), "what pages show went back");

        kept.forget();
        let (answer, comes) = oneshot::channel();
        let slow = kept.or_ask(&again, "q".to_owned(), 1, comes);
        let change = async {
            kept.forget();
            answer.send(3).expect("it is waited for");
        };
        assert_eq!(futures_util::future::join(slow, change).await.0, Ok(3));
        assert_eq!(ask(4).await, Ok(4), "an answer from before a change hides it");
    }

    #[tokio::test]
    async fn a_page_knows_when_to_ask_again() {
        let kept = Kept::new(Budget::default(), QUESTIONS);
        let ask = async |answer: u8| {
            let again = AskAgain::new(Duration::ZERO);
            let told = kept.or_ask(&again, "q".to_owned(), 1, ready(Ok::<_, ()>(answer))).await;
            (told, again.millis())
        };
        assert_eq!(ask(1).await, (Ok(1), None), "it is new");
        let (told, millis) = ask(2).await;
        assert_eq!(told, Ok(1));
        assert!(millis.is_some_and(|millis| (1..=1001).contains(&millis)), "{millis:?}");
        kept.forget();
        assert_eq!(ask(2).await, (Ok(2), None), "a change was made");
    }

    #[test]
    fn all_answers_together_cost_a_small_share_of_a_core() {
        let parts = f64::from(PARTS);
        for (costs, most) in [
            (&[1][..], 1.0 / parts),
            (&[40], 1.0 / parts),
            (&[10, 10, 30, 40], 1.0 / parts),
            (&[1, 500], 1.0 / parts),
            // More than the debt that an answer pays for.
            (&[10; 40], 2.0 / parts),
        ] {
            let (budget, began) = (Budget::default(), Instant::now());
            let end = began + Duration::from_secs(3600);
            let (mut until, mut spent) = (vec![began; costs.len()], Duration::ZERO);
            // Each is asked for again as soon as it is not kept any more.
            while let Some(at) =
                (0..costs.len()).min_by_key(|at| until[*at]).filter(|at| until[*at] < end)
            {
                let cost = Duration::from_millis(costs[at]);
                let kept = budget.pay(cost, until[at]);
                assert!((LEAST..=MOST).contains(&kept), "{costs:?}");
                spent += cost;
                until[at] += kept;
            }
            let share = spent.as_secs_f64() / 3600.0;
            assert!(share < most * 1.01, "{costs:?} cost {share} of a core");
        }
    }

    #[test]
    fn a_look_at_many_filters_lets_no_number_grow_old() {
        let (budget, now) = (Budget::default(), Instant::now());
        for _ in 0..1000 {
            budget.pay(Duration::from_millis(40), now);
        }
        let kept = budget.pay(Duration::from_millis(1), now);
        assert_eq!(kept, DEBT_MOST + Duration::from_millis(1) * PARTS);
        assert_eq!(budget.pay(Duration::from_secs(9), now), MOST);
    }

    #[test]
    fn the_first_answer_that_can_be_newer_says_when() {
        let again = AskAgain::new(Duration::ZERO);
        for millis in [700, 300, 900] {
            again.clone().within(Duration::from_millis(millis));
        }
        assert_eq!(again.millis(), Some(301));
        let slow = AskAgain::new(Duration::from_secs(2));
        slow.within(Duration::from_millis(300));
        assert_eq!(slow.millis(), Some(2001), "many pages are open");
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let (kept, again) =
            (Kept::new(Budget::default(), QUESTIONS), AskAgain::new(Duration::ZERO));
        for number in 0..QUESTIONS * 2 {
            kept.or_ask(&again, number.to_string(), 1, ready(Ok::<_, ()>(number)))
                .await
                .expect("an answer");
        }
        assert_eq!(kept.lock().of.len(), QUESTIONS);
    }
}
