//! The most recent batches, kept in memory for those who watch.
//!
//! One bounded log serves all watchers: each reads it at its own pace and is told when it fell behind the
//! log's oldest entry. It begins with the pieces that Consul holds when the store is opened, so also batches
//! from before are seen. Nothing here ever waits for a watcher.

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

/// However small they are, no more batches than this are kept.
const CHANGES_MAX: usize = 16 * 1024;

/// Bytes of keys and values that are kept, shared with the state for as long as they are live.
const BYTES_MAX: usize = 32 << 20;

#[derive(Debug)]
pub(super) struct ChangeLog {
    retained: Mutex<Retained>,
    /// The newest revision; dropped (by [`ChangeLog::close`]) when no more will come.
    newest: Mutex<Option<watch::Sender<Revision>>>,
}

#[derive(Debug, Default)]
struct Retained {
    /// Every batch after `forgotten`, in order.
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

impl ChangeLog {
    pub(super) fn new() -> Self {
        Self { retained: Mutex::default(), newest: Mutex::new(Some(watch::Sender::default())) }
    }

    /// Begins anew: what comes next is everything after that revision.
    pub(super) fn restart(&self, forgotten: Revision) {
        *lock(&self.retained) = Retained { newest: forgotten, forgotten, ..Retained::default() };
        // Who waits for the next batch may have missed it.
        if let Some(newest) = lock(&self.newest).as_ref() {
            newest.send_replace(forgotten);
        }
    }

    /// Adds the batch that just landed.
    pub(super) fn push(&self, change: Change) {
        let bytes = change.mutations.iter().map(Mutation::bytes).sum();
        let revision = change.revision;
        {
            let mut retained = lock(&self.retained);
            retained.newest = revision;
            retained.bytes += bytes;
            retained.changes.push_back((change, bytes));
            // The newest stays whatever its size, or nobody could ever see a large batch.
            while retained.changes.len() > 1
                && (retained.bytes > BYTES_MAX || retained.changes.len() > CHANGES_MAX)
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
    pub(super) fn close(&self) {
        lock(&self.newest).take();
    }

    /// Every change from the first one after `after`.
    pub(super) fn watch(self: &Arc<Self>, after: Revision) -> Result<ChangeStream, StoreError> {
        let Some(newest) = lock(&self.newest).as_ref().map(watch::Sender::subscribe) else {
            return Err(closed());
        };
        let watcher = Some((Arc::clone(self), newest, after));
        Ok(Box::pin(stream::unfold(watcher, async |watcher| {
            let (log, mut newest, after) = watcher?;
            loop {
                // Marked seen before looking, so that what lands meanwhile wakes us again.
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

/// Nothing panics while holding these locks; if something did, what they guard is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
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
        let log = Arc::new(ChangeLog::new());
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
