//! Typed reads of the store: one record, many, or a scan page by page.
//!
//! A [`Kind`] has the spaces of its records, the form of their keys, and the decoding of their bytes. Every
//! read distinguishes a missing record from one that this version cannot read ([`Found`]), and both from a
//! failed store ([`StoreError`]). An unreadable record does not hide its neighbours.
//!
//! [`kinds`] has all kinds. A new one is one more `impl Kind` there, and its space in [`layout`](crate::layout).

mod kinds;

use std::marker::PhantomData;

use bytes::Bytes;
use rota_core::{Refusal, TaskId};
use rota_metrics::NodeMetrics;
use rota_store::{Direction, KeyRange, Snapshot, Space, Store, StoreError};
use tracing::error;

pub(crate) use self::kinds::{
    Attempt, Calendar, Cursor, Done, Live, Owner, Queue, Retain, Schedule, Spec, Tick, Total,
};
use crate::codec::CodecError;

/// A kind of records.
pub(crate) trait Kind {
    /// The identity of a record of this kind.
    type Key: Send + Sync;
    type Record: Send;
    /// Name of the kind in errors, logs and metrics: that of its first space.
    const NAME: &'static str;
    /// Spaces that can hold such a record, in the order in which they count.
    const SPACES: &'static [Space];

    fn encode_key(key: &Self::Key) -> Bytes;

    /// `None`: no record of this kind has that key.
    fn decode_key(key: &Bytes) -> Option<Self::Key>;

    fn decode(key: &Self::Key, value: &Bytes) -> Result<Self::Record, CodecError>;

    /// The task that the record belongs to.
    fn task(_: &Self::Key) -> Option<TaskId> {
        None
    }

    /// Name of the record in errors.
    fn record_name(key: &Self::Key) -> String {
        match Self::task(key) {
            Some(task) => format!("{}/{task}", Self::NAME),
            None => format!("{}/{}", Self::NAME, String::from_utf8_lossy(&Self::encode_key(key))),
        }
    }
}

/// The state of a record in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found<T> {
    Record(T),
    Missing,
    /// It exists but cannot be read, for this reason.
    Damaged(String),
    /// It exists with a value that this version does not know. The newer version that wrote it can read it.
    Newer(String),
}

impl<T> Found<T> {
    pub(crate) fn decoded(decoded: Result<T, CodecError>) -> Self {
        match decoded {
            Ok(record) => Self::Record(record),
            Err(error @ CodecError::Damaged(_)) => Self::Damaged(error.to_string()),
            Err(error @ CodecError::Unknown(_)) => Self::Newer(error.to_string()),
        }
    }

    /// The record, if it can be read.
    pub(crate) fn record(self) -> Option<T> {
        if let Self::Record(record) = self { Some(record) } else { None }
    }

    /// Why it cannot be read, if it exists and cannot be read.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Damaged(reason) | Self::Newer(reason) => Some(reason),
            Self::Record(_) | Self::Missing => None,
        }
    }

    /// The record. `None` if there is none.
    ///
    /// # Errors
    /// When it exists but cannot be read.
    pub(crate) fn or_refuse<K: Kind>(self, key: &K::Key) -> Result<Option<T>, Refusal> {
        match self {
            Self::Record(record) => Ok(Some(record)),
            Self::Missing => Ok(None),
            Self::Damaged(_) | Self::Newer(_) => {
                Err(Refusal::Unreadable { record: K::record_name(key) })
            }
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Record(record) => Found::Record(change(record)),
            Self::Missing => Found::Missing,
            Self::Damaged(reason) => Found::Damaged(reason),
            Self::Newer(reason) => Found::Newer(reason),
        }
    }
}

/// The keys of the store that can hold a record.
pub(crate) fn keys_of<K: Kind>(key: &K::Key) -> impl Iterator<Item = (Space, Bytes)> + use<K> {
    let key = K::encode_key(key);
    K::SPACES.iter().map(move |space| (*space, key.clone()))
}

/// The record among the values that [`keys_of`] it have.
pub(crate) fn found_in<'a, K: Kind>(
    key: &K::Key,
    values: impl IntoIterator<Item = Option<&'a Bytes>>,
) -> Found<K::Record> {
    match values.into_iter().flatten().next() {
        Some(value) => Found::decoded(K::decode(key, value)),
        None => Found::Missing,
    }
}

