//! The options of the embedded backend. The defaults fit a machine with two cores.

use crate::model::BatchLimits;

const MIB: u64 = 1024 * 1024;

/// The limits of a batch. They do not depend on the options.
pub(super) const LIMITS: BatchLimits =
    BatchLimits { mutations_max: 100_000, bytes_max: 64 * 1024 * 1024, mutation_bytes: 0 };

/// Options of [`crate::EmbeddedStore`]. They are not part of the data: a directory can be opened with other
/// options than it was written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Memory in bytes to cache blocks from disk, shared by all spaces.
    pub cache_bytes: u64,
    /// Disk space in bytes to keep free. Below it, commits are refused with [`crate::CommitError::Full`], and
    /// background work can still finish and free space. Below twice as much, there is
    /// [pressure](crate::StoreStatus::pressure): new tasks are refused, so that running ones can end.
    pub reserve_bytes: u64,
    /// Bytes of recent batches to keep in memory for watchers. A watcher that falls further behind gets
    /// [`crate::StoreError::Compacted`].
    pub watch_bytes: usize,
    /// Number of threads that flush data to disk and merge it there. At least 1. With more than one, fjall 3.1 keeps
    /// the first free for flushes, and that thread spins on a processor while all others merge.
    pub background_threads: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * MIB,
            reserve_bytes: 256 * MIB,
            watch_bytes: 8 * 1024 * 1024,
            background_threads: 1,
        }
    }
}
