//! The client: which node to ask, how often, how long.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderValue;
use rota_proto::v1::{
    self, queue_service_client::QueueServiceClient, server_service_client::ServerServiceClient,
    task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
};
use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{error::ClientError, new_task::NewTask};

/// Tasks sent in one request.
const BATCH: usize = 1000;
/// Such requests under way at once.
const BATCHES_IN_FLIGHT: usize = 4;
/// Bytes of payloads after which a request is sent, full or not.
const BATCH_BYTES: usize = 8 << 20;
/// One long poll.
const POLL: Duration = Duration::from_secs(30);
/// Largest answer that is accepted.
const ANSWER_BYTES: usize = 64 << 20;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How a client is to behave.
#[derive(Debug, Clone)]
pub struct Builder {
    addresses: Vec<String>,
    token: Option<HeaderValue>,
    connect_timeout: Duration,
    request_timeout: Duration,
    patience: Duration,
}

/// A client of the API. Cheap to clone; clones share connections.
///
/// Calls that change nothing, or may be repeated without harm, are tried again on all nodes while
/// none can be reached, for as long as the client's patience lasts.
#[derive(Clone)]
pub struct Client {
    nodes: Arc<Nodes>,
}

struct Nodes {
    channels: Vec<Channel>,
    addresses: String,
    current: AtomicUsize,
    auth: Auth,
    request_timeout: Duration,
    patience: Duration,
}

/// One node's channel with the client's token, for streams of one's own.
pub type Connection = InterceptedService<Channel, Auth>;

/// Adds the token to each request.
#[derive(Clone)]
pub struct Auth(Option<HeaderValue>);

impl Interceptor for Auth {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let token = token.as_bytes().try_into();
            let token = token.map_err(|_| Status::internal("the token is not a header"))?;
            let _ = request.metadata_mut().insert::<&str>("authorization", token);
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Auth(hidden)" } else { "Auth(none)" })
    }
}

impl Builder {
    /// A bearer token for the API. One that cannot stand in a header is refused by the server as
    /// unknown.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        let header = HeaderValue::try_from(format!("Bearer {token}")).ok();
        self.token = header.map(|mut header| {
            header.set_sensitive(true);
            header
        });
        self
    }

    /// Longest time for one request; long polls have their wait on top. Default 20 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long to go on trying while no node can be reached. Default 10 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The client. Connects with the first call.
    ///
    /// # Errors
    /// When there is no address, or one is not a URL.
    ///
    /// # Panics
    /// Outside of a tokio runtime: connections belong to one.
    pub fn build(self) -> Result<Client, ClientError> {
        let wrong = |address: &str, reason: String| ClientError::Address {
            address: address.to_owned(),
            reason,
        };
        if self.addresses.is_empty() {
            return Err(wrong("", "there is none".to_owned()));
        }
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(address.clone())
                .map_err(|error| wrong(address, error.to_string()))?;
            match endpoint.uri().scheme_str() {
                Some("http") => {}
                _ => return Err(wrong(address, "it must begin with http://".to_owned())),
            }
            let endpoint = endpoint
                .connect_timeout(self.connect_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(15))
                .keep_alive_timeout(Duration::from_secs(10))
                .keep_alive_while_idle(true)
                .initial_stream_window_size(2 << 20)
                .initial_connection_window_size(8 << 20);
            Ok(endpoint.connect_lazy())
        };
        let channels: Result<Vec<_>, _> = self.addresses.iter().map(channel).collect();
        let nodes = Nodes {
            channels: channels?,
            addresses: self.addresses.join(", "),
            current: AtomicUsize::new(0),
            auth: Auth(self.token),
            request_timeout: self.request_timeout,
            patience: self.patience,
        };
        Ok(Client { nodes: Arc::new(nodes) })
    }
}

