//! The mark of a store that holds half of a transfer.
//!
//! It is the record `cluster/unfinished`, written with the first batch of a transfer and removed with the last one. A node
//! that finds it does not lead. For older versions, which do not know the mark, the feature level is text that is no
//! number while the mark is there; they take that for a level that they do not support.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use rota_store::{Mutation, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::kinds::{KINDS, position_of};
use crate::layout;

/// The feature level of a store with a mark.
const NO_LEVEL: Bytes = Bytes::from_static(b"unfinished");

/// The most bytes that the mark and the level add to a batch.
pub(super) const MARK_BYTES: usize = 4096;
/// The most changes that they add.
pub(super) const MARK_MUTATIONS: usize = 2;

/// The transfers that write a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    Copy,
    Import,
}

/// The mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfinished {
    pub(super) what: What,
    /// The name of the source.
    pub(super) from: String,
    /// The checksum of the source. Missing while an earlier transfer is being removed, and for an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<String>,
    /// The last record that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Position>,
    /// Records that were written.
    #[serde(default)]
    pub(super) records: u64,
}

/// A record: its space and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    space: String,
    #[serde(flatten)]
    key: KeyForm,
}

/// A key in JSON: as text, or in base 64 if it is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeyForm {
    #[serde(rename = "key")]
    Text(String),
    #[serde(rename = "key_base64")]
    Base64(String),
}

impl KeyForm {
    pub(super) fn of(key: &Bytes) -> Self {
        match std::str::from_utf8(key) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(BASE64.encode(key)),
        }
    }

    /// `None`: it is not base 64.
    pub(super) fn bytes(self) -> Option<Bytes> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Base64(text) => Some(BASE64.decode(text).ok()?.into()),
        }
    }
}

impl Position {
    pub(super) fn of(kind: usize, key: &Bytes) -> Self {
        Self { space: KINDS[kind].space.name.to_owned(), key: KeyForm::of(key) }
    }

    /// The row of its space, and its key. `None` if this version has no such space.
    pub(super) fn parts(self) -> Option<(usize, Bytes)> {
        Some((position_of(&self.space)?, self.key.bytes()?))
    }
}

impl Unfinished {
    /// The mark of a store. An unreadable one is that of a newer version.
    pub(super) async fn read(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        let found = store.get(&[(layout::CLUSTER, layout::UNFINISHED)]).await?;
        let Some(value) = found.into_iter().next().flatten() else { return Ok(None) };
        let foreign = |_| Self {
            what: What::Copy,
            from: "something that only a newer version of Rota knows".to_owned(),
            checksum: None,
            after: None,
            records: 0,
        };
        Ok(Some(serde_json::from_slice(&value).unwrap_or_else(foreign)))
    }

    /// The changes that set the mark.
    pub(super) fn puts(&self) -> [Mutation; MARK_MUTATIONS] {
        // A mark has no value that JSON lacks.
        let value = serde_json::to_vec(self).unwrap_or_default();
        [
            Mutation::Put { space: layout::CLUSTER, key: layout::UNFINISHED, value: value.into() },
            Mutation::Put { space: layout::CLUSTER, key: layout::FEATURE_LEVEL, value: NO_LEVEL },
        ]
    }

    /// The changes that remove the mark and set the feature level, if there is one.
    pub(super) fn removal(level: Option<Bytes>) -> Vec<Mutation> {
        let (space, key) = (layout::CLUSTER, layout::FEATURE_LEVEL);
        let level = match level {
            Some(value) => Mutation::Put { space, key, value },
            None => Mutation::Delete { space, key },
        };
        vec![level, Mutation::Delete { space, key: layout::UNFINISHED }]
    }

    /// The transfer in words, such as `copy of file:./rota-data`.
    pub(super) fn in_words(&self) -> String {
        match self.what {
            What::Copy => format!("copy of {}", self.from),
            What::Import => format!("import of {}", self.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_the_place_whatever_the_key() {
        for key in [Bytes::from_static(b"t_1"), Bytes::from_static(b"\xff\x00")] {
            let mark = Unfinished {
                what: What::Copy,
                from: "file:./x".to_owned(),
                checksum: Some("c".to_owned()),
                after: Some(Position::of(3, &key)),
                records: 7,
            };
            let [Mutation::Put { value, .. }, _] = mark.puts() else { panic!("a put") };
            let read: Unfinished = serde_json::from_slice(&value).expect("JSON");
            assert_eq!(read, mark);
            assert_eq!(read.after.and_then(Position::parts), Some((3, key)));
        }
        let largest = Bytes::from(vec![1; rota_store::KEY_BYTES_MAX]);
        let mark = Unfinished {
            what: What::Import,
            from: "x".repeat(500),
            checksum: Some("x".repeat(32)),
            after: Some(Position::of(3, &largest)),
            records: u64::MAX,
        };
        let bytes: usize = mark.puts().iter().map(Mutation::bytes).sum();
        assert!(bytes <= MARK_BYTES, "{bytes}");
    }
}
