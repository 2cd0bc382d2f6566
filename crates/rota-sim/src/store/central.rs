//! The central state of the store: versions of keys, the head, history for watchers, and moods.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rota_store::{
    Batch, BatchLimits, Change, CommitError, Direction, Epoch, Fence, Head, KEY_BYTES_MAX,
    KeyRange, Mutation, Page, Revision, Space, StoreError, StoreStatus, VALUE_BYTES_MAX,
};
use tokio::sync::mpsc;

use super::election::Election;
use crate::world::{Action, Endpoint};

/// Bytes of values after which a page ends.
const PAGE_BYTES: usize = 1 << 20;

/// How the store behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mood {
    /// It does nothing until then; what comes meanwhile waits.
    pub(crate) stalled_until_us: u64,
    /// Everything takes so much longer.
    pub(crate) slow_us: u64,
    /// Of a thousand requests, so many are lost on their way.
    pub(crate) loses_requests: u32,
    /// Of a thousand answers, so many are lost.
    pub(crate) loses_answers: u32,
    /// It refuses everything for a passing reason.
    pub(crate) away: bool,
    /// It has no room.
    pub(crate) full: bool,
    /// It tells watchers nothing.
    pub(crate) holds_news: bool,
}

/// What a batch may hold, and for how long a leader is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreLimits {
    pub(crate) batch: BatchLimits,
    pub(crate) leader_ttl_us: u64,
}

/// The versions of a key, oldest first: the revision that wrote each, and its value where it has one.
type Versions = Vec<(u64, Option<Bytes>)>;

/// The keys of one space.
struct Keys {
    name: &'static str,
    by_key: BTreeMap<Bytes, Versions>,
}

/// A watcher.
pub(super) struct Subscription {
    pub(super) endpoint: Endpoint,
    pub(super) incarnation: u32,
    pub(super) next: u64,
    pub(super) sender: mpsc::UnboundedSender<Result<Change, StoreError>>,
}

/// The state.
pub(crate) struct Central {
    spaces: Vec<Keys>,
    /// Keys that were deleted, by the revision that did it: forgotten when nobody can read what was before.
    deleted: VecDeque<(u64, usize, Bytes)>,
    pub(crate) head: Head,
    pub(crate) revision: u64,
    /// Batches from `compacted + 1` on.
    history: VecDeque<Change>,
    pub(super) compacted: u64,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) election: Election,
    pub(crate) mood: Mood,
    /// Until when it works on what came before.
    pub(super) busy_until_us: u64,
    /// What came while it was stalled.
    pub(crate) waiting: VecDeque<Action>,
    pub(crate) limits: StoreLimits,
    pub(super) rng: fastrand::Rng,
    bytes: u64,
    /// Keys of definitions that cannot be read.
    pub(crate) damaged: BTreeSet<Bytes>,
    /// A planted fault.
    #[cfg(feature = "planted-faults")]
    pub(crate) mistake: Option<crate::planted::StoreMistake>,
}

impl Central {
    pub(crate) fn new(spaces: &[Space], limits: StoreLimits, rng: fastrand::Rng) -> Self {
        Self {
            spaces: spaces
                .iter()
                .map(|space| Keys { name: space.name, by_key: BTreeMap::new() })
                .collect(),
            deleted: VecDeque::new(),
            head: Head::default(),
            revision: 0,
            history: VecDeque::new(),
            compacted: 0,
            subscriptions: Vec::new(),
            election: Election::default(),
            mood: Mood::default(),
            busy_until_us: 0,
            waiting: VecDeque::new(),
            limits,
            rng,
            bytes: 0,
            damaged: BTreeSet::new(),
            #[cfg(feature = "planted-faults")]
            mistake: None,
        }
    }

    /// Where the leader runs.
    pub(crate) fn leader_place(&self) -> Option<Endpoint> {
        self.election.leader_place()
    }

