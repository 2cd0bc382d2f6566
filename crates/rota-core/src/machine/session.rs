//! Sessions of workers: what they serve, their heartbeats, and the tasks that they hold.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Assignment, CANCEL_GRACE, Credit, Effect, EndReason, Flags, LeaseId, Machine, OpenSession,
    Refusal, Reply, SessionEnd, StopReason, TaskIndex,
    index::{Index as _, SessionIndex, SubscriptionIndex},
};
use crate::{Millis, MonoTime, Name, Now, SessionId, Status, WallTime};

/// A worker's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) worker: Name,
    pub(super) queues: Vec<Name>,
    pub(super) kinds: Vec<Name>,
    pub(super) subscription: SubscriptionIndex,
    pub(super) slots: u32,
    pub(super) credit: Credit,
    /// Number of tasks that its worker last asked for, if the worker has no stream.
    pub(super) asked: u32,
    /// Whether its subscription counts it as having a free slot without having asked for tasks.
    pub(super) resting: bool,
    pub(super) tasks: FxHashSet<TaskIndex>,
    pub(super) ttl: Millis,
    pub(super) heard_at: MonoTime,
    /// How much of that was given to it by [`Machine::extend_waiting`] since it was last heard.
    pub(super) extended: Millis,
    pub(super) opened_at: WallTime,
    pub(super) draining: bool,
    /// Last connection.
    pub(super) connection: u64,
    /// Its worker has not reconnected yet, after its connection broke or the leader changed.
    pub(super) awaited: bool,
}

impl Session {
    /// A session that waits for its worker. It serves nothing until the worker reconnects.
    pub(super) fn new(
        id: SessionId,
        worker: Name,
        subscription: SubscriptionIndex,
        now: Now,
    ) -> Self {
        Self {
            id,
            worker,
            queues: Vec::new(),
            kinds: Vec::new(),
            subscription,
            slots: 0,
            credit: Credit::Hold(0),
            asked: 0,
            resting: false,
            tasks: FxHashSet::default(),
            ttl: Millis(0),
            heard_at: now.mono,
            extended: Millis(0),
            opened_at: now.wall,
            draining: false,
            connection: 0,
            awaited: true,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let bound = match self.credit {
            Credit::Hold(held) => held.min(self.slots),
            Credit::Take(0) => 0,
            Credit::Take(_) => self.slots,
        };
        self.serves() && self.tasks.len() < bound as usize
    }

    /// Whether this is its last connection. `None` stands for any.
    fn is_on(&self, connection: Option<u64>) -> bool {
        connection.is_none_or(|connection| connection == self.connection)
    }

    fn serves(&self) -> bool {
        !self.draining && !self.awaited
    }

    pub(super) fn held(&self) -> u32 {
        u32::try_from(self.tasks.len()).expect("slots are a 32-bit number")
    }

    /// The number of slots to show. For a worker without a stream, it is the number that it last asked for,
    /// or holds.
    pub(super) fn shown_slots(&self) -> u32 {
        match self.credit {
            Credit::Hold(_) => self.slots,
            Credit::Take(_) => self.asked.max(self.held()).min(self.slots),
        }
    }

    /// Whether its worker has no stream and a free slot, and does not ask for tasks now.
    pub(super) fn rests(&self) -> bool {
        let room = self.asked.max(1).min(self.slots);
        self.serves() && self.credit == Credit::Take(0) && self.held() < room
    }

    fn set_credit(&mut self, credit: Credit) {
        self.credit = credit;
        if let Credit::Take(asked @ 1..) = credit {
            self.asked = asked;
        }
    }
}

/// All open sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    slots: Vec<Option<Session>>,
    free: Vec<SessionIndex>,
    index: FxHashMap<SessionId, SessionIndex>,
    /// Earliest time at which a session can end by its TTL.
    pub(super) due: MonoTime,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: FxHashMap::default(),
            due: MonoTime(u64::MAX),
        }
    }
}

