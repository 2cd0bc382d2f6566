//! This process's copy of the state, and how it follows the log in Consul.
//!
//! Opened, it replays all pieces. Then it waits on the head, and fetches the pieces that are new. Where the
//! pieces that it needs next are gone, because they were moved while it was away, it begins anew.
//!
//! A leader's own pieces are applied as soon as they have landed, by its writer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Shared,
    fault::Fault,
    layout::{Layout, Tip},
    link::{Link, Request},
    piece::{self, Content, Kind, Parts, Piece},
    state::{State, View, weight},
    txn::{self, Operation},
};
use crate::{
    change_log::{ChangeLog, ChangeLogBounds},
    model::{Revision, Space},
    remote::{background, backoff::Backoff},
    store::{Change, StoreError},
};

/// What one request for several pieces aims at.
const PORTION_BYTES: u64 = 2 << 20;

/// Pieces that one request asks for, at most.
const PORTION_MAX: u64 = 60;

/// Requests that are on their way together.
const TOGETHER: usize = 4;

/// How often the head is read again when pieces were moved while they were read.
const ATTEMPTS: usize = 20;

/// What is kept for watchers. The values are shared with the state for as long as they are live.
const WATCHED: ChangeLogBounds = ChangeLogBounds { batches: 16 * 1024, bytes: 32 << 20 };

/// See the module.
#[derive(Debug)]
pub(super) struct Replica {
    /// Nothing before all pieces have been replayed once.
    state: Mutex<Option<State>>,
    pub(super) changes: Arc<ChangeLog>,
    /// Who fetches pieces holds this.
    fetching: tokio::sync::Mutex<()>,
}

/// A piece as it was fetched.
pub(super) struct Fetched {
    pub(super) number: u64,
    pub(super) piece: Piece,
    pub(super) bytes: u64,
    pub(super) parts: Option<Parts>,
}

impl Replica {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changes: Arc::new(ChangeLog::new(Revision::default(), WATCHED)),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the state, if anything is.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&State) -> T) -> Option<T> {
        self.lock().as_ref().map(ask)
    }

    pub(super) fn view(&self) -> Option<View> {
        self.with(|state| state.view().clone())
    }

    /// Applies a piece that has just landed, if it is the next one.
    pub(super) fn landed(&self, spaces: &[Space], tip: &Tip, fetched: Fetched) -> bool {
        let mut state = self.lock();
        let Some(state) = state.as_mut().filter(|state| state.next() == tip.last) else {
            return false;
        };
        self.apply(spaces, state, fetched);
        state.forget_before(tip.first);
        true
    }

    /// Forgets what the head says is gone, where no piece came.
    pub(super) fn forget_before(&self, first: u64) {
        if let Some(state) = self.lock().as_mut() {
            state.forget_before(first);
        }
    }

    fn apply(&self, spaces: &[Space], state: &mut State, fetched: Fetched) {
        let Fetched { number, piece, bytes, parts } = fetched;
        // A leader's writer may have been here first.
        if number != state.next() {
            return;
        }
        let revision = Revision(number);
        state.apply(&piece, bytes, parts);
        if piece.kind == Kind::Batch {
            state.shows(revision);
            let mutations = Arc::new(piece.mutations(spaces));
            self.changes.push(Change { revision, head: piece.head, mutations });
        }
    }

    /// Sees to it that the state is at least as new as that head. Cancel safe.
    pub(super) async fn catch_up(
        &self,
        link: &Link,
        layout: &Layout,
        tip: Tip,
    ) -> Result<(), Fault> {
        let mut tip = tip;
        let is_there = |tip: Tip| self.with(|state| state.next() > tip.last) == Some(true);
        if is_there(tip) {
            return Ok(());
        }
        let _fetching = self.fetching.lock().await;
        let mut attempts = 0;
        while !is_there(tip) {
            match self.fetch(link, layout, tip).await {
                Err(Fault::Moved) if attempts < ATTEMPTS => {
                    tip = read_tip(link, layout).await?;
                    attempts += 1;
                }
                fetched => fetched?,
            }
        }
        Ok(())
    }

    async fn fetch(&self, link: &Link, layout: &Layout, tip: Tip) -> Result<(), Fault> {
        let next = self.with(State::next).filter(|next| *next >= tip.first);
        let from = next.unwrap_or(tip.first);
        let mut pieces = std::pin::pin!(pieces(link, layout, tip, from));
        if next.is_none() {
            // Built beside the old one, which others read meanwhile.
            let mut state = State::before(tip.first);
            let mut batches = Vec::new();
            while let Some(fetched) = pieces.try_next().await? {
                let Fetched { number, piece, bytes, parts } = fetched;
                let revision = Revision(number);
                state.apply(&piece, bytes, parts);
                if piece.kind == Kind::Batch {
                    let mutations = Arc::new(piece.mutations(&layout.spaces));
                    batches.push(Change { revision, head: piece.head, mutations });
                }
            }
            state.shows(Revision(tip.revision));
            let mut current = self.lock();
            *current = Some(state);
            // No batch is between the last one and the first piece, if the last one is before it.
            let forgotten = tip.revision.min(tip.first.saturating_sub(1));
            self.changes.restart(Revision(forgotten));
            for change in batches {
                self.changes.push(change);
            }
            return Ok(());
        }
        while let Some(fetched) = pieces.try_next().await? {
            let mut state = self.lock();
            if let Some(state) = state.as_mut() {
                self.apply(&layout.spaces, state, fetched);
            }
        }
        let mut state = self.lock();
        if let Some(state) = state.as_mut().filter(|state| state.matches(&tip)) {
            state.forget_before(tip.first);
        }
        Ok(())
    }
}

