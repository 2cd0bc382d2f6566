//! A named set of the client's settings. The module `crate::context` keeps them in a file.

use std::collections::BTreeMap;

/// Where the name of a context comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Flag,
    Variable,
    /// `rota context use`.
    File,
}

/// The context in force.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) by: By,
    pub(crate) settings: BTreeMap<String, String>,
}
