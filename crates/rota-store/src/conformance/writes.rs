//! Laws 1, 2, 3, 5 and 9: what a commit does and does not do.

use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    StoreFactory,
    rig::{HOT, LARGE, Rig, UNDECLARED, WARM, scan, within},
};
use crate::{
    model::{Batch, BatchSeq, Direction, Head, KEY_BYTES_MAX, KeyRange, Member, VALUE_BYTES_MAX},
    store::{CommitError, StoreError},
};

pub(super) async fn a_batch_survives_reopening(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let mut batch = rig.next().await;
    batch.put(HOT, "a", "1");
    batch.put(WARM, "a", "2");
    batch.put(LARGE, "a", vec![3; 100_000]);
    rig.commit(batch).await.unwrap();
    let rig = rig.reopen(factory).await;
    assert_eq!(rig.read(HOT, "a").await.unwrap(), "1");
    assert_eq!(rig.read(WARM, "a").await.unwrap(), "2");
    assert_eq!(rig.read(LARGE, "a").await.unwrap(), vec![3; 100_000]);
}

pub(super) async fn deletes_survive_reopening(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("a", Some("1")), ("b", Some("1"))]).await;
    let rig = rig.reopen(factory).await;
    rig.write(HOT, &[("a", None), ("b", Some("2"))]).await;
    let rig = rig.reopen(factory).await;
    assert_eq!(rig.read(HOT, "a").await, None);
    assert_eq!(rig.read(HOT, "b").await.unwrap(), "2");
}

pub(super) async fn a_long_history_survives_reopening(factory: &dyn StoreFactory) {
    let mut rig = Rig::new(factory).await;
    for round in 0..4_u32 {
        for batch_number in 0..100_u32 {
            let mut batch = rig.next().await;
            for key in 0..50_u32 {
                let key = Bytes::from(format!("{:04}", (key * 37 + batch_number) % 500));
                if key[3] % 3 == 0 {
                    batch.delete(HOT, key);
                } else {
                    batch.put(HOT, key, format!("{round}/{batch_number}"));
                }
            }
            rig.commit(batch).await.unwrap();
        }
        let before = all(&rig).await;
        let head = rig.store.head().await.unwrap();
        rig = rig.reopen(factory).await;
        assert_eq!(rig.store.head().await.unwrap(), head);
        assert_eq!(all(&rig).await, before);
    }
}

async fn all(rig: &Rig) -> Vec<(Bytes, Bytes)> {
    let snapshot = rig.store.snapshot().await.unwrap();
    scan(&*snapshot, KeyRange::all(HOT), Direction::Ascending, 100).await
}

pub(super) async fn the_head_tells_the_last_batch(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    assert_eq!(rig.store.head().await.unwrap().seq, BatchSeq(0));
    let mut last = rig.store.status().await.revision;
    for number in 1..=5 {
        let revision = rig.write(HOT, &[("a", Some("1"))]).await;
        assert!(revision > last, "a revision does not grow");
        last = revision;
        let head = rig.store.head().await.unwrap();
        assert_eq!(head.seq, BatchSeq(number));
        assert_eq!(head.epoch, rig.leadership.fence().epoch);
    }
    let epoch = rig.leadership.fence().epoch;
    let rig = rig.reopen(factory).await;
    let head = rig.store.head().await.unwrap();
    assert_eq!((head.seq, head.epoch), (BatchSeq(5), epoch));
}

pub(super) async fn a_batch_out_of_order_changes_nothing(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("a", Some("1"))]).await;
    rig.write(HOT, &[("a", Some("2"))]).await;
    let before = rig.store.head().await.unwrap();
    for number in [0, 1, 2, 4, u64::MAX] {
        let mut batch = Batch::new(BatchSeq(number));
        batch.put(HOT, "a", "wrong");
        let refused = rig.commit(batch).await;
        assert!(
            matches!(refused, Err(CommitError::OutOfOrder { got, head })
                if got == BatchSeq(number) && head == before),
            "{refused:?}"
        );
    }
    assert_eq!(rig.store.head().await.unwrap(), before);
    assert_eq!(rig.read(HOT, "a").await.unwrap(), "2");
    rig.write(HOT, &[("a", Some("3"))]).await;
}

