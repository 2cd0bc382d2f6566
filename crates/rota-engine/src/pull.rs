//! Sessions of workers without a stream, which ask for tasks in single calls.
//!
//! A call that waits for tasks holds the mailbox of its session. When a newer call of the session comes, the
//! older one releases the mailbox at once, and the newer one gets the tasks. A call that is dropped because
//! its client is gone leaves nothing behind: the engine withdraws its request, and leases tasks that the
//! worker did not get to others.

mod held;
mod mailbox;

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rota_core::{
    Assignment, Command, Credit, LeaseId, Machine, Millis, Name, OpenSession, Refusal, Report,
    SessionId, StopReason,
};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use self::{
    held::{Leases, NamedLease},
    mailbox::{Mailbox, PullSession, Serves, lease_of},
};
use crate::{
    api::{Dispatched, EngineError, Instructions, LeaseRequest, LeaseResponse, StopOrder, TaskRef},
    dispatch::{GiveBack, SETTLE_WAIT},
    down::size_of,
    engine::{Engine, Inner},
    planted::Planted,
    specs::FoundSpec,
};

/// Maximum bytes of tasks in one answer. The task that exceeds it is still included, and the rest stays for
/// another call. Below 4 MiB, the default limit of gRPC clients.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Maximum number of tasks that a session without a stream holds at once.
const SLOTS: u32 = 10_000;

/// The sessions of this node without a stream.
#[derive(Debug, Default)]
pub(crate) struct PullSessions {
    sessions: Mutex<FxHashMap<SessionId, Arc<PullSession>>>,
}

impl PullSessions {
    fn all(&self) -> MutexGuard<'_, FxHashMap<SessionId, Arc<PullSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, session: SessionId) -> Option<Arc<PullSession>> {
        self.all().get(&session).cloned()
    }

    /// The session with this id, which is created if necessary.
    fn entry(&self, session: SessionId, worker: &Name) -> Arc<PullSession> {
        let mut sessions = self.all();
        match sessions.get(&session) {
            Some(entry) if entry.worker == *worker => return entry.clone(),
            // The machine checks at the opening whether it belongs to another worker.
            Some(_) => return Arc::new(PullSession::new(session, worker.clone())),
            None => {}
        }
        // The engine ends the session of a silent worker, which closes its channel.
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

    /// Removes an ended session. A call that waits for its tasks returns.
    pub(crate) fn forget(&self, session: SessionId) {
        if let Some(entry) = self.all().remove(&session) {
            entry.take_turn();
        }
    }
}

impl Engine {
    /// Leases tasks to a worker without a stream. Leased tasks count as running.
    ///
    /// Cancel safe: tasks of a dropped call go to other workers, without spending an attempt.
    ///
    /// # Errors
    /// When the session belongs to another worker, there are too many sessions, or the engine does not
    /// answer.
    pub async fn lease(&self, request: LeaseRequest) -> Result<LeaseResponse, EngineError> {
        let deadline = Instant::now() + request.wait;
        match self.lease_once(&request, deadline).await {
            // The worker was silent for too long, or the leader changed. It can open a new session.
            Err(EngineError::Refused(Refusal::UnknownSession)) => {
                // The message that the session has ended may still be in the channel.
                self.flush().await?;
                self.lease_once(&request, deadline).await
            }
            result => result,
        }
    }

    async fn lease_once(
        &self,
        request: &LeaseRequest,
        deadline: Instant,
    ) -> Result<LeaseResponse, EngineError> {
        let session = request.session.unwrap_or_else(|| self.inner.shared.host.session_id());
        let entry = self.inner.pull.entry(session, &request.worker);
        let turn = entry.take_turn();
        let nameless = request.session.is_none();
        let call = Call { engine: self, entry: entry.clone(), turn, nameless, answered: false };
        let (tasks, instructions) = tokio::select! {
            biased;
            // The tasks stay for the newer call.
            () = entry.overtaken(turn) => (Vec::new(), Instructions::default()),
            answer = self.poll(&entry, request, deadline) => answer?,
            // Also while the store is slow, because the worker cannot send heartbeats while it waits here.
            never = self.vouch(session, request.ttl) => match never {},
        };
        call.answered();
        Ok(LeaseResponse { session, ttl: request.ttl, tasks, instructions })
    }

