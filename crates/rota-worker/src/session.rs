//! The session of a worker: one task that owns the stream, the running attempts and the reports.
//!
//! When the stream breaks, it reconnects to any node with the same session and the leases that it still
//! holds. Running attempts continue meanwhile. It never waits to send: unsent reports stay in the outbox, so
//! that it always receives messages of the server.

mod listening;
mod openings;
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

use self::{listening::Listening, openings::Openings};
use crate::{
    attempt,
    connection::{self, Connection, OUTGOING, message},
    context::{StopReason, TaskContext},
    ended::Ended,
    event::Event,
    metrics::AttemptEnd,
    outbox::{self, Bounds, Outbox},
    pulse::{Beat, Heard, Patience, Pulse},
    worker::Worker,
};

/// Time after which a running task is reported as started. Shorter ones are only reported as ended.
const STARTED_AFTER: Duration = Duration::from_millis(20);
/// Time for stopped attempts to end and be reported to the server. Longer than the grace period of an
/// attempt.
const ENDING: Duration = attempt::STOP_GRACE.saturating_add(connection::LAST_WORDS);
/// Maximum number of events to process at a time.
const EVENTS: usize = 1024;

/// A running task.
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
    /// Tasks that have not been reported as started, oldest first.
    silent: VecDeque<(Instant, String)>,
    /// Tasks with an untaken progress message. Each is included once.
    talking: VecDeque<(String, u64)>,
    outbox: Outbox,
    /// The last limits of the server.
    bounds: Bounds,
    events: mpsc::UnboundedReceiver<Event>,
    events_sender: mpsc::UnboundedSender<Event>,
    attempts: TaskTracker,
    phase: Phase,
    credit_sent: bool,
    /// Leases that have ended here, because the server can send a task twice.
    ended: Ended,
    /// Whether a server has welcomed this worker. Then its token and name are valid, and a later refusal is a
    /// temporary problem.
    welcomed: bool,
    /// Number of consecutive nodes that refused the worker.
    refusals: usize,
    /// Whether the server sent tasks or answers over the last connection.
    is_useful: bool,
    /// The patience with silent connections.
    patience: Patience,
    openings: Openings<(Connection, v1::Welcome)>,
    /// Tasks whose output the server has asked for.
    listening: Listening,
}

/// The phase of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Takes no more tasks. Running attempts can continue until this time.
    Draining(Instant),
    /// Running attempts were told to stop.
    Ending(Instant),
}

impl Phase {
    fn patience_ends(self) -> Option<Instant> {
        if let Self::Draining(until) = self { Some(until) } else { None }
    }

    /// Time at which unended attempts are abandoned.
    fn gives_up(self) -> Option<Instant> {
        if let Self::Ending(since) = self { Some(since + ENDING) } else { None }
    }
}

/// Why a connection ended.
enum Lost {
    /// Reconnect.
    Broken(Status),
    /// No acknowledgement of a heartbeat. Reconnect to another node.
    Silent,
    /// Everything is done.
    Drained,
}

