//! A worker with a stream: it keeps a session, heartbeats, and comes back with the leases that it holds.

use std::time::Duration;

use rota_core::{LeaseId, Name, Refusal, SessionId};
use rota_engine::{EngineError, SessionEvent, SessionRequest};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Hands, PullWorker, give_report, hand_out, operation};
use crate::{
    call::{CallError, Caller, Flow, Served},
    seed::per_mille,
};

/// A heartbeat of an open session is answered within this time, whatever the store does.
const SIGN_WAIT: Duration = Duration::from_millis(100);

/// A worker with a stream.
pub(crate) struct StreamWorker {
    pub(crate) caller: Caller,
    rng: fastrand::Rng,
    pub(crate) name: Name,
    pub(crate) queues: Vec<Name>,
    pub(crate) slots: u32,
    pub(crate) ttl: Duration,
    session: Option<SessionId>,
    hands: Hands,
    draining: bool,
    /// It leaves of its own now and then.
    pub(crate) leaves: bool,
}

/// What ended a connection.
enum Broken {
    /// It broke: come back with the same session.
    Connection,
    /// The session is over.
    Session,
}

struct Connection {
    session: SessionId,
    number: u64,
    events: mpsc::UnboundedReceiver<SessionEvent>,
}

impl StreamWorker {
    pub(crate) fn new(
        caller: Caller,
        mut rng: fastrand::Rng,
        name: Name,
        queues: Vec<Name>,
        slots: u32,
        ttl: Duration,
    ) -> Self {
        let hands = Hands::new(rng.fork());
        let (session, draining, leaves) = (None, false, false);
        Self { caller, rng, name, queues, slots, ttl, session, hands, draining, leaves }
    }

    /// Of a thousand attempts, it snoozes so many.
    pub(crate) fn snoozes(&mut self, snoozes: u32) {
        self.hands.snoozes = snoozes;
    }

    /// The same without a stream.
    pub(crate) fn into_pull(self) -> PullWorker {
        let Self { caller, rng, name, queues, slots, ttl, hands, .. } = self;
        PullWorker::new(caller, rng, (name, queues), slots, ttl, hands)
    }

    /// The numbers that it draws, for a worker of another make.
    pub(crate) fn into_rng(self) -> fastrand::Rng {
        self.rng
    }

    pub(crate) async fn run(mut self) {
        loop {
            let Some(mut connection) = self.connect().await else {
                sleep(Duration::from_millis(self.rng.u64(10..60))).await;
                continue;
            };
            match self.work(&mut connection).await {
                Broken::Connection => {}
                Broken::Session => self.give_up(connection.session),
            }
        }
    }

    fn give_up(&mut self, session: SessionId) {
        self.caller.world.lock().audit.gave_up(session.0);
        self.session = None;
        self.draining = false;
    }

    async fn connect(&mut self) -> Option<Connection> {
        let request = SessionRequest {
            session: self.session,
            worker: self.name.clone(),
            queues: self.queues.clone(),
            kinds: Vec::new(),
            slots: self.slots,
            held: self.hands.held(),
            streams_output: false,
        };
        let (sender, events) = mpsc::unbounded_channel();
        let (known, ttl, slots) = (self.session, self.ttl, self.slots);
        let opened = self.caller.ask("open", ttl / 4, move |served: Served| async move {
            if let Some(session) = known {
                served.heard(session.0, ttl);
            }
            let stream = served.engine.open_session(request).await?;
            served.heard(stream.session.0, ttl);
            let endpoint = served.node;
            served.with(|inner, _| inner.audit.opened(stream.session.0, endpoint, slots));
            let said = (stream.session, stream.connection, stream.revoked.clone());
            let flow = Flow::new(&served, sender);
            tokio::spawn(carry(served, stream, flow));
            Ok(said)
        });
        match opened.await {
            Ok((session, number, revoked)) => {
                self.session = Some(session);
                for lease in revoked {
                    self.hands.drop_task(lease);
                }
                Some(Connection { session, number, events })
            }
            Err(CallError::Engine(EngineError::Refused(_))) => {
                self.session = None;
                None
            }
            Err(_) => None,
        }
    }

