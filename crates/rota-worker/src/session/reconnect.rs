//! Reconnects a session: one connection after the other, to any node that answers. Attempts continue between
//! two connections. The session handles the messages of each.

use std::time::Duration;

use rota_client::{ClientError, v1};
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tracing::{debug, warn};

use super::{Lost, Phase, Session, maybe};
use crate::{
    breaks::{Break, refuses_worker},
    connection::{self, Connection},
    context::StopReason,
    outbox::Bounds,
    pulse::Pulse,
    worker::WorkerError,
};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The same for a worker that is refused, and whose leases have ended.
const PAUSE_REFUSED: Duration = Duration::from_secs(10);
/// Duration after which a connection counts as good.
const LASTING: Duration = Duration::from_secs(5);
/// Interval of warnings while there is no connection.
const SAID_AGAIN: Duration = Duration::from_secs(30);
/// Time that a draining worker waits for a server after its drain timeout.
const UNHEARD: Duration = Duration::from_secs(5);

impl Session {
    pub(crate) async fn run(mut self) -> Result<(), WorkerError> {
        let mut pause = PAUSE_MIN;
        let mut tried: usize = 0;
        let mut said: Option<Instant> = None;
        // The start of the session's TTL.
        let mut heard = Instant::now();
        let mut ttl = connection::TTL;
        loop {
            let lost = match self.connect(ttl).await {
                Ok(connection) => {
                    ttl = connection.ttl;
                    let since = Instant::now();
                    let lost = self.serve_connected(connection).await;
                    heard = Instant::now();
                    if self.is_useful || since.elapsed() > LASTING {
                        (pause, said) = (PAUSE_MIN, None);
                    }
                    lost
                }
                Err(status) => Lost::Broken(status),
            };
            self.credit_sent = false;
            let status = match lost {
                Lost::Drained => return Ok(()),
                Lost::Broken(status) => status,
                Lost::Silent => {
                    Status::deadline_exceeded("the server did not acknowledge a heartbeat in time")
                }
            };
            let refused = matches!(Break::of(&status), Break::Refused(_) | Break::TooLarge(_));
            self.judge(&status, refused)?;
            let error = rota_client::reason_of(&status);
            let (code, running) = (status.code(), self.running.len());
            if said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
                warn!(error, ?code, running, "not connected; retrying");
                said = Some(Instant::now());
            } else {
                debug!(error, ?code, running, "not connected; retrying");
            }
            self.openings.next_node(&self.worker.client);
            tried += 1;
            let mut until = Instant::now();
            // Each node is tried once before a pause, because the session waits only for its TTL.
            if tried.is_multiple_of(self.worker.client.node_count()) {
                until += pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                let is_over = refused && heard.elapsed() > ttl;
                let longest = if is_over { PAUSE_REFUSED } else { PAUSE_MAX.min(ttl / 8) };
                pause = (pause * 2).min(longest);
            }
            if self.wait_unconnected(until).await {
                return Ok(());
            }
        }
    }

    /// Whether the worker must end: only before its first welcome, when each node refuses it. Later it would
    /// lose running attempts and reports because of a temporary problem.
    fn judge(&mut self, status: &Status, refused: bool) -> Result<(), WorkerError> {
        if refused {
            self.worker.metrics.refused();
        }
        self.refusals = if refuses_worker(status) { self.refusals + 1 } else { 0 };
        let all = self.refusals >= self.worker.client.node_count() && self.openings.are_over();
        if all && !self.welcomed {
            return Err(WorkerError::Refused(ClientError::from(status.clone())));
        }
        Ok(())
    }

    async fn serve_connected(&mut self, connection: Connection) -> Lost {
        (self.welcomed, self.refusals, self.is_useful) = (true, 0, false);
        let patience = connection.acknowledges.then_some(self.patience);
        let mut pulse = Pulse::new(connection.ttl, patience);
        self.worker.metrics.set_connected(true);
        let lost = self.serve(connection, &mut pulse).await;
        self.worker.metrics.set_connected(false);
        self.patience = pulse.patience().unwrap_or(self.patience);
        if pulse.was_prompt() {
            self.openings.are_prompt();
        }
        match &lost {
            Lost::Broken(status) => self.outbox.broken(&Break::of(status)),
            Lost::Silent => {
                self.patience.grow();
                self.openings.leave_connection(&self.worker.client);
                self.outbox.broken(&Break::Lost);
            }
            Lost::Drained => {}
        }
        lost
    }

    /// Opens the stream, and opens or resumes the session. Stops attempts whose leases have ended.
    async fn connect(&mut self, ttl: Duration) -> Result<Connection, Status> {
        let (client, hello) = (self.worker.client.clone(), self.hello());
        let begin = || connection::open(client.connection(), hello);
        let opened = self.openings.open(&self.worker.client, ttl, begin).await;
        let (connection, welcome) = opened?;
        self.bounds = Bounds::of(&welcome);
        self.id = welcome.session;
        for lease in welcome.revoked {
            self.outbox.forget(&lease.task_id, lease.lease_token);
            self.stop(&lease.task_id, lease.lease_token, StopReason::LeaseLost);
        }
        for running in self.running.values_mut() {
            running.reported = false;
            // The server asks for it anew.
            running.context.output().watch(false);
        }
        self.listening.clear();
        self.silent = self.running.iter().map(|(id, task)| (task.since, id.clone())).collect();
        self.silent.make_contiguous().sort_unstable();
        Ok(connection)
    }

    fn hello(&self) -> v1::Hello {
        let held = self.running.iter().map(|(task_id, running)| v1::Lease {
            task_id: task_id.clone(),
            lease_token: running.token,
        });
        v1::Hello {
            name: self.worker.name.to_string(),
            queues: self.worker.queues.clone(),
            kinds: self.worker.handlers.keys().cloned().collect(),
            slots: self.worker.slots,
            session: self.id.clone(),
            held: held.chain(self.outbox.leases()).collect(),
            streams_output: true,
        }
    }

    /// Waits between two connections, while attempts continue. Returns true if the worker has drained and
    /// gives up.
    async fn wait_unconnected(&mut self, until: Instant) -> bool {
        let drain = self.worker.drain.clone();
        loop {
            tokio::select! {
                biased;
                () = drain.gently.cancelled(), if self.phase == Phase::Serving => self.start_drain(),
                () = drain.at_once.cancelled(), if self.phase.patience_ends().is_some() => self.end_drain(),
                () = maybe(self.phase.patience_ends()) => self.end_drain(),
                // Before checking what is left. There are few events, because nothing starts now.
                Some(event) = self.events.recv() => self.note(event),
                () = sleep_until(until) => {
                    let idle = self.running.is_empty() && self.outbox.is_empty();
                    let over = match self.phase {
                        Phase::Serving => false,
                        Phase::Draining(_) => idle,
                        Phase::Ending(since) => idle || since.elapsed() > UNHEARD,
                    };
                    if over {
                        warn!("stopping without a connection; each unreported task loses an attempt");
                        return true;
                    }
                    return false;
                }
            }
        }
    }
}
