//! The most recent batches, kept in memory for watchers of stores that cannot replay them.
//!
//! One bounded log serves all watchers. Each reads it at its own pace, and gets an error if it falls behind
//! the oldest entry. Nothing here waits for a watcher.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::stream;

use crate::{
    model::{Mutation, Revision},
    store::{Change, ChangeStream, StoreError},
    watch,
};

/// How much a log keeps. The newest batch always stays, whatever its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChangeLogBounds {
    pub batches: usize,
    /// Of keys and values.
    pub bytes: usize,
}

#[derive(Debug)]
pub(crate) struct ChangeLog {
    retained: Mutex<Retained>,
    /// The newest revision. [`ChangeLog::close`] drops it when no more will come.
    newest: Mutex<Option<watch::Sender<Revision>>>,
    bounds: ChangeLogBounds,
}

#[derive(Debug)]
struct Retained {
    /// The batches after `forgotten`, in order. The numbers of revisions can have gaps.
    changes: VecDeque<(Change, usize)>,
    bytes: usize,
    newest: Revision,
    /// The newest revision of those that are no longer kept.
    forgotten: Revision,
}

enum Next {
    Here(Change),
    NotYet,
    Gone,
}

impl Retained {
    /// Nothing yet. What comes next is everything after this revision.
    fn after(newest: Revision) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, newest, forgotten: newest }
    }
}

impl ChangeLog {
    /// An empty log of a store at this revision.
    pub(crate) fn new(newest: Revision, bounds: ChangeLogBounds) -> Self {
        Self {
            retained: Mutex::new(Retained::after(newest)),
            newest: Mutex::new(Some(watch::Sender::new(newest))),
            bounds,
        }
    }

    /// Begins anew: what comes next is everything after this revision.
    #[cfg(feature = "consul")]
    pub(crate) fn restart(&self, newest: Revision) {
        *lock(&self.retained) = Retained::after(newest);
        // A waiting watcher may have missed the next batch.
        if let Some(sender) = lock(&self.newest).as_ref() {
            sender.send_replace(newest);
        }
    }

    /// Adds a batch that has just become durable.
    pub(crate) fn push(&self, change: Change) {
        let bytes = change.mutations.iter().map(Mutation::bytes).sum();
        let revision = change.revision;
        {
            let mut retained = lock(&self.retained);
            retained.newest = revision;
            retained.bytes += bytes;
            retained.changes.push_back((change, bytes));
            // Without the newest batch, nobody could see a very large one.
            while retained.changes.len() > 1
                && (retained.bytes > self.bounds.bytes
                    || retained.changes.len() > self.bounds.batches)
            {
                if let Some((change, bytes)) = retained.changes.pop_front() {
                    retained.bytes -= bytes;
                    retained.forgotten = change.revision;
                }
            }
        }
        if let Some(newest) = lock(&self.newest).as_ref() {
            newest.send_replace(revision);
        }
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        lock(&self.newest).take();
    }

    /// All changes after `after`.
    pub(crate) fn watch(self: &Arc<Self>, after: Revision) -> Result<ChangeStream, StoreError> {
        let Some(newest) = lock(&self.newest).as_ref().map(watch::Sender::subscribe) else {
            return Err(closed());
        };
        let watcher = Some((Arc::clone(self), newest, after));
        Ok(Box::pin(stream::unfold(watcher, async |watcher| {
            let (log, mut newest, after) = watcher?;
            loop {
                // Marks the revision as seen before reading, so that a later batch wakes this again.
                newest.mark_unchanged();
                match log.next(after) {
                    Next::Here(change) => {
                        let revision = change.revision;
                        return Some((Ok(change), Some((log, newest, revision))));
                    }
                    Next::Gone => return Some((Err(StoreError::Compacted), None)),
                    Next::NotYet => {
                        if newest.changed().await.is_err() {
                            return Some((Err(closed()), None));
                        }
                    }
                }
            }
        })))
    }

    fn next(&self, after: Revision) -> Next {
        let retained = lock(&self.retained);
        if after >= retained.newest {
            return Next::NotYet;
        }
        if after < retained.forgotten {
            return Next::Gone;
        }
        let index = retained.changes.partition_point(|(change, _)| change.revision <= after);
        let found = retained.changes.get(index);
        found.map_or(Next::Gone, |(change, _)| Next::Here(change.clone()))
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

/// Nothing panics under these locks, and even then their data would be consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, feature = "consul"))]
mod tests {
    use std::task::Poll;

    use futures_util::{StreamExt, poll};

    use super::*;
    use crate::model::Head;

    fn change(revision: u64) -> Change {
        Change { revision: Revision(revision), head: Head::default(), mutations: Arc::default() }
    }

    /// A reader that waits when the log begins anew hears of it, also if no batch follows.
    #[tokio::test]
    async fn a_waiting_watch_is_told_of_a_gap() {
        let log = Arc::new(ChangeLog::new(Revision(0), ChangeLogBounds { batches: 9, bytes: 9 }));
        let mut behind = log.watch(Revision(3)).expect("it is open");
        let mut ahead = log.watch(Revision(9)).expect("it is open");
        assert!(poll!(behind.next()).is_pending());
        log.restart(Revision(7));
        let end = poll!(behind.next());
        assert!(matches!(end, Poll::Ready(Some(Err(StoreError::Compacted)))), "{end:?}");
        log.push(change(9));
        assert!(poll!(ahead.next()).is_pending(), "a batch that was seen before");
        log.push(change(10));
        let next = poll!(ahead.next());
        assert!(matches!(next, Poll::Ready(Some(Ok(change))) if change.revision == Revision(10)));
    }
}
