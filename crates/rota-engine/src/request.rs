//! Requests in the coordinator's inbox, from clients, workers and retention.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{AttemptOutcome, Command, Machine, Name, Refusal, Reply, Report, TaskCommand};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    api::{EngineError, NewTask, Submitted},
    codec::Expiring,
    down::{DownSender, size_of, size_of_schedule},
    fingerprint::Fingerprint,
    memory::{Account, Accounted},
    planted::Planted,
};

/// The reply to a command, or why it was not carried out.
pub(crate) type CommandResult = Result<Reply, Refusal>;

/// A function to run when everything before it is durable.
pub(crate) type Release = Box<dyn FnOnce() + Send>;

/// A read of the machine. Returns a function that passes the answer on when it is valid.
pub(crate) type Question = Box<dyn FnOnce(&Machine) -> Release + Send>;

/// Sends the answer. If it is dropped, leadership was lost. It holds the memory of its request until the step
/// is durable.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    sender: oneshot::Sender<Result<T, EngineError>>,
    _room: Option<Held>,
}

impl<T> Answer<T> {
    pub(crate) fn new(room: Option<Held>) -> (Self, oneshot::Receiver<Result<T, EngineError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, _room: room }, receiver)
    }

    /// Whether the caller no longer waits for the answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends the answer. The caller may no longer wait for it.
    pub(crate) fn send(self, result: Result<T, EngineError>) -> Result<(), Result<T, EngineError>> {
        self.sender.send(result)
    }
}

/// The memory that a request holds.
#[derive(Debug)]
pub(crate) struct Held {
    _bytes: Accounted,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The memory budget for payloads and results that wait in the inbox or for their step. Memory is taken
/// before a request goes into the inbox. New tasks and reports of workers have separate budgets, so that many
/// new tasks cannot block reports.
#[derive(Debug)]
pub(crate) struct Room {
    submissions: Budget,
    reports: Budget,
}

impl Room {
    /// Each budget has this many bytes.
    pub(crate) fn new(bytes_max: u32) -> Self {
        Self { submissions: Budget::new(bytes_max), reports: Budget::new(bytes_max) }
    }

    /// Waits for memory for new tasks. Cancel safe.
    pub(crate) async fn for_submissions(&self, bytes: usize) -> Held {
        self.submissions.take(bytes).await
    }

    /// Waits for memory for reports. Cancel safe.
    pub(crate) async fn for_reports(&self, bytes: usize) -> Held {
        self.reports.take(bytes).await
    }

    /// The most bytes that new tasks have held, and reports.
    pub(crate) fn most(&self) -> (usize, usize) {
        (self.submissions.account.most(), self.reports.account.most())
    }
}

/// The budget for requests of one kind.
#[derive(Debug)]
struct Budget {
    free: Arc<Semaphore>,
    bytes_max: u32,
    account: Arc<Account>,
}

impl Budget {
    fn new(bytes_max: u32) -> Self {
        let free = Arc::new(Semaphore::new(bytes_max as usize));
        Self { free, bytes_max, account: Arc::default() }
    }

    /// A request that is larger than the budget gets all of it.
    async fn take(&self, bytes: usize) -> Held {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        let permit = if Planted::TakesWithoutRoom.is_made() {
            None
        } else {
            // The semaphore is never closed.
            self.free.clone().acquire_many_owned(bytes).await.ok()
        };
        Held { _bytes: Accounted::new(&self.account, bytes as usize), _permit: permit }
    }
}

/// A submission with the fingerprint of each task that has names.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) task: NewTask,
    pub(crate) fingerprint: Fingerprint,
}

/// The result for each submitted task.
pub(crate) type SubmitResults = Vec<Result<Submitted, Refusal>>;

/// An entry of the retention log, of which a request removes some tasks.
#[derive(Debug)]
pub(crate) struct PurgeEntry {
    pub(crate) key: Bytes,
    /// Whether they are the last of its tasks, and all others are removed.
    pub(crate) is_last: bool,
}

/// What a request of retention came to.
#[derive(Debug, Default)]
pub(crate) struct Purged {
    /// Whether all but those that are left were removed.
    pub(crate) all: bool,
    /// Those that it did not come to, because there was much to remove.
    pub(crate) left: Expiring,
}

