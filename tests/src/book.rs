//! A load for what is shown to be compared with: each submission is written down when it is
//! acknowledged, each end of a handler when it happens.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rota_client::{Client, NewTask, task};
use tokio::task::JoinHandle;

use crate::process::LOOK;

/// Where `book-worker` shows its metrics.
pub const WORKER_METRICS_PORT: u16 = 7421;
/// What `book-worker` serves.
pub const QUEUES: [&str; 3] = ["mail", "reports", "flaky"];
/// One after the other, a batch of [`LANES`] is submitted.
const PERIOD: Duration = Duration::from_millis(100);
/// How many of each queue and kind are in a batch.
const LANES: [(&str, &str, usize); 3] =
    [("mail", "good", 8), ("reports", "slow", 1), ("flaky", "bad", 1)];
/// Each task of `bad` fails as often.
pub const ATTEMPTS: u32 = 2;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In which queue.
    pub queue: String,
    /// To a task of which kind.
    pub kind: String,
    /// `submitted`, `completed` or `failed`: each attempt that failed is an entry.
    pub what: String,
    /// The at.
    pub at: SystemTime,
}

/// The entries of a worker's book.
///
/// # Panics
/// When a line is not one of its.
#[must_use]
pub fn read(path: &std::path::Path) -> Vec<Entry> {
    let entry = |line: &str| {
        let [queue, kind, what, at]: [&str; 4] =
            line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let at = UNIX_EPOCH + Duration::from_millis(at.parse().ok()?);
        let (queue, kind, what) = (queue.to_owned(), kind.to_owned(), what.to_owned());
        Some(Entry { queue, kind, what, at })
    };
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| entry(line).expect("a whole line")).collect()
}

/// How many of this happened between two times.
#[must_use]
pub fn count(book: &[Entry], what: &str, from: SystemTime, to: SystemTime) -> usize {
    book.iter().filter(|entry| entry.what == what && entry.at >= from && entry.at < to).count()
}

/// A hundred tasks a second, however long each submission takes.
#[derive(Debug)]
pub struct SteadyLoad {
    stop: Arc<AtomicBool>,
    book: Arc<Mutex<Vec<Entry>>>,
    running: JoinHandle<()>,
}

impl SteadyLoad {
    /// Begins.
    #[must_use]
    pub fn start(client: Client) -> Self {
        let (stop, book) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let running = tokio::spawn(submit_all(client, stop.clone(), Arc::clone(&book)));
        Self { stop, book, running }
    }

    /// What was acknowledged so far.
    ///
    /// # Panics
    /// When the load did.
    #[must_use]
    pub fn book(&self) -> Vec<Entry> {
        self.book.lock().expect("the load goes on").clone()
    }

    /// Ends it, and gives all that was acknowledged.
    ///
    /// # Panics
    /// When the load did.
    pub async fn end(self) -> Vec<Entry> {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.expect("the load");
        let book = self.book.lock().expect("nobody else has it");
        book.clone()
    }
}

async fn submit_all(client: Client, stop: Arc<AtomicBool>, book: Arc<Mutex<Vec<Entry>>>) {
    // What is late is made up for: the speed is the same over any time that is long enough.
    let (mut tick, mut number) = (tokio::time::interval(PERIOD), 0);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        number += 1;
        let lanes = LANES.iter().flat_map(|&(queue, kind, count)| {
            (0..count).map(move |at| (queue, kind, format!("{number}-{queue}-{at}"), at))
        });
        let lanes: Vec<_> = lanes.collect();
        let tasks = || lanes.iter().map(|(queue, kind, key, at)| new(queue, kind, key, *at));
        let mut look = tokio::time::interval(LOOK);
        // The keys make a repeat safe.
        while client.create_tasks(tasks().collect()).await.is_err() {
            look.tick().await;
        }
        let at = SystemTime::now();
        let entries = lanes.iter().map(|(queue, kind, ..)| Entry {
            queue: (*queue).to_owned(),
            kind: (*kind).to_owned(),
            what: "submitted".to_owned(),
            at,
        });
        book.lock().expect("nobody panics with it").extend(entries);
    }
}

fn new(queue: &str, kind: &str, key: &str, at: usize) -> NewTask {
    let new = task(kind).queue(queue).idempotency_key(key).payload_json(&());
    let backoff = Duration::from_millis(50);
    let new = new.max_attempts(ATTEMPTS).backoff(backoff, 1.0, backoff);
    // Some are due later, so that there are timers.
    if queue == "mail" && at == 0 { new.delay(Duration::from_millis(300)) } else { new }
}
