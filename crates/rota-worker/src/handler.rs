//! Handlers: the functions of users, behind a common interface.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use rota_client::Job;
use serde::{Serialize, de::DeserializeOwned};

use crate::context::TaskContext;

/// The outcome of a successful handler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Result of the task. Empty for none.
    pub result: Bytes,
    /// End of the output, shown with the attempt.
    pub output_tail: Bytes,
}

/// The error of a handler. Any error type converts to it, and is retried.
#[derive(Debug, Clone)]
pub struct HandlerError {
    pub(crate) message: String,
    pub(crate) again: Again,
    pub(crate) output_tail: Bytes,
}

/// Whether and when a failed attempt is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// By the policy of the task.
    ByPolicy,
    /// At this time, if the task has attempts left.
    At(SystemTime),
    /// After this time, without spending an attempt.
    Snoozed(Duration),
    /// Never.
    Never,
}

impl HandlerError {
    /// A failure. The policy of the task says whether and when Rota retries it.
    pub fn new(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { message, again: Again::ByPolicy, output_tail: Bytes::new() }
    }

    /// A failure that a retry cannot fix.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self { again: Again::Never, ..Self::new(message) }
    }

    /// A failure, with the time of the retry.
    pub fn retry_at(message: impl fmt::Display, at: SystemTime) -> Self {
        Self { again: Again::At(at), ..Self::new(message) }
    }

    /// A failure, with the delay of the retry from now.
    pub fn retry_after(message: impl fmt::Display, after: Duration) -> Self {
        Self::retry_at(message, SystemTime::now() + after)
    }

    /// Snoozes the task: it waits for this time, without spending an attempt of its retry policy. The policy
    /// limits this with `max_snoozes`.
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        let message = format!("snoozed for {delay:?}");
        Self { again: Again::Snoozed(delay), ..Self::new(message) }
    }

    /// The delay, if the handler snoozed the task.
    #[must_use]
    pub fn snoozed_for(&self) -> Option<Duration> {
        if let Again::Snoozed(delay) = self.again { Some(delay) } else { None }
    }

    /// The error message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether a retry cannot fix it.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.again == Again::Never
    }

    /// The time of the retry, if the handler set it.
    #[must_use]
    pub fn again_at(&self) -> Option<SystemTime> {
        if let Again::At(at) = self.again { Some(at) } else { None }
    }

    /// The end of what was printed.
    #[must_use]
    pub fn output_tail(&self) -> &Bytes {
        &self.output_tail
    }

    /// Adds the end of the output.
    #[must_use]
    pub fn with_output(mut self, output_tail: Bytes) -> Self {
        self.output_tail = output_tail;
        self
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::new(message)
    }
}

/// The outcome of a handler.
pub(crate) type HandlerResult = Result<Done, HandlerError>;

/// A handler of any type.
pub(crate) type Handler = Arc<
    dyn Fn(TaskContext, Bytes) -> Pin<Box<dyn Future<Output = HandlerResult> + Send>> + Send + Sync,
>;

/// A handler that takes and returns bytes.
pub(crate) fn raw<F, Fut>(handler: F) -> Handler
where
    F: Fn(TaskContext, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    Arc::new(move |context, payload| Box::pin(handler(context, payload)))
}

/// A handler of jobs.
pub(crate) fn job<J, F, Fut>(handler: F) -> Handler
where
    J: Job,
    F: Fn(J, TaskContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<J::Output, HandlerError>> + Send + 'static,
{
    typed(move |context, job| handler(job, context))
}

/// The rest of an attempt, for a [wrapper](crate::Builder::wrap): the inner wrappers and the handler.
pub struct Next {
    handler: Handler,
    payload: Bytes,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("payload_bytes", &self.payload.len()).finish_non_exhaustive()
    }
}

impl Next {
    /// Runs the handler, and returns its result as bytes.
    ///
    /// # Errors
    /// The error of the handler, or of an inner wrapper.
    pub async fn run(self, context: TaskContext) -> Result<Done, HandlerError> {
        (self.handler)(context, self.payload).await
    }

    /// Parameters of the task.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// A function around handlers.
pub(crate) type Wrapper = Box<dyn Fn(Handler) -> Handler + Send + Sync>;

/// Puts a function around handlers.
pub(crate) fn wrapper<F, Fut>(around: F) -> Wrapper
where
    F: Fn(TaskContext, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    let around = Arc::new(around);
    Box::new(move |handler| {
        let around = around.clone();
        raw(move |context, payload| around(context, Next { handler: handler.clone(), payload }))
    })
}

/// A handler that takes and returns values with a JSON form.
pub(crate) fn typed<P, R, F, Fut>(handler: F) -> Handler
where
    P: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(TaskContext, P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, HandlerError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    raw(move |context, payload: Bytes| {
        let handler = handler.clone();
        async move {
            // An absent payload is the same as null.
            let json: &[u8] = if payload.is_empty() { b"null" } else { &payload };
            let payload = serde_json::from_slice(json).map_err(|error| {
                HandlerError::permanent(format!("the payload does not fit the handler: {error}"))
            })?;
            let result = handler(context, payload).await?;
            let json = serde_json::to_vec(&result).map_err(|error| {
                HandlerError::permanent(format!("the result has no JSON form: {error}"))
            })?;
            let result = if json == b"null" { Bytes::new() } else { json.into() };
            Ok(Done { result, output_tail: Bytes::new() })
        }
    })
}
