//! Writes the records of an export into an empty store.
//!
//! The store has a mark until the end of the file is reached and everything was read back. If the file turns out to be
//! damaged, everything that was written is removed again.

use bytes::Bytes;
use rota_store::BatchSeq;
use tokio::sync::mpsc;

use super::{
    copy::{Found, check_level, clear, look, not_empty, verify, without_own_records},
    digest::Contents,
    error::TransferError,
    file::{FileHeader, Portion as FilePortion, Records},
    kinds::is_level,
    seat::{self, Held},
    side::{OnProgress, Progress, Side, Stage},
    unfinished::{Unfinished, What},
    writer::Writer,
};

/// A finished import.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What was read from the store.
    pub contents: Contents,
    /// The number of the store's last batch.
    pub head: BatchSeq,
}

/// Imports what a [`FileReader`](super::FileReader) reads from the file called `from`.
///
/// Cancel safe: after a dropped call the store is unusable until another import.
///
/// # Errors
/// When the store is in use or has other data, a store fails, or the file is damaged. Nothing usable is left in the store.
pub async fn import(
    to: &Side,
    from: &str,
    header: &FileHeader,
    portions: mpsc::Receiver<Result<FilePortion, TransferError>>,
    restart: bool,
    progress: OnProgress<'_>,
) -> Result<Imported, TransferError> {
    check_level(from, Some(&header.feature_level.to_string().into()))?;
    let held = Held::take(to, &seat::member(), progress).await?;
    let found = match look(&held).await {
        Ok(Found::Nothing) => Ok(false),
        Ok(Found::Mark(found)) if found.what == What::Import || restart => Ok(true),
        Ok(Found::Mark(found)) => {
            let (store, what) = (to.name.clone(), found.in_words());
            Err(TransferError::OtherTransfer { store, what })
        }
        Ok(Found::Data(kind, key)) => Err(not_empty(&held, kind, &key)),
        Err(error) => Err(error),
    };
    let clears = match found {
        Ok(clears) => clears,
        Err(error) => {
            held.release().await;
            return Err(error);
        }
    };
    let (what, from) = (What::Import, from.to_owned());
    let mark = Unfinished { what, from, checksum: None, after: None, records: 0 };
    let mut writer = Writer::start(held, mark.clone(), BatchSeq(header.head), progress).await?;
    let run = Run { mark: mark.clone(), portions, clears, progress };
    match run.write(&mut writer).await {
        Ok((contents, level)) => {
            let head = writer.last().next();
            writer.finish(level).await?.release().await;
            Ok(Imported { contents, head })
        }
        Err(error) => {
            // If this fails too, the mark stays.
            match clear(&mut writer, mark, progress).await {
                Ok(()) => writer.finish(None).await?.release().await,
                Err(_) => writer.abandon().await,
            }
            Err(error)
        }
    }
}

struct Run<'a> {
    mark: Unfinished,
    portions: mpsc::Receiver<Result<FilePortion, TransferError>>,
    /// Whether an earlier transfer must be removed first.
    clears: bool,
    progress: OnProgress<'a>,
}

impl Run<'_> {
    /// Writes everything and reads it back. Returns what was read, and the record of the feature level.
    async fn write(
        mut self,
        writer: &mut Writer<'_>,
    ) -> Result<(Contents, Option<Bytes>), TransferError> {
        if self.clears {
            clear(writer, self.mark.clone(), self.progress).await?;
        }
        writer.begin(self.mark, without_own_records()).await?;
        let mut level = None;
        while let Some(portion) = self.portions.recv().await {
            match portion? {
                FilePortion::Records(Records(portion)) => {
                    for (key, value) in portion.entries {
                        if is_level(portion.kind, &key) {
                            check_level("the file", Some(&value))?;
                            level = Some(value);
                        } else {
                            writer.write(portion.kind, key, Some(value)).await?;
                        }
                    }
                    let done = writer.mark().records;
                    (self.progress)(Progress { stage: Stage::Writing, done, total: None });
                }
                FilePortion::End(wanted) => {
                    writer.flush().await?;
                    let progress = self.progress;
                    let found = verify(writer.held(), &wanted, level.as_ref(), progress).await?;
                    return Ok((found, level));
                }
            }
        }
        let why = "reading the file ended early".to_owned();
        Err(TransferError::File { line: 0, why })
    }
}
