//! Sessions of workers without a stream: they ask for tasks call by call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rota_core::{Command, Credit, Millis, Name, OpenSession, Refusal, SessionId};
use rustc_hash::FxHashMap;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{
    api::{Dispatched, EngineError, LeaseRequest, LeasedTasks, SessionEvent, SessionStream},
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
    worker: Name,
    queues: Vec<Name>,
    kinds: Vec<Name>,
    ttl: Duration,
    /// Held by the one call that waits for tasks.
    mailbox: AsyncMutex<Mailbox>,
}

#[derive(Debug)]
struct Mailbox {
    stream: SessionStream,
    /// Tasks that came and were not handed over, because the call was dropped.
    left: Vec<Dispatched>,
    draining: bool,
}

impl PullSessions {
    fn find(&self, session: SessionId) -> Option<Arc<PullSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }

    fn insert(&self, session: SessionId, entry: Arc<PullSession>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // The engine ends a session whose worker is silent; its channel then closes.
        sessions.retain(|_, entry| {
            entry.mailbox.try_lock().is_ok_and(|mailbox| !mailbox.stream.events.is_closed())
                || Arc::strong_count(entry) > 1
        });
        sessions.insert(session, entry);
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }
}

impl Engine {
    /// A worker without a stream asks for tasks. Cancel safe: tasks that a dropped call had been
    /// given are returned by the session's next call.
    ///
    /// # Errors
    /// When the session is another worker's or there are too many, or the engine does not answer.
    pub async fn lease(&self, request: LeaseRequest) -> Result<LeasedTasks, EngineError> {
        let deadline = Instant::now() + request.wait;
        match self.lease_once(&request, deadline).await {
            // It was silent for too long, or the leader changed: it may start anew.
            Err(EngineError::Refused(Refusal::UnknownSession)) => {
                if let Some(session) = request.session {
                    self.inner.pull.forget(session);
                }
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
        let entry = self.pull_session(request).await?;
        let mut mailbox = entry.mailbox.lock().await;
        let session = mailbox.stream.session;
        let wanted = request.max.saturating_sub(u32::try_from(mailbox.left.len()).unwrap_or(0));
        self.allow(session, wanted).await?;
        self.collect(&mut mailbox, request, deadline).await?;
        // What was given before this took effect is in the mailbox by then.
        self.allow(session, 0).await?;
        mailbox.drain_ready();
        let count = mailbox.left.len().min(request.max as usize);
        let tasks = mailbox.left.drain(..count).collect();
        Ok(LeasedTasks { session, ttl: entry.ttl, tasks, draining: mailbox.draining })
    }

    async fn allow(&self, session: SessionId, tasks: u32) -> Result<(), EngineError> {
        self.command(Command::SetCredit { session, credit: Credit::Take(tasks) }).await
    }

    /// Waits until there are tasks or the wait is over. The session lives as long as its worker
    /// waits here.
    async fn collect(
        &self,
        mailbox: &mut Mailbox,
        request: &LeaseRequest,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let session = mailbox.stream.session;
        mailbox.drain_ready();
        while mailbox.left.is_empty() && !mailbox.draining {
            let pulse = Instant::now() + request.ttl / 3;
            tokio::select! {
                event = mailbox.stream.events.recv() => match event {
                    Some(event) => mailbox.take(event),
                    None => return Err(Refusal::UnknownSession.into()),
                },
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                () = tokio::time::sleep_until(pulse) => self.heartbeat(session).await?,
            }
            mailbox.drain_ready();
        }
        Ok(())
    }

    /// The session that is meant, opened if need be.
    async fn pull_session(&self, request: &LeaseRequest) -> Result<Arc<PullSession>, EngineError> {
        let known = request.session.and_then(|session| self.inner.pull.find(session));
        if let Some(entry) = known
            && entry.worker == request.worker
            && entry.queues == request.queues
            && entry.kinds == request.kinds
            && entry.ttl == request.ttl
        {
            return Ok(entry);
        }
        let session = request.session.unwrap_or_else(|| SessionId(fastrand::u64(1..)));
        let stream = self
            .open(OpenSession {
                session,
                worker: request.worker.clone(),
                queues: request.queues.clone(),
                kinds: request.kinds.clone(),
                slots: SLOTS,
                credit: Credit::Take(0),
                ttl: Millis::from_duration(request.ttl),
                connection: 0,
                held: None,
            })
            .await?;
        let entry = Arc::new(PullSession {
            worker: request.worker.clone(),
            queues: request.queues.clone(),
            kinds: request.kinds.clone(),
            ttl: request.ttl,
            mailbox: AsyncMutex::new(Mailbox { stream, left: Vec::new(), draining: false }),
        });
        self.inner.pull.insert(session, entry.clone());
        Ok(entry)
    }
}

impl Mailbox {
    fn drain_ready(&mut self) {
        while let Ok(event) = self.stream.events.try_recv() {
            self.take(event);
        }
    }

    fn take(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Dispatches(tasks) => self.left.extend(tasks),
            // Its worker learns of the end of a lease from the answer to its next report.
            SessionEvent::Stop { task, token, .. } => {
                self.left.retain(|left| left.spec.id != task || left.token != token);
            }
            SessionEvent::Drain => self.draining = true,
            SessionEvent::Ended => {}
        }
    }
}
