//! The worker: its settings, its run, and its drain.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};
#[cfg(feature = "metrics")]
use std::{io, net::SocketAddr};

use bytes::Bytes;
use rota_client::{Client, ClientError, Job};
use rota_trace::Tracer;
use rustc_hash::FxHashMap;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;
#[cfg(feature = "metrics")]
use tracing::info;

#[cfg(feature = "metrics")]
use crate::scrape::Scrape;
use crate::{
    context::TaskContext,
    handler::{self, Done, Handler, HandlerError, Next, Wrapper},
    metrics::WorkerMetrics,
    session::Session,
};

/// Returns the date.
pub(crate) type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The reason why a worker cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The worker has no handler.
    #[error("a worker needs at least one handler")]
    NoHandler,
    /// The list of queues is empty.
    #[error("the list of queues is empty; add at least one, or omit the list to serve all queues")]
    NoQueue,
    /// The worker has no slot.
    #[error("a worker needs at least one slot")]
    NoSlot,
    /// Each node refused the worker before it was ever connected, for an invalid name or an unknown token.
    #[error("the server refuses this worker: {0}")]
    Refused(ClientError),
    /// The address for metrics cannot be used.
    #[cfg(feature = "metrics")]
    #[error("cannot listen on {address} for metrics: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}

/// Stops a worker. Cheap to clone, so that the task of a signal handler can have one.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    pub(crate) gently: CancellationToken,
    pub(crate) at_once: CancellationToken,
}

impl Drain {
    /// Starts a drain: the worker takes no more tasks, lets running ones finish within its drain timeout, gives the
    /// others back without using up an attempt, and ends.
    pub fn start(&self) {
        self.gently.cancel();
    }

    /// Starts a drain without waiting for running tasks.
    pub fn now(&self) {
        self.gently.cancel();
        self.at_once.cancel();
    }
}

/// Settings of a worker.
pub struct Builder {
    client: Client,
    name: Option<String>,
    /// `None` means all.
    queues: Option<Vec<String>>,
    slots: u32,
    drain_timeout: Duration,
    #[cfg(feature = "metrics")]
    metrics_listen: Option<SocketAddr>,
    wall_clock: WallClock,
    handlers: FxHashMap<String, Handler>,
    /// Outermost first.
    wrappers: Vec<Wrapper>,
}

/// A worker, ready to run.
pub struct Worker {
    pub(crate) client: Client,
    pub(crate) name: Arc<str>,
    pub(crate) queues: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) drain_timeout: Duration,
    pub(crate) handlers: FxHashMap<String, Handler>,
    pub(crate) tracer: Tracer,
    pub(crate) drain: Drain,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) wall_clock: WallClock,
    #[cfg(feature = "metrics")]
    metrics_listen: Option<SocketAddr>,
}

