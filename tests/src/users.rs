//! Users who change their minds and look: they cancel tasks, retry failed ones, and read what they were
//! told is there, through whichever node answers.
//!
//! Each keeps a book, and complains when the cluster's answers contradict each other: a task that was
//! acknowledged must be found, a cancelled one must end as such, a retried one must complete, and a task
//! that has ended must not be seen in another state afterwards.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rota_client::{
    Client, ClientError, NewTask, Reason, task,
    v1::{ListTasksRequest, Task, TaskFilter, TaskStatus},
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{audit::Record, process::LOOK};

/// What the ids of their tasks begin with.
const CANCELLED: &str = "cancelled-";
const RETRIED: &str = "retried-";
/// The kind of the tasks that they cancel, which run until then.
const LINGERS: &str = "linger";
/// How often each of them does something.
const PERIOD: Duration = Duration::from_millis(250);
/// How long one waits for the end of a task before the change that leads to it is asked for again.
const ASKS_AGAIN: Duration = Duration::from_secs(5);

/// Something that a user was told and that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    /// It was acknowledged, and then nobody knew it.
    NotFound(String),
    /// It had ended in one state, and was seen in another afterwards.
    Changed(String, TaskStatus, TaskStatus),
    /// It should have ended otherwise.
    EndedAs(String, TaskStatus),
}

/// What a user knows of each task: the state in which it ended, once it has.
type Book = BTreeMap<String, Option<TaskStatus>>;

/// What became of the users' tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Experience {
    /// What they complain of, and when they were told it, in milliseconds since 1970. Without a time it is so in the end.
    pub complaints: Vec<(Complaint, Option<i64>)>,
    /// How their tasks ended, as they were told.
    pub book: Book,
}

/// Whether a task is one of theirs.
#[must_use]
pub fn is_theirs(id: &str) -> bool {
    id.starts_with(CANCELLED) || id.starts_with(RETRIED)
}

impl Experience {
    /// Compares what users were told with what the servers know in the end.
    pub fn compare(&mut self, records: &[Record]) {
        let ended: BTreeMap<_, _> =
            records.iter().map(|record| (&record.id, record.status)).collect();
        for (id, told) in &self.book {
            match (ended.get(id), told) {
                (None, _) => self.complaints.push((Complaint::NotFound(id.clone()), None)),
                (Some(status), Some(told)) if status != told => {
                    let changed = Complaint::Changed(id.clone(), *told, *status);
                    self.complaints.push((changed, None));
                }
                _ => {}
            }
        }
    }
}

/// Cancels what lives of the tasks that users cancel: one whose cancellation the store lost runs until somebody does. A
/// user who is about to cancel such a task finds that done.
///
/// # Panics
/// When nobody tells which these are within the client's patience.
pub async fn cancel_again(client: &Client) {
    let alive =
        [TaskStatus::Scheduled, TaskStatus::Pending, TaskStatus::Assigned, TaskStatus::Running];
    let filter = TaskFilter {
        kind: Some(LINGERS.to_owned()),
        statuses: alive.map(i32::from).to_vec(),
        ..TaskFilter::default()
    };
    let mut request =
        ListTasksRequest { filter: Some(filter), page_size: 1000, ..Default::default() };
    loop {
        let page = client.list_tasks(request.clone()).await.expect("a page");
        for task in page.tasks {
            // Refused if it has ended meanwhile.
            let _ = client.cancel_task(&task.id).await;
        }
        let Some(next) = page.next_page_token else { return };
        request.page_token = next;
    }
}

/// Milliseconds since 1970 by the clock of this process.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a date");
    i64::try_from(now.as_millis()).expect("a date")
}

/// Users at work, until they are told to stop.
#[derive(Debug)]
pub struct Users {
    stop: Arc<AtomicBool>,
    users: Vec<JoinHandle<Experience>>,
}

impl Users {
    /// Starts one with each of these clients.
    #[must_use]
    pub fn start(clients: Vec<Client>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = clients.len();
        let user = |(number, client): (usize, Client)| {
            let random = fastrand::Rng::with_seed(seed ^ number as u64);
            let experience = Experience::default();
            let mut user = User { client, random, experience, number, count };
            let stop = stop.clone();
            tokio::spawn(async move {
                user.act_until(&stop).await;
                user.experience
            })
        };
        let users = clients.into_iter().enumerate().map(user).collect();
        Self { stop, users }
    }

    /// Waits until each has finished what it is at.
    ///
    /// # Panics
    /// When a user did.
    pub async fn end(self) -> Experience {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Experience::default();
        for user in self.users {
            let experience = user.await.expect("a user");
            all.complaints.extend(experience.complaints);
            all.book.extend(experience.book);
        }
        all
    }
}

struct User {
    client: Client,
    random: fastrand::Rng,
    experience: Experience,
    /// The number of its next task; those of all users differ.
    number: usize,
    count: usize,
}

