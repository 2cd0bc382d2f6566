//! Sessions of workers without a stream: they ask for tasks call by call.
//!
//! A call that waits for tasks holds its session's mailbox. It gives that up at once when a newer call
//! of the session comes, which then gets what there is. A call that is dropped, because its client
//! went away, leaves nothing behind: the engine takes back what the call had asked for, and gives to
//! others what the worker was not told of.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rota_core::{
    Binds, Command, Credit, HeldLease, LeaseToken, Leased, Millis, Name, OpenSession, Refusal,
    Report, SessionId, StopReason,
};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};

use crate::{
    api::{
        Dispatched, EngineError, Instructions, LeaseRequest, LeasedTasks, SessionEvent,
        SessionStream, StopOrder,
    },
    dispatch::read_specs,
    engine::Engine,
};

/// The most tasks that a session without a stream holds at once.
const SLOTS: u32 = 10_000;

/// The sessions of this node that have no stream.
#[derive(Debug, Default)]
pub(crate) struct PullSessions {
    sessions: Mutex<FxHashMap<SessionId, Arc<PullSession>>>,
}

#[derive(Debug)]
struct PullSession {
    id: SessionId,
    worker: Name,
    /// The number of the newest call. One with another number gives up.
    turn: watch::Sender<u64>,
    /// Held by the one call that waits for tasks.
    mailbox: AsyncMutex<Mailbox>,
    notices: Mutex<Notices>,
}

/// What came down to the worker.
#[derive(Debug, Default)]
struct Mailbox {
    /// `None`: it is not open.
    stream: Option<SessionStream>,
    /// Those it had before. What is in them is its own as well.
    former: Vec<SessionStream>,
    serves: Serves,
    /// Tasks that the worker was not told of yet.
    left: Vec<Dispatched>,
    /// Tasks that the worker is not to be told of, and that are still its own.
    unwanted: Vec<HeldLease>,
    draining: bool,
}

/// What a session was opened with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Serves {
    queues: Vec<Name>,
    kinds: Vec<Name>,
    ttl: Duration,
}

/// What the worker is to know beside its tasks, for whichever call answers next.
#[derive(Debug, Default)]
struct Notices {
    /// Something came up since the last answer.
    news: bool,
    /// Leases that were ended without the worker. The machine does not know them any more, so they
    /// are said until then.
    ended: Vec<(HeldLease, StopReason, Instant)>,
}

impl PullSessions {
    fn all(&self) -> MutexGuard<'_, FxHashMap<SessionId, Arc<PullSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, session: SessionId) -> Option<Arc<PullSession>> {
        self.all().get(&session).cloned()
    }

    /// The worker's session of that id; a new one if there is none.
    fn entry(&self, session: SessionId, worker: &Name) -> Arc<PullSession> {
        let mut sessions = self.all();
        match sessions.get(&session) {
            Some(entry) if entry.worker == *worker => return entry.clone(),
            // Whether it may have another worker's, the machine says when it is opened.
            Some(_) => return Arc::new(PullSession::new(session, worker.clone())),
            None => {}
        }
        // The engine ends a session whose worker is silent; its channel then closes.
        sessions.retain(|_, entry| {
            let is_open = entry.mailbox.try_lock().is_ok_and(|mailbox| mailbox.is_open());
            is_open || Arc::strong_count(entry) > 1
        });
        let entry = Arc::new(PullSession::new(session, worker.clone()));
        sessions.insert(session, entry.clone());
        entry
    }

    fn opened(&self, entry: &Arc<PullSession>) {
        self.all().insert(entry.id, entry.clone());
    }

    /// The session is over: a call that waits for its tasks returns.
    pub(crate) fn forget(&self, session: SessionId) {
        if let Some(entry) = self.all().remove(&session) {
            entry.take_turn();
        }
    }
}