    /// If this is dropped at any point, the next call of the session, or [`Engine::abandon`], continues from
    /// there.
    async fn poll(
        &self,
        entry: &Arc<PullSession>,
        request: &LeaseRequest,
        deadline: Instant,
    ) -> Result<(Vec<Dispatched>, Instructions), EngineError> {
        let mut mailbox = entry.mailbox.lock().await;
        self.enter(entry, &mut mailbox, request).await?;
        if let Some(held) = &request.held {
            self.compare(entry, &mut mailbox, held, request.max).await?;
        }
        let here = u32::try_from(mailbox.left.len()).unwrap_or(u32::MAX);
        // More than fits into one answer would only be returned.
        let fits = self.inner.shared.payloads.count_within(ANSWER_BYTES_MAX);
        self.allow(entry.id, request.max.min(fits).saturating_sub(here)).await?;
        self.collect(entry, &mut mailbox, request, deadline).await?;
        self.allow(entry.id, 0).await?;
        self.settle(entry.id).await?;
        mailbox.drain_ready(entry);
        mailbox.drop_known(&known(request.held.as_deref().unwrap_or_default()));
        let count = mailbox.fitting(request.max as usize, ANSWER_BYTES_MAX);
        let surplus: Vec<_> = mailbox.left.drain(count..).map(|task| lease_of(&task)).collect();
        mailbox.unwanted.extend(surplus);
        let (begun, instructions) =
            tokio::try_join!(self.begin(&mailbox), self.instructions(entry.id, Some(entry)))?;
        mailbox.unwanted.clear();
        let tasks = mailbox.left.drain(..).zip(begun);
        let tasks = tasks.filter_map(|(task, begun)| begun.is_ok().then_some(task)).collect();
        Ok((tasks, instructions))
    }

