//! What the core must be told of the store before it can decide: records of tasks that are not
//! live, and who owns a name. Read for many commands in one call.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{
    ClientKeys, Command, DoneRecord, KeyOwner, KeyOwners, Machine, Refusal, Stored, TaskId,
    TaskSpec,
};
use rota_store::{Space, Store, StoreError};
use rustc_hash::FxHashMap;

use crate::{
    codec, layout,
    planted::Planted,
    request::{Request, Submission},
};

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Prefetched {
    values: FxHashMap<(&'static str, Bytes), Bytes>,
}

/// The keys that must be read before these requests can be carried out.
pub(crate) fn keys<'a>(
    machine: &Machine,
    requests: impl Iterator<Item = &'a Request>,
) -> Vec<(Space, Bytes)> {
    let mut keys: Vec<(Space, Bytes)> = Vec::new();
    for request in requests {
        match request {
            Request::Submit { tasks, .. } => {
                for submission in tasks {
                    keys.extend(names(&submission.task.client_keys));
                }
            }
            Request::Commands { commands, .. } => {
                for command in commands {
                    keys.extend(machine.wants_stored(command).into_iter().flat_map(records));
                    if let Command::Retry { task, spec: None, .. } = command {
                        keys.push((layout::SPEC, layout::task(*task)));
                    }
                }
            }
            Request::Purge { tasks, .. } => {
                keys.extend(tasks.iter().flat_map(|task| records(*task)));
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

/// Reads them, in one call if there are any.
pub(crate) async fn read(
    store: &dyn Store,
    keys: Vec<(Space, Bytes)>,
) -> Result<Prefetched, StoreError> {
    if keys.is_empty() {
        return Ok(Prefetched::default());
    }
    let found = store.get(&keys).await?;
    let values = keys.into_iter().zip(found);
    let values = values.filter_map(|((space, key), value)| Some(((space.name, key), value?)));
    Ok(Prefetched { values: values.collect() })
}

fn names(client_keys: &ClientKeys) -> impl Iterator<Item = (Space, Bytes)> {
    let id = client_keys.id.as_ref().map(|id| (layout::CLIENT_KEY, layout::client_id(id)));
    let key =
        client_keys.key.as_ref().map(|key| (layout::CLIENT_KEY, layout::idempotency_key(key)));
    id.into_iter().chain(key)
}

fn records(task: TaskId) -> [(Space, Bytes); 2] {
    let key = layout::task(task);
    [(layout::DONE, key.clone()), (layout::DEAD, key)]
}

fn unreadable(record: String) -> Refusal {
    Refusal::Unreadable { record }
}

impl Prefetched {
    fn value(&self, space: Space, key: Bytes) -> Option<&Bytes> {
        self.values.get(&(space.name, key))
    }

    /// The record of a task that ended.
    pub(crate) fn stored(&self, task: TaskId) -> Result<Stored, Refusal> {
        let key = layout::task(task);
        let done = self.value(layout::DONE, key.clone());
        let Some(bytes) = done.or_else(|| self.value(layout::DEAD, key)) else { return Ok(None) };
        let record: DoneRecord =
            codec::decode_done(bytes).map_err(|_| unreadable(format!("done/{task}")))?;
        Ok(Some(Arc::new(record)))
    }

    /// The definition of a task that ended.
    pub(crate) fn spec(&self, task: TaskId) -> Result<Option<Arc<TaskSpec>>, Refusal> {
        let Some(bytes) = self.value(layout::SPEC, layout::task(task)) else { return Ok(None) };
        let spec = codec::decode_spec(bytes).map_err(|_| unreadable(format!("spec/{task}")))?;
        Ok(Some(Arc::new(spec)))
    }

    /// Who owns a new task's names. What an earlier version kept of the same task is told as what this
    /// one would keep.
    pub(crate) fn key_owners(&self, submission: &Submission) -> Result<KeyOwners, Refusal> {
        let Submission { task, fingerprint } = submission;
        let client_keys = &task.client_keys;
        let owner = |key: Bytes| -> Result<Option<KeyOwner>, Refusal> {
            let Some(bytes) = self.value(layout::CLIENT_KEY, key.clone()) else { return Ok(None) };
            if Planted::ForgetsNames.is_made() {
                return Ok(None);
            }
            let owner = codec::decode_key_owner(bytes)
                .map_err(|_| unreadable(format!("name/{}", String::from_utf8_lossy(&key))))?;
            let is_former = fingerprint.former.contains(&owner.fingerprint);
            let kept = if is_former { fingerprint.kept } else { owner.fingerprint };
            Ok(Some(KeyOwner { fingerprint: kept, ..owner }))
        };
        let id = client_keys.id.as_ref().map(|id| owner(layout::client_id(id)));
        let key = client_keys.key.as_ref().map(|key| owner(layout::idempotency_key(key)));
        Ok(KeyOwners { id: id.transpose()?.flatten(), key: key.transpose()?.flatten() })
    }
}
