//! Verifies that each task ran and completed exactly once.

use std::sync::Mutex;

use hdrhistogram::Histogram;
use rota_client::{Client, NewTask};
use rota_worker::{Done, Drain, TaskContext, Worker};
use rustc_hash::FxHashMap;
use tokio::{sync::Notify, task::JoinHandle};

use crate::exit::Failure;

/// The runs of all handlers.
pub(super) struct Ledger {
    state: Mutex<State>,
    enough: Notify,
    expected: u64,
}

struct State {
    /// Runs by task.
    runs: FxHashMap<u64, u32>,
    histogram: Histogram<u64>,
    last_run: std::time::Instant,
}

impl Ledger {
    pub(super) fn new(expected: u64) -> Self {
        let state = State {
            runs: FxHashMap::default(),
            histogram: super::histogram(),
            last_run: std::time::Instant::now(),
        };
        Self { state: Mutex::new(state), enough: Notify::new(), expected }
    }

    /// Records that a handler ran this task, with its latency.
    pub(super) fn note(&self, task: u64, micros: u64) {
        let mut state = self.state.lock().expect("no holder panics");
        *state.runs.entry(task).or_default() += 1;
        state.histogram.saturating_record(micros);
        state.last_run = std::time::Instant::now();
        if state.runs.len() as u64 == self.expected {
            self.enough.notify_one();
        }
    }

    /// Resolves when every task has run.
    pub(super) async fn complete(&self) {
        self.enough.notified().await;
    }

    /// The recorded latencies, and the time of the last run.
    ///
    /// # Errors
    /// When a task did not run, or ran more than once.
    pub(super) fn verify(&self) -> Result<(Histogram<u64>, std::time::Instant), Failure> {
        let state = self.state.lock().expect("no holder panics");
        let twice = state.runs.values().filter(|runs| **runs > 1).count();
        let missing = self.expected - state.runs.len() as u64;
        if twice > 0 || missing > 0 {
            return Err(Failure::failed(format!("{missing} tasks never ran, {twice} ran twice")));
        }
        Ok((state.histogram.clone(), state.last_run))
    }
}

/// Workers within this process, each with its own connection.
pub(super) struct Workers {
    drains: Vec<Drain>,
    running: Vec<JoinHandle<Result<(), rota_worker::WorkerError>>>,
}

impl Workers {
    /// Starts `count` workers whose handler calls `run`.
    pub(super) fn start<F>(
        nodes: &[String],
        kind: &str,
        count: u32,
        slots: u32,
        run: F,
    ) -> Result<Self, Failure>
    where
        F: Fn(&TaskContext, &[u8]) + Clone + Send + Sync + 'static,
    {
        let mut workers = Self { drains: Vec::new(), running: Vec::new() };
        for number in 0..count {
            let run = run.clone();
            let worker = Worker::builder(Client::connect(nodes.to_vec())?)
                .name(format!("bench-{number}"))
                .slots(slots)
                .raw_handler(kind, move |context, payload| {
                    run(&context, &payload);
                    std::future::ready(Ok(Done::default()))
                })
                .build()
                .map_err(Failure::failed)?;
            workers.drains.push(worker.drain());
            workers.running.push(tokio::spawn(worker.run()));
        }
        Ok(workers)
    }

    /// Stops the workers. Afterwards their last reports are durable.
    pub(super) async fn end(self) -> Result<(), Failure> {
        self.drains.iter().for_each(Drain::start);
        for running in self.running {
            running.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
        }
        Ok(())
    }
}

/// Submits tasks in batches, from several clients at once.
pub(super) async fn submit(
    nodes: &[String],
    clients: u32,
    portion: usize,
    tasks: u64,
    task: impl Fn(u64) -> NewTask + Clone + Send + 'static,
) -> Result<(), Failure> {
    let mut running = Vec::new();
    for number in 0..u64::from(clients) {
        let (nodes, task, clients) = (nodes.to_vec(), task.clone(), u64::from(clients));
        running.push(tokio::spawn(async move {
            let client = Client::builder(nodes)
                .request_timeout(std::time::Duration::from_secs(60))
                .build()?;
            let mut mine = (0..tasks).filter(|index| index % clients == number).peekable();
            while mine.peek().is_some() {
                let batch: Vec<_> = mine.by_ref().take(portion).map(&task).collect();
                for result in client.create_tasks(batch).await? {
                    result.map_err(Failure::failed)?;
                }
            }
            Ok::<_, Failure>(())
        }));
    }
    for running in running {
        running.await.map_err(Failure::failed)??;
    }
    Ok(())
}

/// Checks how many tasks are left in the queue of the benchmark.
///
/// # Errors
/// When the number is not the expected one.
pub(super) async fn verify_left(client: &Client, queue: &str, left: u64) -> Result<(), Failure> {
    let list = client.all_queues().await?;
    let found = list.queues.into_iter().find(|found| found.name == queue);
    let live = found.map_or(0, |queue| queue.scheduled + queue.pending + queue.running);
    if live == left {
        Ok(())
    } else {
        Err(Failure::failed(format!("{live} tasks are left in queue {queue}; expected {left}")))
    }
}
