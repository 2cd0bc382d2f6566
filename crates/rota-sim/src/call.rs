//! Calls from clients and workers to the engine of a node, through the simulated network.
//!
//! This stands for the API of a node: a call is one message there, a task on the node's runtime that
//! asks the engine, and one message back. A caller that gives up closes its connection, which ends the
//! task, as a server does.

use std::{sync::Arc, time::Duration};

use rota_core::{LeaseId, Report};
use rota_engine::{Engine, EngineError};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    audit::{Begun, Heard, Op, Told},
    world::{Endpoint, Inner, World},
};

/// A node that does not answer so often is left.
const UNANSWERED_MAX: u32 = 3;

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// None came in time, or the connection broke: it may have been carried out.
    NoAnswer,
    /// The engine says so.
    Engine(EngineError),
}

impl CallError {
    /// Whether it is certain that nothing was changed.
    pub(crate) fn nothing_changed(&self) -> bool {
        use EngineError as E;
        match self {
            Self::NoAnswer => false,
            Self::Engine(error) => matches!(
                error,
                E::Refused(_)
                    | E::Unavailable { .. }
                    | E::NotLeader
                    | E::Overloaded { .. }
                    | E::StoreFull(_)
            ),
        }
    }

    pub(crate) fn label(&self) -> &'static str {
        use EngineError as E;
        match self {
            Self::NoAnswer => "no-answer",
            Self::Engine(error) => match error {
                E::Refused(_) => "refused",
                E::Unavailable { .. } => "unavailable",
                E::LeadershipLost => "leadership-lost",
                E::NotLeader => "not-leader",
                E::OutcomeUnknown(_) => "outcome-unknown",
                E::Overloaded { .. } => "overloaded",
                E::StoreFull(_) => "full",
                E::Store(_) => "store",
                E::NoSuccessor { .. } => "no-successor",
            },
        }
    }
}

/// Where a caller stands, and whom it believes to lead.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) world: World,
    pub(crate) me: Endpoint,
    /// The nodes.
    pub(crate) nodes: Arc<[Endpoint]>,
    /// Index of the node to ask.
    pub(crate) at: usize,
    /// Calls to it without an answer, one after the other.
    pub(crate) unanswered: u32,
}

/// What the task on the node is given.
pub(crate) struct Served {
    pub(crate) engine: Engine,
    pub(crate) world: World,
    pub(crate) node: Endpoint,
    pub(crate) caller: Endpoint,
}

impl Served {
    /// Notes that a worker was heard of.
    pub(crate) fn heard(&self, session: u64, ttl: Duration) {
        let mut inner = self.world.lock();
        let listened_us = inner.sites[self.node.0].listened_us;
        let ttl_us = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        let heard = Heard { endpoint: self.node, listened_us, worker: self.caller, ttl_us };
        inner.audit.heard(session, heard);
    }

    /// Does something with the shared world, at the present time.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Inner, u64) -> T) -> T {
        let mut inner = self.world.lock();
        let now_us = inner.now_us;
        work(&mut inner, now_us)
    }
}

impl Caller {
    /// A worker was given a lease that it had before.
    pub(crate) fn handed_twice(&self, session: u64, id: u64, token: u64) {
        let mut inner = self.world.lock();
        let now_us = inner.now_us;
        inner.audit.handed_twice(now_us, session, id, token);
    }

    /// Notes operations that begin, for the check of histories, each with the number of its report.
    pub(crate) fn begin_reports(
        &self,
        reports: &[(LeaseId, Report)],
        operation: impl Fn(&Report) -> Option<Op>,
    ) -> Vec<(usize, Begun)> {
        let mut inner = self.world.lock();
        let now_us = inner.now_us;
        let operations = reports.iter().enumerate().filter_map(|(at, (lease, report))| {
            let op = operation(report)?;
            Some((at, inner.audit.histories.begin(lease.task.as_u64(), op, now_us)?))
        });
        operations.collect()
    }

