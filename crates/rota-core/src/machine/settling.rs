//! Changes of the last two steps that the store may not show yet.
//!
//! A caller reads records for step *n* when batch *n - 2* is durable, and batch *n - 1* may still be in
//! flight. So this keeps the changes of the steps *n - 1* and *n*.

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
    /// The policy of its definition, which may not be in the store yet either.
    policy: Policy,
}

#[derive(Debug, Default)]
struct Generation {
    /// Ended tasks, and removed tasks (`None`).
    done: FxHashMap<TaskId, Option<Ended>>,
    ids: FxHashMap<Name, KeyOwner>,
    keys: FxHashMap<Arc<str>, KeyOwner>,
}

impl Settling {
    /// Begins a step. The store has the changes of the step before the last one.
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

    /// The record of a task that is not live, from the last steps or else from the store.
    pub(super) fn done(&self, task: TaskId, stored: Stored) -> Stored {
        match self.find(task) {
            Some(ended) => ended.as_ref().map(|ended| ended.done.clone()),
            None => stored,
        }
    }

    /// The policy of a task that ended recently.
    pub(super) fn policy(&self, task: TaskId) -> Option<Policy> {
        self.find(task)?.as_ref().map(|ended| ended.policy)
    }

    pub(super) fn knows(&self, task: TaskId) -> bool {
        self.find(task).is_some()
    }

    /// The task with a client id, from the last steps or else from the store.
    pub(super) fn by_id(&self, id: &Name, stored: Option<KeyOwner>) -> Option<KeyOwner> {
        let recent = self.current.ids.get(id).or_else(|| self.previous.ids.get(id));
        recent.copied().or(stored).filter(|owner| !self.is_removed(owner.task))
    }

    /// The task with an idempotency key, from the last steps or else from the store.
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
