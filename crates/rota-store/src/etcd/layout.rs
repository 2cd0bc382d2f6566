//! The keys in etcd, and the encoding of their values.
//!
//! | key | value | lease |
//! |---|---|---|
//! | `<prefix>/format` | the version of this layout | |
//! | `<prefix>/leader` | the leading node as JSON; the revision that created it is the epoch | the node's |
//! | `<prefix>/successor` | the name of the node that is to lead next | |
//! | `<prefix>/nodes/<name>` | a node that campaigns or leads, as JSON | the node's |
//! | `<prefix>/head` | `<epoch>/<number>` of the last batch | |
//! | `<prefix>/s/<space>/<key>` | the data | |
//!
//! All values are text, except the data.

use bytes::Bytes;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::{
    model::{Batch, BatchSeq, Epoch, Head, KEY_BYTES_MAX, Member, Mutation, Space},
    store::StoreError,
};

/// The version of the layout that this build reads and writes.
pub(super) const FORMAT: u32 = 1;

/// Marks a head that was written again to exclude a batch that may still be in flight.
const SEALED: &str = " sealed";

/// The names of all keys of one cluster.
#[derive(Debug)]
pub(super) struct Layout {
    /// `<prefix>/`.
    root: String,
    spaces: Vec<Space>,
    pub(super) format: Bytes,
    pub(super) leader: Bytes,
    pub(super) successor: Bytes,
    pub(super) head: Bytes,
}

/// The JSON form of a node.
#[derive(Serialize, Deserialize)]
struct Node {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Absent for versions without levels.
    #[serde(default, skip_serializing_if = "is_zero")]
    level: u32,
    #[serde(default, skip_serializing_if = "is_none")]
    ready_for: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(level: &u32) -> bool {
    *level == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_none(epoch: &u64) -> bool {
    *epoch == 0
}

/// The change of a key in a transaction: a put, or with `None` a delete.
pub(super) type Write = (Bytes, Option<Bytes>);

impl Layout {
    pub(super) fn new(prefix: &str, spaces: &[Space]) -> Self {
        let key = |name: &str| format!("{prefix}/{name}");
        Self {
            root: key(""),
            spaces: spaces.to_vec(),
            format: key("format").into(),
            leader: key("leader").into(),
            successor: key("successor").into(),
            head: key("head").into(),
        }
    }

    /// The prefix of all keys.
    pub(super) fn root(&self) -> Bytes {
        self.root.clone().into()
    }

    /// The key of the node with this name. With an empty name, the prefix of all nodes.
    pub(super) fn node(&self, name: &str) -> Bytes {
        format!("{}nodes/{name}", self.root).into()
    }

    /// The prefix of the keys of a space.
    pub(super) fn space(&self, space: Space) -> Result<Vec<u8>, StoreError> {
        if self.spaces.contains(&space) {
            Ok(format!("{}s/{}/", self.root, space.name).into_bytes())
        } else {
            let name = space.name;
            Err(StoreError::Invalid(format!("the store was not opened with the space `{name}`")))
        }
    }

    /// The key in etcd for a key of a space.
    pub(super) fn key(&self, space: Space, key: &[u8]) -> Result<Bytes, StoreError> {
        let mut whole = self.space(space)?;
        whole.extend_from_slice(key);
        Ok(whole.into())
    }

    /// The space and key for a key in etcd. `None` for keys without data.
    pub(super) fn parse(&self, key: &Bytes) -> Option<(Space, Bytes)> {
        let rest = key.strip_prefix(self.root.as_bytes())?.strip_prefix(b"s/")?;
        let end = rest.iter().position(|byte| *byte == b'/')?;
        let space = self.spaces.iter().find(|space| space.name.as_bytes() == &rest[..end])?;
        Some((*space, key.slice_ref(&rest[end + 1..])))
    }

    /// A key that no node ever writes.
    pub(super) fn probe(&self, number: usize) -> Bytes {
        format!("{}probe/{number}", self.root).into()
    }

    /// Maximum bytes of the prefix of a key.
    pub(super) fn prefix_bytes_max(&self) -> usize {
        const SPACE_NAME_MAX: usize = 16;
        self.root.len() + "s//".len() + SPACE_NAME_MAX
    }

    /// The changes of a batch, with only the last change of each key, because etcd refuses two changes of a
    /// key in one transaction.
    pub(super) fn writes(&self, batch: &Batch) -> Result<Vec<Write>, String> {
        let mut seen = FxHashSet::default();
        let mut writes = Vec::with_capacity(batch.mutations.len());
        for mutation in batch.mutations.iter().rev() {
            let key = mutation.key();
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(format!("a key of {} bytes", key.len()));
            }
            let whole = self.key(mutation.space(), key).map_err(|error| error.to_string())?;
            if seen.insert((mutation.space().name, key)) {
                writes.push(match mutation {
                    Mutation::Put { value, .. } => (whole, Some(value.clone())),
                    Mutation::Delete { .. } => (whole, None),
                });
            }
        }
        writes.reverse();
        Ok(writes)
    }
}

/// The value of the head.
pub(super) fn encode_head(head: Head) -> String {
    format!("{}/{}", head.epoch, head.seq)
}

/// The same for a head that is written again without a batch.
pub(super) fn encode_sealed_head(head: Head) -> String {
    encode_head(head) + SEALED
}

/// Decodes the head, and whether a batch wrote it.
pub(super) fn decode_head(value: &[u8]) -> Result<(Head, bool), Fault> {
    let parse = || {
        let text = std::str::from_utf8(value).ok()?;
        let (text, by_batch) = match text.strip_suffix(SEALED) {
            Some(text) => (text, false),
            None => (text, true),
        };
        let (epoch, seq) = text.split_once('/')?;
        let head = Head { epoch: Epoch(epoch.parse().ok()?), seq: BatchSeq(seq.parse().ok()?) };
        Some((head, by_batch))
    };
    parse()
        .ok_or_else(|| Fault::Corrupt(format!("invalid head `{}`", String::from_utf8_lossy(value))))
}

/// Encodes a node, for `leader` and `nodes/`.
pub(super) fn encode_member(member: &Member) -> Vec<u8> {
    let Member { name, address, level, ready_for } = member.clone();
    let node = Node { name, address, level, ready_for: ready_for.0 };
    serde_json::to_vec(&node).expect("text is always JSON")
}

/// Decodes what [`encode_member`] wrote. An invalid value, which anyone with access can write, is shown as a
/// node with this name instead of refused.
pub(super) fn decode_member(value: &[u8]) -> Member {
    match serde_json::from_slice::<Node>(value) {
        Ok(Node { name, address, level, ready_for }) => {
            Member { name, address, level, ready_for: Epoch(ready_for) }
        }
        Err(_) => Member::alone(String::from_utf8_lossy(value)),
    }
}

/// Converts a number of etcd, whose revisions and sizes are signed but never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The reverse. No revision is large enough to overflow.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first key after all keys with this prefix, which does not end with 0xff.
pub(super) fn behind(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SpaceShape;

    const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };

