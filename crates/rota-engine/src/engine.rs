//! The handle to a running coordinator.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    AttemptRecord, HeldLease, MachineLimits, Name, Priority, QueueCounts, Refusal, Report,
    Retention, SessionId, SessionView,
};
use rota_store::Store;
use tokio_util::sync::CancellationToken;

use crate::api::{
    BulkAction, BulkOutcome, Cursor, EngineError, Health, Info, LeaseRequest, LeasedTasks, NewTask,
    RunAt, SessionRequest, SessionStream, Submitted, TaskFilter, TaskPage, TaskRef, TaskView,
    WorkerRef,
};

/// How an engine is to run.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// This node's name.
    pub node: String,
    /// Bounds on what the machine holds.
    pub machine: MachineLimits,
    /// How long a stream worker may stay silent.
    pub session_ttl: Duration,
    /// How long finished tasks are kept.
    pub retention: Retention,
    /// Bytes of payloads kept in memory for tasks about to run.
    pub payload_cache_bytes: usize,
}

/// A running coordinator. Cheap to clone; all clones speak to the same one.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Starts the engine on the current runtime. It campaigns, loads the backlog, and serves until
    /// `stop` is cancelled; [`Engine::stopped`] then resolves once all is released.
    pub fn start(store: Arc<dyn Store>, options: EngineOptions, stop: CancellationToken) -> Self {
        todo!()
    }
    /// Resolves when the engine has stopped.
    pub async fn stopped(&self) {
        todo!()
    }

    /// Submits tasks, each for itself. Returns when those accepted are durable.
    pub async fn submit(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<Result<Submitted, Refusal>>, EngineError> {
        todo!()
    }
    /// One task with its payload. `None`: unknown.
    pub async fn task(&self, task: &TaskRef) -> Result<Option<TaskView>, EngineError> {
        todo!()
    }
    /// One task, once it has ended or `wait` is over.
    pub async fn wait(
        &self,
        task: &TaskRef,
        wait: Duration,
    ) -> Result<Option<TaskView>, EngineError> {
        todo!()
    }
    /// Tasks, newest first.
    pub async fn list(
        &self,
        filter: &TaskFilter,
        page_size: usize,
        after: Option<Cursor>,
    ) -> Result<TaskPage, EngineError> {
        todo!()
    }
    /// Asks for a task to be stopped.
    pub async fn cancel(&self, task: &TaskRef) -> Result<TaskView, EngineError> {
        todo!()
    }
    /// Makes an ended task pending again.
    pub async fn retry(&self, task: &TaskRef) -> Result<TaskView, EngineError> {
        todo!()
    }
    /// Sets when a waiting task is due.
    pub async fn reschedule(&self, task: &TaskRef, run_at: RunAt) -> Result<TaskView, EngineError> {
        todo!()
    }
    /// Sets a waiting task's priority.
    pub async fn set_priority(
        &self,
        task: &TaskRef,
        priority: Priority,
    ) -> Result<TaskView, EngineError> {
        todo!()
    }
    /// Removes an ended task.
    pub async fn delete(&self, task: &TaskRef) -> Result<(), EngineError> {
        todo!()
    }
    /// Does one thing to up to `limit` tasks that a filter selects.
    pub async fn bulk(
        &self,
        action: BulkAction,
        filter: &TaskFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<BulkOutcome, EngineError> {
        todo!()
    }
    /// A task's attempts, oldest first. `None`: unknown task.
    pub async fn attempts(
        &self,
        task: &TaskRef,
    ) -> Result<Option<Vec<AttemptRecord>>, EngineError> {
        todo!()
    }
    /// What a task's handler returned; empty for nothing. `None`: unknown task.
    pub async fn result(&self, task: &TaskRef) -> Result<Option<Bytes>, EngineError> {
        todo!()
    }

    /// All queues, by name.
    pub async fn queues(&self) -> Result<Vec<QueueCounts>, EngineError> {
        todo!()
    }
    /// Stops or restarts a queue. Durable.
    pub async fn set_paused(&self, queue: &Name, paused: bool) -> Result<QueueCounts, EngineError> {
        todo!()
    }
    /// All sessions, by worker's name.
    pub async fn workers(&self) -> Result<Vec<SessionView>, EngineError> {
        todo!()
    }
    /// Asks workers to drain. Empty: no such worker.
    pub async fn drain(&self, worker: &WorkerRef) -> Result<Vec<SessionView>, EngineError> {
        todo!()
    }

    /// Opens a session, or takes up one again.
    pub async fn open_session(
        &self,
        request: SessionRequest,
    ) -> Result<SessionStream, EngineError> {
        todo!()
    }
    /// A worker lives.
    pub async fn heartbeat(&self, session: SessionId) -> Result<(), EngineError> {
        todo!()
    }
    /// A worker is ready to hold that many tasks, those it holds included.
    pub async fn set_credit(&self, session: SessionId, credit: u32) -> Result<(), EngineError> {
        todo!()
    }
    /// A worker goes; what it held goes to others.
    pub async fn close_session(&self, session: SessionId) -> Result<(), EngineError> {
        todo!()
    }
    /// A worker reports, on many tasks at once. Returns when what was accepted is durable.
    pub async fn report(
        &self,
        reports: Vec<(HeldLease, Report)>,
    ) -> Result<Vec<Result<(), Refusal>>, EngineError> {
        todo!()
    }
    /// A worker without a stream asks for tasks. Cancel safe: tasks that a dropped call had been
    /// given are returned by the session's next call.
    pub async fn lease(&self, request: LeaseRequest) -> Result<LeasedTasks, EngineError> {
        todo!()
    }

    /// How it is. Answers at once.
    pub fn health(&self) -> Health {
        todo!()
    }
    /// About it. Answers at once.
    pub fn info(&self) -> Info {
        todo!()
    }
}
