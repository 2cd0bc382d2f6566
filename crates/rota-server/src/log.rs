//! The log filter as part of the API. The process that embeds the node does the logging.

use std::fmt;

/// Maximum bytes of a filter.
pub(crate) const FILTER_BYTES_MAX: usize = 1024;

/// The text is not a valid filter, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongFilter(pub String);

/// The log filter of a process.
pub trait LogControl: fmt::Debug + Send + Sync {
    /// The filter in force.
    fn filter(&self) -> String;

    /// Sets another filter, until the process ends.
    ///
    /// # Errors
    /// When the text is not a valid filter. Then the filter stays unchanged.
    fn set_filter(&self, filter: &str) -> Result<(), WrongFilter>;
}
