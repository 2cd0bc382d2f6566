//! Reads what the core must know of the store before it decides: records of tasks that are not live, and
//! owners of names. One call reads for many commands.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{
    Binding, Bindings, Binds, Command, DoneRecord, Machine, Refusal, Stored, TaskId, TaskSpec,
};
use rota_store::{Space, Store, StoreError};
use rustc_hash::FxHashMap;

use crate::{
    codec, layout,
    planted::Planted,
    request::{Request, Submission},
};

#[derive(Debug, Default)]
pub(crate) struct Lookups {
    values: FxHashMap<(&'static str, Bytes), Bytes>,
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
                    keys.extend(names(&submission.task.binds));
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
            | Request::Look(_)
            | Request::Prepare { .. }
            | Request::Resign { .. } => {}
        }
    }
    keys
}

/// Reads the keys in one call, if there are any.
pub(crate) async fn read(
    store: &dyn Store,
    keys: Vec<(Space, Bytes)>,
) -> Result<Lookups, StoreError> {
    if keys.is_empty() {
        return Ok(Lookups::default());
    }
    let found = store.get(&keys).await?;
    let values = keys.into_iter().zip(found);
    let values = values.filter_map(|((space, key), value)| Some(((space.name, key), value?)));
    Ok(Lookups { values: values.collect() })
}

fn names(binds: &Binds) -> impl Iterator<Item = (Space, Bytes)> {
    let id = binds.id.as_ref().map(|id| (layout::NAME, layout::client_id(id)));
    let key = binds.key.as_ref().map(|key| (layout::NAME, layout::idempotency_key(key)));
    id.into_iter().chain(key)
}

fn records(task: TaskId) -> [(Space, Bytes); 2] {
    let key = layout::task(task);
    [(layout::DONE, key.clone()), (layout::DEAD, key)]
}

fn unreadable(record: String) -> Refusal {
    Refusal::Unreadable { record }
}

impl Lookups {
    fn value(&self, space: Space, key: Bytes) -> Option<&Bytes> {
        self.values.get(&(space.name, key))
    }

    /// The record of an ended task.
    pub(crate) fn stored(&self, task: TaskId) -> Result<Stored, Refusal> {
        let key = layout::task(task);
        let done = self.value(layout::DONE, key.clone());
        let Some(bytes) = done.or_else(|| self.value(layout::DEAD, key)) else { return Ok(None) };
        let record: DoneRecord =
            codec::decode_done(bytes).map_err(|_| unreadable(format!("done/{task}")))?;
        Ok(Some(Arc::new(record)))
    }

    /// The definition of an ended task.
    pub(crate) fn spec(&self, task: TaskId) -> Result<Option<Arc<TaskSpec>>, Refusal> {
        let Some(bytes) = self.value(layout::SPEC, layout::task(task)) else { return Ok(None) };
        let spec = codec::decode_spec(bytes).map_err(|_| unreadable(format!("spec/{task}")))?;
        Ok(Some(Arc::new(spec)))
    }

    /// The owners of a new task's names. Translates the fingerprint that an earlier version stored for the
    /// same task.
    pub(crate) fn bindings(&self, submission: &Submission) -> Result<Bindings, Refusal> {
        let Submission { task, fingerprint } = submission;
        let binds = &task.binds;
        let binding = |key: Bytes| -> Result<Option<Binding>, Refusal> {
            let Some(bytes) = self.value(layout::NAME, key.clone()) else { return Ok(None) };
            if Planted::ForgetsNames.is_made() {
                return Ok(None);
            }
            let binding = codec::decode_binding(bytes)
                .map_err(|_| unreadable(format!("name/{}", String::from_utf8_lossy(&key))))?;
            let is_former = fingerprint.former.contains(&binding.fingerprint);
            let kept = if is_former { fingerprint.kept } else { binding.fingerprint };
            Ok(Some(Binding { fingerprint: kept, ..binding }))
        };
        let id = binds.id.as_ref().map(|id| binding(layout::client_id(id)));
        let key = binds.key.as_ref().map(|key| binding(layout::idempotency_key(key)));
        Ok(Bindings { id: id.transpose()?.flatten(), key: key.transpose()?.flatten() })
    }
}
