//! A store that stalls at planned times, for tests and benchmarks with a bad store.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::{
    model::{
        Batch, BatchLimits, Direction, Epoch, Fence, Head, KeyRange, Member, Page, Revision, Seat,
        Space,
    },
    store::{ChangeStream, CommitError, Leadership, Snapshot, Store, StoreError, StoreStatus},
};

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalled {
    /// Reads begin when the stall is over.
    Reads,
    /// Commits begin when the stall is over.
    Commits,
    /// Commits are applied at once, but answered only when the stall is over.
    CommitAnswers,
    /// Reads and commits.
    All,
}

/// A stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// What stands still.
    pub what: Stalled,
    /// Its start, counted from the wrapping of the store.
    pub begins: Duration,
    pub lasts: Duration,
    /// Its period. `None` for a single stall.
    pub every: Option<Duration>,
}

impl Stall {
    /// The end of the stall at this time, if there is one.
    fn over(&self, now: Duration) -> Option<Duration> {
        let since = now.checked_sub(self.begins)?;
        let round = self.every.filter(|every| !every.is_zero()).map_or(Duration::ZERO, |every| {
            let whole = since.as_nanos() / every.as_nanos() * every.as_nanos();
            Duration::from_nanos(u64::try_from(whole).unwrap_or(u64::MAX))
        });
        (since - round < self.lasts).then(|| self.begins + round + self.lasts)
    }
}

/// A wrapper of a store that stalls by a plan. Elections, watches and reads of the status continue meanwhile.
pub struct SlowStore {
    inner: Arc<dyn Store>,
    plan: Arc<Plan>,
    trap: Trap,
    problem: Mutex<Option<String>>,
}

/// Blocks the thread of callers of `limits` while it is closed.
#[derive(Default)]
struct Trap {
    closed: Mutex<bool>,
    opened: Condvar,
}

struct Plan {
    wrapped: Instant,
    stalls: Vec<Stall>,
}

impl SlowStore {
    /// Wraps a store. The plan starts now.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, stalls: Vec<Stall>) -> Self {
        let plan = Arc::new(Plan { wrapped: Instant::now(), stalls });
        Self { inner, plan, trap: Trap::default(), problem: Mutex::default() }
    }

    /// Blocks callers of `limits` until the end of the block. An engine calls it between two steps, so only
    /// its loop stalls. Nothing else can stop the blocked thread, so a test must always end the block.
    pub fn hold_limits(&self, hold: bool) {
        *self.trap.closed.lock().unwrap_or_else(PoisonError::into_inner) = hold;
        self.trap.opened.notify_all();
    }

    /// Sets the status to return from now on. `None` returns the true one.
    pub fn set_problem(&self, problem: Option<&str>) {
        let problem = problem.map(ToOwned::to_owned);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl Plan {
    /// Waits while any of these stalls.
    async fn pass(&self, of: &[Stalled]) {
        loop {
            let now = self.wrapped.elapsed();
            let stalls = self.stalls.iter().filter(|stall| of.contains(&stall.what));
            let Some(over) = stalls.filter_map(|stall| stall.over(now)).max() else { return };
            sleep_until(self.wrapped + over).await;
        }
    }

    async fn pass_reads(&self) {
        self.pass(&[Stalled::Reads, Stalled::All]).await;
    }
}

#[async_trait]
impl Store for SlowStore {
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.plan.pass(&[Stalled::Commits, Stalled::All]).await;
        let outcome = self.inner.commit(fence, batch).await;
        self.plan.pass(&[Stalled::CommitAnswers]).await;
        outcome
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.plan.pass_reads().await;
        self.inner.get(keys).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.plan.pass_reads().await;
        self.inner.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.plan.pass_reads().await;
        let inner = self.inner.snapshot().await?;
        Ok(Arc::new(SlowSnapshot { inner, plan: Arc::clone(&self.plan) }))
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        self.inner.watch(after).await
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        self.inner.campaign(me).await
    }

    fn leader(&self) -> crate::watch::Receiver<Option<Seat>> {
        self.inner.leader()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.inner.members().await
    }

    fn announce_ready(&self, name: &str, leadership: Epoch) {
        self.inner.announce_ready(name, leadership);
    }

    async fn status(&self) -> StoreStatus {
        let status = self.inner.status().await;
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        StoreStatus { problem: problem.or(status.problem), ..status }
    }

    fn limits(&self) -> BatchLimits {
        let closed = self.trap.closed.lock().unwrap_or_else(PoisonError::into_inner);
        // A guard that is released at once: nobody else waits for it.
        drop(self.trap.opened.wait_while(closed, |closed| *closed));
        self.inner.limits()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct SlowSnapshot {
    inner: Arc<dyn Snapshot>,
    plan: Arc<Plan>,
}

#[async_trait]
impl Snapshot for SlowSnapshot {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.plan.pass_reads().await;
        self.inner.get(keys).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.plan.pass_reads().await;
        self.inner.scan(range, direction, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_planned_stands_still_and_nothing_else() {
        let stall = Stall {
            what: Stalled::Reads,
            begins: 2 * SECOND,
            lasts: SECOND,
            every: Some(5 * SECOND),
        };
        let plan = Plan { wrapped: Instant::now(), stalls: vec![stall] };
        let passes = async |at: Duration| {
            sleep_until(plan.wrapped + at).await;
            plan.pass(&[Stalled::Commits, Stalled::All]).await;
            assert_eq!(plan.wrapped.elapsed(), at, "commits stood still");
            plan.pass_reads().await;
            plan.wrapped.elapsed() - at
        };
        let half = SECOND / 2;
        assert_eq!(passes(SECOND).await, Duration::ZERO);
        assert_eq!(passes(2 * SECOND).await, SECOND);
        assert_eq!(passes(3 * SECOND).await, Duration::ZERO);
        assert_eq!(passes(12 * SECOND + half).await, half);
        assert_eq!(passes(13 * SECOND).await, Duration::ZERO);
    }
}