pub(super) async fn the_first_batch_of_a_leadership_may_leave_numbers_out(
    factory: &dyn StoreFactory,
) {
    let far = BatchSeq(3 << 32);
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("a", Some("1"))]).await;
    let mut last = rig.store.status().await.revision;
    rig.leadership.resign(None).await;
    let rig = Rig::lead(rig.store).await;
    assert!(rig.leadership.seq_floor() <= far, "a floor that this test cannot jump over");
    // Not backwards, the first batch neither.
    let before = rig.store.head().await.unwrap();
    let refused = rig.commit(Batch::new(before.seq)).await;
    assert!(matches!(refused, Err(CommitError::OutOfOrder { .. })), "{refused:?}");
    let mut changes = rig.store.watch(last).await.unwrap();
    for (seq, value) in [(far, "2"), (far.next(), "3")] {
        let mut batch = Batch::new(seq);
        batch.put(HOT, "a", value);
        let revision = rig.commit(batch).await.unwrap();
        assert!(revision > last, "a revision does not grow");
        last = revision;
        let head = Head { epoch: rig.leadership.fence().epoch, seq };
        assert_eq!(rig.store.head().await.unwrap(), head);
        let change = within(changes.next()).await.unwrap().unwrap();
        assert_eq!((change.head, change.revision), (head, revision));
    }
    // Only the first one.
    let refused = rig.commit(Batch::new(BatchSeq(far.0 + 9))).await;
    assert!(matches!(refused, Err(CommitError::OutOfOrder { .. })), "{refused:?}");
    let rig = rig.reopen(factory).await;
    assert_eq!(rig.store.head().await.unwrap().seq, far.next());
    assert_eq!(rig.read(HOT, "a").await.unwrap(), "3");
    rig.write(HOT, &[("a", Some("4"))]).await;
}

pub(super) async fn of_two_commits_with_one_number_one_lands(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    for _ in 0..20 {
        let number = rig.next().await.seq;
        let contender = |value: &'static str| {
            let mut batch = Batch::new(number);
            batch.put(HOT, "a", value);
            rig.commit(batch)
        };
        let (one, two) = tokio::join!(contender("one"), contender("two"));
        let expected = match (&one, &two) {
            (Ok(_), Err(CommitError::OutOfOrder { .. })) => "one",
            (Err(CommitError::OutOfOrder { .. }), Ok(_)) => "two",
            other => panic!("{other:?}"),
        };
        assert_eq!(rig.read(HOT, "a").await.unwrap(), expected);
        assert_eq!(rig.store.head().await.unwrap().seq, number);
    }
}

pub(super) async fn an_empty_batch_advances_the_head(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let batch = rig.next().await;
    rig.commit(batch).await.unwrap();
    let rig = rig.reopen(factory).await;
    assert_eq!(rig.store.head().await.unwrap().seq, BatchSeq(1));
}

pub(super) async fn the_last_change_to_a_key_wins(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let (put, delete) = (Some, None::<&str>);
    rig.write(HOT, &[("a", put("1")), ("a", put("2")), ("a", put("3"))]).await;
    rig.write(HOT, &[("b", put("1")), ("b", delete)]).await;
    rig.write(HOT, &[("c", delete), ("c", put("1"))]).await;
    let mut batch = rig.next().await;
    batch.put(HOT, "d", "1");
    batch.put(WARM, "d", "2");
    batch.delete(HOT, "d");
    rig.commit(batch).await.unwrap();
    for rig in [rig.reopen(factory).await] {
        assert_eq!(rig.read(HOT, "a").await.unwrap(), "3");
        assert_eq!(rig.read(HOT, "b").await, None);
        assert_eq!(rig.read(HOT, "c").await.unwrap(), "1");
        assert_eq!(rig.read(HOT, "d").await, None);
        assert_eq!(rig.read(WARM, "d").await.unwrap(), "2");
    }
}

