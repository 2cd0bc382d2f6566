//! What the last two steps ended, removed or named: the store may not show it yet.
//!
//! A caller reads records for step *n* when batch *n - 2* is durable and batch *n - 1* may still be
//! on its way. What the steps *n - 1* and *n* did is therefore known from here.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{KeyOwner, Stored};
use crate::{ClientKeys, DoneRecord, Name, Policy, TaskId};

#[derive(Debug, Default)]
pub(super) struct Settling {
    current: Generation,
    previous: Generation,
}

#[derive(Debug)]
struct Ended {
    done: Arc<DoneRecord>,
    /// Its definition may not be in the store yet either.
    policy: Policy,
}

#[derive(Debug, Default)]
struct Generation {
    /// Tasks that ended, and (`None`) those that were removed.
    done: FxHashMap<TaskId, Option<Ended>>,
    ids: FxHashMap<Name, KeyOwner>,
    keys: FxHashMap<Arc<str>, KeyOwner>,
}

impl Settling {
    /// A new step begins: what the one before the last did is in the store by now.
    pub(super) fn turn(&mut self) {
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.done.clear();
        self.current.ids.clear();
        self.current.keys.clear();
    }

    pub(super) fn ended(&mut self, done: Arc<DoneRecord>, policy: Policy) {
        self.current.done.insert(done.id, Some(Ended { done, policy }));
    }

    pub(super) fn removed(&mut self, task: TaskId) {
        self.current.done.insert(task, None);
    }

    pub(super) fn claimed(&mut self, client_keys: &ClientKeys, owner: KeyOwner) {
        if let Some(id) = &client_keys.id {
            self.current.ids.insert(id.clone(), owner);
        }
        if let Some(key) = &client_keys.key {
            self.current.keys.insert(key.clone(), owner);
        }
    }

    /// The record of a task that is not live: what the last steps know, else what the store said.
    pub(super) fn done(&self, task: TaskId, stored: Stored) -> Stored {
        match self.find(task) {
            Some(ended) => ended.as_ref().map(|ended| ended.done.clone()),
            None => stored,
        }
    }

    /// The policy of a task that ended lately.
    pub(super) fn policy(&self, task: TaskId) -> Option<Policy> {
        self.find(task)?.as_ref().map(|ended| ended.policy)
    }

    pub(super) fn knows(&self, task: TaskId) -> bool {
        self.find(task).is_some()
    }

    /// Whom an id belongs to: what the last steps know, else what the store said.
    pub(super) fn by_id(&self, id: &Name, stored: Option<KeyOwner>) -> Option<KeyOwner> {
        let recent = self.current.ids.get(id).or_else(|| self.previous.ids.get(id));
        recent.copied().or(stored).filter(|owner| !self.is_removed(owner.task))
    }

    /// Whom an idempotency key belongs to, likewise.
    pub(super) fn by_key(&self, key: &Arc<str>, stored: Option<KeyOwner>) -> Option<KeyOwner> {
        let recent = self.current.keys.get(key).or_else(|| self.previous.keys.get(key));
        recent.copied().or(stored).filter(|owner| !self.is_removed(owner.task))
    }

    fn find(&self, task: TaskId) -> Option<&Option<Ended>> {
        self.current.done.get(&task).or_else(|| self.previous.done.get(&task))
    }

    fn is_removed(&self, task: TaskId) -> bool {
        matches!(self.find(task), Some(None))
    }
}
