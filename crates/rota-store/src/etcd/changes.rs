//! The stream of durable batches: a watch of etcd on everything below the prefix, which is resumed from the
//! last seen revision when it breaks.
//!
//! All events of one revision are one transaction. etcd splits a long answer into fragments at any point, so
//! the last revision of a fragment may be incomplete. It is passed on, and counts as seen, only when the next
//! revision begins or the answer ends. Earlier revisions are passed on at once, because one answer can have a
//! thousand of them.

use std::{collections::VecDeque, sync::Arc};

use futures_util::stream;

use super::{
    Shared,
    fault::Fault,
    layout,
    link::Link,
    read,
    subscription::Subscription,
    wire::{Event, EventType},
};
use crate::{
    model::{Head, Mutation, Revision},
    remote::{background, backoff::Backoff},
    store::{Change, ChangeStream, StoreError},
};

/// All batches after this revision. The stream connects when it is first polled.
pub(super) fn watch(shared: &Arc<Shared>, after: Revision) -> Result<ChangeStream, StoreError> {
    shared.check_open()?;
    let watcher = Watcher {
        link: Link::new("watch", &shared.options, &shared.members),
        shared: Arc::clone(shared),
        seen: layout::signed(after.0),
        events: None,
        partial: Vec::new(),
        ready: VecDeque::new(),
        backoff: Backoff::default(),
    };
    Ok(Box::pin(stream::unfold(Some(watcher), async |watcher| {
        let mut watcher = watcher?;
        let shared = Arc::clone(&watcher.shared);
        let next = tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => Err(background::closed()),
            next = watcher.next() => next,
        };
        let watcher = next.is_ok().then_some(watcher);
        Some((next, watcher))
    })))
}

struct Watcher {
    shared: Arc<Shared>,
    /// Its own connection, so that a slow reader does not block others.
    link: Link,
    /// The last revision that was passed on completely.
    seen: i64,
    events: Option<Subscription>,
    /// Events of incomplete answers.
    partial: Vec<Event>,
    ready: VecDeque<Change>,
    backoff: Backoff,
}

impl Watcher {
    async fn next(&mut self) -> Result<Change, StoreError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            let Err(fault) = self.receive().await else {
                self.backoff.reset();
                continue;
            };
            self.events = None;
            self.partial.clear();
            match fault {
                Fault::Compacted(to) => self.jump(to).await?,
                Fault::Corrupt(why) => return Err(StoreError::Corrupt(why)),
                fault => {
                    tracing::debug!(
                        reason = fault.reason(),
                        after = self.seen,
                        "restarting the watch"
                    );
                    self.backoff.wait().await;
                }
            }
        }
    }

    /// Processes an answer of etcd.
    async fn receive(&mut self) -> Result<(), Fault> {
        if self.events.is_none() {
            let root = self.shared.layout.root();
            let end = layout::behind(&root);
            let from = self.seen + 1;
            let patience = self.shared.options.timeout;
            let opened = Subscription::open(&self.link, patience, root, Some(end), from);
            self.events = Some(opened.await?);
        }
        let events = self.events.as_mut().expect("it was opened above");
        let answer = events.next(&self.link).await?;
        self.partial.extend(answer.events);
        let unfinished =
            if answer.fragment { split_last_revision(&mut self.partial) } else { Vec::new() };
        let whole = std::mem::replace(&mut self.partial, unfinished);
        self.complete(whole)
    }

    /// Converts these events, which are complete revisions, to changes.
    fn complete(&mut self, events: Vec<Event>) -> Result<(), Fault> {
        let mut events = events.into_iter().peekable();
        while let Some(first) = events.next() {
            let current = revision(&first);
            let mut gathered = Gathered::default();
            gathered.add(&self.shared, first)?;
            while let Some(event) = events.next_if(|event| revision(event) == current) {
                gathered.add(&self.shared, event)?;
            }
            // A revision can repeat only if the watch was resumed too early.
            if current > self.seen {
                self.seen = current;
                let revision = Revision(layout::unsigned(current));
                self.shared.saw_revision(revision);
                self.ready.extend(gathered.change(revision));
            }
        }
        Ok(())
    }

    /// Continues from the oldest kept revision, if no batch before it was missed.
    async fn jump(&mut self, kept: i64) -> Result<(), StoreError> {
        match read::head(&self.link, &self.shared.layout, kept).await {
            Ok((head, _)) if head.as_ref().map_or(0, |head| head.mod_revision) <= self.seen => {
                self.seen = self.seen.max(kept);
                Ok(())
            }
            Ok(_) => Err(StoreError::Compacted),
            // It was compacted further, or etcd is unreachable. The next subscription will tell.
            Err(Fault::Compacted(_)) => Ok(()),
            Err(fault) if fault.is_passing() => {
                self.backoff.wait().await;
                Ok(())
            }
            Err(fault) => Err(fault.into()),
        }
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |key| key.mod_revision)
}

/// Removes the events of the last revision.
fn split_last_revision(events: &mut Vec<Event>) -> Vec<Event> {
    let Some(last) = events.last().map(revision) else { return Vec::new() };
    let before = events.iter().rposition(|event| revision(event) != last);
    events.split_off(before.map_or(0, |before| before + 1))
}

/// The events of one revision.
#[derive(Default)]
struct Gathered {
    head: Option<Head>,
    mutations: Vec<Mutation>,
}

impl Gathered {
    fn add(&mut self, shared: &Shared, event: Event) -> Result<(), Fault> {
        let deleted = event.r#type() == EventType::Delete;
        let Some(key) = event.kv else { return Ok(()) };
        if let Some((space, name)) = shared.layout.parse(&key.key) {
            self.mutations.push(match deleted {
                true => Mutation::Delete { space, key: name },
                false => Mutation::Put { space, key: name, value: key.value },
            });
        } else if key.key == shared.layout.head && !deleted {
            let (head, by_batch) = layout::decode_head(&key.value)?;
            self.head = by_batch.then_some(head);
        }
        Ok(())
    }

    /// The batch, if the revision is one.
    fn change(self, revision: Revision) -> Option<Change> {
        let head = self.head?;
        Some(Change { revision, head, mutations: Arc::new(self.mutations) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::wire::KeyValue;

    #[test]
    fn of_a_fragment_all_but_the_last_revision_is_whole() {
        let event = |revision: &i64| {
            let kv = KeyValue { mod_revision: *revision, ..KeyValue::default() };
            Event { kv: Some(kv), ..Event::default() }
        };
        let split = |revisions: &[i64]| {
            let mut events: Vec<Event> = revisions.iter().map(event).collect();
            let last = split_last_revision(&mut events);
            (events.iter().map(revision).collect(), last.iter().map(revision).collect())
        };
        let expected = |whole: &[i64], last: &[i64]| (whole.to_vec(), last.to_vec());
        assert_eq!(split(&[]), expected(&[], &[]));
        assert_eq!(split(&[1, 1]), expected(&[], &[1, 1]));
        assert_eq!(split(&[1, 1, 2, 4, 4]), expected(&[1, 1, 2], &[4, 4]));
    }
}
