//! The stores of a transfer, and what callers are told meanwhile.

use std::sync::Arc;

use rota_store::Store;

/// A store, and its name in messages.
#[derive(Clone)]
pub struct Side {
    pub store: Arc<dyn Store>,
    /// How the store is called, such as its URL. It is shown and stored, so it has no credentials.
    pub name: String,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    /// Records that this stage has dealt with.
    pub done: u64,
    /// Records that it has to deal with, if known.
    pub total: Option<u64>,
}

/// The stages of a transfer, in order. Each transfer has some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits until a store is free.
    Waiting,
    /// Reads what there is.
    Reading,
    /// Removes an unfinished transfer.
    Clearing,
    /// Writes records.
    Writing,
    /// Reads what was written.
    Verifying,
}

/// Is told of progress, several times a second.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);
