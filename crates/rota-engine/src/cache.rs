//! Definitions of tasks that are about to run, so that they need not be read back at once.

use std::sync::Arc;

use rota_core::{TaskId, TaskSpec};
use rustc_hash::FxHashMap;

use crate::planted::Planted;

/// What a definition takes beside its payload, roughly.
const OVERHEAD_BYTES: usize = 256;

/// A bounded cache. When it is full, what comes later is left out: tasks leave in the order in
/// which they came, so what is in already is needed first.
#[derive(Debug)]
pub(crate) struct SpecCache {
    specs: FxHashMap<TaskId, Arc<TaskSpec>>,
    bytes: usize,
    bytes_max: usize,
}

fn size_of(spec: &TaskSpec) -> usize {
    spec.definition.payload.len() + OVERHEAD_BYTES
}

impl SpecCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { specs: FxHashMap::default(), bytes: 0, bytes_max }
    }

    pub(crate) fn offer(&mut self, spec: &Arc<TaskSpec>) {
        if Planted::KeepsOldDefinitions.is_made() && self.specs.contains_key(&spec.id) {
            return;
        }
        // An earlier definition of the task must not stay, also where there is no room for the new one.
        self.take(spec.id);
        let size = size_of(spec);
        if self.bytes + size <= self.bytes_max {
            self.specs.insert(spec.id, spec.clone());
            self.bytes += size;
        }
    }

    pub(crate) fn take(&mut self, task: TaskId) -> Option<Arc<TaskSpec>> {
        let spec = self.specs.remove(&task)?;
        self.bytes -= size_of(&spec);
        Some(spec)
    }
}
