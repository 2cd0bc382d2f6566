//! Laws 6 and 7: what a read sees.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use super::{
    StoreFactory,
    rig::{HOT, LARGE, Rig, UNDECLARED, WARM, scan},
};
use crate::{
    model::{Direction, KEY_BYTES_MAX, KeyRange},
    store::StoreError,
};

const BOTH: [Direction; 2] = [Direction::Ascending, Direction::Descending];

pub(super) async fn a_get_sees_every_commit_before_it(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let committed = Arc::new(AtomicU64::new(0));
    let reader = {
        let (store, committed) = (rig.store.clone(), Arc::clone(&committed));
        tokio::spawn(async move {
            loop {
                let before = committed.load(Ordering::SeqCst);
                let value = store.get(&[(HOT, "n".into())]).await.unwrap().remove(0);
                let seen: u64 = value.map_or(0, |value| parse(&value));
                assert!(seen >= before, "{seen} seen after {before} was committed");
                if before >= 300 {
                    return;
                }
            }
        })
    };
    for number in 1..=300_u64 {
        rig.write(HOT, &[("n", Some(&number.to_string()))]).await;
        committed.store(number, Ordering::SeqCst);
    }
    reader.await.unwrap();
}

fn parse(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

pub(super) async fn values_come_in_the_order_asked_for(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]).await;
    let keys = ["c", "missing", "a", "c", "b"].map(|key| (HOT, Bytes::from(key)));
    let expected = ["3", "", "1", "3", "2"].map(|v| (!v.is_empty()).then(|| Bytes::from(v)));
    assert_eq!(rig.store.get(&keys).await.unwrap(), expected);
    let snapshot = rig.store.snapshot().await.unwrap();
    assert_eq!(snapshot.get(&keys).await.unwrap(), expected);
    assert!(rig.store.get(&[]).await.unwrap().is_empty());
}

pub(super) async fn a_get_is_of_one_revision(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let keys: Vec<_> =
        [(HOT, "a"), (WARM, "b"), (LARGE, "c"), (HOT, "z")].map(|(s, k)| (s, k.into())).into();
    let reader = {
        let (store, keys) = (rig.store.clone(), keys.clone());
        tokio::spawn(async move {
            for _ in 0..500 {
                let values = store.get(&keys).await.unwrap();
                assert!(values.windows(2).all(|two| two[0] == two[1]), "torn: {values:?}");
                let snapshot = store.snapshot().await.unwrap();
                let values = snapshot.get(&keys).await.unwrap();
                assert!(values.windows(2).all(|two| two[0] == two[1]), "torn: {values:?}");
            }
        })
    };
    let mut number = 0_u64;
    while !reader.is_finished() {
        number += 1;
        let mut batch = rig.next().await;
        for (space, key) in &keys {
            batch.put(*space, key.clone(), number.to_string());
        }
        rig.commit(batch).await.unwrap();
    }
    reader.await.unwrap();
}

pub(super) async fn spaces_are_apart(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let mut batch = rig.next().await;
    batch.put(HOT, "a", "hot");
    batch.put(WARM, "a", "warm");
    batch.put(LARGE, "a", "large");
    batch.put(WARM, "b", "warm");
    rig.commit(batch).await.unwrap();
    let mut batch = rig.next().await;
    batch.delete(HOT, "a");
    rig.commit(batch).await.unwrap();
    assert_eq!(rig.read(HOT, "a").await, None);
    assert_eq!(rig.read(WARM, "a").await.unwrap(), "warm");
    assert_eq!(rig.read(LARGE, "a").await.unwrap(), "large");
    let snapshot = rig.store.snapshot().await.unwrap();
    for direction in BOTH {
        let count = async |space| scan(&*snapshot, KeyRange::all(space), direction, 10).await.len();
        assert_eq!((count(HOT).await, count(WARM).await, count(LARGE).await), (0, 2, 1));
    }
}

pub(super) async fn an_undeclared_space_is_refused(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let invalid = |error| matches!(error, StoreError::Invalid(_));
    assert!(rig.store.get(&[(UNDECLARED, "a".into())]).await.is_err_and(invalid));
    let snapshot = rig.store.snapshot().await.unwrap();
    let scanned = snapshot.scan(KeyRange::all(UNDECLARED), Direction::Ascending, 1).await;
    assert!(scanned.is_err_and(invalid));
}

pub(super) async fn a_snapshot_does_not_move(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    rig.write(HOT, &[("a", Some("1")), ("b", Some("1"))]).await;
    let snapshot = rig.store.snapshot().await.unwrap();
    for round in 0..50_u32 {
        rig.write(HOT, &[("a", None), ("b", Some("2")), (&format!("c{round}"), Some("2"))]).await;
        rig.write(HOT, &[("a", Some("3"))]).await;
    }
    let then = [("a", "1"), ("b", "1")].map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
    for direction in BOTH {
        let mut entries = scan(&*snapshot, KeyRange::all(HOT), direction, 1).await;
        entries.sort();
        assert_eq!(entries, then);
    }
    let values = snapshot.get(&[(HOT, "a".into()), (HOT, "c1".into())]).await.unwrap();
    assert_eq!(values, [Some("1".into()), None]);
}

