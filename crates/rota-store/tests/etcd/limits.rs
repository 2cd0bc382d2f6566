//! How much etcd takes: in a transaction, in a request, and in all.

use std::time::Duration;

use rota_store::{Batch, CommitError, Direction, KeyRange, Store, etcd::EtcdOptions};

use crate::{
    node::{HOT, LARGE, Node, within},
    server::Etcd,
};

/// A batch that uses the limits up: as many keys, each as long as may be, and as many bytes.
fn fullest(node: &Node, seq: rota_store::BatchSeq) -> Batch {
    let limits = node.store.limits();
    let mut batch = Batch::new(seq);
    let each = limits.bytes_max / limits.mutations_max - limits.mutation_bytes;
    for number in 0..limits.mutations_max {
        let key = format!("{number:0width$}", width = 64.min(each / 2));
        let value = vec![7; each - key.len()];
        batch.put(LARGE, key, value);
    }
    assert!(limits.take(batch.mutations.len(), batch.bytes()));
    batch
}

/// One key with as many bytes as may be.
fn largest(node: &Node, seq: rota_store::BatchSeq) -> Batch {
    let limits = node.store.limits();
    let mut batch = Batch::new(seq);
    batch.put(LARGE, "large", vec![7; limits.bytes_max - limits.mutation_bytes - "large".len()]);
    assert!(limits.take(1, batch.bytes()));
    assert!(batch.bytes() > (1 << 20) + (256 << 10), "a payload of a mebibyte needs room");
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_the_limits_is_taken_by_etcd() {
    let raised = ["--max-txn-ops=4096", "--max-request-bytes=3000000"];
    for (arguments, operations, bytes, mutations) in [
        (&[][..], 128, 1_572_864, 2048),
        (&["--max-txn-ops=8"], 8, 1_572_864, 12),
        (&["--max-txn-ops=47"], 47, 1_572_864, 506),
        (&raised[..1], 4096, 1_572_864, 4095),
        (&raised, 4096, 3_000_000, 4095),
    ] {
        let etcd = Etcd::with(arguments);
        let options = EtcdOptions {
            prefix: "a/rather/long/prefix/of/forty/characters".to_owned(),
            txn_ops_max: operations,
            request_bytes_max: bytes,
            ..etcd.options()
        };
        let a = Node::new("a", options);
        let leading = a.lead().await;
        assert_eq!(a.store.limits().mutations_max, mutations);
        let batch = fullest(&a, a.next().await);
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
        let batch = largest(&a, a.next().await);
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
    }
}

/// Options that promise more than etcd takes cost a leadership, and no more: the batch did not land,
/// and the next leader cuts its batches by what etcd does take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_etcd_does_not_take_lowers_the_limits() {
    let etcd = Etcd::with(&["--max-txn-ops=64"]);
    let options = EtcdOptions { txn_ops_max: 1024, request_bytes_max: 8_000_000, ..etcd.options() };
    let a = Node::new("a", options);
    for (keys, value, mutations, bytes) in [
        // As many operations as may be nested in 64, and then half of the bytes of a request.
        (2000, 1, 992, 7_995_904),
        (1, 1_600_000, 992, 1_568_768),
    ] {
        let leading = a.lead().await;
        let seq = a.next().await;
        let mut batch = Batch::new(seq);
        (0..keys).for_each(|key: u32| batch.put(LARGE, key.to_string(), vec![1; value]));
        let refused = within(a.store.commit(leading.fence(), batch)).await;
        assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
        within(leading.lost()).await;
        assert!(!leading.is_held());
        drop(leading);
        let leading = a.lead().await;
        assert_eq!(a.next().await, seq, "it landed all the same");
        let limits = a.store.limits();
        assert_eq!(limits.mutations_max, mutations);
        assert!(limits.bytes_max <= bytes && limits.bytes_max > bytes - 70_000, "{limits:?}");
        drop(leading);
    }
    let leading = a.lead().await;
    let batch = fullest(&a, a.next().await);
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
    let batch = largest(&a, a.next().await);
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
    // Reads ask for as much at once as is taken, too.
    let keys: Vec<_> = (0..200).map(|n| (HOT, format!("{n}").into())).collect();
    assert_eq!(within(a.store.get(&keys)).await.unwrap().len(), 200);
}

