//! Writes everything of a store to a file, at one revision. Nodes can use the store meanwhile.

use std::io;

use rota_store::BatchSeq;

use super::{
    copy::look_at_source,
    digest::{Contents, Digest},
    error::TransferError,
    file::{self, FileHeader},
    side::{OnProgress, Progress, Side, Stage},
    walk::{Walk, patiently},
};

/// A finished export.
#[derive(Debug, Clone)]
pub struct Exported {
    pub contents: Contents,
    /// The number of the store's last batch.
    pub head: BatchSeq,
}

/// Writes an export. `header` says who writes it and when.
///
/// # Errors
/// When the store cannot be read or holds nothing, or the file cannot be written.
pub async fn export(
    side: &Side,
    header: FileHeader,
    write: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    progress: OnProgress<'_>,
) -> Result<Exported, TransferError> {
    let read = || TransferError::read(&side.name);
    let snapshot = patiently(|| side.store.snapshot()).await.map_err(read())?;
    // Read after the snapshot, so that no lease token in it is above the head.
    let source = look_at_source(side).await?;
    let level = source.level.as_deref().and_then(|level| std::str::from_utf8(level).ok());
    let feature_level = level.and_then(|level| level.parse().ok()).unwrap_or(0);
    let header = FileHeader { head: source.head.0, feature_level, ..header };
    write(&header.line()?)?;
    let mut digest = Digest::new();
    let mut records = Walk::new(snapshot).ahead();
    let mut lines = Vec::new();
    while let Some(portion) = records.next().await.map_err(read())? {
        for (key, value) in &portion.entries {
            digest.add(portion.kind, key, value);
            file::put_record(&mut lines, portion.kind, key, value)?;
        }
        write(&lines)?;
        lines.clear();
        progress(Progress { stage: Stage::Reading, done: digest.records(), total: None });
    }
    let contents = digest.finish();
    write(&file::end_line(source.head.0, &contents)?)?;
    Ok(Exported { contents, head: source.head })
}
