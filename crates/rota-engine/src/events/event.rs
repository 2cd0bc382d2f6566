//! Events and their ids.

use std::{fmt, str::FromStr, sync::Arc};

use rota_core::{Failure, Name, Outcome, SessionId, Status, TaskId, WallTime, schedule_of};

/// The place of an event among all events of a leadership. Ids grow, also from one leadership to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId {
    /// The leadership.
    pub epoch: u64,
    /// The number of the batch that made the event durable.
    pub revision: u64,
    /// The number of the event in that batch.
    pub number: u32,
}

impl EventId {
    /// The id of an event of this batch after the event with this id.
    pub(crate) fn after(self, revision: u64) -> Self {
        if revision > self.revision {
            return Self { revision, number: 0, ..self };
        }
        Self { number: self.number.saturating_add(1), ..self }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.epoch, self.revision, self.number)
    }
}

/// The text is not the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of an event, such as 3-1207-0")]
pub struct EventIdError;

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        fn number<T: FromStr>(part: Option<&str>) -> Result<T, EventIdError> {
            // Parsing alone would accept a sign.
            let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(EventIdError)
        }
        let mut parts = text.split('-');
        let id = Self {
            epoch: number(parts.next())?,
            revision: number(parts.next())?,
            number: number(parts.next())?,
        };
        if parts.next().is_some() { Err(EventIdError) } else { Ok(id) }
    }
}

macro_rules! types {
    ($($(#[$doc:meta])* $kind:ident $word:literal;)*) => {
        /// The type of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventType {
            $($(#[$doc])* $kind,)*
        }

        impl EventType {
            /// All types.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The word for the type, as clients see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

types! {
    /// A client or a schedule created the task.
    TaskCreated "task.created";
    /// The task became due.
    TaskDue "task.due";
    /// The task was leased to a worker.
    TaskStarted "task.started";
    /// An attempt failed, and another one follows.
    TaskRetrying "task.retrying";
    /// The handler put the task off.
    TaskSnoozed "task.snoozed";
    /// The worker was lost. Another one gets the task.
    TaskLost "task.lost";
    /// A worker returned the task unprocessed.
    TaskReleased "task.released";
    /// A client changed the waiting task.
    TaskUpdated "task.updated";
    /// A client asked to cancel the running task.
    TaskCancelling "task.cancelling";
    /// The task completed.
    TaskCompleted "task.completed";
    /// The task failed.
    TaskFailed "task.failed";
    /// The task was cancelled.
    TaskCancelled "task.cancelled";
    /// The task expired.
    TaskExpired "task.expired";
    /// A client ran the ended task again.
    TaskRevived "task.revived";
    /// A client or retention deleted the ended task.
    TaskDeleted "task.deleted";
    /// A client paused the queue.
    QueuePaused "queue.paused";
    /// A client resumed the queue.
    QueueResumed "queue.resumed";
    /// A worker opened or resumed its session.
    WorkerConnected "worker.connected";
    /// The worker gets no more tasks.
    WorkerDraining "worker.draining";
    /// The worker closed its session.
    WorkerDisconnected "worker.disconnected";
    /// The session ended, because the worker was silent for its TTL.
    WorkerLost "worker.lost";
    /// A client created the schedule.
    ScheduleCreated "schedule.created";
    /// A client replaced the definition of the schedule.
    ScheduleUpdated "schedule.updated";
    /// A client deleted the schedule.
    ScheduleDeleted "schedule.deleted";
    /// The schedule was paused.
    SchedulePaused "schedule.paused";
    /// A client resumed the schedule.
    ScheduleResumed "schedule.resumed";
    /// A tick of the schedule was decided.
    ScheduleTick "schedule.tick";
}

impl EventType {
    /// The part of the word before the dot: `task`, `queue`, `worker` or `schedule`.
    #[must_use]
    pub fn group(self) -> &'static str {
        self.as_str().split_once('.').map_or("", |(group, _)| group)
    }
}

/// An event that is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: EventId,
    pub kind: EventType,
    /// Time at which the leader decided the change.
    pub at: WallTime,
    pub subject: Subject,
}

/// An event that is not durable yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub(crate) kind: EventType,
    pub(crate) at: WallTime,
    pub(crate) subject: Subject,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    Task(Box<TaskFacts>),
    Queue(QueueFacts),
    Worker(WorkerFacts),
    Schedule(Box<ScheduleFacts>),
}

/// A task after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFacts {
    pub id: TaskId,
    /// The id that its client or its schedule chose.
    pub client_id: Option<Name>,
    pub queue: Name,
    pub kind: Name,
    pub status: Status,
    pub priority: u8,
    /// The number of the attempt that the change is about, or of the last one.
    pub attempt: u32,
    pub run_at: WallTime,
    /// The worker of the attempt.
    pub worker: Option<Name>,
    pub finished_at: Option<WallTime>,
    /// Why the attempt or the task failed. The message has up to [`TaskFacts::MESSAGE_BYTES_MAX`] bytes.
    pub failure: Option<Failure>,
    pub has_result: bool,
    /// Whether a tick of a schedule created the task.
    pub(crate) by_tick: bool,
    /// Parts of the definition, for events that write it.
    pub spec: Option<Arc<SpecFacts>>,
}

impl TaskFacts {
    /// Maximum bytes of the message of a failure.
    pub const MESSAGE_BYTES_MAX: usize = 256;

    /// The id that clients see: their own, if they chose one.
    #[must_use]
    pub fn shown_id(&self) -> String {
        self.client_id.as_ref().map_or_else(|| self.id.to_string(), Name::to_string)
    }

    /// The schedule that created the task, as far as the event tells. Later events of a task that a client
    /// triggered do not.
    #[must_use]
    pub fn schedule(&self) -> Option<&str> {
        match &self.spec {
            Some(spec) => spec.schedule.as_deref(),
            None => self.client_id.as_ref().filter(|_| self.by_tick).and_then(schedule_of),
        }
    }
}

/// Parts of the definition of a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecFacts {
    pub labels: Vec<(Name, Box<str>)>,
    /// The schedule that created the task.
    pub schedule: Option<Name>,
}

impl SpecFacts {
    /// Bytes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value)| 64 + name.len() + value.len());
        64 + labels.sum::<usize>()
    }
}