pub(super) async fn deleting_what_is_not_there_is_no_error(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("never", None)]).await;
    assert_eq!(rig.read(HOT, "never").await, None);
}

pub(super) async fn a_refused_mutation_refuses_its_batch(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let before = rig.store.head().await.unwrap();
    let mut batch = rig.next().await;
    batch.put(HOT, "a", "1");
    batch.put(UNDECLARED, "a", "1");
    batch.put(HOT, "b", "1");
    refused(&rig, batch).await;
    assert_eq!(rig.store.head().await.unwrap(), before);
    assert_eq!(rig.read(HOT, "a").await, None);
    assert_eq!(rig.read(HOT, "b").await, None);
}

async fn refused(rig: &Rig, batch: Batch) {
    let outcome = rig.commit(batch).await;
    assert!(matches!(outcome, Err(CommitError::Invalid(_))), "{outcome:?}");
}

pub(super) async fn keys_have_limits(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let longest = "k".repeat(KEY_BYTES_MAX);
    rig.write(HOT, &[("k", Some("1")), (&longest, Some("2"))]).await;
    assert_eq!(rig.read(HOT, &longest).await.unwrap(), "2");
    for key in [String::new(), "k".repeat(KEY_BYTES_MAX + 1)] {
        let mut batch = rig.next().await;
        batch.put(HOT, key.clone(), "1");
        refused(&rig, batch).await;
        let mut batch = rig.next().await;
        batch.delete(HOT, key);
        refused(&rig, batch).await;
    }
}

pub(super) async fn values_have_limits(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("empty", Some(""))]).await;
    assert_eq!(rig.read(HOT, "empty").await.unwrap(), "");
    let mut batch = rig.next().await;
    batch.put(LARGE, "too big", vec![1; VALUE_BYTES_MAX + 1]);
    refused(&rig, batch).await;
}

pub(super) async fn batches_have_limits(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let limits = rig.store.limits();
    let mut batch = rig.next().await;
    for number in 0..=limits.mutations_max {
        batch.delete(HOT, number.to_be_bytes().to_vec());
    }
    refused(&rig, batch).await;
    let mut batch = rig.next().await;
    let value = Bytes::from(vec![1; limits.bytes_max.min(VALUE_BYTES_MAX)]);
    for number in 0..=limits.bytes_max / value.len() {
        batch.put(LARGE, number.to_be_bytes().to_vec(), value.clone());
    }
    assert!(batch.bytes() > limits.bytes_max);
    refused(&rig, batch).await;
}

pub(super) async fn a_large_batch_lands(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let count = rig.store.limits().mutations_max.min(10_000);
    let mut batch = rig.next().await;
    for number in 0..count {
        batch.put(HOT, format!("{number:08}"), number.to_string());
    }
    rig.commit(batch).await.unwrap();
    let rig = rig.reopen(factory).await;
    let entries = all(&rig).await;
    assert_eq!(entries.len(), count);
    for (number, (key, value)) in entries.into_iter().enumerate() {
        assert_eq!((key, value), (format!("{number:08}").into(), number.to_string().into()));
    }
}

pub(super) async fn a_batch_with_all_the_bytes_lands(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let limits = rig.store.limits();
    let mut batch = rig.next().await;
    let mut sizes = Vec::new();
    loop {
        let key = format!("{:04}", sizes.len());
        let held = batch.bytes() + (sizes.len() + 1) * limits.mutation_bytes + key.len();
        let size = limits.bytes_max.saturating_sub(held).min(VALUE_BYTES_MAX);
        if size == 0 {
            break;
        }
        batch.put(LARGE, key, vec![7; size]);
        sizes.push(size);
    }
    assert!(limits.take(batch.mutations.len(), batch.bytes()));
    rig.commit(batch).await.unwrap();
    for (number, size) in sizes.into_iter().enumerate() {
        assert_eq!(rig.read(LARGE, &format!("{number:04}")).await.unwrap().len(), size);
    }
}

