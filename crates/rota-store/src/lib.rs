//! Where Rota's truth is kept: ordered keys and values behind one trait.
//!
//! This crate owns the [`Store`] trait with its law (read the trait's own page first), one
//! module per backend (the only place where a driver is named) and `conformance` (a feature), the list
//! of obligations that every backend passes. It does not know what a task is: it keeps keys,
//! values, revisions and fences.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "consul")]
pub mod consul;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
pub mod etcd;
mod model;
#[cfg(any(feature = "consul", feature = "etcd"))]
mod remote;
mod store;
pub mod watch;

#[cfg(feature = "embedded")]
pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use model::{
    Batch, BatchLimits, BatchSeq, Direction, Epoch, Fence, Head, KEY_BYTES_MAX, KeyRange, Member,
    Mutation, Page, Revision, Seat, Space, SpaceShape, VALUE_BYTES_MAX,
};
pub use store::{
    Change, ChangeStream, CommitError, Leadership, Snapshot, Store, StoreError, StoreStatus,
};
