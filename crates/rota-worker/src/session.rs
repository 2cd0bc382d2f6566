//! The worker's session: one task that owns the stream, what runs, and what is to be reported.
//!
//! It comes back with the same session when the stream breaks, on whichever node answers, with the
//! leases it still holds; what runs goes on meanwhile. It never waits for room to send: what cannot
//! be sent now stays in the outbox, so that it always hears what the server says.

mod reconnect;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rota_client::v1;
use rota_proto::v1::{
    report::Outcome, server_message::Message as Down, worker_message::Message as Up,
};
use rustc_hash::FxHashMap;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;
use tonic::Status;
use tracing::{debug, info, warn};

use crate::{
    attempt,
    connection::{self, Connection, OUTGOING, message},
    context::{StopReason, TaskContext},
    ended::Ended,
    event::Event,
    metrics::AttemptEnd,
    outbox::{self, Bounds, Outbox},
    pulse::{Beat, Patience, Pulse},
    worker::Worker,
};

/// A task that still runs after so long is reported as started; quicker ones only as ended.
const STARTED_AFTER: Duration = Duration::from_millis(20);
/// With a server, what was told to stop gets so long to do so and to be reported: longer than an
/// attempt gets.
const ENDING: Duration = attempt::STOP_GRACE.saturating_add(connection::LAST_WORDS);
/// Events taken at a time.
const EVENTS: usize = 1024;

/// A task that runs.
struct Running {
    token: u64,
    context: TaskContext,
    since: Instant,
    reported: bool,
}

pub(crate) struct Session {
    worker: Worker,
    id: String,
    running: FxHashMap<String, Running>,
    /// Tasks that were not reported as started yet, oldest first.
    silent: VecDeque<(Instant, String)>,
    /// Tasks whose handlers said something that was not taken yet; each is in here once.
    talking: VecDeque<(String, u64)>,
    outbox: Outbox,
    /// What the server takes, as it said last.
    bounds: Bounds,
    events: mpsc::UnboundedReceiver<Event>,
    events_sender: mpsc::UnboundedSender<Event>,
    attempts: TaskTracker,
    phase: Phase,
    credit_sent: bool,
    /// Leases that have ended here: the server may send a task twice.
    ended: Ended,
    /// A server has welcomed this worker. It knows the token and the name then, and what refuses them
    /// later is a fault in between that may pass.
    welcomed: bool,
    /// Nodes in a row that refused the worker.
    refusals: usize,
    /// The server gave or answered something over the last connection.
    is_useful: bool,
    /// How long a silent connection is waited for.
    patience: Patience,
}

/// How far the worker is with its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Takes no more; what runs may go on until then.
    Draining(Instant),
    /// What ran was told to stop.
    Ending(Instant),
}

impl Phase {
    fn patience_ends(self) -> Option<Instant> {
        if let Self::Draining(until) = self { Some(until) } else { None }
    }

    /// When what still has not ended is left behind.
    fn gives_up(self) -> Option<Instant> {
        if let Self::Ending(since) = self { Some(since + ENDING) } else { None }
    }
}

/// Why a connection ended.
enum Lost {
    /// Try again.
    Broken(Status),
    /// Nothing was heard after a heartbeat: try another way.
    Silent,
    /// All is done.
    Drained,
}

impl Session {
    pub(crate) fn new(worker: Worker) -> Self {
        // Bounded by what runs: each attempt sends its end, and of its progress a word until that was
        // taken.
        let (events_sender, events) = mpsc::unbounded_channel();
        let ended = Ended::new(worker.slots);
        Self {
            worker,
            id: new_session(),
            running: FxHashMap::default(),
            silent: VecDeque::new(),
            talking: VecDeque::new(),
            outbox: Outbox::default(),
            bounds: Bounds::of(&v1::Welcome::default()),
            events,
            events_sender,
            attempts: TaskTracker::new(),
            phase: Phase::Serving,
            credit_sent: false,
            ended,
            welcomed: false,
            refusals: 0,
            is_useful: false,
            patience: Patience::default(),
        }
    }

