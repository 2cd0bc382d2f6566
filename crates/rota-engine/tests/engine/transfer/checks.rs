//! Checks: a store in use is clean, and each fault is found.

use bytes::Bytes;
use rota_engine::transfer::{Dump, Readable, Side, check};
use rota_store::{Batch, Store};

use super::{Fragile, clean, fill, quietly, space};
use crate::support::Node;

async fn faults(store: &Fragile, side: &Side) -> Vec<String> {
    let mut faults = Vec::new();
    let mut tell = |fault: rota_engine::transfer::Fault| {
        faults.push(format!("{}: {}", fault.record, fault.what));
    };
    let report = check(side, &mut tell, &quietly).await.expect("it can be read");
    assert_eq!(report.faults, faults.len() as u64);
    assert_eq!(report.contents.records, store.records().await.len() as u64);
    faults
}

/// The records of a space.
async fn all(store: &Fragile, name: &str) -> Vec<(Bytes, Bytes)> {
    let records = store.records().await.into_iter().filter(|(space, ..)| *space == name);
    records.map(|(_, key, value)| (key, value)).collect()
}

#[tokio::test]
async fn a_store_that_nodes_use_is_clean() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    fill(&data).await;
    let node = Node::start(&data);
    node.submit(crate::support::task("k")).await;
    let side = Side { store: node.store.clone(), name: "used".to_owned() };
    let mut found = Vec::new();
    let report = check(&side, &mut |fault| found.push(fault), &quietly).await.expect("it reads");
    assert_eq!(found, []);
    for space in ["live", "done", "dead", "spec", "result", "attempt", "name", "queue", "total"] {
        assert!(report.contents.spaces.contains_key(space), "{space}");
    }
    node.stop().await;
}

/// Changes a filled store, and expects the fault that this makes.
async fn finds(change: impl AsyncFnOnce(&Fragile) -> Batch, wanted: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    fill(&data).await;
    let store = Fragile::open(&data);
    let changes = change(&store).await;
    store.tamper(|batch| batch.append(changes)).await;
    let found = faults(&store, &store.side("store")).await;
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for wanted in wanted {
        assert!(found.iter().any(|found| found.contains(wanted)), "{wanted}: {found:#?}");
    }
}

#[tokio::test]
async fn records_that_contradict_each_other_are_found() {
    let nothing = Batch::default;
    // A definition is missing.
    let change = async |store: &Fragile| {
        let mut batch = nothing();
        batch.delete(space("spec"), all(store, "live").await.remove(0).0);
        batch
    };
    finds(change, &["the task has no definition"]).await;
    // A task is lost: what belongs to it is left, and the totals count it.
    let change = async |store: &Fragile| {
        let mut batch = nothing();
        batch.delete(space("live"), all(store, "live").await.pop().expect("one").0);
        batch
    };
    finds(change, &["spec/t_", "by this record 11 tasks are live, but 10 are"]).await;
    // A task has two states.
    let change = async |store: &Fragile| {
        let mut batch = nothing();
        let (key, value) = all(store, "done").await.remove(0);
        batch.put(space("dead"), key, value);
        batch
    };
    finds(change, &["more than one state: done and dead", "belongs elsewhere"]).await;
    // A result is missing, another is too many.
    let change = async |store: &Fragile| {
        let mut batch = nothing();
        batch.delete(space("result"), all(store, "result").await.remove(0).0);
        batch.put(space("result"), all(store, "dead").await.remove(0).0, "x");
        batch
    };
    finds(change, &["its result is missing", "unknown to it"]).await;
    // The retention log is empty.
    let change = async |store: &Fragile| {
        let mut batch = nothing();
        for (key, _) in all(store, "retain").await {
            batch.delete(space("retain"), key);
        }
        batch
    };
    finds(change, &["never removed"; 4]).await;
}

#[tokio::test]
async fn names_that_point_nowhere_and_records_that_cannot_be_read_are_found() {
    let change = async |store: &Fragile| {
        let mut batch = Batch::default();
        let (_, owner) = all(store, "name").await.remove(0);
        batch.put(space("name"), "id/nobody", owner);
        batch.delete(space("name"), "id/later-3");
        batch.put(space("name"), "what", "");
        batch
    };
    let wanted = ["name/id/nobody: it names the task", "has no record in `name`", "name/what"];
    finds(change, &wanted).await;
    let change = async |store: &Fragile| {
        let mut batch = Batch::default();
        let (key, _) = all(store, "live").await.remove(0);
        batch.put(space("live"), key.clone(), &b"\xff"[..]);
        batch.put(space("queue"), "a b", "");
        batch.put(space("attempt"), "t_0000000000001/0000000001", &b"\xff"[..]);
        batch.put(space("mark"), "marks", &b"\xff"[..]);
        batch.put(space("cluster"), "level", "x");
        batch
    };
    let wanted = [
        "it is damaged",
        "queue/a b: the key must be the name of a queue",
        "attempt/t_0000000000001: it belongs to no task",
        "attempt/t_0000000000001/0000000001: it cannot be read",
        "mark/marks: it is damaged",
        "cluster/level",
    ];
    finds(change, &wanted).await;
}

#[tokio::test]
async fn everything_can_be_dumped_by_prefix() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    fill(&data).await;
    let store = Fragile::open(&data);
    let dumped = async |prefix: &str| {
        let snapshot = store.snapshot().await.expect("a snapshot");
        let mut dump = Dump::new("store".to_owned(), snapshot, prefix).expect("a space");
        let mut entries = Vec::new();
        loop {
            let more = dump.next().await.expect("it can be read");
            if more.is_empty() {
                return entries;
            }
            entries.extend(more);
        }
    };
    assert_eq!(dumped("").await.len(), store.records().await.len());
    let names = dumped("name/id/later-").await;
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|entry| entry.space == "name" && entry.key.starts_with("id/later-")));
    assert_eq!(dumped("queue").await.len(), 1);
    let Readable::Record(queue) = dumped("queue/").await.remove(0).record else {
        panic!("a queue")
    };
    assert_eq!(queue, serde_json::json!({ "paused": true }));
    let snapshot = store.snapshot().await.expect("a snapshot");
    assert!(Dump::new("store".to_owned(), snapshot, "nothing/x").is_none());
    clean(&store).await;
}