impl Engine {
    /// A worker without a stream asks for tasks. It is told of those that it gets as begun, so they
    /// count as running.
    ///
    /// Cancel safe: what a dropped call had been given goes to others, and costs no attempt.
    ///
    /// # Errors
    /// When the session is another worker's or there are too many, or the engine does not answer.
    pub async fn lease(&self, request: LeaseRequest) -> Result<LeasedTasks, EngineError> {
        let deadline = Instant::now() + request.wait;
        match self.lease_once(&request, deadline).await {
            // It was silent for too long, or the leader changed: it may start anew.
            Err(EngineError::Refused(Refusal::UnknownSession)) => {
                self.lease_once(&request, deadline).await
            }
            result => result,
        }
    }

    async fn lease_once(
        &self,
        request: &LeaseRequest,
        deadline: Instant,
    ) -> Result<LeasedTasks, EngineError> {
        let session = request.session.unwrap_or_else(|| SessionId(fastrand::u64(1..)));
        let entry = self.inner.pull.entry(session, &request.worker);
        let turn = entry.take_turn();
        let nameless = request.session.is_none();
        let call = Call { engine: self, entry: entry.clone(), turn, nameless, answered: false };
        let (tasks, instructions) = tokio::select! {
            answer = self.poll(&entry, request, deadline) => answer?,
            // What there is for the worker stays for the newer call.
            () = entry.overtaken(turn) => (Vec::new(), Instructions::default()),
        };
        call.answered();
        Ok(LeasedTasks { session, ttl: request.ttl, tasks, instructions })
    }

    /// Whatever this has done when it is dropped, the next poll of the session, or
    /// [`Engine::abandon`], goes on from there.
    async fn poll(
        &self,
        entry: &Arc<PullSession>,
        request: &LeaseRequest,
        deadline: Instant,
    ) -> Result<(Vec<Dispatched>, Instructions), EngineError> {
        let mut mailbox = entry.mailbox.lock().await;
        self.enter(entry, &mut mailbox, request).await?;
        if let Some(held) = &request.held {
            self.find_untold(entry, &mut mailbox, held).await?;
        }
        let here = u32::try_from(mailbox.left.len()).unwrap_or(u32::MAX);
        self.allow(entry.id, request.max.saturating_sub(here)).await?;
        self.collect(entry, &mut mailbox, request, deadline).await?;
        // What was given before this took effect is in the mailbox by then.
        self.allow(entry.id, 0).await?;
        mailbox.drain_ready(entry);
        mailbox.drop_known(request.held.as_deref().unwrap_or_default());
        let count = mailbox.left.len().min(request.max as usize);
        let surplus: Vec<_> = mailbox.left.drain(count..).map(|task| lease_of(&task)).collect();
        mailbox.unwanted.extend(surplus);
        let (begun, instructions) =
            tokio::try_join!(self.begin(&mailbox), self.instructions(entry.id, Some(entry)))?;
        mailbox.unwanted.clear();
        let tasks = mailbox.left.drain(..).zip(begun);
        let tasks = tasks.filter_map(|(task, begun)| begun.is_ok().then_some(task)).collect();
        Ok((tasks, instructions))
    }

    /// Puts into the mailbox what the session holds though the worker does not know of it.
    async fn find_untold(
        &self,
        entry: &PullSession,
        mailbox: &mut Mailbox,
        held: &[(String, LeaseToken)],
    ) -> Result<(), EngineError> {
        let session = entry.id;
        let all = self.look(move |machine| machine.held(session)).await?;
        mailbox.drain_ready(entry);
        let is_known = |(leased, binds): &(Leased, Binds)| {
            let lease = HeldLease { task: leased.task, token: leased.token };
            names(held, lease, binds)
                || mailbox.unwanted.contains(&lease)
                || mailbox.left.iter().any(|task| lease_of(task) == lease)
        };
        let mut untold = all.ok_or(Refusal::UnknownSession)?;
        untold.retain(|one| !is_known(one));
        let tasks: Vec<_> = untold.iter().map(|(leased, _)| leased.task).collect();
        let specs = read_specs(self.inner.store.as_ref(), &tasks).await?;
        for ((leased, _), spec) in untold.into_iter().zip(specs) {
            let Leased { token, attempt, run_at, .. } = leased;
            mailbox.left.extend(spec.map(|spec| Dispatched { token, attempt, run_at, spec }));
        }
        Ok(())
    }

