//! The tasks whose output somebody listens to.
//!
//! The hub says which workers must send output; the dispatcher carries that to their sessions (`Order`). Its lock
//! is held for a few instructions, or to copy one portion, and never across an await.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use rota_core::{Assignment, LeaseId, Name, SessionId, Status, TaskId};
use rota_store::watch;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::{
    buffer::{Buffer, Found},
    place::OutputPlace,
};

/// Maximum number of attempts of a task that are remembered. More have no output in the buffer of a listener that
/// is not far behind.
const ATTEMPTS_MAX: usize = 16;

/// Limits on the output of running tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// Bytes of output that are kept of each task that is listened to. A listener that is further behind is told
    /// of a gap.
    pub task_bytes: usize,
    /// Maximum number of listeners of this node.
    pub listeners: usize,
    /// Maximum number of listeners of a task.
    pub task_listeners: usize,
}

impl OutputLimits {
    /// The default limits, also of the settings of the `rota` binary.
    pub const DEFAULT: Self = Self { task_bytes: 256 << 10, listeners: 200, task_listeners: 20 };
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why there is no place for a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// This node does not lead.
    NotLeading,
    /// There are as many listeners as the limit of this name allows.
    Full(&'static str, usize),
}

/// A seat of a listener. [`OutputHub::left`] gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) task: TaskId,
    term: u64,
    pub(super) progress: watch::Receiver<()>,
}

/// What a session must send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) session: SessionId,
    pub(crate) lease: LeaseId,
    pub(crate) on: bool,
}

/// A running attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) session: SessionId,
    pub(crate) lease: LeaseId,
    pub(crate) attempt: u32,
    pub(crate) worker: Option<Name>,
}

/// An attempt, as listeners are told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The token of its lease.
    pub(super) lease: u64,
    pub(super) number: u32,
    pub(super) worker: Option<Name>,
}

/// What the worker of an attempt does about its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Nothing was heard of it yet.
    Awaited,
    /// It sends the output.
    Sends,
    /// It reports the output only at the end of the attempt.
    AtEnd,
    /// It has reported the end of the attempt.
    Over,
}

#[derive(Debug)]
struct Current {
    running: Running,
    answer: Answer,
    /// Whether the task went into the channel of its session.
    is_sent: bool,
}

#[derive(Debug, Default)]
struct Watched {
    listeners: usize,
    buffer: Buffer,
    current: Option<Current>,
    /// The last attempts, the current one among them.
    attempts: VecDeque<Attempt>,
    ended: Option<Status>,
    progress: watch::Sender<()>,
}

impl Watched {
    /// The current attempt, if it has this lease.
    fn holding(&mut self, lease: LeaseId) -> Option<&mut Current> {
        self.current.as_mut().filter(|current| current.running.lease == lease)
    }
}

/// What a listener reads.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    Output(Bytes),
    /// Output is missing, up to this offset if it is known.
    Gap(Option<u64>),
    /// Another attempt begins.
    Attempt(Attempt),
    /// The worker sends the output only at the end of the attempt.
    AtEnd,
    /// Nothing now. The worker was heard of, or there is nothing to wait for, if the value says so.
    Nothing(bool),
    /// The task has ended.
    Ended(Status),
    /// The leadership has ended.
    Over,
}

#[derive(Debug, Default)]
struct Tasks {
    leads: bool,
    /// The number of the leadership in this process.
    term: u64,
    by_id: FxHashMap<TaskId, Watched>,
    listeners: usize,
    orders: VecDeque<Order>,
}

/// The output of tasks that are listened to, while this node leads.
pub(crate) struct OutputHub {
    /// Whether there are listeners. Only this is looked at while there are none.
    is_active: AtomicBool,
    limits: OutputLimits,
    tasks: Mutex<Tasks>,
    ordered: Notify,
}

impl fmt::Debug for OutputHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputHub").finish_non_exhaustive()
    }
}

