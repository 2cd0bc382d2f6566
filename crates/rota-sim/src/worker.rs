//! Simulated workers: they hold sessions, run tasks and report, by a stream or by pulling.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    Failure, FailureReason, HeldLease, Name, Outcome, Refusal, Report, SessionId, StopReason,
};
use rota_engine::{Dispatched, EngineError, SessionEvent, SessionRequest};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    call::{CallError, Caller, Flow, Served},
    seed::per_mille,
};

/// A report that waits to be acknowledged.
#[derive(Clone)]
struct Due {
    lease: HeldLease,
    report: Report,
}

/// A task that runs.
struct Running {
    ends_at: Instant,
    lease: HeldLease,
    tag: u64,
}

/// A worker with a stream.
pub(crate) struct StreamWorker {
    pub(crate) caller: Caller,
    pub(crate) rng: fastrand::Rng,
    pub(crate) name: Name,
    pub(crate) queues: Vec<Name>,
    pub(crate) slots: u32,
    pub(crate) ttl: Duration,
    pub(crate) session: Option<SessionId>,
    pub(crate) running: BTreeMap<u64, RunningTask>,
    pub(crate) outbox: Vec<Pending>,
}

/// Opaque to others: a running task.
pub(crate) struct RunningTask(Running);
/// Opaque to others: a report that waits.
pub(crate) struct Pending(Due);

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
    pub(crate) async fn run(mut self) {
        loop {
            let Some(mut connection) = self.connect().await else {
                sleep(Duration::from_millis(self.rng.u64(10..60))).await;
                continue;
            };
            match self.work(&mut connection).await {
                Broken::Connection => {}
                Broken::Session => {
                    let session = connection.session.0;
                    self.caller.world.lock().audit.gave_up(session);
                    self.session = None;
                }
            }
        }
    }

    async fn connect(&mut self) -> Option<Connection> {
        let held: Vec<_> = self.running.values().map(|task| task.0.lease).collect();
        let waiting = self.outbox.iter().map(|pending| pending.0.lease);
        let request = SessionRequest {
            session: self.session,
            worker: self.name.clone(),
            queues: self.queues.clone(),
            kinds: Vec::new(),
            slots: self.slots,
            held: held.into_iter().chain(waiting).collect(),
        };
        let (sender, events) = mpsc::unbounded_channel();
        let (known, ttl) = (self.session, self.ttl);
        let opened = self.caller.ask("open", ttl / 4, move |served: Served| async move {
            if let Some(session) = known {
                served.heard(session.0, ttl);
            }
            let stream = served.engine.open_session(request).await?;
            served.heard(stream.session.0, ttl);
            let said = (stream.session, stream.connection, stream.revoked.clone());
            let flow = Flow::new(&served, sender);
            tokio::spawn(carry(served, stream, flow));
            Ok(said)
        });
        match opened.await {
            Ok((session, number, revoked)) => {
                self.session = Some(session);
                for lease in revoked {
                    self.drop_task(lease);
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
            let next_end = self.running.values().map(|task| task.0.ends_at).min();
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                biased;
                () = sleep_until(beat) => {
                    beat = Instant::now() + self.ttl / 4;
                    if let Some(broken) = self.heartbeat(connection.session, connection.number).await {
                        return broken;
                    }
                }
                event = connection.events.recv() => match event {
                    None => return Broken::Connection,
                    Some(event) => if let Some(broken) = self.handle(event) {
                        return broken;
                    },
                },
                () = sleep_until(next_end.unwrap_or(far)) => self.end_due(),
            }
            if !self.outbox.is_empty()
                && let Some(broken) = self.report(connection.session).await
            {
                return broken;
            }
        }
    }

    async fn heartbeat(&mut self, session: SessionId, connection: u64) -> Option<Broken> {
        let ttl = self.ttl;
        let beat = self.caller.ask("heartbeat", ttl / 4, move |served: Served| async move {
            served.heard(session.0, ttl);
            served.engine.heartbeat(session, Some(connection)).await
        });
        match beat.await {
            Ok(()) => None,
            Err(CallError::Engine(EngineError::Refused(Refusal::UnknownSession))) => {
                Some(Broken::Connection)
            }
            Err(_) => Some(Broken::Connection),
        }
    }

    fn handle(&mut self, event: SessionEvent) -> Option<Broken> {
        match event {
            SessionEvent::Dispatches(tasks) => {
                for task in tasks {
                    self.begin(&task);
                }
                None
            }
            SessionEvent::Stop { task, token, reason } => {
                let lease = HeldLease { task, token };
                let had = self.drop_task(lease);
                if reason == StopReason::Cancelled && had {
                    let outcome = Outcome::Cancelled;
                    self.outbox.push(Pending(Due { lease, report: ended(outcome) }));
                }
                None
            }
            SessionEvent::Drain => None,
            SessionEvent::Ended => Some(Broken::Session),
        }
    }

    fn drop_task(&mut self, lease: HeldLease) -> bool {
        let id = lease.task.as_u64();
        let had = self.running.get(&id).is_some_and(|task| task.0.lease == lease);
        if had {
            self.running.remove(&id);
        }
        self.outbox.retain(|pending| pending.0.lease != lease);
        had
    }

    fn begin(&mut self, task: &Dispatched) {
        let lease = HeldLease { task: task.spec.id, token: task.token };
        let id = task.spec.id.as_u64();
        let known = self.running.get(&id).is_some_and(|task| task.0.lease == lease)
            || self.outbox.iter().any(|pending| pending.0.lease == lease);
        if known {
            return;
        }
        let takes = if per_mille(&mut self.rng, 15) {
            Duration::from_millis(self.rng.u64(1000..8000))
        } else {
            Duration::from_millis(self.rng.u64(0..60))
        };
        let tag = crate::audit::tag_of(&task.spec.payload).unwrap_or_default();
        let ends_at = Instant::now() + takes;
        self.running.insert(id, RunningTask(Running { ends_at, lease, tag }));
        if takes > Duration::from_millis(40) {
            let at = task.run_at;
            self.outbox.push(Pending(Due { lease, report: Report::Started { at } }));
        }
    }

    fn end_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .running
            .iter()
            .filter(|(_, task)| task.0.ends_at <= now)
            .map(|(id, _)| *id)
            .collect();
        self.caller.world.lock().count(due.len());
        for id in due {
            let Some(RunningTask(task)) = self.running.remove(&id) else { continue };
            let report = outcome(&mut self.rng, task.tag);
            self.outbox.push(Pending(Due { lease: task.lease, report }));
        }
    }

    /// Sends all reports that wait. What is not answered is sent again.
    async fn report(&mut self, session: SessionId) -> Option<Broken> {
        let ttl = self.ttl;
        let reports: Vec<_> = self
            .outbox
            .iter()
            .take(200)
            .map(|pending| (pending.0.lease, pending.0.report.clone()))
            .collect();
        let count = reports.len();
        let sent = self.caller.ask("report", Duration::from_secs(2).min(ttl / 4), move |served| {
            give_report(served, session.0, ttl, reports)
        });
        match sent.await {
            Ok(()) => {
                self.outbox.drain(..count);
                None
            }
            Err(_) => Some(Broken::Connection),
        }
    }
}

