//! Connections to other nodes, and the choice of one for each request.
//!
//! An HTTP/2 connection carries as many streams as the other node allows. When all are in use, another
//! connection is opened, up to a limit. Long polls and long-lived streams use separate connections, so that
//! they never block a short request.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::Request};
use http::{Response, Uri};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rota_metrics::{ForwardLane, NodeMetrics};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::debug;

use crate::net::Connect;

/// Timeout for connecting to a node.
const CONNECT: Duration = Duration::from_secs(1);
/// Interval of pings. A connection without an answer for the same time is closed.
const PING: Duration = Duration::from_secs(2);
/// Idle time after which a connection beyond the first is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Window of a connection.
const WINDOW: u32 = 8 << 20;
/// Interval to check whether the peer has announced its limit on streams.
const SETTINGS: Duration = Duration::from_millis(1);

/// The connections that a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// For calls that are answered at once.
    Short,
    /// For long polls and streams.
    Long,
}

impl Lane {
    /// Maximum number of connections to one node.
    fn connections_max(self) -> usize {
        match self {
            Self::Short => 16,
            Self::Long => 256,
        }
    }

    /// Maximum number of streams on one connection, if the peer allows as many.
    fn streams_max(self) -> usize {
        match self {
            Self::Short => usize::MAX,
            // Workers that read nothing do not block other workers on the same connection.
            Self::Long => (WINDOW / self.stream_window()) as usize,
        }
    }

    /// Window of a stream.
    fn stream_window(self) -> u32 {
        match self {
            // Answers are read at once. The few that wait for memory (`room::Answers`) leave half of the
            // window of the connection.
            Self::Short => 128 << 10,
            Self::Long => 64 << 10,
        }
    }
}

impl From<Lane> for ForwardLane {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Short => Self::Short,
            Lane::Long => Self::Long,
        }
    }
}

/// Why forwarding a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The other node did not receive the request.
    NotSent(String),
    /// All streams to it were in use until the timeout. It did not receive the request.
    NoRoom,
    /// It received the request, and did not answer in time.
    Late,
    /// It may have received the request.
    Unknown,
}

/// All connections to other nodes.
pub(super) struct Pool {
    connect: Arc<dyn Connect>,
    metrics: NodeMetrics,
    roads: Mutex<BTreeMap<(String, bool), Arc<Road>>>,
}

/// The connections of one lane to one node.
struct Road {
    lane: Lane,
    address: Uri,
    connect: Arc<dyn Connect>,
    metrics: NodeMetrics,
    state: Mutex<State>,
    /// Notified when a stream or an attempt to connect ends.
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Connection>>,
    opening: bool,
    /// Number of failed attempts to connect, and the last error.
    failures: u64,
    failure: String,
}

struct Connection {
    sender: http2::SendRequest<Body>,
    /// Number of streams that the peer allows.
    room: usize,
    /// Number of streams in use, and the time of its last change. Guarded by the lock of the state.
    used: Mutex<(usize, Instant)>,
    /// Whether a request found it closed.
    broken: AtomicBool,
}

/// The permit for one stream. Dropping it releases the stream.
pub(super) struct Slot {
    connection: Arc<Connection>,
    road: Arc<Road>,
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks can panic halfway through a change.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(connect: Arc<dyn Connect>, metrics: NodeMetrics) -> Self {
        Self { connect, metrics, roads: Mutex::default() }
    }

    /// Waits for a stream to the node at this address.
    pub(super) async fn slot(
        &self,
        address: &Uri,
        lane: Lane,
        until: Instant,
    ) -> Result<Slot, Lost> {
        let road = self.road(address, lane);
        match timeout_at(until, road.slot()).await {
            Ok(slot) => slot.map_err(Lost::NotSent),
            Err(_) => Err(Lost::NoRoom),
        }
    }

    /// Closes idle connections, and forgets unused nodes.
    pub(super) fn prune(&self) {
        let mut roads = locked(&self.roads);
        roads.retain(|_, road| !road.is_idle());
        roads.values().for_each(|road| road.prune(&mut locked(&road.state)));
    }

    fn road(&self, address: &Uri, lane: Lane) -> Arc<Road> {
        let mut roads = locked(&self.roads);
        let road = roads.entry((address.to_string(), lane == Lane::Long));
        let made = || Road {
            lane,
            address: address.clone(),
            connect: self.connect.clone(),
            metrics: self.metrics.clone(),
            state: Mutex::default(),
            changed: Notify::new(),
        };
        road.or_insert_with(|| Arc::new(made())).clone()
    }
}

impl Road {
    fn is_idle(&self) -> bool {
        let state = locked(&self.state);
        !state.opening && state.open.iter().all(|connection| connection.is_idle())
    }

