//! Ended tasks in the store, merged by id, newest first.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{DoneRecord, Status, TaskId};
use rota_store::{Direction, KeyRange, Snapshot, Space, StoreError};

use crate::{api::TaskFilter, codec, engine::Engine, layout, specs::SpecReads};

/// Number of records to read from one space at a time.
const PAGE: usize = 256;

/// An iterator over ended tasks that may match a filter, as far as their records tell.
pub(super) struct EndedWalk<'a> {
    filter: &'a TaskFilter,
    reads: &'a SpecReads,
    snapshot: Option<Arc<dyn Snapshot>>,
    sources: Vec<Source>,
    next: Option<DoneRecord>,
    looked_at: Option<TaskId>,
}

/// The oldest id that may match the filter, because an id is not older than its task.
pub(super) fn oldest(filter: &TaskFilter) -> Option<TaskId> {
    TaskId::first_at(filter.created.from?)
}

/// A space, read page by page.
struct Source {
    range: KeyRange,
    /// Entries that were read, newest last.
    entries: Vec<(Bytes, Bytes)>,
    more: bool,
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
            filter.statuses.is_empty() || filter.statuses.iter().any(home)
        };
        let start = down_to.max(oldest(filter)).map(layout::task).unwrap_or_default();
        let source = |space: Space| Source {
            range: KeyRange { space, start: start.clone(), end: before.map(layout::task) },
            entries: Vec::new(),
            more: true,
        };
        let spaces = [layout::DONE, layout::DEAD].into_iter().filter(|space| is_wanted(*space));
        let sources: Vec<_> = spaces.map(source).collect();
        let snapshot =
            if sources.is_empty() { None } else { Some(engine.inner.store.snapshot().await?) };
        let reads = &engine.inner.shared.specs;
        Ok(Self { filter, reads, snapshot, sources, next: None, looked_at: None })
    }

    /// The oldest examined task.
    pub(super) fn looked_at(&self) -> Option<TaskId> {
        self.looked_at
    }

    /// The next task that may match. `None` at the end, or when the budget is used up.
    pub(super) async fn peek(&mut self, budget: &mut usize) -> Result<Option<TaskId>, StoreError> {
        while self.next.is_none() && *budget > 0 {
            let Some((space, id, value)) = self.advance().await? else { return Ok(None) };
            *budget -= 1;
            self.looked_at = Some(id);
            match codec::decode_done(&value) {
                Ok(record) => self.next = Some(record).filter(|record| self.selects(record)),
                // Somebody must repair it, but the other tasks can be listed.
                Err(error) => self.reads.damaged(space.name, id, &error.to_string()),
            }
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
    }

    /// The newest entry of all sources.
    async fn advance(&mut self) -> Result<Option<(Space, TaskId, Bytes)>, StoreError> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        for source in &mut self.sources {
            source.refill(snapshot.as_ref()).await?;
        }
        let newest = self.sources.iter_mut().max_by(|one, other| one.head().cmp(&other.head()));
        let Some(source) = newest else { return Ok(None) };
        let Some((key, value)) = source.entries.pop() else { return Ok(None) };
        let id = layout::parse_task(&key).ok_or_else(|| {
            let key = String::from_utf8_lossy(&key);
            StoreError::Corrupt(format!("{}/{key}: not a task id", source.range.space.name))
        })?;
        Ok(Some((source.range.space, id, value)))
    }
}

impl Source {
    fn head(&self) -> Option<&Bytes> {
        self.entries.last().map(|(key, _)| key)
    }

    /// Reads a page if there are no entries left.
    async fn refill(&mut self, snapshot: &dyn Snapshot) -> Result<(), StoreError> {
        if self.entries.is_empty() && self.more {
            let page = snapshot.scan(self.range.clone(), Direction::Descending, PAGE).await?;
            self.more = page.more;
            if let Some((last, _)) = page.entries.last() {
                self.range.end = Some(last.clone());
            }
            self.entries = page.entries;
            self.entries.reverse();
        }
        Ok(())
    }
}