/// The same with a request that etcd does not even receive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_far_too_large_lowers_the_limits_as_well() {
    let etcd = Etcd::start();
    let a = Node::new("a", EtcdOptions { request_bytes_max: 8_000_000, ..etcd.options() });
    let leading = a.lead().await;
    let mut batch = Batch::new(a.next().await);
    batch.put(LARGE, "huge", vec![1; 6_000_000]);
    let refused = within(a.store.commit(leading.fence(), batch)).await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
    drop(leading);
    let leading = a.lead().await;
    let batch = largest(&a, a.next().await);
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_etcd_is_full_it_is_told_and_goes_on_after_the_alarm() {
    // Large beside a step by which etcd's file grows.
    let quota = 128 << 20;
    let etcd = Etcd::with(&[&format!("--quota-backend-bytes={quota}")]);
    let options =
        EtcdOptions { quota_bytes: quota, leader_ttl: Duration::from_secs(60), ..etcd.options() };
    let a = Node::new("a", options);
    let leading = a.lead().await;
    let fence = leading.fence();
    let mut after_pressure = 0;
    let full = loop {
        let mut batch = Batch::new(a.next().await);
        batch.put(LARGE, "the same each time", vec![1; 1_000_000]);
        match within(a.store.commit(fence, batch)).await {
            Ok(_) if after_pressure > 0 => after_pressure += 1,
            Ok(_) => after_pressure += u32::from(a.store.status().await.pressure.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, CommitError::Full(_)), "{full:?}");
    assert!(after_pressure > 6, "running work had no room: {after_pressure}");
    let problem = a.store.status().await.problem.unwrap();
    assert!(problem.contains("NOSPACE"), "{problem}");
    // What is there can be read, and the leadership is kept.
    let seq = a.next().await;
    assert!(a.store.get(&[(LARGE, "the same each time".into())]).await.unwrap()[0].is_some());

    // What an operator does.
    let revision = a.store.snapshot().await.unwrap().revision();
    etcd.ctl(&["compact", &revision.to_string(), "--physical"]);
    etcd.ctl(&["defrag"]);
    etcd.ctl(&["alarm", "disarm"]);
    a.put(fence, seq, "1").await.unwrap();
    let status = a.store.status().await;
    assert_eq!((status.problem, status.pressure), (None, None));
}

/// etcd stops taking writes when the file of any member reaches the quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fullest_member_of_etcd_counts() {
    let quota: u64 = 48 << 20;
    let members = Etcd::cluster_with(&[&format!("--quota-backend-bytes={quota}")]);
    let mut options = EtcdOptions { quota_bytes: quota, ..members[0].options() };
    options.endpoints = members.iter().map(Etcd::endpoint).collect();
    let a = Node::new("a", options);
    let leading = a.lead().await;
    for _ in 0..38 {
        let mut batch = Batch::new(a.next().await);
        batch.put(LARGE, "the same each time", vec![1; 1_000_000]);
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
    }
    let revision = a.store.snapshot().await.unwrap().revision();
    members[0].ctl(&["compact", &revision.to_string(), "--physical"]);
    // One member keeps its file, and it is not the first one to be asked.
    members[0].ctl(&["defrag"]);
    members[2].ctl(&["defrag"]);
    let told = within(async {
        loop {
            let status = a.store.status().await;
            if status.pressure.is_some() {
                return status;
            }
            tokio::task::yield_now().await;
        }
    });
    let status = told.await;
    assert!(status.bytes_used.unwrap() > quota / 4 * 3, "{status:?}");
    members[1].ctl(&["defrag"]);
    within(async { while a.store.status().await.pressure.is_some() {} }).await;
}

/// etcd has no cheap way to the end of a range; pages from there must be right all the same, and so
/// must those that were read ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_range_is_read_from_both_ends() {
    let etcd = Etcd::with(&["--max-txn-ops=10000"]);
    let a = Node::new("a", EtcdOptions { txn_ops_max: 10_000, ..etcd.options() });
    let leading = a.lead().await;
    // Keys with much in common and in clusters, as ids that begin with the time are.
    let key = |number: usize| format!("01JD{:06}XY{:04}", number / 997 * 31, number % 997);
    let keys: Vec<String> = (0..24_000).map(key).collect();
    for part in keys.chunks(8000) {
        let mut batch = Batch::new(a.next().await);
        part.iter().for_each(|key| batch.put(HOT, key.clone(), "a value of some bytes"));
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
    }
    let snapshot = a.store.snapshot().await.unwrap();
    for (direction, limit, pages) in [
        (Direction::Descending, 1, 30),
        (Direction::Descending, 50, 20),
        (Direction::Descending, 5000, 5),
        (Direction::Ascending, 300, 80),
        (Direction::Ascending, 10_000, 3),
    ] {
        let mut range = KeyRange::all(HOT);
        let mut expected = keys.clone();
        if direction == Direction::Descending {
            expected.reverse();
        }
        for expected in expected.chunks(limit).take(pages) {
            let page = within(snapshot.scan(range.clone(), direction, limit)).await.unwrap();
            let found = page.entries.iter().map(|(key, _)| key);
            assert!(found.eq(expected.iter().map(String::as_bytes)), "{direction:?} {limit}");
            let last = expected.last().unwrap();
            let end = match direction {
                Direction::Descending => {
                    range.end = Some(last.clone().into());
                    keys.first()
                }
                Direction::Ascending => {
                    range.start = format!("{last}\0").into();
                    keys.last()
                }
            };
            assert_eq!(page.more, Some(last) != end, "{direction:?} {limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_walk_over_large_values_finds_each_key_once_and_in_order() {
    let etcd = Etcd::start();
    let a = Node::new("a", etcd.options());
    let leading = a.lead().await;
    // Runs of neighbours, keys that begin others, and some that stand alone.
    let numbered = (0..3000).map(|number| format!("t_{:05}", number * 7 % 30_011));
    let nested = (0..1500).map(|number| format!("u/{}/{number}", "x".repeat(number % 3)));
    let mut keys: Vec<String> =
        numbered.chain(nested).chain(["a", "z", "zz"].map(Into::into)).collect();
    for part in keys.chunks(1500) {
        let mut batch = Batch::new(a.next().await);
        for key in part {
            batch.put(LARGE, key.clone(), vec![7; key.len() * 10]);
        }
        within(a.store.commit(leading.fence(), batch)).await.unwrap();
    }
    keys.sort_unstable();
    keys.dedup();
    let snapshot = within(a.store.snapshot()).await.unwrap();
    for limit in [5000, 700, 33] {
        let mut range = KeyRange::all(LARGE);
        let mut found = Vec::new();
        loop {
            let page =
                within(snapshot.scan(range.clone(), Direction::Ascending, limit)).await.unwrap();
            assert!(!page.entries.is_empty() && page.entries.len() <= limit);
            found.extend(
                page.entries.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()),
            );
            if !page.more {
                break;
            }
            range.start = [found.last().unwrap().as_bytes(), b"\0"].concat().into();
        }
        assert!(found == keys, "{} of {} keys in pages of {limit}", found.len(), keys.len());
    }
}
