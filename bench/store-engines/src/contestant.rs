//! What is asked of an engine here, and which there are.

use std::io;

use rota_store::{Batch, Space};

/// An engine on a directory.
pub(crate) trait Contestant {
    /// Writes a batch with its number; durable when it returns.
    fn commit(&mut self, batch: Batch) -> io::Result<()>;

    /// The number of the last batch that landed.
    fn head(&mut self) -> io::Result<u64>;

    /// Reads a space from its first key to its last, in pages of so many entries, each copied out as
    /// a caller needs it; how many entries there were.
    fn scan(&mut self, space: Space, page: usize) -> io::Result<u64>;

    /// Ends background work and lets the files go.
    fn close(self: Box<Self>) -> io::Result<()>;

    /// Gives room back to the disk, if the engine does not by itself; says whether it had to.
    fn compact(&mut self) -> io::Result<bool>;
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Rota's own store: fjall behind the `Store` trait.
    Embedded,
    /// redb with its defaults.
    Redb,
    /// redb with `quick_repair`: dearer commits, a start that does not walk through everything.
    RedbQuickRepair,
}

impl Which {
    pub(crate) const ALL: [Self; 3] = [Self::Embedded, Self::Redb, Self::RedbQuickRepair];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redb => "redb",
            Self::RedbQuickRepair => "redb-quick-repair",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|which| which.name() == name)
    }
}
