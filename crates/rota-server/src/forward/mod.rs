//! Forwards requests that only the leader can answer, unchanged and in both protocols. Holds them while there
//! is no leader.
//!
//! A request that was certainly not carried out is retried: there was no leader, the leader was unreachable,
//! or it answered that it is no longer the leader. A request that may have been carried out is retried only
//! if it only reads; otherwise the client is told that the outcome is unknown.
//!
//! `pool` has the connections, `answer` passes answers on, `watch` checks whether requests get through, and
//! `call` reads the deadline of a request.

mod answer;
mod call;
mod pool;
mod watch;

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::IntoResponse};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, Uri, Version, header};
use rota_engine::{Engine, Role, RoleChanges};
use rota_metrics::{ForwardLoss, NodeMetrics};
use rota_proto::operations::Operation;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::{
    pool::{Lane, Lost, Pool},
    watch::Trouble,
};
use crate::{
    failure::{BEFORE, DURING_CALL, Failure, LEADER_LOST, Reason},
    limits::{ANSWER, Limits},
    net::Connect,
    protocol::Asked,
    room::{Answers, Bounds, read_body},
    wire,
};

/// Header on forwarded requests, so that they are not forwarded again.
const FORWARDED: HeaderName = HeaderName::from_static("rota-forwarded");
/// Time to wait for a leader, unless the deadline of the request is earlier.
const HOLD: Duration = Duration::from_secs(10);
/// Part of a session's TTL for which a node without a leader holds the stream of a worker. The worker must have time
/// to find a node that knows the leader, because a new leader waits for it only as long as the TTL.
const WORKER_HOLD: u32 = 4;
/// Time to wait for a stream to the leader while all are in use.
const ROOM: Duration = Duration::from_secs(2);
/// Pause between retries if no change wakes them.
const PAUSE: Duration = Duration::from_millis(50);
/// Value of the header Retry-After.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that gRPC adds to a message, with a margin.
const FRAME_BYTES: usize = 1024;

/// The service of this node.
pub(crate) trait Here: Sync {
    fn answer(&self, request: Request, asked: Asked)
    -> impl Future<Output = Response<Body>> + Send;

    /// The memory for answers, including those of other nodes.
    fn answers(&self) -> &Answers;
}

/// Connections to other nodes.
pub(crate) struct Forwarder {
    engine: Engine,
    pool: Pool,
    metrics: NodeMetrics,
    bounds: Bounds,
    /// The headers of a stream's answer come only with its first message.
    stream_within: Duration,
    trouble: Trouble,
    /// Cancelled when this node stops, so that forwarded streams reconnect to another node.
    stop: CancellationToken,
}

/// How a request is forwarded.
#[derive(Debug, Clone, Copy)]
struct Travel {
    lane: Lane,
    /// Deadline for the headers of the answer.
    until: Instant,
}

impl Forwarder {
    pub(crate) fn new(
        engine: Engine,
        limits: &Limits,
        connect: Arc<dyn Connect>,
        stop: CancellationToken,
    ) -> Self {
        let metrics = engine.metrics().clone();
        Self {
            pool: Pool::new(connect, metrics.clone()),
            engine,
            metrics,
            bounds: Bounds {
                request_bytes: limits.request_bytes,
                extra: FRAME_BYTES,
                within: limits.body_timeout,
            },
            stream_within: limits.header_timeout.saturating_add(ANSWER),
            trouble: Trouble::default(),
            stop,
        }
    }

    /// Lets the leader answer: this node (`here`) or another one.
    pub(crate) async fn answer(
        &self,
        request: Request,
        asked: Asked,
        here: &impl Here,
    ) -> Response<Body> {
        let answered = if request.headers().contains_key(FORWARDED) {
            match self.engine.role() {
                Role::Leader => Ok(here.answer(request, asked).await),
                Role::Follower(_) | Role::Unknown => Err(not_leader()),
            }
        } else if asked.is_stream() {
            self.stream(request, asked, here).await
        } else {
            self.call(request, asked, here).await
        };
        answered.unwrap_or_else(|failure| answer_with(failure, asked.is_grpc))
    }