impl Sessions {
    pub(super) fn find(&self, id: SessionId) -> Option<SessionIndex> {
        self.index.get(&id).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn at(&self, index: SessionIndex) -> &Session {
        self.slots[index.at()].as_ref().expect("a session in use")
    }

    pub(super) fn at_mut(&mut self, index: SessionIndex) -> &mut Session {
        self.get_mut(index).expect("a session in use")
    }

    pub(super) fn get_mut(&mut self, index: SessionIndex) -> Option<&mut Session> {
        self.slots[index.at()].as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionIndex, &Session)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| Some((SessionIndex::new(at), slot.as_ref()?)))
    }

    pub(super) fn insert(&mut self, session: Session) -> SessionIndex {
        let id = session.id;
        let index = if let Some(index) = self.free.pop() {
            self.slots[index.at()] = Some(session);
            index
        } else {
            self.slots.push(Some(session));
            SessionIndex::new(self.slots.len() - 1)
        };
        self.index.insert(id, index);
        index
    }

    pub(super) fn remove(&mut self, index: SessionIndex) -> Session {
        let session = self.slots[index.at()].take().expect("a session in use");
        self.index.remove(&session.id);
        self.free.push(index);
        session
    }
}

impl Machine {
    pub(super) fn open_session(&mut self, open: OpenSession) -> Result<Reply, Refusal> {
        let known = self.sessions.find(open.session);
        match known {
            Some(index) if self.sessions.at(index).worker != open.worker => {
                return Err(Refusal::ForeignSession);
            }
            None if self.sessions.len() >= self.limits.sessions_max as usize => {
                let limit = self.limits.sessions_max.into();
                return Err(Refusal::TooManyNames { what: "sessions", limit });
            }
            _ => {}
        }
        self.check_served_names(&open)?;
        let subscription = self.roster.subscription(&open.queues, &open.kinds);
        self.roster.attach(subscription);
        let index = match known {
            Some(index) => {
                self.stop_serving(index);
                self.roster.detach(self.sessions.at(index).subscription);
                index
            }
            None => {
                let session = Session::new(open.session, open.worker, subscription, self.now);
                self.sessions.insert(session)
            }
        };
        let session = self.sessions.at_mut(index);
        session.queues = open.queues;
        session.kinds = open.kinds;
        session.subscription = subscription;
        session.slots = open.slots;
        session.set_credit(open.credit);
        session.ttl = open.ttl;
        session.connection = open.connection;
        session.awaited = false;
        // Before all other effects for the session, so that they go to the new connection.
        let opened = Effect::SessionOpened { session: open.session, connection: open.connection };
        self.step.effects.push(opened);
        if session.draining {
            self.step.effects.push(Effect::Drain { session: open.session });
        } else {
            self.roster.subscriptions[subscription].serving += 1;
        }
        self.heard_of(index);
        self.renew_leases(index);
        let revoked = open.held.map_or_else(Vec::new, |held| self.reconcile(index, &held));
        self.note_idle(index);
        Ok(Reply::Session { session: open.session, revoked })
    }

    /// Checks the limits: the names that a session serves count as queues and kinds.
    fn check_served_names(&mut self, open: &OpenSession) -> Result<(), Refusal> {
        let (queues_max, kinds_max) = (self.limits.queues_max, self.limits.kinds_max);
        if self.queues_with(open) > queues_max as usize {
            self.roster.make_room(queues_max, self.now.mono);
        }
        if self.kinds_with(open) > kinds_max as usize {
            self.roster.make_room(kinds_max, self.now.mono);
        }
        if self.queues_with(open) > queues_max as usize {
            return Err(Refusal::TooManyNames { what: "queues", limit: queues_max.into() });
        }
        if self.kinds_with(open) > kinds_max as usize {
            return Err(Refusal::TooManyNames { what: "kinds", limit: kinds_max.into() });
        }
        Ok(())
    }

    /// The number of queues that there would be.
    fn queues_with(&self, open: &OpenSession) -> usize {
        let new = open.queues.iter().filter(|name| self.roster.find_queue(name).is_none());
        self.roster.queue_index.len() + new.count()
    }

    /// The number of kinds that there would be.
    fn kinds_with(&self, open: &OpenSession) -> usize {
        let new = open.kinds.iter().filter(|name| !self.roster.has_kind(name));
        self.roster.kind_index.len() + new.count()
    }

