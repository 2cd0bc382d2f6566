//! What enters the coordinator's inbox: the one door for clients, workers and retention.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{Command, Machine, Outcome, Refusal, Reply, Report, TaskId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    api::{EngineError, NewTask, Submitted},
    down::DownSender,
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
    pub(crate) fingerprint: u64,
}

/// What became of each task that was submitted.
pub(crate) type SubmitResults = Vec<Result<Submitted, Refusal>>;

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
    /// Retention: remove these tasks if their time is over, and with them the log's entries.
    Purge { tasks: Vec<TaskId>, entries: Vec<Bytes>, answer: Answer<()> },
    /// Someone wants to know.
    Look(Question),
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
            Self::Purge { answer, .. } | Self::Resign { answer, .. } => {
                drop(answer.send(Err(EngineError::NotLeader)));
            }
            // The asker takes a dropped answer for this.
            Self::Look(question) => drop(question),
        }
    }

    /// Whether nothing is lost when it is carried out a few milliseconds later: a worker's signs of
    /// life and its reports, unless they free what others wait for.
    pub(crate) fn can_wait(&self) -> bool {
        let Self::Commands { commands, .. } = self else { return false };
        commands.iter().all(|command| {
            matches!(
                command,
                Command::Report { .. }
                    | Command::Heartbeat { .. }
                    | Command::SetCredit { .. }
                    | Command::Detach { .. }
            )
        })
    }
}

/// What a command adds to the batch beyond records of a fixed size.
pub(crate) fn bytes_of(command: &Command) -> usize {
    let Command::Report { report: Report::Ended { output_tail, outcome, .. }, .. } = command else {
        return 0;
    };
    let result = if let Outcome::Completed { result } = outcome { result.len() } else { 0 };
    output_tail.len() + result
}
