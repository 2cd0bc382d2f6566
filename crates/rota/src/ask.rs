//! Asks before a command changes many things, and says how many.

use crate::{exit::Failure, output};

/// Things that are counted before the question. Counting millions would take longer than the change.
pub(crate) const COUNTED: u32 = 10_000;

/// How many things a filter selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Exactly(usize),
    MoreThan(usize),
}

impl Count {
    pub(crate) fn new(number: usize, more: bool) -> Self {
        if more { Self::MoreThan(number) } else { Self::Exactly(number) }
    }

    /// The number, and whether it is exact.
    pub(crate) fn parts(self) -> (usize, bool) {
        match self {
            Self::Exactly(number) => (number, true),
            Self::MoreThan(number) => (number, false),
        }
    }

    /// Such as "3 tasks".
    pub(crate) fn of(self, thing: &str) -> String {
        match self {
            Self::Exactly(1) => format!("1 {thing}"),
            Self::Exactly(number) => format!("{number} {thing}s"),
            Self::MoreThan(number) => format!("more than {number} {thing}s"),
        }
    }
}

/// Checks that a person can be asked.
///
/// # Errors
/// Without a terminal. The error names `--yes`.
pub(crate) fn needs_terminal(verb: &str, things: &str) -> Result<(), Failure> {
    if output::is_interactive() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "cannot ask for confirmation without a terminal; add --yes to {verb} many {things}"
    ))
    .hint(format!("--dry-run shows the {things} and changes nothing")))
}