    /// Removes closed connections, and idle ones beyond the first.
    fn prune(&self, state: &mut State) {
        let before = state.open.len();
        let mut first = true;
        state.open.retain(|it| !it.is_closed() && (std::mem::take(&mut first) || !it.is_idle()));
        self.metrics.forward_connections(self.lane.into(), before, state.open.len());
    }

    async fn slot(self: Arc<Self>) -> Result<Slot, String> {
        let failures = locked(&self.state).failures;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(slot) = self.take(failures)? {
                return Ok(slot);
            }
            changed.await;
        }
    }

    /// A free stream. If there is none, starts a connection unless the limit is reached.
    fn take(self: &Arc<Self>, failures: u64) -> Result<Option<Slot>, String> {
        let mut state = locked(&self.state);
        self.prune(&mut state);
        for connection in &state.open {
            let mut used = locked(&connection.used);
            if used.0 < connection.room {
                *used = (used.0 + 1, Instant::now());
                self.metrics.forwarding(self.lane.into(), true);
                return Ok(Some(Slot { connection: connection.clone(), road: self.clone() }));
            }
        }
        if state.failures > failures {
            return Err(state.failure.clone());
        }
        if !state.opening && state.open.len() < self.lane.connections_max() {
            state.opening = true;
            // In its own task, because several requests can wait for it.
            tokio::spawn(self.clone().open());
        }
        Ok(None)
    }

    async fn open(self: Arc<Self>) {
        let opened = match timeout(CONNECT, self.handshake()).await {
            Ok(opened) => opened,
            Err(_) => Err(format!("no answer within {CONNECT:?}")),
        };
        let mut state = locked(&self.state);
        state.opening = false;
        match opened {
            Ok(connection) => {
                let before = state.open.len();
                state.open.push(Arc::new(connection));
                self.metrics.forward_connections(self.lane.into(), before, before + 1);
            }
            Err(why) => {
                debug!(address = %self.address, why, "cannot reach another node");
                state.failures += 1;
                state.failure = why;
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    async fn handshake(self: &Arc<Self>) -> Result<Connection, String> {
        let stream = self.connect.connect(&self.address).await;
        let stream = stream.map_err(|error| said(&error))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(self.lane.stream_window())
            .initial_connection_window_size(WINDOW)
            // No stream until the peer has announced its limit.
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| said(&error))?;
        while connection.current_max_send_streams() == 0 {
            if sender.is_closed() {
                return Err("the connection was closed".to_owned());
            }
            sleep(SETTINGS).await;
        }
        let room = connection.current_max_send_streams().min(self.lane.streams_max());
        let road = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(error = &error as &dyn Error, "connection to another node ended");
            }
            if let Some(road) = road.upgrade() {
                road.changed.notify_waiters();
            }
        });
        let used = Mutex::new((0, Instant::now()));
        Ok(Connection { sender, room, used, broken: AtomicBool::new(false) })
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        let open = locked(&self.state).open.len();
        self.metrics.forward_connections(self.lane.into(), open, 0);
    }
}

impl Connection {
    fn is_closed(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.sender.is_closed()
    }

    fn is_idle(&self) -> bool {
        let (used, since) = *locked(&self.used);
        used == 0 && since.elapsed() > IDLE
    }
}

impl Slot {
    /// Sends the request and returns the headers of the answer. Keep the slot until the end of the answer,
    /// because the stream is in use until then.
    pub(super) async fn send(
        &self,
        request: Request,
        until: Instant,
    ) -> Result<Response<Incoming>, Lost> {
        let mut sender = self.connection.sender.clone();
        let mut error = match timeout_at(until, sender.try_send_request(request)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => return Err(Lost::Late),
        };
        let unsent = error.take_message().is_some() || was_refused(error.error());
        debug!(error = error.error() as &dyn Error, unsent, "request to another node failed");
        if unsent {
            self.connection.broken.store(true, Ordering::Relaxed);
            return Err(Lost::NotSent(said(error.error())));
        }
        Err(Lost::Unknown)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let state = locked(&self.road.state);
        let mut used = locked(&self.connection.used);
        *used = (used.0 - 1, Instant::now());
        drop(used);
        drop(state);
        self.road.metrics.forwarding(self.road.lane.into(), false);
        self.road.changed.notify_waiters();
    }
}

/// Whether the peer said that it did not process the request.
fn was_refused(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        source = error.source();
    }
    false
}

