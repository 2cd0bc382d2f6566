//! A watch of etcd: answers until it breaks.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tonic::Streaming;

use super::{
    answer::Patience,
    fault::Fault,
    link::{Client, Effect, Link, Used},
    wire::{self, WatchCreateRequest, WatchResponse},
};

/// A watch. Dropping it ends the watch.
pub(super) struct Subscription {
    answers: Streaming<WatchResponse>,
    used: Used,
}

impl Subscription {
    /// Watches a key, or with an end all keys before it, from the revision `from` on.
    pub(super) async fn open(
        link: &Link,
        patience: Duration,
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
            // The stream of requests stays open, because its end would end the watch.
            let create = wire::watch(create.clone());
            let requests = stream::iter([create]).chain(stream::pending());
            async move { client.watch().watch(requests).await }
        };
        let (answers, used) =
            link.open(Patience::brief(patience), Effect::Harmless, request).await?;
        Ok(Self { answers, used })
    }

    /// The next answer. The end of the watch is a fault, after which the link is renewed.
    pub(super) async fn next(&mut self, link: &Link) -> Result<WatchResponse, Fault> {
        let answer = tokio::select! {
            biased;
            answer = receive(&mut self.answers) => answer,
            () = link.suspected(&self.used) => {
                Err(Fault::Unknown("the member was found silent".to_owned()))
            }
        };
        if let Err(fault) = &answer
            && fault.is_passing()
        {
            link.renew(&self.used, fault);
        }
        answer
    }
}

async fn receive(answers: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Fault> {
    let ended = || Fault::Unknown("the watch ended".to_owned());
    let answer = answers.message().await?.ok_or_else(ended)?;
    if answer.compact_revision > 0 {
        Err(Fault::Compacted(answer.compact_revision))
    } else if answer.canceled {
        // One possible reason is an expired token, which etcd does not distinguish from others.
        Err(Fault::Stranger(format!("etcd: {}", answer.cancel_reason)))
    } else {
        Ok(answer)
    }
}
