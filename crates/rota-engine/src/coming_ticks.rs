//! Ids of coming ticks that no task has. They are read from the store before the ticks are due, so that ticks do not wait
//! for a read, and one read serves many.
//!
//! An id that was free when the store was read stays free until a client submits a task with it, or its tick creates
//! one. Whoever gives an id to a task calls [`ComingTicks::take`] first, so each answer of the store is used once.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use rota_core::{KeyOwner, Millis, Name, WallTime};
use rota_store::{Store, StoreError};
use rustc_hash::FxHashSet;
use tokio::time::timeout;

use crate::prefetch::{self, PREFETCH_WAIT};

/// How long before a tick its id is read.
const AHEAD: Millis = Millis(200);
/// The next read begins when the last one reaches less far than this.
const ASKED_FROM: Millis = Millis(100);
/// Unused ids are forgotten after one to two of these periods.
const KEPT_FOR: Millis = Millis(1000);

/// Ids of coming ticks. Bounded by the pace of reads and the number of ids in one read.
#[derive(Default)]
pub(crate) struct ComingTicks {
    free: FxHashSet<Name>,
    /// Those of the period before.
    former: FxHashSet<Name>,
    period: WallTime,
    /// Ids of ticks up to then have been asked for.
    until: WallTime,
    asked: Option<Asked>,
}

struct Asked {
    ids: Vec<Name>,
    /// Ids that no task has got since.
    untaken: FxHashSet<Name>,
    owners: BoxFuture<'static, Result<Vec<Option<KeyOwner>>, StoreError>>,
}

impl ComingTicks {
    /// The times of the ticks to ask for now, if it is time for that.
    pub(crate) fn wanted(&mut self, now: WallTime) -> Option<(WallTime, WallTime)> {
        if now.since(self.period) >= KEPT_FOR || now < self.period {
            self.period = now;
            self.former = std::mem::take(&mut self.free);
        }
        // After the clock was set back, other ticks are coming.
        let asked = self.until.since(now);
        let is_ahead = (ASKED_FROM..=AHEAD).contains(&asked);
        let from = if asked > AHEAD { now } else { now.max(self.until) };
        (self.asked.is_none() && !is_ahead).then_some((from + Millis(1), now + AHEAD))
    }

    /// Begins to read the owners of ids of ticks up to `until`.
    pub(crate) fn ask(&mut self, store: &Arc<dyn Store>, ids: Vec<Name>, until: WallTime) {
        self.until = until;
        if ids.is_empty() {
            return;
        }
        let (store, wanted) = (store.clone(), ids.clone());
        let owners = async move {
            let read = timeout(PREFETCH_WAIT, prefetch::owners(store.as_ref(), &wanted)).await;
            read.unwrap_or(Err(StoreError::Timeout(PREFETCH_WAIT)))
        };
        let untaken = ids.iter().cloned().collect();
        self.asked = Some(Asked { ids, untaken, owners: owners.boxed() });
    }

    /// Waits for the answer of the store. Never resolves if nothing was asked. Cancel safe.
    pub(crate) async fn answered(&mut self) {
        let Some(asked) = &mut self.asked else { return std::future::pending().await };
        let owners = asked.owners.as_mut().await;
        let Some(mut asked) = self.asked.take() else { return };
        // Without an answer, the owners are read when the ticks are due.
        for (id, owner) in asked.ids.into_iter().zip(owners.unwrap_or_default()) {
            if asked.untaken.remove(&id) && owner.is_none() {
                self.free.insert(id);
            }
        }
    }

    /// Forgets an id, because a task may get it now. Returns whether it is known to be free.
    pub(crate) fn take(&mut self, id: &Name) -> bool {
        if let Some(asked) = &mut self.asked {
            asked.untaken.remove(id);
        }
        let is_free = self.free.remove(id);
        self.former.remove(id) || is_free
    }
}

#[cfg(test)]
mod tests {
    use rota_store::{EmbeddedOptions, EmbeddedStore};

    use super::*;
    use crate::layout::SPACES;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn empty_store(directory: &tempfile::TempDir) -> Arc<dyn Store> {
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let store = EmbeddedStore::open(&directory.path().join("data"), SPACES, options);
        Arc::new(store.expect("an empty directory"))
    }

    #[test]
    fn it_asks_ahead_and_again_before_that_time_has_come() {
        let mut coming = ComingTicks::default();
        for (now, wanted) in [
            (1000, Some((1001, 1200))),
            (1099, None),
            (1101, Some((1201, 1301))),
            // After a pause, what is past is not asked for.
            (5000, Some((5001, 5200))),
            // After the clock was set back, other ticks are coming.
            (3000, Some((3001, 3200))),
        ] {
            let range = coming.wanted(WallTime(now));
            assert_eq!(range.map(|(from, until)| (from.0, until.0)), wanted, "{now}");
            if let Some((_, until)) = range {
                coming.until = until;
            }
        }
    }

    #[tokio::test]
    async fn an_id_is_free_once_and_not_if_a_task_may_have_got_it_meanwhile() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = empty_store(&directory);
        let mut coming = ComingTicks::default();
        let ids = ["free", "submitted-meanwhile", "unused"].map(name);
        coming.ask(&store, ids.to_vec(), WallTime(1));
        assert!(!coming.take(&ids[1]), "nothing is known yet");
        coming.answered().await;
        assert!(!coming.take(&ids[1]), "the answer may be older than its task");
        assert!(coming.take(&ids[0]));
        assert!(!coming.take(&ids[0]), "its tick has it now");
        // What is not used is forgotten.
        let wanted = |coming: &mut ComingTicks, now| coming.wanted(WallTime(now)).is_some();
        assert!(wanted(&mut coming, 5000));
        assert!(coming.former.contains(&ids[2]));
        assert!(wanted(&mut coming, 6000));
        assert!(!coming.take(&ids[2]));
    }

    #[tokio::test]
    async fn an_id_is_not_free_if_it_has_an_owner_or_the_store_does_not_answer() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = empty_store(&directory);
        let mut coming = ComingTicks::default();
        let task = rota_core::TaskId::from_u64(1).expect("an id");
        let owned = vec![None, Some(KeyOwner { task, fingerprint: 0 })];
        for (owners, expected) in [
            (Ok(owned), [true, false]),
            (Err(StoreError::Unavailable("away (test)".to_owned())), [false, false]),
        ] {
            let ids = ["a", "b"].map(name);
            coming.ask(&store, ids.to_vec(), WallTime(1));
            let asked = coming.asked.as_mut().expect("it is asked");
            asked.owners = std::future::ready(owners).boxed();
            coming.answered().await;
            assert_eq!(ids.map(|id| coming.take(&id)), expected);
        }
    }
}
