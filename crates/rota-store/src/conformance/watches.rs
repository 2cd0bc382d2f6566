//! Law 8: what a watch yields.

use futures_util::StreamExt;

use super::{
    StoreFactory,
    rig::{HOT, Rig, WARM, within},
};
use crate::{
    model::{Mutation, Revision},
    store::{Change, ChangeStream, StoreError},
};

async fn next(watch: &mut ChangeStream) -> Option<Result<Change, StoreError>> {
    within(watch.next()).await
}

/// Where the store is now.
async fn now(rig: &Rig) -> Revision {
    rig.store.snapshot().await.unwrap().revision()
}

pub(super) async fn a_watch_yields_every_batch_in_order(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let mut watch = rig.store.watch(now(&rig).await).await.unwrap();
    let mut expected = Vec::new();
    for number in 0..50_u32 {
        expected.push(rig.write(HOT, &[("a", Some(&number.to_string()))]).await);
        // Some are read as they come, some later.
        if number % 3 == 0 {
            let change = next(&mut watch).await.unwrap().unwrap();
            assert_eq!(change.revision, expected.remove(0));
        }
    }
    for revision in expected {
        let change = next(&mut watch).await.unwrap().unwrap();
        assert_eq!(change.revision, revision);
        assert_eq!(change.head.epoch, rig.leadership.fence().epoch);
    }
    assert!(futures_util::poll!(watch.next()).is_pending(), "a batch that nobody committed");
}

pub(super) async fn a_watch_yields_batches_whole(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("c", Some("1"))]).await;
    let mut watch = rig.store.watch(now(&rig).await).await.unwrap();
    let mut batch = rig.next().await;
    batch.put(HOT, "a", "1");
    batch.put(WARM, "b", "2");
    batch.delete(HOT, "c");
    let sent = batch.clone();
    let revision = rig.commit(batch).await.unwrap();
    let change = next(&mut watch).await.unwrap().unwrap();
    assert_eq!((change.revision, change.head.seq), (revision, sent.seq));
    // A backend may tell the changes of a batch in another order.
    let sorted = |mutations: &[Mutation]| {
        let mut mutations = mutations.to_vec();
        mutations.sort_by_key(|mutation| (mutation.space().name, mutation.key().clone()));
        mutations
    };
    assert_eq!(sorted(&change.mutations), sorted(&sent.mutations));
}

pub(super) async fn a_watch_begins_after_its_revision(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let first = rig.write(HOT, &[("a", Some("1"))]).await;
    let second = rig.write(HOT, &[("a", Some("2"))]).await;
    let mut from_first = rig.store.watch(first).await.unwrap();
    let mut from_second = rig.store.watch(second).await.unwrap();
    let third = rig.write(HOT, &[("a", Some("3"))]).await;
    assert_eq!(next(&mut from_first).await.unwrap().unwrap().revision, second);
    assert_eq!(next(&mut from_first).await.unwrap().unwrap().revision, third);
    assert_eq!(next(&mut from_second).await.unwrap().unwrap().revision, third);
}

pub(super) async fn a_slow_watch_misses_nothing_or_says_so(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let mut watch = rig.store.watch(now(&rig).await).await.unwrap();
    let value = vec![1; 500_000.min(rig.store.limits().bytes_max / 2)];
    let mut revisions = Vec::new();
    for _ in 0..60 {
        let mut batch = rig.next().await;
        batch.put(HOT, "a", value.clone());
        revisions.push(rig.commit(batch).await.unwrap());
    }
    for revision in revisions {
        match next(&mut watch).await {
            Some(Ok(change)) => assert_eq!(change.revision, revision, "a batch was left out"),
            Some(Err(StoreError::Compacted)) => {
                assert!(next(&mut watch).await.is_none(), "goes on behind a gap");
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(super) async fn a_watch_of_forgotten_history_says_so(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let first = rig.write(HOT, &[("a", Some("1"))]).await;
    let second = rig.write(HOT, &[("a", Some("2"))]).await;
    let rig = rig.reopen(factory).await;
    // A backend that keeps history beyond its process may still have it; none may skip it.
    match rig.store.watch(first).await {
        Err(StoreError::Compacted) => {}
        Err(other) => panic!("{other:?}"),
        Ok(mut watch) => match next(&mut watch).await {
            Some(Ok(change)) => assert_eq!(change.revision, second),
            Some(Err(StoreError::Compacted)) => assert!(next(&mut watch).await.is_none()),
            other => panic!("{other:?}"),
        },
    }
}

pub(super) async fn closing_ends_a_watch(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let mut watch = rig.store.watch(now(&rig).await).await.unwrap();
    rig.write(HOT, &[("a", Some("1"))]).await;
    assert!(next(&mut watch).await.unwrap().is_ok());
    rig.store.close().await;
    assert!(next(&mut watch).await.is_none_or(|end| end.is_err()));
    assert!(rig.store.watch(Revision(0)).await.is_err(), "a closed store is watched");
}
