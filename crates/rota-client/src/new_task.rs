//! Saying what is to be done.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rota_proto::v1;
use serde::Serialize;

/// A task to be done, built up step by step.
#[derive(Debug, Clone, Default)]
pub struct NewTask(pub(crate) v1::NewTask);

/// A task of that kind, in queue `default`, due now.
#[must_use]
pub fn task(kind: impl Into<String>) -> NewTask {
    NewTask(v1::NewTask { kind: kind.into(), ..v1::NewTask::default() })
}

/// An empty text was never another one than none, and stays so.
fn some(text: impl Into<String>) -> Option<String> {
    Some(text.into()).filter(|text| !text.is_empty())
}

impl NewTask {
    /// Where it waits.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.0.queue = some(queue);
        self
    }

    /// Parameters as JSON. A value that has no JSON form (a map with keys that are not texts, say)
    /// is a mistake of the program.
    ///
    /// # Panics
    /// When the value has no JSON form.
    #[must_use]
    pub fn payload_json<T: Serialize + ?Sized>(self, payload: &T) -> Self {
        let json = serde_json::to_vec(payload).expect("the payload has a JSON form");
        self.payload(json)
    }

    /// Parameters as bytes.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.0.payload = payload.into();
        self
    }

    /// A name of your own for the task, unique over all tasks. Makes creating it safe to repeat.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = some(id);
        self
    }

    /// A repeat with the same key and body returns the same task. Makes creating it safe to repeat.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.0.idempotency_key = some(key);
        self
    }

    /// A label, for people and filters.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.labels.insert(name.into(), value.into());
        self
    }

    /// A text for people, up to 256 characters.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.0.description = some(text);
        self
    }

    /// 0 to 9, higher first.
    #[must_use]
    pub fn priority(mut self, priority: u32) -> Self {
        self.0.priority = Some(priority);
        self
    }

    /// Not before.
    #[must_use]
    pub fn run_at(mut self, at: SystemTime) -> Self {
        self.0.run_at = Some(at.into());
        self
    }

    /// Not before that long from now, by the server's clock.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.0.delay = Some(delay.into());
        self
    }

    /// Not started by then: it expires.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.0.expires_at = Some(at.into());
        self
    }

    /// Longest time for one attempt.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = Some(timeout.into());
        self
    }

    /// Attempts before it fails for good.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.0.retry.get_or_insert_default().max_attempts = Some(attempts);
        self
    }

    /// Delays after failures: the first, their growth, the longest.
    #[must_use]
    pub fn backoff(mut self, initial: Duration, multiplier: f64, max: Duration) -> Self {
        let retry = self.0.retry.get_or_insert_default();
        retry.initial = Some(initial.into());
        retry.multiplier = Some(multiplier);
        retry.max = Some(max.into());
        self
    }

    /// How long it is kept when it has ended.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.0.retention = Some(retention.into());
        self
    }

    pub(crate) fn is_named(&self) -> bool {
        self.0.id.is_some() || self.0.idempotency_key.is_some()
    }
}

impl From<v1::NewTask> for NewTask {
    fn from(task: v1::NewTask) -> Self {
        Self(task)
    }
}
