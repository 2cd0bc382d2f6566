//! From a node that does not lead to the one that does: what only the leader can answer is carried
//! there as it came, whichever protocol it speaks, and held while nobody leads.
//!
//! What was surely not carried out is tried again: nobody led, the leader could not be reached, or
//! it said that it no longer leads. What may have been carried out is tried again only where that
//! changes nothing; otherwise the client is told that the outcome is not known.

use std::{error::Error, time::Duration};

use axum::{body::Body, extract::Request, response::IntoResponse};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, Version, header, request};
use http_body_util::{BodyExt, BodyStream, LengthLimitError, Limited, StreamBody};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rota_engine::{Engine, Role, RoleChanges};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    failure::{AMIDST, BEFORE, Failure, LEADER_LOST, Reason},
    limits::Limits,
    protocol::{is_grpc, is_stream},
};

/// Set on what another node carried here, so that it goes no further.
const FORWARDED: HeaderName = HeaderName::from_static("rota-forwarded");
/// A request waits so long for a leader, unless its own deadline is earlier.
const HOLD: Duration = Duration::from_secs(10);
/// Between two tries where nothing tells of a change.
const PAUSE: Duration = Duration::from_millis(50);
/// A leader that cannot be reached within this time is tried again.
const CONNECT: Duration = Duration::from_secs(1);
/// A connection to the leader is pinged so often, and given up when no answer comes for as long.
const PING: Duration = Duration::from_secs(2);
/// What gRPC adds to a message, and some more.
const FRAME_BYTES: usize = 1024;

/// This node's own answers.
pub(crate) trait Here: Sync {
    fn answer(&self, request: Request) -> impl Future<Output = Response<Body>> + Send;
}

/// The way to the leader.
pub(crate) struct Forwarder {
    engine: Engine,
    client: Client<HttpConnector, Body>,
    request_bytes: usize,
    body_timeout: Duration,
    /// This node stops: what it carries is to find another way while there is one.
    stop: CancellationToken,
}

/// Why the leader's answer did not come.
enum Lost {
    /// It has not got the request.
    NotSent,
    /// It may have.
    Unknown,
}