impl Session {
    pub(crate) fn new(worker: Worker) -> Self {
        // Bounded by the running attempts: each sends its end, and one notice of progress until that is
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
            openings: Openings::default(),
            listening: Listening::default(),
        }
    }

    /// Serves a stream until it breaks or everything is done.
    async fn serve(&mut self, mut connection: Connection, pulse: &mut Pulse) -> Lost {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let started_due = self.silent.front().map(|(since, _)| *since + STARTED_AFTER);
            let drain = self.worker.drain.clone();
            tokio::select! {
                biased;
                // Rare events come first, so that neither the server nor handlers can delay a heartbeat or a
                // drain.
                beat = pulse.tick() => match beat {
                    Beat::Rest => continue,
                    Beat::Silent => return Lost::Silent,
                    // A full channel means that the server does not read, so the stream will break.
                    Beat::Send => drop(connection.up.try_send(message(Up::Heartbeat(v1::Heartbeat {})))),
                },
                () = drain.gently.cancelled(), if self.phase == Phase::Serving => self.start_drain(),
                () = drain.at_once.cancelled(), if self.phase.patience_ends().is_some() => self.end_drain(),
                () = maybe(self.phase.patience_ends()) => self.end_drain(),
                () = maybe(self.phase.gives_up()) => {
                    let (running, unsaid) = (self.running.len(), !self.outbox.is_empty());
                    warn!(running, unsaid, "stopping with unfinished attempts or unsent reports");
                    return goodbye(connection).await;
                }
                () = maybe(started_due) => self.report_started(),
                () = maybe(self.listening.due()) => self.send_output(&connection.up),
                down = connection.down.message() => match down {
                    Ok(Some(v1::ServerMessage { message })) => {
                        pulse.heard(shown_by(message.as_ref()));
                        self.hear(message);
                    }
                    Ok(None) => return Lost::Broken(Status::unavailable("the server closed the stream")),
                    Err(status) => return Lost::Broken(status),
                },
                // Last, because the server sends at most as many tasks as slots before it gets reports.
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
            debug!("ignored a message of an unknown kind from the server");
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
                        "report refused"
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
                    // The server has already ended the attempt.
                    _ => StopReason::LeaseLost,
                };
                self.stop(&stop.task_id, stop.lease_token, reason);
            }
            Down::Drain(_) => {
                if self.phase == Phase::Serving {
                    info!("draining at the request of the server");
                    self.start_drain();
                }
            }
            Down::WatchOutput(watch) => self.watch_output(watch),
            Down::Welcome(_) => debug!("ignored a repeated welcome"),
            Down::HeartbeatAck(_) => {}
        }
    }

    /// Starts an attempt, unless it already runs here, because a task can be sent again when a session is
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
            self.decline(&task);
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

    /// Does not start a task whose attempt has ended here. If its report is on its way, the server learns that from it.
    /// If the server has answered the report and still has the lease, its store has lost the report; then the lease is
    /// given back. Otherwise the task would keep its slot as long as the session lasts. The server refuses that where the
    /// report is only newer than the task that it sent.
    fn decline(&mut self, task: &v1::Dispatch) {
        let (task_id, token) = (&task.task_id, task.lease_token);
        let is_said = self
            .outbox
            .leases()
            .any(|lease| lease.task_id == *task_id && lease.lease_token == token);
        debug!(
            task = task_id,
            token, is_said, "ignored a repeated task whose attempt has ended here"
        );
        if !is_said {
            self.release(task);
        }
    }

    /// Returns a task that was not started.
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
                self.listening.forget(&report.task_id, report.lease_token);
                if report.outcome.is_some() {
                    self.report(report);
                }
            }
            Event::Progress { task_id, token } => self.talking.push_back((task_id, token)),
            Event::Output { task_id, token } => self.listening.is_told(task_id, token),
        }
    }

    fn count(&self, running: &Running, end: AttemptEnd) {
        self.worker.metrics.ended(running.context.kind(), end, running.since.elapsed());
    }

    /// Reports the last progress messages of handlers, while they can be sent soon. Otherwise newer messages
    /// replace them.
    fn report_progress(&mut self) {
        if !self.outbox.has_room() {
            return;
        }
        for (task_id, lease_token) in std::mem::take(&mut self.talking) {
            let running = self.running.get(&task_id).filter(|task| task.token == lease_token);
            let Some(message) = running.and_then(|task| task.context.take_progress()) else {
                continue;
            };
            // A handler with progress has started.
            self.report_start(&task_id);
            self.report(v1::Report {
                task_id,
                lease_token,
                outcome: Some(Outcome::Progress(v1::Progress { message })),
                ..v1::Report::default()
            });
        }
    }

    /// Reports attempts as started that have run for a while.
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

    /// Ends the drain timeout: running attempts are stopped and returned.
    fn end_drain(&mut self) {
        for running in self.running.values() {
            running.context.stop(StopReason::Draining);
        }
        self.phase = Phase::Ending(Instant::now());
    }

    /// Sends everything that can be sent without waiting.
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
            // The capacity was checked, and there is no other sender.
            let _ = up.try_send(message(Up::Reports(reports)));
        }
    }
}

/// Stops all attempts of a worker that is dropped or refused.
impl Drop for Session {
    fn drop(&mut self) {
        for running in self.running.values() {
            running.context.stop(StopReason::LeaseLost);
        }
    }
}

/// A session id, chosen here so that the first connection can be retried, too: the node may have opened the
/// session and sent tasks although its welcome was lost.
fn new_session() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digits = (0..12).map(|_| char::from(DIGITS[fastrand::usize(..DIGITS.len())]));
    "s_0".chars().chain(digits).collect()
}

/// What a message shows of the connection.
fn shown_by(message: Option<&Down>) -> Heard {
    match message {
        Some(Down::HeartbeatAck(_) | Down::ReportResults(_)) => Heard::Acknowledgement,
        _ => Heard::Something,
    }
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

/// Resolves at this time. Never resolves for `None`.
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
