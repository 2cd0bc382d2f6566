//! The context of a handler: its task, progress, and requests to stop.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use rota_proto::v1;
use rota_trace::TraceContext;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{event::Event, output::Output, tick::Tick};

/// Maximum bytes of a progress message.
const PROGRESS_BYTES: usize = 1024;

/// The reason to stop an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A client cancelled the task.
    Cancelled,
    /// The attempt exceeded its timeout.
    Timeout,
    /// This worker no longer holds the lease. The outcome of the handler is ignored.
    LeaseLost,
    /// The drain timeout of the worker is over. The task goes to another worker and loses no attempt.
    Draining,
}

/// The attempt that a handler runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    task: v1::Dispatch,
    worker: Arc<str>,
    trace: Option<TraceContext>,
    tick: Option<Tick>,
    stop: CancellationToken,
    reason: OnceLock<StopReason>,
    /// The last progress message, until the session takes it.
    progress: Mutex<Option<String>>,
    output: Output,
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
        let tick = task.tick.as_ref().map(|tick| Tick::of(tick, SystemTime::now()));
        let output = Output::default();
        let inner = Inner { task, worker, trace, tick, stop, reason, progress, output, events };
        Self { inner: Arc::new(inner) }
    }

    /// Id of the task, as clients see it.
    #[expect(clippy::misnamed_getters, reason = "handlers know one id: the one that clients see")]
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.inner.task.shown_id
    }

    /// Queue of the task.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.inner.task.queue
    }

    /// Kind of the task.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.inner.task.kind
    }

    /// Number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.inner.task.attempt
    }

    /// Maximum number of attempts.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.inner.task.max_attempts
    }

    /// Fencing token of the attempt. It grows with each attempt of a task. Pass it to the systems that the handler
    /// writes to, and have them refuse a smaller token than they have seen. Then an attempt that was paused and
    /// overtaken does no harm.
    #[must_use]
    pub fn lease_token(&self) -> u64 {
        self.inner.task.lease_token
    }

    /// Maximum duration of this attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let timeout = self.inner.task.timeout.unwrap_or_default();
        timeout.duration()
    }

    /// Value of a label of the task.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.inner.task.labels.get(name).map(String::as_str)
    }

    /// Name of this worker.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.inner.worker
    }

    /// Trace context of the attempt: the span that the worker writes of it, or the context that the client sent.
    /// `None` if the task belongs to no trace. Pass it on to the systems that the handler calls.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.inner.trace.as_ref()
    }

    /// Time at which the task was due.
    #[must_use]
    pub fn run_at(&self) -> SystemTime {
        let at = self.inner.task.run_at.unwrap_or_default();
        at.into()
    }

    /// Tick of the schedule that created the task: its nominal time, and what was before. `None` if no schedule did.
    #[must_use]
    pub fn tick(&self) -> Option<&Tick> {
        self.inner.tick.as_ref()
    }

    /// Reports progress, shown with the task. At most 1 KiB is kept. Call it as often as you like: a new message
    /// replaces one that was not sent yet.
    pub fn progress(&self, message: impl Into<String>) {
        let mut message = message.into();
        cut(&mut message, PROGRESS_BYTES);
        let mut said = self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if said.replace(message).is_none() {
            let task_id = self.inner.task.task_id.clone();
            let token = self.inner.task.lease_token;
            // A stopped worker accepts no more messages.
            let _ = self.inner.events.send(Event::Progress { task_id, token });
        }
    }

    /// Adds a line to the output of the attempt. The output can be followed while the attempt runs, with
    /// `rota task logs -f`, and its last 64 KiB are kept with the attempt.
    pub fn log(&self, line: impl AsRef<str>) {
        let line = line.as_ref();
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.write(&bytes);
    }

    /// Adds bytes to the output of the attempt, and tells the session if somebody listens.
    pub(crate) fn write(&self, bytes: &[u8]) {
        if self.inner.output.add(bytes) {
            let task_id = self.inner.task.task_id.clone();
            let token = self.inner.task.lease_token;
            // As in `progress`.
            let _ = self.inner.events.send(Event::Output { task_id, token });
        }
    }

    /// The output of the attempt.
    pub(crate) fn output(&self) -> &Output {
        &self.inner.output
    }

    /// Takes the last progress message.
    pub(crate) fn take_progress(&self) -> Option<String> {
        self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Resolves when the handler should stop.
    pub async fn stopped(&self) -> StopReason {
        self.inner.stop.cancelled().await;
        self.stop_reason().unwrap_or(StopReason::LeaseLost)
    }

    /// Reason why the handler should stop. `None` while it may continue.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.inner.reason.get().copied()
    }

    pub(crate) fn stop(&self, reason: StopReason) {
        // The first reason counts.
        let _ = self.inner.reason.set(reason);
        self.inner.stop.cancel();
    }

    pub(crate) fn dispatch(&self) -> &v1::Dispatch {
        &self.inner.task
    }
}

/// Cuts a text at a character boundary to a maximum number of bytes.
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
