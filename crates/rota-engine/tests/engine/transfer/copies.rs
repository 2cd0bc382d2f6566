//! Copies: complete, interrupted at every commit, and refused.

use std::sync::atomic::Ordering;

use rota_core::Status;
use rota_engine::{
    Role, TaskRef,
    transfer::{CopyOptions, Side, TransferError, copy},
};
use rota_store::{Batch, BatchSeq, Member, Store};

use super::{Fragile, clean, fill, quietly, space, try_copy};
use crate::support::{MoodyStore, Node, completed, name, until};

const FRESH: CopyOptions = CopyOptions { restart: false };
const RESTART: CopyOptions = CopyOptions { restart: true };

#[tokio::test]
async fn a_copy_is_equal_and_its_tokens_go_on_growing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from_dir, to_dir) = (directory.path().join("from"), directory.path().join("to"));
    let filled = fill(&from_dir).await;
    let (from, to) = (Fragile::open(&from_dir), Fragile::open(&to_dir));
    let before = clean(&from).await;
    let copied = try_copy(&from, &to, FRESH).await.expect("it is copied");
    assert!(!copied.resumed);
    // Where a leadership only lapses, the nodes that come next would wait for that.
    let resigned = [&from, &to].map(|store| store.resigned.load(Ordering::SeqCst));
    assert_eq!(resigned, [1, 1]);
    assert_eq!((&copied.from, &copied.to), (&before, &before));
    // The level and the mark come with the last batch.
    assert_eq!(copied.written + 1, before.records);
    assert!(copied.to_head > copied.from_head);
    assert_eq!(to.head().await.expect("a head").seq, copied.to_head);
    assert_eq!(from.records().await, to.records().await);
    assert_eq!(clean(&to).await, before);
    from.close().await;
    to.close().await;

    let node = Node::start(&to_dir);
    let leased = node.engine.task(&filled.leased).await.expect("an answer").expect("it is there");
    assert_eq!(leased.status, Status::Assigned);
    for number in 0..filled.waiting {
        let task = TaskRef::Named(name(&format!("later-{number}")));
        node.engine.task(&task).await.expect("an answer").expect("it is there");
    }
    let more = node.submit(crate::support::task("more")).await;
    let next = node.lease(1).await;
    assert!(next[0].token.0 > filled.token && next[0].token.0 > copied.from_head.0);
    assert!(node.report(&next[0], completed("")).await);
    let ended = node.engine.task(&more).await.expect("an answer").expect("it is there");
    assert_eq!(ended.status, Status::Completed);
    node.stop().await;
    clean(&Fragile::open(&to_dir)).await;
}

#[tokio::test]
async fn a_copy_that_dies_at_any_commit_is_finished_by_the_next() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let mut whole = 0;
    for lands in [false, true] {
        for commits in 0.. {
            let to_dir = directory.path().join(format!("to-{lands}-{commits}"));
            let to = Fragile::dying(&to_dir, commits, lands);
            let first = try_copy(&from, &to, FRESH).await;
            if first.is_ok() {
                whole = commits;
                break;
            }
            let lost = matches!(first, Err(TransferError::LeadershipLost { .. }));
            assert!(lost, "{first:?}");
            to.left.store(i64::MAX, Ordering::SeqCst);
            let second = try_copy(&from, &to, FRESH).await.expect("it is finished");
            assert_eq!(second.from, second.to);
            assert_eq!(second.resumed, commits > 0 || lands, "{commits}");
            assert_eq!(from.records().await, to.records().await, "{commits}");
            if commits > 1 {
                assert!(second.written < second.to.records, "it goes on where the first was");
            }
            to.close().await;
        }
    }
    assert!(whole > 8, "{whole} commits");
}

#[tokio::test]
async fn no_node_leads_on_half_a_copy() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from_dir, to_dir) = (directory.path().join("from"), directory.path().join("to"));
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let to = Fragile::dying(&to_dir, 3, true);
    try_copy(&from, &to, FRESH).await.expect_err("it dies");
    to.close().await;
    let node = Node::start(&to_dir);
    let problem = || {
        let checks = node.engine.health().checks;
        checks.into_iter().find(|check| check.name == "version").and_then(|check| check.problem)
    };
    until(|| problem().is_some()).await;
    let told = problem().expect("a problem");
    assert!(told.contains("unfinished copy") && told.contains("rota store copy"), "{told}");
    assert!(!matches!(node.engine.info().role, Role::Leader));
    assert!(node.store.members().await.expect("an answer").is_empty(), "it does not campaign");
    // It waits, and leads as soon as the copy is finished.
    let side = Side { store: node.store.clone(), name: "to".to_owned() };
    copy(&from.side("from"), &side, FRESH, &quietly).await.expect("it is finished");
    until(|| matches!(node.engine.info().role, Role::Leader)).await;
    node.stop().await;
}

