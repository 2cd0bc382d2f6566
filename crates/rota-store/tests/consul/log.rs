//! The log in Consul: that it stays short and loses nothing, large batches, and what is left over.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use rota_store::{
    Batch, CommitError, Direction, Fence, KeyRange, Store, StoreError, consul::ConsulOptions,
};

use crate::{
    node::{HOT, LARGE, Node, within},
    server::Consul,
};

/// With a log that is to be short.
fn short(consul: &Consul) -> ConsulOptions {
    ConsulOptions { log_bytes_min: 256 * 1024, ..consul.options() }
}

async fn all(node: &Node) -> BTreeMap<Bytes, Bytes> {
    let snapshot = within(node.store.snapshot()).await.unwrap();
    let page = snapshot.scan(KeyRange::all(HOT), Direction::Ascending, usize::MAX).await.unwrap();
    assert!(!page.more);
    page.entries.into_iter().collect()
}

/// Changes of which the state at the end is known: most keys soon change again, some never.
struct Life {
    random: fastrand::Rng,
    expected: BTreeMap<Bytes, Bytes>,
}

impl Life {
    fn new() -> Self {
        Self { random: fastrand::Rng::with_seed(3), expected: BTreeMap::new() }
    }

    fn change(&mut self, batch: &mut Batch) {
        let random = &mut self.random;
        let number = if random.u8(..) < 16 { random.u32(..) } else { random.u32(..200) };
        let key = Bytes::from(format!("{number:010}"));
        if random.u8(..) < 64 {
            self.expected.remove(&key);
            batch.delete(HOT, key);
        } else {
            let value = Bytes::from(vec![random.u8(..); random.usize(..2_000)]);
            self.expected.insert(key.clone(), value.clone());
            batch.put(HOT, key, value);
        }
    }
}

