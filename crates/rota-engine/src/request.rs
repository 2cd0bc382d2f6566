//! What enters the coordinator's inbox: the one door for clients, workers and retention.

use bytes::Bytes;
use rota_core::{Command, Machine, Refusal, Reply, TaskId};
use tokio::sync::{mpsc, oneshot};

use crate::api::{EngineError, NewTask, SessionEvent, Submitted};

/// What a command came to, or why it was not carried out.
pub(crate) type CommandResult = Result<Reply, Refusal>;

/// Something to be run when all that came before it is durable.
pub(crate) type Release = Box<dyn FnOnce() + Send>;

/// A question to the machine. Gives back what tells the asker, once the answer holds.
pub(crate) type Question = Box<dyn FnOnce(&Machine) -> Release + Send>;

/// Answers go back on these; a dropped one means that leadership was lost on the way.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, EngineError>>;

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
        events: mpsc::UnboundedSender<SessionEvent>,
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
