//! The part of a span in the life of a task.

/// What a span's part in a task's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes a task in.
    Submit,
    /// Something within a node.
    Internal,
    /// Runs a task.
    Attempt,
}
