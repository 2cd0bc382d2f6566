//! The nodes of a cluster from the view of a client: failover and retries.
//!
//! Any node serves any call, so the client uses one until it fails, and then the next in the order of the
//! addresses. It retries a call only if the retry cannot carry it out twice.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rota_proto::operations::Repeat;
use tokio::time::Instant;
use tonic::{
    Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
};

use crate::{
    connect::Dialer,
    error::ClientError,
    fault::{Fault, reason_of, refuses_every_try},
    links::{Links, NodeChannel, Ticket},
};

/// Pause between rounds through all nodes.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Maximum time until a connection accepts a call. Longer than the timeout for opening a connection.
const OPEN: Duration = Duration::from_secs(3);

/// A connection to one node with the client's token, for a stream.
pub type Connection = InterceptedService<NodeChannel, CallInterceptor>;

/// The headers of each request: the token and the timeout.
#[derive(Clone)]
pub struct CallInterceptor {
    headers: Arc<CallHeaders>,
    timeout: Option<Duration>,
}

/// The headers that all requests of a client share.
#[derive(Clone, Default)]
pub(crate) struct CallHeaders {
    token: Option<AsciiMetadataValue>,
    trace: [Option<AsciiMetadataValue>; 2],
}

impl CallHeaders {
    pub(crate) fn new(token: Option<AsciiMetadataValue>) -> Self {
        Self { token, ..Self::default() }
    }
}

impl Interceptor for CallInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let [parent, state] = &self.headers.trace;
        let headers = [
            ("authorization", &self.headers.token),
            ("traceparent", parent),
            ("tracestate", state),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                let _ = request.metadata_mut().insert(name, value.clone());
            }
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }
}

impl std::fmt::Debug for CallInterceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = if self.headers.token.is_some() { "hidden" } else { "none" };
        f.debug_struct("CallInterceptor")
            .field("token", &token)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// All nodes, and the current one.
#[derive(Clone)]
pub(crate) struct Nodes {
    links: Vec<Arc<Links>>,
    addresses: String,
    current: Arc<AtomicUsize>,
    headers: Arc<CallHeaders>,
    patience: Duration,
    random: Arc<Mutex<fastrand::Rng>>,
}

impl Nodes {
    /// `dialers` has at least one. `addresses` is the text for messages.
    pub(crate) fn new(
        dialers: Vec<Dialer>,
        addresses: String,
        headers: CallHeaders,
        patience: Duration,
        random: fastrand::Rng,
    ) -> Self {
        Self {
            links: dialers.into_iter().map(Links::new).collect(),
            addresses,
            current: Arc::default(),
            headers: Arc::new(headers),
            patience,
            random: Arc::new(Mutex::new(random)),
        }
    }

    /// The same nodes and connections, with another trace context.
    pub(crate) fn traced(&self, parent: &str, state: &str) -> Self {
        let text = |text: &str| text.parse().ok().filter(|_| !text.is_empty());
        let headers =
            CallHeaders { trace: [text(parent), text(state)], ..CallHeaders::clone(&self.headers) };
        Self { headers: Arc::new(headers), ..self.clone() }
    }

    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    pub(crate) fn addresses(&self) -> &str {
        &self.addresses
    }