/// A queue after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFacts {
    pub queue: Name,
}

/// The session of a worker after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerFacts {
    pub worker: Name,
    pub session: SessionId,
    /// Number of tasks that it held when its session ended.
    pub tasks: Option<u32>,
}

/// A schedule after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFacts {
    pub schedule: Name,
    /// Number of the definition, if the change wrote it.
    pub version: Option<u32>,
    /// The tick that was decided.
    pub tick: Option<TickFacts>,
}

/// A decided tick.
#[derive(Debug, Clone, PartialEq)]
pub struct TickFacts {
    pub nominal: WallTime,
    pub outcome: Outcome,
    /// The id of the task that it created, as clients see it.
    pub task: Option<Name>,
}

impl Event {
    /// Bytes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let more = match &self.subject {
            Subject::Task(task) => {
                let message = task.failure.as_ref().map_or(0, |failure| failure.message.len());
                let name = task.client_id.as_ref().map_or(0, |name| name.len());
                let spec = task.spec.as_ref().map_or(0, |spec| spec.bytes());
                size_of::<TaskFacts>() + message + name + spec
            }
            Subject::Schedule(facts) => size_of::<ScheduleFacts>() + facts.schedule.len(),
            Subject::Queue(_) | Subject::Worker(_) => 0,
        };
        // The counts of the shared pointer, and the place in the ring.
        size_of::<Self>() + 24 + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = EventId { epoch: 3, revision: u64::MAX, number: 7 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "3",
            "3-4",
            "3-4-5-6",
            "3--5",
            "-3-4-5",
            "+3-4-5",
            "3-4- 5",
            "3-4-5\0",
            "3-4-4294967296",
            "18446744073709551616-1-1",
            "٣-4-5",
        ] {
            assert_eq!(wrong.parse::<EventId>(), Err(EventIdError), "{wrong:?}");
        }
    }

    #[test]
    fn ids_grow() {
        let first = EventId { epoch: 1, revision: 5, number: 2 };
        assert_eq!(first.after(5).to_string(), "1-5-3");
        assert_eq!(first.after(9).to_string(), "1-9-0");
        assert!(first < first.after(4) && first.after(5) < first.after(6));
    }

    #[test]
    fn labels_count_with_their_bytes() {
        let labels = vec![(Name::new("region").expect("a name"), "eu-central".into())];
        let facts = SpecFacts { labels, schedule: None };
        assert_eq!(facts.bytes(), 64 + 64 + "region".len() + "eu-central".len());
    }

    #[test]
    fn each_type_has_its_word() {
        let words: std::collections::BTreeSet<_> =
            EventType::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), EventType::ALL.len());
        assert!(EventType::ALL.iter().all(|kind| !kind.group().is_empty()));
    }
}