#[tokio::test]
async fn stores_that_are_in_use_are_refused_and_stay_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from_dir, to_dir) = (directory.path().join("from"), directory.path().join("to"));
    fill(&from_dir).await;
    let node = Node::start(&from_dir);
    until(|| matches!(node.engine.info().role, Role::Leader)).await;
    let used = Side { store: node.store.clone(), name: "used".to_owned() };
    let to = Fragile::open(&to_dir);
    for (one, other) in [(&used, &to.side("to")), (&to.side("to"), &used)] {
        let refused = copy(one, other, FRESH, &quietly).await;
        let Err(TransferError::InUse { store, nodes }) = refused else { panic!("{refused:?}") };
        assert_eq!((store.as_str(), nodes.len()), ("used", 1));
    }
    assert!(to.records().await.is_empty());
    let task = node.submit(crate::support::task("k")).await;
    node.engine.task(&task).await.expect("it leads as before");
    let store = node.store.clone();
    node.leave().await;

    let same = Side { store, name: "same".to_owned() };
    let refused = copy(&same, &same, FRESH, &quietly).await;
    assert!(matches!(refused, Err(TransferError::SameStore { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_node_that_starts_during_a_copy_does_not_lead_and_a_lost_source_ends_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from_dir, to_dir) = (directory.path().join("from"), directory.path().join("to"));
    fill(&from_dir).await;
    let (from, to) = (Fragile::open(&from_dir), MoodyStore::open(&to_dir));
    to.set(crate::support::Mood::Holding);
    let side = Side { store: to.clone(), name: "to".to_owned() };
    let source = from.side("from");
    let copying = tokio::spawn(async move { copy(&source, &side, FRESH, &quietly).await });
    until(|| to.entered.load(Ordering::Relaxed) > 0).await;
    let node = Node::start_on(to.clone(), rota_engine::EngineOptions::default());
    let campaigns = async {
        while node.store.members().await.expect("an answer").len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    campaigns.await;
    assert!(!matches!(node.engine.info().role, Role::Leader));
    from.close().await;
    let lost = copying.await.expect("no panic");
    let Err(TransferError::LeadershipLost { store }) = lost else { panic!("{lost:?}") };
    assert_eq!(store, "from");
    to.set(crate::support::Mood::Well);
    node.stop().await;
}

#[tokio::test]
async fn a_destination_with_other_data_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let to = Fragile::open(&directory.path().join("to"));
    // What a node writes by itself is no data.
    let own = |batch: &mut Batch| {
        batch.put(space("cluster"), "level", "1");
        batch.put(space("mark"), "marks", "");
        batch.put(space("mark"), "successor", "n1");
    };
    to.tamper(own).await;
    to.tamper(|batch| batch.put(space("queue"), "mine", "")).await;
    let refused = try_copy(&from, &to, RESTART).await;
    let Err(TransferError::NotEmpty { found, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(found, "queue/mine");
    to.tamper(|batch| batch.delete(space("queue"), "mine")).await;
    try_copy(&from, &to, FRESH).await.expect("it is empty");
    assert_eq!(from.records().await, to.records().await);
    let again = try_copy(&from, &to, FRESH).await.expect("it is finished");
    assert_eq!((again.written, again.from), (0, again.to));
    to.tamper(|batch| batch.put(space("queue"), "mine", "")).await;
    let again = try_copy(&from, &to, FRESH).await;
    assert!(matches!(again, Err(TransferError::NotEmpty { .. })), "{again:?}");
    let nothing = Fragile::open(&directory.path().join("nothing"));
    let empty = try_copy(&nothing, &to, FRESH).await;
    assert!(matches!(empty, Err(TransferError::Empty { .. })), "{empty:?}");
}

#[tokio::test]
async fn half_of_another_copy_is_removed_only_if_that_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from_dir, other_dir) = (directory.path().join("from"), directory.path().join("other"));
    fill(&from_dir).await;
    fill(&other_dir).await;
    let (from, other) = (Fragile::open(&from_dir), Fragile::open(&other_dir));
    let to = Fragile::dying(&directory.path().join("to"), 5, true);
    try_copy(&from, &to, FRESH).await.expect_err("it dies");
    to.left.store(i64::MAX, Ordering::SeqCst);
    let half = copy(&to.side("to"), &from.side("from"), FRESH, &quietly).await;
    assert!(matches!(half, Err(TransferError::Unfinished { .. })), "{half:?}");
    let refused = copy(&other.side("other"), &to.side("to"), FRESH, &quietly).await;
    let Err(TransferError::OtherTransfer { what, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(what, "copy of from");
    // The removal dies as well.
    for commits in [0, 2] {
        to.left.store(commits, Ordering::SeqCst);
        copy(&other.side("other"), &to.side("to"), RESTART, &quietly).await.expect_err("it dies");
    }
    to.left.store(i64::MAX, Ordering::SeqCst);
    // It is the copy of `other` now.
    let copied = copy(&other.side("other"), &to.side("to"), FRESH, &quietly).await;
    assert!(!copied.expect("it is copied").resumed);
    assert_eq!(other.records().await, to.records().await);
}

#[tokio::test]
async fn a_source_that_changed_is_copied_from_the_beginning() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let to = Fragile::dying(&directory.path().join("to"), 5, true);
    try_copy(&from, &to, FRESH).await.expect_err("it dies");
    to.left.store(i64::MAX, Ordering::SeqCst);
    from.tamper(|batch| batch.put(space("queue"), "new", "")).await;
    let (_, key, _) = from.records().await.remove(0);
    from.tamper(|batch| batch.delete(space("live"), key)).await;
    let copied = try_copy(&from, &to, FRESH).await.expect("it is copied");
    assert!(!copied.resumed);
    assert_eq!(from.records().await, to.records().await);
}

#[tokio::test]
async fn a_destination_that_takes_less_than_it_says_gets_smaller_batches() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from_dir, to_dir) = (directory.path().join("from"), directory.path().join("to"));
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let to = Fragile::dying(&to_dir, 2, false);
    // As etcd does: the batch that showed it is fenced, and the next leadership has lower limits.
    to.lowers_to(5);
    let copied = try_copy(&from, &to, FRESH).await.expect("it is copied");
    assert_eq!(to.limits().mutations_max, 5);
    assert!(!copied.resumed);
    assert_eq!(from.records().await, to.records().await);
}

#[tokio::test]
async fn a_copy_waits_for_a_store_that_is_full_or_away_for_a_moment() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from_dir, to_dir) = (directory.path().join("from"), directory.path().join("to"));
    fill(&from_dir).await;
    let (from, to) = (Fragile::open(&from_dir), Fragile::open(&to_dir));
    from.away.store(1, Ordering::SeqCst);
    to.refused.store(2, Ordering::SeqCst);
    try_copy(&from, &to, FRESH).await.expect("it is copied");
    assert_eq!((from.away.load(Ordering::SeqCst), to.refused.load(Ordering::SeqCst)), (0, 0));
    assert_eq!(from.records().await, to.records().await);
}