impl OutputHub {
    pub(crate) fn new(limits: OutputLimits) -> Self {
        Self {
            is_active: AtomicBool::new(false),
            limits,
            tasks: Mutex::default(),
            ordered: Notify::new(),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        // No code under this lock can panic halfway through a change.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task, if somebody listens to it.
    fn watched<T>(&self, task: TaskId, with: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        if !self.is_active.load(Ordering::Relaxed) {
            return None;
        }
        self.tasks().by_id.get_mut(&task).map(with)
    }

    /// Notes that a task went into the channel of its session. Returns whether somebody listens to its output.
    pub(crate) fn sent(&self, lease: LeaseId) -> bool {
        let mark = |watched: &mut Watched| {
            if let Some(current) = watched.holding(lease) {
                current.is_sent = true;
            }
        };
        self.watched(lease.task, mark).is_some()
    }

    /// Whether somebody listens to the output of this task.
    pub(crate) fn watches(&self, task: TaskId) -> bool {
        self.watched(task, |_| ()).is_some()
    }

    /// Begins a leadership.
    pub(crate) fn lead(&self) {
        self.tasks().leads = true;
    }

    /// Ends a leadership, and the reads of its listeners.
    pub(crate) fn end(&self) {
        let mut tasks = self.tasks();
        let (term, listeners) = (tasks.term + 1, tasks.listeners);
        // The listeners wake, because the senders of their progress are gone.
        *tasks = Tasks { term, listeners, ..Tasks::default() };
        self.is_active.store(false, Ordering::Relaxed);
    }

    /// A seat for a listener of this task.
    pub(super) fn open(&self, task: TaskId) -> Result<Seat, NoPlace> {
        let mut tasks = self.tasks();
        if !tasks.leads {
            return Err(NoPlace::NotLeading);
        }
        if tasks.listeners >= self.limits.listeners {
            return Err(NoPlace::Full("output_listeners", self.limits.listeners));
        }
        let term = tasks.term;
        let watched = tasks.by_id.entry(task).or_default();
        if watched.listeners >= self.limits.task_listeners {
            return Err(NoPlace::Full("output_listeners_per_task", self.limits.task_listeners));
        }
        watched.listeners += 1;
        let progress = watched.progress.subscribe();
        tasks.listeners += 1;
        self.is_active.store(true, Ordering::Relaxed);
        Ok(Seat { task, term, progress })
    }

    /// Gives a seat back. The last listener of a task ends its output.
    pub(super) fn left(&self, seat: &Seat) {
        let mut tasks = self.tasks();
        tasks.listeners = tasks.listeners.saturating_sub(1);
        if tasks.term != seat.term {
            return;
        }
        let Some(watched) = tasks.by_id.get_mut(&seat.task) else { return };
        watched.listeners -= 1;
        if watched.listeners > 0 {
            return;
        }
        let current = tasks.by_id.remove(&seat.task).and_then(|watched| watched.current);
        if let Some(Current { running, answer: Answer::Awaited | Answer::Sends, .. }) = current {
            let Running { session, lease, .. } = running;
            tasks.orders.push_back(Order { session, lease, on: false });
            self.ordered.notify_one();
        }
        if tasks.by_id.is_empty() {
            self.is_active.store(false, Ordering::Relaxed);
        }
    }

    /// Notes the running attempt of a task that was just looked at, and asks its worker for output unless it was
    /// heard of already.
    pub(super) fn found(&self, running: Running) {
        let Running { session, lease, .. } = running;
        self.begins(running);
        let is_awaited = self.watched(lease.task, |watched| {
            let Some(current) = watched.holding(lease) else { return false };
            // If it is not, the dispatcher keeps the order back.
            current.is_sent = true;
            current.answer == Answer::Awaited
        });
        if is_awaited == Some(true) {
            self.tasks().orders.push_back(Order { session, lease, on: true });
            self.ordered.notify_one();
        }
    }

    /// Notes that an attempt begins. The dispatcher asks its worker for output when it sends the task.
    pub(crate) fn assigned(&self, assignment: &Assignment, worker: impl FnOnce() -> Option<Name>) {
        if self.watches(assignment.task) {
            self.begins(Running {
                session: assignment.session,
                lease: assignment.lease_id(),
                attempt: assignment.attempt,
                worker: worker(),
            });
        }
    }

    fn begins(&self, running: Running) {
        self.watched(running.lease.task, |watched| {
            let current = watched.current.as_ref();
            // The answer to a question can be older than the effects of later steps.
            if current.is_none_or(|current| current.running.lease.token < running.lease.token) {
                watched.attempts.push_back(Attempt {
                    lease: running.lease.token.0,
                    number: running.attempt,
                    worker: running.worker.clone(),
                });
                while watched.attempts.len() > ATTEMPTS_MAX {
                    watched.attempts.pop_front();
                }
                watched.current =
                    Some(Current { running, answer: Answer::Awaited, is_sent: false });
                watched.ended = None;
                watched.progress.send_replace(());
            }
        });
    }

    /// Notes that a task has ended.
    pub(crate) fn finished(&self, task: TaskId, status: Status) {
        self.watched(task, |watched| {
            watched.ended = Some(status);
            watched.progress.send_replace(());
        });
    }

    /// Takes output of a running attempt, which begins after so many bytes.
    pub(crate) fn said(&self, session: SessionId, lease: LeaseId, offset: u64, bytes: &[u8]) {
        let limit = self.limits.task_bytes;
        self.watched(lease.task, |watched| {
            let Watched { buffer, current, progress, .. } = watched;
            let current = current.as_mut().filter(|current| {
                current.running.lease == lease && current.running.session == session
            });
            let Some(current) = current else { return };
            let is_first = current.answer == Answer::Awaited;
            if is_first {
                current.answer = Answer::Sends;
            }
            let place = OutputPlace { lease: lease.token.0, offset };
            if buffer.add(place, bytes, limit) || is_first {
                progress.send_replace(());
            }
        });
    }

    /// Takes the end of the output of an attempt, of which `written` bytes were written. It has what was not sent
    /// before.
    pub(crate) fn reported(&self, lease: LeaseId, written: u64, tail: &[u8]) {
        let limit = self.limits.task_bytes;
        self.watched(lease.task, |watched| {
            let Some(current) = watched.holding(lease) else { return };
            current.answer = Answer::Over;
            let offset = written.saturating_sub(tail.len() as u64);
            watched.buffer.add(OutputPlace { lease: lease.token.0, offset }, tail, limit);
            watched.progress.send_replace(());
        });
    }

    /// Notes that the worker of an attempt does not send output while the attempt runs.
    pub(crate) fn comes_at_end(&self, lease: LeaseId) {
        self.watched(lease.task, |watched| {
            if let Some(current) = watched.holding(lease)
                && current.answer == Answer::Awaited
            {
                current.answer = Answer::AtEnd;
                watched.progress.send_replace(());
            }
        });
    }

    /// Resolves when there may be orders for sessions. Cancel safe.
    pub(crate) async fn ordered(&self) {
        self.ordered.notified().await;
    }

    /// Takes all orders, the oldest first.
    pub(crate) fn take_orders(&self) -> VecDeque<Order> {
        std::mem::take(&mut self.tasks().orders)
    }

    /// The leases that a session was sent and whose output is awaited: what a new connection must be asked for.
    pub(crate) fn wanted_of(&self, session: SessionId) -> Vec<LeaseId> {
        if !self.is_active.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let tasks = self.tasks();
        let current = tasks.by_id.values().filter_map(|watched| watched.current.as_ref());
        let of_session = current.filter(|current| {
            let is_open = current.is_sent && current.answer != Answer::Over;
            is_open && current.running.session == session
        });
        let mut leases: Vec<_> = of_session.map(|current| current.running.lease).collect();
        // The order must not depend on a hash.
        leases.sort_unstable_by_key(|lease| lease.task);
        leases
    }

    /// What comes after a place. `was_told` says whether the listener knows that the output of this attempt comes
    /// at its end.
    pub(super) fn read(&self, seat: &Seat, place: OutputPlace, was_told: bool) -> Read {
        let tasks = self.tasks();
        let Some(watched) = tasks.by_id.get(&seat.task).filter(|_| tasks.term == seat.term) else {
            return Read::Over;
        };
        let current = watched.current.as_ref();
        let last = current.map_or(0, |current| current.running.lease.token.0);
        let answer = current.map(|current| current.answer).filter(|_| last == place.lease);
        let is_over = watched.ended.is_some() || last > place.lease || answer == Some(Answer::Over);
        let attempt = |lease| {
            let known = watched.attempts.iter().find(|attempt| attempt.lease == lease);
            Read::Attempt(known.cloned().unwrap_or(Attempt { lease, ..Attempt::default() }))
        };
        match watched.buffer.after(place, is_over) {
            Found::Output(bytes) => return Read::Output(bytes),
            Found::Hole(offset) => return Read::Gap(Some(offset)),
            Found::Later(_, true) if !place.is_end() => return Read::Gap(None),
            Found::Later(lease, _) => return attempt(lease),
            Found::Nothing => {}
        }
        if last > place.lease {
            return attempt(last);
        }
        match (watched.ended, answer) {
            (Some(status), _) => Read::Ended(status),
            (None, Some(Answer::AtEnd)) if !was_told => Read::AtEnd,
            (None, Some(Answer::Awaited)) => Read::Nothing(false),
            _ => Read::Nothing(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_of_a_former_leadership_takes_nothing_from_the_next() {
        let hub = OutputHub::new(OutputLimits::default());
        let task = TaskId::from_u64(1).expect("an id");
        hub.lead();
        let former = hub.open(task).expect("a seat");
        hub.end();
        hub.lead();
        let seat = hub.open(task).expect("a seat");
        let place = OutputPlace::after(0);
        assert_eq!(hub.read(&former, place, false), Read::Over);
        hub.left(&former);
        assert!(hub.watches(task));
        assert_eq!(hub.read(&seat, place, false), Read::Nothing(true));
        hub.left(&seat);
        assert!(!hub.watches(task));
    }
}
