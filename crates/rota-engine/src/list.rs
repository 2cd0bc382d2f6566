//! Lists of tasks, newest first, and what is done to many at once.
//!
//! Ids sort by creation, so a list walks the spaces of live, completed and dead tasks from the end
//! and merges them by id. A cursor is the last id looked at: tasks that come or go meanwhile
//! neither shift nor repeat a page. One call looks at a bounded number of tasks; when a filter
//! selects few, a page is short and says where to go on.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use bytes::Bytes;
use rota_core::{
    Command, DoneRecord, LiveRecord, LiveView, Name, Refusal, TaskId, TaskSpec, WallTime,
};
use rota_store::{Direction, KeyRange, Snapshot, Space, StoreError};
use rustc_hash::FxHashMap;

use crate::{
    api::{BulkAction, BulkOutcome, Cursor, EngineError, TaskFilter, TaskPage, TaskView},
    codec,
    dispatch::{corrupt, read_specs},
    engine::Engine,
    layout,
    request::Request,
    view::{done_view, live_view},
};

/// Records read from one space at a time.
const PAGE: usize = 256;
/// Records looked at in one call.
const LOOKED_AT_MAX: usize = 20_000;

/// A task's state as a space holds it.
enum Record {
    Live(Box<LiveRecord>),
    Done(Box<DoneRecord>),
}

impl Record {
    fn id(&self) -> TaskId {
        match self {
            Self::Live(record) => record.id,
            Self::Done(record) => record.id,
        }
    }

    fn facts(&self) -> (&Name, &Name, WallTime) {
        match self {
            Self::Live(record) => (&record.queue, &record.kind, record.run_at),
            Self::Done(record) => (&record.queue, &record.kind, record.run_at),
        }
    }
}

