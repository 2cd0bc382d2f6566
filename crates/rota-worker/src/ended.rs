//! Remembers the leases that have ended here. A server can send a task twice over one stream: when it is
//! assigned, and when the session is resumed and the worker did not claim it.
//!
//! The delay of the second one depends on the store, so the number of remembered leases is limited, not their
//! age: a server sends again only leases that the session held when it was resumed, and a session holds no
//! more tasks than slots.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// Minimum number of leases to remember. They take a few megabytes at most.
const REMEMBERED: usize = 1 << 16;

/// The last ended leases.
#[derive(Debug)]
pub(crate) struct Ended {
    room: usize,
    /// The highest token of each task whose lease ended here.
    tokens: FxHashMap<Box<str>, u64>,
    order: VecDeque<(Box<str>, u64)>,
}

impl Ended {
    /// Remembers the last leases of a worker with this many slots.
    pub(crate) fn new(slots: u32) -> Self {
        let room = REMEMBERED.max(slots as usize * 2);
        Self { room, tokens: FxHashMap::default(), order: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, task_id: &str, token: u64) {
        if self.has(task_id, token) {
            return;
        }
        if self.order.len() >= self.room
            && let Some((oldest, token)) = self.order.pop_front()
            && self.tokens.get(&oldest) == Some(&token)
        {
            self.tokens.remove(&oldest);
        }
        self.tokens.insert(task_id.into(), token);
        self.order.push_back((task_id.into(), token));
    }

    /// Whether this lease, or a later one of the same task, has ended here.
    pub(crate) fn has(&self, task_id: &str, token: u64) -> bool {
        self.tokens.get(task_id).is_some_and(|ended| *ended >= token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_remembered_until_there_are_too_many_later_ones() {
        let mut ended = Ended::new(1);
        ended.add("t", 7);
        assert!(ended.has("t", 7) && ended.has("t", 6), "tokens only grow");
        assert!(!ended.has("t", 8) && !ended.has("u", 7));
        ended.add("t", 9);
        for token in 10..REMEMBERED as u64 + 8 {
            ended.add(&format!("t{token}"), token);
        }
        assert_eq!(ended.order.len(), REMEMBERED);
        ended.add("last", 1);
        assert!(ended.has("t", 9), "its first lease was forgotten, its second was not");
        ended.add("more", 1);
        assert!(!ended.has("t", 9));
        assert_eq!((ended.order.len(), ended.tokens.len()), (REMEMBERED, REMEMBERED));
    }
}
