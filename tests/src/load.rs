//! A load that keeps books: clients that repeat themselves until each task is acknowledged, and the
//! record of what the servers know in the end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rota_client::{
    Client, ClientError, Created, task,
    v1::{ListQueuesRequest, ListTasksRequest},
};

use crate::{
    audit::{Ack, Record},
    process::LOOK,
    pull_worker,
};

/// Tasks in one request.
pub const BATCH: usize = 50;

/// Submits tasks for these keys and repeats itself until all are acknowledged: no answer leaves open
/// what happened, and the keys make a repeat safe.
///
/// # Panics
/// When a task is refused.
pub async fn submit(client: &Client, kind: Kind, keys: &[String]) -> Vec<Ack> {
    let tasks = || {
        let named = |key: &String| task(kind.name()).payload_json(key).idempotency_key(key);
        keys.iter().map(named).collect()
    };
    let mut look = tokio::time::interval(LOOK);
    let results = loop {
        if let Ok(results) = client.create_tasks(tasks()).await {
            break results;
        }
        look.tick().await;
    };
    let ack = |(key, result): (&String, Result<Created, ClientError>)| match result {
        Ok(created) => Ack { key: key.clone(), id: created.id },
        Err(error) => panic!("{key} was not accepted: {error}"),
    };
    keys.iter().zip(results).map(ack).collect()
}

/// Who is to run the tasks of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The workers of the cluster.
    Effect,
    /// The [worker without a stream](crate::pull_worker).
    Pulled,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Effect => "effect",
            Self::Pulled => pull_worker::KIND,
        }
    }

    /// What its keys begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Effect => "k",
            Self::Pulled => "p",
        }
    }
}

/// A steady load, until it is told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Vec<Ack>>>,
}

impl Load {
    /// Starts a client with each of these, which submits a batch at each of its ticks.
    #[must_use]
    pub fn start(clients: Vec<Client>, kind: Kind, period: std::time::Duration) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (next, running) = (Arc::new(AtomicUsize::new(0)), clients.into_iter());
        let run = |client: Client| {
            let (stop, next) = (stop.clone(), next.clone());
            let acknowledged: Arc<AtomicUsize> = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                let (mut acks, mut tick) = (Vec::new(), tokio::time::interval(period));
                tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    tick.tick().await;
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    let prefix = kind.prefix();
                    let keys: Vec<_> =
                        (first..first + BATCH).map(|number| format!("{prefix}{number}")).collect();
                    acks.extend(submit(&client, kind, &keys).await);
                    acknowledged.fetch_add(BATCH, Ordering::Relaxed);
                }
                acks
            })
        };
        let clients = running.map(run).collect();
        Self { stop, acknowledged, clients }
    }

    /// Tasks acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends it, and gives what was acknowledged.
    ///
    /// # Panics
    /// When a client did.
    pub async fn end(self) -> Vec<Ack> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acks = Vec::new();
        for client in self.clients {
            acks.extend(client.await.expect("a client"));
        }
        acks
    }
}

/// Waits until nothing is left to be done.
///
/// # Panics
/// When nobody answers within the client's patience.
pub async fn settle(client: &Client) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let queues = client.list_queues(ListQueuesRequest::default()).await.expect("queues").queues;
        let left = |queue: &rota_client::v1::Queue| queue.scheduled + queue.pending + queue.running;
        if queues.iter().map(left).sum::<u64>() == 0 {
            return;
        }
    }
}

/// Every task that the servers know, with its history.
///
/// # Panics
/// When nobody answers within the client's patience.
pub async fn records(client: &Client) -> Vec<Record> {
    let mut tasks = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTasksRequest { page_size: 1000, page_token, ..Default::default() };
        let page = client.list_tasks(request).await.expect("a page");
        tasks.extend(page.tasks);
        match page.next_page_token {
            Some(next) => page_token = next,
            None => break,
        }
    }
    let record = |task: rota_client::v1::Task| async move {
        let attempts = client.list_attempts(&task.id).await?;
        let attempts = attempts.into_iter().map(Into::into).collect();
        Ok::<_, ClientError>(Record { status: task.status(), id: task.id, attempts })
    };
    stream::iter(tasks).map(record).buffer_unordered(64).try_collect().await.expect("histories")
}
