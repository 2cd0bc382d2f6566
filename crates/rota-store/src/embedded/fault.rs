//! What went wrong in the engine, sorted by what can be done about it.

use std::{any::Any, io};

use crate::store::{CommitError, StoreError};

/// A failure of the engine.
#[derive(Debug)]
pub(super) enum Fault {
    /// The disk has no room.
    Full(String),
    /// The system refused or failed an operation on a file.
    Io(String),
    /// A file does not hold what was written to it.
    Damaged(String),
    /// An earlier failure made the engine stop taking writes.
    Stopped,
}

impl Fault {
    /// The same, with the place where it happened in front.
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Full(why) => Self::Full(format!("{place}: {why}")),
            Self::Io(why) => Self::Io(format!("{place}: {why}")),
            Self::Damaged(why) => Self::Damaged(format!("{place}: {why}")),
            Self::Stopped => Self::Stopped,
        }
    }

    pub(super) fn from_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            // A file that the engine knows to be there is gone or ends too early.
            Kind::NotFound | Kind::UnexpectedEof | Kind::InvalidData => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error.to_string()),
        }
    }

    /// From a panic of the engine: it gives up that way where a file holds what it cannot be.
    pub(super) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Damaged(format!("the engine gave up: {}", text.unwrap_or_default()))
    }
}

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
                Self::from_io(&error)
            }
            fjall::Error::Poisoned => Self::Stopped,
            fjall::Error::Locked => Self::Io("the engine's own lock is held".to_owned()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(why) | Self::Io(why) | Self::Damaged(why) => f.write_str(why),
            Self::Stopped => f.write_str("the engine stopped after a failure in the background"),
        }
    }
}

/// For a read.
impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(why) => Self::Corrupt(why),
            fault => Self::Unavailable(fault.to_string()),
        }
    }
}

/// For a batch of which it is known that it did not land.
impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full(why) => Self::Full(why),
            Fault::Damaged(why) => Self::Corrupt(why),
            fault => Self::Unavailable(fault.to_string()),
        }
    }
}
