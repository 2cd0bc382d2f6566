//! The client: the calls of the API, with safe retries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_proto::node_v1::{self, node_service_client::NodeServiceClient};
use rota_proto::operations::Operation;
use rota_proto::v1::{
    self, queue_service_client::QueueServiceClient, server_service_client::ServerServiceClient,
    task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
};

use tokio::time::Instant;

use crate::{
    builder::Builder,
    error::ClientError,
    nodes::{Connection, Nodes},
};

/// Duration of one long poll.
const POLL: Duration = Duration::from_secs(30);
/// Maximum size of an answer.
pub(crate) const ANSWER_BYTES: usize = 64 << 20;

/// A client of the API. Cheap to clone; clones share connections.
///
/// Any node serves any call. The client retries a call that was certainly not carried out (it reached no node, or
/// there was no leader) on the next node, for as long as [`Builder::patience`] says. It also retries a call that may
/// have been carried out, if that does no harm: reads, changes that are the same when done twice, and new tasks with
/// an id or an idempotency key. All other calls end with [`ClientError::OutcomeUnknown`].
#[derive(Clone)]
pub struct Client {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) request_timeout: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of these nodes, with default settings. It connects at the first call.
    ///
    /// # Errors
    /// If there is no address, or an address is not a URL.
    pub fn connect<A: Into<String>>(
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, ClientError> {
        Self::builder(addresses).build()
    }

    /// Settings of a client of these nodes.
    #[must_use]
    pub fn builder<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Builder {
        Builder::new(addresses.into_iter().map(Into::into).collect())
    }

    /// The same client and connections, with a W3C trace context (the headers `traceparent` and `tracestate`)
    /// on each call. Tasks that it creates belong to that trace. A value that is not valid in a header is
    /// omitted.
    #[must_use]
    pub fn traced(&self, parent: &str, state: &str) -> Self {
        Self { nodes: Arc::new(self.nodes.traced(parent, state)), ..self.clone() }
    }

    /// The same client and connections, with another [`Builder::patience`].
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { nodes: Arc::new(self.nodes.with_patience(patience)), ..self.clone() }
    }

    /// Addresses of the nodes, separated by commas.
    #[must_use]
    pub fn addresses(&self) -> &str {
        self.nodes.addresses()
    }

    /// Number of nodes, at least 1.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.count()
    }

    /// A connection to the current node, for programs that make gRPC calls themselves.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.nodes.connection(self.nodes.current())
    }

    /// Number of the current node, from 0, in the order of the addresses.
    #[must_use]
    pub fn current_node(&self) -> usize {
        self.nodes.current() % self.nodes.count()
    }

    /// Lets further calls to the node with that number use a new connection, see [`Client::current_node`]. For a
    /// connection that seems dead although the network has not said so. Calls that it carries go on.
    pub fn renew_connection(&self, node: usize) {
        self.nodes.renew(node);
    }

    /// Fails over from the current node to the next one.
    pub fn next_node(&self) {
        self.nodes.leave(self.nodes.current());
    }

    /// Makes the node with that number the current one, see [`Client::current_node`]. Every number is valid,
    /// modulo the number of nodes.
    pub fn use_node(&self, node: usize) {
        self.nodes.turn_to(node);
    }

    pub(crate) fn tasks(connection: Connection) -> TaskServiceClient<Connection> {
        TaskServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES)
    }
}