pub(super) async fn a_snapshot_tells_its_revision(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let empty = rig.store.snapshot().await.unwrap().revision();
    for _ in 0..3 {
        let revision = rig.write(HOT, &[("a", Some("1"))]).await;
        assert!(revision > empty);
        assert_eq!(rig.store.snapshot().await.unwrap().revision(), revision);
    }
    let before = rig.store.snapshot().await.unwrap().revision();
    let rig = rig.reopen(factory).await;
    assert!(rig.store.snapshot().await.unwrap().revision() >= before);
}

/// Keys of several lengths, one the beginning of another, some with bytes at the ends of the
/// range of a byte.
fn awkward_keys() -> BTreeMap<Bytes, Bytes> {
    let pieces: [&[u8]; 7] = [b"a", b"aa", b"b", &[0], &[0xff], &[0xff, 0xff], b"zz"];
    let mut keys = BTreeMap::new();
    for one in pieces {
        keys.insert(Bytes::copy_from_slice(one), Bytes::from("1"));
        for two in pieces {
            keys.insert([one, two].concat().into(), Bytes::from("2"));
            keys.insert([one, two, b"/", one].concat().into(), Bytes::from("3"));
        }
    }
    keys
}

async fn with_awkward_keys(factory: &dyn StoreFactory) -> (Rig, BTreeMap<Bytes, Bytes>) {
    let rig = Rig::new(factory).await;
    let keys = awkward_keys();
    let mut entries = Vec::new();
    for (key, value) in &keys {
        entries.extend([HOT, LARGE].map(|space| (space, key.clone(), value.clone())));
    }
    // Neighbours of what is scanned.
    let neighbours = [Bytes::from("a"), Bytes::from(vec![0xff; 40])];
    entries.extend(neighbours.map(|key| (WARM, key, "neighbour".into())));
    rig.fill(entries).await;
    (rig, keys)
}

pub(super) async fn a_scan_in_pages_finds_each_key_once(factory: &dyn StoreFactory) {
    let (rig, keys) = with_awkward_keys(factory).await;
    let keys: Vec<_> = keys.into_iter().collect();
    let snapshot = rig.store.snapshot().await.unwrap();
    for space in [HOT, LARGE] {
        for limit in [1, 2, 7, keys.len() - 1, keys.len(), keys.len() + 1, usize::MAX] {
            let found = scan(&*snapshot, KeyRange::all(space), Direction::Ascending, limit).await;
            assert_eq!(found, keys, "in pages of {limit}");
        }
    }
    let none = snapshot.scan(KeyRange::all(HOT), Direction::Ascending, 0).await.unwrap();
    assert!(none.entries.is_empty() && none.more);
    let exact = snapshot.scan(KeyRange::all(HOT), Direction::Ascending, keys.len()).await.unwrap();
    assert!(!exact.more, "says that there is more where there is not");
}

pub(super) async fn a_scan_goes_both_ways(factory: &dyn StoreFactory) {
    let (rig, keys) = with_awkward_keys(factory).await;
    let keys: Vec<_> = keys.into_iter().rev().collect();
    let snapshot = rig.store.snapshot().await.unwrap();
    for limit in [1, 2, 7, keys.len(), usize::MAX] {
        let found = scan(&*snapshot, KeyRange::all(HOT), Direction::Descending, limit).await;
        assert_eq!(found, keys, "in pages of {limit}");
    }
}

pub(super) async fn ranges_end_before_their_end(factory: &dyn StoreFactory) {
    let (rig, keys) = with_awkward_keys(factory).await;
    let snapshot = rig.store.snapshot().await.unwrap();
    let mut bounds: Vec<Bytes> = keys.keys().cloned().collect();
    bounds.extend(["", "aab", "b0", "zzz"].map(Bytes::from));
    for start in bounds.iter().step_by(3) {
        for end in bounds.iter().step_by(2).map(Some).chain([None]) {
            let range = KeyRange { space: HOT, start: start.clone(), end: end.cloned() };
            let within = |key: &Bytes| key >= start && end.is_none_or(|end| key < end);
            let expected: Vec<_> = keys.iter().filter(|(key, _)| within(key)).collect();
            for direction in BOTH {
                let mut found = scan(&*snapshot, range.clone(), direction, 5).await;
                if direction == Direction::Descending {
                    found.reverse();
                }
                assert!(
                    found.iter().map(|(k, v)| (k, v)).eq(expected.iter().copied()),
                    "{range:?}"
                );
            }
        }
    }
}

