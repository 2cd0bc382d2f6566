//! One watch of etcd, as it comes: answers until something breaks it.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tonic::Streaming;

use super::{
    fault::Fault,
    link::{Client, Effect, Link},
    wire::{self, WatchCreateRequest, WatchResponse},
};

/// See the module. Dropping it ends the watch.
pub(super) struct Subscription(Streaming<WatchResponse>);

impl Subscription {
    /// Watches a key, or with an end all keys before that, from the revision `from` on.
    pub(super) async fn open(
        link: &Link,
        key: Bytes,
        end: Option<Bytes>,
        from: i64,
    ) -> Result<Self, Fault> {
        let create = WatchCreateRequest {
            key,
            range_end: end.unwrap_or_default(),
            start_revision: from,
            fragment: true,
        };
        let request = |client: Client| {
            // The stream of requests stays open: its end would be the end of the watch.
            let create = wire::watch(create.clone());
            let requests = stream::iter([create]).chain(stream::pending());
            async move { client.watch().watch(requests).await }
        };
        link.call(Effect::Harmless, request).await.map(Self)
    }

    /// The next answer. One that ends the watch is a fault.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Fault> {
        let ended = || Fault::Unknown("the watch ended".to_owned());
        let answer = self.0.message().await?.ok_or_else(ended)?;
        if answer.compact_revision > 0 {
            Err(Fault::Compacted(answer.compact_revision))
        } else if answer.canceled {
            // Among the reasons is a token that has expired; etcd does not tell it from others.
            Err(Fault::Stranger(format!("etcd: {}", answer.cancel_reason)))
        } else {
            Ok(answer)
        }
    }
}