/// Unary calls: method, service, and row in the table of operations, which tells whether a retry is safe.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($service:ident, $request:ty) -> $answer:ty, $operation:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// If no node can be reached, the node refuses the call, or the answer is lost.
                pub async fn $name(&self, request: $request) -> Result<$answer, ClientError> {
                    let timeout = self.request_timeout;
                    let repeat = Operation::$operation.repeat();
                    self.nodes.ask(repeat, timeout, |connection| {
                        let request = request.clone();
                        async move {
                            $service::new(connection)
                                .max_decoding_message_size($crate::client::ANSWER_BYTES)
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
pub(crate) use calls;

calls! {
    /// Lists a page of tasks, newest first.
    list_tasks(TaskServiceClient, v1::ListTasksRequest) -> v1::ListTasksResponse, ListTasks;
    /// Changes when a waiting task is due.
    reschedule_task(TaskServiceClient, v1::RescheduleTaskRequest) -> v1::Task, RescheduleTask;
    /// Changes the priority of a waiting task.
    set_task_priority(TaskServiceClient, v1::SetTaskPriorityRequest) -> v1::Task, SetTaskPriority;
    /// Changes the definition of a waiting task.
    update_task(TaskServiceClient, v1::UpdateTaskRequest) -> v1::Task, UpdateTask;
    /// Counts the tasks that match a filter, for a bounded time.
    count_tasks(TaskServiceClient, v1::CountTasksRequest) -> v1::CountTasksResponse, CountTasks;
    /// Lists groups of failed tasks with the same kind and the same error, the most recent first.
    list_failures(TaskServiceClient, v1::ListFailuresRequest) -> v1::ListFailuresResponse, ListFailures;
    /// Cancels, retries or deletes the tasks that match a filter.
    bulk_tasks(TaskServiceClient, v1::BulkTasksRequest) -> v1::BulkTasksResponse, BulkTasks;
    /// Lists a page of queues, by name. [`Client::all_queues`] reads all pages.
    list_queues(QueueServiceClient, v1::ListQueuesRequest) -> v1::ListQueuesResponse, ListQueues;
    /// Pauses a queue.
    pause_queue(QueueServiceClient, v1::PauseQueueRequest) -> v1::Queue, PauseQueue;
    /// Resumes a queue.
    resume_queue(QueueServiceClient, v1::QueueRequest) -> v1::Queue, ResumeQueue;
    /// Lists a page of workers, by name. [`Client::all_workers`] reads all pages.
    list_workers(WorkerServiceClient, v1::ListWorkersRequest) -> v1::ListWorkersResponse, ListWorkers;
    /// Drains a worker.
    drain_worker(WorkerServiceClient, v1::DrainWorkerRequest) -> v1::Worker, DrainWorker;
    /// Gets the version, state and limits of the server.
    get_server_info(ServerServiceClient, v1::GetServerInfoRequest) -> v1::ServerInfo, GetServerInfo;
    /// Gets the nodes, the leader and the store.
    get_cluster(ServerServiceClient, v1::GetClusterRequest) -> v1::Cluster, GetCluster;
    /// Transfers leadership to another node.
    transfer_leadership(ServerServiceClient, v1::TransferLeadershipRequest) -> v1::TransferLeadershipResponse, TransferLeadership;
    /// Gets the log filter of the node that answers.
    get_log_filter(NodeServiceClient, node_v1::GetLogFilterRequest) -> node_v1::LogFilter, GetLogFilter;
    /// Sets the log filter of the node that answers, until it restarts. The client does not retry this call,
    /// because a retry could change another node, too.
    set_log_filter(NodeServiceClient, node_v1::SetLogFilterRequest) -> node_v1::LogFilter, SetLogFilter;
}

impl Client {
    /// Lists all queues, page by page.
    ///
    /// # Errors
    /// If no node can be reached, or the node refuses the call.
    pub async fn all_queues(&self) -> Result<v1::ListQueuesResponse, ClientError> {
        let mut all = self.list_queues(v1::ListQueuesRequest::default()).await?;
        while let Some(page_token) = all.next_page_token.take() {
            let ask = v1::ListQueuesRequest { page_size: 0, page_token: page_token.clone() };
            let page = self.list_queues(ask).await?;
            all.queues.extend(page.queues);
            all.as_of = all.as_of.or(page.as_of);
            // A cursor that does not move would make this loop endless.
            all.next_page_token = some_other(page.next_page_token, &page_token);
        }
        Ok(all)
    }

    /// Lists all workers, page by page.
    ///
    /// # Errors
    /// If no node can be reached, or the node refuses the call.
    pub async fn all_workers(&self) -> Result<v1::ListWorkersResponse, ClientError> {
        let mut all = self.list_workers(v1::ListWorkersRequest::default()).await?;
        while let Some(page_token) = all.next_page_token.take() {
            let ask = v1::ListWorkersRequest { page_size: 0, page_token: page_token.clone() };
            let page = self.list_workers(ask).await?;
            all.workers.extend(page.workers);
            all.as_of = all.as_of.or(page.as_of);
            all.next_page_token = some_other(page.next_page_token, &page_token);
        }
        Ok(all)
    }

    /// Gets a task.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such task.
    pub async fn get_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        self.poll_task(id, None).await
    }

    /// Waits until a task has ended, without a timeout.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such task.
    pub async fn wait_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        loop {
            let task = self.poll_task(id, Some(POLL)).await?;
            if has_ended(&task) {
                return Ok(task);
            }
        }
    }

    /// Waits until a task has ended, with a timeout. Returns the task in its current state.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such task.
    pub async fn wait_task_for(&self, id: &str, wait: Duration) -> Result<v1::Task, ClientError> {
        let until = Instant::now() + wait;
        loop {
            // The server limits a single wait.
            let wait = until.saturating_duration_since(Instant::now());
            let task = self.poll_task(id, Some(wait.min(POLL))).await?;
            if has_ended(&task) || Instant::now() >= until {
                return Ok(task);
            }
        }
    }

    async fn poll_task(&self, id: &str, wait: Option<Duration>) -> Result<v1::Task, ClientError> {
        let timeout = self.request_timeout + wait.unwrap_or_default();
        let wait = wait.map(Into::into);
        self.nodes
            .ask(Operation::GetTask.repeat(), timeout, |connection| {
                let request = v1::GetTaskRequest { id: id.to_owned(), wait };
                async move { Self::tasks(connection).get_task(request).await }
            })
            .await
    }

    /// Cancels a task. The worker of a running attempt is asked to stop it.
    ///
    /// # Errors
    /// If no node can be reached, there is no such task, or it has ended with another status.
    pub async fn cancel_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        self.nodes
            .ask(Operation::CancelTask.repeat(), self.request_timeout, |connection| {
                let request = v1::TaskRequest { id: id.to_owned() };
                async move { Self::tasks(connection).cancel_task(request).await }
            })
            .await
    }

    /// Runs a failed, cancelled or expired task again, with a new budget of attempts.
    ///
    /// # Errors
    /// If no node can be reached, there is no such task, or it is live or completed.
    pub async fn retry_task(&self, id: &str) -> Result<v1::Task, ClientError> {
        self.nodes
            .ask(Operation::RetryTask.repeat(), self.request_timeout, |connection| {
                let request = v1::TaskRequest { id: id.to_owned() };
                async move { Self::tasks(connection).retry_task(request).await }
            })
            .await
    }

    /// Deletes an ended task.
    ///
    /// # Errors
    /// If no node can be reached, there is no such task, or it is live.
    pub async fn delete_task(&self, id: &str) -> Result<(), ClientError> {
        self.nodes
            .ask(Operation::DeleteTask.repeat(), self.request_timeout, |connection| {
                let request = v1::TaskRequest { id: id.to_owned() };
                async move { Self::tasks(connection).delete_task(request).await }
            })
            .await
            .map(|_| ())
    }

    /// Lists the attempts of a task, oldest first.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such task.
    pub async fn list_attempts(&self, id: &str) -> Result<Vec<v1::Attempt>, ClientError> {
        let answer =
            self.nodes.ask(Operation::ListAttempts.repeat(), self.request_timeout, |connection| {
                let request = v1::TaskRequest { id: id.to_owned() };
                async move { Self::tasks(connection).list_attempts(request).await }
            });
        Ok(answer.await?.attempts)
    }

    /// Gets the result of a task, as the handler returned it. Empty for none.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such task.
    pub async fn get_result(&self, id: &str) -> Result<Bytes, ClientError> {
        let answer =
            self.nodes.ask(Operation::GetResult.repeat(), self.request_timeout, |connection| {
                let request = v1::TaskRequest { id: id.to_owned() };
                async move { Self::tasks(connection).get_result(request).await }
            });
        Ok(answer.await?.result)
    }
}

/// The token of the next page, unless it is the token of this page.
pub(crate) fn some_other(next: Option<String>, this: &str) -> Option<String> {
    next.filter(|next| next != this)
}

/// An unknown status of a newer server counts as an end if the task has an end date. Otherwise a waiting
/// client would call again and again without a pause.
pub(crate) fn has_ended(task: &v1::Task) -> bool {
    match v1::TaskStatus::try_from(task.status) {
        Ok(status) => is_terminal(status),
        Err(_) => task.finished_at.is_some(),
    }
}

/// Whether a task with this status has ended.
fn is_terminal(status: v1::TaskStatus) -> bool {
    use v1::TaskStatus::{Cancelled, Completed, Expired, Failed};
    matches!(status, Completed | Failed | Cancelled | Expired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_newer_server_is_an_end_if_the_task_says_when_it_ended() {
        let task = |status, finished_at| v1::Task { status, finished_at, ..v1::Task::default() };
        assert!(has_ended(&task(99, Some(rota_proto::Date::default()))));
        assert!(!has_ended(&task(99, None)));
        assert!(has_ended(&task(v1::TaskStatus::Failed.into(), None)));
        assert!(!has_ended(&task(v1::TaskStatus::Running.into(), None)));
    }

    #[tokio::test]
    async fn addresses_are_checked() {
        assert!(Client::connect(["http://127.0.0.1:7420"]).is_ok());
        assert!(Client::connect(["http://127.0.0.1:7420/"]).is_ok());
        for wrong in [
            "",
            "127.0.0.1",
            "ftp://x",
            "http://",
            "unix:///tmp/socket",
            "unix://x",
            "https://",
            "https://x:0",
            "https://x/prefix",
            "https://user:password@x",
            "http://:80",
            "http://x:",
            "http://x:0",
            "http://x:99999",
            "http://[::1]:99999",
            "http://x/prefix",
            "http://x//",
            "http://x?query",
            "http://user:password@x",
        ] {
            let refused = Client::connect([wrong]);
            let Err(error @ ClientError::Address { .. }) = refused else { panic!("{wrong}") };
            assert!(!error.to_string().contains("password"), "{error}");
        }
        assert!(Client::connect(Vec::<String>::new()).is_err());
        for right in ["HTTP://x", "http://[::1]", "http://[::1]:7420", "http://x:1"] {
            assert!(Client::connect([right]).is_ok(), "{right}");
        }
        for token in ["a\nb", "\u{7f}", "a\0"] {
            let refused = Client::builder(["http://x"]).token(token).build();
            assert!(matches!(refused, Err(ClientError::Token)), "{token:?}");
        }
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