/// Reads records in one call, in the given order. Does not report unreadable ones.
pub(crate) async fn get<K: Kind>(
    store: &dyn Store,
    keys: &[K::Key],
) -> Result<Vec<Found<K::Record>>, StoreError> {
    let all: Vec<_> = keys.iter().flat_map(keys_of::<K>).collect();
    let values = store.get(&all).await?;
    let values = values.chunks(K::SPACES.len());
    let found = keys
        .iter()
        .zip(values)
        .map(|(key, values)| found_in::<K>(key, values.iter().map(Option::as_ref)));
    Ok(found.collect())
}

/// Reads one record. Does not report an unreadable one.
pub(crate) async fn get_one<K: Kind>(
    store: &dyn Store,
    key: &K::Key,
) -> Result<Found<K::Record>, StoreError> {
    let keys: Vec<_> = keys_of::<K>(key).collect();
    let values = store.get(&keys).await?;
    Ok(found_in::<K>(key, values.iter().map(Option::as_ref)))
}

/// Whether there is such a record, readable or not.
pub(crate) async fn exists<K: Kind>(store: &dyn Store, key: &K::Key) -> Result<bool, StoreError> {
    let keys: Vec<_> = keys_of::<K>(key).collect();
    Ok(store.get(&keys).await?.iter().any(Option::is_some))
}

/// Reads that report every unreadable record to the operator, in the log and in metrics.
#[derive(Debug, Clone)]
pub(crate) struct RecordReads {
    metrics: NodeMetrics,
}

impl RecordReads {
    pub(crate) fn new(metrics: NodeMetrics) -> Self {
        Self { metrics }
    }

    /// Reports an unreadable record.
    pub(crate) fn tell<K: Kind>(&self, key: &K::Key, reason: &str) {
        self.tell_in::<K>(K::NAME, key, reason);
    }

    fn tell_in<K: Kind>(&self, space: &'static str, key: &K::Key, reason: &str) {
        let task = K::task(key).map(tracing::field::display);
        error!(space, record = K::record_name(key), task, reason, "cannot read a record");
        self.metrics.damaged_record(space);
    }

    /// Reads one record. Cancel safe.
    pub(crate) async fn one<K: Kind>(
        &self,
        store: &dyn Store,
        key: &K::Key,
    ) -> Result<Found<K::Record>, StoreError> {
        let found = get_one::<K>(store, key).await?;
        if let Some(reason) = found.unreadable() {
            self.tell::<K>(key, reason);
        }
        Ok(found)
    }

    /// Reads records in the given order: in one call, or one by one if the store itself cannot read one of
    /// them, which is then damaged. Cancel safe.
    pub(crate) async fn many<K: Kind>(
        &self,
        store: &dyn Store,
        keys: &[K::Key],
    ) -> Result<Vec<Found<K::Record>>, StoreError> {
        let found = match get::<K>(store, keys).await {
            Err(StoreError::Corrupt(_)) => {
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    found.push(match get_one::<K>(store, key).await {
                        Err(StoreError::Corrupt(reason)) => Found::Damaged(reason),
                        one => one?,
                    });
                }
                found
            }
            found => found?,
        };
        for (key, found) in keys.iter().zip(&found) {
            if let Some(reason) = found.unreadable() {
                self.tell::<K>(key, reason);
            }
        }
        Ok(found)
    }

    /// Decodes an entry of a scan; its key is `key`.
    pub(crate) fn read<K: Kind>(&self, entry: &Entry<K>, key: &K::Key) -> Found<K::Record> {
        let found = entry.decode(key);
        if let Some(reason) = found.unreadable() {
            self.tell_in::<K>(entry.space.name, key, reason);
        }
        found
    }
}

/// A scan of one space, page by page.
pub(crate) struct Scan<K> {
    range: KeyRange,
    direction: Direction,
    /// Entries in a page.
    page: usize,
    more: bool,
    kind: PhantomData<fn() -> K>,
}

/// Records that a visit of a whole space reads at a time.
const EACH_PAGE: usize = 10_000;

/// Visits all records of a space.
pub(crate) async fn each<K: Kind>(
    snapshot: &dyn Snapshot,
    mut visit: impl FnMut(&Entry<K>),
) -> Result<(), StoreError> {
    for space in K::SPACES {
        let mut scan = Scan::all(*space);
        while let Some(page) = scan.next(snapshot).await? {
            page.iter().for_each(&mut visit);
        }
    }
    Ok(())
}

