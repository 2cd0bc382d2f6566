//! What enters the coordinator's inbox: the one door for clients, workers and retention.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{AttemptOutcome, Command, Machine, Refusal, Reply, Report, TaskId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    api::{EngineError, NewTask, Submitted},
    down::{DownSender, size_of},
    fingerprint::Fingerprint,
};

/// What a command came to, or why it was not carried out.
pub(crate) type CommandResult = Result<Reply, Refusal>;

/// Something to be run when all that came before it is durable.
pub(crate) type Release = Box<dyn FnOnce() + Send>;

/// A question to the machine. Gives back what tells the asker, once the answer holds.
pub(crate) type Question = Box<dyn FnOnce(&Machine) -> Release + Send>;

/// An answer goes back on this; a dropped one means that leadership was lost on the way. It holds the
/// room that its request takes in memory, until the step in which it was carried out has landed.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    sender: oneshot::Sender<Result<T, EngineError>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl<T> Answer<T> {
    pub(crate) fn new(
        room: Option<OwnedSemaphorePermit>,
    ) -> (Self, oneshot::Receiver<Result<T, EngineError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, _room: room }, receiver)
    }

    /// Answers. One who no longer waits needs no answer.
    pub(crate) fn send(self, result: Result<T, EngineError>) -> Result<(), Result<T, EngineError>> {
        self.sender.send(result)
    }
}

/// Bytes of payloads and results that wait in the inbox or for their step to land. Room is taken
/// before a request goes into the inbox. New tasks and workers' reports have room of their own, so
/// that a flood of new tasks does not keep work from ending.
#[derive(Debug)]
pub(crate) struct Room {
    submissions: Arc<Semaphore>,
    reports: Arc<Semaphore>,
}

/// Bytes of requests of one sort.
const ROOM_BYTES: u32 = 64 << 20;

impl Default for Room {
    fn default() -> Self {
        let room = || Arc::new(Semaphore::new(ROOM_BYTES as usize));
        Self { submissions: room(), reports: room() }
    }
}

impl Room {
    /// Waits for room for new tasks. Cancel safe.
    pub(crate) async fn for_submissions(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        take(&self.submissions, bytes).await
    }

    /// Waits for room for reports. Cancel safe.
    pub(crate) async fn for_reports(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        take(&self.reports, bytes).await
    }
}

/// One request that is larger than all the room has it for itself.
async fn take(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(ROOM_BYTES);
    // It is never closed.
    room.clone().acquire_many_owned(bytes).await.ok()
}

/// A request with the fingerprint of each task that names itself.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) task: NewTask,
    pub(crate) fingerprint: Fingerprint,
}

/// What became of each task that was submitted.
pub(crate) type SubmitResults = Vec<Result<Submitted, Refusal>>;

/// An entry of the retention log, of which a request purges some tasks.
#[derive(Debug)]
pub(crate) struct PurgeEntry {
    pub(crate) key: Bytes,
    /// They are the last of its tasks, and none of the others has to be kept.
    pub(crate) is_last: bool,
}

pub(crate) enum Request {
    /// New tasks.
    Submit { tasks: Vec<Submission>, answer: Answer<SubmitResults> },
    /// Commands, carried out in order.
    Commands { commands: Vec<Command>, answer: Answer<Vec<CommandResult>> },
    /// A worker comes; what flows down to it goes into `events`.
    OpenSession {
        open: Box<rota_core::OpenSession>,
        events: DownSender,
        answer: Answer<CommandResult>,
    },
    /// Retention: remove these tasks of an entry of the log if their time is over. The answer says
    /// whether none has to be kept yet.
    Purge { tasks: Vec<TaskId>, entry: PurgeEntry, answer: Answer<bool> },
    /// The cluster may use this feature level from the next batch on, which is written for it alone if need be.
    RaiseLevel { level: u32, alone: bool },
    /// Someone wants to know.
    Query(Question),
    /// Another node is to get ready to take over. Answered when it can know.
    Prepare { successor: String, answer: Answer<()> },
    /// Leadership is to be handed over.
    Resign { successor: Option<String>, answer: Answer<()> },
}

impl Request {
    /// Says that this node does not lead, so that whoever asked goes to the one that does.
    pub(crate) fn refuse(self) {
        // One who no longer waits needs no answer.
        match self {
            Self::Submit { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Commands { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::OpenSession { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Purge { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Prepare { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Resign { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            // The next leader finds out for itself.
            Self::RaiseLevel { .. } => {}
            // The asker takes a dropped answer for this.
            Self::Query(question) => drop(question),
        }
    }

    /// Commands in it, and bytes that it may add to a batch beyond records of a fixed size.
    pub(crate) fn weight(&self) -> (usize, usize) {
        match self {
            Self::Submit { tasks, .. } => (
                tasks.len(),
                tasks.iter().map(|submission| submission.task.definition.payload.len()).sum(),
            ),
            Self::Commands { commands, .. } => {
                (commands.len(), commands.iter().map(bytes_of).sum())
            }
            Self::OpenSession { open, .. } => (1 + open.held.as_ref().map_or(0, Vec::len), 0),
            Self::Purge { tasks, .. } => (tasks.len(), 0),
            Self::Query(_)
            | Self::Prepare { .. }
            | Self::Resign { .. }
            | Self::RaiseLevel { .. } => (1, 0),
        }
    }

    /// Whether it is a worker's.
    pub(crate) fn is_workers(&self) -> bool {
        match self {
            Self::OpenSession { .. } => true,
            Self::Commands { commands, .. } => commands.iter().all(is_workers),
            _ => false,
        }
    }

    /// Whether nothing is lost when it is carried out a few milliseconds later: a worker's signs of
    /// life and its reports, unless they free what others wait for.
    pub(crate) fn can_wait(&self) -> bool {
        let commands = match self {
            Self::Commands { commands, .. } => commands,
            Self::RaiseLevel { .. } => return true,
            _ => return false,
        };
        let frees = |command: &Command| matches!(command, Command::CloseSession { .. });
        commands.iter().all(|command| is_workers(command) && !frees(command))
    }
}

/// Whether a worker, and nobody else, gives this command.
fn is_workers(command: &Command) -> bool {
    matches!(
        command,
        Command::Report { .. }
            | Command::Heartbeat { .. }
            | Command::SetCredit { .. }
            | Command::Detach { .. }
            | Command::CloseSession { .. }
    )
}

/// What a command adds to the batch beyond records of a fixed size.
pub(crate) fn bytes_of(command: &Command) -> usize {
    let (output_tail, outcome) = match command {
        Command::Report { report: Report::Ended { output_tail, outcome, .. }, .. } => {
            (output_tail, outcome)
        }
        Command::Edit { edit, .. } => return size_of(&edit.spec),
        _ => return 0,
    };
    let result = if let AttemptOutcome::Completed { result } = outcome { result.len() } else { 0 };
    output_tail.len() + result
}