    /// Applies a batch, or says why not.
    pub(super) fn commit(&mut self, fence: Fence, batch: Batch) -> Result<Change, CommitError> {
        if self.mood.away {
            return Err(CommitError::Unavailable("no quorum (simulated)".to_owned()));
        }
        self.check(&batch)?;
        let leads = self.election.leading() == Some(fence.epoch) && fence.epoch != Epoch(0);
        if !leads && !self.ignores_fences() {
            return Err(CommitError::Fenced { ours: fence.epoch });
        }
        if !self.head.admits(fence.epoch, batch.seq) {
            return Err(CommitError::OutOfOrder { got: batch.seq, head: self.head });
        }
        if self.mood.full {
            return Err(CommitError::Full("no room (simulated)".to_owned()));
        }
        self.revision += 1;
        self.head = Head { epoch: fence.epoch, seq: batch.seq };
        for mutation in batch.mutations.iter() {
            let value = match mutation {
                Mutation::Put { value, .. } => Some(value.clone()),
                Mutation::Delete { .. } => None,
            };
            self.bytes += mutation.bytes() as u64;
            if !self.drops_write() {
                self.set(mutation.space(), mutation.key(), value);
            }
        }
        let change = Change {
            revision: Revision(self.revision),
            head: self.head,
            mutations: batch.mutations,
        };
        self.history.push_back(change.clone());
        Ok(change)
    }

    #[cfg(not(feature = "planted-faults"))]
    fn ignores_fences(&self) -> bool {
        false
    }

    #[cfg(feature = "planted-faults")]
    fn ignores_fences(&self) -> bool {
        self.mistake == Some(crate::planted::StoreMistake::IgnoresFences)
    }

    #[cfg(not(feature = "planted-faults"))]
    fn drops_write(&mut self) -> bool {
        false
    }

    #[cfg(feature = "planted-faults")]
    fn drops_write(&mut self) -> bool {
        self.mistake == Some(crate::planted::StoreMistake::DropsWrites) && self.rng.u32(..500) == 0
    }

    /// The revision that is read where the newest was asked for.
    #[cfg(not(feature = "planted-faults"))]
    pub(super) fn newest(&self) -> u64 {
        self.revision
    }

    /// The revision that is read where the newest was asked for.
    #[cfg(feature = "planted-faults")]
    pub(super) fn newest(&self) -> u64 {
        if self.mistake == Some(crate::planted::StoreMistake::ReadsOld) {
            return self.revision.saturating_sub(4).max(self.compacted);
        }
        self.revision
    }

    fn set(&mut self, space: Space, key: &Bytes, value: Option<Bytes>) {
        let Some(at) = self.spaces.iter().position(|keys| keys.name == space.name) else { return };
        let keys = &mut self.spaces[at].by_key;
        let (revision, compacted) = (self.revision, self.compacted);
        let Some(versions) = keys.get_mut(key) else {
            if value.is_some() {
                keys.insert(key.clone(), vec![(revision, value)]);
            }
            return;
        };
        if value.is_none() {
            self.deleted.push_back((revision, at, key.clone()));
        }
        // Versions that no reader can ask for any more.
        let old = versions.partition_point(|(at, _)| *at <= compacted);
        versions.drain(..old.saturating_sub(1));
        match versions.last_mut() {
            Some(last) if last.0 == revision => last.1 = value,
            _ => versions.push((revision, value)),
        }
    }

    fn check(&self, batch: &Batch) -> Result<(), CommitError> {
        let invalid = |what: &str| Err(CommitError::Invalid(what.to_owned()));
        if !self.limits.batch.take(batch.mutations.len(), batch.bytes()) {
            return invalid("the batch is too large");
        }
        for mutation in batch.mutations.iter() {
            if !self.spaces.iter().any(|keys| keys.name == mutation.space().name) {
                return invalid("the space was not declared");
            }
            if !(1..=KEY_BYTES_MAX).contains(&mutation.key().len()) {
                return invalid("the key is empty or too long");
            }
            if matches!(mutation, Mutation::Put { value, .. } if value.len() > VALUE_BYTES_MAX) {
                return invalid("the value is too long");
            }
        }
        Ok(())
    }

    pub(super) fn get_at(
        &self,
        revision: u64,
        keys: &[(Space, Bytes)],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.readable(revision)?;
        let mut values = Vec::with_capacity(keys.len());
        for (space, key) in keys {
            if space.name == "spec" && self.damaged.contains(key) {
                return Err(StoreError::Corrupt("a checksum is wrong (simulated)".to_owned()));
            }
            let found = self.space(*space)?.get(key);
            values.push(found.and_then(|versions| version_at(versions, revision)).cloned());
        }
        Ok(values)
    }