    #[test]
    fn keys_of_spaces_are_found_again_and_others_are_not() {
        let layout = Layout::new("a/b", &[HOT]);
        for key in [&b"1"[..], b"", b"with/slashes/", &[0, 0xff]] {
            let whole = layout.key(HOT, key).expect("it is declared");
            assert_eq!(layout.parse(&whole), Some((HOT, Bytes::copy_from_slice(key))));
        }
        for other in ["a/b/head", "a/b/s/cold/1", "a/b/s/hot", "a/bs/hot/1", "s/hot/1"] {
            assert_eq!(layout.parse(&Bytes::from(other)), None, "{other}");
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head { epoch: Epoch(7), seq: BatchSeq(u64::MAX) };
        assert_eq!(decode_head(encode_head(head).as_bytes()), Ok((head, true)));
        assert_eq!(decode_head(encode_sealed_head(head).as_bytes()), Ok((head, false)));
        for damaged in ["", "7", "7/", "7/x", "-1/2", "7/8 open", "7/8/9"] {
            let read = decode_head(damaged.as_bytes());
            assert!(matches!(read, Err(Fault::Corrupt(_))), "{damaged}: {read:?}");
        }
    }

    #[test]
    fn of_several_changes_to_a_key_the_last_is_written() {
        let layout = Layout::new("p", &[HOT]);
        let mut batch = Batch::new(BatchSeq(1));
        batch.put(HOT, "a", "1");
        batch.put(HOT, "b", "1");
        batch.put(HOT, "a", "2");
        batch.delete(HOT, "b");
        batch.delete(HOT, "c");
        batch.put(HOT, "c", "3");
        let expected = [("p/s/hot/a", Some("2")), ("p/s/hot/b", None), ("p/s/hot/c", Some("3"))];
        let expected = expected.map(|(key, value)| (Bytes::from(key), value.map(Bytes::from)));
        assert_eq!(layout.writes(&batch), Ok(expected.to_vec()));
    }

    #[test]
    fn members_are_read_as_they_were_written() {
        let address = Some("http://a:7420".to_owned());
        let second = Member { name: "b \"c\"".to_owned(), address, level: 3, ready_for: Epoch(9) };
        for member in [Member::alone("a"), second] {
            assert_eq!(decode_member(&encode_member(&member)), member);
        }
        // What other versions write: less, or more.
        let older = decode_member(br#"{"name":"a"}"#);
        assert_eq!(older, Member::alone("a"));
        let newer = decode_member(br#"{"name":"a","level":2,"zone":"b"}"#);
        assert_eq!(newer, Member { level: 2, ..Member::alone("a") });
        assert_eq!(decode_member(b"not JSON"), Member::alone("not JSON"));
    }
}