    /// Serves a stream until it breaks or all is done.
    async fn serve(&mut self, mut connection: Connection) -> Lost {
        let patience = connection.acknowledges.then_some(self.patience);
        let mut pulse = Pulse::new(connection.ttl, patience);
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let started_due = self.silent.front().map(|(since, _)| *since + STARTED_AFTER);
            let drain = self.worker.drain.clone();
            tokio::select! {
                biased;
                // What is due comes first, since it is rare: neither the server nor the handlers can
                // hold up a heartbeat or a drain.
                beat = pulse.tick() => match beat {
                    Beat::Rest => continue,
                    Beat::Silent => return Lost::Silent,
                    // A full channel says that the server does not read: the stream will break.
                    Beat::Send => drop(connection.up.try_send(message(Up::Heartbeat(v1::Heartbeat {})))),
                },
                () = drain.gently.cancelled(), if self.phase == Phase::Serving => self.start_drain(),
                () = drain.at_once.cancelled(), if self.phase.patience_ends().is_some() => self.end_drain(),
                () = maybe(self.phase.patience_ends()) => self.end_drain(),
                () = maybe(self.phase.gives_up()) => {
                    let (running, unsaid) = (self.running.len(), !self.outbox.is_empty());
                    warn!(running, unsaid, "stopping with what could not be ended");
                    return goodbye(connection).await;
                }
                () = maybe(started_due) => self.report_started(),
                down = connection.down.message() => match down {
                    Ok(Some(v1::ServerMessage { message })) => {
                        pulse.heard();
                        self.hear(message);
                    }
                    Ok(None) => return Lost::Broken(Status::unavailable("the server closed the stream")),
                    Err(status) => return Lost::Broken(status),
                },
                // Last: the server sends no more than the slots before it hears of their ends.
                count = self.events.recv_many(&mut events, EVENTS) => {
                    debug_assert!(count > 0, "the session holds a sender itself");
                    events.drain(..).for_each(|event| self.note(event));
                }
            }
            self.flush(&connection.up);
            if self.phase != Phase::Serving && self.running.is_empty() && self.outbox.is_empty() {
                return goodbye(connection).await;
            }
        }
    }

    fn hear(&mut self, message: Option<Down>) {
        let Some(message) = message else {
            debug!("the server said something that this version does not know");
            return;
        };
        self.is_useful |= matches!(message, Down::Dispatches(_) | Down::ReportResults(_));
        match message {
            Down::Dispatches(dispatches) => {
                dispatches.tasks.into_iter().for_each(|task| self.start(task));
            }
            Down::ReportResults(results) => {
                for refusal in &results.refused {
                    warn!(
                        task = refusal.task_id,
                        token = refusal.lease_token,
                        reason = refusal.reason,
                        said = refusal.message,
                        "a report was refused"
                    );
                    // A report that the server cannot read says nothing about the lease.
                    if outbox::is_unacceptable(refusal) {
                        continue;
                    }
                    self.stop(&refusal.task_id, refusal.lease_token, StopReason::LeaseLost);
                }
                self.outbox.answered(&results);
            }
            Down::Stop(stop) => {
                let reason = match stop.reason() {
                    v1::stop::Reason::Cancelled => StopReason::Cancelled,
                    // The server has given up on the attempt already.
                    _ => StopReason::LeaseLost,
                };
                self.stop(&stop.task_id, stop.lease_token, reason);
            }
            Down::Drain(_) => {
                if self.phase == Phase::Serving {
                    info!("the server asks this worker to drain");
                    self.start_drain();
                }
            }
            Down::Welcome(_) => debug!("welcomed again"),
            Down::HeartbeatAck(_) => {}
        }
    }

    /// Starts an attempt, unless it is one that we have: a task may be sent again when a session is
    /// resumed.
    fn start(&mut self, task: v1::Dispatch) {
        let (task_id, token) = (task.task_id.clone(), task.lease_token);
        if let Some(running) = self.running.get(&task_id) {
            if running.token == token {
                return;
            }
            running.context.stop(StopReason::LeaseLost);
        }
        if self.ended.has(&task_id, token) {
            debug!(task = task_id, token, "the server sent a task again that has ended here");
            return;
        }
        if self.phase != Phase::Serving {
            self.release(&task);
            return;
        }
        let Some(handler) = self.worker.handlers.get(&task.kind).cloned() else {
            self.release(&task);
            return;
        };
        let payload = task.payload.clone();
        let worker: Arc<str> = self.worker.name.clone();
        let (trace, span) = attempt::span(&self.worker.tracer, &task, &worker);
        let context = TaskContext::new(task, worker, trace, self.events_sender.clone());
        let since = Instant::now();
        self.silent.push_back((since, task_id.clone()));
        let running = Running { token, context: context.clone(), since, reported: false };
        self.worker.metrics.began();
        if let Some(replaced) = self.running.insert(task_id, running) {
            self.count(&replaced, AttemptEnd::Dropped);
        }
        let events = self.events_sender.clone();
        let started_at = (self.worker.wall_clock)();
        self.attempts.spawn(attempt::run(handler, context, payload, events, span, started_at));
    }

    /// Gives a task back that was not begun.
    fn release(&mut self, task: &v1::Dispatch) {
        self.report(v1::Report {
            task_id: task.task_id.clone(),
            lease_token: task.lease_token,
            outcome: Some(Outcome::Released(v1::Released {})),
            ..v1::Report::default()
        });
    }

    fn report(&mut self, report: v1::Report) {
        self.outbox.push(report, self.bounds);
    }

    fn stop(&self, task_id: &str, token: u64, reason: StopReason) {
        if let Some(running) = self.running.get(task_id)
            && running.token == token
        {
            running.context.stop(reason);
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Ended(report) => {
                if self.running.get(&report.task_id).is_some_and(|r| r.token == report.lease_token)
                    && let Some(running) = self.running.remove(&report.task_id)
                {
                    self.count(&running, end_of(report.outcome.as_ref()));
                }
                self.ended.add(&report.task_id, report.lease_token);
                if report.outcome.is_some() {
                    self.report(report);
                }
            }
            Event::Progress { task_id, token } => self.talking.push_back((task_id, token)),
        }
    }

    fn count(&self, running: &Running, end: AttemptEnd) {
        self.worker.metrics.ended(running.context.kind(), end, running.since.elapsed());
    }

    /// Reports what handlers said last of their progress. Only while it can be sent soon: what they
    /// say meanwhile replaces it.
    fn report_progress(&mut self) {
        if !self.outbox.has_room() {
            return;
        }
        for (task_id, lease_token) in std::mem::take(&mut self.talking) {
            let running = self.running.get(&task_id).filter(|task| task.token == lease_token);
            let Some(message) = running.and_then(|task| task.context.take_progress()) else {
                continue;
            };
            // Who speaks has begun.
            self.report_start(&task_id);
            self.report(v1::Report {
                task_id,
                lease_token,
                outcome: Some(Outcome::Progress(v1::Progress { message })),
                ..v1::Report::default()
            });
        }
    }

    /// Reports what has run for a while as started.
    fn report_started(&mut self) {
        let now = Instant::now();
        while let Some((since, _)) = self.silent.front()
            && *since + STARTED_AFTER <= now
        {
            let Some((since, task_id)) = self.silent.pop_front() else { break };
            if self.running.get(&task_id).is_some_and(|running| running.since == since) {
                self.report_start(&task_id);
            }
        }
    }

    /// Reports a task as started, once for each connection.
    fn report_start(&mut self, task_id: &str) {
        let Some(running) = self.running.get_mut(task_id).filter(|running| !running.reported)
        else {
            return;
        };
        running.reported = true;
        let lease_token = running.token;
        let started_at = (self.worker.wall_clock)() - running.since.elapsed();
        self.report(v1::Report {
            task_id: task_id.to_owned(),
            lease_token,
            outcome: Some(Outcome::Started(v1::Started {})),
            started_at: Some(started_at.into()),
            ..v1::Report::default()
        });
    }

    fn start_drain(&mut self) {
        info!(running = self.running.len(), "draining");
        self.phase = Phase::Draining(Instant::now() + self.worker.drain_timeout);
    }

    /// Patience is over: what still runs is handed back.
    fn end_drain(&mut self) {
        for running in self.running.values() {
            running.context.stop(StopReason::Draining);
        }
        self.phase = Phase::Ending(Instant::now());
    }

    /// Sends what can be sent without waiting.
    fn flush(&mut self, up: &mpsc::Sender<v1::WorkerMessage>) {
        if self.phase != Phase::Serving && !self.credit_sent {
            let credit = message(Up::Credit(v1::Credit { slots: 0 }));
            self.credit_sent = up.try_send(credit).is_ok();
        }
        self.send_reports(up);
        self.report_progress();
        self.send_reports(up);
    }

    fn send_reports(&mut self, up: &mpsc::Sender<v1::WorkerMessage>) {
        while up.capacity() > OUTGOING / 2
            && let Some(reports) = self.outbox.next()
        {
            // The capacity was looked at, and nobody else sends.
            let _ = up.try_send(message(Up::Reports(reports)));
        }
    }
}

