//! Reads what the core must know of the store before it decides: records of tasks that are not live, and
//! owners of names. One call reads for many commands.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    ClientKeys, Command, KeyOwner, KeyOwners, Machine, Name, Refusal, Stored, TaskCommand, TaskId,
    TaskSpec, TickRecord, WallTime,
};
use rota_store::{Space, Store, StoreError};
use rustc_hash::FxHashMap;

use crate::{
    layout::ClientKey,
    planted::Planted,
    records::{self, Done, Found, Kind, Live, Owner, Spec, Tick},
    request::{Request, Submission},
};

/// Timeout of reads of the store, because the loop does nothing else meanwhile.
pub(crate) const PREFETCH_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Prefetched {
    /// What the store has for the keys that were read.
    values: FxHashMap<(&'static str, Bytes), Option<Bytes>>,
    /// Why the store cannot read the others.
    damaged: FxHashMap<(&'static str, Bytes), String>,
}

/// The keys to read before these requests can be carried out.
pub(crate) fn keys<'a>(
    machine: &Machine,
    requests: impl Iterator<Item = &'a Request>,
) -> Vec<(Space, Bytes)> {
    let mut keys: Vec<(Space, Bytes)> = Vec::new();
    for request in requests {
        match request {
            Request::Submit { tasks, .. } => {
                for submission in tasks {
                    for key in client_keys(&submission.task.client_keys) {
                        keys.extend(records::keys_of::<Owner>(&key));
                    }
                }
            }
            Request::Commands { commands, .. } => {
                for command in commands {
                    if let Some(task) = machine.wants_stored(command) {
                        keys.extend(records::keys_of::<Done>(&task));
                        keys.extend(records::keys_of::<Live>(&task));
                    }
                    if let Command::Task {
                        task, command: TaskCommand::Retry { spec: None }, ..
                    } = command
                    {
                        keys.extend(records::keys_of::<Spec>(task));
                    }
                }
            }
            Request::Purge { expiring, .. } => {
                keys.extend(expiring.tasks.iter().flat_map(records::keys_of::<Done>));
                keys.extend(expiring.ticks.iter().flat_map(records::keys_of::<Tick>));
            }
            Request::Trigger { schedule, .. } => {
                keys.extend(owner_keys(&machine.manual_ids(schedule)));
            }
            Request::OpenSession { .. }
            | Request::RaiseLevel { .. }
            | Request::Query(_)
            | Request::Prepare { .. }
            | Request::Resign { .. } => {}
        }
    }
    keys
}

/// The keys with the owners of client ids.
pub(crate) fn owner_keys(ids: &[Name]) -> impl Iterator<Item = (Space, Bytes)> {
    ids.iter().flat_map(|id| records::keys_of::<Owner>(&ClientKey::Id(id.clone())))
}

/// The owners of client ids of the tasks of schedules, in the order of the ids.
pub(crate) async fn owners(
    store: &dyn Store,
    ids: &[Name],
) -> Result<Vec<Option<KeyOwner>>, StoreError> {
    let keys = ids.iter().cloned().map(ClientKey::Id).collect::<Vec<_>>();
    let found = records::get::<Owner>(store, &keys).await?;
    Ok(found.iter().map(owner).collect())
}

/// Reads the keys in one call, if there are any. A value that the store cannot read counts as damaged, and the others are
/// read alone.
pub(crate) async fn read(
    store: &dyn Store,
    keys: Vec<(Space, Bytes)>,
) -> Result<Prefetched, StoreError> {
    if keys.is_empty() {
        return Ok(Prefetched::default());
    }
    let named = |(space, key): (Space, Bytes)| (space.name, key);
    match store.get(&keys).await {
        Err(StoreError::Corrupt(_)) => {}
        found => {
            let values = keys.into_iter().map(named).zip(found?).collect();
            return Ok(Prefetched { values, ..Prefetched::default() });
        }
    }
    let mut prefetched = Prefetched::default();
    for key in keys {
        match store.get(std::slice::from_ref(&key)).await {
            Ok(mut found) => {
                prefetched.values.insert(named(key), found.pop().flatten());
            }
            Err(StoreError::Corrupt(reason)) => {
                prefetched.damaged.insert(named(key), reason);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(prefetched)
}

/// Whether the store knows a name of each of these new tasks: then each is a repeat or a conflict.
pub(crate) async fn are_known(
    store: &dyn Store,
    chosen: &[&ClientKeys],
) -> Result<bool, StoreError> {
    let names = chosen.iter().flat_map(|chosen| client_keys(chosen));
    let keys = names.flat_map(|key| records::keys_of::<Owner>(&key).collect::<Vec<_>>());
    let found = read(store, keys.collect()).await?;
    let is_known = |key: ClientKey| !matches!(found.found::<Owner>(&key), Found::Missing);
    Ok(chosen.iter().all(|chosen| client_keys(chosen).any(is_known)))
}

/// The keys that a client chose.
fn client_keys(chosen: &ClientKeys) -> impl Iterator<Item = ClientKey> {
    let ClientKeys { id, key } = chosen;
    let id = id.clone().map(ClientKey::Id);
    id.into_iter().chain(key.clone().map(ClientKey::Idempotency))
}

/// The owner of the client id of a schedule's task. A record that cannot be read counts as that of another task, so
/// that the tick is refused and nothing is overwritten.
fn owner(found: &Found<KeyOwner>) -> Option<KeyOwner> {
    match found {
        Found::Record(owner) => Some(*owner),
        Found::Missing => None,
        Found::Damaged(_) | Found::Newer(_) => {
            TaskId::from_u64(u64::MAX).map(|task| KeyOwner { task, fingerprint: 0 })
        }
    }
}

impl Prefetched {
    fn found<K: Kind>(&self, key: &K::Key) -> Found<K::Record> {
        let keys = || records::keys_of::<K>(key).map(|(space, key)| (space.name, key));
        if let Some(reason) = keys().find_map(|key| self.damaged.get(&key)) {
            return Found::Damaged(reason.clone());
        }
        let values = keys().map(|key| self.values.get(&key)?.as_ref());
        records::found_in::<K>(key, values)
    }

    /// A record. One that cannot be read refuses the command that needs it.
    fn record<K: Kind>(&self, key: &K::Key) -> Result<Option<K::Record>, Refusal> {
        self.found::<K>(key).or_refuse::<K>(key)
    }

    /// The record of an ended task.
    pub(crate) fn stored(&self, task: TaskId) -> Result<Stored, Refusal> {
        Ok(self.record::<Done>(&task)?.map(Arc::new))
    }

    /// Whether the store has a live state of the task.
    pub(crate) fn is_live(&self, task: TaskId) -> bool {
        matches!(self.found::<Live>(&task), Found::Record(_))
    }

    /// The definition of an ended task.
    pub(crate) fn spec(&self, task: TaskId) -> Result<Option<Arc<TaskSpec>>, Refusal> {
        self.record::<Spec>(&task)
    }

    /// The record of a tick.
    pub(crate) fn tick(&self, tick: &(Name, WallTime)) -> Result<Option<TickRecord>, Refusal> {
        self.record::<Tick>(tick)
    }

    /// The owner of the client id of a schedule's task, if there is one. `None` if it was not read.
    pub(crate) fn owner_of(&self, id: &Name) -> Option<Option<KeyOwner>> {
        let key = ClientKey::Id(id.clone());
        let mut keys = records::keys_of::<Owner>(&key).map(|(space, key)| (space.name, key));
        let is_read =
            keys.all(|key| self.values.contains_key(&key) || self.damaged.contains_key(&key));
        is_read.then(|| owner(&self.found::<Owner>(&key)))
    }

    /// The owners of a new task's client keys. Translates the fingerprint that an earlier version stored for
    /// the same task.
    pub(crate) fn key_owners(&self, submission: &Submission) -> Result<KeyOwners, Refusal> {
        let Submission { task, fingerprint } = submission;
        let owner = |key: ClientKey| -> Result<Option<KeyOwner>, Refusal> {
            if Planted::ForgetsNames.is_made()
                && !matches!(self.found::<Owner>(&key), Found::Missing)
            {
                return Ok(None);
            }
            let owner = self.record::<Owner>(&key)?;
            Ok(owner.map(|owner| {
                let is_former = fingerprint.former.contains(&owner.fingerprint);
                let kept = if is_former { fingerprint.kept } else { owner.fingerprint };
                KeyOwner { fingerprint: kept, ..owner }
            }))
        };
        let ClientKeys { id, key } = task.client_keys.clone();
        let id = id.map(|id| owner(ClientKey::Id(id)));
        let key = key.map(|key| owner(ClientKey::Idempotency(key)));
        Ok(KeyOwners { id: id.transpose()?.flatten(), key: key.transpose()?.flatten() })
    }
}
