//! Failed tasks in groups: one for each kind and fingerprint of the error. A call examines a bounded number of tasks,
//! the newest first, and keeps a bounded number of groups.

use std::time::Duration;

use rota_core::{
    DoneRecord, ErrorFingerprint, Failure, LiveFilter, LiveView, Name, Status, TaskId, WallTime,
    fold_error,
};
use rustc_hash::FxHashMap;

use super::{
    PART,
    bounds::{Bounds, ENDED_MAX},
    ended::EndedWalk,
};
use crate::{
    api::{EngineError, TaskFilter, TimeRange},
    engine::Engine,
};

/// Maximum number of groups to keep in memory.
const GROUPS_MAX: usize = 1000;
/// Maximum bytes of the sample of a group.
const SAMPLE_BYTES_MAX: usize = 1024;
/// Maximum number of queues of a group to name.
const QUEUES_MAX: usize = 5;
/// Maximum number of tasks of a group to name.
const TASKS_MAX: usize = 3;

/// The tasks to group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailureState {
    /// Tasks that have failed.
    #[default]
    Failed,
    /// Tasks that wait for another attempt.
    Retrying,
}

/// A filter of failures. All set fields must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureFilter {
    pub state: FailureState,
    pub queue: Option<Name>,
    pub kind: Option<Name>,
    /// Time of the failure.
    pub failed: TimeRange,
}

/// Failures of one kind with the same fingerprint.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureGroup {
    pub kind: Name,
    pub fingerprint: ErrorFingerprint,
    /// The message with placeholders.
    pub folded: String,
    /// The newest failure. Its message can be cut.
    pub sample: Failure,
    /// Some of the queues of the tasks.
    pub queues: Vec<Name>,
    /// Number of tasks.
    pub count: u64,
    pub first_at: WallTime,
    pub last_at: WallTime,
    /// The shown ids of some tasks, newest first.
    pub tasks: Vec<String>,
}

/// Groups of failures, the most recent first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FailureList {
    pub groups: Vec<FailureGroup>,
    /// Number of tasks in groups that are not listed.
    pub other: u64,
    /// Number of tasks that were examined.
    pub examined: u64,
    /// Whether all tasks were examined.
    pub complete: bool,
}

/// A failure of a task.
struct Failed<'a> {
    task: TaskId,
    client_id: Option<&'a Name>,
    queue: &'a Name,
    kind: &'a Name,
    at: WallTime,
    failure: &'a Failure,
}

#[derive(Default)]
struct Groups {
    /// Number of tasks that were examined.
    examined: u64,
    by_fingerprint: FxHashMap<ErrorFingerprint, FailureGroup>,
    other: u64,
}

impl Engine {
    /// Groups of failures, up to `limit`, the most recent first, of the tasks that can be examined within this time.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn failures(
        &self,
        filter: &FailureFilter,
        limit: usize,
        time: Duration,
    ) -> Result<FailureList, EngineError> {
        let mut bounds = Bounds::new(time);
        let mut groups = Groups::default();
        let complete = match filter.state {
            FailureState::Failed => self.group_ended(filter, &mut bounds, &mut groups).await?,
            FailureState::Retrying => self.group_waiting(filter, &bounds, &mut groups).await?,
        };
        let examined = groups.examined;
        let (groups, other) = groups.newest(limit);
        Ok(FailureList { groups, other, examined, complete })
    }

    async fn group_ended(
        &self,
        filter: &FailureFilter,
        bounds: &mut Bounds,
        groups: &mut Groups,
    ) -> Result<bool, EngineError> {
        let FailureFilter { queue, kind, failed, .. } = filter.clone();
        let wanted =
            TaskFilter { queue, kind, statuses: vec![Status::Failed], ..TaskFilter::default() };
        let mut walk = EndedWalk::open(self, &wanted, None, None).await?;
        while walk.peek(bounds).await?.is_some() {
            let Some(record) = walk.take() else { continue };
            let failed = Failed::of_ended(&record).filter(|it| failed.contains(it.at));
            failed.into_iter().for_each(|failed| groups.add(&failed));
        }
        let complete = !walk.is_cut();
        groups.examined += walk.examined().len() as u64;
        Ok(complete)
    }

    async fn group_waiting(
        &self,
        filter: &FailureFilter,
        bounds: &Bounds,
        groups: &mut Groups,
    ) -> Result<bool, EngineError> {
        let FailureFilter { queue, kind, failed, .. } = filter.clone();
        let wanted = LiveFilter { queue, kind, only_tried: true, ..LiveFilter::default() };
        let (mut before, mut read) = (None, 0);
        loop {
            let page = self.live_page(&wanted, before, PART).await?;
            read += page.tasks.len();
            groups.examined += page.examined.len() as u64;
            let last = self.last_failures(page.tasks.iter()).await?;
            for view in &page.tasks {
                let last = last.get(&view.id);
                let failure = last.and_then(|last| last.failure.as_ref().zip(last.ended_at));
                if let Some((failure, at)) = failure.filter(|(_, at)| failed.contains(*at)) {
                    groups.add(&Failed::of_waiting(view, failure, at));
                }
            }
            before = page.down_to;
            if before.is_none() || read >= ENDED_MAX || bounds.is_late() {
                return Ok(before.is_none());
            }
        }
    }
}

