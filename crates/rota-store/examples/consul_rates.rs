//! What a Consul takes through the store: tasks from submission to completion, in batches of several
//! sizes, and how long opening a store with many live tasks takes.
//!
//! Needs a Consul of its own:
//!
//! ```sh
//! consul agent -dev
//! cargo run --release -p rota-store --example consul_rates -- consul://127.0.0.1:8500/rates [LIVE]
//! ```
//!
//! `LIVE` tasks are submitted at the end and stay, and the store is opened again.

#![expect(clippy::print_stdout, reason = "it is for people to read")]

use std::{
    collections::VecDeque,
    error::Error,
    time::{Duration, Instant},
};

use rota_store::{
    Batch, BatchSeq, Leadership, Member, Space, SpaceShape, Store,
    consul::{ConsulOptions, ConsulStore},
};

const LIVE: Space = Space { name: "live", shape: SpaceShape::Hot };
const SPEC: Space = Space { name: "spec", shape: SpaceShape::Large };
const DONE: Space = Space { name: "done", shape: SpaceShape::Hot };
const SPACES: &[Space] = &[LIVE, SPEC, DONE];
const TIME_EACH: Duration = Duration::from_secs(5);
const VALUE: [u8; 200] = [7; 200];
const OPEN: u64 = 2_000;
const KEPT: u64 = 20_000;

struct Rates {
    store: ConsulStore,
    leadership: Box<dyn Leadership>,
    seq: BatchSeq,
    /// The next task, and those that are open and ended.
    next: u64,
    open: VecDeque<u64>,
    ended: VecDeque<u64>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: consul_rates consul://HOST:PORT/PREFIX [LIVE]")?;
    let live: u64 = arguments.next().map_or(Ok(0), |live| live.parse())?;
    let options = ConsulOptions { size_bytes_max: 2 << 30, ..ConsulOptions::from_url(&url)? };
    let store = ConsulStore::open(options.clone(), SPACES)?;
    let leadership = store.campaign(&Member::alone("rates")).await?;
    let seq = store.head().await?.seq;
    let (open, ended) = (VecDeque::new(), VecDeque::new());
    let mut rates = Rates { store, leadership, seq, next: 0, open, ended };
    println!("{:>10} {:>12} {:>12} {:>10} {:>12}", "tasks", "commits/s", "tasks/s", "each", "log");
    for tasks in [1, 10, 50, 100, 200, 400] {
        let (begin, mut commits) = (Instant::now(), 0_u32);
        while begin.elapsed() < TIME_EACH {
            rates.live(tasks).await?;
            commits += 1;
        }
        let took = begin.elapsed();
        let rate = f64::from(commits) / took.as_secs_f64();
        let log = rates.store.status().await.bytes_used.unwrap_or(0);
        println!(
            "{tasks:>10} {rate:>12.0} {:>12.0} {:>10.1?} {:>9} KiB",
            rate * f64::from(tasks),
            took / commits,
            log / 1024
        );
    }
    if live > 0 {
        rates.fill(live).await?;
    }
    rates.leadership.resign(None).await;
    rates.store.close().await;
    let begin = Instant::now();
    let store = ConsulStore::open(options, SPACES)?;
    store.snapshot().await?;
    println!("opened and read in {:.1?}: {:?}", begin.elapsed(), store.status().await.bytes_used);
    store.close().await;
    Ok(())
}

impl Rates {
    /// A commit in which so many tasks are submitted, assigned, completed and removed: of four steps of a task's
    /// life each, some eight changes.
    async fn live(&mut self, tasks: u32) -> Result<(), Box<dyn Error>> {
        let mut batch = Batch::new(self.seq.next());
        for _ in 0..tasks {
            self.next += 1;
            let number = self.next;
            batch.put(SPEC, key(number), &VALUE[..]);
            batch.put(LIVE, key(number), &VALUE[..]);
            self.open.push_back(number);
            if let Some(assigned) = self.open.get(self.open.len() / 2) {
                batch.put(LIVE, key(*assigned), &VALUE[..]);
            }
            if self.open.len() as u64 > OPEN
                && let Some(number) = self.open.pop_front()
            {
                batch.delete(LIVE, key(number));
                batch.put(DONE, key(number), &VALUE[..]);
                self.ended.push_back(number);
            }
            if self.ended.len() as u64 > KEPT
                && let Some(number) = self.ended.pop_front()
            {
                batch.delete(DONE, key(number));
                batch.delete(SPEC, key(number));
            }
        }
        self.commit(batch).await
    }

    async fn fill(&mut self, live: u64) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        for _ in 0..live.div_ceil(500) {
            let mut batch = Batch::new(self.seq.next());
            for _ in 0..500 {
                self.next += 1;
                batch.put(LIVE, key(self.next), &VALUE[..]);
            }
            self.commit(batch).await?;
        }
        println!("{live} live tasks more in {:.1?}", begin.elapsed());
        Ok(())
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), Box<dyn Error>> {
        let seq = batch.seq;
        self.store.commit(self.leadership.fence(), batch).await?;
        self.seq = seq;
        Ok(())
    }
}

fn key(number: u64) -> String {
    format!("{number:026}")
}
