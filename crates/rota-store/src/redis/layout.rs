//! The keys in Redis, and how their values are written.
//!
//! `{rota}` is the prefix of the options; the braces make it the hash tag, so that a cluster of Redis holds all keys
//! in one slot.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `{rota}:format` | string | the version of this layout |
//! | `{rota}:head` | hash | `epoch` and `seq` of the last batch, `count` of all batches ever, `at` when it landed (ms), `term` of Sentinel then, `sealed`: see `writer.rs`, `by`: epoch and holder of the leadership that wrote that batch, and how many batches came before its first one |
//! | `{rota}:past` | stream | the last leaderships before that one: entry `EPOCH-0` with `holder`, `begin` (batches before its first one), and `seq`, `count`, `at` of its last batch; see `lineage.rs` |
//! | `{rota}:s:SPACE` | hash | the data: keys and values of a space |
//! | `{rota}:k:SPACE` | sorted set | the keys of the space, all with score 0, for their order |
//! | `{rota}:log` | stream | the latest batches, for watchers: entry `SEQ-0` with `prev`, `prev_holder`, `epoch`, `holder`, `begin`, `count`, `at`, `index`, `data` |
//! | `{rota}:epoch` | string | the newest epoch ever given out |
//! | `{rota}:leader` | hash with a time to live | `epoch`, `holder` (a random id), `node` (JSON) |
//! | `{rota}:successor` | string with a time to live | the name of the node that is to lead next |
//! | `{rota}:nodes` | hash | for each name: until when (ms), the holder's id and the node (JSON) |
//! | `{rota}:seats` | stream | a bell: an entry whenever the seat is taken or given up |
//! | `{rota}:snapshots`, `{rota}:snapshots:at` | sorted set, hash | open snapshots: until when, and at which revision |
//! | `{rota}:undo` | sorted set | the revisions at which snapshots were opened |
//! | `{rota}:undo:REVISION:SPACE`, `…:keys` | hash, sorted set | values that were replaced since, `1` before each; `0` for a key that was not there |
//! | `{rota}:undo:keys`, `{rota}:undo:bytes` | set, string | the keys of the row above, and their bytes |

use std::fmt::Write as _;

use bytes::Bytes;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, unexpected};
use crate::{
    model::{Batch, Epoch, KEY_BYTES_MAX, Member, Mutation, Space, VALUE_BYTES_MAX},
    store::StoreError,
};

/// The version of the layout that this build reads and writes.
pub(super) const FORMAT: u32 = 1;

/// The names of all keys of one cluster.
#[derive(Debug)]
pub(super) struct Layout {
    /// What all keys begin with.
    pub(super) root: String,
    spaces: Vec<Space>,
}

/// A node as it is written down.
#[derive(Serialize, Deserialize)]
struct Node {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(default)]
    level: u32,
    #[serde(default)]
    ready_for: u64,
}

/// Puts or deletes of one space.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) space: Space,
    pub(super) puts: bool,
    pub(super) changes: Vec<&'a Mutation>,
}

impl Layout {
    pub(super) fn new(prefix: &str, spaces: &[Space]) -> Self {
        Self { root: format!("{{{prefix}}}:"), spaces: spaces.to_vec() }
    }

    /// Refuses a space that was not declared.
    pub(super) fn check_space(&self, space: Space) -> Result<(), StoreError> {
        if self.spaces.contains(&space) {
            return Ok(());
        }
        let name = space.name;
        Err(StoreError::Invalid(format!("the store was not opened with the space `{name}`")))
    }