    /// Those reports were answered: accepted or refused, each for itself.
    pub(crate) fn end_reports(&self, begun: Vec<(usize, Begun)>, accepted: &[bool]) {
        let mut inner = self.world.lock();
        let now_us = inner.now_us;
        for (at, one) in begun {
            let told = match accepted.get(at) {
                Some(true) => Told::Done,
                Some(false) => Told::Nothing,
                None => Told::Unknown,
            };
            inner.audit.histories.end(one, told, now_us);
        }
    }

    /// The node that is asked.
    pub(crate) fn node(&self) -> Endpoint {
        self.nodes[self.at % self.nodes.len()]
    }

    /// Asks another node next, if this one cannot help. One that does not answer may lead all the same.
    fn turn(&mut self, error: &CallError) {
        let other = match error {
            CallError::Engine(error) => matches!(error, EngineError::NotLeader),
            CallError::NoAnswer => {
                self.unanswered += 1;
                self.unanswered >= UNANSWERED_MAX
            }
        };
        if other {
            self.at += 1;
            self.unanswered = 0;
        }
    }

    /// Asks the engine of the node that is believed to lead. When another leads, that one is asked next.
    pub(crate) async fn ask<T, F, W>(
        &mut self,
        what: &'static str,
        wait: Duration,
        work: W,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
        W: FnOnce(Served) -> F + Send + 'static,
    {
        let (to, from) = (self.node(), self.me);
        let (answer, answered) = oneshot::channel();
        let world = self.world.clone();
        let arrive = move |inner: &mut Inner| {
            inner.note_way(what, from, to);
            let site = &inner.sites[to.0];
            let (Some(handle), Some(engine)) = (&site.handle, &site.engine) else { return };
            let served = Served { engine: engine.clone(), world, node: to, caller: from };
            handle.spawn(serve(served, answer, work));
        };
        self.world.lock().send(from, to, Box::new(arrive));
        let error = match timeout(wait, answered).await {
            Ok(Ok(Ok(said))) => {
                self.unanswered = 0;
                return Ok(said);
            }
            Ok(Ok(Err(error))) => CallError::Engine(error),
            Ok(Err(_)) | Err(_) => CallError::NoAnswer,
        };
        self.turn(&error);
        Err(error)
    }
}

/// Runs on the node: asks the engine and sends the answer, unless the caller gives up.
async fn serve<T, F, W>(served: Served, answer: oneshot::Sender<Result<T, EngineError>>, work: W)
where
    T: Send + 'static,
    F: Future<Output = Result<T, EngineError>> + Send + 'static,
    W: FnOnce(Served) -> F + Send + 'static,
{
    let (world, from, to) = (served.world.clone(), served.node, served.caller);
    let mut answer = answer;
    let said = tokio::select! {
        biased;
        said = work(served) => said,
        () = answer.closed() => return,
    };
    let taken = said.is_ok();
    let bring = move |_: &mut Inner| {
        // One who no longer waits needs no answer.
        let _ = answer.send(said);
    };
    let mut inner = world.lock();
    // The engine took it.
    inner.count(usize::from(taken));
    inner.send(from, to, Box::new(bring));
}

/// One direction of a stream: messages in order, and an end when it breaks.
pub(crate) struct Flow<T> {
    world: World,
    from: Endpoint,
    to: Endpoint,
    sender: mpsc::UnboundedSender<T>,
}

impl<T: Send + 'static> Flow<T> {
    pub(crate) fn new(served: &Served, sender: mpsc::UnboundedSender<T>) -> Self {
        Self { world: served.world.clone(), from: served.node, to: served.caller, sender }
    }

    /// Sends one; false when the connection is broken.
    pub(crate) fn send(&self, message: T) -> bool {
        let mut inner = self.world.lock();
        if self.sender.is_closed() || !inner.net.carries(self.from, self.to) {
            return false;
        }
        let sender = self.sender.clone();
        let bring = move |_: &mut Inner| {
            // One who is gone is noticed with the next message.
            let _ = sender.send(message);
        };
        inner.send(self.from, self.to, Box::new(bring));
        true
    }

    /// Resolves when the other side has closed the stream.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }
}