/// The pieces from that one on, in order.
fn pieces(
    link: &Link,
    layout: &Layout,
    tip: Tip,
    from: u64,
) -> impl futures_core::Stream<Item = Result<Fetched, Fault>> {
    let count = tip.last + 1 - tip.first;
    let each = (tip.bytes / count.max(1)).max(1);
    let portion = (PORTION_BYTES / each).clamp(1, PORTION_MAX);
    let size = usize::try_from(each * portion).unwrap_or(usize::MAX);
    let starts = (0..).map(move |place| from + place * portion);
    let portions = starts.take_while(move |start| *start <= tip.last).map(move |start| {
        let numbers: Vec<u64> = (start..=tip.last.min(start + portion - 1)).collect();
        fetch_pieces(link, layout, numbers, size)
    });
    stream::iter(portions)
        .buffered(TOGETHER)
        .map_ok(|fetched| stream::iter(fetched.into_iter().map(Ok)))
        .try_flatten()
}

/// These pieces, of about so many bytes together.
pub(super) async fn fetch_pieces(
    link: &Link,
    layout: &Layout,
    numbers: Vec<u64>,
    size: usize,
) -> Result<Vec<Fetched>, Fault> {
    let values = match &numbers[..] {
        [number] => vec![raw(link, &layout.piece(*number)).await?],
        numbers => {
            let keys: Vec<_> = numbers.iter().map(|number| layout.piece(*number)).collect();
            let gets: Vec<_> = keys.iter().map(|key| Operation::get(key)).collect();
            let found = txn::read_all(link, &gets, size).await?.keys();
            let values: Result<Vec<_>, _> = found.iter().map(txn::Entry::value).collect();
            values?
        }
    };
    let mut fetched = Vec::with_capacity(values.len());
    for (number, value) in numbers.into_iter().zip(values) {
        let (whole, parts) = match piece::decode(number, &value)? {
            Content::Whole(piece) => {
                let bytes = weight(value.len());
                fetched.push(Fetched { number, piece, bytes, parts: None });
                continue;
            }
            Content::Parts(parts) => (join(link, layout, &parts).await?, parts),
        };
        let bytes = weight(value.len()) + whole.len() as u64;
        match piece::decode(number, &whole)? {
            Content::Whole(piece) => {
                fetched.push(Fetched { number, piece, bytes, parts: Some(parts) });
            }
            Content::Parts(_) => {
                return Err(Fault::Corrupt(format!("piece {number} has parts of parts")));
            }
        }
    }
    Ok(fetched)
}

async fn join(link: &Link, layout: &Layout, parts: &Parts) -> Result<Bytes, Fault> {
    let keys = (0..parts.parts).map(|number| layout.part(&parts.id, number));
    let mut fetched = stream::iter(keys).map(async |key| raw(link, &key).await).buffered(TOGETHER);
    let mut whole = BytesMut::new();
    while let Some(part) = fetched.try_next().await? {
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

/// The value of a key that never changes.
async fn raw(link: &Link, key: &str) -> Result<Bytes, Fault> {
    let request = Request::get(format!("kv/{key}"), "raw").with_answer_of(512 * 1024);
    let answer = link.call(request).await?.with(&[200, 404])?;
    if answer.status == 404 { Err(Fault::Moved) } else { Ok(answer.body) }
}

/// The head as it is.
pub(super) async fn read_tip(link: &Link, layout: &Layout) -> Result<Tip, Fault> {
    let found = txn::read(link, &[Operation::get_tree(&layout.head)]).await?;
    decode_tip(found.key(&layout.head))
}

/// What the head says, if it is there.
pub(super) fn decode_tip(head: Option<&txn::Entry>) -> Result<Tip, Fault> {
    head.map_or(Ok(Tip::default()), |head| Tip::decode(&head.value()?))
}

/// Follows the log until the store closes, except while this store leads: then its writer knows first.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut index = 0;
    loop {
        let followed = tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => return,
            followed = follow(&shared, index) => followed,
        };
        match followed {
            Ok(next) => {
                index = next;
                backoff.reset();
            }
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), "reads the head anew");
                shared.explain(fault);
                index = 0;
                tokio::select! {
                    biased;
                    () = shared.background.stop.cancelled() => return,
                    () = backoff.wait() => {}
                }
            }
        }
    }
}

async fn follow(shared: &Shared, index: u64) -> Result<u64, Fault> {
    if shared.replica.with(|_| ()).is_some() {
        shared.not_leading().await;
    }
    let (head, next) = txn::follow(&shared.reads, &shared.layout.head, index).await?;
    let tip = decode_tip(head.as_ref())?;
    shared.replica.catch_up(&shared.reads, &shared.layout, tip).await?;
    shared.saw_revision(Revision(tip.revision));
    Ok(next)
}

/// The state as it is now, or was at any time after this was asked.
pub(super) async fn newest(shared: &Shared) -> Result<View, StoreError> {
    shared.check_open()?;
    // The answer may be at hand each time; who asks in a loop must not hold up others.
    tokio::task::consume_budget().await;
    if let Some(view) = shared.certain_view() {
        return Ok(view);
    }
    let tip = read_tip(&shared.reads, &shared.layout).await;
    let tip = tip.map_err(|fault| shared.explain(fault))?;
    let caught_up = shared.replica.catch_up(&shared.reads, &shared.layout, tip).await;
    caught_up.map_err(|fault| shared.explain(fault))?;
    shared.saw_revision(Revision(tip.revision));
    shared.replica.view().ok_or_else(background::closed)
}
