//! Reading single keys.
//!
//! The first read is linearizable and returns the revision; all further reads use that revision.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Shared,
    answer::Patience,
    fault::Fault,
    layout,
    link::{Client, Effect, Link},
    wire::{self, KeyValue, RangeRequest, TxnRequest},
};
use crate::{
    model::{Member, Space, SpaceShape},
    store::StoreError,
};

/// Maximum number of keys in one request. Lower if etcd accepts fewer operations.
pub(super) const KEYS_MAX: usize = 64;

/// Target bytes of one request.
pub(super) const PART_BYTES: usize = 1 << 20;

/// Number of concurrent requests for parts of one answer.
const PARTS: usize = 4;

/// A key and its space.
type Key = (Space, Bytes);

/// The values of these keys at one revision: the given one, or the newest.
pub(super) async fn values(
    shared: &Shared,
    keys: &[(Space, Bytes)],
    revision: Option<i64>,
) -> Result<Vec<Option<Bytes>>, StoreError> {
    shared.check_open()?;
    let key = |(space, key): &Key| Ok((*space, shared.layout.key(*space, key)?));
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, StoreError>>()?;
    // Split when the next request can start, with the sizes known by then.
    let mut rest = &keys[..];
    let mut parts = std::iter::from_fn(|| {
        let count = shared.portions.first_of(rest.iter().map(|(space, _)| *space));
        let (part, behind) = rest.split_at_checked(count.min(rest.len()))?;
        rest = behind;
        Some(part.to_vec()).filter(|part| !part.is_empty())
    });
    let Some(first) = parts.next() else { return Ok(Vec::new()) };
    let (mut values, at) = part(shared, first, revision.unwrap_or(0)).await?;
    let mut parts = stream::iter(parts).map(|keys| part(shared, keys, at)).buffered(PARTS);
    while let Some((part, _)) = parts.try_next().await? {
        values.extend(part);
    }
    Ok(values)
}

/// The values of these keys at this revision, or with 0 at the newest, and that revision. Requests all of
/// them at once, unless that takes too long.
async fn part(
    shared: &Shared,
    keys: Vec<Key>,
    revision: i64,
) -> Result<(Vec<Option<Bytes>>, i64), Fault> {
    let (mut values, mut at) = (Vec::with_capacity(keys.len()), revision);
    let mut count = keys.len();
    while values.len() < keys.len() {
        let rest = &keys[values.len()..];
        let asked = &rest[..count.min(rest.len())];
        match ask(shared, asked, at).await {
            Ok((found, revision)) => {
                note_sizes(shared, asked, &found);
                values.extend(found);
                at = revision;
            }
            Err(fault @ (Fault::Slow(_) | Fault::Large(_) | Fault::TooMuch(_)))
                if asked.len() > 1 =>
            {
                tracing::debug!(
                    keys = asked.len(),
                    reason = fault.reason(),
                    "reading fewer keys at once"
                );
                for (space, _) in asked {
                    shared.portions.was_too_much(*space, asked.len());
                }
                count = asked.len() / 2;
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok((values, at))
}

/// Records the sizes of the values, by shape.
fn note_sizes(shared: &Shared, keys: &[Key], values: &[Option<Bytes>]) {
    for shape in [SpaceShape::Hot, SpaceShape::Large] {
        let of_shape = |((space, _), value): (&Key, &Option<Bytes>)| {
            let bytes = value.as_ref().map_or(0, Bytes::len);
            (space.shape == shape).then_some((*space, bytes))
        };
        let (mut count, mut bytes, mut space) = (0, 0, None);
        for (of, size) in keys.iter().zip(values).filter_map(of_shape) {
            (count, bytes, space) = (count + 1, bytes + size, Some(of));
        }
        if let Some(space) = space {
            shared.portions.came(space, count, bytes);
        }
    }
}

/// One request for these keys.
async fn ask(
    shared: &Shared,
    keys: &[Key],
    revision: i64,
) -> Result<(Vec<Option<Bytes>>, i64), Fault> {
    let request = |client: Client| {
        let success = keys.iter().map(|(_, key)| wire::get(key, revision)).collect();
        let transaction = TxnRequest { success, ..TxnRequest::default() };
        async move { client.kv().txn(transaction).await }
    };
    let effect = if keys.len() > 1 { Effect::Portion } else { Effect::Harmless };
    let patience = Patience::for_answer(shared.options.timeout);
    let answer = shared.reads.call_within(patience, effect, request).await?;
    let at = if revision == 0 { wire::revision(answer.header.as_ref()) } else { revision };
    Ok((wire::found(answer).map(|key| key.map(|key| key.value)).collect(), at))
}

/// The head at this revision, or with 0 the current one: its key, and the newest revision.
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