impl Forwarder {
    pub(crate) fn new(engine: Engine, limits: &Limits, stop: CancellationToken) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_keep_alive_while_idle(true)
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(8 << 20)
            .build(connector);
        let (request_bytes, body_timeout) = (limits.request_bytes, limits.body_timeout);
        Self { engine, client, request_bytes, body_timeout, stop }
    }

    /// Whether only the leader can answer this.
    pub(crate) fn is_for_leader(path: &str) -> bool {
        match path {
            "/v1/info" | "/v1/cluster" | "/v1/node" => false,
            "/rota.v1.ServerService/TransferLeadership" => true,
            _ if path.starts_with("/rota.v1.ServerService/") => false,
            _ if path.starts_with("/v1/server/") => false,
            _ => path.starts_with("/v1/") || path.starts_with("/rota.v1."),
        }
    }

    /// Has the leader answer, be it this node (`here`) or another.
    pub(crate) async fn answer(&self, request: Request, here: &impl Here) -> Response<Body> {
        let grpc = is_grpc(request.headers());
        let answered = if request.headers().contains_key(FORWARDED) {
            match self.engine.role() {
                Role::Leader => Ok(here.answer(request).await),
                Role::Follower(_) | Role::Unknown => Err(not_leader()),
            }
        } else if is_stream(request.uri().path()) {
            self.stream(request, here).await
        } else {
            self.call(request, here).await
        };
        answered.unwrap_or_else(|failure| dress(failure, grpc))
    }

    async fn call(&self, request: Request, here: &impl Here) -> Result<Response<Body>, Failure> {
        let deadline = Instant::now() + hold(request.headers());
        let (head, body) = request.into_parts();
        let body = self.read(body).await?;
        let reads = is_read(&head);
        let mut changes = self.engine.role_changes();
        loop {
            let attempt = || Request::from_parts(head.clone(), Body::from(body.clone()));
            let answer = match self.engine.role() {
                Role::Leader => Some(here.answer(attempt()).await),
                Role::Follower(seat) => match &seat.member.address {
                    Some(address) => match self.send(address, attempt()).await {
                        Ok(answer) => Some(answer),
                        Err(Lost::Unknown) if !reads => return Err(unknown_outcome()),
                        Err(Lost::NotSent | Lost::Unknown) => None,
                    },
                    None => None,
                },
                Role::Unknown => None,
            };
            match answer {
                Some(answer) if !is_worth_another(&answer, reads) => return Ok(answer),
                _ => self.wait(&mut changes, deadline).await?,
            }
        }
    }

    /// A stream is carried once: its client opens another when it breaks. It breaks when the node
    /// at its other end no longer leads, or this one stops.
    async fn stream(&self, request: Request, here: &impl Here) -> Result<Response<Body>, Failure> {
        let deadline = Instant::now() + hold(request.headers());
        let mut changes = self.engine.role_changes();
        let seat = loop {
            match self.engine.role() {
                Role::Leader => return Ok(here.answer(request).await),
                Role::Follower(seat) if seat.member.address.is_some() => break seat,
                Role::Follower(_) | Role::Unknown => self.wait(&mut changes, deadline).await?,
            }
        };
        let address = seat.member.address.as_deref().unwrap_or_default();
        let answer = self.send(address, request).await.map_err(|_| not_leader())?;
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let left = async move {
            while matches!(engine.role(), Role::Follower(now) if now.epoch == seat.epoch) {
                tokio::select! {
                    () = changes.changed() => {}
                    () = stop.cancelled() => return,
                }
            }
        };
        let (head, body) = answer.into_parts();
        let why = "another node leads now, or this one stops";
        let over = || futures_util::stream::once(async move { Err(why.into()) });
        let frames = BodyStream::new(body)
            .map(|frame| frame.map_err(Box::<dyn Error + Send + Sync>::from))
            .take_until(Box::pin(left));
        // Behind the end of the answer nothing more is read; behind its interruption, this is.
        Ok(Response::from_parts(head, Body::new(StreamBody::new(frames.chain(over())))))
    }

    /// The whole body, within its limits.
    async fn read(&self, body: Body) -> Result<Bytes, Failure> {
        let limit = self.request_bytes;
        let limited = Limited::new(body, limit.saturating_add(FRAME_BYTES));
        match timeout(self.body_timeout, limited.collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(limit)),
            Ok(Err(_)) => {
                Err(Failure::new(Reason::Invalid, "the body could not be read to its end"))
            }
            Err(_) => Err(Failure::body_timeout(self.body_timeout)),
        }
    }

    /// Asks another node for what it knows itself. `None`: it did not answer, or not with yes.
    pub(crate) async fn ask(&self, address: &str, request: Request) -> Option<Response<Body>> {
        let answer = self.send(address, request).await.ok()?;
        answer.status().is_success().then_some(answer)
    }

    async fn send(&self, address: &str, mut request: Request) -> Result<Response<Body>, Lost> {
        let Some(uri) = join(address, request.uri()) else { return Err(Lost::NotSent) };
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        // Those of this connection; and who may ask from where was settled here.
        for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::ORIGIN] {
            headers.remove(name);
        }
        headers.remove("keep-alive");
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        match self.client.request(request).await {
            Ok(answer) => Ok(answer.map(Body::new)),
            Err(error) => {
                debug!(address, error = &error as &dyn Error, "the leader did not answer");
                Err(if was_sent(&error) { Lost::Unknown } else { Lost::NotSent })
            }
        }
    }

    /// Waits until it may be worth another try.
    async fn wait(&self, changes: &mut RoleChanges, deadline: Instant) -> Result<(), Failure> {
        tokio::select! {
            () = changes.changed() => Ok(()),
            () = sleep(PAUSE) => Ok(()),
            () = sleep_until(deadline) => Err(no_leader()),
        }
    }
}

