//! What is forgotten, and that nothing else is missed for it.

use std::time::Duration;

use futures_util::StreamExt;
use rota_store::{Batch, Direction, KeyRange, Revision, Store, StoreError, etcd::EtcdOptions};

use crate::{
    node::{HOT, Node, within},
    server::Etcd,
};

/// etcd's revision now, got by writing something that is not Rota's.
fn foreign_write(etcd: &Etcd) -> String {
    etcd.ctl(&["put", "elsewhere", "1"]);
    let told = etcd.ctl(&["get", "elsewhere", "--write-out=fields"]);
    let line = told.lines().find(|line| line.starts_with("\"Revision\"")).unwrap();
    line.split(" : ").last().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_or_watches_past_a_compaction_is_told() {
    let etcd = Etcd::start();
    let a = Node::new("a", etcd.options());
    let leading = a.lead().await;
    let mut revisions = Vec::new();
    for value in ["1", "2", "3"] {
        revisions.push(a.put(leading.fence(), a.next().await, value).await.unwrap());
    }
    let old = a.store.snapshot().await.unwrap();
    revisions.push(a.put(leading.fence(), a.next().await, "4").await.unwrap());
    etcd.ctl(&["compact", &revisions[3].to_string()]);

    let read = old.get(&[(HOT, "a".into())]).await;
    assert!(matches!(read, Err(StoreError::Compacted)), "{read:?}");
    let scanned = old.scan(KeyRange::all(HOT), Direction::Ascending, 10).await;
    assert!(matches!(scanned, Err(StoreError::Compacted)), "{scanned:?}");
    let mut changes = a.store.watch(revisions[0]).await.unwrap();
    let told = within(changes.next()).await;
    assert!(matches!(told, Some(Err(StoreError::Compacted))), "{told:?}");
    assert!(within(changes.next()).await.is_none());
    // From the last commit on nothing is missing.
    let mut changes = a.store.watch(revisions[3]).await.unwrap();
    let last = a.put(leading.fence(), a.next().await, "5").await.unwrap();
    assert_eq!(within(changes.next()).await.unwrap().unwrap().revision, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_missed_nothing_goes_on_past_a_compaction() {
    let etcd = Etcd::start();
    let a = Node::new("a", etcd.options());
    let leading = a.lead().await;
    let last = a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let before = a.store.snapshot().await.unwrap();
    assert_eq!(before.revision(), last);
    // Others write and have etcd forget everything before that: the last commit is far behind.
    foreign_write(&etcd);
    etcd.ctl(&["compact", &foreign_write(&etcd)]);
    let snapshot = a.store.snapshot().await.unwrap();
    assert_eq!(snapshot.revision(), last);
    assert_eq!(snapshot.get(&[(HOT, "a".into())]).await.unwrap(), [Some("1".into())]);
    let mut changes = a.store.watch(last).await.unwrap();
    assert!(futures_util::poll!(changes.next()).is_pending());
    let next = a.put(leading.fence(), a.next().await, "2").await.unwrap();
    assert_eq!(within(changes.next()).await.unwrap().unwrap().revision, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_has_etcd_forget_what_is_older_than_the_history() {
    let etcd = Etcd::start();
    let options = EtcdOptions { history: Duration::from_millis(300), ..etcd.options() };
    let a = Node::new("a", options);
    let leading = a.lead().await;
    let first = a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let last = a.put(leading.fence(), a.next().await, "2").await.unwrap();
    within(async {
        loop {
            let mut changes = a.store.watch(Revision(first.0 - 1)).await.unwrap();
            match changes.next().await.unwrap() {
                Ok(_) => tokio::task::yield_now().await,
                Err(StoreError::Compacted) => return,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    // What the last commit made stays readable, and watches go on from it.
    assert_eq!(a.value().await.unwrap(), "2");
    let mut changes = a.store.watch(last).await.unwrap();
    let next = a.put(leading.fence(), a.next().await, "3").await.unwrap();
    assert_eq!(within(changes.next()).await.unwrap().unwrap().revision, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_etcd_tells_in_pieces_is_seen_whole() {
    let etcd = Etcd::start();
    let a = Node::new("a", etcd.options());
    let leading = a.lead().await;
    let limits = a.store.limits();
    let bytes = limits.bytes_max - 10 * limits.mutation_bytes;
    let mut revisions = Vec::new();
    // Together far more than etcd sends at once, and each with several keys.
    for number in 0..6_u8 {
        let mut batch = Batch::new(a.next().await);
        for key in 0..10_u8 {
            batch.put(HOT, vec![key], vec![number; bytes / 10 - 1]);
        }
        revisions.push(a.store.commit(leading.fence(), batch).await.unwrap());
    }
    let mut changes = a.store.watch(Revision(0)).await.unwrap();
    for (number, revision) in revisions.into_iter().enumerate() {
        let change = within(changes.next()).await.unwrap().unwrap();
        assert_eq!(change.revision, revision);
        assert_eq!(usize::try_from(change.head.seq.0).unwrap(), number + 1);
        assert_eq!(change.mutations.len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_etcd_can_be_read_by_people() {
    let etcd = Etcd::start();
    let a = Node::new("a", etcd.options());
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    a.put(leading.fence(), a.next().await, "2").await.unwrap();
    let epoch = leading.fence().epoch;
    let told = etcd.ctl(&["get", "--prefix", "rota/"]);
    let member = r#"{"name":"a","address":"http://a:7420"}"#;
    let expected = [
        ("rota/format", "1"),
        ("rota/head", &format!("{epoch}/2")),
        ("rota/leader", member),
        ("rota/nodes/a", member),
        ("rota/s/hot/a", "2"),
    ];
    let lines: Vec<&str> = expected.iter().flat_map(|(key, value)| [*key, *value]).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), lines);
}