/// A worker that is dropped, or refused, leaves nothing running that nobody hears of.
impl Drop for Session {
    fn drop(&mut self) {
        for running in self.running.values() {
            running.context.stop(StopReason::LeaseLost);
        }
    }
}

/// A name for a session, chosen here so that the first connection can be repeated as any other: the
/// node may have opened the session, and given it tasks, though its welcome did not arrive.
fn new_session() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digits = (0..12).map(|_| char::from(DIGITS[fastrand::usize(..DIGITS.len())]));
    "s_0".chars().chain(digits).collect()
}

fn end_of(outcome: Option<&Outcome>) -> AttemptEnd {
    match outcome {
        Some(Outcome::Completed(_)) => AttemptEnd::Completed,
        Some(Outcome::Failed(_)) => AttemptEnd::Failed,
        Some(Outcome::Cancelled(_)) => AttemptEnd::Cancelled,
        Some(Outcome::Snoozed(_)) => AttemptEnd::Snoozed,
        Some(Outcome::Released(_)) => AttemptEnd::Released,
        Some(Outcome::Started(_) | Outcome::Progress(_)) | None => AttemptEnd::Dropped,
    }
}

/// Resolves at that time; never where there is none.
async fn maybe(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn goodbye(connection: Connection) -> Lost {
    connection.close().await;
    Lost::Drained
}

#[cfg(test)]
mod tests;