impl Engine {
    /// Tasks, newest first, without payloads. `page_size` is at least 1.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn list(
        &self,
        filter: &TaskFilter,
        page_size: usize,
        after: Option<Cursor>,
    ) -> Result<TaskPage, EngineError> {
        let snapshot = self.inner.store.snapshot().await?;
        let mut walk = Walk::new(snapshot, filter, after);
        let mut page = TaskPage::default();
        let mut looked_at = 0;
        while page.tasks.len() < page_size && looked_at < LOOKED_AT_MAX {
            let mut candidates = Vec::new();
            while candidates.len() < page_size - page.tasks.len() && looked_at < LOOKED_AT_MAX {
                let Some(record) = walk.next().await? else { break };
                looked_at += 1;
                page.next = Some(Cursor { before: record.id() });
                if selects(filter, &record) {
                    candidates.push(record);
                }
            }
            if candidates.is_empty() && looked_at < LOOKED_AT_MAX {
                page.next = None;
                break;
            }
            let views = self.views(candidates).await?;
            page.tasks.extend(views.into_iter().filter(|view| selects_view(filter, view)));
        }
        if page.next.is_some() && walk.next().await?.is_none() {
            page.next = None;
        }
        Ok(page)
    }

    /// Does one thing to up to `limit` tasks that a filter selects.
    ///
    /// # Errors
    /// As [`Engine::list`]; what was done before stays done.
    pub async fn bulk(
        &self,
        action: BulkAction,
        filter: &TaskFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<BulkOutcome, EngineError> {
        self.inner.shared.admit_change()?;
        let page = self.list(filter, limit, after).await?;
        let command = |view: &TaskView| {
            let task = view.spec.id;
            match action {
                BulkAction::Cancel => Command::Cancel { task, stored: None },
                BulkAction::Retry => Command::Retry { task, stored: None, spec: None },
                BulkAction::Delete => Command::Delete { task, stored: None },
            }
        };
        let mut outcome = BulkOutcome { next: page.next, ..BulkOutcome::default() };
        let commands: Vec<_> = page.tasks.iter().map(command).collect();
        if commands.is_empty() {
            return Ok(outcome);
        }
        let results = self.ask(|answer| Request::Commands { commands, answer }).await?;
        for result in results {
            match result {
                Ok(_) => outcome.changed += 1,
                Err(Refusal::UnknownTask | Refusal::Illegal(_)) => outcome.skipped += 1,
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(outcome)
    }

    /// What clients see of these tasks, in the same order. Tasks removed meanwhile are left out.
    async fn views(&self, records: Vec<Record>) -> Result<Vec<TaskView>, EngineError> {
        let ids: Vec<TaskId> = records.iter().map(Record::id).collect();
        let live = self.live_views(&records).await?;
        let mut live: FxHashMap<TaskId, LiveView> =
            live.into_iter().map(|view| (view.id, view)).collect();
        let specs = read_specs(self.inner.store.as_ref(), &ids).await?;
        let mut views = Vec::with_capacity(records.len());
        for (record, spec) in records.into_iter().zip(specs) {
            let Some(spec) = spec else { continue };
            let spec = without_payload(spec);
            match record {
                Record::Done(done) => views.push(done_view(spec, &done)),
                Record::Live(record) => match live.remove(&record.id) {
                    Some(view) => {
                        let last = self.last_failure(&view).await?;
                        views.push(live_view(spec, view, last));
                    }
                    // It ended after the snapshot was taken.
                    None => {
                        if let Some(done) = self.done(record.id).await? {
                            views.push(done_view(spec, &done));
                        }
                    }
                },
            }
        }
        Ok(views)
    }

    /// How the live ones stand: by the machine's word, or by their records while that waits for a commit.
    async fn live_views(&self, records: &[Record]) -> Result<Vec<LiveView>, EngineError> {
        let live = records.iter().filter_map(|record| match record {
            Record::Live(record) => Some(record.as_ref()),
            Record::Done(_) => None,
        });
        if self.inner.shared.is_full() {
            return Ok(self.recorded(live.rev()));
        }
        let ids: Vec<TaskId> = live.map(|record| record.id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.look(move |machine| ids.into_iter().filter_map(|id| machine.task(id)).collect()).await
    }
}

fn without_payload(spec: Arc<TaskSpec>) -> Arc<TaskSpec> {
    let spec = Arc::unwrap_or_clone(spec);
    Arc::new(TaskSpec { payload: Bytes::new(), ..spec })
}

/// What can be told from the record alone.
fn selects(filter: &TaskFilter, record: &Record) -> bool {
    let (queue, kind, run_at) = record.facts();
    let status = match record {
        Record::Done(done) => filter.statuses.is_empty() || filter.statuses.contains(&done.status),
        Record::Live(_) => true,
    };
    status
        && filter.queue.as_ref().is_none_or(|wanted| wanted == queue)
        && filter.kind.as_ref().is_none_or(|wanted| wanted == kind)
        && filter.run_at.contains(run_at)
}

/// What needs the definition, or the live state.
fn selects_view(filter: &TaskFilter, view: &TaskView) -> bool {
    (filter.statuses.is_empty() || filter.statuses.contains(&view.status))
        && filter.created.contains(view.spec.created_at)
        && filter.labels.iter().all(|label| view.spec.labels.contains(label))
}

/// Spaces merged by id, newest first.
struct Walk {
    snapshot: Arc<dyn Snapshot>,
    sources: Vec<Source>,
    /// The newest id of each source that has one in hand.
    heads: BinaryHeap<(TaskId, Reverse<usize>)>,
    started: bool,
}

/// One space, read page by page.
struct Source {
    range: KeyRange,
    /// Entries in hand, the newest last.
    entries: Vec<(Bytes, Bytes)>,
    more: bool,
}

impl Walk {
    fn new(snapshot: Arc<dyn Snapshot>, filter: &TaskFilter, after: Option<Cursor>) -> Self {
        let end = after.map(|cursor| layout::task(cursor.before));
        let wanted = |space: Space| {
            filter.statuses.is_empty()
                || filter.statuses.iter().any(|status| {
                    let home =
                        if status.is_terminal() { layout::ended(*status) } else { layout::LIVE };
                    home == space
                })
        };
        let source = |space: Space| Source {
            range: KeyRange { space, start: Bytes::new(), end: end.clone() },
            entries: Vec::new(),
            more: true,
        };
        let spaces = [layout::LIVE, layout::DONE, layout::DEAD];
        Self {
            snapshot,
            sources: spaces.into_iter().filter(|space| wanted(*space)).map(source).collect(),
            heads: BinaryHeap::new(),
            started: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Record>, StoreError> {
        if !self.started {
            self.started = true;
            for source in 0..self.sources.len() {
                self.refill(source).await?;
            }
        }
        let Some((id, Reverse(index))) = self.heads.pop() else { return Ok(None) };
        let source = &mut self.sources[index];
        let (_, value) = source.entries.pop().expect("a head stands for an entry");
        let record = if source.range.space == layout::LIVE {
            let record = codec::decode_live(&value).map_err(|error| corrupt("live", id, &error))?;
            Record::Live(Box::new(record))
        } else {
            let record = codec::decode_done(&value).map_err(|error| corrupt("done", id, &error))?;
            Record::Done(Box::new(record))
        };
        self.refill(index).await?;
        Ok(Some(record))
    }

    /// Puts the source's next id among the heads, reading a page if none is in hand.
    async fn refill(&mut self, index: usize) -> Result<(), StoreError> {
        let source = &mut self.sources[index];
        if source.entries.is_empty() && source.more {
            let direction = Direction::Descending;
            let page = self.snapshot.scan(source.range.clone(), direction, PAGE).await?;
            source.more = page.more;
            if let Some((last, _)) = page.entries.last() {
                source.range.end = Some(last.clone());
            }
            source.entries = page.entries;
            source.entries.reverse();
        }
        if let Some((key, _)) = source.entries.last() {
            let id = layout::parse_task(key).ok_or_else(|| {
                let key = String::from_utf8_lossy(key);
                StoreError::Corrupt(format!("{}/{key}: not a task id", source.range.space.name))
            })?;
            self.heads.push((id, Reverse(index)));
        }
        Ok(())
    }
}
