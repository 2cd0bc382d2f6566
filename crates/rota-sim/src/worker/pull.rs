//! A worker without a stream: it asks for tasks call by call, and says now and then what it has.

use std::time::Duration;

use rota_core::{LeaseId, Name, Refusal, SessionId};
use rota_engine::{EngineError, Instructions, LeaseRequest, LeaseResponse, TaskRef};
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::{Hands, give_report, hand_out, operation};
use crate::{
    call::{CallError, Caller, Served},
    seed::per_mille,
};

/// A worker without a stream.
pub(crate) struct PullWorker {
    caller: Caller,
    rng: fastrand::Rng,
    name: Name,
    queues: Vec<Name>,
    slots: u32,
    ttl: Duration,
    hands: Hands,
    session: Option<SessionId>,
    /// A call for tasks had no answer: it may have been given some that it does not know of.
    unsure: bool,
    draining: bool,
    /// When the last call was made that keeps the session alive.
    contact: Instant,
}

impl PullWorker {
    pub(super) fn new(
        caller: Caller,
        mut rng: fastrand::Rng,
        (name, queues): (Name, Vec<Name>),
        slots: u32,
        ttl: Duration,
        hands: Hands,
    ) -> Self {
        let ttl = ttl * rng.u32(1..4);
        let (session, unsure, draining, contact) = (None, false, false, Instant::now());
        Self { caller, rng, name, queues, slots, ttl, hands, session, unsure, draining, contact }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let room = self.slots.saturating_sub(self.hands.count());
            if self.session.is_some() && self.contact.elapsed() >= self.ttl / 5 {
                self.heartbeat().await;
            } else if room > 0 && !self.draining {
                self.lease(room).await;
            } else {
                let far = self.contact + self.ttl / 5;
                sleep_until(self.hands.next_end().map_or(far, |end| end.min(far))).await;
            }
            let ended = self.hands.end_due();
            self.caller.world.lock().count(ended);
            self.report().await;
            if self.draining && self.hands.is_empty() {
                self.leave().await;
            }
        }
    }

    /// Asks for tasks. Gives up early now and then.
    async fn lease(&mut self, room: u32) {
        let longest = if per_mille(&mut self.rng, 30) { self.ttl * 2 } else { self.ttl / 5 };
        let mut wait = longest.mul_f64(self.rng.f64());
        if let Some(end) = self.hands.next_end() {
            wait = wait.min(end.saturating_duration_since(Instant::now()));
        }
        let mut patience = wait + Duration::from_secs(1);
        if per_mille(&mut self.rng, 50) {
            patience = patience.mul_f64(self.rng.f64());
        }
        let held = (self.unsure || per_mille(&mut self.rng, 300)).then(|| {
            let held = self.hands.held().into_iter();
            held.map(|lease| (TaskRef::Id(lease.task), lease.token)).collect()
        });
        let says = held.is_some();
        let request = LeaseRequest {
            session: self.session,
            worker: self.name.clone(),
            queues: self.queues.clone(),
            kinds: Vec::new(),
            max: self.rng.u32(1..=room),
            wait,
            ttl: self.ttl,
            held,
        };
        self.contact = Instant::now();
        let asked = self.caller.ask("lease", patience, move |served| lease(served, request));
        match asked.await {
            Ok(leased) => {
                self.session = Some(leased.session);
                self.unsure &= !says;
                for task in &leased.tasks {
                    if !self.hands.begin(task) {
                        let (id, token) = (task.spec.id.as_u64(), task.token.0);
                        self.caller.handed_twice(leased.session.0, id, token);
                    }
                }
                self.obey(leased.instructions);
            }
            Err(error) => {
                self.unsure = true;
                self.refused(&error).await;
            }
        }
    }

    fn obey(&mut self, instructions: Instructions) {
        for order in instructions.stop {
            let TaskRef::Id(task) = order.task else { continue };
            self.hands.stop(LeaseId { task, token: order.token }, order.reason);
        }
        self.draining = instructions.draining;
    }

    async fn refused(&mut self, error: &CallError) {
        if let CallError::Engine(EngineError::Refused(
            Refusal::UnknownSession | Refusal::ForeignSession,
        )) = error
        {
            self.forget();
        }
        sleep(Duration::from_millis(self.rng.u64(5..60))).await;
    }

    /// Its session is over, and so are its leases.
    fn forget(&mut self) {
        if let Some(session) = self.session.take() {
            self.caller.world.lock().audit.gave_up(session.0);
        }
        self.hands.clear();
        self.draining = false;
    }

    async fn heartbeat(&mut self) {
        let Some(session) = self.session else { return };
        let ttl = self.ttl;
        self.contact = Instant::now();
        let beat = self.caller.ask("heartbeat", ttl / 4, move |served: Served| async move {
            served.heard(session.0, ttl);
            served.engine.pull_heartbeat(session).await
        });
        match beat.await {
            Ok(instructions) => self.obey(instructions),
            Err(error) => self.refused(&error).await,
        }
    }

    async fn report(&mut self) {
        let reports = self.hands.reports();
        let Some(session) = self.session.filter(|_| !reports.is_empty()) else { return };
        let (ttl, count) = (self.ttl, reports.len());
        let begun = self.caller.begin_reports(&reports, operation);
        let sent = self.caller.ask("report", Duration::from_secs(2).min(ttl / 5), move |served| {
            give_report(served, session.0, ttl, reports)
        });
        let sent = sent.await;
        self.caller.end_reports(begun, sent.as_deref().unwrap_or_default());
        if sent.is_ok() {
            self.hands.reported(count);
        } else {
            sleep(Duration::from_millis(self.rng.u64(5..60))).await;
        }
    }

    async fn leave(&mut self) {
        let Some(session) = self.session else { return };
        self.forget();
        let gone = self.caller.ask("leave", self.ttl / 4, move |served: Served| async move {
            served.engine.close_session(session, None).await
        });
        // Whoever does not hear it will miss its calls.
        let _ = gone.await;
        sleep(Duration::from_millis(self.rng.u64(0..2000))).await;
    }
}

/// On the node: the engine vouches for a worker whose call waits there, so it counts as heard of.
async fn lease(served: Served, request: LeaseRequest) -> Result<LeaseResponse, EngineError> {
    let (known, ttl, max) = (request.session, request.ttl, request.max);
    let leasing = served.engine.lease(request);
    let mut leasing = std::pin::pin!(leasing);
    let mut period = interval(ttl / 4);
    let leased = loop {
        tokio::select! {
            biased;
            _ = period.tick() => if let Some(session) = known {
                served.heard(session.0, ttl);
            },
            leased = &mut leasing => break leased?,
        }
    };
    served.heard(leased.session.0, ttl);
    served.with(|inner, now_us| {
        let session = leased.session.0;
        inner.audit.leased(now_us, session, leased.tasks.len(), max);
        hand_out(inner, now_us, session, &leased.tasks);
    });
    Ok(leased)
}