    /// Says of the tasks in the mailbox that they run, and gives back the unwanted ones. A task of
    /// which it is refused is not the worker's any more.
    async fn begin(&self, mailbox: &Mailbox) -> Result<Vec<Result<(), Refusal>>, EngineError> {
        let at = self.inner.shared.clock.now().wall;
        let begun = mailbox.left.iter().map(|task| (lease_of(task), Report::Started { at }));
        let back = mailbox.unwanted.iter().map(|lease| (*lease, Report::Released));
        let reports: Vec<_> = begun.chain(back).collect();
        if reports.is_empty() { Ok(Vec::new()) } else { self.report(reports).await }
    }

    async fn allow(&self, session: SessionId, tasks: u32) -> Result<(), EngineError> {
        self.command(Command::SetCredit { session, credit: Credit::Take(tasks) }).await
    }

    /// Waits until there is something to tell or the wait is over. The session lives as long as its
    /// worker waits here.
    async fn collect(
        &self,
        entry: &PullSession,
        mailbox: &mut Mailbox,
        request: &LeaseRequest,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        mailbox.drain_ready(entry);
        while mailbox.left.is_empty() && !mailbox.draining && !entry.notices().news {
            let Some(stream) = &mut mailbox.stream else {
                return Err(Refusal::UnknownSession.into());
            };
            let pulse = Instant::now() + request.ttl / 3;
            tokio::select! {
                event = stream.events.recv() => match event {
                    Some(event) => mailbox.take(event, entry),
                    None => return Err(Refusal::UnknownSession.into()),
                },
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                () = tokio::time::sleep_until(pulse) => self.heartbeat(entry.id).await?,
            }
            mailbox.drain_ready(entry);
        }
        Ok(())
    }

    /// Opens the session, unless it is open as the worker wants it.
    async fn enter(
        &self,
        entry: &Arc<PullSession>,
        mailbox: &mut Mailbox,
        request: &LeaseRequest,
    ) -> Result<(), EngineError> {
        let LeaseRequest { worker, queues, kinds, ttl, .. } = request.clone();
        let serves = Serves { queues: queues.clone(), kinds: kinds.clone(), ttl };
        if mailbox.is_open() && mailbox.serves == serves {
            return Ok(());
        }
        // If this is dropped while it is being opened, what flows down goes nowhere: the next call
        // has to open it again.
        mailbox.former.extend(mailbox.stream.take());
        let open = OpenSession {
            session: entry.id,
            worker,
            queues,
            kinds,
            slots: SLOTS,
            credit: Credit::Take(0),
            ttl: Millis::from_duration(ttl),
            connection: 0,
            held: None,
        };
        let stream = self.open(open).await?;
        // Nothing more goes into the former ones from now on. Whether it drains, the new one says.
        mailbox.drain_ready(entry);
        mailbox.former.clear();
        mailbox.draining = false;
        mailbox.serves = serves;
        mailbox.stream = Some(stream);
        self.inner.pull.opened(entry);
        Ok(())
    }

    /// A worker without a stream lives, and asks what it is to do.
    ///
    /// # Errors
    /// As [`Engine::heartbeat`].
    pub async fn pull_heartbeat(&self, session: SessionId) -> Result<Instructions, EngineError> {
        self.heartbeat(session).await?;
        let entry = self.inner.pull.find(session);
        if let Some(entry) = &entry
            && let Ok(mut mailbox) = entry.mailbox.try_lock()
        {
            mailbox.drain_ready(entry);
        }
        self.instructions(session, entry.as_deref()).await
    }

