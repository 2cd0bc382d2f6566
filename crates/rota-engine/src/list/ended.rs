//! Ended tasks in the store, merged by id, newest first.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{DoneRecord, Status, TaskId};
use rota_store::{Direction, KeyRange, Snapshot, Space, StoreError};

use super::bounds::Bounds;
use crate::{
    api::{TaskFilter, has_error},
    engine::Engine,
    layout,
    records::{Done, Entry, RecordReads, Scan},
};

/// Number of records to read from one space at a time.
const PAGE: usize = 256;
/// Number of records after which to look at the clock.
const TIMED: usize = 64;

/// An iterator over ended tasks that may match a filter, as far as their records tell.
pub(super) struct EndedWalk<'a> {
    filter: &'a TaskFilter,
    reads: &'a RecordReads,
    snapshot: Option<Arc<dyn Snapshot>>,
    sources: Vec<Source>,
    next: Option<DoneRecord>,
    /// The examined tasks, newest first.
    examined: Vec<TaskId>,
    /// Whether the bounds of the call ended it.
    is_cut: bool,
}

/// The oldest id that may match the filter, because an id is not older than its task.
pub(super) fn oldest(filter: &TaskFilter) -> Option<TaskId> {
    TaskId::first_at(filter.created.from?)
}

/// A space, read page by page.
struct Source {
    scan: Scan<Done>,
    /// Entries that were read, newest last.
    entries: Vec<Entry<Done>>,
}

impl<'a> EndedWalk<'a> {
    /// Tasks older than `before`, down to `down_to`.
    pub(super) async fn open(
        engine: &'a Engine,
        filter: &'a TaskFilter,
        before: Option<TaskId>,
        down_to: Option<TaskId>,
    ) -> Result<Self, StoreError> {
        let is_wanted = |space: Space| {
            let home = |status: &Status| status.is_terminal() && layout::ended(*status) == space;
            // A completed task has no error.
            let can_have_error = filter.error.is_none() || space != layout::DONE;
            can_have_error && (filter.statuses.is_empty() || filter.statuses.iter().any(home))
        };
        let start = down_to.max(oldest(filter)).map(layout::task).unwrap_or_default();
        let source = |space: Space| {
            let range = KeyRange { space, start: start.clone(), end: before.map(layout::task) };
            Source { scan: Scan::new(range, Direction::Descending, PAGE), entries: Vec::new() }
        };
        let spaces = [layout::DONE, layout::DEAD].into_iter().filter(|space| is_wanted(*space));
        let sources: Vec<_> = spaces.map(source).collect();
        let snapshot =
            if sources.is_empty() { None } else { Some(engine.inner.store.snapshot().await?) };
        let reads = &engine.inner.shared.records;
        Ok(Self {
            filter,
            reads,
            snapshot,
            sources,
            next: None,
            examined: Vec::new(),
            is_cut: false,
        })
    }

    /// The oldest examined task.
    pub(super) fn looked_at(&self) -> Option<TaskId> {
        self.examined.last().copied()
    }

    /// The examined tasks, newest first.
    pub(super) fn examined(self) -> Vec<TaskId> {
        self.examined
    }

    /// Whether the bounds of the call ended it. Then older tasks may match.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The next task that may match. `None` at the end, or at the bounds of the call. Examines at least one.
    pub(super) async fn peek(&mut self, bounds: &mut Bounds) -> Result<Option<TaskId>, StoreError> {
        while self.next.is_none() {
            let is_timed = !self.examined.is_empty() && self.examined.len().is_multiple_of(TIMED);
            if bounds.ended == 0 || is_timed && bounds.is_late() {
                self.is_cut = true;
                return Ok(None);
            }
            let Some((id, entry)) = self.advance().await? else { return Ok(None) };
            bounds.ended -= 1;
            self.examined.push(id);
            // Somebody has to mend one that cannot be read; the others can be listed all the same.
            let record = self.reads.read(&entry, &id).record();
            self.next = record.filter(|record| self.selects(record));
        }
        Ok(self.next.as_ref().map(|record| record.id))
    }

    pub(super) fn take(&mut self) -> Option<DoneRecord> {
        self.next.take()
    }

    fn selects(&self, record: &DoneRecord) -> bool {
        let filter = self.filter;
        (filter.statuses.is_empty() || filter.statuses.contains(&record.status))
            && filter.queue.as_ref().is_none_or(|wanted| *wanted == record.queue)
            && filter.kind.as_ref().is_none_or(|wanted| *wanted == record.kind)
            && filter.run_at.contains(record.run_at)
            && (filter.priorities.is_empty() || filter.priorities.contains(&record.priority))
            && filter.worker.as_ref().is_none_or(|wanted| {
                record.last.as_ref().is_some_and(|last| last.worker == *wanted)
            })
            && filter.can_be_of_schedule(record.client_keys.id.as_ref())
            && has_error(filter.error, &record.kind, record.failure.as_ref())
    }

    /// The newest entry of all sources.
    async fn advance(&mut self) -> Result<Option<(TaskId, Entry<Done>)>, StoreError> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        for source in &mut self.sources {
            source.refill(snapshot.as_ref()).await?;
        }
        let newest = self.sources.iter_mut().max_by(|one, other| one.head().cmp(&other.head()));
        let Some(source) = newest else { return Ok(None) };
        let Some(entry) = source.entries.pop() else { return Ok(None) };
        let id = entry.typed_key().ok_or_else(|| {
            let key = String::from_utf8_lossy(&entry.key);
            StoreError::Corrupt(format!("{}/{key}: not a task id", source.scan.space().name))
        })?;
        Ok(Some((id, entry)))
    }
}

impl Source {
    fn head(&self) -> Option<&Bytes> {
        self.entries.last().map(|entry| &entry.key)
    }

    /// Reads a page if there are no entries left.
    async fn refill(&mut self, snapshot: &dyn Snapshot) -> Result<(), StoreError> {
        if self.entries.is_empty()
            && let Some(page) = self.scan.next(snapshot).await?
        {
            self.entries = page;
            self.entries.reverse();
        }
        Ok(())
    }
}