pub(super) async fn a_prefix_holds_its_keys_alone(factory: &dyn StoreFactory) {
    let (rig, keys) = with_awkward_keys(factory).await;
    let snapshot = rig.store.snapshot().await.unwrap();
    let prefixes: [&[u8]; 8] = [b"", b"a", b"aa", b"ab", &[0], &[0xff], &[0xff, 0xff], b"none"];
    for prefix in prefixes {
        let expected: Vec<_> =
            keys.clone().into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        let range = KeyRange::prefix(HOT, prefix);
        let found = scan(&*snapshot, range, Direction::Ascending, 3).await;
        assert_eq!(found, expected, "{prefix:?}");
    }
}

pub(super) async fn keys_are_ordered_as_bytes(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let bytes = (0..=u8::MAX).rev();
    let keys = bytes.flat_map(|byte| [vec![byte], vec![byte, 0]]);
    rig.fill(keys.map(|key| (HOT, key.into(), "1".into())).collect()).await;
    let snapshot = rig.store.snapshot().await.unwrap();
    let found = scan(&*snapshot, KeyRange::all(HOT), Direction::Ascending, 100).await;
    assert_eq!(found.len(), 512);
    assert!(found.is_sorted(), "out of order");
}

pub(super) async fn pages_of_big_values_end_early_but_never_empty(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    // Each alone is larger than some backends let a page be.
    let limits = rig.store.limits();
    let size = (limits.bytes_max - limits.mutation_bytes - 1).min(9 << 20);
    for key in ["a", "b", "c"] {
        let mut batch = rig.next().await;
        batch.put(LARGE, key, vec![7; size]);
        rig.commit(batch).await.unwrap();
    }
    let snapshot = rig.store.snapshot().await.unwrap();
    for direction in BOTH {
        let found = scan(&*snapshot, KeyRange::all(LARGE), direction, 1000).await;
        assert_eq!(found.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), [size; 3]);
    }
}

pub(super) async fn a_scan_is_whole_while_commits_go_on(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let mut batch = rig.next().await;
    for number in 0..100_u32 {
        batch.put(HOT, format!("{number:03}"), "0");
    }
    rig.commit(batch).await.unwrap();
    let reader = {
        let store = rig.store.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                let snapshot = store.snapshot().await.unwrap();
                let found = scan(&*snapshot, KeyRange::all(HOT), Direction::Ascending, 9).await;
                assert_eq!(found.len(), 100, "keys moved, but their number never changed");
                assert!(found.iter().all(|(_, v)| *v == found[0].1), "two revisions in a scan");
            }
        })
    };
    let mut round = 0_u32;
    while !reader.is_finished() {
        round += 1;
        let mut batch = rig.next().await;
        for number in 0..100 {
            batch.delete(HOT, format!("{:03}", number + round - 1));
        }
        for number in 0..100 {
            batch.put(HOT, format!("{:03}", number + round), round.to_string());
        }
        rig.commit(batch).await.unwrap();
    }
    reader.await.unwrap();
}

/// One read asks for keys of all sizes, in any order; and so does a scan.
pub(super) async fn large_values_among_small_ones_are_read_together(factory: &dyn StoreFactory) {
    let rig = Rig::new(factory).await;
    let limits = rig.store.limits();
    let large = (limits.bytes_max - limits.mutation_bytes - KEY_BYTES_MAX).min(1 << 20);
    let size = |number: usize| match number % 10 {
        3 | 4 => large,
        7 => large / 10,
        _ => number,
    };
    let value = |number: usize| Bytes::from(vec![number.to_le_bytes()[0]; size(number)]);
    let key = |number: usize| Bytes::from(format!("{number:03}"));
    for number in 0..120 {
        let mut batch = rig.next().await;
        batch.put(LARGE, key(number), value(number));
        batch.put(HOT, key(number), format!("hot {number}"));
        rig.commit(batch).await.unwrap();
    }
    // Each key of either space once, and as many that are not there.
    let places: Vec<usize> = (0..180).map(|place| place * 77 % 180).collect();
    let keys = places.iter().flat_map(|place| [(LARGE, key(*place)), (HOT, key(*place))]);
    let keys: Vec<_> = keys.collect();
    let snapshot = rig.store.snapshot().await.unwrap();
    for found in [rig.store.get(&keys).await.unwrap(), snapshot.get(&keys).await.unwrap()] {
        assert_eq!(found.len(), keys.len());
        for (place, found) in places.iter().zip(found.chunks(2)) {
            let expected = (*place < 120).then(|| [value(*place), format!("hot {place}").into()]);
            let expected = expected.map_or([None, None], |values| values.map(Some));
            assert!(found == expected, "another value at {place}");
        }
    }
    for direction in BOTH {
        let mut found = scan(&*snapshot, KeyRange::all(LARGE), direction, 50).await;
        if direction == Direction::Descending {
            found.reverse();
        }
        let expected = (0..120).map(|number| (key(number), value(number)));
        assert!(found.into_iter().eq(expected), "{direction:?}: not what was put");
    }
}