async fn commit(node: &Node, fence: Fence, life: &mut Life, changes: usize) {
    let mut batch = Batch::new(node.next().await);
    for _ in 0..changes {
        life.change(&mut batch);
    }
    within(node.store.commit(fence, batch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_and_loses_nothing() {
    let consul = Consul::start();
    let (a, b) = (Node::new("a", short(&consul)), Node::new("b", short(&consul)));
    let leading = a.lead().await;
    let mut life = Life::new();
    let mut seen =
        within(b.store.watch(b.store.snapshot().await.unwrap().revision())).await.unwrap();
    for round in 0..300_u64 {
        commit(&a, leading.fence(), &mut life, 40).await;
        // Who follows sees each batch and the same state.
        let change = within(seen.next()).await.unwrap().unwrap();
        assert_eq!(change.head.seq.0, round + 1);
        if round % 50 == 0 {
            assert!(all(&b).await == life.expected, "b has another state");
        }
    }
    // Some ten megabytes were written.
    let live: usize = life.expected.iter().map(|(key, value)| key.len() + value.len()).sum();
    let status = a.store.status().await;
    let used = usize::try_from(status.bytes_used.unwrap()).unwrap();
    assert!(used > live && used < 4 * live.max(256 * 1024), "{used} bytes for {live}");
    assert!(all(&a).await == life.expected, "a has another state");
    assert!(all(&b).await == life.expected, "b has another state");
    let fresh = Node::new("fresh", short(&consul));
    assert!(all(&fresh).await == life.expected, "fresh has another state");
    let pieces = consul.keys("rota/log/").len();
    assert!(pieces < 150, "{pieces} pieces are left of more than 300");
    // Another leader goes on where this one stopped.
    leading.resign(None).await;
    let leading = b.lead().await;
    for _ in 0..20 {
        commit(&b, leading.fence(), &mut life, 40).await;
    }
    assert!(all(&b).await == life.expected, "b has another state");
    assert!(all(&a).await == life.expected, "a has another state");
}

/// One that was away for so long that what it needs next was moved reads the log anew; its watch says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fell_behind_the_log_begins_anew() {
    let consul = Consul::start();
    let proxy = crate::proxy::Proxy::to(consul.endpoint()).await;
    let a = Node::new("a", short(&consul));
    let behind = ConsulOptions { agents: vec![proxy.endpoint()], ..short(&consul) };
    let b = Node::new("b", behind);
    let leading = a.lead().await;
    let mut life = Life::new();
    commit(&a, leading.fence(), &mut life, 40).await;
    let revision = b.store.snapshot().await.unwrap().revision();
    let mut seen = b.store.watch(revision).await.unwrap();
    proxy.cut();
    for _ in 0..100 {
        commit(&a, leading.fence(), &mut life, 40).await;
    }
    proxy.mend();
    within(async {
        while b.store.snapshot().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(all(&b).await == life.expected, "b has another state");
    let end = within(seen.next()).await.unwrap();
    assert!(matches!(end, Err(StoreError::Compacted)), "{end:?}");
    assert!(within(seen.next()).await.is_none());
}

/// One value with as many bytes as a batch may have.
fn largest(node: &Node, seq: rota_store::BatchSeq, byte: u8) -> Batch {
    let limits = node.store.limits();
    let mut batch = Batch::new(seq);
    batch.put(LARGE, "large", vec![byte; limits.bytes_max - limits.mutation_bytes - "large".len()]);
    assert!(limits.take(1, batch.bytes()));
    assert!(batch.bytes() > (1 << 20) + (256 << 10), "a payload of a mebibyte needs room");
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_at_its_limit_lands_and_its_parts_go_with_it() {
    let consul = Consul::start();
    let a = Node::new("a", short(&consul));
    let leading = a.lead().await;
    for byte in 0..5 {
        let batch = largest(&a, a.next().await, byte);
        let sent = batch.mutations.clone();
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
        let fresh = Node::new("fresh", short(&consul));
        let value = within(fresh.store.get(&[(LARGE, "large".into())])).await.unwrap().remove(0);
        assert!(
            matches!(&sent[0], rota_store::Mutation::Put { value: sent, .. } if Some(sent) == value.as_ref())
        );
        fresh.store.close().await;
    }
    let mut batch = Batch::new(a.next().await);
    batch.delete(LARGE, "large");
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
    within(async {
        while !consul.keys("rota/part/").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Consul has deleted them before the node hears of it.
    within(async { while a.store.status().await.bytes_used.unwrap() > 1 << 20 {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_were_staged_and_never_named_are_removed() {
    let consul = Consul::start();
    let a = Node::new("a", consul.options());
    let leading = a.lead().await;
    let batch = largest(&a, a.next().await, 1);
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
    let named = consul.keys("rota/part/");
    assert!(named.len() > 10, "{named:?}");
    leading.resign(None).await;
    for number in 0..3 {
        consul
            .ask("PUT", &format!("kv/rota/part/1-of-a-crashed-process/{number:04}"), "x")
            .unwrap();
    }
    let b = Node::new("b", consul.options());
    let leading = b.lead().await;
    within(async {
        while consul.keys("rota/part/") != named {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(leading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_says_so_and_takes_deletes_again() {
    let consul = Consul::start();
    let options = ConsulOptions { size_bytes_max: 16 << 20, ..short(&consul) };
    let a = Node::new("a", options);
    let leading = a.lead().await;
    let mut count = 0;
    let full = loop {
        let mut batch = Batch::new(a.next().await);
        batch.put(LARGE, format!("{count:03}"), vec![7; 1 << 20]);
        match within(a.store.commit(leading.fence(), batch)).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 20, "there is no limit");
    };
    assert!(matches!(full, CommitError::Full(_)), "{full:?}");
    assert!(count > 10, "full with {count} MiB");
    let status = a.store.status().await;
    assert!(status.pressure.is_some());
    assert!(status.problem.unwrap().contains("size_bytes_max"));
    // Not even a byte fits, but for what deletes.
    let rest = (16 << 20) - status.bytes_used.unwrap();
    let mut batch = Batch::new(a.next().await);
    batch.put(LARGE, "rest", vec![7; usize::try_from(rest).unwrap() - 400]);
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
    let full = a.put(leading.fence(), a.next().await, &"1".repeat(400)).await;
    assert!(matches!(full, Err(CommitError::Full(_))), "{full:?}");
    let mut batch = Batch::new(a.next().await);
    batch.delete(LARGE, "rest");
    for number in 0..count {
        batch.delete(LARGE, format!("{number:03}"));
    }
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
    for number in 0..count {
        let mut batch = Batch::new(a.next().await);
        batch.put(LARGE, format!("{number:03}"), vec![8; 1 << 20]);
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_piece_is_named() {
    let consul = Consul::start();
    let a = Node::new("a", consul.options());
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let piece = consul.keys("rota/log/").remove(0);
    consul.ask("PUT", &format!("kv/{piece}"), "rota but not as it was written").unwrap();
    let fresh = Arc::new(Node::new("fresh", consul.options()));
    let refused = within(fresh.store.snapshot()).await.map(drop);
    assert!(
        matches!(&refused, Err(StoreError::Corrupt(why)) if why.contains("piece 1 ")),
        "{refused:?}"
    );
}
