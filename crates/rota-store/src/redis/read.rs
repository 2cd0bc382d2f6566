//! Reads of the store as it is now.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Shared, answer, layout,
    script::Script,
    snapshot::{ANSWER_BYTES, KEYS_MAX, RedisSnapshot},
};
use crate::{
    model::{Member, Space},
    store::{Snapshot, StoreError},
};

/// The values of these keys at one revision.
pub(super) async fn values(
    shared: &Arc<Shared>,
    keys: &[(Space, Bytes)],
) -> Result<Vec<Option<Bytes>>, StoreError> {
    shared.check_open()?;
    for (space, _) in keys {
        shared.server.layout.check_space(*space)?;
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    if keys.len() <= KEYS_MAX {
        let answer = shared.reads.call(Script::Get, |call| {
            call.arg(ANSWER_BYTES);
            for (space, key) in keys {
                call.arg(space.name).arg(&key[..]);
            }
        });
        let values = answer::list(answer.await?)?;
        if values.len() == keys.len() {
            return Ok(values.into_iter().map(answer::bytes).collect::<Result<_, _>>()?);
        }
    }
    // Too much for one answer, so a snapshot holds the revision for several.
    RedisSnapshot::take(shared).await?.get(keys).await
}

/// Who campaigns or leads now, by name.
pub(super) async fn members(shared: &Shared) -> Result<Vec<Member>, StoreError> {
    shared.check_open()?;
    let answer = answer::list(shared.reads.call(Script::Members, |_| {}).await?)?;
    let read = |node| Ok(layout::decode_member(&answer::text(node)?));
    let mut members = answer.into_iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}
