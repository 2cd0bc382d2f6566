//! A client that uses the shipped client, and keeps a ledger of what it was told.

use std::{sync::Arc, time::Duration};

use rota_client::{Client, ClientError, NewTask, Reason, RetryHint, task};
use rota_proto::v1::{Task, TaskStatus};
use tokio::time::{sleep, timeout};

use super::parts;
use crate::{
    seed::per_mille,
    world::{Endpoint, World},
};

/// Tasks that are remembered.
const REMEMBERED: usize = 64;

/// Whether a server says by this that it changed nothing, and that a retry can help.
fn changed_nothing(error: &ClientError) -> bool {
    let retry = error.reason().map(Reason::retry);
    matches!(retry, Some(RetryHint::Elsewhere | RetryHint::Soon | RetryHint::AfterRoom))
}

fn remember(tasks: &mut Vec<String>, task: Option<String>) {
    tasks.extend(task);
    if tasks.len() > REMEMBERED {
        tasks.remove(0);
    }
}

/// The client of one process.
pub(crate) struct User {
    pub(super) world: World,
    pub(super) client: Client,
    pub(super) rng: fastrand::Rng,
    queues: usize,
    pub(super) number: u64,
    submitted: u64,
    /// How many edits it made up, and the task that it edited last, as it was read.
    pub(super) edited: u64,
    pub(super) read: Option<Task>,
    pause_ms: u64,
    /// Ids of tasks that were accepted.
    tasks: Vec<String>,
    /// Ids of those that wait for a while.
    pub(super) delayed: Vec<String>,
    /// Named submissions whose outcome is not known.
    open: Vec<(u64, String, NewTask)>,
}

impl User {
    pub(crate) fn new(
        (world, at, nodes): (&World, Endpoint, &Arc<[Endpoint]>),
        mut rng: fastrand::Rng,
        queues: usize,
        number: u64,
        pause_ms: u64,
    ) -> Self {
        let client = parts::client(world, at, nodes, rng.u64(..));
        Self {
            world: world.clone(),
            client,
            rng,
            queues,
            number,
            submitted: 0,
            edited: 0,
            read: None,
            pause_ms,
            tasks: Vec::new(),
            delayed: Vec::new(),
            open: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            sleep(Duration::from_millis(self.rng.u64(0..=self.pause_ms))).await;
            let quiet = {
                let mut inner = self.world.lock();
                inner.count(1);
                inner.quiet
            };
            if quiet {
                break;
            }
            self.act().await;
        }
        while let Some((tag, name, task)) = self.open.pop() {
            self.submit(tag, Some(name), task).await;
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn act(&mut self) {
        match self.rng.u32(..100) {
            0..60 => {
                let (tag, name, task) = self.new_task();
                self.submit(tag, name, task).await;
            }
            60..68 => {
                if let Some((tag, name, task)) = self.open.pop() {
                    self.submit(tag, Some(name), task).await;
                }
            }
            68..75 => self.edit().await,
            75..85 => {
                if let Some(id) = self.some_task() {
                    let _ = self.client.get_task(&id).await;
                }
            }
            85..92 => {
                if let Some(id) = self.some_task() {
                    let wait = Duration::from_millis(self.rng.u64(1..3000));
                    // Given up halfway now and then.
                    let _ = timeout(wait, self.client.wait_task_for(&id, wait * 2)).await;
                }
            }
            92..97 => {
                if let Some(id) = self.some_task() {
                    let _ = self.client.cancel_task(&id).await;
                }
            }
            _ => {
                if let Some(id) = self.some_task() {
                    let _ = self.client.list_attempts(&id).await;
                }
            }
        }
    }

    pub(super) fn some_task(&mut self) -> Option<String> {
        if self.tasks.is_empty() {
            return None;
        }
        Some(self.tasks[self.rng.usize(..self.tasks.len())].clone())
    }

    fn new_task(&mut self) -> (u64, Option<String>, NewTask) {
        self.submitted += 1;
        let tag = self.number << 40 | self.submitted;
        let mut payload = format!("{tag:016x}").into_bytes();
        if per_mille(&mut self.rng, 20) {
            payload.resize(self.rng.usize(16..60_000), b'x');
        }
        let kind = ["a", "b"][self.rng.usize(..2)];
        let mut task = task(kind)
            .queue(format!("q{}", self.rng.usize(..self.queues)))
            .payload(payload)
            .priority(self.rng.u32(0..10))
            .max_attempts(self.rng.u32(1..6))
            .backoff(Duration::from_millis(self.rng.u64(1..500)), 2.0, Duration::from_secs(3))
            .timeout(Duration::from_secs(20));
        if self.rng.u32(..10) == 0 {
            task = task.delay(Duration::from_millis(self.rng.u64(1..8000)));
        }
        let name = (self.rng.u32(..10) < 4).then(|| format!("c{tag:x}"));
        if let Some(name) = &name {
            task = task.id(name.clone());
        }
        (tag, name, task)
    }

    async fn submit(&mut self, tag: u64, name: Option<String>, task: NewTask) {
        let answer = self.client.create_task(task.clone()).await;
        if self.told(tag, name.is_some(), &answer) {
            if let Ok(created) = answer {
                let waits = created.status() == TaskStatus::Scheduled;
                remember(&mut self.delayed, waits.then(|| created.id.clone()));
                remember(&mut self.tasks, Some(created.id));
            }
            return;
        }
        if let Some(name) = name {
            self.open.push((tag, name, task));
        }
        let pause = self.rng.u64(1..200);
        sleep(Duration::from_millis(pause)).await;
    }

    /// Tells the auditor what a client was told; whether the outcome is known.
    fn told(&self, tag: u64, named: bool, answer: &Result<Task, ClientError>) -> bool {
        let mut inner = self.world.lock();
        let now_us = inner.now_us;
        match answer {
            Ok(_) => {
                inner.audit.accepted_tag(now_us, tag);
                true
            }
            Err(error) if !named && changed_nothing(error) => {
                inner.audit.unchanged(now_us, tag, false, &error.to_string());
                true
            }
            Err(_) => false,
        }
    }
}