    pub(super) fn scan_at(
        &self,
        revision: u64,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        use std::ops::Bound;
        self.readable(revision)?;
        let keys = self.space(range.space)?;
        let mut page = Page::default();
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            return Ok(page);
        }
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let found = keys.range::<Bytes, _>((Bound::Included(&range.start), end));
        let mut bytes = 0;
        let mut take = |key: &Bytes, versions: &Versions| {
            let Some(value) = version_at(versions, revision) else { return true };
            if page.entries.len() == limit || (bytes >= PAGE_BYTES && !page.entries.is_empty()) {
                page.more = true;
                return false;
            }
            bytes += value.len();
            page.entries.push((key.clone(), value.clone()));
            true
        };
        match direction {
            Direction::Ascending => found.into_iter().all(|(key, value)| take(key, value)),
            Direction::Descending => found.into_iter().rev().all(|(key, value)| take(key, value)),
        };
        Ok(page)
    }

    fn space(&self, space: Space) -> Result<&BTreeMap<Bytes, Versions>, StoreError> {
        let undeclared = || StoreError::Invalid("the space was not declared".to_owned());
        let found = self.spaces.iter().find(|keys| keys.name == space.name);
        found.map(|keys| &keys.by_key).ok_or_else(undeclared)
    }

    /// The keys that a space has now, in order.
    pub(crate) fn keys(&self, space: &str) -> Vec<Bytes> {
        let keys = self.spaces.iter().find(|keys| keys.name == space);
        let keys = keys.into_iter().flat_map(|keys| &keys.by_key);
        let there = |versions: &Versions| matches!(versions.last(), Some((_, Some(_))));
        keys.filter(|(_, versions)| there(versions)).map(|(key, _)| key.clone()).collect()
    }

    /// Whether that revision can still be read.
    pub(super) fn readable(&self, revision: u64) -> Result<(), StoreError> {
        if self.mood.away {
            return Err(StoreError::Unavailable("no quorum (simulated)".to_owned()));
        }
        if revision < self.compacted { Err(StoreError::Compacted) } else { Ok(()) }
    }

    /// Forgets history, but for the last so many batches.
    pub(crate) fn compact(&mut self, keep: usize) {
        while self.history.len() > keep {
            if let Some(change) = self.history.pop_front() {
                self.compacted = change.revision.0;
            }
        }
        // Keys that are gone for every reader.
        let compacted = self.compacted;
        while self.deleted.front().is_some_and(|(at, ..)| *at <= compacted) {
            let Some((_, at, key)) = self.deleted.pop_front() else { return };
            let keys = &mut self.spaces[at].by_key;
            // It may have been written again since.
            if keys.get(&key).is_some_and(
                |versions| matches!(versions.last(), Some((at, None)) if *at <= compacted),
            ) {
                keys.remove(&key);
            }
        }
    }

    /// Forgets history beyond so many batches now and then: rarely, as it takes a while.
    pub(crate) fn compact_at_times(&mut self, keep: usize) {
        if self.history.len() >= keep * 2 {
            self.compact(keep);
        }
    }

    /// The batches from a revision on; nothing where some of them are forgotten.
    pub(super) fn since(&self, next: u64) -> Option<impl Iterator<Item = &Change>> {
        if next <= self.compacted {
            return None;
        }
        let skip = usize::try_from(next - self.compacted - 1).unwrap_or(usize::MAX);
        Some(self.history.iter().skip(skip))
    }

    pub(super) fn status(&self) -> StoreStatus {
        let problem = if self.mood.away {
            Some("no quorum (simulated)".to_owned())
        } else if self.mood.full {
            Some("no room (simulated)".to_owned())
        } else {
            None
        };
        StoreStatus {
            backend: "simulated",
            location: "memory".to_owned(),
            bytes_used: Some(self.bytes),
            bytes_max: Some(u64::MAX),
            epoch: self.election.newest(),
            revision: Revision(self.revision),
            problem,
            pressure: None,
            weakness: None,
        }
    }
}

fn version_at(versions: &Versions, revision: u64) -> Option<&Bytes> {
    let after = versions.partition_point(|(at, _)| *at <= revision);
    versions.get(after.checked_sub(1)?)?.1.as_ref()
}
