//! Tests of handlers: gives a handler a task without a server or a session.
//!
//! ```
//! use rota_worker::{StopReason, testing::TestTask};
//!
//! # async fn example() {
//! let test = TestTask::new("resize").attempt(2).lease_token(7).begin();
//! let context = test.context();
//! context.progress("half of it");
//! assert_eq!(test.progress().as_deref(), Some("half of it"));
//! context.log("resized cat.png");
//! assert_eq!(test.output(), "resized cat.png\n");
//! test.stop(StopReason::Cancelled);
//! assert_eq!(context.stopped().await, StopReason::Cancelled);
//! # }
//! ```

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rota_proto::v1;
use rota_trace::TraceContext;
use tokio::sync::mpsc;

use crate::{
    context::{StopReason, TaskContext},
    event::Event,
};

/// A task for a test.
#[derive(Debug, Clone)]
pub struct TestTask {
    dispatch: v1::Dispatch,
}

impl TestTask {
    /// A task of this kind: the first of three attempts, lease token 1, a timeout of 30 minutes.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        let timeout = Duration::from_secs(30 * 60);
        let id = "t_00000000000001".to_owned();
        let dispatch = v1::Dispatch {
            task_id: id.clone(),
            shown_id: id,
            lease_token: 1,
            queue: "default".to_owned(),
            kind: kind.into(),
            attempt: 1,
            max_attempts: 3,
            ..v1::Dispatch::default()
        };
        Self { dispatch }.timeout(timeout)
    }

    /// Sets the id of the task.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.dispatch.shown_id = id.into();
        self
    }

    /// Sets the queue of the task.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.dispatch.queue = queue.into();
        self
    }

    /// Sets the number of the attempt.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.dispatch.attempt = attempt;
        self
    }

    /// Sets the fencing token.
    #[must_use]
    pub fn lease_token(mut self, token: u64) -> Self {
        self.dispatch.lease_token = token;
        self
    }

    /// Sets the timeout that the handler sees. It has no effect; a test calls [`stop`](TestAttempt::stop).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.dispatch.timeout = Some(timeout.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.dispatch.labels.insert(name.into(), value.into());
        self
    }

    /// Sets the trace context, as the headers `traceparent` and `tracestate`.
    #[must_use]
    pub fn trace(mut self, parent: impl Into<String>, state: impl Into<String>) -> Self {
        (self.dispatch.traceparent, self.dispatch.tracestate) =
            (Some(parent.into()), Some(state.into()));
        self
    }

    /// Makes the task one of a schedule, with the nominal time of its tick.
    #[must_use]
    pub fn tick(mut self, schedule: impl Into<String>, nominal_time: SystemTime) -> Self {
        let tick = self.dispatch.tick.get_or_insert_default();
        tick.schedule = schedule.into();
        tick.nominal_time = Some(nominal_time.into());
        self
    }

    /// Sets the nominal times of the tick before, and of the last one whose task completed.
    #[must_use]
    pub fn earlier_ticks(mut self, previous: SystemTime, last_success: SystemTime) -> Self {
        let tick = self.dispatch.tick.get_or_insert_default();
        tick.previous_time = Some(previous.into());
        tick.last_success_time = Some(last_success.into());
        self
    }

    /// Starts an attempt of the task.
    #[must_use]
    pub fn begin(self) -> TestAttempt {
        let (sender, events) = mpsc::unbounded_channel();
        let trace = TraceContext::parse(self.dispatch.traceparent(), self.dispatch.tracestate());
        let context = TaskContext::new(self.dispatch, "test".into(), trace, sender);
        TestAttempt { context, _events: events }
    }
}

/// An attempt under test.
#[derive(Debug)]
pub struct TestAttempt {
    context: TaskContext,
    // The messages to the session.
    _events: mpsc::UnboundedReceiver<Event>,
}

impl TestAttempt {
    /// The context for the handler.
    #[must_use]
    pub fn context(&self) -> TaskContext {
        self.context.clone()
    }

    /// Tells the handler to stop, like the worker.
    pub fn stop(&self, reason: StopReason) {
        self.context.stop(reason);
    }

    /// The output that the handler has logged, or the end of it.
    #[must_use]
    pub fn output(&self) -> Bytes {
        self.context.output().tail()
    }

    /// Takes the last progress message of the handler.
    #[must_use]
    pub fn progress(&self) -> Option<String> {
        self.context.take_progress()
    }
}
