//! The options of a new task, and the builder for tasks whose kind is not a Rust type.

use std::time::Duration;

use bytes::Bytes;
use rota_proto::v1;
use serde::Serialize;

/// A task to create, for kinds and payloads that are not Rust types. [`Client::submit`] builds one from a
/// [`Job`].
///
/// [`Client::submit`]: crate::Client::submit
/// [`Job`]: crate::Job
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct NewTask(pub(crate) v1::NewTask);

/// A task of this kind, in queue `default`, due now.
pub fn task(kind: impl Into<String>) -> NewTask {
    NewTask(v1::NewTask { kind: kind.into(), ..v1::NewTask::default() })
}

/// In the contract, an empty text means none.
pub(crate) fn some(text: impl Into<String>) -> Option<String> {
    Some(text.into()).filter(|text| !text.is_empty())
}

/// The options of a task, for each builder that describes tasks. The builder has a method `edit`, which can
/// apply the change to several tasks.
macro_rules! options {
    ([$($head:tt)*] $this:ident) => {
        /// Options of the task. The defaults of the server apply to options that are not set.
        $($head)* {
            /// Queue of the task. Default: `default`.
            pub fn queue(mut $this, queue: impl Into<String>) -> Self {
                let queue = $crate::new_task::some(queue);
                $this.edit(|task| task.queue.clone_from(&queue));
                $this
            }

            /// Adds a label, for people and filters.
            pub fn label(mut $this, name: impl Into<String>, value: impl Into<String>) -> Self {
                let (name, value) = (name.into(), value.into());
                $this.edit(|task| {
                    task.labels.insert(name.clone(), value.clone());
                });
                $this
            }

            /// Description for people, up to 256 characters.
            pub fn description(mut $this, text: impl Into<String>) -> Self {
                let text = $crate::new_task::some(text);
                $this.edit(|task| task.description.clone_from(&text));
                $this
            }

            /// Priority from 0 to 9. Tasks with a higher priority run first. Default: 5.
            pub fn priority(mut $this, priority: u32) -> Self {
                $this.edit(|task| task.priority = Some(priority));
                $this
            }

            /// Earliest start time. Default: now.
            pub fn run_at(mut $this, at: ::std::time::SystemTime) -> Self {
                $this.edit(|task| task.run_at = Some(at.into()));
                $this
            }

            /// Delay before the task is due, by the server's clock. Use it instead of `run_at`.
            pub fn delay(mut $this, delay: ::std::time::Duration) -> Self {
                $this.edit(|task| task.delay = Some(delay.into()));
                $this
            }

            /// Deadline for the start of the task. A task that has not started by then expires.
            pub fn expires_at(mut $this, at: ::std::time::SystemTime) -> Self {
                $this.edit(|task| task.expires_at = Some(at.into()));
                $this
            }

            /// Maximum duration of one attempt. Default: 30 min.
            pub fn timeout(mut $this, timeout: ::std::time::Duration) -> Self {
                $this.edit(|task| task.timeout = Some(timeout.into()));
                $this
            }

            /// Retry policy.
            pub fn retry(mut $this, retry: $crate::retry::Retry) -> Self {
                let policy = ::rota_proto::v1::RetryPolicy::from(retry);
                $this.edit(|task| task.retry = Some(policy));
                $this
            }

            /// Time to keep the task after it has ended. Default: 1 d when completed, 7 d otherwise.
            pub fn retention(mut $this, retention: ::std::time::Duration) -> Self {
                $this.edit(|task| task.retention = Some(retention.into()));
                $this
            }
        }
    };
}
pub(crate) use options;

/// The names of a task, which make its creation safe to repeat.
macro_rules! names {
    ([$($head:tt)*] $this:ident) => {
        /// Names of the task. With either of them, the client retries the submission after a lost answer.
        $($head)* {
            /// Your own id for the task, unique among all tasks.
            pub fn id(mut $this, id: impl Into<String>) -> Self {
                let id = $crate::new_task::some(id);
                $this.edit(|task| task.id.clone_from(&id));
                $this
            }

            /// Key that makes the submission safe to repeat. A repeat with the same key and content returns
            /// the same task.
            pub fn idempotency_key(mut $this, key: impl Into<String>) -> Self {
                let key = $crate::new_task::some(key);
                $this.edit(|task| task.idempotency_key.clone_from(&key));
                $this
            }
        }
    };
}
pub(crate) use names;

options! { [impl NewTask] self }
names! { [impl NewTask] self }

/// Parameters of the task, and short forms of parts of the retry policy.
impl NewTask {
    fn edit(&mut self, change: impl FnOnce(&mut v1::NewTask)) {
        change(&mut self.0);
    }

    /// Parameters as JSON. A value without a JSON form, such as a map whose keys are not strings, is a bug of
    /// the program.
    ///
    /// # Panics
    /// When the value has no JSON form.
    pub fn payload_json<T: Serialize + ?Sized>(self, payload: &T) -> Self {
        let json = serde_json::to_vec(payload).expect("the payload has a JSON form");
        self.payload(json)
    }

    /// Parameters as bytes.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.0.payload = payload.into();
        self
    }

    /// Maximum number of attempts. A short form of [`retry`](Self::retry) that keeps the rest of the policy.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.0.retry.get_or_insert_default().max_attempts = Some(attempts);
        self
    }

    /// Delays after failures: the first one, the factor of growth and the maximum. A short form of
    /// [`retry`](Self::retry) that keeps the rest of the policy.
    pub fn backoff(mut self, initial: Duration, multiplier: f64, max: Duration) -> Self {
        let retry = self.0.retry.get_or_insert_default();
        retry.initial = Some(initial.into());
        retry.multiplier = Some(multiplier);
        retry.max = Some(max.into());
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

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::retry::Retry;

    #[test]
    fn every_field_of_a_new_task_can_be_set() {
        let second = Duration::from_secs(1);
        let at: SystemTime = UNIX_EPOCH + second;
        let NewTask(built) = task("k")
            .id("mine")
            .queue("q")
            .payload("p")
            .label("l", "v")
            .description("about it")
            .priority(7)
            .run_at(at)
            .delay(second)
            .expires_at(at)
            .timeout(second)
            .retry(Retry::new().max_lost(1))
            .max_attempts(4)
            .idempotency_key("key")
            .retention(second);
        // All fields by name: a new one of the contract does not compile before it has a setter.
        let expected = v1::NewTask {
            id: Some("mine".to_owned()),
            queue: Some("q".to_owned()),
            kind: "k".to_owned(),
            payload: "p".into(),
            labels: [("l".to_owned(), "v".to_owned())].into(),
            description: Some("about it".to_owned()),
            priority: Some(7),
            run_at: Some(at.into()),
            delay: Some(second.into()),
            expires_at: Some(at.into()),
            timeout: Some(second.into()),
            retry: Some(v1::RetryPolicy {
                max_attempts: Some(4),
                max_lost: Some(1),
                ..v1::RetryPolicy::default()
            }),
            idempotency_key: Some("key".to_owned()),
            retention: Some(second.into()),
        };
        assert_eq!(built, expected);
    }
}
