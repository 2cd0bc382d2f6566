//! The mailbox of a worker without a stream: tasks and orders until one of its calls returns them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rota_core::{LeaseId, Name, SessionId, StopReason};
use rota_store::watch;
use rustc_hash::FxHashSet;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::held::{Leases, NamedLease};
use crate::{
    api::{Dispatched, SessionEvent},
    down::SessionStream,
    down::size_of,
};

#[derive(Debug)]
pub(super) struct PullSession {
    pub(super) id: SessionId,
    pub(super) worker: Name,
    /// The number of the newest call. Calls with other numbers give up.
    pub(super) turn: watch::Sender<u64>,
    /// The mailbox, held by the call that waits for tasks.
    pub(super) mailbox: AsyncMutex<Mailbox>,
    pub(super) notices: Mutex<Notices>,
}

/// The contents of a mailbox.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// The channel. `None` if the session is not open.
    pub(super) stream: Option<SessionStream>,
    /// Former channels. The tasks in them belong to the session, too.
    pub(super) former: Vec<SessionStream>,
    pub(super) serves: Serves,
    /// Tasks that the worker has not got yet.
    pub(super) left: Vec<Dispatched>,
    /// Tasks that the worker must not get, and that the session still holds.
    pub(super) unwanted: Vec<LeaseId>,
    pub(super) draining: bool,
}

/// The properties with which a session was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Serves {
    pub(super) queues: Vec<Name>,
    pub(super) kinds: Vec<Name>,
    pub(super) ttl: Duration,
}

/// Orders for the worker, for the next call that answers.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Whether there is news since the last answer.
    pub(super) news: bool,
    /// Leases that ended without a report of the worker. The machine no longer knows them, so they are
    /// repeated until the worker has been told.
    pub(super) ended: Vec<(LeaseId, StopReason, Instant)>,
    /// Leases that the worker claims but the session does not hold. They are repeated until the worker sends
    /// its leases again.
    pub(super) lost: Vec<NamedLease>,
}

pub(super) fn lease_of(task: &Dispatched) -> LeaseId {
    LeaseId { task: task.spec.id, token: task.token }
}

impl PullSession {
    pub(super) fn new(id: SessionId, worker: Name) -> Self {
        Self {
            id,
            worker,
            turn: watch::Sender::new(0),
            mailbox: AsyncMutex::default(),
            notices: Mutex::default(),
        }
    }

    /// Begins a call. Earlier calls give up.
    pub(super) fn take_turn(&self) -> u64 {
        let mut turn = 0;
        self.turn.send_modify(|newest| {
            *newest += 1;
            turn = *newest;
        });
        turn
    }

    /// Resolves when a newer call has begun.
    pub(super) async fn overtaken(&self, turn: u64) {
        let mut newest = self.turn.subscribe();
        // The sender exists as long as this does.
        let _ = newest.wait_for(|newest| *newest != turn).await;
    }

    pub(super) fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notices {
    /// Records leases that the worker does not hold. They count as news only once, so that a waiting call
    /// does not return for them again.
    pub(super) fn note_lost(&mut self, lost: Vec<NamedLease>) {
        let told = Leases::named(&self.lost);
        self.news |= !lost.iter().all(|lease| told.names(lease));
        self.lost = lost;
    }
}

impl Mailbox {
    pub(super) fn is_open(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.events.is_closed())
    }

    pub(super) fn was_open(&self) -> bool {
        self.stream.is_some() || !self.former.is_empty()
    }

    /// Removes duplicates: a task that was found to be missing at the worker may also come through the
    /// channel.
    pub(super) fn drop_known(&mut self, held: &Leases) {
        let mut seen = FxHashSet::default();
        self.left.retain(|task| {
            let lease = lease_of(task);
            seen.insert((lease.task, lease.token)) && !held.has(lease, &task.spec.client_keys)
        });
    }

