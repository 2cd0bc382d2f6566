//! What a Redis takes through the store: commits one after another with batches of several sizes, with and without an open
//! snapshot, and how long a range of many keys takes to read. Beside it, what the bare server takes in batches of the same
//! bytes.
//!
//! Needs a Redis of its own:
//!
//! ```sh
//! redis-server --port 7001 --appendonly yes --appendfsync always --save "" --dir "$(mktemp -d)"
//! cargo run --release -p rota-store --example redis_rates -- redis://127.0.0.1:7001/rates
//! ```

#![expect(clippy::print_stdout, reason = "it is for people to read")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use rota_store::{
    Batch, BatchSeq, Direction, KeyRange, Leadership, Member, Space, SpaceShape, Store,
    redis::{RedisOptions, RedisServers, RedisStore},
};

const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };
const TIME_EACH: Duration = Duration::from_secs(3);
const VALUE: [u8; 128] = [7; 128];
const SIZES: [u32; 5] = [1, 31, 120, 1000, 4000];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: redis_rates redis://HOST:PORT/PREFIX")?;
    let options = RedisOptions::from_url(&url)?;
    let RedisServers::Single(endpoint) = options.servers.clone() else {
        return Err("this measures a single server".into());
    };
    let store = RedisStore::open(options, &[HOT])?;
    let leadership = store.campaign(&Member::alone("rates")).await?;
    let mut seq = store.head().await?.seq.max(BatchSeq(leadership.seq_floor().0.saturating_sub(1)));
    let mut key = 0;
    println!("through the store");
    seq = commits(&store, &*leadership, seq, &mut key).await?;
    println!("through the store, with an open snapshot");
    let snapshot = store.snapshot().await?;
    commits(&store, &*leadership, seq, &mut key).await?;
    drop(snapshot);
    println!("the bare server, MULTI with the same bytes in one hash");
    bare(&endpoint).await?;
    read(&store).await?;
    leadership.resign(None).await;
    store.close().await;
    Ok(())
}

fn report(mutations: u32, commits: u32, took: Duration) {
    let rate = f64::from(commits) / took.as_secs_f64();
    let each = took / commits;
    let all = rate * f64::from(mutations);
    println!(
        "{mutations:>10} mutations: {rate:>8.0} commits/s {all:>10.0} mutations/s {each:>10.1?} each"
    );
}

async fn commits(
    store: &RedisStore,
    leadership: &dyn Leadership,
    mut seq: BatchSeq,
    key: &mut u64,
) -> Result<BatchSeq, Box<dyn Error>> {
    for mutations in SIZES {
        let (begin, mut commits) = (Instant::now(), 0_u32);
        while begin.elapsed() < TIME_EACH {
            let mut batch = Batch::new(seq.next());
            for _ in 0..mutations {
                *key += 1;
                // Like the life of tasks: most keys are new, some are written again, some are deleted.
                match *key % 6 {
                    0 | 3 => batch.put(HOT, format!("{:026}", *key / 2), &VALUE[..]),
                    5 => batch.delete(HOT, format!("{:026}", key.saturating_sub(1000))),
                    _ => batch.put(HOT, format!("{:026}", *key), &VALUE[..]),
                }
            }
            seq = batch.seq;
            store.commit(leadership.fence(), batch).await?;
            commits += 1;
        }
        report(mutations, commits, begin.elapsed());
    }
    Ok(seq)
}

async fn bare(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let client = redis::Client::open(format!("redis://{endpoint}"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut key = 0_u64;
    for mutations in SIZES {
        let (begin, mut commits) = (Instant::now(), 0_u32);
        while begin.elapsed() < TIME_EACH {
            let mut batch = redis::pipe();
            batch.atomic();
            for _ in 0..mutations {
                key += 1;
                batch.cmd("HSET").arg("bare").arg(format!("{key:026}")).arg(&VALUE[..]).ignore();
            }
            batch.query_async::<()>(&mut connection).await?;
            commits += 1;
        }
        report(mutations, commits, begin.elapsed());
    }
    redis::cmd("UNLINK").arg("bare").query_async::<()>(&mut connection).await?;
    Ok(())
}

async fn read(store: &RedisStore) -> Result<(), Box<dyn Error>> {
    let snapshot = store.snapshot().await?;
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
