//! A cache of definitions of tasks that will run soon, so that they need not be read from the store.

use std::sync::Arc;

use rota_core::{TaskId, TaskSpec};
use rustc_hash::FxHashMap;

use crate::{memory::Account, planted::Planted};

/// Approximate bytes of a definition without its payload.
const OVERHEAD_BYTES: usize = 256;

/// A bounded cache. When it is full, later tasks are not added, because tasks run in the order in which they
/// came, so the cached ones are needed first.
#[derive(Debug)]
pub(crate) struct SpecCache {
    specs: FxHashMap<TaskId, Arc<TaskSpec>>,
    bytes: usize,
    account: Arc<Account>,
    bytes_max: usize,
}

fn size_of(spec: &TaskSpec) -> usize {
    spec.definition.payload.len() + OVERHEAD_BYTES
}

impl SpecCache {
    pub(crate) fn new(bytes_max: usize, account: &Arc<Account>) -> Self {
        Self { specs: FxHashMap::default(), bytes: 0, account: account.clone(), bytes_max }
    }

    pub(crate) fn offer(&mut self, spec: &Arc<TaskSpec>) {
        if Planted::KeepsOldDefinitions.is_made() && self.specs.contains_key(&spec.id) {
            return;
        }
        // An earlier definition of the task must not stay, even if there is no room for the new one.
        self.take(spec.id);
        let size = size_of(spec);
        if self.bytes + size <= self.bytes_max || Planted::CachesWithoutBound.is_made() {
            self.specs.insert(spec.id, spec.clone());
            self.bytes += size;
            self.account.add(size);
        }
    }

    pub(crate) fn take(&mut self, task: TaskId) -> Option<Arc<TaskSpec>> {
        let spec = self.specs.remove(&task)?;
        let size = size_of(&spec);
        self.bytes -= size;
        self.account.remove(size);
        Some(spec)
    }
}

impl Drop for SpecCache {
    fn drop(&mut self) {
        self.account.remove(self.bytes);
    }
}