#[tokio::test]
async fn a_record_that_the_destination_cannot_take_is_named_before_anything_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let from = Fragile::open(&directory.path().join("from"));
    let to = Fragile::open(&directory.path().join("to"));
    from.tamper(|batch| batch.put(space("result"), "t_0000000000001", vec![7; 9 << 20])).await;
    to.bytes_max.store(8 << 20, Ordering::SeqCst);
    let refused = try_copy(&from, &to, FRESH).await;
    let Err(TransferError::TooLarge { record, bytes, max, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((record.as_str(), bytes), ("result/t_0000000000001", (9 << 20) + 15));
    assert!(max < 8 << 20);
    assert!(to.records().await.is_empty());
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_not_copied() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let to = Fragile::open(&directory.path().join("to"));
    from.tamper(|batch| batch.put(space("cluster"), "level", "77")).await;
    let refused = try_copy(&from, &to, FRESH).await;
    assert!(matches!(refused, Err(TransferError::Newer { .. })), "{refused:?}");
    assert!(to.records().await.is_empty());
}

#[tokio::test]
async fn the_first_batch_has_at_least_the_number_of_the_source() {
    let directory = tempfile::tempdir().expect("a directory");
    let from = Fragile::open(&directory.path().join("from"));
    let leadership = from.inner.campaign(&Member::alone("n")).await.expect("free");
    let mut batch = Batch::new(BatchSeq(1 << 40));
    batch.put(space("queue"), "q", "");
    from.inner.commit(leadership.fence(), batch).await.expect("it is the first");
    leadership.resign(None).await;
    let to = Fragile::open(&directory.path().join("to"));
    let copied = try_copy(&from, &to, FRESH).await.expect("it is copied");
    assert!(copied.to_head.0 > 1 << 40, "{}", copied.to_head);
}

#[tokio::test]
async fn a_destination_that_loses_a_record_is_not_used_and_the_next_copy_begins_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let to = Fragile::open(&directory.path().join("to"));
    *to.loses.lock().expect("nobody panics with it") = Some("spec");
    let differs = try_copy(&from, &to, FRESH).await;
    let Err(TransferError::Differs { spaces }) = differs else { panic!("{differs:?}") };
    assert_eq!(spaces, ["spec (16 and 15 records)"]);
    let half = copy(&to.side("to"), &from.side("from"), FRESH, &quietly).await;
    assert!(matches!(half, Err(TransferError::Unfinished { .. })), "{half:?}");
    try_copy(&from, &to, FRESH).await.expect("it is copied");
    assert_eq!(from.records().await, to.records().await);
}
