//! What etcd takes in one transaction: as the options say, until it turns out to be less.
//!
//! Nothing asks etcd for its limits, each member has its own, and a later version may count otherwise.
//! So when a member refuses a batch as too large, the writer finds out what it does take, by
//! transactions of that shape which are never carried out. What is known only becomes less; a restart
//! begins with the options again.

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

/// What protobuf adds to the key and value of an operation, at most.
const OPERATION_OVERHEAD: usize = 40;

/// What a transaction holds beside its operations: compares, the head, the read of what is there, and
/// the wrapping of transactions within it.
const TRANSACTION_OVERHEAD: usize = 4096;

/// A batch holds no more changes than these, unless more fit into a transaction that holds no others:
/// larger ones gain nothing, and others wait for them.
const MUTATIONS_MAX: usize = 2048;

/// A batch must be able to hold this much, or nothing useful fits.
pub(super) const BATCH_BYTES_MIN: usize = 64 * 1024;
pub(super) const OPERATIONS_MIN: usize = 8;

/// So exactly the bytes that a request may have are found out.
const BYTES_STEP: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Capacity(Mutex<Takes>);

/// What one member takes in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takes {
    /// Operations in one transaction.
    operations: usize,
    /// Whether a transaction may hold others, each with operations of its own.
    nests: bool,
    /// Bytes in one request.
    bytes: usize,
}

impl Capacity {
    /// What the options say.
    pub(super) fn new(options: &EtcdOptions) -> Self {
        Self(Mutex::new(Takes::said(options)))
    }

    pub(super) fn takes(&self) -> Takes {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, takes: Takes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = takes;
    }

    /// Finds out what the member takes that refused a batch within the limits. False where so little is left that nothing useful fits.
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

/// What was too much about a batch.
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

    /// What fits into one transaction and one request: the head takes one operation, and each operation
    /// some bytes beside its key and value.
    pub(super) fn limits(self, layout: &Layout) -> BatchLimits {
        let nested = self.nested_max() * self.nested_max().saturating_sub(1);
        let nested = if self.nests { nested.min(MUTATIONS_MAX) } else { 0 };
        BatchLimits {
            mutations_max: nested.max(self.operations - 1),
            bytes_max: self.bytes.saturating_sub(TRANSACTION_OVERHEAD),
            mutation_bytes: layout.prefix_bytes_max() + OPERATION_OVERHEAD,
        }
    }

    /// How many operations a transaction within the transaction may hold, so that there may be as many
    /// of those, less one for the head. etcd (3.4 to 3.7, `checkTxnRequest`) allows each of them what
    /// its own number leaves of the limit, and does not add them up.
    fn nested_max(self) -> usize {
        self.operations / 2
    }

    /// The operations of a transaction that does this first, and then all of those.
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

    /// The same with the most operations that are taken, where so many are not.
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

    /// The same with the most bytes that are taken, where so many in a batch are not.
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

/// Tries what etcd takes, without an effect.
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
            // Never carried out: the head is there, and it is not.
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