pub(super) async fn big_values_come_back(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    // A pattern without repetition, so that a piece in the wrong place shows.
    let words = (rig.store.limits().bytes_max / 10).min(262_144);
    let value: Bytes = (0_u32..).take(words).flat_map(u32::to_le_bytes).collect();
    let mut batch = rig.next().await;
    batch.put(LARGE, "big", value.clone());
    batch.put(HOT, "big", value.clone());
    rig.commit(batch).await.unwrap();
    rig.write(LARGE, &[("small", Some("1"))]).await;
    let rig = rig.reopen(factory).await;
    assert!(rig.read(LARGE, "big").await.unwrap() == value, "the value is not what was put");
    assert!(rig.read(HOT, "big").await.unwrap() == value, "the value is not what was put");
    rig.write(LARGE, &[("big", None)]).await;
    assert_eq!(rig.read(LARGE, "big").await, None);
}

pub(super) async fn a_cancelled_commit_is_told_by_the_head(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let mut landed = 0;
    for polls in (0..40).map(|round| round % 8) {
        let batch = rig.next().await;
        let number = batch.seq;
        let mut batch = batch;
        batch.put(HOT, "a", number.to_string());
        {
            let mut commit = Box::pin(rig.store.commit(rig.leadership.fence(), batch));
            for _ in 0..polls {
                if futures_util::poll!(&mut commit).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let head = within(rig.store.head()).await.unwrap().seq;
        assert!(head == number || head.next() == number, "{head} after a cancelled {number}");
        landed += u32::from(head == number);
        // What the head told stays: the batch does not land later.
        let value = rig.read(HOT, "a").await;
        let expected = (head.0 > 0).then(|| Bytes::from(head.to_string()));
        assert_eq!(value, expected);
        let mut batch = Batch::new(head.next());
        batch.put(HOT, "a", head.next().to_string());
        rig.commit(batch).await.unwrap();
    }
    assert!(landed > 0, "no commit got far enough to mean anything");
}

pub(super) async fn a_closed_store_is_unavailable(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let batch = rig.next().await;
    let snapshot = rig.store.snapshot().await.unwrap();
    rig.store.close().await;
    rig.store.close().await;
    let refused = rig.commit(batch).await;
    assert!(
        matches!(refused, Err(CommitError::Unavailable(_) | CommitError::Fenced { .. })),
        "{refused:?}"
    );
    let unavailable = |error| matches!(error, StoreError::Unavailable(_));
    assert!(rig.store.get(&[(HOT, "a".into())]).await.is_err_and(unavailable));
    assert!(rig.store.head().await.is_err_and(unavailable));
    assert!(rig.store.snapshot().await.is_err_and(unavailable));
    assert!(rig.store.campaign(&Member::alone("late")).await.is_err_and(unavailable));
    assert!(snapshot.get(&[(HOT, "a".into())]).await.is_err_and(unavailable));
    assert!(rig.store.status().await.problem.is_some());
}

pub(super) async fn the_status_tells_where_the_store_is(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let revision = rig.write(HOT, &[("a", Some("1"))]).await;
    let status = rig.store.status().await;
    assert!(!status.backend.is_empty() && !status.location.is_empty());
    assert_eq!(status.epoch, rig.leadership.fence().epoch);
    assert_eq!(status.revision, revision);
    assert_eq!(status.problem, None);
    if let (Some(used), Some(max)) = (status.bytes_used, status.bytes_max) {
        assert!(used <= max, "{used} bytes used of {max}");
    }
}
