//! The log as clients see it: what is logged, and changing that. Logging itself belongs to the
//! process around the node.

use std::fmt;

/// Longest filter that is accepted, in bytes.
pub(crate) const FILTER_BYTES_MAX: usize = 1024;

/// A text that is not a filter, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongFilter(pub String);

/// What a process logs, changeable while it runs.
pub trait LogControl: fmt::Debug + Send + Sync {
    /// The filter in force.
    fn filter(&self) -> String;

    /// Puts another one in force, until the process ends.
    ///
    /// # Errors
    /// When the text is not a filter; then the former one stays.
    fn set_filter(&self, filter: &str) -> Result<(), WrongFilter>;
}
