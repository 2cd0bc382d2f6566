//! Reads of payloads for workers, bounded in number and each with a deadline. If a portion fails, its
//! payloads are read again one by one, so that an unreadable payload does not block others.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rota_core::{Assignment, TaskId};
use rota_store::{Store, StoreError};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    planted::Planted,
    records::{self, Found, Spec},
    specs::{FoundSpec, PORTION},
};

/// Maximum number of payloads that are read at once.
const WINDOW_MAX: usize = 128;
/// Maximum number of failed portions that are read at once, so that other reads do not wait for them.
const AGAIN_MAX: usize = 4;
/// Timeout of a read. A single payload gets more time.
const PORTION_DEADLINE: Duration = Duration::from_secs(3);
const ALONE_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between retries.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Time after which a single payload that cannot be read is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

/// Tasks whose payloads are read in one call.
pub(super) struct Portion {
    pub(super) assignments: Vec<Assignment>,
    /// Time of the first failure, and the pause before the next retry. Set only for a single task.
    failed: Option<(Instant, Duration)>,
}

/// The result of a concurrent operation of the dispatcher.
pub(super) enum Work {
    Read(Portion, Result<Vec<FoundSpec>, StoreError>),
    /// A failed portion can be read again.
    Rested(Portion),
    /// A report to the coordinator was sent.
    Told,
}

/// The concurrent operations of the dispatcher.
pub(super) struct Reads {
    store: Arc<dyn Store>,
    work: FuturesUnordered<Pin<Box<dyn Future<Output = Work> + Send>>>,
    /// Number of payloads that can be read at once. It shrinks when reads fail, and grows when they succeed.
    window: usize,
    in_flight: usize,
    /// Failed portions that can be read now.
    again: VecDeque<Portion>,
    again_in_flight: usize,
}

impl Reads {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            work: FuturesUnordered::new(),
            window: WINDOW_MAX,
            in_flight: 0,
            again: VecDeque::new(),
            again_in_flight: 0,
        }
    }

    /// The next result. Never resolves without operations. Cancel safe.
    pub(super) async fn next(&mut self) -> Work {
        match self.work.next().await {
            Some(work) => {
                if let Work::Read(portion, result) = &work {
                    let leaks = Planted::LeaksReads.is_made() && result.is_err();
                    let count = if leaks { 0 } else { portion.assignments.len() };
                    self.in_flight -= count;
                    self.again_in_flight -= usize::from(portion.failed.is_some());
                    self.window = match result {
                        Ok(_) => (self.window + count).min(WINDOW_MAX),
                        // A repeated failure tells nothing about other reads.
                        Err(_) if portion.failed.is_some() => self.window,
                        Err(_) => (self.window / 2).max(1),
                    };
                }
                work
            }
            None => std::future::pending().await,
        }
    }

    /// Maximum number of payloads of the next portion. `None` while no more can be read.
    pub(super) fn room(&mut self) -> Option<usize> {
        while self.again_in_flight < AGAIN_MAX
            && let Some(portion) = self.again.pop_front()
        {
            self.begin(portion);
        }
        let size = (self.window / 8).clamp(1, PORTION);
        // A failed portion is a single payload, and has its own limit.
        let first = self.in_flight - self.again_in_flight;
        (first == 0 || first + size <= self.window).then_some(size)
    }

    pub(super) fn start(&mut self, assignments: Vec<Assignment>) {
        self.begin(Portion { assignments, failed: None });
    }

    /// Reads the next failed portion.
    pub(super) fn again(&mut self, portion: Portion) {
        if !portion.assignments.is_empty() {
            self.again.push_back(portion);
        }
    }

    fn begin(&mut self, portion: Portion) {
        self.in_flight += portion.assignments.len();
        self.again_in_flight += usize::from(portion.failed.is_some());
        let store = self.store.clone();
        self.work.push(Box::pin(async move {
            let tasks: Vec<TaskId> =
                portion.assignments.iter().map(|assignment| assignment.task).collect();
            let deadline = if portion.failed.is_some() { ALONE_DEADLINE } else { PORTION_DEADLINE };
            let read = timeout(deadline, records::get::<Spec>(store.as_ref(), &tasks)).await;
            let read = read.unwrap_or(Err(StoreError::Timeout(deadline)));
            // A record that the store finds damaged counts like one that cannot be decoded.
            let read = match read {
                Err(StoreError::Corrupt(reason)) if tasks.len() == 1 => {
                    Ok(vec![Found::Damaged(reason)])
                }
                read => read,
            };
            Work::Read(portion, read)
        }));
    }

    /// The payloads of a failed portion to read again one by one, and those to give up.
    pub(super) fn failed(
        &self,
        portion: Portion,
        error: &StoreError,
    ) -> (Vec<Portion>, Vec<Assignment>) {
        if Planted::RepeatsUnreadable.is_made() {
            return (vec![portion], Vec::new());
        }
        let now = Instant::now();
        let failed = match portion.failed {
            None => (now, PAUSE_MIN),
            Some((since, pause)) => {
                let over = now.duration_since(since) >= GIVEN_UP_AFTER;
                if over || matches!(error, StoreError::Invalid(_)) {
                    return (Vec::new(), portion.assignments);
                }
                (since, (pause * 2).min(PAUSE_MAX))
            }
        };
        let alone = |assignment| Portion { assignments: vec![assignment], failed: Some(failed) };
        (portion.assignments.into_iter().map(alone).collect(), Vec::new())
    }

    /// Schedules another read of these after a pause.
    pub(super) fn rest(&mut self, portions: Vec<Portion>) {
        for portion in portions {
            let pause = portion.failed.map_or(PAUSE_MIN, |(_, pause)| pause);
            self.work.push(Box::pin(async move {
                sleep(pause).await;
                Work::Rested(portion)
            }));
        }
    }

    /// Runs another concurrent operation.
    pub(super) fn tell(&mut self, telling: impl Future<Output = ()> + Send + 'static) {
        self.work.push(Box::pin(async move {
            telling.await;
            Work::Told
        }));
    }
}

#[cfg(test)]
mod tests {
    use rota_core::{LeaseToken, SessionId, WallTime};
    use rota_store::{EmbeddedOptions, EmbeddedStore};

    use super::*;
    use crate::layout::SPACES;

    fn assignments(count: usize) -> Vec<Assignment> {
        let assignment = Assignment {
            session: SessionId(1),
            task: TaskId::from_u64(1).expect("an id"),
            token: LeaseToken(1),
            attempt: 1,
            run_at: WallTime(0),
        };
        vec![assignment; count]
    }

    #[test]
    fn as_many_payloads_are_read_at_once_as_the_window_has_and_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let store = EmbeddedStore::open(&directory.path().join("data"), SPACES, options);
        let mut reads = Reads::new(Arc::new(store.expect("an empty directory")));
        let started = |reads: &mut Reads| {
            let mut started = 0;
            while let Some(room) = reads.room()
                && started < 2 * WINDOW_MAX
            {
                reads.start(assignments(room));
                started += room;
            }
            started
        };
        // Nothing polls the reads, so all of them stay in flight.
        assert_eq!(started(&mut reads), WINDOW_MAX);
        assert_eq!(reads.in_flight, WINDOW_MAX);
        reads.in_flight = 0;
        reads.window = 1;
        assert_eq!(started(&mut reads), 1, "a window that has shrunk has room for one");
    }
}
