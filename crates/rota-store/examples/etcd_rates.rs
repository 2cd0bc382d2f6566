//! What an etcd takes through the store: commits one after another, with batches of several sizes,
//! and how long a range of many keys takes to read.
//!
//! Needs an etcd of its own:
//!
//! ```sh
//! cargo run --release -p rota-store --example etcd_rates -- etcd://127.0.0.1:2379/rates
//! ```

#![expect(clippy::print_stdout, reason = "it is for people to read")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use rota_store::{
    Batch, BatchSeq, Direction, KeyRange, Leadership, Member, Space, SpaceShape, Store,
    etcd::{EtcdOptions, EtcdStore},
};

const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };
const TIME_EACH: Duration = Duration::from_secs(3);
const VALUE: [u8; 128] = [7; 128];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: etcd_rates etcd://HOST:PORT/PREFIX")?;
    let store = EtcdStore::open(EtcdOptions::from_url(&url)?, &[HOT])?;
    let leadership = store.campaign(&Member::alone("rates")).await?;
    let mut seq = store.head().await?.seq;
    let mut key = 0;
    println!("{:>10} {:>12} {:>12} {:>10}", "mutations", "commits/s", "mutations/s", "each");
    for mutations in [1, 31, 120, 1000, 2000] {
        let (begin, mut commits) = (Instant::now(), 0_u32);
        while begin.elapsed() < TIME_EACH {
            seq = commit(&store, &*leadership, seq, &mut key, mutations).await?;
            commits += 1;
        }
        let took = begin.elapsed();
        let rate = f64::from(commits) / took.as_secs_f64();
        let each = took / commits;
        println!(
            "{mutations:>10} {rate:>12.0} {:>12.0} {each:>10.1?}",
            rate * f64::from(mutations)
        );
    }
    read(&store).await?;
    leadership.resign(None).await;
    store.close().await;
    Ok(())
}

async fn commit(
    store: &EtcdStore,
    leadership: &dyn Leadership,
    last: BatchSeq,
    key: &mut u64,
    mutations: u32,
) -> Result<BatchSeq, Box<dyn Error>> {
    let mut batch = Batch::new(last.next());
    for _ in 0..mutations {
        *key += 1;
        // Like the life of tasks: most keys are new, some are written again.
        let number = if key.is_multiple_of(3) { *key / 2 } else { *key };
        batch.put(HOT, format!("{number:026}"), &VALUE[..]);
    }
    let seq = batch.seq;
    store.commit(leadership.fence(), batch).await?;
    Ok(seq)
}

async fn read(store: &EtcdStore) -> Result<(), Box<dyn Error>> {
    let snapshot = store.snapshot().await?;
    for (direction, limit) in [(Direction::Descending, 1), (Direction::Descending, 256)] {
        let begin = Instant::now();
        snapshot.scan(KeyRange::all(HOT), direction, limit).await?;
        println!("the last {limit} keys: {:.1?}", begin.elapsed());
    }
    let (begin, mut keys) = (Instant::now(), 0);
    let mut range = KeyRange::all(HOT);
    loop {
        let page = snapshot.scan(range.clone(), Direction::Ascending, 10_000).await?;
        keys += page.entries.len();
        match page.entries.last() {
            Some((last, _)) if page.more => range.start = [last, &b"\0"[..]].concat().into(),
            _ => break,
        }
    }
    println!("all {keys} keys: {:.1?}", begin.elapsed());
    Ok(())
}
