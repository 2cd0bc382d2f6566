//! Copies everything from one store to another.
//!
//! 1. Hold both stores, so that no node uses them.
//! 2. Read the source for its counts and its checksum. A source that cannot be read leaves the destination as it was.
//! 3. Write the mark, then all records, each batch with the place that it reaches.
//! 4. Read the destination and compare checksums.
//! 5. Remove the mark.
//!
//! A copy that ended early is resumed if the source still has the checksum in the mark. Batches carry numbers of at least
//! the source's head, so lease tokens, which are such numbers, go on growing.

use bytes::Bytes;
use rota_store::{BatchSeq, Direction, KeyRange, Mutation, Store, StoreError};

use super::{
    digest::Contents,
    error::TransferError,
    kinds::{KINDS, is_level, record_name},
    seat::{self, Held},
    side::{OnProgress, Progress, Side, Stage},
    unfinished::{Position, Unfinished, What},
    walk::{self, Level, Walk, patiently},
    writer::{self, Writer},
};
use crate::{layout, level::FEATURE_LEVEL};

/// Options of a copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Removes an unfinished transfer of something else from the destination first.
    pub restart: bool,
}

/// A finished copy.
#[derive(Debug, Clone)]
pub struct Copied {
    /// What the source holds, and what was read from the destination.
    pub from: Contents,
    pub to: Contents,
    /// Records that this run wrote. The others were there from an earlier one.
    pub written: u64,
    /// Whether an earlier run had begun this copy.
    pub resumed: bool,
    /// The number of the source's last batch, and of the destination's.
    pub from_head: BatchSeq,
    pub to_head: BatchSeq,
}

/// Copies all records. The source stays as it is.
///
/// Cancel safe: after a dropped call the destination is unusable until the same copy is run again.
///
/// # Errors
/// When a store is in use, the destination has other data, or a store fails. The destination is then as it was, or
/// unusable until the same copy is run again.
pub async fn copy(
    from: &Side,
    to: &Side,
    options: CopyOptions,
    progress: OnProgress<'_>,
) -> Result<Copied, TransferError> {
    let me = seat::member();
    let source = Held::take(from, &me, progress).await?;
    let destination = match Held::take(to, &me, progress).await {
        Ok(destination) => destination,
        Err(error) => {
            source.release().await;
            return Err(error);
        }
    };
    let lost = source.lost();
    let copied = tokio::select! {
        biased;
        () = source.until_lost() => Err(lost),
        copied = copy_held(&source, destination, options, progress) => copied,
    };
    source.release().await;
    copied
}

async fn copy_held(
    source: &Held,
    destination: Held,
    options: CopyOptions,
    progress: OnProgress<'_>,
) -> Result<Copied, TransferError> {
    let planned = plan(source, &destination, options, progress).await;
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => {
            destination.release().await;
            return Err(error);
        }
    };
    if plan.start == Start::Finished {
        let head = destination.store().head().await;
        let to_head = head.map_err(TransferError::read(&destination.side.name))?.seq;
        destination.release().await;
        let (from, to) = (plan.contents.clone(), plan.contents);
        return Ok(Copied { from, to, written: 0, resumed: true, from_head: plan.head, to_head });
    }
    let mark = plan.mark();
    let mut writer = Writer::start(destination, mark, plan.head, progress).await?;
    let written = write(source, &mut writer, &plan, progress).await;
    let to = match written {
        Ok(to) => to,
        Err(error) => {
            if matches!(error, TransferError::Differs { .. }) {
                // So that the next run begins anew. If this fails too, that one finds the same.
                let mark = Unfinished { checksum: None, ..plan.mark() };
                writer.begin(mark, Vec::new()).await.unwrap_or_default();
            }
            writer.abandon().await;
            return Err(error);
        }
    };
    let (written, to_head) = (writer.written(), writer.last().next());
    writer.finish(plan.level).await?.release().await;
    let resumed = matches!(plan.start, Start::Resume(_));
    Ok(Copied { from: plan.contents, to, written, resumed, from_head: plan.head, to_head })
}

/// What is to be done.
struct Plan {
    start: Start,
    /// The source.
    from: String,
    contents: Contents,
    head: BatchSeq,
    /// The record of the source's feature level.
    level: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    Fresh,
    /// The same copy got as far as this mark says.
    Resume(Unfinished),
    /// An unfinished transfer of something else must go first.
    Clear,
    /// The destination is equal already.
    Finished,
}

impl Plan {
    /// The mark to begin with.
    fn mark(&self) -> Unfinished {
        match &self.start {
            Start::Resume(found) => found.clone(),
            Start::Fresh | Start::Clear | Start::Finished => Unfinished {
                what: What::Copy,
                from: self.from.clone(),
                checksum: Some(self.contents.checksum.clone()),
                after: None,
                records: 0,
            },
        }
    }
}

