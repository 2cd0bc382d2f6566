//! The background work of a store: its tasks, a thread for those that no load of the process must delay (the lease, the
//! election, the observation of the leader), and the trouble that operators are to hear of.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    model::{Epoch, Revision},
    store::{CommitError, StoreError},
};

/// Time for tasks to end after `stop`.
const ENDING: Duration = Duration::from_secs(3);

/// Time that closing waits for requests in flight.
const CLOSING: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Background {
    /// The runtime of the control thread.
    pub(crate) control: Handle,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the store closes.
    pub(crate) stop: CancellationToken,
    trouble: Mutex<Trouble>,
}

/// Why the last commit or campaign failed.
#[derive(Default)]
struct Trouble {
    /// The leadership of this store. Commits of others say nothing about the store: one can end long after its leadership,
    /// when the next campaign has found the store well.
    leads: Option<Epoch>,
    reason: Option<String>,
}

impl Background {
    /// Starts the control thread. It ends when the store has stopped and all tasks have ended, or a few seconds have
    /// passed.
    pub(crate) fn start(backend: &str) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::Open(format!("cannot start the control thread of {backend}: {error}"))
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let control = runtime.handle().clone();
        let work = {
            let (stop, tasks) = (stop.clone(), tasks.clone());
            async move {
                stop.cancelled().await;
                // Tasks that do not end in time are dropped with the runtime.
                let _ = timeout(ENDING, tasks.wait()).await;
            }
        };
        thread::Builder::new()
            .name(format!("rota-{backend}"))
            .spawn(move || runtime.block_on(work))
            .map_err(failed)?;
        Ok(Self { control, tasks, stop, trouble: Mutex::default() })
    }

    /// Starts a task on the control thread.
    pub(crate) fn spawn_control(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.control);
    }

    /// Tells all tasks to end.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Waits a while for the tasks that were told to end.
    pub(crate) async fn ended(&self) {
        if timeout(CLOSING, self.tasks.wait()).await.is_err() {
            tracing::debug!("closed the store with requests in flight");
        }
    }

    /// Fails once the store has been closed.
    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        if self.stop.is_cancelled() { Err(closed()) } else { Ok(()) }
    }

    /// Records that this store leads. Earlier problems are over.
    pub(crate) fn begin(&self, epoch: Epoch) {
        *self.lock() = Trouble { leads: Some(epoch), reason: None };
    }

    /// Records that the leadership is over.
    pub(crate) fn end(&self, epoch: Epoch) {
        let mut trouble = self.lock();
        trouble.leads = trouble.leads.filter(|leads| *leads != epoch);
    }

    /// Records the outcome of a commit of that leadership.
    pub(crate) fn note_commit(&self, epoch: Epoch, outcome: &Result<Revision, CommitError>) {
        let mut trouble = self.lock();
        if trouble.leads != Some(epoch) {
            return;
        }
        match outcome {
            // A batch that was already applied gets this answer, so the store works.
            Ok(_) | Err(CommitError::OutOfOrder { .. }) => trouble.reason = None,
            Err(
                error @ (CommitError::Full(_)
                | CommitError::Unavailable(_)
                | CommitError::Ambiguous(_)
                | CommitError::Corrupt(_)),
            ) => trouble.reason = Some(error.to_string()),
            Err(_) => {}
        }
    }

    /// Records why the last campaign failed, or that none did.
    pub(crate) fn note_campaign(&self, reason: Option<String>) {
        self.lock().reason = reason;
    }

    /// Why the last commit or campaign failed, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of calls after the end.
pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_outlives_its_leadership_says_nothing_about_the_store() {
        let background = Background::start("test").expect("a thread");
        let (first, second) = (Epoch(1), Epoch(2));
        let fails = || Err(CommitError::Ambiguous("no answer".to_owned()));
        background.begin(first);
        background.note_commit(first, &fails());
        assert!(background.trouble().is_some());
        background.end(first);
        // The next campaign finds the store well.
        background.note_campaign(None);
        background.note_commit(first, &fails());
        assert_eq!(background.trouble(), None);
        background.begin(second);
        background.end(first);
        background.note_commit(first, &fails());
        assert_eq!(background.trouble(), None);
        background.note_commit(second, &fails());
        background.note_commit(first, &Ok(Revision(1)));
        assert!(background.trouble().is_some());
        background.note_commit(second, &Ok(Revision(2)));
        assert_eq!(background.trouble(), None);
        background.stop();
    }
}