impl Client {
    /// A client of these nodes, with defaults.
    ///
    /// # Errors
    /// When there is no address, or one is not a URL. Whether they can be reached shows with the
    /// first call.
    pub fn connect<A: Into<String>>(
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, ClientError> {
        Self::builder(addresses).build()
    }

    /// A client of these nodes, to be configured.
    #[must_use]
    pub fn builder<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Builder {
        Builder {
            addresses: addresses.into_iter().map(Into::into).collect(),
            token: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(20),
            patience: Duration::from_secs(10),
        }
    }

    /// The addresses it was given, for messages.
    #[must_use]
    pub fn addresses(&self) -> &str {
        &self.nodes.addresses
    }

    /// The channel of the node that is asked now, for a stream of one's own.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let at = self.nodes.current.load(Ordering::Relaxed) % self.nodes.channels.len();
        InterceptedService::new(self.nodes.channels[at].clone(), self.nodes.auth.clone())
    }

    /// The node that is asked now failed: the next one is asked from here on.
    pub fn next_node(&self) {
        self.nodes.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks, again and again while no node can be reached and `repeat` says that it does no harm.
    async fn ask<T, F>(
        &self,
        repeat: Repeat,
        timeout: Duration,
        call: impl Fn(Connection) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let give_up = Instant::now() + self.nodes.patience;
        let mut pause = PAUSE_MIN;
        loop {
            let answer = tokio::time::timeout(timeout, call(self.connection())).await;
            let status = match answer {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("no answer within {timeout:?}")),
            };
            let error = ClientError::from(status.clone());
            // A status without our reason comes from the transport: no node dealt with the request,
            // or none could say that it did.
            let transport = status.code() == Code::Unavailable && error.reason().is_empty();
            let unreached = transport && is_connect_error(&status);
            let again = match repeat {
                Repeat::Harmless => status.code() == Code::Unavailable,
                Repeat::IfUnreached => unreached || error.reason() == "overloaded",
            };
            if transport {
                self.next_node();
            }
            if !again || Instant::now() + pause > give_up {
                return Err(if transport { self.unreachable(&status) } else { error });
            }
            let jitter = 0.5 + fastrand::f64() / 2.0;
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn unreachable(&self, status: &Status) -> ClientError {
        let mut reason = status.message().to_owned();
        let mut cause = std::error::Error::source(status);
        while let Some(error) = cause {
            reason = error.to_string();
            cause = error.source();
        }
        ClientError::Unreachable { addresses: self.nodes.addresses.clone(), reason }
    }

    fn tasks(connection: Connection) -> TaskServiceClient<Connection> {
        TaskServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES)
    }
}

/// When a call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Always.
    Harmless,
    /// When it surely was not dealt with.
    IfUnreached,
}

