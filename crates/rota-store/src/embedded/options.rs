//! What can be set about the embedded backend, with defaults that fit a machine of two cores.

use crate::model::BatchLimits;

const MIB: u64 = 1024 * 1024;

/// The most that one batch may hold, whatever the options say.
pub(super) const LIMITS: BatchLimits =
    BatchLimits { mutations_max: 100_000, bytes_max: 64 * 1024 * 1024, mutation_bytes: 0 };

/// Settings of [`crate::EmbeddedStore`]. None of them is part of the data: a directory may be opened
/// with other settings than it was written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Bytes of memory for blocks read from disk, shared by all spaces.
    pub cache_bytes: u64,
    /// Commits are refused as [`crate::CommitError::Full`] while fewer bytes than this are free on
    /// the disk. The room that is left lets background work finish, which is what frees space. Below
    /// twice as many there is [pressure](crate::StoreStatus::pressure): new tasks are refused, so that
    /// running ones can end.
    pub reserve_bytes: u64,
    /// Bytes of recent batches kept in memory for watchers. One that falls further behind is told
    /// [`crate::StoreError::Compacted`].
    pub watch_bytes: usize,
    /// Threads that move data from memory to disk and merge it there. At least 1.
    pub background_threads: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * MIB,
            reserve_bytes: 256 * MIB,
            watch_bytes: 8 * 1024 * 1024,
            background_threads: 2,
        }
    }
}
