//! Failures of the engine, classified by the possible reaction.

use std::{any::Any, io};

use crate::store::{CommitError, StoreError};

/// A failure of the engine.
#[derive(Debug)]
pub(super) enum Fault {
    /// The disk is full.
    Full(String),
    /// A file operation failed.
    Io(String),
    /// The content of a file is not what was written to it.
    Damaged(String),
    /// The engine accepts no more writes after an earlier failure.
    Stopped,
}

impl Fault {
    /// The same, with the place of the failure.
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
            // A file of the engine is missing or truncated.
            Kind::NotFound | Kind::UnexpectedEof | Kind::InvalidData => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error.to_string()),
        }
    }

    /// From a panic of the engine, which it raises for impossible file contents.
    pub(super) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Damaged(format!("the storage engine panicked: {}", text.unwrap_or_default()))
    }
}

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
                Self::from_io(&error)
            }
            fjall::Error::Poisoned => Self::Stopped,
            fjall::Error::Locked => Self::Io("the lock of the storage engine is held".to_owned()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(why) | Self::Io(why) | Self::Damaged(why) => f.write_str(why),
            Self::Stopped => f.write_str("the storage engine stopped after a background failure"),
        }
    }
}

/// The error of a read.
impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(why) => Self::Corrupt(why),
            fault => Self::Unavailable(fault.to_string()),
        }
    }
}

/// The error of a batch that was certainly not written.
impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full(why) => Self::Full(why),
            Fault::Damaged(why) => Self::Corrupt(why),
            fault => Self::Unavailable(fault.to_string()),
        }
    }
}