/// Looks at both stores, and changes nothing.
async fn plan(
    source: &Held,
    destination: &Held,
    options: CopyOptions,
    progress: OnProgress<'_>,
) -> Result<Plan, TransferError> {
    let from = source.side.name.clone();
    let read = || TransferError::read(&from);
    let SourceState { head, level } = look_at_source(&source.side).await?;
    let found = look(destination).await?;
    if let Found::Data(kind, key) = &found
        && !has_same(source, destination, *kind, key).await?
    {
        return Err(not_empty(destination, *kind, key));
    }
    let told = |done| progress(Progress { stage: Stage::Reading, done, total: None });
    let digest = walk::digest(source.store(), Level::Stored, told).await.map_err(read())?;
    let (bytes, kind, key) = digest.largest();
    if !writer::fits(destination, *bytes) {
        return Err(writer::too_large(destination, *kind, key, *bytes));
    }
    let contents = digest.finish();
    let start = match found {
        Found::Nothing => Start::Fresh,
        Found::Mark(mark) => start(source, destination, options, mark, &contents)?,
        // An earlier run may have finished this copy before it could say so.
        Found::Data(kind, key) => {
            let told = |done| {
                let total = Some(contents.records);
                progress(Progress { stage: Stage::Verifying, done, total });
            };
            let there = walk::digest(destination.store(), Level::Stored, told).await;
            let there = there.map_err(TransferError::read(&destination.side.name))?.finish();
            if there != contents {
                return Err(not_empty(destination, kind, &key));
            }
            Start::Finished
        }
    };
    Ok(Plan { start, from, contents, head, level })
}

/// Whether the source has the same value for that key of the destination.
async fn has_same(
    source: &Held,
    destination: &Held,
    kind: usize,
    key: &Bytes,
) -> Result<bool, TransferError> {
    let mut values = Vec::new();
    for held in [source, destination] {
        let keys = [(KINDS[kind].space, key.clone())];
        let found = patiently(|| held.store().get(&keys)).await;
        values.push(found.map_err(TransferError::read(&held.side.name))?);
    }
    Ok(values[0] == values[1])
}

fn start(
    source: &Held,
    destination: &Held,
    options: CopyOptions,
    found: Unfinished,
    contents: &Contents,
) -> Result<Start, TransferError> {
    let is_copy = found.what == What::Copy;
    // A newer version may have stopped at a record of a space that this one does not know.
    let knows_place = found.after.clone().is_none_or(|after| after.parts().is_some());
    if is_copy && found.checksum.as_ref() == Some(&contents.checksum) && knows_place {
        return Ok(Start::Resume(found));
    }
    // The same source has changed since, or a former copy was being removed.
    if (is_copy && found.from == source.side.name) || options.restart {
        return Ok(Start::Clear);
    }
    let (store, what) = (destination.side.name.clone(), found.in_words());
    Err(TransferError::OtherTransfer { store, what })
}

/// What must be known of a store before it is read.
pub(super) struct SourceState {
    /// The last batch.
    pub(super) head: BatchSeq,
    /// The record of the feature level.
    pub(super) level: Option<Bytes>,
}

/// Looks whether a store can be read as a whole.
///
/// # Errors
/// When nothing was ever written to it, it holds half of a transfer, or a newer version wrote it.
pub(super) async fn look_at_source(side: &Side) -> Result<SourceState, TransferError> {
    let (store, name) = (side.store.as_ref(), side.name.clone());
    let read = || TransferError::read(&side.name);
    let head = patiently(|| store.head()).await.map_err(read())?;
    if head.seq == BatchSeq(0) {
        return Err(TransferError::Empty { store: name });
    }
    if let Some(mark) = patiently(|| Unfinished::read(store)).await.map_err(read())? {
        return Err(TransferError::Unfinished { store: name, what: mark.in_words() });
    }
    let key = [(layout::CLUSTER, layout::FEATURE_LEVEL)];
    let level = patiently(|| store.get(&key)).await.map_err(read())?;
    let level = level.into_iter().next().flatten();
    check_level(&name, level.as_ref())?;
    Ok(SourceState { head: head.seq, level })
}

/// Refuses a feature level that this version does not support.
pub(super) fn check_level(store: &str, level: Option<&Bytes>) -> Result<(), TransferError> {
    let Some(level) = level else { return Ok(()) };
    let text = String::from_utf8_lossy(level);
    if text.parse::<u32>().is_ok_and(|level| level <= FEATURE_LEVEL) {
        return Ok(());
    }
    let (store, level) = (store.to_owned(), text.chars().take(20).collect());
    Err(TransferError::Newer { store, level, known: FEATURE_LEVEL })
}

/// What a destination holds.
pub(super) enum Found {
    /// Nothing but what nodes write by themselves.
    Nothing,
    /// Half of a transfer.
    Mark(Unfinished),
    /// Records, of which this is one.
    Data(usize, Bytes),
}

/// Looks what a destination holds.
pub(super) async fn look(destination: &Held) -> Result<Found, TransferError> {
    let store = destination.store().as_ref();
    let read = || TransferError::read(&destination.side.name);
    if let Some(mark) = patiently(|| Unfinished::read(store)).await.map_err(read())? {
        return Ok(Found::Mark(mark));
    }
    let other = other_record(store).await.map_err(read())?;
    Ok(other.map_or(Found::Nothing, |(kind, key)| Found::Data(kind, key)))
}