impl<'a> Failed<'a> {
    fn of_ended(record: &'a DoneRecord) -> Option<Self> {
        Some(Self {
            task: record.id,
            client_id: record.client_keys.id.as_ref(),
            queue: &record.queue,
            kind: &record.kind,
            at: record.finished_at,
            failure: record.failure.as_ref()?,
        })
    }

    fn of_waiting(view: &'a LiveView, failure: &'a Failure, at: WallTime) -> Self {
        Self {
            task: view.id,
            client_id: view.client_keys.id.as_ref(),
            queue: &view.queue,
            kind: &view.kind,
            at,
            failure,
        }
    }
}

impl Groups {
    fn add(&mut self, failed: &Failed<'_>) {
        let folded = fold_error(&failed.failure.message);
        let fingerprint = ErrorFingerprint::of_folded(failed.kind, &folded);
        if self.by_fingerprint.len() >= GROUPS_MAX
            && !self.by_fingerprint.contains_key(&fingerprint)
        {
            self.other += 1;
            return;
        }
        let group = self.by_fingerprint.entry(fingerprint).or_insert_with(|| FailureGroup {
            kind: failed.kind.clone(),
            fingerprint,
            folded,
            sample: sample(failed.failure),
            queues: Vec::new(),
            count: 0,
            first_at: failed.at,
            last_at: failed.at,
            tasks: Vec::new(),
        });
        group.count += 1;
        group.first_at = group.first_at.min(failed.at);
        if failed.at > group.last_at {
            group.last_at = failed.at;
            group.sample = sample(failed.failure);
        }
        if group.queues.len() < QUEUES_MAX && !group.queues.contains(failed.queue) {
            group.queues.push(failed.queue.clone());
        }
        if group.tasks.len() < TASKS_MAX {
            let shown_id = failed.client_id.map(ToString::to_string);
            group.tasks.push(shown_id.unwrap_or_else(|| failed.task.to_string()));
        }
    }

    /// The most recent groups, and the number of tasks in the others.
    fn newest(self, limit: usize) -> (Vec<FailureGroup>, u64) {
        let mut groups: Vec<_> = self.by_fingerprint.into_values().collect();
        groups.sort_unstable_by(|a, b| {
            b.last_at.cmp(&a.last_at).then(a.fingerprint.cmp(&b.fingerprint))
        });
        let left_out = groups.split_off(limit.min(groups.len()));
        let other = left_out.iter().map(|group| group.count).sum::<u64>();
        (groups, self.other + other)
    }
}

/// The failure with the beginning of its message.
fn sample(failure: &Failure) -> Failure {
    let mut end = failure.message.len().min(SAMPLE_BYTES_MAX);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    Failure { message: failure.message[..end].into(), ..failure.clone() }
}