    async fn call(
        &self,
        request: Request,
        asked: Asked,
        here: &impl Here,
    ) -> Result<Response<Body>, Failure> {
        let began = Instant::now();
        let patience = call::patience(request.headers());
        let hold = began + patience.map_or(HOLD, |patience| patience.min(HOLD));
        let (head, body) = request.into_parts();
        let body = read_body(body, self.bounds).await?;
        let reads = asked.reads();
        let wait = call::wait(asked, &head.uri, &body);
        let lane = if wait.is_zero() { Lane::Short } else { Lane::Long };
        let within = wait.saturating_add(ANSWER);
        let within = patience.map_or(within, |patience| patience.min(within));
        let mut changes = self.engine.role_changes();
        loop {
            let attempt = || Request::from_parts(head.clone(), Body::from(body.clone()));
            let (answer, why) = match self.engine.role() {
                Role::Leader => (Some(here.answer(attempt(), asked).await), None),
                Role::Follower(seat) => match &seat.member.address {
                    Some(address) => {
                        let travel = Travel { lane, until: after(within) };
                        let answers = here.answers();
                        match self.carry(address, attempt(), asked, travel, answers).await? {
                            Ok(answer) => (Some(answer), None),
                            Err(Lost::NoRoom) => return Err(no_room()),
                            Err(Lost::Late) if reads => return Err(late(within)),
                            Err(Lost::Late) => return Err(late_change(within)),
                            Err(Lost::Unknown) if !reads => return Err(unknown_outcome()),
                            Err(Lost::NotSent(why)) => (None, Some(why)),
                            Err(Lost::Unknown) => (None, None),
                        }
                    }
                    None => (None, None),
                },
                Role::Unknown => (None, None),
            };
            match answer {
                Some(answer) if !is_worth_another(&answer, reads) => return Ok(answer),
                _ => self.wait(&mut changes, hold, why).await?,
            }
        }
    }

    /// Forwards a stream, without retries: its client reconnects. The stream breaks when the other node is no
    /// longer the leader, or this node stops.
    async fn stream(
        &self,
        request: Request,
        asked: Asked,
        here: &impl Here,
    ) -> Result<Response<Body>, Failure> {
        let patience = call::patience(request.headers());
        let hold = Instant::now() + hold_of(asked, patience, self.engine.session_ttl());
        let mut changes = self.engine.role_changes();
        let seat = loop {
            match self.engine.role() {
                Role::Leader => return Ok(here.answer(request, asked).await),
                Role::Follower(seat) if seat.member.address.is_some() => break seat,
                Role::Follower(_) | Role::Unknown => self.wait(&mut changes, hold, None).await?,
            }
        };
        let address = seat.member.address.as_deref().unwrap_or_default();
        let travel = Travel { lane: Lane::Long, until: after(self.stream_within) };
        let answer = self.send(address, request, travel).await.map_err(|lost| match lost {
            Lost::NoRoom => no_room(),
            Lost::Late => late(self.stream_within),
            Lost::NotSent(_) | Lost::Unknown => not_leader(),
        })?;
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let left = async move {
            while matches!(engine.role(), Role::Follower(now) if now.epoch == seat.epoch) {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = changes.changed() => {}
                }
            }
        };
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        Ok(answer::until(answer, left, move || last_event(&engine, stop.is_cancelled())))
    }

    /// Sends a request to another node, with a timeout. `None` if it did not answer, or not with success.
    pub(crate) async fn ask(
        &self,
        address: &str,
        request: Request,
        within: Duration,
    ) -> Option<Response<Body>> {
        let travel = Travel { lane: Lane::Short, until: after(within) };
        let answer = self.send(address, request, travel).await.ok()?;
        let answer = self.noted(address, answer::small(answer, travel.until).await).ok()?;
        answer.status().is_success().then_some(answer)
    }

    /// Forwards a call to another node, and reads the complete answer. Fails if there is no memory for it
    /// here.
    async fn carry(
        &self,
        address: &str,
        request: Request,
        asked: Asked,
        travel: Travel,
        answers: &Answers,
    ) -> Result<Result<Response<Body>, Lost>, Failure> {
        let (reads, grpc) = (asked.reads(), asked.is_grpc);
        match self.send(address, request, travel).await {
            Ok(answer) => {
                let answer = answer::whole(answer, answers, reads, grpc, travel.until).await?;
                Ok(self.noted(address, answer))
            }
            Err(lost) => Ok(Err(lost)),
        }
    }

    async fn send(
        &self,
        address: &str,
        mut request: Request,
        travel: Travel,
    ) -> Result<answer::Held, Lost> {
        let to = address.trim_end_matches('/').parse::<Uri>();
        let (Ok(to), Some(uri)) = (to, join(address, request.uri())) else {
            return Err(Lost::NotSent(format!("{address:?} is not a valid address")));
        };
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        // These headers concern only this connection, or access rules that this node has already checked.
        for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::ORIGIN] {
            headers.remove(name);
        }
        headers.remove("keep-alive");
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        let room = travel.until.min(after(ROOM));
        let sent = match self.pool.slot(&to, travel.lane, room).await {
            Ok(slot) => match slot.send(request, travel.until).await {
                Ok(answer) => Ok(answer::Held::new(answer, slot)),
                Err(lost) => Err(lost),
            },
            Err(lost) => Err(lost),
        };
        self.noted(address, sent)
    }

    /// Counts and logs a failed forwarding.
    fn noted<T>(&self, address: &str, sent: Result<T, Lost>) -> Result<T, Lost> {
        if let Err(lost) = &sent {
            debug!(address, ?lost, "forwarding a request failed");
            self.metrics.forward_lost(match lost {
                Lost::NotSent(_) => ForwardLoss::Unreachable,
                Lost::NoRoom => ForwardLoss::NoRoom,
                Lost::Late => ForwardLoss::Late,
                Lost::Unknown => ForwardLoss::Unknown,
            });
        }
        sent
    }

    /// Waits until a retry can succeed. `why` is the reason of the last failure, if known.
    async fn wait(
        &self,
        changes: &mut RoleChanges,
        deadline: Instant,
        why: Option<String>,
    ) -> Result<(), Failure> {
        tokio::select! {
            biased;
            () = sleep_until(deadline) => Err(no_leader(why)),
            () = changes.changed() => Ok(()),
            () = sleep(PAUSE) => Ok(()),
        }
    }
}