    async fn work(&mut self, connection: &mut Connection) -> Broken {
        let mut beat = Instant::now();
        loop {
            let far = Instant::now() + Duration::from_secs(3600);
            let next_end = self.hands.next_end().unwrap_or(far);
            tokio::select! {
                biased;
                () = sleep_until(beat) => {
                    beat = Instant::now() + self.ttl / 4;
                    if let Some(broken) = self.heartbeat(connection).await {
                        return broken;
                    }
                    if self.leaves && per_mille(&mut self.rng, 4) {
                        return self.leave(connection).await;
                    }
                }
                event = connection.events.recv() => match event {
                    None => return Broken::Connection,
                    Some(event) => if let Some(broken) = self.handle(connection.session, event) {
                        return broken;
                    },
                },
                () = sleep_until(next_end) => {
                    let ended = self.hands.end_due();
                    self.caller.world.lock().count(ended);
                }
            }
            if let Some(broken) = self.report(connection.session).await {
                return broken;
            }
            if self.draining && self.hands.is_empty() {
                return self.leave(connection).await;
            }
        }
    }

    /// Says goodbye, whatever it holds, and is back a little later.
    async fn leave(&mut self, connection: &Connection) -> Broken {
        let (session, number) = (connection.session, connection.number);
        self.caller.world.lock().audit.gave_up(session.0);
        let gone = self.caller.ask("leave", self.ttl / 4, move |served: Served| async move {
            served.engine.close_session(session, Some(number)).await
        });
        // Whoever does not hear it will miss its heartbeats.
        let _ = gone.await;
        self.hands.clear();
        sleep(Duration::from_millis(self.rng.u64(0..2000))).await;
        Broken::Session
    }

    async fn heartbeat(&mut self, connection: &Connection) -> Option<Broken> {
        let (ttl, session, number) = (self.ttl, connection.session, connection.number);
        let beat = self.caller.ask("heartbeat", ttl / 4, move |served: Served| async move {
            served.heard(session.0, ttl);
            let since_us = served.with(|_, now_us| now_us);
            let beat = served.engine.heartbeat(session, Some(number));
            let mut beat = std::pin::pin!(beat);
            match timeout(SIGN_WAIT, &mut beat).await {
                Ok(said) => said,
                Err(_) => {
                    let endpoint = served.node;
                    served.with(|inner, now_us| {
                        inner.audit.late_sign(now_us, session.0, endpoint, since_us);
                    });
                    beat.await
                }
            }
        });
        match beat.await {
            Ok(()) => None,
            Err(CallError::Engine(EngineError::Refused(Refusal::UnknownSession))) => {
                Some(Broken::Connection)
            }
            Err(_) => Some(Broken::Connection),
        }
    }

    fn handle(&mut self, session: SessionId, event: SessionEvent) -> Option<Broken> {
        match event {
            SessionEvent::Dispatches(tasks) => {
                for task in tasks {
                    if !self.hands.begin(&task) {
                        let (id, token) = (task.spec.id.as_u64(), task.token.0);
                        self.caller.handed_twice(session.0, id, token);
                    }
                }
                None
            }
            SessionEvent::Stop { task, token, reason } => {
                self.hands.stop(LeaseId { task, token }, reason);
                None
            }
            SessionEvent::Drain => {
                self.draining = true;
                None
            }
            // Nobody listens.
            SessionEvent::WatchOutput { .. } => None,
            SessionEvent::Ended => Some(Broken::Session),
        }
    }

    /// Sends all reports that wait. What is not answered is sent again.
    async fn report(&mut self, session: SessionId) -> Option<Broken> {
        let reports = self.hands.reports();
        if reports.is_empty() {
            return None;
        }
        let (ttl, count) = (self.ttl, reports.len());
        let begun = self.caller.begin_reports(&reports, operation);
        let sent = self.caller.ask("report", Duration::from_secs(2).min(ttl / 4), move |served| {
            give_report(served, session.0, ttl, reports)
        });
        let sent = sent.await;
        self.caller.end_reports(begun, sent.as_deref().unwrap_or_default());
        match sent {
            Ok(_) => {
                self.hands.reported(count);
                None
            }
            Err(_) => Some(Broken::Connection),
        }
    }
}

/// On the node: carries what flows down to the worker until either side ends it.
async fn carry(served: Served, mut stream: rota_engine::SessionStream, flow: Flow<SessionEvent>) {
    let session = stream.session.0;
    loop {
        let event = tokio::select! {
            biased;
            () = flow.closed() => None,
            event = stream.events.recv() => event,
        };
        let Some(event) = event else { break };
        if let SessionEvent::Dispatches(tasks) = &event {
            served.with(|inner, now_us| hand_out(inner, now_us, session, tasks));
        }
        if !flow.send(event) {
            break;
        }
    }
    drop(flow);
    // Where another leads by now, there is nothing to detach.
    let _ = served.engine.detach_session(stream.session, stream.connection).await;
}
