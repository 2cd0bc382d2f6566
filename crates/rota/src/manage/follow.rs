//! Follows tasks: looks at one when an event says that it changed, and now and then besides. Polls a server that
//! has no events.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rota_client::{Client, ClientError, EventFilter, Events, v1::Task};
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};

/// Interval of looks at a task while events come. Why it waits can change without an event of the task, as when its
/// queue is paused.
const LOOK: Duration = Duration::from_secs(5);
/// Duration of one poll.
const POLL: Duration = Duration::from_secs(1);
/// Maximum number of tasks in a group. A server takes no more ids in one stream of events.
pub(super) const GROUP: usize = 100;
/// Maximum number of looks at tasks of a group at once.
const LOOKS: usize = 8;
/// Interval of looks at each task of a group, for each of its tasks.
const LOOK_OF_GROUP: Duration = Duration::from_millis(200);

/// A task that is followed.
pub(crate) struct Follower<'a> {
    client: &'a Client,
    id: &'a str,
    news: News<'a>,
}

/// What says that a task may have changed.
enum News<'a> {
    Events(Events),
    Group(&'a Group, &'a Notify),
    /// The server has no events.
    None,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(client: &'a Client, id: &'a str) -> Self {
        let events = client.events(EventFilter::new().task(id));
        Self { client, id, news: News::Events(events) }
    }

    /// The task when it has changed, or after a while. Waits up to `left`.
    ///
    /// # Errors
    /// When no node can be reached, or there is no such task.
    pub(crate) async fn look(&mut self, left: Duration) -> Result<Task, ClientError> {
        let events = match &mut self.news {
            News::Events(events) => events,
            News::Group(group, changed) => {
                return group.look(self.client, self.id, changed, left).await;
            }
            News::None => return self.client.wait_task_for(self.id, left.min(POLL)).await,
        };
        match timeout(left.min(LOOK), events.next()).await {
            // The first event says that none will be missed from here on.
            Ok(Some(Ok(_))) | Err(_) => self.client.get_task(self.id).await,
            // The call says whether no node can be reached, or only no events can be had.
            Ok(Some(Err(_)) | None) => {
                let task = self.client.wait_task_for(self.id, left.min(POLL)).await;
                if task.is_ok() {
                    self.news = News::None;
                }
                task
            }
        }
    }
}

/// Several tasks that are followed with one stream of events.
pub(super) struct Group {
    tasks: HashMap<String, Notify>,
    /// Whether no events come now.
    is_deaf: AtomicBool,
    room: Semaphore,
    interval: Duration,
}

impl Group {
    /// A group of up to [`GROUP`] tasks.
    pub(super) fn of(ids: &[String]) -> Self {
        let tasks: HashMap<_, _> = ids.iter().map(|id| (id.clone(), Notify::new())).collect();
        let count = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let interval = LOOK.max(LOOK_OF_GROUP.saturating_mul(count));
        let room = Semaphore::new(LOOKS);
        Self { tasks, is_deaf: AtomicBool::new(false), room, interval }
    }

    /// A follower of one of the tasks. It learns of changes while [`Group::listen`] is polled.
    pub(super) fn follower<'a>(&'a self, client: &'a Client, id: &'a str) -> Follower<'a> {
        let news = self.tasks.get(id).map(|changed| News::Group(self, changed));
        Follower { client, id, news: news.unwrap_or(News::None) }
    }

    /// Tells the followers what changed. Ends if the server has no events.
    pub(super) async fn listen(&self, client: &Client) {
        let mut events =
            client.events(self.tasks.keys().fold(EventFilter::new(), EventFilter::task));
        loop {
            let event = events.next().await;
            self.is_deaf.store(!matches!(event, Some(Ok(_))), Ordering::Relaxed);
            match event {
                Some(Ok(event)) => {
                    match event.task.as_ref().and_then(|task| self.tasks.get(&task.id)) {
                        Some(changed) => changed.notify_one(),
                        // Events begin here, or some were missed.
                        None => self.look_at_all(),
                    }
                }
                Some(Err(_)) => {
                    self.look_at_all();
                    sleep(POLL).await;
                }
                None => return self.look_at_all(),
            }
        }
    }

    fn look_at_all(&self) {
        self.tasks.values().for_each(Notify::notify_one);
    }

    async fn look(
        &self,
        client: &Client,
        id: &str,
        changed: &Notify,
        left: Duration,
    ) -> Result<Task, ClientError> {
        let interval = if self.is_deaf.load(Ordering::Relaxed) { POLL } else { self.interval };
        // Without an event it is time to look anyway.
        let _ = timeout(left.min(interval), changed.notified()).await;
        let _room = self.room.acquire().await;
        client.get_task(id).await
    }
}
