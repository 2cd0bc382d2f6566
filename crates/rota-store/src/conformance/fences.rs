//! Law 4: who may write.

use std::task::Poll;

use super::{
    StoreFactory,
    rig::{HOT, Rig, within},
};
use crate::{
    model::{Epoch, Fence, Member, Seat},
    store::{CommitError, StoreError},
};

pub(super) async fn a_campaign_gives_a_new_epoch(factory: &dyn StoreFactory) {
    let mut rig = Rig::new(factory).await;
    assert!(rig.leadership.fence().epoch > Epoch(0));
    for _ in 0..5 {
        let before = rig.leadership.fence().epoch;
        rig.leadership.resign(None).await;
        rig = Rig::lead(rig.store).await;
        assert!(rig.leadership.fence().epoch > before);
        assert_eq!(rig.store.status().await.epoch, rig.leadership.fence().epoch);
    }
}

pub(super) async fn a_second_campaign_waits_for_the_first(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let first = rig.leadership.fence().epoch;
    let store = rig.store.clone();
    let mut second =
        tokio::spawn(async move { store.campaign(&Member::alone("second")).await.unwrap() });
    // It has had every chance to win while the first one goes on writing.
    for _ in 0..20 {
        rig.write(HOT, &[("a", Some("1"))]).await;
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished(), "two leaders at once");
    rig.leadership.resign(None).await;
    let second = within(&mut second).await.unwrap();
    assert!(second.fence().epoch > first);
}

