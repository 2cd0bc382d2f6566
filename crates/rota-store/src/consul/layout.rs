//! The keys in Consul, and what the small ones say.
//!
//! | key | value |
//! |---|---|
//! | `PREFIX/head` | JSON: the last batch, and the pieces of the log that there are |
//! | `PREFIX/log/NUMBER` | a piece of the log (`piece.rs`) |
//! | `PREFIX/part/ID/NUMBER` | a part of a piece that is too large for one transaction |
//! | `PREFIX/epoch` | the newest epoch, as a number |
//! | `PREFIX/leader` | JSON: the node that leads, and its epoch; held by its session |
//! | `PREFIX/successor` | the name of the node that is to lead next |
//! | `PREFIX/nodes/NAME` | JSON: a node that campaigns or leads; held by its session |
//! | `PREFIX/challenge/NAME` | a question whether the node of that name lives; held by who asks |

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::{
    model::{BatchSeq, Epoch, Head, Member, Seat, Space},
    store::StoreError,
};

/// The format of the data that this version writes and reads.
pub(super) const FORMAT: u32 = 1;

/// The names of keys.
#[derive(Debug)]
pub(super) struct Layout {
    prefix: String,
    pub(super) spaces: Vec<Space>,
    pub(super) head: String,
    pub(super) epoch: String,
    pub(super) leader: String,
    pub(super) successor: String,
}

impl Layout {
    pub(super) fn new(prefix: &str, spaces: &[Space]) -> Self {
        let key = |name: &str| format!("{prefix}/{name}");
        Self {
            spaces: spaces.to_vec(),
            head: key("head"),
            epoch: key("epoch"),
            leader: key("leader"),
            successor: key("successor"),
            prefix: prefix.to_owned(),
        }
    }

    pub(super) fn piece(&self, number: u64) -> String {
        format!("{}/log/{number:020}", self.prefix)
    }

    /// What all parts begin with.
    pub(super) fn parts(&self) -> String {
        format!("{}/part/", self.prefix)
    }

    /// What the parts of one piece begin with.
    pub(super) fn parts_of(&self, id: &str) -> String {
        format!("{}/part/{id}/", self.prefix)
    }

    pub(super) fn part(&self, id: &str, number: usize) -> String {
        format!("{}/part/{id}/{number:04}", self.prefix)
    }

    pub(super) fn node(&self, name: &str) -> String {
        format!("{}/nodes/{name}", self.prefix)
    }

    pub(super) fn challenge(&self, name: &str) -> String {
        format!("{}/challenge/{name}", self.prefix)
    }

    /// Refuses a space that the store was not opened with.
    pub(super) fn check_space(&self, space: Space) -> Result<(), StoreError> {
        if self.spaces.iter().any(|known| known.name == space.name) {
            return Ok(());
        }
        Err(StoreError::Invalid(format!("the space `{}` is not declared", space.name)))
    }
}

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tip {
    pub(super) format: u32,
    /// Of the last batch.
    pub(super) epoch: u64,
    pub(super) seq: u64,
    /// The piece that the last batch is.
    pub(super) revision: u64,
    /// The pieces that there are: from this one …
    pub(super) first: u64,
    /// … to this one.
    pub(super) last: u64,
    /// The bytes of all of them.
    pub(super) bytes: u64,
    /// How often the head was written without a piece.
    #[serde(default)]
    pub(super) seals: u64,
}

impl Default for Tip {
    fn default() -> Self {
        let (format, first) = (FORMAT, 1);
        Self { format, first, epoch: 0, seq: 0, revision: 0, last: 0, bytes: 0, seals: 0 }
    }
}

/// Of all formats.
#[derive(Deserialize)]
struct Formatted {
    format: u64,
}

impl Tip {
    pub(super) fn head(self) -> Head {
        Head { epoch: Epoch(self.epoch), seq: BatchSeq(self.seq) }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("numbers are always JSON")
    }

    /// Reads it.
    pub(super) fn decode(value: &[u8]) -> Result<Self, Fault> {
        let damaged =
            || Fault::Corrupt(format!("the head says `{}`", String::from_utf8_lossy(value)));
        let Formatted { format } = serde_json::from_slice(value).map_err(|_| damaged())?;
        if format != u64::from(FORMAT) {
            return Err(Fault::Foreign(format.to_string()));
        }
        serde_json::from_slice(value).map_err(|_| damaged())
    }
}

/// A node as `leader` and `nodes/` have it.
#[derive(Serialize, Deserialize)]
struct Node {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(default)]
    level: u32,
    #[serde(default)]
    ready_for: u64,
    /// Of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
}

/// A node, as it is written below `nodes/` and, with its epoch, at `leader`.
pub(super) fn encode_member(member: &Member, epoch: Option<Epoch>) -> Vec<u8> {
    let Member { name, address, level, ready_for } = member.clone();
    let epoch = epoch.map(|epoch| epoch.0);
    let node = Node { name, address, level, ready_for: ready_for.0, epoch };
    serde_json::to_vec(&node).expect("text is always JSON")
}

/// Reads a node. Whoever can write there can write anything, so what makes no sense is shown as a node of that
/// name rather than refused.
pub(super) fn decode_member(value: &[u8]) -> Member {
    match serde_json::from_slice::<Node>(value) {
        Ok(Node { name, address, level, ready_for, .. }) => {
            Member { name, address, level, ready_for: Epoch(ready_for) }
        }
        Err(_) => Member::alone(String::from_utf8_lossy(value)),
    }
}

/// Reads the leader.
pub(super) fn decode_seat(value: &[u8]) -> Seat {
    let epoch = serde_json::from_slice::<Node>(value).ok().and_then(|node| node.epoch);
    Seat { member: decode_member(value), epoch: Epoch(epoch.unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let tip = Tip { epoch: 7, seq: u64::MAX, first: 3, last: 9, ..Tip::default() };
        assert_eq!(Tip::decode(&tip.encode()), Ok(tip));
        assert_eq!(Tip::decode(br#"{"format":2,"x":1}"#), Err(Fault::Foreign("2".to_owned())));
        for damaged in ["", "7", "{}", r#"{"format":1,"epoch":1}"#] {
            let read = Tip::decode(damaged.as_bytes());
            assert!(matches!(read, Err(Fault::Corrupt(_))), "{damaged}: {read:?}");
        }
    }

    #[test]
    fn nodes_are_read_as_they_were_written() {
        let address = Some("http://a:7420".to_owned());
        let member = Member { name: "b \"c\"".to_owned(), address, level: 3, ready_for: Epoch(9) };
        assert_eq!(decode_member(&encode_member(&member, None)), member);
        let seat = Seat { member: member.clone(), epoch: Epoch(4) };
        assert_eq!(decode_seat(&encode_member(&member, Some(Epoch(4)))), seat);
        // What other versions write: less, or more.
        assert_eq!(decode_member(br#"{"name":"a"}"#), Member::alone("a"));
        let newer = decode_member(br#"{"name":"a","level":2,"zone":"b"}"#);
        assert_eq!(newer, Member { level: 2, ..Member::alone("a") });
        assert_eq!(decode_member(b"not JSON"), Member::alone("not JSON"));
    }
}
