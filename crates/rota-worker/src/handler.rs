//! What runs a task: functions of the user's, made alike.

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

/// What a handler returns when all went well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Kept with the task; empty for nothing.
    pub result: Bytes,
    /// The end of what was printed; shown with the attempt.
    pub output_tail: Bytes,
}

/// What a handler returns when it failed. Anything that is an error becomes one that is tried again.
#[derive(Debug, Clone)]
pub struct HandlerError {
    pub(crate) message: String,
    pub(crate) again: Again,
    pub(crate) output_tail: Bytes,
}

/// Whether a failed attempt is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// As the task's policy says.
    ByPolicy,
    /// At that time, if the task has attempts left.
    At(SystemTime),
    /// After that time, and no attempt of the task's budget is spent.
    Snoozed(Duration),
    /// No.
    Never,
}

impl HandlerError {
    /// The attempt failed; the task's policy says whether and when it is tried again.
    pub fn new(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { message, again: Again::ByPolicy, output_tail: Bytes::new() }
    }

    /// The attempt failed, and trying again is useless.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self { again: Again::Never, ..Self::new(message) }
    }

    /// The attempt failed, and is to be tried again at that time.
    pub fn retry_at(message: impl fmt::Display, at: SystemTime) -> Self {
        Self { again: Again::At(at), ..Self::new(message) }
    }

    /// The attempt failed, and is to be tried again that long from now.
    pub fn retry_after(message: impl fmt::Display, after: Duration) -> Self {
        Self::retry_at(message, SystemTime::now() + after)
    }

    /// Not now: the task waits for that long, and no attempt of its retry policy is spent. The
    /// policy's `max_snoozes` bounds how often.
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        let message = format!("snoozed for {delay:?}");
        Self { again: Again::Snoozed(delay), ..Self::new(message) }
    }

    /// How long the task is to wait, where the handler snoozed it.
    #[must_use]
    pub fn snoozed_for(&self) -> Option<Duration> {
        if let Again::Snoozed(delay) = self.again { Some(delay) } else { None }
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether trying again is useless.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.again == Again::Never
    }

    /// When to try again, where the handler said so.
    #[must_use]
    pub fn again_at(&self) -> Option<SystemTime> {
        if let Again::At(at) = self.again { Some(at) } else { None }
    }

    /// The end of what was printed.
    #[must_use]
    pub fn output_tail(&self) -> &Bytes {
        &self.output_tail
    }

    /// Adds the end of what was printed.
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

/// What a handler comes to.
pub(crate) type HandlerResult = Result<Done, HandlerError>;

/// A handler of any sort.
pub(crate) type Handler = Arc<
    dyn Fn(TaskContext, Bytes) -> Pin<Box<dyn Future<Output = HandlerResult> + Send>> + Send + Sync,
>;

/// A handler that takes and gives bytes.
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

/// The rest of the way of an attempt, in the hands of a [wrapper](crate::Builder::wrap): the inner wrappers and
/// the handler.
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

/// A handler that takes and gives values with a JSON form.
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
            // No payload is the same as null.
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
