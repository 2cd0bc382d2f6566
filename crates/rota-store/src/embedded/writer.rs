//! The writer thread: it takes requests in order, checks each against the fence and the head, and answers
//! when it is on disk. The keeper keeps the engine running.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Shared, election::Held, keeper::Keeper, options::LIMITS};
use crate::{
    model::{Batch, Epoch, Fence, Head, KEY_BYTES_MAX, Mutation, Revision, VALUE_BYTES_MAX},
    store::{Change, CommitError, StoreError},
};

/// Maximum number of queued requests. Further callers wait.
const QUEUE_MAX: usize = 64;
/// Interval at which an idle writer checks the disk and the engine.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

enum Request {
    Commit { fence: Fence, batch: Batch, reply: oneshot::Sender<Result<Revision, CommitError>> },
    Head { reply: oneshot::Sender<Result<Head, StoreError>> },
    Campaign { seat: OwnedSemaphorePermit, reply: oneshot::Sender<Result<Held, StoreError>> },
    Close { reply: oneshot::Sender<()> },
}

struct Queued {
    request: Request,
    /// Its slot in the queue, which is free again when the request is done.
    _place: Option<OwnedSemaphorePermit>,
}

/// A handle to the writer.
#[derive(Clone)]
pub(super) struct Requests {
    queue: mpsc::Sender<Queued>,
    places: Arc<Semaphore>,
}

impl Requests {
    pub(super) async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Commit { fence, batch, reply })
            .await
            .map_err(|Closed| CommitError::Unavailable(CLOSED.to_owned()))?;
        answer.await.unwrap_or_else(|_| Err(CommitError::Ambiguous("the writer ended".to_owned())))
    }

    /// The head after all earlier requests.
    pub(super) async fn head(&self) -> Result<Head, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Head { reply }).await.map_err(|Closed| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(super) async fn campaign(&self, seat: OwnedSemaphorePermit) -> Result<Held, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Campaign { seat, reply }).await.map_err(|Closed| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Asks the writer to end after all earlier requests. Resolves when it has released the directory. Does
    /// not wait for a slot in the queue.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (reply, closed) = oneshot::channel();
        // An error, or a dropped reply, means that the writer has ended.
        let _ = self.queue.send(Queued { request: Request::Close { reply }, _place: None });
        closed
    }

    async fn send(&self, request: Request) -> Result<(), Closed> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Closed)?;
        self.queue.send(Queued { request, _place: Some(place) }).map_err(|_| Closed)
    }
}

struct Closed;

const CLOSED: &str = "the store is closed";

fn closed() -> StoreError {
    StoreError::Unavailable(CLOSED.to_owned())
}

/// The state of the writer thread.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Keeper,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(self) -> Result<Requests, StoreError> {
        let (queue, requests) = mpsc::channel();
        let places = Arc::new(Semaphore::new(QUEUE_MAX));
        thread::Builder::new()
            .name("rota-store".to_owned())
            .spawn(move || self.run(&requests))
            .map_err(|error| StoreError::Open(format!("cannot start the writer: {error}")))?;
        Ok(Requests { queue, places })
    }

    fn run(mut self, requests: &mpsc::Receiver<Queued>) {
        // However this thread ends, no caller must still believe that it leads.
        let _over = Over(Arc::clone(&self.shared));
        let mut next_look = Instant::now() + CHECK_INTERVAL;
        let closed = loop {
            match requests.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(queued) => {
                    if let Some(closed) = self.serve(queued.request) {
                        break Some(closed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if Instant::now() >= next_look {
                self.keeper.maintain();
                next_look = Instant::now() + CHECK_INTERVAL;
            }
        };
        self.shared.end();
        self.keeper.close();
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    /// Processes a request. Returns whom to answer if it was the last one.
    fn serve(&mut self, request: Request) -> Option<oneshot::Sender<()>> {
        match request {
            Request::Commit { fence, batch, reply } => {
                self.shared.busy(true);
                let outcome = self.commit(fence, batch);
                self.shared.busy(false);
                // The caller's future may be dropped.
                let _ = reply.send(outcome);
            }
            Request::Head { reply } => {
                let _ = reply.send(self.keeper.settled_head().map_err(StoreError::from));
            }
            Request::Campaign { seat, reply } => {
                // If the caller is gone, this drops the leadership that it won.
                let _ = reply.send(self.campaign(seat));
            }
            Request::Close { reply } => return Some(reply),
        }
        None
    }

    fn commit(&mut self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.shared.election.admit(fence)?;
        let before = self.keeper.head();
        if !before.admits(fence.epoch, batch.seq) {
            return Err(CommitError::OutOfOrder { got: batch.seq, head: before });
        }
        self.check(&batch)?;
        let head = Head { epoch: fence.epoch, seq: batch.seq };
        self.keeper.write(&batch, head)?;
        let revision = Revision(head.seq.0);
        self.shared.landed(Change { revision, head, mutations: batch.mutations });
        Ok(revision)
    }

    /// Refuses a batch that exceeds a limit.
    fn check(&self, batch: &Batch) -> Result<(), CommitError> {
        let invalid = |why: String| Err(CommitError::Invalid(why));
        let (count, bytes) = (batch.mutations.len(), batch.bytes());
        if count > LIMITS.mutations_max {
            return invalid(format!("{count} mutations; the limit is {}", LIMITS.mutations_max));
        }
        if bytes > LIMITS.bytes_max {
            return invalid(format!("{bytes} bytes; the limit is {}", LIMITS.bytes_max));
        }
        for mutation in batch.mutations.iter() {
            let space = mutation.space().name;
            if !self.keeper.has_space(space) {
                return invalid(format!("the store was not opened with the space `{space}`"));
            }
            let key = mutation.key().len();
            if key == 0 || key > KEY_BYTES_MAX {
                return invalid(format!("a key of {key} bytes; it must have 1 to {KEY_BYTES_MAX}"));
            }
            if let Mutation::Put { value, .. } = mutation
                && value.len() > VALUE_BYTES_MAX
            {
                let length = value.len();
                return invalid(format!(
                    "a value of {length} bytes; the limit is {VALUE_BYTES_MAX}"
                ));
            }
        }
        Ok(())
    }

    fn campaign(&mut self, seat: OwnedSemaphorePermit) -> Result<Held, StoreError> {
        let epoch = Epoch(self.shared.election.epoch().0 + 1);
        self.keeper.write_epoch(epoch)?;
        Ok(self.shared.election.install(seat, epoch))
    }
}

/// Ends the store for its users when the writer thread ends, also by a panic.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.end();
    }
}
