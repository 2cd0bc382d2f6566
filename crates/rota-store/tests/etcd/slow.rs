//! A slow network, and values so large that they take their time on it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rota_store::{Batch, Direction, Fence, KeyRange, Store, etcd::EtcdOptions};

use crate::{
    node::{HOT, LARGE, Node, within},
    proxy::Proxy,
    server::Etcd,
};

const RATE: u32 = 2 << 20;
const VALUE: usize = 256 * 1024;
/// Four seconds of the line.
const COUNT: usize = 32;

/// With less patience than the whole of an answer takes.
fn impatient(etcd: &Etcd) -> EtcdOptions {
    EtcdOptions { timeout: Duration::from_secs(1), ..etcd.options() }
}

fn value(number: usize) -> Bytes {
    vec![u8::try_from(number % 251).unwrap(); VALUE].into()
}

fn key(number: usize) -> Bytes {
    format!("{number:04}").into()
}

async fn fill(node: &Node, fence: Fence) {
    for number in 0..COUNT {
        let mut batch = Batch::new(node.next().await);
        batch.put(LARGE, key(number), value(number));
        batch.put(HOT, key(number), "small");
        within(node.store.commit(fence, batch)).await.unwrap();
    }
}

/// An etcd full of large values, and a node over a slow network that has another one to go to.
async fn behind_a_slow_line(etcd: &Etcd) -> (Node, Proxy, Proxy) {
    let near = Node::new("near", etcd.options());
    let leading = near.lead().await;
    fill(&near, leading.fence()).await;
    leading.resign(None).await;
    let slow = Proxy::slow(etcd.endpoint(), RATE).await;
    let other = Proxy::to(etcd.endpoint()).await;
    let endpoints = vec![slow.endpoint(), other.endpoint()];
    let far = Node::new("far", EtcdOptions { endpoints, ..impatient(etcd) });
    (far, slow, other)
}

/// What is large comes, however long it takes; the member that sends it is left by nobody, and
/// leadership is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_come_over_a_slow_line_and_no_connection_leaves_it() {
    let etcd = Etcd::start();
    let (far, slow, other) = behind_a_slow_line(&etcd).await;
    let leading = far.lead().await;
    // The one connection to the other member is for questions after its state.
    within(async { while far.store.status().await.bytes_used.is_none() {} }).await;
    let keys: Vec<_> = (0..COUNT).flat_map(|n| [(LARGE, key(n)), (HOT, key(n))]).collect();
    let begin = Instant::now();
    let values = within(far.store.get(&keys)).await.unwrap();
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(3), "the line is not slow: {took:?}");
    let expected = (0..COUNT).flat_map(|number| [Some(value(number)), Some("small".into())]);
    assert!(values.into_iter().eq(expected), "other values than were put");
    let snapshot = far.store.snapshot().await.unwrap();
    let page = within(snapshot.scan(KeyRange::all(LARGE), Direction::Ascending, COUNT)).await;
    let page = page.unwrap().entries;
    assert!(page.into_iter().eq((0..COUNT).map(|n| (key(n), value(n)))), "not what was put");
    assert!(leading.is_held());
    far.put(leading.fence(), far.next().await, "1").await.unwrap();
    assert_eq!(other.connections(), 1, "a member that was sending was left");
    assert!(slow.connections() < 12, "{} connections were made", slow.connections());
}

/// A batch gets the time that its size takes; nobody is called silent meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_lands_over_a_slow_line() {
    let etcd = Etcd::start();
    let slow = Proxy::slow(etcd.endpoint(), 300_000).await;
    let far =
        Node::new("far", EtcdOptions { endpoints: vec![slow.endpoint()], ..impatient(&etcd) });
    let leading = far.lead().await;
    let mut batch = Batch::new(far.next().await);
    batch.put(LARGE, key(0), vec![7; 1_400_000]);
    let begin = Instant::now();
    within(far.store.commit(leading.fence(), batch)).await.unwrap();
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(3), "the line is not slow: {took:?}");
    assert!(leading.is_held());
}

/// What was sending and sends no more is left like any other that is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_falls_silent_in_the_middle_is_left() {
    let etcd = Etcd::start();
    let (far, slow, other) = behind_a_slow_line(&etcd).await;
    let keys: Vec<_> = (0..COUNT).map(|number| (LARGE, key(number))).collect();
    let reading = {
        let far = far.clone();
        tokio::spawn(async move { within(far.store.get(&keys)).await })
    };
    within(slow.carried(2 * VALUE as u64)).await;
    slow.cut();
    let values = reading.await.unwrap().unwrap();
    assert!(values.into_iter().eq((0..COUNT).map(|number| Some(value(number)))));
    assert!(other.connections() > 0);
}
