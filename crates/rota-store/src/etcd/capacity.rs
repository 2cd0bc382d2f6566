//! The limits of etcd for one transaction: those of the options, until they turn out to be lower.
//!
//! etcd does not report its limits, each member has its own, and later versions may count differently. So
//! when a member refuses a batch as too large, the writer finds the actual limits, with transactions of the
//! same shape that are never carried out. Known limits only decrease; a restart begins with the options
//! again.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::{
    answer::Patience,
    fault::Fault,
    layout::{Layout, Write},
    link::{Client, Effect, Link},
    options::EtcdOptions,
    wire::{self, RequestOp, TxnRequest},
};
use crate::model::BatchLimits;

/// Maximum overhead of protobuf for an operation.
const OPERATION_OVERHEAD: usize = 40;

/// Overhead of a transaction without its operations: compares, the head, reads, and nested transactions.
const TRANSACTION_OVERHEAD: usize = 4096;

/// Maximum number of changes in a batch that needs nested transactions. Larger batches gain nothing and delay
/// others.
const MUTATIONS_MAX: usize = 2048;

/// Minimum size of a batch that is useful.
pub(super) const BATCH_BYTES_MIN: usize = 64 * 1024;
pub(super) const OPERATIONS_MIN: usize = 8;

/// Precision with which the limit of bytes is determined.
const BYTES_STEP: usize = 64 * 1024;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Capacity(Mutex<Takes>);

/// The limits of a member for one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takes {
    /// Maximum number of operations in one transaction.
    operations: usize,
    /// Whether transactions can be nested, each with its own operations.
    nests: bool,
    /// Maximum bytes of one request.
    bytes: usize,
}

impl Capacity {
    /// The limits of the options.
    pub(super) fn new(options: &EtcdOptions) -> Self {
        Self(Mutex::new(Takes::said(options)))
    }

    pub(super) fn takes(&self) -> Takes {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, takes: Takes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = takes;
    }

    /// Determines the actual limits of a member that refused a batch. Returns false if nothing useful would
    /// fit.
    pub(super) async fn lower(
        &self,
        link: &Link,
        layout: &Layout,
        options: &EtcdOptions,
        refused: &Refused,
    ) -> Result<bool, Fault> {
        let probe = Probe { link, layout, options };
        let takes = match refused {
            Refused::Mutations => self.takes().with_operations(&probe).await?,
            Refused::Bytes(bytes) => self.takes().with_bytes(&probe, *bytes).await?,
        };
        let Some(takes) = takes else { return Ok(false) };
        self.set(takes);
        Ok(true)
    }
}

/// The limit that a batch exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Mutations,
    Bytes(usize),
}

impl Takes {
    pub(super) fn said(options: &EtcdOptions) -> Self {
        let (operations, bytes) = (options.txn_ops_max, options.request_bytes_max);
        Self { operations, nests: true, bytes }
    }

    /// The limits of a batch that fits into one transaction and request. The head needs one operation, and
    /// each operation has some overhead in bytes.
    pub(super) fn limits(self, layout: &Layout) -> BatchLimits {
        let nested = self.nested_max() * self.nested_max().saturating_sub(1);
        let nested = if self.nests { nested.min(MUTATIONS_MAX) } else { 0 };
        BatchLimits {
            mutations_max: nested.max(self.operations - 1),
            bytes_max: self.bytes.saturating_sub(TRANSACTION_OVERHEAD),
            mutation_bytes: layout.prefix_bytes_max() + OPERATION_OVERHEAD,
        }
    }

    /// Number of operations of each nested transaction, so that there can be as many nested transactions,
    /// minus one for the head. etcd (3.4 to 3.7, `checkTxnRequest`) checks each of them against the limit
    /// minus its nesting, and does not add them up.
    fn nested_max(self) -> usize {
        self.operations / 2
    }

    /// The operations of a transaction that does this first, and then all others.
    pub(super) fn arrange(self, first: RequestOp, writes: &[Write]) -> Vec<RequestOp> {
        let perform = |(key, value): &Write| match value {
            Some(value) => wire::put(key, value.clone(), 0),
            None => wire::delete(key),
        };
        let mut operations = Vec::with_capacity(writes.len().min(self.operations) + 1);
        operations.push(first);
        if writes.len() < self.operations {
            operations.extend(writes.iter().map(perform));
        } else {
            let nested = |part: &[Write]| wire::nested(part.iter().map(perform).collect());
            operations.extend(writes.chunks(self.nested_max()).map(nested));
        }
        operations
    }

    /// The same limits with the actual maximum number of operations, which is below this number.
    async fn with_operations(self, probe: &Probe<'_>) -> Result<Option<Self>, Fault> {
        let mut operations = self.operations;
        while operations >= OPERATIONS_MIN {
            for nests in [true, false] {
                let takes = Self { operations, nests, ..self };
                let count = takes.limits(probe.layout).mutations_max;
                if takes != self && probe.is_taken(takes, &probe.deletes(count)).await? {
                    return Ok(Some(takes));
                }
            }
            operations /= 2;
        }
        Ok(None)
    }

    /// The same limits with the actual maximum bytes, which are below this number.
    async fn with_bytes(self, probe: &Probe<'_>, refused: usize) -> Result<Option<Self>, Fault> {
        let with = |bytes: usize| Self { bytes, ..self };
        let is_taken = async |bytes: usize| {
            let limits = with(bytes).limits(probe.layout);
            let value = limits.bytes_max.saturating_sub(limits.mutation_bytes);
            probe.is_taken(self, &[probe.put(value)]).await
        };
        let mut too_many = self.bytes.min(refused + TRANSACTION_OVERHEAD);
        let mut taken = too_many - 1;
        while !is_taken(taken).await? {
            too_many = taken;
            taken /= 2;
            if taken < BATCH_BYTES_MIN + TRANSACTION_OVERHEAD {
                return Ok(None);
            }
        }
        while too_many - taken > BYTES_STEP {
            let middle = taken + (too_many - taken) / 2;
            if is_taken(middle).await? { taken = middle } else { too_many = middle }
        }
        Ok(Some(with(taken)))
    }
}

/// Tests the limits of etcd without an effect.
struct Probe<'a> {
    link: &'a Link,
    layout: &'a Layout,
    options: &'a EtcdOptions,
}

impl Probe<'_> {
    fn deletes(&self, count: usize) -> Vec<Write> {
        (0..count).map(|number| (self.layout.probe(number), None)).collect()
    }

    fn put(&self, bytes: usize) -> Write {
        (self.layout.probe(0), Some(Bytes::from(vec![0; bytes])))
    }

    async fn is_taken(&self, takes: Takes, writes: &[Write]) -> Result<bool, Fault> {
        let head = &self.layout.head;
        let size = |(_, value): &Write| value.as_ref().map_or(0, Bytes::len);
        let bytes = writes.iter().map(size).sum();
        let request = |client: Client| {
            // Never carried out, because its conditions contradict each other.
            let compare = vec![wire::exists(head), wire::created_at(head, 0)];
            let success = takes.arrange(wire::delete(head), writes);
            let transaction = TxnRequest { compare, success, failure: Vec::new() };
            async move { client.kv().txn(transaction).await }
        };
        let patience = Patience::for_request(self.options.timeout, bytes);
        match self.link.call_within(patience, Effect::Harmless, request).await {
            Ok(_) => Ok(true),
            Err(Fault::TooMuch(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}