    /// Compares the leases of a worker with those of its session. Records the attempts to stop, and puts
    /// tasks that the worker does not have into the mailbox, up to the number that it asked for.
    async fn compare(
        &self,
        entry: &PullSession,
        mailbox: &mut Mailbox,
        said: &[NamedLease],
        max: u32,
    ) -> Result<(), EngineError> {
        let session = entry.id;
        let question = move |machine: &Machine| {
            let held = machine.held(session)?;
            // These are not leased again, but stay with the worker until it has stopped them.
            let stop = machine.orders(session)?.stop.into_iter();
            let client_keys = |lease: &LeaseId| Some(machine.task(lease.task)?.client_keys);
            let stop: Vec<_> =
                stop.filter_map(|lease| Some((lease, client_keys(&lease)?))).collect();
            Some((held, stop))
        };
        let (mut untold, stop) = self.query(question).await?.ok_or(Refusal::UnknownSession)?;
        mailbox.drain_ready(entry);
        let mut holds = Leases::default();
        untold
            .iter()
            .for_each(|(assignment, client_keys)| holds.add(assignment.lease_id(), client_keys));
        stop.iter().for_each(|(lease, client_keys)| holds.add(*lease, client_keys));
        let lost = said.iter().filter(|lease| !holds.names(lease)).cloned().collect();
        entry.notices().note_lost(lost);

        let said = known(said);
        mailbox.drop_known(&said);
        let left = mailbox.left.iter().map(lease_of);
        let here: FxHashSet<_> = mailbox.unwanted.iter().copied().chain(left).collect();
        untold.retain(|(assignment, client_keys)| {
            let lease = assignment.lease_id();
            !here.contains(&lease) && !said.has(lease, client_keys)
        });
        // The rest stays for the next call. Payloads are read only for the tasks of this one.
        untold.truncate((max as usize).saturating_sub(mailbox.left.len()));
        let tasks: Vec<_> = untold.iter().map(|(assignment, _)| assignment.task).collect();
        let mut bytes: usize = mailbox.left.iter().map(|task| size_of(&task.spec)).sum();
        let mut untold = untold.into_iter();
        let mut ended = Vec::new();
        let hand_over = |_, found: FoundSpec| {
            match untold.next().map(|(assignment, _)| (assignment, found.into_runnable())) {
                Some((assignment, Ok(spec))) => {
                    let Assignment { token, attempt, run_at, .. } = assignment;
                    bytes += size_of(&spec);
                    mailbox.left.push(Dispatched { token, attempt, run_at, spec });
                }
                // Nobody can run it, so the worker must not keep it until its timeout.
                Some((assignment, Err((_, report)))) => ended.push((assignment.lease_id(), report)),
                None => {}
            }
            if bytes < ANSWER_BYTES_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let Inner { store, shared, .. } = self.inner.as_ref();
        shared.specs.each(store.as_ref(), &tasks, hand_over).await?;
        if !ended.is_empty() {
            self.report(ended).await?;
        }
        Ok(())
    }

    /// Waits until the leases of the session are in its channel, as far as there is room and they can be read
    /// in time. The others are returned, for the next worker that asks.
    async fn settle(&self, session: SessionId) -> Result<(), EngineError> {
        let dispatcher = &self.inner.dispatcher;
        let settled = dispatcher.give_back(session, GiveBack::Settled);
        if timeout(SETTLE_WAIT, settled).await.is_err() {
            self.give_back(session).await?;
        }
        Ok(())
    }

    /// Returns the leases that are not in the session's channel.
    async fn give_back(&self, session: SessionId) -> Result<(), EngineError> {
        let given_back = self.inner.dispatcher.give_back(session, GiveBack::Now);
        timeout(self.inner.options.call_timeout, given_back).await.map_err(|_| too_slow())
    }

    /// Waits until the dispatcher has processed earlier messages.
    async fn flush(&self) -> Result<(), EngineError> {
        let flushed = timeout(self.inner.options.call_timeout, self.inner.dispatcher.flush()).await;
        flushed.map_err(|_| too_slow())
    }

    /// Reports the tasks in the mailbox as started, and returns the unwanted ones. If a report is refused,
    /// the worker no longer has the task.
    async fn begin(&self, mailbox: &Mailbox) -> Result<Vec<Result<(), Refusal>>, EngineError> {
        let at = self.inner.shared.host.now().wall;
        let begun = mailbox.left.iter().map(|task| (lease_of(task), Report::Started { at }));
        let back = mailbox.unwanted.iter().map(|lease| (*lease, Report::Released));
        let reports: Vec<_> = begun.chain(back).collect();
        if reports.is_empty() { Ok(Vec::new()) } else { self.report(reports).await }
    }

    async fn allow(&self, session: SessionId, tasks: u32) -> Result<(), EngineError> {
        let credit = Credit::Take(tasks);
        self.command(Command::SetCredit { session, connection: None, credit }).await
    }

    /// Waits until there is news or the wait is over. The session stays alive while its worker waits here.
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
                biased;
                event = stream.events.recv() => match event {
                    Some(event) => mailbox.take(event, entry),
                    None => return Err(Refusal::UnknownSession.into()),
                },
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                // Checks whether the session is still open, in addition to the heartbeats.
                () = tokio::time::sleep_until(pulse) => self.heartbeat(entry.id, None).await?,
            }
            mailbox.drain_ready(entry);
        }
        Ok(())
    }

    /// Opens the session, unless it is open with the same properties.
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
        // If this is dropped during the opening, the channel is lost, and the next call must open the session
        // again.
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
        let stream = self.open(open, false).await?;
        if mailbox.was_open() {
            // Nothing more is sent to the former channels from then on.
            self.flush().await?;
        }
        mailbox.drain_ready(entry);
        // The new channel tells whether it drains.
        mailbox.former.clear();
        mailbox.draining = false;
        mailbox.serves = serves;
        mailbox.stream = Some(stream);
        self.inner.pull.opened(entry);
        Ok(())
    }

    /// A heartbeat of a worker without a stream. Returns its orders.
    ///
    /// # Errors
    /// As [`Engine::heartbeat`].
    pub async fn pull_heartbeat(&self, session: SessionId) -> Result<Instructions, EngineError> {
        self.heartbeat(session, None).await?;
        let entry = self.inner.pull.find(session);
        if let Some(entry) = &entry
            && let Ok(mut mailbox) = entry.mailbox.try_lock()
        {
            mailbox.drain_ready(entry);
        }
        self.instructions(session, entry.as_deref()).await
    }

    /// The orders for the worker. They are repeated until it has reported, because an answer can be lost.
    async fn instructions(
        &self,
        session: SessionId,
        entry: Option<&PullSession>,
    ) -> Result<Instructions, EngineError> {
        let orders = self.query(move |machine| machine.orders(session)).await?;
        let orders = orders.ok_or(Refusal::UnknownSession)?;
        let cancelled = orders.stop.into_iter().map(|lease| (lease, StopReason::Cancelled));
        let mut stop: Vec<_> = cancelled.collect();
        let mut lost = Vec::new();
        if let Some(entry) = entry {
            let mut notices = entry.notices();
            notices.news = false;
            let now = Instant::now();
            notices.ended.retain(|(.., until)| *until > now);
            stop.extend(notices.ended.iter().map(|(lease, reason, _)| (*lease, *reason)));
            lost.clone_from(&notices.lost);
        }
        let mut stop = self.named(stop).await?;
        if !lost.is_empty() {
            // For some leases, the reason of the end is known.
            let known = Leases::of_orders(&stop);
            stop.extend(lost.into_iter().filter(|lease| !known.names(lease)).map(lost_order));
        }
        Ok(Instructions { stop, draining: orders.draining })
    }

    async fn named(&self, stop: Vec<(LeaseId, StopReason)>) -> Result<Vec<StopOrder>, EngineError> {
        if stop.is_empty() {
            return Ok(Vec::new());
        }
        let tasks: Vec<_> = stop.iter().map(|(lease, _)| lease.task).collect();
        let Inner { store, shared, .. } = self.inner.as_ref();
        let specs = shared.specs.without_payloads(store.as_ref(), &tasks).await?;
        let named = stop.into_iter().zip(specs).map(|((lease, reason), spec)| StopOrder {
            // The task may have been deleted since.
            shown_id: spec.record().map_or_else(|| lease.task.to_string(), |spec| spec.shown_id()),
            task: TaskRef::Id(lease.task),
            token: lease.token,
            reason,
        });
        Ok(named.collect())
    }

    /// Cleans up after a dropped call, unless a newer call continues.
    async fn abandon(&self, entry: &PullSession, turn: u64, nameless: bool) {
        let untold = tokio::select! {
            biased;
            () = entry.overtaken(turn) => return,
            untold = self.take_back(entry) => untold,
        };
        if !untold.is_empty() {
            let released = || untold.iter().map(|lease| (*lease, Report::Released)).collect();
            while can_still_succeed(&self.report(released()).await) {}
        }
        if nameless {
            // Nobody knows this session.
            while can_still_succeed(&self.close_session(entry.id, None).await) {}
        }
    }

    /// Withdraws the session's request for tasks, and the leases that its worker did not get.
    async fn take_back(&self, entry: &PullSession) -> Vec<LeaseId> {
        let mut mailbox = entry.mailbox.lock().await;
        if mailbox.was_open() {
            while can_still_succeed(&self.allow(entry.id, 0).await) {}
            while can_still_succeed(&self.give_back(entry.id).await) {}
            mailbox.drain_ready(entry);
        }
        let untold: Vec<_> = mailbox.left.drain(..).map(|task| lease_of(&task)).collect();
        mailbox.unwanted.drain(..).chain(untold).collect()
    }
}