/// Whether the status says that no connection came about, so that nothing was sent.
fn is_connect_error(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

/// Calls with one request and one answer: their method, service and whether they may be repeated.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($service:ident, $request:ty) -> $answer:ty, $repeat:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// When no node can be reached, or it refuses.
                pub async fn $name(&self, request: $request) -> Result<$answer, ClientError> {
                    let timeout = self.nodes.request_timeout;
                    self.ask(Repeat::$repeat, timeout, |connection| {
                        let request = request.clone();
                        async move {
                            $service::new(connection)
                                .max_decoding_message_size(ANSWER_BYTES)
                                .$name(request)
                                .await
                        }
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    /// A page of tasks, newest first.
    list_tasks(TaskServiceClient, v1::ListTasksRequest) -> v1::ListTasksResponse, Harmless;
    /// Sets when a waiting task is due.
    reschedule_task(TaskServiceClient, v1::RescheduleTaskRequest) -> v1::Task, IfUnreached;
    /// Sets a waiting task's priority.
    set_task_priority(TaskServiceClient, v1::SetTaskPriorityRequest) -> v1::Task, Harmless;
    /// Cancels, retries or deletes the tasks that a filter selects.
    bulk_tasks(TaskServiceClient, v1::BulkTasksRequest) -> v1::BulkTasksResponse, IfUnreached;
    /// All queues.
    list_queues(QueueServiceClient, v1::ListQueuesRequest) -> v1::ListQueuesResponse, Harmless;
    /// Stops a queue.
    pause_queue(QueueServiceClient, v1::QueueRequest) -> v1::Queue, Harmless;
    /// Restarts a queue.
    resume_queue(QueueServiceClient, v1::QueueRequest) -> v1::Queue, Harmless;
    /// All workers.
    list_workers(WorkerServiceClient, v1::ListWorkersRequest) -> v1::ListWorkersResponse, Harmless;
    /// Asks a worker to drain.
    drain_worker(WorkerServiceClient, v1::DrainWorkerRequest) -> v1::Worker, Harmless;
    /// About the server.
    get_server_info(ServerServiceClient, v1::GetServerInfoRequest) -> v1::ServerInfo, Harmless;
}

impl Client {
    /// Creates one task. Tried again after a lost answer only if the task names itself by an id or
    /// an idempotency key; otherwise an error of the transport leaves open whether it exists.
    ///
    /// # Errors
    /// When no node can be reached, or it refuses.
    pub async fn create_task(&self, task: NewTask) -> Result<v1::Task, ClientError> {
        let repeat = if task.is_named() { Repeat::Harmless } else { Repeat::IfUnreached };
        let request = v1::CreateTaskRequest { task: Some(task.0) };
        let timeout = self.nodes.request_timeout;
        let answer = self.ask(repeat, timeout, |connection| {
            let request = request.clone();
            async move { Self::tasks(connection).create_task(request).await }
        });
        Ok(answer.await?.task.unwrap_or_default())
    }

    /// Creates many tasks, each for itself; any number: they are sent in portions. One result for
    /// each, in order. Repeated as [`Client::create_task`], if all of a portion name themselves.
    ///
    /// # Errors
    /// When a portion could not be sent or answered: those before it may exist.
    pub async fn create_tasks(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<v1::create_tasks_response::Result>, ClientError> {
        let sent = portions(tasks).into_iter().map(|portion| self.create_portion(portion));
        let answers: Vec<Vec<_>> =
            stream::iter(sent).buffered(BATCHES_IN_FLIGHT).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn create_portion(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<v1::create_tasks_response::Result>, ClientError> {
        let named = tasks.iter().all(NewTask::is_named);
        let repeat = if named { Repeat::Harmless } else { Repeat::IfUnreached };
        let tasks: Vec<_> = tasks.into_iter().map(|task| task.0).collect();
        let request = v1::CreateTasksRequest { tasks };
        let timeout = self.nodes.request_timeout;
        let answer = self.ask(repeat, timeout, |connection| {
            let request = request.clone();
            async move { Self::tasks(connection).create_tasks(request).await }
        });
        Ok(answer.await?.results)
    }

    /// One task.
    ///
    /// # Errors
    /// When no node can be reached, or there is no such task.
    pub async fn get_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        self.poll_task(id, None).await
    }

    /// One task, once it has ended. Waits as long as it takes.
    ///
    /// # Errors
    /// When no node can be reached, or there is no such task.
    pub async fn wait_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        loop {
            let task = self.poll_task(id, Some(POLL)).await?;
            if is_terminal(task.status()) {
                return Ok(task);
            }
        }
    }

    async fn poll_task(&self, id: &str, wait: Option<Duration>) -> Result<v1::Task, ClientError> {
        let timeout = self.nodes.request_timeout + wait.unwrap_or_default();
        let wait = wait.and_then(|wait| wait.try_into().ok());
        self.ask(Repeat::Harmless, timeout, |connection| {
            let request = v1::GetTaskRequest { id: id.to_owned(), wait };
            async move { Self::tasks(connection).get_task(request).await }
        })
        .await
    }

    /// Asks for a task to be stopped.
    ///
    /// # Errors
    /// When no node can be reached, or the task is unknown or has ended otherwise.
    pub async fn cancel_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        self.ask(Repeat::Harmless, self.nodes.request_timeout, |connection| {
            let request = v1::TaskRequest { id: id.to_owned() };
            async move { Self::tasks(connection).cancel_task(request).await }
        })
        .await
    }

    /// Makes an ended task pending again.
    ///
    /// # Errors
    /// When no node can be reached, or the task is unknown, live or completed.
    pub async fn retry_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        self.ask(Repeat::IfUnreached, self.nodes.request_timeout, |connection| {
            let request = v1::TaskRequest { id: id.to_owned() };
            async move { Self::tasks(connection).retry_task(request).await }
        })
        .await
    }

    /// Removes an ended task.
    ///
    /// # Errors
    /// When no node can be reached, or the task is unknown or live.
    pub async fn delete_task(&self, id: &str) -> Result<(), ClientError> {
        self.ask(Repeat::IfUnreached, self.nodes.request_timeout, |connection| {
            let request = v1::TaskRequest { id: id.to_owned() };
            async move { Self::tasks(connection).delete_task(request).await }
        })
        .await
        .map(|_| ())
    }

    /// A task's attempts, oldest first.
    ///
    /// # Errors
    /// When no node can be reached, or the task is unknown.
    pub async fn list_attempts(&self, id: &str) -> Result<Vec<v1::Attempt>, ClientError> {
        let answer = self.ask(Repeat::Harmless, self.nodes.request_timeout, |connection| {
            let request = v1::TaskRequest { id: id.to_owned() };
            async move { Self::tasks(connection).list_attempts(request).await }
        });
        Ok(answer.await?.attempts)
    }

    /// What a task's handler returned; empty for nothing.
    ///
    /// # Errors
    /// When no node can be reached, or the task is unknown.
    pub async fn get_result(&self, id: &str) -> Result<Bytes, ClientError> {
        let answer = self.ask(Repeat::Harmless, self.nodes.request_timeout, |connection| {
            let request = v1::TaskRequest { id: id.to_owned() };
            async move { Self::tasks(connection).get_result(request).await }
        });
        Ok(answer.await?.result)
    }
}

/// Whether a task in that state has ended.
fn is_terminal(status: v1::TaskStatus) -> bool {
    use v1::TaskStatus::{Cancelled, Completed, Expired, Failed};
    matches!(status, Completed | Failed | Cancelled | Expired)
}

/// Cuts tasks into requests of bounded number and size.
fn portions(tasks: Vec<NewTask>) -> Vec<Vec<NewTask>> {
    let mut portions = Vec::with_capacity(tasks.len().div_ceil(BATCH));
    let mut portion = Vec::new();
    let mut bytes = 0;
    for task in tasks {
        bytes += task.0.payload.len();
        portion.push(task);
        if portion.len() == BATCH || bytes >= BATCH_BYTES {
            portions.push(std::mem::take(&mut portion));
            bytes = 0;
        }
    }
    if !portion.is_empty() {
        portions.push(portion);
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_task::task;

    #[test]
    fn portions_are_bounded_in_number_and_size() {
        let small: Vec<_> = (0..2500).map(|_| task("t")).collect();
        let sizes: Vec<_> = portions(small).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1000, 1000, 500]);
        let large: Vec<_> = (0..20).map(|_| task("t").payload(vec![0; 1 << 20])).collect();
        let sizes: Vec<_> = portions(large).iter().map(Vec::len).collect();
        assert_eq!(sizes, [8, 8, 4]);
    }

    #[tokio::test]
    async fn addresses_are_checked() {
        assert!(Client::connect(["http://127.0.0.1:7420"]).is_ok());
        for wrong in ["", "127.0.0.1", "ftp://x", "http://"] {
            let refused = Client::connect([wrong]);
            assert!(matches!(refused, Err(ClientError::Address { .. })), "{wrong}");
        }
        assert!(Client::connect(Vec::<String>::new()).is_err());
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named() {
        let client = Client::builder(["http://127.0.0.1:1"]).patience(Duration::ZERO).build();
        let client = client.expect("an address");
        let error = client.get_task("x").await.expect_err("nobody listens");
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