    /// Updates the TTL in the leases, which a later leader needs. A worker that has reconnected gets only the
    /// usual grace period to stop cancelled attempts.
    fn renew_leases(&mut self, index: SessionIndex) {
        let session = self.sessions.at(index);
        let (ttl, stop_by) = (session.ttl, self.now.mono + CANCEL_GRACE);
        let mut longer = Vec::new();
        for task in &session.tasks {
            let lease = self.leases.get_mut(task).expect("a session's tasks have leases");
            if lease.session_ttl < ttl {
                lease.session_ttl = ttl;
                longer.push(*task);
            }
            if self.live.at(*task).flags.has(Flags::CANCEL_REQUESTED) {
                lease.deadline = lease.deadline.min(stop_by);
                self.deadlines.insert(lease.deadline.0, *task);
            }
        }
        longer.sort_unstable();
        for task in longer {
            self.touch(task);
        }
    }

    /// Compares the leases that a worker claims with those of its session: returns those that it no longer
    /// has, and sends those again that it did not get.
    fn reconcile(&mut self, index: SessionIndex, held: &[LeaseId]) -> Vec<LeaseId> {
        let mut named = FxHashSet::default();
        let mut revoked = Vec::new();
        for lease in held {
            let task = self.live.find(lease.task);
            let task = task.filter(|task| {
                let has = self.leases.get(task);
                has.is_some_and(|has| has.session == index && has.token == lease.token)
            });
            match task {
                Some(task) => {
                    named.insert(task);
                }
                None => revoked.push(*lease),
            }
        }
        let mut tasks: Vec<_> = self.sessions.at(index).tasks.iter().copied().collect();
        tasks.sort_unstable_by_key(|task| self.live.at(*task).id);
        for task in tasks {
            let lease = &self.leases[&task];
            let (token, session) = (lease.token, self.sessions.at(index).id);
            let live = self.live.at(task);
            if !named.contains(&task) {
                self.step.effects.push(Effect::Dispatch(Assignment {
                    session,
                    task: live.id,
                    token,
                    attempt: live.attempt,
                    run_at: live.run_at,
                }));
            }
            if live.flags.has(Flags::CANCEL_REQUESTED) {
                let reason = StopReason::Cancelled;
                let task = live.id;
                self.step.effects.push(Effect::Stop { session, task, token, reason });
            }
        }
        revoked
    }

    pub(super) fn heartbeat(
        &mut self,
        session: SessionId,
        connection: Option<u64>,
        at: MonoTime,
    ) -> Result<Reply, Refusal> {
        let index = self.sessions.find(session).ok_or(Refusal::UnknownSession)?;
        if self.sessions.at(index).is_on(connection) {
            self.heard_of_at(index, at.min(self.now.mono));
        }
        Ok(Reply::Done)
    }

    pub(super) fn set_credit(
        &mut self,
        session: SessionId,
        connection: Option<u64>,
        credit: Credit,
    ) -> Result<Reply, Refusal> {
        let index = self.sessions.find(session).ok_or(Refusal::UnknownSession)?;
        if !self.sessions.at(index).is_on(connection) {
            return Ok(Reply::Done);
        }
        self.heard_of(index);
        self.sessions.at_mut(index).set_credit(credit);
        self.note_idle(index);
        Ok(Reply::Done)
    }

    pub(super) fn detach(&mut self, session: SessionId, connection: u64) -> Result<Reply, Refusal> {
        let index = self.sessions.find(session).ok_or(Refusal::UnknownSession)?;
        if self.sessions.at(index).connection == connection {
            self.stop_serving(index);
            self.sessions.at_mut(index).awaited = true;
        }
        Ok(Reply::Done)
    }

    pub(super) fn drain(&mut self, session: SessionId) -> Result<Reply, Refusal> {
        let index = self.sessions.find(session).ok_or(Refusal::UnknownSession)?;
        self.stop_serving(index);
        self.sessions.at_mut(index).draining = true;
        self.step.effects.push(Effect::Drain { session });
        Ok(Reply::Done)
    }