    /// The changes of a batch by space and kind, the last one to each key only; so their order does not matter.
    pub(super) fn groups<'a>(&self, batch: &'a Batch) -> Result<Vec<Group<'a>>, String> {
        let mut seen = FxHashSet::default();
        let mut groups: Vec<Group<'a>> = Vec::new();
        for mutation in batch.mutations.iter().rev() {
            let (space, key) = (mutation.space(), mutation.key());
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(format!(
                    "a key has {} bytes; it must have 1 to {KEY_BYTES_MAX}",
                    key.len()
                ));
            }
            let puts = match mutation {
                Mutation::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
                    return Err(format!(
                        "a value has {} bytes; the most is {VALUE_BYTES_MAX}",
                        value.len()
                    ));
                }
                Mutation::Put { .. } => true,
                Mutation::Delete { .. } => false,
            };
            self.check_space(space).map_err(|error| error.to_string())?;
            if !seen.insert((space.name, key)) {
                continue;
            }
            match groups.iter_mut().find(|group| group.space == space && group.puts == puts) {
                Some(group) => group.changes.push(mutation),
                None => groups.push(Group { space, puts, changes: vec![mutation] }),
            }
        }
        Ok(groups)
    }

    /// The mutations that [`index`] and the bytes of keys and values describe.
    pub(super) fn mutations(&self, index: &str, data: &Bytes) -> Result<Vec<Mutation>, Fault> {
        let mut at = 0;
        let mut next = |length: usize| {
            let part = at..at + length;
            at += length;
            if part.end > data.len() {
                return Err(Fault::Corrupt(
                    "a batch of the log is shorter than its index".to_owned(),
                ));
            }
            Ok(data.slice(part))
        };
        let mut mutations = Vec::new();
        for line in index.lines() {
            let parse = || {
                let mut words = line.split(' ');
                let (kind, name) = (words.next()?, words.next()?);
                let space = self.spaces.iter().find(|space| space.name == name);
                let key = words.next()?.parse::<usize>().ok()?;
                let value = words.next().map(str::parse::<usize>).transpose().ok()?;
                Some((kind == "+", space, key, value))
            };
            let (puts, space, key, value) = parse().ok_or_else(|| unexpected(line))?;
            let (key, value) = (next(key)?, value.map(&mut next).transpose()?);
            // A space that a newer version added is none of ours.
            let Some(space) = space.copied() else { continue };
            mutations.push(match value {
                Some(value) if puts => Mutation::Put { space, key, value },
                _ => Mutation::Delete { space, key },
            });
        }
        Ok(mutations)
    }
}

/// Says where in the concatenated keys and values of a batch each one is: a line `+ SPACE KEY VALUE` with the lengths
/// for a put, `- SPACE KEY` for a delete.
pub(super) fn index(groups: &[Group<'_>]) -> String {
    let mut index = String::new();
    for Group { space, changes, .. } in groups {
        for change in changes {
            // Writing to a string never fails.
            let _ = match change {
                Mutation::Put { key, value, .. } => {
                    writeln!(index, "+ {} {} {}", space.name, key.len(), value.len())
                }
                Mutation::Delete { key, .. } => writeln!(index, "- {} {}", space.name, key.len()),
            };
        }
    }
    index
}

/// A node, as it is written at `leader` and in `nodes`.
pub(super) fn encode_member(member: &Member) -> String {
    let Member { name, address, level, ready_for } = member.clone();
    let node = Node { name, address, level, ready_for: ready_for.0 };
    serde_json::to_string(&node).expect("text is always JSON")
}

/// Reads what [`encode_member`] wrote. A text that makes no sense is shown as a node of that name.
pub(super) fn decode_member(value: &str) -> Member {
    match serde_json::from_str::<Node>(value) {
        Ok(Node { name, address, level, ready_for }) => {
            Member { name, address, level, ready_for: Epoch(ready_for) }
        }
        Err(_) => Member::alone(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchSeq, SpaceShape};

    const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };
    const WARM: Space = Space { name: "warm", shape: SpaceShape::Hot };

    #[test]
    fn a_batch_is_read_back_from_the_log_with_the_last_change_to_each_key() {
        let layout = Layout::new("p", &[HOT, WARM]);
        let mut batch = Batch::new(BatchSeq(1));
        batch.put(HOT, "a", "1");
        batch.put(HOT, "a", "22");
        batch.put(WARM, "a\n", "");
        batch.delete(HOT, "b");
        batch.put(HOT, "c", "3");
        batch.delete(HOT, "c");
        let groups = layout.groups(&batch).expect("it is valid");
        let mut data = Vec::new();
        for change in groups.iter().flat_map(|group| &group.changes) {
            data.extend_from_slice(change.key());
            if let Mutation::Put { value, .. } = change {
                data.extend_from_slice(value);
            }
        }
        let mut read = layout.mutations(&index(&groups), &data.clone().into()).expect("it is read");
        read.sort_by(|a, b| (a.space().name, a.key()).cmp(&(b.space().name, b.key())));
        let mut expected = Batch::new(BatchSeq(1));
        expected.put(HOT, "a", "22");
        expected.delete(HOT, "b");
        expected.delete(HOT, "c");
        expected.put(WARM, "a\n", "");
        assert_eq!(read, *expected.mutations);
        data.pop();
        assert!(layout.mutations(&index(&groups), &data.into()).is_err(), "cut off");
        let older = Layout::new("p", &[HOT]);
        assert_eq!(
            older.mutations("+ new 1 1\n- hot 1\n", &"kvb".into()).unwrap_or_default().len(),
            1
        );
    }

    #[test]
    fn members_are_read_as_they_were_written() {
        let address = Some("http://a:7420".to_owned());
        let second = Member { name: "b \"c\"".to_owned(), address, level: 3, ready_for: Epoch(9) };
        for member in [Member::alone("a"), second] {
            assert_eq!(decode_member(&encode_member(&member)), member);
        }
        assert_eq!(decode_member("not JSON"), Member::alone("not JSON"));
    }
}
