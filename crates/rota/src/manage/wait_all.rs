//! `rota task wait`: waits for one task, or for several at once.
//!
//! Tasks are followed in groups with a stream of events for each, so that a wait for many takes few of the listeners
//! that a server allows.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rota_client::{
    Client, TimeSpan,
    v1::{ListTasksResponse, Task},
};
use tokio::time::Instant;

use super::{
    follow::{GROUP, Group},
    ids::{self, Failed, Ids, Named},
    wait::{self, Notes, Wait, followed, outcome, until_ended},
};
use crate::{
    exit::Failure,
    output::{self, Format},
};

/// Maximum number of groups that are followed at once.
const GROUPS: usize = 10;

/// Waits until all tasks have ended, and prints each as it ends. Formats that have one document print it at the end.
pub(super) async fn run(
    client: &Client,
    ids: Ids,
    timeout: Option<TimeSpan>,
    format: Format,
) -> Result<(), Failure> {
    let named = ids::read(ids.ids)?;
    if let ([id], true) = (&named.ids[..], named.is_one) {
        return until_ended(client, wait_for(id, timeout), format).await;
    }
    let waits = Waits {
        client,
        timeout,
        format,
        since: Instant::now(),
        notes: Notes::new(format, named.ids.len()),
        said: Mutex::default(),
    };
    let groups = stream::iter(named.ids.chunks(GROUP)).map(Ok);
    let all = groups.try_for_each_concurrent(GROUPS, |ids| waits.group(ids, &named)).await;
    let Said { mut tasks, failed } =
        waits.said.into_inner().unwrap_or_else(PoisonError::into_inner);
    if is_document(format) {
        let tasks = named.ids.iter().filter_map(|id| tasks.remove(id)).collect();
        output::list(&ListTasksResponse { tasks, ..Default::default() }, "tasks", format)?;
    }
    all?;
    failed.end(&named)
}

fn wait_for(id: &str, timeout: Option<TimeSpan>) -> Wait {
    Wait { id: id.to_owned(), timeout: timeout.map(TimeSpan::duration), known: false }
}

/// Whether all tasks are printed as one document.
fn is_document(format: Format) -> bool {
    matches!(format, Format::Json | Format::Yaml)
}

/// Waits for several tasks.
struct Waits<'a> {
    client: &'a Client,
    timeout: Option<TimeSpan>,
    format: Format,
    since: Instant,
    notes: Notes,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    /// The tasks that have ended, for the document.
    tasks: HashMap<String, Task>,
    failed: Failed,
}

impl Waits<'_> {
    /// Waits for the tasks of a group. Fails if no other task would fare better.
    async fn group(&self, ids: &[String], named: &Named) -> Result<(), Failure> {
        let group = Group::of(ids);
        let ended = stream::iter(ids)
            .map(Ok)
            .try_for_each_concurrent(None, |id| self.one(&group, id, named));
        tokio::select! {
            biased;
            ended = ended => ended,
            never = self.listen(&group) => match never {},
        }
    }

    async fn listen(&self, group: &Group) -> std::convert::Infallible {
        group.listen(self.client).await;
        std::future::pending().await
    }

    async fn one(&self, group: &Group, id: &str, named: &Named) -> Result<(), Failure> {
        let follower = group.follower(self.client, id);
        let ended = followed(follower, wait_for(id, self.timeout), self.since, &self.notes);
        let outcome = match ended.await {
            Ok(task) => {
                let outcome = outcome(id, &task);
                if is_document(self.format) {
                    self.said().tasks.insert(id.to_owned(), task);
                } else {
                    wait::print(self.client, &task, self.format).await?;
                }
                outcome
            }
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(failure) => self.said().failed.tell(id, failure, named, self.format),
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        // Its users do not panic halfway through a change.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
