//! Reading single keys.
//!
//! What is read first is linearizable and tells the revision; everything after it names that
//! revision.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

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

/// Requests for parts of one answer that are on their way together.
const PARTS: usize = 4;

/// The values of these keys at one revision: that one, or the newest.
pub(super) async fn values(
    shared: &Shared,
    keys: &[(Space, Bytes)],
    revision: Option<i64>,
) -> Result<Vec<Option<Bytes>>, StoreError> {
    shared.check_open()?;
    let key = |(space, key): &(Space, Bytes)| shared.layout.key(*space, key);
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let parts = keys.chunks(shared.options.txn_ops_max.min(KEYS_MAX)).map(<[Bytes]>::to_vec);
    let mut parts = parts.collect::<Vec<_>>().into_iter();
    let Some(first) = parts.next() else { return Ok(Vec::new()) };
    let (mut values, at) = part(shared, first, revision.unwrap_or(0)).await?;
    let rest = stream::iter(parts).map(|keys| part(shared, keys, at)).buffered(PARTS);
    let rest: Vec<_> = rest.try_collect().await?;
    values.extend(rest.into_iter().flat_map(|(values, _)| values));
    Ok(values)
}

/// The values of so many keys as one request asks for, at that revision or, with 0, the newest; and
/// which that was.
async fn part(
    shared: &Shared,
    keys: Vec<Bytes>,
    revision: i64,
) -> Result<(Vec<Option<Bytes>>, i64), Fault> {
    let request = |client: Client| {
        let success = keys.iter().map(|key| wire::get(key, revision)).collect();
        let transaction = TxnRequest { success, ..TxnRequest::default() };
        async move { client.kv().txn(transaction).await }
    };
    let answer = shared.reads.call(Effect::Harmless, request).await?;
    let at = if revision == 0 { wire::revision(answer.header.as_ref()) } else { revision };
    Ok((wire::found(answer).map(|key| key.map(|key| key.value)).collect(), at))
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
