//! The public wire contract of Rota and its generated code. No logic lives here.
//!
//! [`json`] holds the shapes that REST and the CLI speak, [`operations`] what can be asked for, and [`Reason`] why
//! it may be refused.
//! [`v1`] and [`node_v1`] are generated from the files under `proto`; [`FILE_DESCRIPTOR_SET`] is the same for
//! gRPC reflection.

pub mod json;
pub mod operations;
mod reason;

pub use reason::{Reason, Retry};

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
    tonic::include_proto!("rota.v1");
}

/// What a node says of itself alone, generated; `proto/rota/node/v1/node.proto` documents it.
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
    tonic::include_proto!("rota.node.v1");
}

/// The compiled contract, as gRPC reflection serves it.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/rota_descriptor.bin"));