    pub(crate) fn count(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// A connection to a node. Every number is valid, modulo the number of nodes.
    pub(crate) fn connection(&self, node: usize) -> Connection {
        self.on(self.links[node % self.links.len()].acquire(), None)
    }

    fn on(&self, channel: NodeChannel, timeout: Option<Duration>) -> Connection {
        InterceptedService::new(channel, CallInterceptor { headers: self.headers.clone(), timeout })
    }

    /// Fails over from this node to the next one, unless another call already did.
    pub(crate) fn leave(&self, node: usize) {
        let next = node.wrapping_add(1);
        let _ = self.current.compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Lets further calls to a node use a new connection.
    pub(crate) fn renew(&self, node: usize) {
        self.links[node % self.links.len()].renew();
    }

    /// Makes a node the current one.
    pub(crate) fn turn_to(&self, node: usize) {
        self.current.store(node, Ordering::Relaxed);
    }

    /// Sends a call to one node after the other, until there is an answer, no further retry is safe, or
    /// patience is over. `timeout` is for one try. Patience begins with the first failure, so that a long
    /// wait that breaks late is retried.
    ///
    /// Cancel safe: a dropped call may or may not be carried out.
    pub(crate) async fn ask<T, F>(
        &self,
        repeat: Repeat,
        timeout: Duration,
        call: impl Fn(Connection) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut give_up = None;
        let mut pause = PAUSE_MIN;
        // Whether an earlier try may have been carried out.
        let mut open = false;
        for tried in 1.. {
            let node = self.current();
            let channel = self.links[node % self.links.len()].acquire();
            let ticket = channel.ticket();
            let asked = call(self.on(channel, Some(timeout)));
            let status = match answer(asked, &ticket, timeout).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let fault = match Fault::of(&status) {
                Fault::Unknown if ticket.give_up() => Fault::NotSent,
                fault => fault,
            };
            if fault.leaves_node() {
                self.leave(node);
            }
            open |= fault == Fault::Unknown && repeat != Repeat::Read;
            let again = match fault {
                Fault::NotSent | Fault::NotNow { .. } => true,
                // Another node may have a certificate that fits.
                Fault::NoTls => tried < self.links.len(),
                Fault::Unknown => repeat.is_safe(),
                Fault::Refused => false,
            };
            let give_up = *give_up.get_or_insert_with(|| Instant::now() + self.patience);
            let wait = self.wait_before(tried, fault, &mut pause);
            if !again || Instant::now() + wait > give_up {
                return Err(self.verdict(fault, open, &status));
            }
            tokio::time::sleep(wait).await;
        }
        unreachable!("the loop above ends by returning alone")
    }

    /// The pause before the next try. There is none before each node was tried once.
    fn wait_before(&self, tried: usize, fault: Fault, pause: &mut Duration) -> Duration {
        let all_asked = tried.is_multiple_of(self.links.len());
        if fault.leaves_node() && !all_asked {
            return Duration::ZERO;
        }
        // A generator stays valid even if its last user panicked.
        let random = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        let jitter = 0.5 + random / 2.0;
        let mut wait = pause.mul_f64(jitter);
        *pause = (*pause * 2).min(PAUSE_MAX);
        if let Fault::NotNow { after: Some(after), elsewhere: false } = fault {
            wait = wait.max(after.min(PAUSE_MAX));
        }
        wait
    }

    fn verdict(&self, fault: Fault, open: bool, status: &Status) -> ClientError {
        let addresses = self.addresses.clone();
        let reason = || reason_of(status);
        match fault {
            Fault::Refused if !open || refuses_every_try(status) => status.clone().into(),
            _ if open => ClientError::OutcomeUnknown { addresses, reason: reason() },
            Fault::NotNow { .. } => status.clone().into(),
            Fault::NoTls => ClientError::NoTls { addresses, reason: reason() },
            Fault::NotSent | Fault::Unknown | Fault::Refused => {
                ClientError::Unreachable { addresses, reason: reason() }
            }
        }
    }
}

/// The answer to a call, or an error after a timeout. A call whose stream is not opened soon is abandoned
/// before its own timeout, because it may wait behind long calls.
async fn answer<T>(
    asked: impl Future<Output = Result<Response<T>, Status>>,
    ticket: &Ticket,
    timeout: Duration,
) -> Result<Response<T>, Status> {
    let stuck = async {
        tokio::time::sleep(OPEN.min(timeout)).await;
        if !ticket.give_up() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        answer = tokio::time::timeout(timeout, asked) => match answer {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {timeout:?}"))),
        },
        () = stuck => {
            ticket.waited_in_vain();
            let open = OPEN.min(timeout);
            Err(Status::unavailable(format!("the connection accepted no further call within {open:?}")))
        }
    }
}