impl User {
    async fn act_until(&mut self, stop: &AtomicBool) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.load(Ordering::Relaxed) {
            tick.tick().await;
            match self.random.usize(..4) {
                0 => self.cancel_one().await,
                1 => self.retry_one().await,
                _ => self.read_one().await,
            }
        }
    }

    /// Creates a task, and finds it at once.
    async fn create(&mut self, prefix: &str, new: NewTask) -> String {
        let id = format!("{prefix}{}", self.number);
        self.number += self.count;
        let create = || self.client.create_task(new.clone().id(&id));
        until_answered(create).await;
        self.experience.book.insert(id.clone(), None);
        self.read(&id).await;
        id
    }

    async fn cancel_one(&mut self) {
        let id = self.create(CANCELLED, task(LINGERS)).await;
        if self.random.bool() {
            // Let a worker have it, if one is free.
            let _ = self.client.wait_task_for(&id, LOOK * 2).await;
        }
        let status = self.until_status(&id, TaskStatus::Cancelled, |user, id| {
            let client = user.client.clone();
            async move { client.cancel_task(&id).await }
        });
        let status = status.await;
        if status != TaskStatus::Cancelled {
            self.complain(Complaint::EndedAs(id, status));
        }
    }

    async fn retry_one(&mut self) {
        let id = self.create(RETRIED, task("fails-first")).await;
        let Some(mut status) = self.ended(&id).await else { return };
        // Its first attempt may have lost its worker; the second succeeds.
        if status == TaskStatus::Failed {
            self.experience.book.insert(id.clone(), None);
            status = self
                .until_status(&id, TaskStatus::Completed, |user, id| {
                    let client = user.client.clone();
                    async move { client.retry_task(&id).await }
                })
                .await;
        }
        if status != TaskStatus::Completed {
            self.complain(Complaint::EndedAs(id, status));
        }
    }

    /// Asks for a change until it is answered, or the task is seen to have been changed by a request whose
    /// answer was lost; then waits for the task's end.
    async fn until_status<F: Future<Output = Result<Task, ClientError>>>(
        &mut self,
        id: &str,
        wanted: TaskStatus,
        ask: impl Fn(&Self, String) -> F,
    ) -> TaskStatus {
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            if ask(self, id.to_owned()).await.is_err() {
                let Some(seen) = self.seen(id).await else { return wanted };
                if seen.status() != wanted {
                    continue;
                }
            }
            // A store that loses the change has the task live on.
            if let Ok(ended) = timeout(ASKS_AGAIN, self.ended(id)).await {
                return ended.unwrap_or(wanted);
            }
        }
    }

    /// A task as it is now. Nothing, and a complaint: nobody knows it.
    async fn seen(&mut self, id: &str) -> Option<Task> {
        let client = self.client.clone();
        let seen = until_known(|| client.get_task(id)).await;
        if seen.is_none() {
            self.complain(Complaint::NotFound(id.to_owned()));
        }
        seen
    }

    /// How a task ended, when it has. Nothing, and a complaint: nobody knows it.
    async fn ended(&mut self, id: &str) -> Option<TaskStatus> {
        let client = self.client.clone();
        let status = until_known(|| client.wait_task(id)).await.map(|task| task.status());
        if let Some(status) = status {
            self.experience.book.insert(id.to_owned(), Some(status));
        } else {
            self.complain(Complaint::NotFound(id.to_owned()));
        }
        status
    }

    async fn read_one(&mut self) {
        let count = self.experience.book.len();
        if count > 0 {
            let at = self.random.usize(..count);
            let id = self.experience.book.keys().nth(at).expect("it is in the book").clone();
            self.read(&id).await;
        }
    }

    async fn read(&mut self, id: &str) {
        let known = self.experience.book[id];
        let Some(seen) = self.seen(id).await else { return };
        let changed = known.filter(|known| *known != seen.status());
        if let Some(known) = changed {
            self.complain(Complaint::Changed(id.to_owned(), known, seen.status()));
        }
    }

    fn complain(&mut self, complaint: Complaint) {
        self.experience.complaints.push((complaint, Some(now_ms())));
    }
}

/// Asks for a task until it is answered. Nothing: nobody knows it.
async fn until_known<F: Future<Output = Result<Task, ClientError>>>(
    ask: impl Fn() -> F,
) -> Option<Task> {
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        match ask().await {
            Ok(task) => return Some(task),
            Err(error) if error.reason() == Some(Reason::UnknownTask) => return None,
            // Nobody answers, for now.
            Err(_) => {}
        }
    }
}

/// Repeats what may be repeated until it is answered.
async fn until_answered<T, F: Future<Output = Result<T, ClientError>>>(ask: impl Fn() -> F) -> T {
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        if let Ok(answer) = ask().await {
            return answer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, status: TaskStatus) -> Record {
        Record { id: id.to_owned(), status, attempts: Vec::new() }
    }

    #[test]
    fn what_users_were_told_must_be_so_in_the_end() {
        let book = BTreeMap::from([
            ("cancelled-1".to_owned(), Some(TaskStatus::Cancelled)),
            ("cancelled-2".to_owned(), Some(TaskStatus::Cancelled)),
            ("retried-3".to_owned(), None),
        ]);
        let mut experience = Experience { complaints: Vec::new(), book };
        experience.compare(&[
            record("cancelled-1", TaskStatus::Cancelled),
            record("cancelled-2", TaskStatus::Completed),
        ]);
        let changed = Complaint::Changed(
            "cancelled-2".to_owned(),
            TaskStatus::Cancelled,
            TaskStatus::Completed,
        );
        let not_found = Complaint::NotFound("retried-3".to_owned());
        assert_eq!(experience.complaints, [(changed, None), (not_found, None)]);
    }
}