    /// The number of its tasks that fit into an answer with these limits, at least one if there are any.
    pub(super) fn fitting(&self, tasks_max: usize, bytes_max: usize) -> usize {
        let mut bytes = 0;
        let fits = self.left.iter().take(tasks_max).take_while(|task| {
            let before = bytes;
            bytes += size_of(&task.spec);
            before == 0 || bytes <= bytes_max
        });
        fits.count()
    }

    pub(super) fn drain_ready(&mut self, entry: &PullSession) {
        let mut events = Vec::new();
        for stream in self.former.iter_mut().chain(&mut self.stream) {
            while let Ok(event) = stream.events.try_recv() {
                events.push(event);
            }
        }
        events.into_iter().for_each(|event| self.take(event, entry));
    }

    pub(super) fn take(&mut self, event: SessionEvent, entry: &PullSession) {
        match event {
            SessionEvent::Dispatches(tasks) => self.left.extend(tasks),
            SessionEvent::Stop { task, token, reason } => {
                self.stop(LeaseId { task, token }, reason, entry);
            }
            SessionEvent::Drain => {
                self.draining = true;
                entry.notices().news = true;
            }
            // Workers without a stream are not asked for output.
            SessionEvent::WatchOutput { .. } | SessionEvent::Ended => {}
        }
    }

    pub(super) fn stop(&mut self, lease: LeaseId, reason: StopReason, entry: &PullSession) {
        let before = self.left.len();
        self.left.retain(|left| lease_of(left) != lease);
        let cancelled = reason == StopReason::Cancelled;
        if self.left.len() < before {
            // The worker never got it.
            self.unwanted.extend(cancelled.then_some(lease));
            return;
        }
        let mut notices = entry.notices();
        notices.news = true;
        if !cancelled {
            notices.ended.push((lease, reason, Instant::now() + self.serves.ttl));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rota_core::{Definition, LeaseToken, TaskId, TaskSpec, WallTime};

    use super::*;

    fn dispatched(task: u64) -> Dispatched {
        let name = |text| Name::new(text).expect("a name");
        let id = TaskId::from_u64(task).expect("not 0");
        let spec = TaskSpec::new(id, Definition::new(name("q"), name("k")), WallTime(0));
        Dispatched { token: LeaseToken(7), attempt: 1, run_at: WallTime(0), spec: Arc::new(spec) }
    }

    #[test]
    fn what_the_worker_was_not_told_of_is_not_to_be_stopped() {
        let entry = PullSession::new(SessionId(1), Name::new("w").expect("a name"));
        let serves = Serves { ttl: Duration::from_secs(60), ..Serves::default() };
        let mut mailbox = Mailbox { serves, ..Mailbox::default() };
        let tasks = [1, 2, 3].map(dispatched);
        let leases = tasks.each_ref().map(lease_of);
        let stop = |lease: LeaseId, reason| {
            let LeaseId { task, token } = lease;
            SessionEvent::Stop { task, token, reason }
        };
        mailbox.take(SessionEvent::Dispatches(tasks.to_vec()), &entry);
        mailbox.take(stop(leases[0], StopReason::Cancelled), &entry);
        mailbox.take(stop(leases[1], StopReason::Timeout), &entry);
        assert!(!entry.notices().news);
        assert_eq!(mailbox.unwanted, leases[..1], "given back; that of the other is over");
        assert_eq!(mailbox.left.iter().map(lease_of).collect::<Vec<_>>(), leases[2..]);
        // What it was told of, it is told to stop: by the machine's word, or until it must know.
        mailbox.left.clear();
        mailbox.take(stop(leases[2], StopReason::Cancelled), &entry);
        assert!(entry.notices().news && entry.notices().ended.is_empty());
        mailbox.take(stop(leases[2], StopReason::Timeout), &entry);
        let ended = &entry.notices().ended;
        assert_eq!((ended.len(), ended[0].0, ended[0].1), (1, leases[2], StopReason::Timeout));
    }
}