    pub(super) fn close_session(
        &mut self,
        session: SessionId,
        connection: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let index = self.sessions.find(session).ok_or(Refusal::UnknownSession)?;
        if self.sessions.at(index).is_on(connection) {
            self.end_session(index, EndReason::Closed);
        }
        Ok(Reply::Done)
    }

    /// Takes all tasks from a session, and removes it.
    pub(super) fn end_session(&mut self, index: SessionIndex, reason: EndReason) {
        self.stop_serving(index);
        self.sessions.at_mut(index).draining = true;
        let session = self.sessions.at(index);
        let id = session.id;
        let mut tasks: Vec<_> = session.tasks.iter().copied().collect();
        tasks.sort_unstable_by_key(|task| self.live.at(*task).id);
        let message = match reason {
            EndReason::Closed => format!("worker {} closed its session", session.worker),
            EndReason::Expired => {
                format!("worker {} sent no heartbeat for {}", session.worker, session.ttl)
            }
        };
        for task in &tasks {
            let started = self.live.at(*task).status == Status::Running;
            if reason == EndReason::Closed && !started {
                self.release_attempt(*task);
            } else {
                self.lose_attempt(*task, &message);
            }
        }
        let session = self.sessions.remove(index);
        self.roster.detach(session.subscription);
        let tasks = u32::try_from(tasks.len()).expect("slots are a 32-bit number");
        let end = SessionEnd { session: id, worker: session.worker, reason, tasks };
        self.step.effects.push(Effect::SessionEnded(end));
    }

    /// Excludes a time in which the caller did not run and could receive nothing. It does not count against
    /// sessions and leases, because their workers may have sent messages. Timers check this when they fire.
    pub fn extend_deadlines(&mut self, pause: Millis) {
        for session in self.sessions.slots.iter_mut().flatten() {
            session.heard_at = session.heard_at + pause;
        }
        for lease in self.leases.values_mut() {
            lease.deadline = lease.deadline + pause;
        }
    }

    /// Grants sessions the time in which no call could be answered, because a commit took so long. Workers
    /// without a stream may have waited for an answer, and reconnecting workers for their session, so neither
    /// could send heartbeats. A session gets at most `most` of such time between two heartbeats. No call
    /// waits longer, and a lost worker must be detected even if every commit is slow.
    pub fn extend_waiting(&mut self, now: MonoTime, pause: Millis, most: Millis) {
        for session in self.sessions.slots.iter_mut().flatten() {
            if session.awaited || matches!(session.credit, Credit::Take(_)) {
                let pause = pause.min(Millis(most.0.saturating_sub(session.extended.0)));
                session.extended = Millis(session.extended.0 + pause.0);
                session.heard_at = session.heard_at.max((session.heard_at + pause).min(now));
            }
        }
    }

    /// Processes a heartbeat.
    pub(super) fn heard_of(&mut self, index: SessionIndex) {
        self.heard_of_at(index, self.now.mono);
    }

    /// Processes a heartbeat of that time.
    fn heard_of_at(&mut self, index: SessionIndex, at: MonoTime) {
        let session = self.sessions.at_mut(index);
        session.heard_at = session.heard_at.max(at);
        session.extended = Millis(0);
        let due = session.heard_at + session.ttl;
        self.sessions.due = self.sessions.due.min(due);
    }

    /// Adds the session to the ring of sessions with free slots, if it has some.
    pub(super) fn note_idle(&mut self, index: SessionIndex) {
        let session = self.sessions.at_mut(index);
        let rests = session.rests();
        if rests != session.resting {
            session.resting = rests;
            let resting = &mut self.roster.subscriptions[session.subscription].resting;
            *resting = if rests { *resting + 1 } else { *resting - 1 };
        }
        if session.has_room() {
            self.roster.note_idle(session.subscription, index);
        }
    }

    fn stop_serving(&mut self, index: SessionIndex) {
        let session = self.sessions.at_mut(index);
        if session.serves() {
            let subscription = &mut self.roster.subscriptions[session.subscription];
            subscription.serving -= 1;
            subscription.resting -= u32::from(std::mem::take(&mut session.resting));
        }
    }
}
