//! From the core's mutations to a batch of the store.

use std::collections::BTreeMap;

use rota_core::{Binding, DoneRecord, Mutation, TaskId};
use rota_store::{Batch, BatchSeq};

use crate::{codec, layout};

/// Collects what one step came to.
pub(crate) struct BatchBuilder {
    batch: Batch,
    /// Tasks that may be removed, by the end of the span in which that begins.
    retain: BTreeMap<i64, Vec<TaskId>>,
}

impl BatchBuilder {
    pub(crate) fn new(seq: BatchSeq) -> Self {
        Self { batch: Batch::new(seq), retain: BTreeMap::new() }
    }

    /// Adds one of the core's mutations.
    pub(crate) fn add(&mut self, mutation: &Mutation) {
        let batch = &mut self.batch;
        match mutation {
            Mutation::PutSpec(spec) => {
                batch.put(layout::SPEC, layout::task(spec.id), codec::encode_spec(spec));
                let binding = Binding { task: spec.id, fingerprint: spec.fingerprint };
                if let Some(id) = &spec.binds.id {
                    let value = codec::encode_binding(binding);
                    batch.put(layout::NAME, layout::client_id(id), value);
                }
                if let Some(key) = &spec.binds.key {
                    let value = codec::encode_binding(binding);
                    batch.put(layout::NAME, layout::idempotency_key(key), value);
                }
            }
            Mutation::PutLive(record) => {
                batch.put(layout::LIVE, layout::task(record.id), codec::encode_live(record));
            }
            Mutation::DeleteLive(task) => batch.delete(layout::LIVE, layout::task(*task)),
            Mutation::PutDone(record) => {
                let space = layout::ended(record.status);
                batch.put(space, layout::task(record.id), codec::encode_done(record));
                let span = layout::retain_span(record.retain_until);
                self.retain.entry(span).or_default().push(record.id);
            }
            Mutation::DeleteDone(record) => {
                batch.delete(layout::ended(record.status), layout::task(record.id));
            }
            Mutation::PutAttempt(task, record) => {
                let key = layout::attempt(*task, record.attempt);
                batch.put(layout::ATTEMPT, key, codec::encode_attempt(record));
            }
            Mutation::PutResult(task, result) => {
                batch.put(layout::RESULT, layout::task(*task), result.clone());
            }
            Mutation::DeleteTask(record) => self.delete_task(record),
            Mutation::PutQueue(name, record) => {
                batch.put(layout::QUEUE, name.to_string(), codec::encode_queue(*record));
            }
        }
    }

    fn delete_task(&mut self, record: &DoneRecord) {
        let batch = &mut self.batch;
        let task = layout::task(record.id);
        batch.delete(layout::ended(record.status), task.clone());
        batch.delete(layout::SPEC, task.clone());
        if record.has_result {
            batch.delete(layout::RESULT, task);
        }
        if let Some(id) = &record.binds.id {
            batch.delete(layout::NAME, layout::client_id(id));
        }
        if let Some(key) = &record.binds.key {
            batch.delete(layout::NAME, layout::idempotency_key(key));
        }
        // The last attempt has a record of its own only where it has output.
        let own = if record.has_output { record.attempt } else { record.attempt.saturating_sub(1) };
        for attempt in 1..=own {
            batch.delete(layout::ATTEMPT, layout::attempt(record.id, attempt));
        }
    }

    /// Removes an entry of the retention log: its tasks have been dealt with.
    pub(crate) fn delete_retain(&mut self, key: bytes::Bytes) {
        self.batch.delete(layout::RETAIN, key);
    }

    pub(crate) fn finish(mut self) -> Batch {
        for (span, tasks) in self.retain {
            let key = layout::retain(span, self.batch.seq);
            self.batch.put(layout::RETAIN, key, codec::encode_retain(&tasks));
        }
        self.batch
    }
}
