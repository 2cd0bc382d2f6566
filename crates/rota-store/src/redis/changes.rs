//! Batches as they land, read from the log.
//!
//! Each entry of the log names its predecessor, by its number and the leadership that wrote it. A watcher hands an entry on
//! only if that is the last one it handed on, so none is ever left out: where the log was cut off before the watcher came so far, or the store lost what the watcher has
//! seen, it ends.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::stream;
use redis::Value;

use super::{
    Shared, answer,
    connection::Connected,
    fault::{Fault, unexpected},
    link::{Effect, Link},
    position::{Position, Stretch},
    script::Script,
};
use crate::{
    model::{BatchSeq, Epoch, Head, Revision},
    remote::{background, backoff::Backoff},
    store::{Change, ChangeStream, StoreError},
};

/// How long Redis waits for a batch before it answers that there is none.
const WAIT: Duration = Duration::from_secs(2);

/// Bytes that one answer aims at, and entries in it.
const ANSWER_BYTES: usize = 4 << 20;
const ENTRIES_MAX: usize = 512;

/// Batches from the first one after `after`.
pub(super) fn watch(shared: &Arc<Shared>, after: Revision) -> Result<ChangeStream, StoreError> {
    shared.check_open()?;
    let watcher = Watcher {
        link: Link::new(&shared.server),
        shared: Arc::clone(shared),
        seen: Head { epoch: Epoch(0), seq: BatchSeq(after.0) },
        holder: String::new(),
        is_sure: false,
        entry_bytes: ANSWER_BYTES / 8,
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
    /// A connection of its own: it waits in Redis.
    link: Link,
    /// The last batch that is read; its epoch is 0 where that is not known.
    seen: Head,
    /// The leadership that wrote it; empty where that is not known.
    holder: String,
    /// Whether the store was found to have it, since the connection was made.
    is_sure: bool,
    /// Bytes of an entry, about.
    entry_bytes: usize,
    ready: VecDeque<Change>,
    backoff: Backoff,
}

impl Watcher {
    async fn next(&mut self) -> Result<Change, StoreError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            match self.receive().await {
                Ok(()) => self.backoff.reset(),
                Err(Fault::Gone) => return Err(StoreError::Compacted),
                Err(Fault::Corrupt(why)) => return Err(StoreError::Corrupt(why)),
                Err(fault) => {
                    self.is_sure = false;
                    if matches!(fault, Fault::Silent(_)) {
                        // It may have been too much for the time.
                        self.ask_for_less();
                    }
                    tracing::debug!(
                        reason = fault.reason(),
                        after = self.seen.seq.0,
                        "watches anew"
                    );
                    self.backoff.wait().await;
                }
            }
        }
    }

    /// Takes one answer of Redis.
    async fn receive(&mut self) -> Result<(), Fault> {
        let (found, term) = self.read().await?;
        if found.is_empty() || !self.is_sure {
            // Either nothing has happened, or the store went back behind what was seen.
            let position = Position::read(self.link.call(Script::Look, |_| {}).await?)?;
            let is_other = self.seen.epoch > Epoch(0)
                && position.head.seq == self.seen.seq
                && position.head.epoch != self.seen.epoch;
            let is_missing = !self.shared.server.lineage.may_have(self.seen);
            if position.head.seq < self.seen.seq || is_other || is_missing {
                return Err(Fault::Gone);
            }
            self.is_sure = true;
        }
        let (mut bytes, count) = (0, found.len());
        for entry in found {
            bytes += self.take(entry, term)?;
        }
        if let Some(entry_bytes) = bytes.checked_div(count) {
            // Small batches say little about the size of those to come.
            self.entry_bytes = entry_bytes.max(self.entry_bytes / 2).max(1);
        }
        Ok(())
    }

    /// Halves the number of entries to ask for.
    fn ask_for_less(&mut self) {
        let least = ANSWER_BYTES / ENTRIES_MAX;
        self.entry_bytes = (self.entry_bytes.max(least) * 2).min(ANSWER_BYTES);
    }

    /// The entries behind the last one that was read, and the term of the master that has them.
    async fn read(&self) -> Result<(Vec<Value>, u64), Fault> {
        let server = &self.shared.server;
        let entries = (ANSWER_BYTES / self.entry_bytes).clamp(1, ENTRIES_MAX);
        let command = |_: &Connected| {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(entries);
            // To be sure that the store has what was seen, the first answer must come at once.
            if self.is_sure {
                read.arg("BLOCK").arg(WAIT.as_secs() * 1000);
            }
            read.arg("STREAMS").arg([&server.layout.root, "log"].concat());
            read.arg(format!("{}-0", self.seen.seq));
            read
        };
        let patience = WAIT + server.options.timeout;
        let (answer, connected) = self.link.request(patience, Effect::Once, command).await?;
        let Some(stream) = answer::list(answer)?.into_iter().next() else {
            return Ok((Vec::new(), connected.term));
        };
        let [_, entries] = answer::exactly(stream)?;
        Ok((answer::list(entries)?, connected.term))
    }

    /// Makes a change of an entry. Returns its bytes.
    fn take(&mut self, entry: Value, term: u64) -> Result<usize, Fault> {
        let [id, fields] = answer::exactly(entry)?;
        let id = answer::text(id)?;
        let seq = id.strip_suffix("-0").and_then(|seq| seq.parse().ok());
        let seq = BatchSeq(seq.ok_or_else(|| unexpected(&id))?);
        let (mut prev, mut prev_holder) = (None, String::new());
        let mut batch = Stretch { last: seq, ..Stretch::default() };
        let (mut index, mut data) = (String::new(), bytes::Bytes::new());
        for (name, value) in answer::pairs(fields)? {
            match name.as_str() {
                "prev" => prev = Some(answer::number(value)?),
                "prev_holder" => prev_holder = answer::text(value)?,
                "epoch" => batch.epoch = Epoch(answer::number(value)?),
                "holder" => batch.holder = answer::text(value)?,
                "begin" => batch.begin = answer::text(value)?.parse().ok(),
                "count" => batch.count = answer::number(value)?,
                "at" => batch.at = answer::number(value)?,
                "index" => index = answer::text(value)?,
                "data" => data = answer::bytes(value)?.unwrap_or_default(),
                _ => {}
            }
        }
        let is_known = !self.holder.is_empty() && !prev_holder.is_empty();
        if prev != Some(self.seen.seq.0) || (is_known && self.holder != prev_holder) {
            return Err(Fault::Gone);
        }
        let server = &self.shared.server;
        let head = Head { epoch: batch.epoch, seq };
        let mutations = Arc::new(server.layout.mutations(&index, &data)?);
        server.lineage.saw(term, &batch);
        (self.seen, self.holder) = (head, batch.holder);
        self.ready.push_back(Change { revision: Revision(seq.0), head, mutations });
        Ok(index.len() + data.len())
    }
}
