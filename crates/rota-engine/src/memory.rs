//! Accounts of the memory that a node bounds in bytes: what each part holds, and the most that it has held.
//!
//! The parts themselves keep to their bounds (`cache`, `request`, `down`). The accounts do not depend on how they
//! do that, so a test can tell that a part took memory without asking for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The bytes of one part.
#[derive(Debug, Default)]
pub(crate) struct Account {
    bytes: AtomicUsize,
    most: AtomicUsize,
}

impl Account {
    /// Adds bytes, until [`Account::remove`].
    pub(crate) fn add(&self, bytes: usize) {
        let now = self.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Sequentially consistent with [`Account::remove`]: see `Downstream::has_room`.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// Bytes of an account, until this is dropped.
#[derive(Debug)]
pub(crate) struct Accounted {
    account: Arc<Account>,
    bytes: usize,
}

impl Accounted {
    pub(crate) fn new(account: &Arc<Account>, bytes: usize) -> Self {
        account.add(bytes);
        Self { account: account.clone(), bytes }
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        self.account.remove(self.bytes);
    }
}

/// The most bytes that each part of a node's memory has held since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPeaks {
    /// Definitions of tasks that will run soon: at most `EngineOptions::payload_cache_bytes`.
    pub cached: usize,
    /// New tasks that wait for their step: at most `EngineOptions::request_bytes_max`.
    pub submissions: usize,
    /// Reports of workers that wait for their step: at most `EngineOptions::request_bytes_max`.
    pub reports: usize,
    /// Tasks in the channels to all workers: at most 128 MiB, and 4 MiB for each session.
    pub channels: usize,
    /// Tasks in the channel of one session: at most 4 MiB, and the task with which it passes that.
    pub channel: usize,
}
