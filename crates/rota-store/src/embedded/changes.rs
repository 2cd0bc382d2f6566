//! The most recent batches, kept in memory for watchers.
//!
//! One bounded log serves all watchers. Each reads it at its own pace, and gets an error if it falls behind
//! the oldest entry. Nothing here waits for a watcher.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::stream;
use tokio::sync::watch;

use crate::{
    model::{Mutation, Revision},
    store::{Change, ChangeStream, StoreError},
};

/// Maximum number of batches in the log.
const CHANGES_MAX: usize = 4096;

pub(super) struct ChangeLog {
    retained: Mutex<Retained>,
    /// The newest revision. [`ChangeLog::close`] drops it when no more will come.
    newest: Mutex<Option<watch::Sender<Revision>>>,
    bytes_max: usize,
}

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

impl ChangeLog {
    /// An empty log of a store at this revision.
    pub(super) fn new(newest: Revision, bytes_max: usize) -> Self {
        Self {
            retained: Mutex::new(Retained {
                changes: VecDeque::new(),
                bytes: 0,
                newest,
                forgotten: newest,
            }),
            newest: Mutex::new(Some(watch::Sender::new(newest))),
            bytes_max,
        }
    }

    /// Adds a batch that has just become durable.
    pub(super) fn push(&self, change: Change) {
        let bytes = change.mutations.iter().map(Mutation::bytes).sum();
        let revision = change.revision;
        {
            let mut retained = lock(&self.retained);
            retained.newest = revision;
            retained.bytes += bytes;
            retained.changes.push_back((change, bytes));
            // The newest batch always stays. Otherwise nobody could see a very large one.
            while retained.changes.len() > 1
                && (retained.bytes > self.bytes_max || retained.changes.len() > CHANGES_MAX)
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

    /// All changes after `after`.
    pub(super) fn watch(self: &Arc<Self>, after: Revision) -> Result<ChangeStream, StoreError> {
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
