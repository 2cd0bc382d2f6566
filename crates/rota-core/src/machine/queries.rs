//! Queries of the machine: the state of tasks, queues and sessions. Nothing here changes it.

use std::ops::Bound;

use super::{
    Assignment, Command, Flags, LeaseId, LeaseView, LiveView, Machine, Orders, QueueCounts,
    SessionView, TaskIndex, Waiting,
    index::QueueIndex,
    is_waiting,
    lane::{Lane, LaneEntry},
    session::Session,
};
use crate::{ClientKeys, LiveRecord, Name, SessionId, Status, TaskId, WallTime};

/// Number of lane entries that are checked one by one to count the tasks ahead. Beyond it, the count can
/// include void entries.
const COUNTED_EXACTLY: usize = 10_000;
/// Maximum number of tasks in the view of a session.
const TASKS_NAMED: usize = 1000;

impl Machine {
    /// The task whose record the caller must read from the store before it applies the command: one that is
    /// not live, and that the last steps did not change.
    #[must_use]
    pub fn wants_stored(&self, command: &Command) -> Option<TaskId> {
        let task = match command {
            Command::Task { task, .. } | Command::Report { task, .. } => *task,
            _ => return None,
        };
        (self.live.find(task).is_none() && !self.settling.knows(task)).then_some(task)
    }

