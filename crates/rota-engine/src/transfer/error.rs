//! Why a transfer failed.

use std::io;

use rota_store::StoreError;

/// Why a transfer failed. Each message names the store, the record or the line.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Nodes run on the store.
    #[error("{store} is in use by {}", nodes.join(", "))]
    InUse {
        store: String,
        /// Names of the nodes.
        nodes: Vec<String>,
    },
    /// Another copy or import holds the leadership.
    #[error("another copy or import uses {store}")]
    Busy { store: String },
    /// Both stores are the same.
    #[error("both are the same store, {store}")]
    SameStore { store: String },
    /// Another process has taken the leadership, or it expired.
    #[error("lost the leadership of {store}")]
    LeadershipLost { store: String },
    /// Nothing was ever written to the store that is to be read.
    #[error("{store} holds no data of Rota")]
    Empty { store: String },
    /// The store that is to be read holds half of a transfer.
    #[error("{store} holds an unfinished {what}")]
    Unfinished {
        store: String,
        /// The transfer, such as `copy of file:./rota-data`.
        what: String,
    },
    /// A newer version wrote the store, which may have records that this version does not know of.
    #[error("{store} uses feature level {level}, and this version supports {known}")]
    Newer {
        store: String,
        /// The level, as the store has it.
        level: String,
        known: u32,
    },
    /// The destination has records.
    #[error("{store} is not empty: it has {found}")]
    NotEmpty {
        store: String,
        /// A record that is there.
        found: String,
    },
    /// The destination holds half of another transfer.
    #[error("{store} holds an unfinished {what}")]
    OtherTransfer { store: String, what: String },
    /// The destination cannot take a record.
    #[error("{record} has {bytes} bytes, and {store} takes at most {max} at once")]
    TooLarge { store: String, record: String, bytes: usize, max: usize },
    /// The destination is full.
    #[error("{store} is full: {why}")]
    Full { store: String, why: String },
    /// The destination refused a batch for good.
    #[error("{store} refused a batch: {why}")]
    Refused { store: String, why: String },
    /// A read failed.
    #[error("cannot read {store}: {error}")]
    Read { store: String, error: StoreError },
    /// A write failed.
    #[error("cannot write to {store}: {why}")]
    Write { store: String, why: String },
    /// The records that were read back are not those that were written.
    #[error("the records differ after the transfer: {}", spaces.join(", "))]
    Differs {
        /// The spaces whose records differ.
        spaces: Vec<String>,
    },
    /// A line of a file is not as it must be.
    #[error("line {line}: {why}")]
    File { line: u64, why: String },
    /// A file cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl TransferError {
    pub(super) fn read(store: &str) -> impl Fn(StoreError) -> Self {
        move |error| Self::Read { store: store.to_owned(), error }
    }
}
