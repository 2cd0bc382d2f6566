//! Checks: a store in use is clean, and each fault is found.

use bytes::Bytes;
use rota_core::{Backfill, BackfillOrder, BackfillScope, Millis, WallTime};
use rota_cron::{Gap, RecurrenceSpec};
use rota_engine::{
    BackfillCount,
    transfer::{Dump, Readable, Side, check},
};
use rota_store::{Batch, Store};
use serde_json::{Value, json};

use super::{Fragile, clean, fill, quietly, space};
use crate::{
    schedules::{of_times, put_each_second, until_ticks},
    support::{Node, name},
};

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
    // An attempt has a lease that was never given: the last value of a field counts.
    let change = async |store: &Fragile| {
        let mut batch = nothing();
        let (key, value) = all(store, "attempt").await.remove(0);
        let token = [2 << 3, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
        batch.put(space("attempt"), key, [&value[..], &token].concat());
        batch
    };
    finds(change, &["the lease token 34359738368 is above the number of the last batch"]).await;
    // A total cannot be read, so nothing is said of how many tasks must be live.
    let change = async |store: &Fragile| {
        let mut batch = nothing();
        let (key, _) = all(store, "total").await.remove(0);
        batch.put(space("total"), key, &b"\xff"[..]);
        batch
    };
    finds(change, &["it is damaged"]).await;
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
        batch.put(space("attempt"), "first", "");
        batch.put(space("mark"), "other", "");
        batch.put(space("retain"), "other", "");
        batch.put(space("cluster"), "other", "");
        batch.put(space("mark"), "marks", &b"\xff"[..]);
        batch.put(space("cluster"), "level", "x");
        batch
    };
    let wanted = [
        "it is damaged",
        "queue/a b: the key must be the name of a queue",
        "attempt/t_0000000000001: it belongs to no task",
        "attempt/t_0000000000001/0000000001: it cannot be read",
        "attempt/first: the key names no task",
        "mark/other: the key must be `marks` or `successor`",
        "retain/other: the key must be a date and the number of a batch",
        "cluster/other: the key must be `level`",
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
    let pause = serde_json::json!({
        "at": "2027-01-15T08:00:00Z", "by": "ann", "note": "migration", "on_failure": false,
    });
    assert_eq!(queue, serde_json::json!({ "paused": true, "pause": pause }));
    let snapshot = store.snapshot().await.expect("a snapshot");
    assert!(Dump::new("store".to_owned(), snapshot, "nothing/x").is_none());
    clean(&store).await;
    let Readable::Record(expiring) = dumped("retain/").await.remove(0).record else {
        panic!("an entry of the log")
    };
    assert!(expiring["tasks"].is_array() && expiring["ticks"].is_null(), "{expiring}");
    // A copy has neither of these.
    let foreign = |batch: &mut Batch| {
        batch.put(space("mark"), "successor", "other");
        batch.put(space("attempt"), "first", "");
    };
    store.tamper(foreign).await;
    assert_eq!(dumped("mark/successor").await.len(), 1);
    let Readable::Foreign(wanted) = dumped("attempt/first").await.remove(0).record else {
        panic!("no attempt is called so")
    };
    assert_eq!(wanted, "a task id and the number of an attempt");
}

/// A schedule `s` with a backfill under way.
async fn fill_schedules(node: &Node) {
    let times = RecurrenceSpec {
        expressions: vec!["0 6 * * *".to_owned()],
        time_zone: Some("Europe/Berlin".to_owned()),
        gap: Gap::Skip,
        ..RecurrenceSpec::default()
    };
    let definition = of_times(times);
    node.engine.put_schedule(name("s"), definition, None).await.expect("it is accepted");
    let wanted = backfill(DAYS, DAYS + 3 * 86_400_000);
    assert_eq!(
        node.engine.backfill_count(&name("s"), &wanted).await.expect("an answer"),
        BackfillCount { occurrences: 3, ..BackfillCount::default() },
    );
    let begun = node.engine.backfill_schedule(&name("s"), Some(Box::new(wanted))).await;
    begun.expect("it begins");
    assert_eq!(node.lease(1).await.len(), 1);
}

pub(crate) fn backfill(from: i64, to: i64) -> Backfill {
    Backfill {
        from: WallTime(from),
        to: WallTime(to),
        cursor: WallTime(0),
        priority: None,
        order: BackfillOrder::OneByOne,
        interval: Millis(0),
        next_at: WallTime(0),
        scope: BackfillScope::Missing,
        last_task: None,
        created: 0,
        present: 0,
        refused: 0,
    }
}

/// Midnight in a winter.
const DAYS: i64 = 1_768_435_200_000;

/// The first record whose name begins so, for people.
async fn first_of(store: &Fragile, prefix: &str) -> Value {
    let snapshot = store.snapshot().await.expect("a snapshot");
    let mut dump = Dump::new("store".to_owned(), snapshot, prefix).expect("a space");
    match dump.next().await.expect("it can be read").remove(0).record {
        Readable::Record(record) => record,
        other => panic!("{prefix}: {other:?}"),
    }
}

#[tokio::test]
async fn ticks_are_dumped_and_the_tasks_that_they_created() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    put_each_second(&node).await;
    until_ticks(&node, 1).await;
    node.stop().await;
    let store = Fragile::open(&data);
    let tick = first_of(&store, "tick/s ").await;
    assert_eq!((&tick["schedule"], &tick["run"]["outcome"]), (&json!("s"), &json!("fired")));
    let task = tick["run"]["task"].as_str().expect("it created one");
    let spec = first_of(&store, &format!("spec/{task}")).await;
    assert_eq!(spec["tick"]["schedule"], json!("s"));
    assert_eq!(spec["tick"]["nominal_time"], tick["run"]["first"]);
}

#[tokio::test]
async fn schedules_are_dumped_in_plain_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    fill_schedules(&node).await;
    node.stop().await;
    let store = Fragile::open(&data);
    let schedule = first_of(&store, "schedule/").await;
    assert_eq!(
        schedule["times"],
        json!({
            "expressions": ["0 6 * * *"], "time_zone": "Europe/Berlin", "gap": "skip", "fold": "first",
        })
    );
    assert_eq!((&schedule["name"], &schedule["overlap"]), (&json!("s"), &json!("allow")));
    let cursor = first_of(&store, "cursor/").await;
    let backfill = &cursor["backfill"];
    assert_eq!((&backfill["created"], &backfill["all"]), (&json!(1), &json!(null)));
    assert_eq!(backfill["parallel"], json!(null), "one after the other");
    assert_eq!(backfill["from"], json!("2026-01-15T00:00:00Z"));
    clean(&store).await;
}
