//! What the decisions of a step are given, and their limits.

use rustc_hash::FxHashMap;

use crate::{KeyOwner, Name, TaskIdSequence, WallTime};

/// Maximum number of ticks of one schedule in one step.
pub(super) const WALKED_MAX: usize = 1000;
/// Number of mutations after which a step does no more for a schedule. They must fit into one batch of any
/// store, with those of a task that ends in the same step.
pub(super) const WRITTEN_MAX: usize = 16;

/// The tasks that own the ids of coming ticks, as the store has it. The caller reads them for
/// [`Machine::due_tick_ids`](crate::Machine::due_tick_ids). A tick whose id is not among them waits for the next step.
#[derive(Debug, Default)]
pub struct TickOwners(FxHashMap<Name, Option<KeyOwner>>);

impl TickOwners {
    /// Adds what the store has for an id.
    pub fn insert(&mut self, id: Name, owner: Option<KeyOwner>) {
        self.0.insert(id, owner);
    }

    /// The id with this text and its owner, if it was looked up.
    pub(super) fn get(&self, id: &str) -> Option<(Name, Option<KeyOwner>)> {
        self.0.get_key_value(id).map(|(id, owner)| (id.clone(), *owner))
    }
}

/// What decisions of a step need.
pub(super) struct Deciding<'a> {
    /// The date by which ticks are judged.
    pub(super) now: WallTime,
    pub(super) ids: &'a mut TaskIdSequence,
    pub(super) owners: &'a TickOwners,
    /// Bytes of payloads so far.
    pub(super) bytes: usize,
    /// Room for the text of an id.
    pub(super) text: String,
}