/// Time for which a node without a leader holds a stream.
fn hold_of(asked: Asked, patience: Option<Duration>, session_ttl: Duration) -> Duration {
    let most = match asked.operation {
        Some(Operation::Work) => HOLD.min(session_ttl / WORKER_HOLD),
        _ => HOLD,
    };
    patience.map_or(most, |patience| patience.min(most))
}

/// The last of server-sent events, which this node adds when the stream to the leader breaks. It has no id, so the
/// client goes on after the last one that it has.
fn last_event(engine: &Engine, stops: bool) -> Bytes {
    let reason = if stops { "shutting_down" } else { "leader_changed" };
    let event = wire::stream_message(String::new(), "end", Some(reason), engine.info().now);
    let json = serde_json::to_string(&event).unwrap_or_default();
    format!("event: {}\ndata: {json}\n\n", event.r#type).into()
}

/// The instant after this time. A year or more counts as forever.
fn after(time: Duration) -> Instant {
    Instant::now() + time.min(Duration::from_secs(365 * 24 * 3600))
}

/// Whether another node can answer the request safely.
fn is_worth_another(answer: &Response<Body>, reads: bool) -> bool {
    let lost = answer.headers().get(LEADER_LOST).map(HeaderValue::as_bytes);
    lost == Some(BEFORE.as_bytes()) || (reads && lost == Some(DURING_CALL.as_bytes()))
}

fn not_leader() -> Failure {
    Failure {
        retry_after: Some(RETRY),
        ..Failure::new(Reason::NotLeader, "this node is not the leader")
    }
}

fn no_leader(why: Option<String>) -> Failure {
    let detail = match why {
        None => "there is no leader now; nothing was changed".to_owned(),
        Some(why) => format!("this node cannot reach the leader ({why}); nothing was changed"),
    };
    Failure { retry_after: Some(RETRY), ..Failure::new(Reason::Unavailable, detail) }
}

fn no_room() -> Failure {
    let detail = "all connections of this node to the leader are in use; nothing was changed";
    Failure { retry_after: Some(RETRY), ..Failure::new(Reason::Unavailable, detail) }
}

fn late(within: Duration) -> Failure {
    let detail = format!("the leader did not answer within {within:?}");
    Failure { retry_after: Some(RETRY), ..Failure::new(Reason::Unavailable, detail) }
}

fn late_change(within: Duration) -> Failure {
    let detail = format!("the leader did not answer within {within:?}; the outcome is unknown");
    Failure { retry_after: Some(RETRY), ..Failure::new(Reason::OutcomeUnknown, detail) }
}

fn unknown_outcome() -> Failure {
    Failure {
        retry_after: Some(RETRY),
        ..Failure::new(Reason::LeadershipLost, "the leader was lost; the outcome is unknown")
    }
}

fn answer_with(failure: Failure, grpc: bool) -> Response<Body> {
    if grpc { tonic::Status::from(failure).into_http() } else { failure.into_response() }
}

fn join(address: &str, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{}{path}", address.trim_end_matches('/')).parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_worker_is_held_for_less_than_the_life_of_its_session() {
        let headers = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        )]);
        let hold = |path: &str, patience: Option<u64>, ttl: u64| {
            let asked = Asked::of(&http::Method::POST, path, &headers);
            let patience = patience.map(Duration::from_secs);
            hold_of(asked, patience, Duration::from_secs(ttl)).as_secs()
        };
        let work = "/rota.v1.WorkerService/Work";
        for (patience, ttl, held) in
            [(None, 8, 2), (None, 600, 10), (Some(1), 8, 1), (Some(5), 8, 2)]
        {
            assert_eq!(hold(work, patience, ttl), held, "{patience:?} {ttl}");
        }
        assert_eq!(hold("/rota.v1.EventService/WatchEvents", None, 8), 10);
    }

    #[test]
    fn the_path_and_the_query_stay() {
        let uri: Uri = "/v1/tasks?limit=3".parse().expect("a uri");
        let joined = join("http://10.0.0.7:7420/", &uri).expect("a uri");
        assert_eq!(joined.to_string(), "http://10.0.0.7:7420/v1/tasks?limit=3");
    }
}