/// On the node: hands reports to the engine, and tells the auditor what was acknowledged.
pub(crate) async fn give_report(
    served: Served,
    session: u64,
    ttl: Duration,
    reports: Vec<(HeldLease, Report)>,
) -> Result<(), EngineError> {
    served.heard(session, ttl);
    let ends: Vec<_> = reports
        .iter()
        .map(|(lease, report)| (*lease, matches!(report, Report::Ended { .. } | Report::Released)))
        .collect();
    let results = served.engine.report(reports).await?;
    served.with(|inner, now_us| {
        // The call itself is counted as one.
        inner.count(results.len().saturating_sub(1));
        for ((lease, ends), result) in ends.into_iter().zip(&results) {
            if ends && result.is_ok() {
                inner.audit.reported(now_us, lease.task.as_u64(), lease.token.0);
            }
        }
    });
    Ok(())
}

/// On the node: carries what flows down to the worker until either side ends it.
async fn carry(served: Served, mut stream: rota_engine::SessionStream, flow: Flow<SessionEvent>) {
    loop {
        let event = tokio::select! {
            biased;
            () = flow.closed() => None,
            event = stream.events.recv() => event,
        };
        let Some(event) = event else { break };
        if let SessionEvent::Dispatches(tasks) = &event {
            served.with(|inner, now_us| {
                for task in tasks {
                    let (id, token) = (task.spec.id.as_u64(), task.token.0);
                    inner.audit.dispatched(now_us, id, token);
                }
            });
        }
        if !flow.send(event) {
            break;
        }
    }
    drop(flow);
    // Where another leads by now, there is nothing to detach.
    let _ = served.engine.detach_session(stream.session, stream.connection).await;
}

fn ended(outcome: Outcome) -> Report {
    Report::Ended { started_at: None, output_tail: Bytes::new(), outcome }
}

/// How an attempt ends.
pub(crate) fn outcome(rng: &mut fastrand::Rng, tag: u64) -> Report {
    match rng.u32(..1000) {
        0..50 => ended(Outcome::Failed {
            failure: Failure::new(FailureReason::Error, "simulated"),
            retry_at: None,
        }),
        50..60 => ended(Outcome::Failed {
            failure: Failure::new(FailureReason::Permanent, "simulated"),
            retry_at: None,
        }),
        60..80 => Report::Released,
        80..500 => ended(Outcome::Completed { result: Bytes::new() }),
        _ => ended(Outcome::Completed { result: Bytes::from(format!("{tag:016x}")) }),
    }
}

/// Names for queues.
pub(crate) fn queue_names(count: usize) -> Arc<[Name]> {
    (0..count).filter_map(|number| Name::new(&format!("q{number}")).ok()).collect()
}
