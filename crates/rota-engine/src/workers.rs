//! Calls on queues and workers, and calls of workers with a stream.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use rota_core::{
    Command, Credit, LeaseId, Millis, Name, OpenSession, Pause, QueueCounts, Refusal, Reply,
    Report, SessionId, SessionView,
};
use tracing::info;

use crate::{
    api::{EngineError, QueueList, SessionRequest, WorkerList, WorkerRef},
    down,
    down::SessionStream,
    engine::{Engine, Inner, unavailable},
    fingerprint,
    landed::LandedWorkers,
    planted::Planted,
    request::{self, Request},
    shared::Shared,
};

/// Timeout for reading the head of the store.
const HEAD_WAIT: Duration = Duration::from_secs(2);
/// Interval of heartbeats on behalf of a waiting worker.
const VOUCH_PERIOD_MIN: Duration = Duration::from_millis(20);

impl Engine {
    /// All queues, by name. While a commit hangs, as of the last one.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn queues(&self) -> Result<Vec<QueueCounts>, EngineError> {
        Ok(self.queue_list().await?.queues)
    }

    /// Up to `most` queues after this name, in order. While a commit hangs, as of the last one.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn queues_after(
        &self,
        after: Option<&Name>,
        most: usize,
    ) -> Result<QueueList, EngineError> {
        let from = after.cloned();
        if self.inner.shared.store_problem().is_none()
            && let Some(queues) =
                self.try_query(move |machine| machine.queues_after(from.as_ref(), most)).await?
        {
            return Ok(QueueList { queues, as_of: None });
        }
        let mut list = self.landed_queues().await?;
        list.queues.retain(|counts| after.is_none_or(|after| counts.name > *after));
        list.queues.truncate(most);
        Ok(list)
    }

    /// All queues, by name, and the time of this state.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn queue_list(&self) -> Result<QueueList, EngineError> {
        // Then the answer of the machine waits for a commit.
        if self.inner.shared.store_problem().is_none()
            && let Some(queues) = self.try_query(rota_core::Machine::queues).await?
        {
            return Ok(QueueList { queues, as_of: None });
        }
        self.landed_queues().await
    }

    /// All queues as of the last commit.
    async fn landed_queues(&self) -> Result<QueueList, EngineError> {
        let (queues, as_of) = self.landed(|shared| shared.landed.queues()).await?;
        Ok(QueueList { queues, as_of: Some(as_of) })
    }

    /// The state of the last commit, if no other leader has committed since.
    async fn landed<T>(
        &self,
        remembered: impl FnOnce(&Shared) -> Option<T>,
    ) -> Result<T, EngineError> {
        let Inner { store, shared, .. } = self.inner.as_ref();
        let epoch = shared.epoch.load(Ordering::Relaxed);
        let landed = remembered(shared);
        let landed = landed.ok_or_else(|| unavailable("there is no durable commit yet"))?;
        // This process may have been paused and replaced.
        if shared.signs.is_held() && shared.epoch.load(Ordering::Relaxed) == epoch {
            return Ok(landed);
        }
        let head = tokio::time::timeout(HEAD_WAIT, store.head()).await;
        let head =
            head.map_err(|_| unavailable("the store did not answer within the timeout"))??;
        if head.epoch.0 > epoch {
            return Err(EngineError::LeadershipLost);
        }
        Ok(landed)
    }

    /// A queue. While a commit hangs, as of the last one. `None` if there is no such queue.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn queue(&self, queue: &Name) -> Result<Option<QueueCounts>, EngineError> {
        if self.inner.shared.store_problem().is_none() {
            let asked = queue.clone();
            if let Some(counts) = self.try_query(move |machine| machine.queue(&asked)).await? {
                return Ok(counts);
            }
        }
        let list = self.landed_queues().await?;
        Ok(list.queues.into_iter().find(|counts| counts.name == *queue))
    }

    /// Pauses a queue, or resumes it without a pause. Returns when this is durable.
    ///
    /// # Errors
    /// When there are too many queues, or the engine does not answer.
    pub async fn pause_queue(
        &self,
        queue: &Name,
        pause: Option<Pause>,
    ) -> Result<QueueCounts, EngineError> {
        self.inner.shared.admit_change()?;
        let command = Command::PauseQueue { queue: queue.clone(), pause: pause.map(Box::new) };
        // The answer has the state of the queue, so no further read is needed that could fail.
        match self.one_command(command).await? {
            Reply::Queue(counts) => Ok(*counts),
            other => unreachable!("a pause was answered with {other:?}"),
        }
    }

    /// Up to `most` sessions after this one in the order of worker names, each with up to `tasks` of its
    /// tasks. While a commit hangs, as of an earlier one.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn workers_after(
        &self,
        after: Option<(Name, SessionId)>,
        most: usize,
        tasks: usize,
    ) -> Result<WorkerList, EngineError> {
        let from = after.clone();
        if self.inner.shared.store_problem().is_none()
            && let Some(workers) = self
                .try_query(move |machine| machine.sessions_after(from.as_ref(), most, tasks))
                .await?
        {
            return Ok(WorkerList { workers, as_of: None });
        }
        let LandedWorkers { workers, at } = self.landed(|shared| shared.landed.workers()).await?;
        let is_after = |view: &&SessionView| {
            after.as_ref().is_none_or(|(worker, id)| (&view.worker, view.id) > (worker, *id))
        };
        let mut workers: Vec<_> = workers.iter().filter(is_after).take(most).cloned().collect();
        for view in &mut workers {
            view.tasks.truncate(tasks);
        }
        Ok(WorkerList { workers, as_of: Some(at) })
    }

    /// All sessions, by worker name.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn workers(&self) -> Result<Vec<SessionView>, EngineError> {
        self.query(rota_core::Machine::sessions).await
    }

    /// Drains workers. The result is empty if there is no such worker.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn drain(&self, worker: &WorkerRef) -> Result<Vec<SessionView>, EngineError> {
        self.inner.shared.admit_change()?;
        let worker = worker.clone();
        let meant = move |machine: &rota_core::Machine| match worker {
            WorkerRef::Session(session) => machine.session(session).into_iter().collect(),
            WorkerRef::Named(name) => machine.sessions_of(&name),
        };
        let sessions: Vec<SessionView> = self.query(meant).await?;
        if Planted::IgnoresDrain.is_made() {
            return Ok(sessions);
        }
        let drain = |view: &SessionView| match Planted::DrainEndsSessions.is_made() {
            true => Command::CloseSession { session: view.id, connection: None },
            false => Command::Drain { session: view.id },
        };
        let commands: Vec<_> = sessions.iter().map(drain).collect();
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        // In one request, so that either all drain, or none.
        for result in self.ask(|answer| Request::Commands { commands, answer }).await? {
            match result {
                // The session ended meanwhile.
                Ok(_) | Err(Refusal::UnknownSession) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(sessions.into_iter().map(|view| SessionView { draining: true, ..view }).collect())
    }

    /// Opens or resumes a session.
    ///
    /// # Errors
    /// When the session belongs to another worker, there are too many sessions, or the engine does not
    /// answer.
    pub async fn open_session(
        &self,
        request: SessionRequest,
    ) -> Result<SessionStream, EngineError> {
        let ttl = self.inner.options.session_ttl;
        let open = OpenSession {
            session: request.session.unwrap_or_else(|| self.inner.shared.host.session_id()),
            worker: request.worker,
            queues: request.queues,
            kinds: request.kinds,
            slots: request.slots,
            credit: Credit::Hold(request.slots),
            ttl: Millis::from_duration(ttl),
            connection: self.inner.shared.host.random(),
            held: Some(if Planted::ForgetsHeld.is_made() { Vec::new() } else { request.held }),
        };
        self.open(open, request.streams_output).await
    }

    pub(crate) async fn open(
        &self,
        open: OpenSession,
        streams_output: bool,
    ) -> Result<SessionStream, EngineError> {
        let (ttl, connection) = (open.ttl.as_duration(), open.connection);
        let open = Box::new(open);
        let downstream = &self.inner.shared.downstream;
        let (sender, events) = down::channel(downstream, open.held.is_some(), streams_output);
        let session = open.session;
        let reply = tokio::select! {
            biased;
            reply = self.ask(|answer| Request::OpenSession { open, events: sender, answer }) => reply??,
            never = self.vouch(session, ttl) => match never {},
        };
        match reply {
            Reply::Session { session, revoked } => {
                Ok(SessionStream { session, connection, ttl, revoked, events })
            }
            other => unreachable!("a session was answered with {other:?}"),
        }
    }

    /// A heartbeat of a worker. Answers at once, even if the store is slow, because heartbeats are soft
    /// state. Ignored if the worker has reconnected on another connection; `None` stands for any.
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`] if the session has ended. The worker must open a new one.
    pub async fn heartbeat(
        &self,
        session: SessionId,
        connection: Option<u64>,
    ) -> Result<(), EngineError> {
        if Planted::IgnoresHeartbeats.is_made() {
            return Ok(());
        }
        let at = self.inner.shared.host.now().mono;
        if self.inner.shared.signs.hear(session, connection, at, None) {
            return Ok(());
        }
        self.command(Command::Heartbeat { session, connection, at }).await
    }

    /// Sets the number of tasks that a worker is ready to hold, including those that it holds. Answers at
    /// once, as [`Engine::heartbeat`] does.
    ///
    /// # Errors
    /// As [`Engine::heartbeat`].
    pub async fn set_credit(
        &self,
        session: SessionId,
        connection: u64,
        credit: u32,
    ) -> Result<(), EngineError> {
        let (connection, at) = (Some(connection), self.inner.shared.host.now().mono);
        if self.inner.shared.signs.hear(session, connection, at, Some(credit)) {
            return Ok(());
        }
        let credit = Credit::Hold(credit);
        self.command(Command::SetCredit { session, connection, credit }).await
    }

    /// Sends heartbeats on behalf of a worker as long as this is polled, because the worker waits for an
    /// answer of this node and cannot send them.
    pub(crate) async fn vouch(&self, session: SessionId, ttl: Duration) -> Infallible {
        let mut period = tokio::time::interval((ttl / 4).max(VOUCH_PERIOD_MIN));
        loop {
            period.tick().await;
            let at = self.inner.shared.host.now().mono;
            self.inner.shared.signs.hear(session, None, at, None);
        }
    }

    /// Reports that the connection of a [`SessionStream`] broke. Its worker gets no tasks until it
    /// reconnects.
    ///
    /// # Errors
    /// As [`Engine::heartbeat`].
    pub async fn detach_session(
        &self,
        session: SessionId,
        connection: u64,
    ) -> Result<(), EngineError> {
        if Planted::DetachEndsSessions.is_made() {
            return self.close_session(session, None).await;
        }
        self.command(Command::Detach { session, connection }).await
    }

    /// Closes a session. Other workers get the tasks that it held.
    ///
    /// # Errors
    /// As [`Engine::heartbeat`].
    pub async fn close_session(
        &self,
        session: SessionId,
        connection: Option<u64>,
    ) -> Result<(), EngineError> {
        self.inner.pull.forget(session);
        self.command(Command::CloseSession { session, connection }).await
    }

    /// Takes reports of a worker. Returns when the accepted ones are durable.
    ///
    /// # Errors
    /// When the outcome is unknown. The same reports can be sent again.
    pub async fn report(
        &self,
        reports: Vec<(LeaseId, Report)>,
    ) -> Result<Vec<Result<(), Refusal>>, EngineError> {
        let leases: Vec<_> = reports.iter().map(|(lease, _)| *lease).collect();
        let command = |(lease, report): (LeaseId, Report)| Command::Report {
            task: lease.task,
            token: lease.token,
            fingerprint: fingerprint::of_report(&report),
            report,
            random: self.inner.shared.host.random(),
            stored: None,
        };
        let commands: Vec<_> = reports.into_iter().map(command).collect();
        let bytes = commands.iter().map(request::bytes_of).sum();
        let room = self.room(self.inner.shared.room.for_reports(bytes)).await?;
        let results = self.ask_with(room, |answer| Request::Commands { commands, answer }).await?;
        for (lease, result) in leases.iter().zip(&results) {
            if let Err(refusal) = result {
                let epoch = self.inner.shared.epoch.load(Ordering::Relaxed);
                info!(task = %lease.task, token = lease.token.0, epoch, %refusal, "report refused");
            }
        }
        Ok(results.into_iter().map(|result| result.map(|_| ())).collect())
    }
}