/// The leases that a worker has, so that they are not leased again.
fn known(said: &[NamedLease]) -> Leases {
    if Planted::LeasesTwice.is_made() { Leases::default() } else { Leases::named(said) }
}

fn too_slow() -> EngineError {
    EngineError::Unavailable {
        reason: "the dispatcher did not answer within the timeout".to_owned(),
        retry_after: Duration::from_secs(1),
    }
}

/// An order to stop a lost lease. It has the task id that the worker used, because the task may be gone, and
/// its client id may belong to another task.
fn lost_order((task, token): NamedLease) -> StopOrder {
    StopOrder { shown_id: task.to_string(), task, token, reason: StopReason::LeaseLost }
}

/// Whether a retry makes sense: the request may not have been carried out, and this node is the leader as far
/// as it knows.
fn can_still_succeed<T>(result: &Result<T, EngineError>) -> bool {
    use EngineError as E;
    let Err(error) = result else { return false };
    matches!(
        error,
        E::OutcomeUnknown(_) | E::Overloaded { .. } | E::Unavailable { .. } | E::StoreFull(_)
    )
}

/// A call in progress. If it is dropped without an answer, a task of the engine cleans up.
struct Call<'a> {
    engine: &'a Engine,
    entry: Arc<PullSession>,
    turn: u64,
    /// Whether the worker does not know its session yet.
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
        // Without a runtime, all sessions have ended.
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