/// An error with its causes.
fn said(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use http_body_util::BodyExt;
    use hyper::{server, service::service_fn};
    use tokio::io::duplex;

    use super::*;
    use crate::net::{BoxedStream, Pending};

    /// Connects to a node that allows so many streams, and answers after that time.
    #[derive(Debug)]
    struct Peer {
        streams: u32,
        answers_after: Duration,
    }

    impl Connect for Peer {
        fn connect(&self, _: &Uri) -> Pending<'_, BoxedStream> {
            let (ours, theirs) = duplex(64 << 10);
            let (streams, after) = (self.streams, self.answers_after);
            tokio::spawn(async move {
                let service = service_fn(move |_| async move {
                    let _ = timeout(after, std::future::pending::<()>()).await;
                    Ok::<_, Infallible>(Response::new(Body::from("well")))
                });
                let mut http = server::conn::http2::Builder::new(TokioExecutor::new());
                http.max_concurrent_streams(streams);
                // It ends with the test.
                let _ = http.serve_connection(TokioIo::new(theirs), service).await;
            });
            Box::pin(async move { Ok(Box::new(ours) as BoxedStream) })
        }
    }

    /// Connects to nobody.
    #[derive(Debug)]
    struct Nobody;

    impl Connect for Nobody {
        fn connect(&self, _: &Uri) -> Pending<'_, BoxedStream> {
            Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
        }
    }

    fn pool(connect: impl Connect + 'static) -> Pool {
        Pool::new(Arc::new(connect), NodeMetrics::default())
    }

    fn address() -> Uri {
        Uri::from_static("http://peer:1")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    fn request() -> Request {
        Request::get("http://peer:1/").body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn another_connection_is_opened_when_all_streams_are_in_use() {
        let pool = pool(Peer { streams: 2, answers_after: Duration::ZERO });
        let mut slots = Vec::new();
        for _ in 0..5 {
            slots.push(pool.slot(&address(), Lane::Short, soon()).await.ok().unwrap());
        }
        let road = pool.road(&address(), Lane::Short);
        assert_eq!(locked(&road.state).open.len(), 3);
        for slot in slots {
            let answer = slot.send(request(), soon()).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "well");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_take_no_room_of_short_ones_and_room_is_bounded() {
        let pool = pool(Peer { streams: 1, answers_after: Duration::ZERO });
        let mut held = Vec::new();
        for _ in 0..Lane::Long.connections_max() {
            held.push(pool.slot(&address(), Lane::Long, soon()).await.ok().unwrap());
        }
        let refused = pool.slot(&address(), Lane::Long, soon()).await.err();
        assert_eq!(refused, Some(Lost::NoRoom));
        assert!(pool.slot(&address(), Lane::Short, soon()).await.is_ok());
        held.pop();
        assert!(pool.slot(&address(), Lane::Long, soon()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up() {
        let pool = pool(Peer { streams: 1, answers_after: Duration::from_secs(3600) });
        let slot = pool.slot(&address(), Lane::Short, soon()).await.ok().unwrap();
        assert_eq!(slot.send(request(), soon()).await.err(), Some(Lost::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_not_there_is_told_at_once() {
        let lost = pool(Nobody).slot(&address(), Lane::Short, soon()).await.err();
        let Some(Lost::NotSent(why)) = lost else { panic!("{lost:?}") };
        assert!(why.contains("refused"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_carry_nothing_are_closed_but_for_one() {
        let pool = pool(Peer { streams: 1, answers_after: Duration::ZERO });
        let address = address();
        let slots = [(); 3].map(|()| pool.slot(&address, Lane::Short, soon()));
        let slots = futures_util::future::join_all(slots).await;
        assert!(slots.iter().all(Result::is_ok));
        drop(slots);
        tokio::time::advance(IDLE + Duration::from_secs(1)).await;
        let _slot = pool.slot(&address, Lane::Short, soon()).await.ok().unwrap();
        let road = pool.road(&address, Lane::Short);
        assert_eq!(locked(&road.state).open.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_carry_nothing_are_closed_without_a_further_request() {
        let pool = pool(Peer { streams: 1, answers_after: Duration::ZERO });
        let address = address();
        let slots = [(); 3].map(|()| pool.slot(&address, Lane::Long, soon()));
        let mut slots = futures_util::future::join_all(slots).await;
        let kept = slots.pop();
        drop(slots);
        let road = pool.road(&address, Lane::Long);
        tokio::time::advance(IDLE + Duration::from_secs(1)).await;
        pool.prune();
        assert!(locked(&road.state).open.len() <= 2, "one is in use, one stays");
        drop((road, kept));
        tokio::time::advance(IDLE + Duration::from_secs(1)).await;
        pool.prune();
        assert!(locked(&pool.roads).is_empty(), "nothing leads there any more");
    }
}