impl Builder {
    /// Name of the worker, for people. Default: the name of the host and the process id.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Queues that the worker serves. Default: all. An empty list is an error of [`build`](Builder::build).
    #[must_use]
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Maximum number of tasks to run at the same time. Default: 10.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Time for running tasks to finish in a drain. Default: 30 s.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Address for `/metrics` (for Prometheus), and `/healthz` and `/readyz` (for probes). Anyone who can
    /// reach the address can read them. Default: off.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics_listen(mut self, address: SocketAddr) -> Self {
        self.metrics_listen = Some(address);
        self
    }

    /// Clock for the start of attempts. Default: the system clock.
    #[must_use]
    pub fn wall_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.wall_clock = Arc::new(clock);
        self
    }

    /// Runs jobs of one type. The [`Job`] names the kind of the tasks, and the types of the parameters and of
    /// the result.
    ///
    /// ```no_run
    /// # use rota_worker::{HandlerError, Job, TaskContext, Worker};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct SendMail { to: String }
    /// # impl Job for SendMail { const KIND: &'static str = "send-mail"; type Output = String; }
    /// # fn example(client: rota_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder(client)
    ///     .job(|mail: SendMail, ctx: TaskContext| async move {
    ///         if !mail.to.contains('@') {
    ///             return Err(HandlerError::permanent("not an address"));
    ///         }
    ///         Ok(format!("<{}@mail.example.org>", ctx.task_id()))
    ///     })
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// - The policy of the task says whether and when Rota retries an error. `?` converts any error.
    /// - [`HandlerError::permanent`] fails the task without a retry. [`HandlerError::retry_at`] and
    ///   [`HandlerError::retry_after`] set the time of the retry.
    /// - A panic is a failed attempt. A payload that is not a `J` fails the task without a retry.
    #[must_use]
    pub fn job<J, F, Fut>(self, handler: F) -> Self
    where
        J: Job,
        F: Fn(J, TaskContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<J::Output, HandlerError>> + Send + 'static,
    {
        self.with(J::KIND.to_owned(), handler::job(handler))
    }

    /// Runs a function around every handler of this worker, for example to write logs, measure time or provide
    /// a span. It calls [`Next::run`] to run the handler, and can replace the outcome. The first wrapper is the
    /// outermost. Wrappers also apply to handlers that are added later.
    ///
    /// ```no_run
    /// # use std::time::Instant;
    /// # use rota_worker::{Builder, Next, TaskContext};
    /// # fn example(builder: Builder) -> Builder {
    /// builder.wrap(|ctx: TaskContext, next: Next| async move {
    ///     let began = Instant::now();
    ///     let outcome = next.run(ctx.clone()).await;
    ///     println!("{} {} took {:?}", ctx.kind(), ctx.task_id(), began.elapsed());
    ///     outcome
    /// })
    /// # }
    /// ```
    ///
    /// The worker drops the future, with the wrapper's part of it, if it does not stop in time after a
    /// cancellation or a timeout.
    #[must_use]
    pub fn wrap<F, Fut>(mut self, around: F) -> Self
    where
        F: Fn(TaskContext, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Done, HandlerError>> + Send + 'static,
    {
        self.wrappers.push(handler::wrapper(around));
        self
    }

    /// Runs tasks of a kind by its name. The function takes the payload and returns the result as values with a
    /// JSON form. A payload that does not fit fails the task without a retry.
    #[must_use]
    pub fn handler<P, R, F, Fut>(self, kind: impl Into<String>, handler: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(TaskContext, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HandlerError>> + Send + 'static,
    {
        self.with(kind.into(), handler::typed(handler))
    }

    /// Runs tasks of a kind by its name. The function takes and returns bytes.
    #[must_use]
    pub fn raw_handler<F, Fut>(self, kind: impl Into<String>, handler: F) -> Self
    where
        F: Fn(TaskContext, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Done, HandlerError>> + Send + 'static,
    {
        self.with(kind.into(), handler::raw(handler))
    }

    fn with(mut self, kind: String, handler: Handler) -> Self {
        self.handlers.insert(kind, handler);
        self
    }

    /// Builds the worker.
    ///
    /// # Errors
    /// If it has no handler, no slot, or an empty list of queues.
    pub fn build(self) -> Result<Worker, WorkerError> {
        if self.handlers.is_empty() {
            return Err(WorkerError::NoHandler);
        }
        if self.slots == 0 {
            return Err(WorkerError::NoSlot);
        }
        // For the server, an empty list means all queues.
        let queues = match self.queues {
            Some(queues) if queues.is_empty() => return Err(WorkerError::NoQueue),
            queues => queues.unwrap_or_default(),
        };
        let wrap = |handler, wrapper: &Wrapper| wrapper(handler);
        let wrapped = |(kind, handler)| (kind, self.wrappers.iter().rfold(handler, wrap));
        let handlers = self.handlers.into_iter().map(wrapped).collect();
        let metrics = WorkerMetrics::new(env!("CARGO_PKG_VERSION"));
        metrics.set_slots(self.slots);
        Ok(Worker {
            client: self.client,
            name: self.name.unwrap_or_else(default_name).into(),
            queues,
            slots: self.slots,
            drain_timeout: self.drain_timeout,
            handlers,
            tracer: Tracer::default(),
            drain: Drain::default(),
            metrics,
            #[cfg(feature = "metrics")]
            metrics_listen: self.metrics_listen,
            wall_clock: self.wall_clock,
        })
    }
}

/// The host name and the process id, in the alphabet of names.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String =
        host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    let host = if host.is_empty() { "worker" } else { &host };
    format!("{host}-{}", std::process::id())
}

impl Worker {
    /// Settings of a worker that uses this client.
    #[must_use]
    pub fn builder(client: Client) -> Builder {
        Builder {
            client,
            name: None,
            queues: None,
            slots: 10,
            drain_timeout: Duration::from_secs(30),
            #[cfg(feature = "metrics")]
            metrics_listen: None,
            wall_clock: Arc::new(SystemTime::now),
            handlers: FxHashMap::default(),
            wrappers: Vec::new(),
        }
    }

    /// Name of the worker.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a span for each attempt of a task that belongs to a trace. Off by default.
    #[cfg(feature = "trace")]
    #[must_use]
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// Metrics of the worker, for programs that show them together with their own.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(&self) -> WorkerMetrics {
        self.metrics.clone()
    }

    /// A handle that stops the worker.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Runs tasks until a drain ends, which [`Drain`] or the server starts. While no server can be reached, or nodes
    /// refuse a worker that was connected once, the worker keeps its running tasks and retries.
    ///
    /// If you drop the future, running tasks are told to stop
    /// ([`StopReason::LeaseLost`](crate::StopReason::LeaseLost)) and abandoned. Their leases end with the TTL of the
    /// session, and each task loses an attempt.
    ///
    /// # Errors
    /// If each node refuses the worker at its first connection, or the address for metrics cannot be used.
    pub async fn run(self) -> Result<(), WorkerError> {
        #[cfg(feature = "metrics")]
        if let Some(address) = self.metrics_listen {
            return self.run_with_metrics(address).await;
        }
        Session::new(self).run().await
    }

    #[cfg(feature = "metrics")]
    async fn run_with_metrics(self, address: SocketAddr) -> Result<(), WorkerError> {
        let refused = |source| WorkerError::Listen { address, source };
        let scrape = Scrape::bind(address, self.metrics.clone()).await.map_err(refused)?;
        info!(address = %scrape.local_addr().map_err(refused)?, "serving metrics");
        tokio::select! {
            biased;
            ended = Session::new(self).run() => ended,
            () = scrape.serve() => unreachable!("serving never ends"),
        }
    }
}
