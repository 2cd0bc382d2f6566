//! What clients and workers say to a world, in few words.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use rustc_hash::FxHasher;

use super::world::{TTL, World};
use crate::{
    Assignment, AttemptOutcome, ClientKeys, Command, Credit, Definition, Failure, FailureReason,
    Name, OpenSession, Policy, Priority, Refusal, Reply, Report, SessionId, Submit, TaskCommand,
    TaskId, TaskSpec, WallTime,
};

/// A task to be submitted.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) queue: Name,
    pub(super) kind: Name,
    pub(super) priority: u32,
    pub(super) delay: i64,
    pub(super) expires_in: Option<i64>,
    pub(super) policy: Policy,
    pub(super) client_keys: ClientKeys,
    pub(super) body: u64,
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Task {
    pub(super) fn new(queue: &str, kind: &str) -> Self {
        Self {
            queue: name(queue),
            kind: name(kind),
            priority: 5,
            delay: 0,
            expires_in: None,
            policy: Policy::default(),
            client_keys: ClientKeys::default(),
            body: 0,
        }
    }

    pub(super) fn priority(self, priority: u32) -> Self {
        Self { priority, ..self }
    }

    pub(super) fn delay(self, delay: i64) -> Self {
        Self { delay, ..self }
    }

    pub(super) fn expires_in(self, span: i64) -> Self {
        Self { expires_in: Some(span), ..self }
    }

    pub(super) fn policy(self, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = self.policy;
        change(&mut policy);
        Self { policy, ..self }
    }

    pub(super) fn id(self, id: &str) -> Self {
        let client_keys = ClientKeys { id: Some(name(id)), ..self.client_keys };
        Self { client_keys, ..self }
    }

    pub(super) fn key(self, key: &str) -> Self {
        let client_keys = ClientKeys { key: Some(key.into()), ..self.client_keys };
        Self { client_keys, ..self }
    }

    pub(super) fn body(self, body: u64) -> Self {
        Self { body, ..self }
    }
}

pub(super) fn failed(message: &str) -> AttemptOutcome {
    let failure = Failure::new(FailureReason::Error, message);
    AttemptOutcome::Failed { failure, retry_at: None }
}

pub(super) fn completed() -> AttemptOutcome {
    AttemptOutcome::Completed { result: Bytes::new() }
}

pub(super) fn ended(outcome: AttemptOutcome) -> Report {
    Report::Ended { started_at: None, output_tail: Bytes::new(), outcome }
}

/// The hash of all that a report says.
pub(super) fn fingerprint(report: &Report) -> u64 {
    let mut hasher = FxHasher::default();
    format!("{report:?}").hash(&mut hasher);
    hasher.finish()
}

/// Whether it ends the lease.
pub(super) fn is_end(report: &Report) -> bool {
    matches!(report, Report::Ended { .. } | Report::Released)
}

/// A worker's report.
pub(super) fn reported(lease: Assignment, report: Report, random: u64) -> Command {
    let (Assignment { task, token, .. }, fingerprint) = (lease, fingerprint(&report));
    Command::Report { task, token, report, fingerprint, random, stored: None }
}

impl World {
    pub(super) fn submission(&mut self, task: Task) -> Command {
        let id = self.ids.next(self.now.wall);
        let at = |span: i64| WallTime((self.now.wall.0 + span).max(1));
        let definition = Definition {
            expires_at: task.expires_in.map(at),
            policy: task.policy,
            ..Definition::new(task.queue, task.kind)
        };
        let spec = TaskSpec {
            client_keys: task.client_keys,
            fingerprint: task.body,
            ..TaskSpec::new(id, definition, self.now.wall)
        };
        Command::Submit(Box::new(Submit {
            spec: Arc::new(spec),
            priority: Priority::new(task.priority).unwrap(),
            run_at: at(task.delay),
            key_owners: crate::KeyOwners::default(),
        }))
    }

    pub(super) fn try_submit(&mut self, task: Task) -> Result<(TaskId, bool), Refusal> {
        let command = self.submission(task);
        match self.apply(command)? {
            Reply::Submitted { task, created } => Ok((task, created)),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn submit(&mut self, task: Task) -> TaskId {
        self.try_submit(task).unwrap().0
    }

    pub(super) fn cancel(&mut self, task: TaskId) -> Result<Reply, Refusal> {
        self.apply(TaskCommand::Cancel.on(task))
    }

    pub(super) fn retry(&mut self, task: TaskId) -> Result<Reply, Refusal> {
        self.apply(TaskCommand::Retry { spec: None }.on(task))
    }

    pub(super) fn delete(&mut self, task: TaskId) -> Result<Reply, Refusal> {
        self.apply(TaskCommand::Delete.on(task))
    }

    pub(super) fn reschedule(&mut self, task: TaskId, delay: i64) -> Result<Reply, Refusal> {
        let run_at = WallTime((self.now.wall.0 + delay).max(1));
        self.apply(TaskCommand::Reschedule { run_at }.on(task))
    }

    pub(super) fn pause(&mut self, queue: &str, paused: bool) {
        self.apply(Command::PauseQueue { queue: name(queue), pause: paused.then(Box::default) })
            .unwrap();
    }

    /// A worker that comes for the first time.
    pub(super) fn opening(&mut self, slots: u32, queues: &[&str], kinds: &[&str]) -> OpenSession {
        self.sessions_opened += 1;
        OpenSession {
            session: SessionId(self.sessions_opened),
            worker: name(&format!("w{}", self.sessions_opened)),
            queues: queues.iter().map(|text| name(text)).collect(),
            kinds: kinds.iter().map(|text| name(text)).collect(),
            slots,
            credit: Credit::Hold(u32::MAX),
            ttl: TTL,
            connection: 0,
            held: Some(Vec::new()),
        }
    }

    pub(super) fn open(&mut self, slots: u32, queues: &[&str], kinds: &[&str]) -> SessionId {
        let opening = self.opening(slots, queues, kinds);
        let session = opening.session;
        self.apply(Command::OpenSession(Box::new(opening))).unwrap();
        session
    }

    pub(super) fn heartbeat(&mut self, session: SessionId) {
        self.apply(Command::Heartbeat { session, connection: None, at: self.now.mono }).unwrap();
    }

    pub(super) fn report(&mut self, lease: Assignment, report: Report) -> Result<Reply, Refusal> {
        self.apply(reported(lease, report, u64::MAX))
    }

    pub(super) fn end(&mut self, lease: Assignment, outcome: AttemptOutcome) {
        self.report(lease, ended(outcome)).unwrap();
    }
}
