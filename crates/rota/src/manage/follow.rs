//! Follows a task: looks at it when an event says that it changed, and now and then besides. Polls a server that
//! has no events.

use std::time::Duration;

use rota_client::{Client, ClientError, EventFilter, Events, v1::Task};
use tokio::time::timeout;

/// Interval of looks at a task while events come. Why it waits can change without an event of the task, as when its
/// queue is paused.
const LOOK: Duration = Duration::from_secs(5);
/// Duration of one poll.
const POLL: Duration = Duration::from_secs(1);

/// A task that is followed.
pub(crate) struct Follower<'a> {
    client: &'a Client,
    id: &'a str,
    /// `None` if the server has no events.
    events: Option<Events>,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(client: &'a Client, id: &'a str) -> Self {
        let events = client.events(EventFilter::new().task(id));
        Self { client, id, events: Some(events) }
    }

    /// The task when it has changed, or after a while. Waits up to `left`.
    ///
    /// # Errors
    /// When no node can be reached, or there is no such task.
    pub(crate) async fn look(&mut self, left: Duration) -> Result<Task, ClientError> {
        let Some(events) = &mut self.events else {
            return self.client.wait_task_for(self.id, left.min(POLL)).await;
        };
        match timeout(left.min(LOOK), events.next()).await {
            // The first event says that none will be missed from here on.
            Ok(Some(Ok(_))) | Err(_) => self.client.get_task(self.id).await,
            // The call says whether no node can be reached, or only no events can be had.
            Ok(Some(Err(_)) | None) => {
                let task = self.client.wait_task_for(self.id, left.min(POLL)).await;
                if task.is_ok() {
                    self.events = None;
                }
                task
            }
        }
    }
}