pub(super) fn not_empty(destination: &Held, kind: usize, key: &Bytes) -> TransferError {
    let (store, found) = (destination.side.name.clone(), record_name(kind, key));
    TransferError::NotEmpty { store, found }
}

/// A record that no node writes by itself.
async fn other_record(store: &dyn Store) -> Result<Option<(usize, Bytes)>, StoreError> {
    /// More than a node writes by itself into one space.
    const SOME: usize = 8;
    let snapshot = patiently(|| store.snapshot()).await?;
    for (row, kind) in KINDS.iter().enumerate() {
        let all = KeyRange::all(kind.space);
        let page = snapshot.scan(all, Direction::Ascending, SOME).await?;
        let other = page.entries.into_iter().find(|(key, _)| !(kind.by_itself)(key));
        if let Some((key, _)) = other {
            return Ok(Some((row, key)));
        }
    }
    Ok(None)
}

/// Removes what nodes write by themselves, so that nothing of the destination's own stays.
pub(super) fn without_own_records() -> Vec<Mutation> {
    let delete = |key| Mutation::Delete { space: layout::MARK, key };
    vec![delete(layout::marks()), delete(layout::SUCCESSOR)]
}

async fn write(
    source: &Held,
    writer: &mut Writer<'_>,
    plan: &Plan,
    progress: OnProgress<'_>,
) -> Result<Contents, TransferError> {
    match &plan.start {
        Start::Resume(_) | Start::Finished => {}
        Start::Fresh => writer.begin(plan.mark(), without_own_records()).await?,
        Start::Clear => {
            // Without a checksum: until all is gone, nothing can be resumed.
            let clearing = Unfinished { checksum: None, ..plan.mark() };
            clear(writer, clearing, progress).await?;
            writer.begin(plan.mark(), without_own_records()).await?;
        }
    }
    let read = || TransferError::read(&source.side.name);
    let mut walk = Walk::fenced(source.store()).await.map_err(read())?;
    if let Some((kind, key)) = writer.mark().after.clone().and_then(Position::parts) {
        walk = walk.after(kind, &key);
    }
    let mut records = walk.ahead();
    let total = Some(plan.contents.records);
    while let Some(portion) = records.next().await.map_err(read())? {
        for (key, value) in portion.entries {
            // The feature level comes with the last batch.
            if !is_level(portion.kind, &key) {
                writer.write(portion.kind, key, Some(value)).await?;
            }
        }
        progress(Progress { stage: Stage::Writing, done: writer.mark().records, total });
    }
    writer.flush().await?;
    verify(writer.held(), &plan.contents, plan.level.as_ref(), progress).await
}

/// Reads the destination, which has the mark, and compares it with what it should hold.
pub(super) async fn verify(
    destination: &Held,
    wanted: &Contents,
    level: Option<&Bytes>,
    progress: OnProgress<'_>,
) -> Result<Contents, TransferError> {
    let read = || TransferError::read(&destination.side.name);
    let total = Some(wanted.records);
    let told = |done| progress(Progress { stage: Stage::Verifying, done, total });
    let digest = walk::digest(destination.store(), Level::Instead(level), told).await;
    let digest = digest.map_err(read())?;
    let found = digest.finish();
    if found == *wanted {
        return Ok(found);
    }
    Err(TransferError::Differs { spaces: wanted.differences(&found) })
}

/// Whether the record is the mark, or the level that goes with it.
fn is_of_the_mark(kind: usize, key: &Bytes) -> bool {
    is_level(kind, key) || (KINDS[kind].space == layout::CLUSTER && *key == layout::UNFINISHED)
}

/// Removes everything but the mark.
pub(super) async fn clear(
    writer: &mut Writer<'_>,
    mark: Unfinished,
    progress: OnProgress<'_>,
) -> Result<(), TransferError> {
    writer.begin(mark, Vec::new()).await?;
    let name = writer.held().side.name.clone();
    let read = || TransferError::read(&name);
    let walk = Walk::fenced(writer.held().store()).await.map_err(read())?.with_all();
    let mut records = walk.ahead();
    let mut done = 0;
    while let Some(portion) = records.next().await.map_err(read())? {
        done += portion.entries.len() as u64;
        for (key, _) in portion.entries {
            if !is_of_the_mark(portion.kind, &key) {
                writer.write(portion.kind, key, None).await?;
            }
        }
        progress(Progress { stage: Stage::Clearing, done, total: None });
    }
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::kinds::position_of;

    #[test]
    fn a_removal_spares_the_mark_and_the_level_alone() {
        let is_spared = |space: &str, key: Bytes| {
            is_of_the_mark(position_of(space).expect("a space of the engine's"), &key)
        };
        assert!(is_spared("cluster", layout::UNFINISHED));
        assert!(is_spared("cluster", layout::FEATURE_LEVEL));
        assert!(!is_spared("cluster", Bytes::from_static(b"other")));
        assert!(!is_spared("queue", layout::UNFINISHED));
        assert!(!is_spared("queue", Bytes::from_static(b"q")));
    }
}
