//! The store of Rota: ordered keys and values behind one trait.
//!
//! This crate owns the [`Store`] trait and its contract (read the page of the trait first), one module for
//! each backend (only these know a driver), and the feature `conformance`, a test suite that every backend
//! passes. It does not know what a task is: it has keys, values, revisions and fences.

#[cfg(any(feature = "consul", feature = "embedded"))]
mod change_log;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "consul")]
pub mod consul;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
pub mod etcd;
mod model;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
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
    Change, ChangeStream, CommitError, Leadership, LostBatches, Snapshot, Store, StoreError,
    StoreStatus,
};
