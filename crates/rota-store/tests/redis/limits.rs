//! Memory that is used up, history that is cut off, snapshots that cost too much.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use rota_store::{
    Batch, CommitError, Direction, Fence, KeyRange, Revision, Store, StoreError,
    redis::RedisOptions,
};

use crate::{
    node::{HOT, LARGE, Node, within},
    server::Redis,
};

async fn put_large(
    a: &Node,
    fence: Fence,
    key: &str,
    bytes: usize,
) -> Result<Revision, CommitError> {
    let mut batch = Batch::new(a.next().await);
    batch.put(LARGE, key.to_owned(), vec![7; bytes]);
    within(a.store.commit(fence, batch)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_refuses_whole_batches_and_goes_on_when_it_has_room() {
    let redis = Redis::with(&["--maxmemory", "24mb"]);
    let a = Node::new("a", redis.options());
    let leading = a.lead().await;
    let fence = leading.fence();
    let mut number = 0;
    let full = loop {
        match put_large(&a, fence, &number.to_string(), 1 << 20).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, CommitError::Full(_)), "{full:?}");
    assert!(number > 4, "{number}");
    let status = a.store.status().await;
    assert!(status.problem.is_some() && status.pressure.is_some(), "{status:?}");
    assert_eq!(status.bytes_max, Some(24 << 20));
    // Nothing of it landed, the seat is held and reads go on.
    let keys = [(LARGE, Bytes::from(number.to_string())), (LARGE, Bytes::from("0"))];
    let found = a.store.get(&keys).await.unwrap();
    assert!(found[0].is_none() && found[1].is_some());
    drop(a.store.snapshot().await.unwrap());
    assert!(leading.is_held());
    redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    put_large(&a, fence, "after", 1 << 20).await.unwrap();
    let status = a.store.status().await;
    assert_eq!((status.problem, status.pressure), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_batches_that_were_cut_off_says_so() {
    let redis = Redis::start();
    let options =
        RedisOptions { history_bytes: 1 << 20, history: Duration::from_secs(1), ..redis.options() };
    let a = Node::new("a", options);
    let leading = a.lead().await;
    let first = a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let mut last = first;
    while redis.cli(&["XRANGE", "{rota}:log", "2-0", "2-0"]).contains("prev") || last.0 < 3 {
        last = put_large(&a, leading.fence(), "large", 600_000).await.unwrap();
    }
    let mut changes = a.store.watch(first).await.unwrap();
    let end = within(changes.next()).await.unwrap();
    assert!(matches!(end, Err(StoreError::Compacted)), "{end:?}");
    assert!(within(changes.next()).await.is_none());
    // From the last batch on, nothing is missing.
    let mut changes = a.store.watch(last).await.unwrap();
    let next = a.put(leading.fence(), a.next().await, "2").await.unwrap();
    assert_eq!(within(changes.next()).await.unwrap().unwrap().revision, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_costs_too_much_ends_and_leaves_nothing_behind() {
    let redis = Redis::start();
    let a = Node::new("a", RedisOptions { snapshot_bytes: 1 << 20, ..redis.options() });
    let leading = a.lead().await;
    let fence = leading.fence();
    put_large(&a, fence, "large", 600_000).await.unwrap();
    let snapshot = a.store.snapshot().await.unwrap();
    put_large(&a, fence, "large", 500_000).await.unwrap();
    let read = async || snapshot.get(&[(LARGE, "large".into())]).await;
    assert_eq!(read().await.unwrap()[0].as_ref().unwrap().len(), 600_000);
    // A second change to the same key costs nothing more.
    put_large(&a, fence, "large", 500_000).await.unwrap();
    assert!(read().await.is_ok());
    let later = a.store.snapshot().await.unwrap();
    put_large(&a, fence, "large", 1).await.unwrap();
    for snapshot in [&snapshot, &later] {
        let gone = snapshot.scan(KeyRange::all(LARGE), Direction::Ascending, 1).await;
        assert!(matches!(gone, Err(StoreError::Compacted)), "{gone:?}");
    }
    assert_eq!(redis.cli(&["KEYS", "{rota}:undo*"]), "");
    let fresh = a.store.snapshot().await.unwrap();
    assert_eq!(fresh.get(&[(LARGE, "large".into())]).await.unwrap(), [Some(vec![7].into())]);
}

/// Snapshots of several ages beside each other, with changes between them: each shows its own revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_several_ages_show_each_its_own_revision() {
    let redis = Redis::start();
    let a = Node::new("a", redis.options());
    let leading = a.lead().await;
    let mut snapshots = Vec::new();
    let mut truth = std::collections::BTreeMap::<Bytes, Bytes>::new();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..40_u32 {
        let mut batch = Batch::new(a.next().await);
        for _ in 0..random.usize(0..20) {
            let key = Bytes::from(format!("{:02}", random.u8(0..40)));
            if random.bool() {
                batch.put(HOT, key.clone(), round.to_string());
                truth.insert(key, round.to_string().into());
            } else {
                batch.delete(HOT, key.clone());
                truth.remove(&key);
            }
        }
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
        if random.u8(0..3) == 0 {
            snapshots.push((a.store.snapshot().await.unwrap(), truth.clone()));
        }
        if snapshots.len() > 4 {
            snapshots.remove(random.usize(0..4));
        }
        for (snapshot, then) in &snapshots {
            for direction in [Direction::Ascending, Direction::Descending] {
                let mut found = Vec::new();
                let mut range = KeyRange::all(HOT);
                loop {
                    let page = snapshot.scan(range.clone(), direction, 7).await.unwrap();
                    found.extend(page.entries);
                    let Some((last, _)) = found.last().filter(|_| page.more) else { break };
                    match direction {
                        Direction::Ascending => range.start = [last, &b"\0"[..]].concat().into(),
                        Direction::Descending => range.end = Some(last.clone()),
                    }
                }
                found.sort();
                assert!(found.iter().map(|(k, v)| (k, v)).eq(then), "round {round}");
            }
            let keys: Vec<_> = (0..40).map(|key| (HOT, format!("{key:02}").into())).collect();
            let values = snapshot.get(&keys).await.unwrap();
            assert!(
                keys.iter().zip(values).all(|((_, key), value)| then.get(key) == value.as_ref())
            );
        }
    }
    drop(snapshots);
    within(async {
        while redis.cli(&["EXISTS", "{rota}:snapshots", "{rota}:undo", "{rota}:undo:keys"]) != "0" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
