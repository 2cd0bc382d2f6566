//! Reading single keys.
//!
//! What is read first is linearizable and tells the revision; everything after it names that
//! revision.

use bytes::Bytes;

use super::{
    Shared,
    fault::Fault,
    layout,
    link::{Client, Effect, Link},
    wire::{self, KeyValue, RangeRequest, TxnRequest},
};
use crate::{
    model::{Member, Space},
    store::StoreError,
};

/// Keys that are read by one request, at most; less where etcd takes fewer operations.
const KEYS_MAX: usize = 64;

/// The values of these keys at one revision: that one, or the newest.
pub(super) async fn values(
    shared: &Shared,
    keys: &[(Space, Bytes)],
    revision: Option<i64>,
) -> Result<Vec<Option<Bytes>>, StoreError> {
    shared.check_open()?;
    let key = |(space, key): &(Space, Bytes)| shared.layout.key(*space, key);
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let mut values = Vec::with_capacity(keys.len());
    let mut revision = revision.unwrap_or(0);
    for keys in keys.chunks(shared.options.txn_ops_max.min(KEYS_MAX)) {
        let request = |client: Client| {
            let success = keys.iter().map(|key| wire::get(key, revision)).collect();
            let transaction = TxnRequest { success, ..TxnRequest::default() };
            async move { client.kv().txn(transaction).await }
        };
        let answer = shared.reads.call(Effect::Harmless, request).await?;
        if revision == 0 {
            revision = wire::revision(answer.header.as_ref());
        }
        values.extend(wire::found(answer).map(|key| key.map(|key| key.value)));
    }
    Ok(values)
}

/// The head as it was at that revision or, with 0, as it is: its key, and the newest revision.
pub(super) async fn head(
    link: &Link,
    layout: &layout::Layout,
    revision: i64,
) -> Result<(Option<KeyValue>, i64), Fault> {
    let request = |client: Client| {
        let key = layout.head.clone();
        let range = RangeRequest { key, revision, ..RangeRequest::default() };
        async move { client.kv().range(range).await }
    };
    let answer = link.call(Effect::Harmless, request).await?;
    let revision = wire::revision(answer.header.as_ref());
    Ok((answer.kvs.into_iter().next(), revision))
}

/// The nodes that campaign or lead now, by name.
pub(super) async fn members(shared: &Shared) -> Result<Vec<Member>, StoreError> {
    shared.check_open()?;
    let request = |client: Client| {
        let key = shared.layout.node("");
        let range =
            RangeRequest { range_end: layout::behind(&key), key, ..RangeRequest::default() };
        async move { client.kv().range(range).await }
    };
    let found = shared.reads.call(Effect::Harmless, request).await?;
    Ok(found.kvs.iter().map(|node| layout::decode_member(&node.value)).collect())
}
