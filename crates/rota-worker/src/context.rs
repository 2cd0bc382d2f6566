//! What a handler knows of its task, and can say.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use rota_proto::v1;
use rota_trace::TraceContext;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::session::Event;

/// Bytes of a progress message.
const PROGRESS_BYTES: usize = 1024;

/// Why an attempt is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A client cancelled the task.
    Cancelled,
    /// The attempt took longer than its timeout.
    Timeout,
    /// The lease is no longer this worker's: whatever the handler returns is dropped.
    LeaseLost,
    /// The worker drains and its patience is over: the task goes to another worker.
    Draining,
}

/// A task in the hands of a handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    task: v1::Dispatch,
    worker: Arc<str>,
    trace: Option<TraceContext>,
    stop: CancellationToken,
    reason: OnceLock<StopReason>,
    /// What the handler last said and the session has not taken yet.
    progress: Mutex<Option<String>>,
    events: mpsc::UnboundedSender<Event>,
}

impl TaskContext {
    pub(crate) fn new(
        task: v1::Dispatch,
        worker: Arc<str>,
        trace: Option<TraceContext>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let stop = CancellationToken::new();
        let (reason, progress) = (OnceLock::new(), Mutex::default());
        Self { inner: Arc::new(Inner { task, worker, trace, stop, reason, progress, events }) }
    }

    /// The task's id, as its client sees it.
    #[expect(clippy::misnamed_getters, reason = "handlers know one id: the one that clients see")]
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.inner.task.shown_id
    }

    /// Where it waited.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.inner.task.queue
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.inner.task.kind
    }

    /// The number of this attempt: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.inner.task.attempt
    }

    /// Attempts that may fail before the task does.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.inner.task.max_attempts
    }

    /// The fencing token: a number that only grows for a task. Hand it to whatever the task writes
    /// to, and have that refuse a smaller one than it has seen: then an attempt that was paused and
    /// overtaken cannot do harm.
    #[must_use]
    pub fn lease_token(&self) -> u64 {
        self.inner.task.lease_token
    }

    /// Longest time for this attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let timeout = self.inner.task.timeout.unwrap_or_default();
        timeout.duration()
    }

    /// A label of the task.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.inner.task.labels.get(name).map(String::as_str)
    }

    /// This worker's name.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.inner.worker
    }

    /// Where the attempt belongs in a trace: under the span that the worker writes of it, or where
    /// the client said. `None`: the task belongs to no trace. Hand it on to whatever the handler calls.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.inner.trace.as_ref()
    }

    /// When the task was due.
    #[must_use]
    pub fn run_at(&self) -> std::time::SystemTime {
        let at = self.inner.task.run_at.unwrap_or_default();
        at.into()
    }

    /// Says how far the handler is; shown with the task. At most 1 KiB is kept. May be called as
    /// often as one likes: what is said before the last was sent replaces it.
    pub fn progress(&self, message: impl Into<String>) {
        let mut message = message.into();
        cut(&mut message, PROGRESS_BYTES);
        let mut said = self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if said.replace(message).is_none() {
            let task_id = self.inner.task.task_id.clone();
            let token = self.inner.task.lease_token;
            // A worker that has stopped takes no more words.
            let _ = self.inner.events.send(Event::Progress { task_id, token });
        }
    }

    /// What the handler last said, once.
    pub(crate) fn take_progress(&self) -> Option<String> {
        self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Resolves when the handler should stop; never for a task that may go on.
    pub async fn stopped(&self) -> StopReason {
        self.inner.stop.cancelled().await;
        self.stop_reason().unwrap_or(StopReason::LeaseLost)
    }

    /// Why the handler should stop, if it should.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.inner.reason.get().copied()
    }

    pub(crate) fn stop(&self, reason: StopReason) {
        // The first reason stands.
        let _ = self.inner.reason.set(reason);
        self.inner.stop.cancel();
    }

    pub(crate) fn dispatch(&self) -> &v1::Dispatch {
        &self.inner.task
    }
}

/// Cuts a text at a character's boundary, so that it has at most so many bytes.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, bytes_max, expected) in
            [("abc", 5, "abc"), ("abc", 3, "abc"), ("abc", 2, "ab"), ("aü", 2, "a"), ("ü", 1, "")]
        {
            let mut text = text.to_owned();
            cut(&mut text, bytes_max);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_handler_that_talks_all_the_time_leaves_one_message() {
        let (sender, mut events) = mpsc::unbounded_channel();
        let context = TaskContext::new(v1::Dispatch::default(), "w".into(), None, sender);
        for step in 0..10_000 {
            context.progress(format!("step {step}"));
        }
        assert_eq!(events.len(), 1);
        assert_eq!(context.take_progress().as_deref(), Some("step 9999"));
        context.progress("more");
        assert_eq!(events.len(), 2, "what was said after it was taken is told of again");
        assert!(events.try_recv().is_ok());
    }
}
