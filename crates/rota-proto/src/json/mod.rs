//! The JSON form of messages, for REST and for the CLI with `-o json`.
//!
//! `build/json.rs` derives the JSON form of the messages of [`crate::v1`] from the types of their fields, and
//! `build/table.rs` lists the exceptions. This module has the functions that the derived code calls. A field
//! that is `optional` or a message is omitted when it is absent; every other field is always present. Dates
//! are RFC 3339, durations are strings such as `1m30s`, enumerations are lower-case words.
//!
//! [`TaskFilter`], [`FailRequest`] and the results of batch and bulk requests differ in shape from their
//! messages, so they are written by hand.

pub(crate) mod content;
pub(crate) mod filter;
#[cfg(feature = "server")]
pub(crate) mod schema;
mod shapes;
pub(crate) mod strict;
mod surrogate;
pub(crate) mod whole;
pub(crate) mod words;

use serde::{Deserialize, Deserializer};

use crate::v1;

pub use crate::time::{Date, ScalarError, TimeSpan};
pub use content::Content;
#[cfg(feature = "server")]
pub use content::complete_schemas;
pub use filter::TaskFilter;
pub use shapes::{
    BatchResult, BulkRefusal, BulkResult, ExceededLimit, FailRequest, ItemError, NewTaskBatchResult,
};
pub use strict::Object;
pub use surrogate::has_lone_surrogate;
pub use words::Words;

/// Leases that a worker holds: a list in JSON, a message with a list in protobuf.
pub(crate) fn held<'de, D: Deserializer<'de>>(de: D) -> Result<Option<v1::HeldLeases>, D::Error> {
    let leases = Option::<Vec<v1::Lease>>::deserialize(de)?;
    Ok(leases.map(|leases| v1::HeldLeases { leases }))
}