/// An entry of a scan. It is decoded only on request.
pub(crate) struct Entry<K> {
    space: Space,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Scan<K> {
    /// A scan of a range of one of the kind's spaces.
    pub(crate) fn new(range: KeyRange, direction: Direction, page: usize) -> Self {
        Self { range, direction, page, more: true, kind: PhantomData }
    }

    /// A scan of a whole space, in large pages.
    pub(crate) fn all(space: Space) -> Self {
        Self::new(KeyRange::all(space), Direction::Ascending, EACH_PAGE)
    }

    /// The next page, in the direction of the scan. `None` at the end.
    pub(crate) async fn next(
        &mut self,
        snapshot: &dyn Snapshot,
    ) -> Result<Option<Vec<Entry<K>>>, StoreError> {
        if !self.more {
            return Ok(None);
        }
        let page = snapshot.scan(self.range.clone(), self.direction, self.page).await?;
        let Some((last, _)) = page.entries.last() else {
            self.more = false;
            return Ok(None);
        };
        self.more = page.more;
        match self.direction {
            Direction::Ascending => self.range.start = behind(last),
            Direction::Descending => self.range.end = Some(last.clone()),
        }
        let space = self.range.space;
        let entries = page.entries.into_iter();
        let entry = |(key, value)| Entry { space, key, value, kind: PhantomData };
        Ok(Some(entries.map(entry).collect()))
    }

    /// Whether the range has more entries.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    pub(crate) fn space(&self) -> Space {
        self.range.space
    }
}

impl<K: Kind> Entry<K> {
    /// `None`: the key is not that of such a record.
    pub(crate) fn typed_key(&self) -> Option<K::Key> {
        K::decode_key(&self.key)
    }

    /// Tells nobody of one that cannot be read.
    pub(crate) fn decode(&self, key: &K::Key) -> Found<K::Record> {
        Found::decoded(K::decode(key, &self.value))
    }
}

/// A copy of the bytes, because bytes from a store may be a slice of a large buffer.
pub(crate) fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The first key after this one.
pub(crate) fn behind(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use rota_core::{KeyOwner, Name};

    use super::*;
    use crate::{codec, layout::ClientKey};

    fn key() -> ClientKey {
        ClientKey::Id(Name::new("mine").unwrap())
    }

    #[test]
    fn a_missing_record_is_told_from_one_that_cannot_be_read() {
        let owner = KeyOwner { task: TaskId::from_u64(7).unwrap(), fingerprint: 1 };
        let whole = codec::encode_key_owner(owner);
        let found = found_in::<Owner>(&key(), [Some(&whole)]);
        assert_eq!(found.or_refuse::<Owner>(&key()), Ok(Some(owner)));
        let missing = found_in::<Owner>(&key(), [None]);
        assert_eq!(missing.unreadable(), None);
        assert_eq!(missing.or_refuse::<Owner>(&key()), Ok(None));

        let refused = Err(Refusal::Unreadable { record: "name/id/mine".to_owned() });
        let damaged = found_in::<Owner>(&key(), [Some(&Bytes::from_static(b"\xff"))]);
        assert!(matches!(damaged, Found::Damaged(_)), "{damaged:?}");
        assert_eq!(damaged.or_refuse::<Owner>(&key()), refused);
        // A task id of 0 is a message, and no value that this version knows.
        let newer = found_in::<Owner>(&key(), [Some(&Bytes::new())]);
        assert!(matches!(newer, Found::Newer(_)), "{newer:?}");
        assert_eq!(newer.or_refuse::<Owner>(&key()), refused);
    }

    #[test]
    fn the_first_space_that_holds_a_record_counts() {
        let task = TaskId::from_u64(7).unwrap();
        let spaces: Vec<_> = keys_of::<Done>(&task).map(|(space, _)| space.name).collect();
        assert_eq!(spaces, ["done", "dead"]);
        let damaged = Bytes::from_static(b"\xff");
        let found = found_in::<Done>(&task, [None, Some(&damaged)]);
        assert!(matches!(found, Found::Damaged(_)), "{found:?}");
        assert_eq!(Done::record_name(&task), format!("done/{task}"));
    }
}
