//! A submitted job: its task, and its result as a value.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use rota_proto::v1::{FailureReason, Task, TaskStatus};

use crate::{
    client::{Client, has_ended},
    error::ClientError,
    job::Job,
};

/// A task and the type of its result. Cheap to clone.
pub struct TaskHandle<J> {
    client: Client,
    id: String,
    created: bool,
    job: PhantomData<fn() -> J>,
}

impl<J> Clone for TaskHandle<J> {
    fn clone(&self) -> Self {
        let Self { client, id, created, .. } = self;
        Self { client: client.clone(), id: id.clone(), created: *created, job: PhantomData }
    }
}

impl<J> fmt::Debug for TaskHandle<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TaskHandle");
        shown.field("id", &self.id).field("created", &self.created).finish_non_exhaustive()
    }
}

/// Why a task has no result of the expected type.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// The task failed: its error was permanent, or it has no attempts left.
    #[error("task {id} failed at attempt {attempt} ({reason}): {message}")]
    Failed {
        /// Id of the task.
        id: String,
        /// Class of the failure.
        reason: FailureReason,
        /// Error message of the last attempt.
        message: String,
        /// Number of attempts begun.
        attempt: u32,
    },
    /// A client cancelled the task.
    #[error("task {id} was cancelled")]
    Cancelled {
        /// Id of the task.
        id: String,
    },
    /// The task had not started by its start deadline.
    #[error("task {id} expired: it had not started by its `expires_at`")]
    Expired {
        /// Id of the task.
        id: String,
    },
    /// The task completed, but its result is not a value of the type [`Job::Output`].
    #[error("the result of task {id} is not a {expected}: {source}")]
    Mistyped {
        /// Id of the task.
        id: String,
        /// Name of the expected type.
        expected: &'static str,
        /// The error of the conversion.
        source: Arc<serde_json::Error>,
    },
    /// The task has not ended within the timeout. It continues.
    #[error("task {id} has not ended within {waited:?}; it is still {status}")]
    Timeout {
        /// Id of the task.
        id: String,
        /// Time waited.
        waited: Duration,
        /// Status of the task.
        status: TaskStatus,
    },
    /// The task or its result could not be read.
    #[error(transparent)]
    Call(#[from] ClientError),
}

impl<J> TaskHandle<J> {
    pub(crate) fn new(client: Client, id: String, created: bool) -> Self {
        Self { client, id, created, job: PhantomData }
    }

    /// Id of the task.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// True if this submission created the task. False if the task existed: the submission repeated an id or
    /// an idempotency key, or the handle comes from [`Client::handle`].
    #[must_use]
    pub fn created(&self) -> bool {
        self.created
    }

    /// Gets the current state of the task.
    ///
    /// # Errors
    /// If no node can be reached, or the task no longer exists.
    pub async fn task(&self) -> Result<Task, ClientError> {
        self.client.get_task(&self.id).await
    }

    /// Waits until the task has ended.
    ///
    /// # Errors
    /// If no node can be reached, or the task no longer exists.
    pub async fn ended(&self) -> Result<Task, ClientError> {
        self.client.wait_task(&self.id).await
    }

    /// Cancels the task. The worker of a running attempt is asked to stop it.
    ///
    /// # Errors
    /// If no node can be reached, or the task has ended with another status.
    pub async fn cancel(&self) -> Result<Task, ClientError> {
        self.client.cancel_task(&self.id).await
    }
}

impl<J: Job> TaskHandle<J> {
    /// Waits until the task has ended, and returns its result.
    ///
    /// # Errors
    /// See [`ResultError`]: the task failed, was cancelled or expired, its result has another type, or the
    /// task cannot be read.
    pub async fn result(&self) -> Result<J::Output, ResultError> {
        let task = self.client.wait_task(&self.id).await?;
        self.result_of(task).await
    }

    /// The same, with a timeout.
    ///
    /// # Errors
    /// As [`result`](Self::result), and [`ResultError::Timeout`].
    pub async fn result_within(&self, wait: Duration) -> Result<J::Output, ResultError> {
        let task = self.client.wait_task_for(&self.id, wait).await?;
        if !has_ended(&task) {
            let id = self.id.clone();
            return Err(ResultError::Timeout { id, waited: wait, status: task.status() });
        }
        self.result_of(task).await
    }

    async fn result_of(&self, ended: Task) -> Result<J::Output, ResultError> {
        let id = ended.id.clone();
        match ended.status() {
            TaskStatus::Completed => {}
            TaskStatus::Cancelled => return Err(ResultError::Cancelled { id }),
            TaskStatus::Expired => return Err(ResultError::Expired { id }),
            _ => {
                let error = ended.error.unwrap_or_default();
                let reason = error.reason();
                let attempt = ended.attempt;
                return Err(ResultError::Failed { id, reason, message: error.message, attempt });
            }
        }
        let result = self.client.get_result(&id).await?;
        // Without a result, the handler returned `()`, whose JSON is null.
        let json: &[u8] = if result.is_empty() { b"null" } else { &result };
        serde_json::from_slice(json).map_err(|error| ResultError::Mistyped {
            id,
            expected: std::any::type_name::<J::Output>(),
            source: Arc::new(error),
        })
    }
}