pub(crate) enum Request {
    /// New tasks.
    Submit { tasks: Vec<Submission>, answer: Answer<SubmitResults> },
    /// Commands, carried out in order.
    Commands { commands: Vec<Command>, answer: Answer<Vec<CommandResult>> },
    /// Opens or resumes a session. Messages to its worker go into `events`.
    OpenSession {
        open: Box<rota_core::OpenSession>,
        events: DownSender,
        answer: Answer<CommandResult>,
    },
    /// Retention: removes these tasks and ticks of an entry of the log if their time is over.
    Purge { expiring: Expiring, entry: PurgeEntry, answer: Answer<Purged> },
    /// Creates a task of a schedule now.
    Trigger { schedule: Name, answer: Answer<CommandResult> },
    /// Raises the feature level of the cluster with the next batch, which is written only for this if
    /// necessary.
    RaiseLevel { level: u32, alone: bool },
    /// A read.
    Query(Question),
    /// Asks another node to prepare to take over. Answered when the request is durable.
    Prepare { successor: String, answer: Answer<()> },
    /// Transfers leadership.
    Resign { successor: Option<String>, answer: Answer<()> },
}

impl Request {
    /// Answers that this node is not the leader, so that the caller goes to the leader.
    pub(crate) fn refuse(self) {
        // The caller may no longer wait for the answer.
        match self {
            Self::Submit { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Commands { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::OpenSession { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Trigger { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Purge { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Prepare { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            Self::Resign { answer, .. } => drop(answer.send(Err(EngineError::NotLeader))),
            // The next leader checks this itself.
            Self::RaiseLevel { .. } => {}
            // A dropped answer means the same.
            Self::Query(question) => drop(question),
        }
    }

    /// The number of commands in it, and the bytes that it can add to a batch in addition to records of fixed
    /// size.
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
            Self::Purge { expiring, .. } => (expiring.len(), 0),
            Self::Query(_)
            | Self::Trigger { .. }
            | Self::Prepare { .. }
            | Self::Resign { .. }
            | Self::RaiseLevel { .. } => (1, 0),
        }
    }

    /// Whether it comes from a worker.
    pub(crate) fn is_workers(&self) -> bool {
        match self {
            Self::OpenSession { .. } => true,
            Self::Commands { commands, .. } => commands.iter().all(is_workers),
            _ => false,
        }
    }

    /// Whether it can be carried out a few milliseconds later: heartbeats and reports, unless they free slots
    /// for which tasks wait.
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

/// Whether only workers give this command.
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

/// The bytes that a command adds to the batch in addition to records of fixed size.
pub(crate) fn bytes_of(command: &Command) -> usize {
    let (output_tail, outcome) = match command {
        Command::Report { report: Report::Ended { output_tail, outcome, .. }, .. } => {
            (output_tail, outcome)
        }
        Command::Task { command: TaskCommand::Edit(edit), .. } => return size_of(&edit.spec),
        Command::PutSchedule(put) => return size_of_schedule(&put.record.definition),
        _ => return 0,
    };
    let result = if let AttemptOutcome::Completed { result } = outcome { result.len() } else { 0 };
    output_tail.len() + result
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use rota_core::{Credit, LeaseId, LeaseToken, Millis, OpenSession, SessionId, TaskId};

    use super::*;
    use crate::down;

    #[test]
    fn a_worker_that_comes_back_weighs_as_much_as_it_holds() {
        let held = (1..=3).map(|at| LeaseId { task: TaskId::MAX, token: LeaseToken(at) }).collect();
        let open = Box::new(OpenSession {
            session: SessionId(1),
            worker: Name::new("w").expect("a name"),
            queues: Vec::new(),
            kinds: Vec::new(),
            slots: 3,
            credit: Credit::Hold(3),
            ttl: Millis(1000),
            connection: 1,
            held: Some(held),
        });
        let (events, _kept) = down::channel(&Arc::default(), true, false);
        let (answer, _answered) = Answer::new(None);
        let request = Request::OpenSession { open, events, answer };
        assert_eq!(request.weight(), (4, 0));
        assert!(request.is_workers() && !request.can_wait());
    }

    #[tokio::test]
    async fn memory_is_held_until_the_answer_is_gone_and_never_more_than_there_is() {
        let room = Room::new(100);
        let first = room.for_submissions(60).await;
        let report = room.for_reports(100).await;
        let second = room.for_submissions(60);
        let mut second = std::pin::pin!(second);
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending(), "there are 40 left");
        let (answer, _answered) = Answer::<()>::new(Some(first));
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(answer);
        drop(second.await);
        // One that is larger than all of it gets all of it.
        drop(room.for_submissions(1000).await);
        drop(report);
        assert_eq!(room.most(), (100, 100));
    }
}