    /// The view of a live task. `None` if it is not live.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<LiveView> {
        self.live.find(id).map(|index| self.view(index, COUNTED_EXACTLY))
    }

    /// The record of a live task, as the open step leaves it. `None` if it is not live.
    #[must_use]
    pub fn live_record(&self, id: TaskId) -> Option<LiveRecord> {
        self.live.find(id).map(|index| self.record_of(index))
    }

    /// The name of a session's worker. `None` if the session is not open.
    #[must_use]
    pub fn worker_of(&self, id: SessionId) -> Option<Name> {
        self.sessions.find(id).map(|index| self.sessions.at(index).worker.clone())
    }

    /// The view of a live task. `exactly` bounds the work of counting the tasks ahead.
    pub(super) fn view(&self, index: TaskIndex, exactly: usize) -> LiveView {
        let task = self.live.at(index);
        let id = task.id;
        let lane = &self.roster.lanes[task.lane];
        let lease = self.leases.get(&index).map(|lease| {
            let session = self.sessions.at(lease.session);
            LeaseView {
                session: session.id,
                worker: session.worker.clone(),
                token: lease.token,
                assigned_at: lease.assigned_at,
                started_at: lease.started_at,
                progress: lease.progress.clone(),
            }
        });
        LiveView {
            id,
            queue: self.roster.queues[lane.queue].name.clone(),
            kind: self.roster.kinds[lane.kind].clone(),
            status: task.status,
            priority: task.priority,
            run_at: task.run_at,
            expires_at: self.expiries.get(index).copied(),
            attempt: task.attempt,
            lost: task.lost.into(),
            failures: task.failures.into(),
            snoozes: task.snoozes.into(),
            edits: self.edits.get(index).copied().unwrap_or(0),
            cancel_requested: task.flags.has(Flags::CANCEL_REQUESTED),
            policy: *self.policies.at(task.policy),
            client_keys: self.client_keys.get(index).cloned().unwrap_or_default(),
            lease,
            waiting: self.waiting(index, exactly),
        }
    }

    /// Whether the task is live, but its record could not be read.
    #[must_use]
    pub fn is_set_aside(&self, task: TaskId) -> bool {
        self.unreadable.contains(&task)
    }

    /// Why a task does not run. `None` if it runs.
    fn waiting(&self, index: TaskIndex, exactly: usize) -> Option<Waiting> {
        let task = self.live.at(index);
        let lane = &self.roster.lanes[task.lane];
        match task.status {
            Status::Scheduled if task.flags.has(Flags::BACKING_OFF) => {
                Some(Waiting::BackingOff { attempt: task.attempt, until: task.run_at })
            }
            Status::Scheduled if task.flags.has(Flags::SNOOZED) => {
                Some(Waiting::Snoozed { attempt: task.attempt, until: task.run_at })
            }
            Status::Scheduled => Some(Waiting::DueLater { until: task.run_at }),
            Status::Pending if self.roster.queues[lane.queue].paused => Some(Waiting::QueuePaused),
            Status::Pending if !self.roster.is_served(task.lane) => Some(Waiting::NoWorker),
            Status::Pending if self.roster.is_rested(task.lane) => {
                Some(Waiting::NotAsked { ahead: self.ahead(lane, index, exactly) })
            }
            Status::Pending => Some(Waiting::SlotsBusy { ahead: self.ahead(lane, index, exactly) }),
            _ => None,
        }
    }

    /// The number of tasks ahead in its lane.
    fn ahead(&self, lane: &Lane, index: TaskIndex, exactly: usize) -> u64 {
        let task = self.live.at(index);
        let mut ahead = 0;
        for (priority, entries) in &lane.levels {
            let before = if *priority == task.priority {
                entries.partition_point(|entry| entry.order < task.order)
            } else {
                entries.len()
            };
            ahead += if before <= exactly {
                let valid = |entry: &&LaneEntry| is_waiting(&self.live, **entry);
                entries.iter().take(before).filter(valid).count()
            } else {
                before
            };
            if *priority == task.priority {
                break;
            }
        }
        (ahead as u64).min(lane.waiting.saturating_sub(1))
    }

    /// All queues, by name.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueCounts> {
        let indices = self.roster.queue_index.values();
        let mut queues: Vec<_> = indices.map(|index| self.counts(*index)).collect();
        queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        queues
    }

    /// Up to `most` queues with names after `after`, in order. The cost does not depend on other queues.
    #[must_use]
    pub fn queues_after(&self, after: Option<&Name>, most: usize) -> Vec<QueueCounts> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.roster.queue_names.range::<Name, _>((start, Bound::Unbounded)).take(most);
        names.filter_map(|name| self.queue(name)).collect()
    }

    /// A queue. `None` if no task or pause has named it.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueCounts> {
        self.roster.find_queue(name).map(|index| self.counts(index))
    }

    pub(super) fn counts(&self, index: QueueIndex) -> QueueCounts {
        let queue = &self.roster.queues[index];
        let lanes = queue.lanes.iter().map(|lane| &self.roster.lanes[*lane]);
        QueueCounts {
            name: queue.name.clone(),
            paused: queue.paused,
            pause: queue.pause.clone(),
            scheduled: queue.scheduled,
            pending: queue.pending,
            leased: queue.leased,
            unreadable: queue.unreadable,
            created_total: queue.created_total,
            completed_total: queue.completed_total,
            failed_total: queue.failed_total,
            oldest_pending: lanes.filter_map(|lane| self.oldest(lane)).min(),
        }
    }

    /// The earliest due time of the first tasks of all priorities.
    fn oldest(&self, lane: &Lane) -> Option<WallTime> {
        let firsts = lane.levels.iter().filter_map(|(_, entries)| entries.front());
        firsts.map(|entry| self.live.at(entry.task).run_at).min()
    }

    /// All sessions, by worker name.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        let mut sessions: Vec<_> = self
            .sessions
            .iter()
            .map(|(_, session)| self.session_view(session, TASKS_NAMED))
            .collect();
        sessions.sort_unstable_by(|a, b| (&a.worker, a.id).cmp(&(&b.worker, b.id)));
        sessions
    }

    /// Up to `most` sessions after `after` in the order of worker names, each with up to `tasks` of its
    /// tasks.
    #[must_use]
    pub fn sessions_after(
        &self,
        after: Option<&(Name, SessionId)>,
        most: usize,
        tasks: usize,
    ) -> Vec<SessionView> {
        let key = |session: &Session| (session.worker.clone(), session.id);
        let all = self.sessions.iter().map(|(index, session)| (key(session), index));
        let mut keys: Vec<_> =
            all.filter(|(key, _)| after.is_none_or(|after| key > after)).collect();
        if keys.len() > most {
            keys.select_nth_unstable(most);
        }
        keys.truncate(most);
        keys.sort_unstable();
        let view = |(_, index)| self.session_view(self.sessions.at(index), tasks);
        keys.into_iter().map(view).collect()
    }

    /// The sessions of the workers with this name, by id.
    #[must_use]
    pub fn sessions_of(&self, worker: &Name) -> Vec<SessionView> {
        let theirs = self.sessions.iter().filter(|(_, session)| session.worker == *worker);
        let mut sessions: Vec<_> =
            theirs.map(|(_, session)| self.session_view(session, TASKS_NAMED)).collect();
        sessions.sort_unstable_by_key(|view| view.id);
        sessions
    }

    /// Ids and last connections of all sessions, in any order.
    pub fn session_ids(&self) -> impl Iterator<Item = (SessionId, u64)> {
        self.sessions.iter().map(|(_, session)| (session.id, session.connection))
    }

    /// A session. `None` if it is not open.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<SessionView> {
        let index = self.sessions.find(id)?;
        Some(self.session_view(self.sessions.at(index), TASKS_NAMED))
    }

    /// Orders for a session's worker: attempts to stop, and draining. `None` if the session is not open. They
    /// stay the same until the worker has followed them, so a lost answer does no harm.
    #[must_use]
    pub fn orders(&self, id: SessionId) -> Option<Orders> {
        let session = self.sessions.at(self.sessions.find(id)?);
        let tasks = session.tasks.iter();
        let to_stop = tasks.filter(|task| self.live.at(**task).flags.has(Flags::CANCEL_REQUESTED));
        let lease = |task: &TaskIndex| LeaseId {
            task: self.live.at(*task).id,
            token: self.leases[task].token,
        };
        let mut stop: Vec<_> = to_stop.map(lease).collect();
        stop.sort_unstable_by_key(|lease| lease.task);
        Some(Orders { stop, draining: session.draining })
    }

    /// The leases of a session without those to stop, with the client ids of the tasks. `None` if the session
    /// is not open.
    #[must_use]
    pub fn held(&self, id: SessionId) -> Option<Vec<(Assignment, ClientKeys)>> {
        let session = self.sessions.at(self.sessions.find(id)?);
        let held = session.tasks.iter().filter_map(|index| {
            let (task, lease) = (self.live.at(*index), &self.leases[index]);
            let assignment = Assignment {
                session: id,
                task: task.id,
                token: lease.token,
                attempt: task.attempt,
                run_at: task.run_at,
            };
            let client_keys = || self.client_keys.get(*index).cloned().unwrap_or_default();
            (!task.flags.has(Flags::CANCEL_REQUESTED)).then(|| (assignment, client_keys()))
        });
        let mut held: Vec<_> = held.collect();
        held.sort_unstable_by_key(|(assignment, _)| assignment.task);
        Some(held)
    }

    fn session_view(&self, session: &Session, tasks: usize) -> SessionView {
        let named = session.tasks.iter().take(tasks).map(|index| {
            let client_keys = self.client_keys.get(*index).cloned().unwrap_or_default();
            (self.live.at(*index).id, client_keys)
        });
        let mut tasks: Vec<_> = named.collect();
        tasks.sort_unstable_by_key(|(id, _)| *id);
        SessionView {
            id: session.id,
            worker: session.worker.clone(),
            queues: session.queues.clone(),
            kinds: session.kinds.clone(),
            slots: session.shown_slots(),
            credit: session.credit,
            held: session.held(),
            tasks,
            opened_at: session.opened_at,
            heartbeat_age: self.now.mono.since(session.heard_at),
            draining: session.draining,
            awaited: session.awaited,
        }
    }
}
