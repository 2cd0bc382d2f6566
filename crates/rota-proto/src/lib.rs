//! The public contract of Rota: the messages, their JSON form, and the schemas of OpenAPI. All three are
//! generated from the files under `proto` by `cargo proto`. The server validates messages.
//!
//! [`v1`] and [`node_v1`] are the messages, with serde derived on them. The feature `server` adds utoipa and the server's
//! side of gRPC. [`json`] has the functions that the derived code calls, and the few shapes that differ from their messages. [`Date`] and [`TimeSpan`]
//! stand for the times of protobuf, in JSON and in flags as well. [`operations`] lists what can be asked for,
//! and [`Reason`] why it may be refused. [`query`] reads and writes filters in addresses. [`FILE_DESCRIPTOR_SET`] is the contract for gRPC reflection.

#![warn(missing_docs)]

#[cfg(feature = "server")]
#[path = "../generated/calls.rs"]
mod calls;
pub mod json;
pub mod operations;
pub mod query;
mod reason;
mod time;

pub use prost_types::FieldMask;
pub use reason::{Reason, RetryHint};
pub use time::{Date, ScalarError, TimeSpan};

/// Version 1 of the contract, generated; `proto/rota/v1/rota.proto` documents it.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::needless_pass_by_value,
        clippy::semicolon_if_nothing_returned,
        clippy::wildcard_imports,
        reason = "generated code"
    )]
    include!("../generated/rota.v1.rs");
}

/// The contract of operations on one node, generated; `proto/rota/node/v1/node.proto` documents it.
pub mod node_v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::needless_pass_by_value,
        clippy::semicolon_if_nothing_returned,
        clippy::wildcard_imports,
        reason = "generated code"
    )]
    include!("../generated/rota.node.v1.rs");
}

/// The compiled contract for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("../generated/descriptor.bin");