/// Whether the request may be answered elsewhere, and does no harm there.
fn is_worth_another(answer: &Response<Body>, reads: bool) -> bool {
    let lost = answer.headers().get(LEADER_LOST).map(HeaderValue::as_bytes);
    lost == Some(BEFORE.as_bytes()) || (reads && lost == Some(AMIDST.as_bytes()))
}

fn was_sent(error: &legacy::Error) -> bool {
    !error.is_connect()
}

fn not_leader() -> Failure {
    Failure {
        retry_after: Some(Duration::from_secs(1)),
        ..Failure::new(Reason::NotLeader, "this node does not lead")
    }
}

fn no_leader() -> Failure {
    Failure {
        retry_after: Some(Duration::from_secs(1)),
        ..Failure::new(Reason::Unavailable, "no node leads now; nothing was changed")
    }
}

fn unknown_outcome() -> Failure {
    Failure {
        retry_after: Some(Duration::from_secs(1)),
        ..Failure::new(Reason::LeadershipLost, "the leader was lost; the outcome is not known")
    }
}

fn dress(failure: Failure, grpc: bool) -> Response<Body> {
    if grpc { tonic::Status::from(failure).into_http() } else { failure.into_response() }
}

/// How long a request may wait for a leader.
fn hold(headers: &HeaderMap) -> Duration {
    let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
    asked.and_then(grpc_timeout).map_or(HOLD, |asked| asked.min(HOLD))
}

/// A deadline as gRPC writes it: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Whether it changes nothing, so that it may be asked twice.
fn is_read(head: &request::Parts) -> bool {
    if is_grpc(&head.headers) {
        let method = head.uri.path().rsplit('/').next().unwrap_or_default();
        method.starts_with("Get") || method.starts_with("List")
    } else {
        matches!(head.method, Method::GET | Method::HEAD)
    }
}

fn join(address: &str, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{}{path}", address.trim_end_matches('/')).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        for (text, millis) in [("1S", Some(1000)), ("250m", Some(250)), ("2M", Some(120_000))] {
            assert_eq!(grpc_timeout(text).map(|found| found.as_millis()), millis, "{text}");
        }
        for wrong in ["", "S", "1", "1x", "-1S", "123456789S", "1é"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_node_knows_of_itself_is_not_for_the_leader() {
        for (path, is) in [
            ("/v1/tasks", true),
            ("/v1/cluster/transfer", true),
            ("/rota.v1.TaskService/CreateTask", true),
            ("/rota.v1.WorkerService/Work", true),
            ("/rota.v1.ServerService/TransferLeadership", true),
            ("/rota.v1.ServerService/GetServerInfo", false),
            ("/v1/cluster", false),
            ("/v1/node", false),
            ("/v1/info", false),
            ("/healthz", false),
            ("/metrics", false),
            ("/grpc.health.v1.Health/Watch", false),
        ] {
            assert_eq!(Forwarder::is_for_leader(path), is, "{path}");
        }
    }

    #[test]
    fn only_reading_may_be_done_twice() {
        let head = |method: &str, path: &str, kind: &'static str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("content-type", kind);
            request.body(()).expect("a request").into_parts().0
        };
        assert!(is_read(&head("GET", "/v1/tasks", "")));
        assert!(!is_read(&head("POST", "/v1/tasks", "application/json")));
        assert!(!is_read(&head("DELETE", "/v1/tasks/x", "")));
        let grpc = "application/grpc";
        assert!(is_read(&head("POST", "/rota.v1.TaskService/ListTasks", grpc)));
        assert!(!is_read(&head("POST", "/rota.v1.TaskService/CreateTask", grpc)));
    }

    #[test]
    fn the_path_and_the_query_stay() {
        let uri: Uri = "/v1/tasks?limit=3".parse().expect("a uri");
        let joined = join("http://10.0.0.7:7420/", &uri).expect("a uri");
        assert_eq!(joined.to_string(), "http://10.0.0.7:7420/v1/tasks?limit=3");
    }
}