    /// What the worker is to do beside its tasks. A worker that asked for it is told again until it
    /// has reported, as an answer may be lost.
    async fn instructions(
        &self,
        session: SessionId,
        entry: Option<&PullSession>,
    ) -> Result<Instructions, EngineError> {
        let orders = self.look(move |machine| machine.orders(session)).await?;
        let orders = orders.ok_or(Refusal::UnknownSession)?;
        let cancelled = orders.stop.into_iter().map(|lease| (lease, StopReason::Cancelled));
        let mut stop: Vec<_> = cancelled.collect();
        if let Some(entry) = entry {
            let mut notices = entry.notices();
            notices.news = false;
            let now = Instant::now();
            notices.ended.retain(|(.., until)| *until > now);
            stop.extend(notices.ended.iter().map(|(lease, reason, _)| (*lease, *reason)));
        }
        let stop = self.named(stop).await?;
        Ok(Instructions { stop, draining: orders.draining })
    }

    async fn named(
        &self,
        stop: Vec<(HeldLease, StopReason)>,
    ) -> Result<Vec<StopOrder>, EngineError> {
        if stop.is_empty() {
            return Ok(Vec::new());
        }
        let tasks: Vec<_> = stop.iter().map(|(lease, _)| lease.task).collect();
        let specs = read_specs(self.inner.store.as_ref(), &tasks).await?;
        let named = stop.into_iter().zip(specs).map(|((lease, reason), spec)| StopOrder {
            // It may have been deleted since.
            shown_id: spec.map_or_else(|| lease.task.to_string(), |spec| spec.shown_id()),
            lease,
            reason,
        });
        Ok(named.collect())
    }

    /// Puts right what a dropped call left behind, unless a newer one goes on from there.
    async fn abandon(&self, entry: &PullSession, turn: u64, nameless: bool) {
        let untold = tokio::select! {
            untold = self.take_back(entry) => untold,
            () = entry.overtaken(turn) => return,
        };
        if !untold.is_empty() {
            let released = || untold.iter().map(|lease| (*lease, Report::Released)).collect();
            while may_yet(&self.report(released()).await) {}
        }
        if nameless {
            // Nobody knows of it.
            while may_yet(&self.close_session(entry.id).await) {}
        }
    }

    /// Takes back what the session was allowed to take, and with it what its worker was not told of.
    async fn take_back(&self, entry: &PullSession) -> Vec<HeldLease> {
        let mut mailbox = entry.mailbox.lock().await;
        if mailbox.was_open() {
            while may_yet(&self.allow(entry.id, 0).await) {}
            mailbox.drain_ready(entry);
        }
        let untold: Vec<_> = mailbox.left.drain(..).map(|task| lease_of(&task)).collect();
        mailbox.unwanted.drain(..).chain(untold).collect()
    }
}

/// Whether a lease is among those that a worker named.
fn names(held: &[(String, LeaseToken)], lease: HeldLease, binds: &Binds) -> bool {
    let called = |name: &str| match &binds.id {
        Some(id) if id.to_string() == name => true,
        _ => lease.task.to_string() == name,
    };
    held.iter().any(|(name, token)| *token == lease.token && called(name))
}

fn lease_of(task: &Dispatched) -> HeldLease {
    HeldLease { task: task.spec.id, token: task.token }
}

/// Whether it is worth another try: it may not have been done, and this node leads as far as it knows.
fn may_yet<T>(result: &Result<T, EngineError>) -> bool {
    use EngineError as E;
    let Err(error) = result else { return false };
    matches!(
        error,
        E::OutcomeUnknown(_) | E::Overloaded { .. } | E::Unavailable { .. } | E::StoreFull(_)
    )
}

/// A call under way. When it is dropped without an answer, a task of the engine's cleans up.
struct Call<'a> {
    engine: &'a Engine,
    entry: Arc<PullSession>,
    turn: u64,
    /// The worker does not know its session yet.
    nameless: bool,
    answered: bool,
}

