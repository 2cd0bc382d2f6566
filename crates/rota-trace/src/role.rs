//! The role of a span in the life of a task.

/// The role of a span in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The submission of a task.
    Submit,
    /// Work within a node.
    Internal,
    /// An attempt of a task.
    Attempt,
}