pub(super) async fn a_dropped_campaign_leaves_no_leader(factory: &dyn StoreFactory) {
    let me = Member::alone("dropped");
    let rig = Rig::new(factory).await;
    for _ in 0..20 {
        let mut campaign = Box::pin(rig.store.campaign(&me));
        assert!(futures_util::poll!(&mut campaign).is_pending(), "two leaders at once");
    }
    rig.leadership.resign(None).await;
    // Now that the seat is free, some of these get as far as winning before they are dropped.
    for polls in 0..20 {
        let mut campaign = Box::pin(rig.store.campaign(&me));
        for _ in 0..polls {
            if futures_util::poll!(&mut campaign).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let rig = Rig::lead(rig.store).await;
    rig.write(HOT, &[("a", Some("1"))]).await;
}

pub(super) async fn a_dropped_leadership_frees_the_seat(factory: &dyn StoreFactory) {
    let Rig { store, leadership } = Rig::new(factory).await;
    let fence = leadership.fence();
    drop(leadership);
    let rig = Rig::lead(store).await;
    let batch = rig.next().await;
    let refused = rig.store.commit(fence, batch).await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
}

pub(super) async fn an_earlier_epoch_cannot_write(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let old = rig.leadership.fence();
    rig.leadership.resign(None).await;
    let rig = Rig::lead(rig.store).await;
    refuses(&rig, old).await;
}

pub(super) async fn a_later_epoch_that_nobody_has_cannot_write(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let later = Fence { epoch: Epoch(rig.leadership.fence().epoch.0 + 1) };
    refuses(&rig, later).await;
    refuses(&rig, Fence { epoch: Epoch(0) }).await;
}

/// That fence changes nothing, and the leader goes on as if it had not been there.
async fn refuses(rig: &Rig, fence: Fence) {
    rig.write(HOT, &[("a", Some("1"))]).await;
    let before = rig.store.head().await.unwrap();
    let mut batch = rig.next().await;
    batch.put(HOT, "a", "2");
    let refused = rig.store.commit(fence, batch).await;
    assert!(
        matches!(refused, Err(CommitError::Fenced { ours }) if ours == fence.epoch),
        "{refused:?}"
    );
    assert_eq!(rig.store.head().await.unwrap(), before);
    assert_eq!(rig.read(HOT, "a").await.unwrap(), "1");
    rig.write(HOT, &[("a", Some("3"))]).await;
    assert_eq!(rig.store.head().await.unwrap().epoch, rig.leadership.fence().epoch);
}

pub(super) async fn a_resigned_leadership_cannot_write(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let fence = rig.leadership.fence();
    let batch = rig.next().await;
    rig.leadership.resign(None).await;
    let refused = rig.store.commit(fence, batch).await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
}

pub(super) async fn no_epoch_before_reopening_can_write(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let old = rig.leadership.fence();
    rig.write(HOT, &[("a", Some("1"))]).await;
    let rig = rig.reopen(factory).await;
    refuses(&rig, old).await;
}

pub(super) async fn epochs_grow_across_reopening(factory: &dyn StoreFactory) {
    let mut rig = Rig::new(factory).await;
    for _ in 0..3 {
        let before = rig.leadership.fence().epoch;
        rig = rig.reopen(factory).await;
        assert!(rig.leadership.fence().epoch > before);
    }
}

pub(super) async fn the_leader_is_known(factory: &dyn StoreFactory) {
    let store = factory.open().await;
    let mut leader = store.leader();
    let me = Member {
        name: "a".to_owned(),
        address: Some("http://a:1".to_owned()),
        level: 7,
        ..Member::alone("a")
    };
    let leadership = within(store.campaign(&me)).await.unwrap();
    let seat = Seat { member: me, epoch: leadership.fence().epoch };
    within(leader.wait_for(|now| now.as_ref() == Some(&seat))).await.unwrap();
    leadership.resign(None).await;
    within(leader.wait_for(Option::is_none)).await.unwrap();
    let rig = Rig::lead(store).await;
    let epoch = rig.leadership.fence().epoch;
    let is_new = |now: &Option<Seat>| now.as_ref().is_some_and(|seat| seat.epoch == epoch);
    within(leader.wait_for(is_new)).await.unwrap();
}

pub(super) async fn members_are_those_who_campaign_or_lead(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let names = async || {
        let members = rig.store.members().await.unwrap();
        members.into_iter().map(|member| member.name).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["obligation"]);
    let (store, me) = (rig.store.clone(), Member::alone("another"));
    let campaign = tokio::spawn(async move { store.campaign(&me).await.is_ok() });
    within(async {
        while names().await != ["another", "obligation"] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    campaign.abort();
    within(async {
        while names().await != ["obligation"] {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(super) async fn a_member_announces_that_it_is_ready(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let epoch = rig.leadership.fence().epoch;
    let ready = async |name: &str| {
        let members = rig.store.members().await.unwrap();
        members.into_iter().find(|member| member.name == name).map(|member| member.ready_for)
    };
    let (store, me) = (rig.store.clone(), Member::alone("another"));
    let campaign = tokio::spawn(async move { store.campaign(&me).await.is_ok() });
    within(async {
        while ready("another").await != Some(Epoch(0)) {
            tokio::task::yield_now().await;
        }
        while ready("another").await != Some(epoch) {
            // One that comes before the campaign has begun to listen is lost.
            rig.store.announce_ready("another", epoch);
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ready("obligation").await, Some(Epoch(0)));
    campaign.abort();
}

/// A second campaign under the leader's name waits or is refused; either way it ends without the
/// leader's entry.
pub(super) async fn a_namesake_takes_no_member_away(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let me = Member::alone("obligation");
    {
        let mut campaign = Box::pin(rig.store.campaign(&me));
        for _ in 0..100 {
            match futures_util::poll!(&mut campaign) {
                Poll::Pending => {}
                Poll::Ready(Ok(_)) => panic!("two leaders at once"),
                Poll::Ready(Err(error)) => {
                    assert!(matches!(error, StoreError::NameTaken { .. }), "{error:?}");
                    break;
                }
            }
            rig.write(HOT, &[("a", Some("1"))]).await;
        }
    }
    for _ in 0..100 {
        rig.write(HOT, &[("a", Some("2"))]).await;
        assert_eq!(rig.store.members().await.unwrap(), std::slice::from_ref(&me));
    }
}

pub(super) async fn a_named_successor_goes_first(factory: &dyn StoreFactory) {
    let mut rig = Rig::new(factory).await;
    for _ in 0..3 {
        let mut campaigns = tokio::task::JoinSet::new();
        for name in ["first", "second", "third"] {
            let (store, me) = (rig.store.clone(), Member::alone(name));
            campaigns.spawn(async move { (me.name.clone(), store.campaign(&me).await) });
        }
        within(async {
            while rig.store.members().await.unwrap().len() < 4 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        rig.leadership.resign(Some("second")).await;
        let (name, leadership) = within(campaigns.join_next()).await.unwrap().unwrap();
        assert_eq!(name, "second");
        campaigns.shutdown().await;
        leadership.unwrap().resign(Some("nobody of that name")).await;
        // It is waited for, but not for ever.
        rig = Rig::lead(rig.store).await;
    }
}

pub(super) async fn closing_ends_a_leadership(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let store = rig.store.clone();
    let waiting =
        tokio::spawn(async move { store.campaign(&Member::alone("waiting")).await.is_ok() });
    {
        let mut lost = std::pin::pin!(rig.leadership.lost());
        assert!(futures_util::poll!(&mut lost).is_pending(), "lost without a reason");
        rig.store.close().await;
        within(lost).await;
    }
    assert!(!within(waiting).await.unwrap(), "a campaign was won on a closed store");
}