impl Call<'_> {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // Without a runtime all is over, sessions too.
        let Ok(runtime) = Handle::try_current() else { return };
        if self.answered {
            return;
        }
        let (engine, entry) = (self.engine.clone(), self.entry.clone());
        let (turn, nameless) = (self.turn, self.nameless);
        let clean_up = async move { engine.abandon(&entry, turn, nameless).await };
        self.engine.inner.own(clean_up, &runtime);
    }
}

impl PullSession {
    fn new(id: SessionId, worker: Name) -> Self {
        Self {
            id,
            worker,
            turn: watch::Sender::new(0),
            mailbox: AsyncMutex::default(),
            notices: Mutex::default(),
        }
    }

    /// A call begins; those before it give up.
    fn take_turn(&self) -> u64 {
        let mut turn = 0;
        self.turn.send_modify(|newest| {
            *newest += 1;
            turn = *newest;
        });
        turn
    }

    /// Resolves when a newer call has begun.
    async fn overtaken(&self, turn: u64) {
        let mut newest = self.turn.subscribe();
        // The sender lives as long as this does.
        let _ = newest.wait_for(|newest| *newest != turn).await;
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    fn is_open(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.events.is_closed())
    }

    fn was_open(&self) -> bool {
        self.stream.is_some() || !self.former.is_empty()
    }

    /// What was found to be untold may come down as well: it is told once, and not to who has it.
    fn drop_known(&mut self, held: &[(String, LeaseToken)]) {
        let mut seen = FxHashSet::default();
        self.left.retain(|task| {
            let lease = lease_of(task);
            seen.insert((lease.task, lease.token)) && !names(held, lease, &task.spec.binds)
        });
    }

    fn drain_ready(&mut self, entry: &PullSession) {
        let mut events = Vec::new();
        for stream in self.former.iter_mut().chain(&mut self.stream) {
            while let Ok(event) = stream.events.try_recv() {
                events.push(event);
            }
        }
        events.into_iter().for_each(|event| self.take(event, entry));
    }

    fn take(&mut self, event: SessionEvent, entry: &PullSession) {
        match event {
            SessionEvent::Dispatches(tasks) => self.left.extend(tasks),
            SessionEvent::Stop { task, token, reason } => {
                self.stop(HeldLease { task, token }, reason, entry);
            }
            SessionEvent::Drain => {
                self.draining = true;
                entry.notices().news = true;
            }
            SessionEvent::Ended => {}
        }
    }

    fn stop(&mut self, lease: HeldLease, reason: StopReason, entry: &PullSession) {
        let before = self.left.len();
        self.left.retain(|left| lease_of(left) != lease);
        let cancelled = reason == StopReason::Cancelled;
        if self.left.len() < before {
            // The worker never hears of it.
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

    use rota_core::{Policy, TaskId, TaskSpec, WallTime};

    use super::*;

    fn dispatched(task: u64) -> Dispatched {
        let name = |text| Name::new(text).expect("a name");
        let spec = TaskSpec {
            id: TaskId::from_u64(task).expect("not 0"),
            queue: name("q"),
            kind: name("k"),
            payload: bytes::Bytes::new(),
            labels: Vec::new(),
            created_at: WallTime(0),
            expires_at: None,
            policy: Policy::default(),
            binds: Binds::default(),
            fingerprint: 0,
            trace: None,
        };
        Dispatched { token: LeaseToken(7), attempt: 1, run_at: WallTime(0), spec: Arc::new(spec) }
    }

    #[test]
    fn what_the_worker_was_not_told_of_is_not_to_be_stopped() {
        let entry = PullSession::new(SessionId(1), Name::new("w").expect("a name"));
        let serves = Serves { ttl: Duration::from_secs(60), ..Serves::default() };
        let mut mailbox = Mailbox { serves, ..Mailbox::default() };
        let tasks = [1, 2, 3].map(dispatched);
        let leases = tasks.each_ref().map(lease_of);
        let stop = |lease: HeldLease, reason| {
            let HeldLease { task, token } = lease;
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
