//! Checks the engine's journal before the engine opens it.
//!
//! If the engine finds something in its journal that is not a batch, it either truncates the file there or
//! refuses to open, depending on the bytes. Both can be wrong: damage in the middle must not silently drop
//! acknowledged batches after it, and an unfinished batch after a power failure must not prevent opening. The
//! two cases can be distinguished, because a batch is synced before the next one begins. An unfinished batch
//! is at the end of the last file. So damage before a complete batch, or in an earlier file, is damage to
//! acknowledged data. Damage to the very last batch cannot be distinguished in this way; see
//! [`super::acknowledged`].
//!
//! The format (of fjall 3), all numbers little-endian:
//!
//! ```text
//! start  1, items u32, sequence u64
//! item   2, kind u8, compression u8, tree u64, key length u16, value length u32,
//!        stored length u32, key, value
//! clear  4, tree u64
//! end    3, XXH3 of all items u64, "FJL" 3
//! ```

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    engine::{HEAD_KEY, read_head},
    fault::Fault,
};
use crate::model::Head;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";

/// A number that no store reaches. Larger ones were never written.
const SEQUENCE_MAX: u64 = 1 << 56;

/// The content of the journal.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The last complete batch with a head.
    last: Option<Last>,
    /// The sequence of the last complete batch in any file.
    sequence: Option<u64>,
    /// The position from which the last file has no more batches.
    unfinished: Option<(PathBuf, u64)>,
}

#[derive(Debug)]
struct Last {
    file: PathBuf,
    start: u64,
    head: Head,
}

impl Journal {
    /// Reads all files of the journal in `dir`.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`], with file and position, if acknowledged data is damaged.
    pub(super) fn inspect(dir: &Path) -> Result<Self, Fault> {
        let files = files(dir).map_err(|error| Fault::from_io(&error))?;
        let mut journal = Self::default();
        for (index, (_, file)) in files.iter().enumerate() {
            journal.inspect_file(file, index + 1 == files.len())?;
        }
        Ok(journal)
    }

    fn inspect_file(&mut self, file: &Path, is_last: bool) -> Result<(), Fault> {
        let content = fs::read(file)
            .map_err(|error| Fault::from_io(&error).at(&file.display().to_string()))?;
        // The engine sets the length of a file before it fills it.
        let filled = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let damaged =
            |at: usize, why: &str| Fault::Damaged(format!("{}, byte {at}: {why}", file.display()));
        let mut at = 0;
        while at < filled {
            let Some(batch) = parse(&content[at..]) else {
                let later = (at + 1..filled).find(|later| self.follows(&content[*later..]));
                return match later {
                    Some(later) => Err(damaged(
                        at,
                        &format!("not a batch, although a complete one follows at byte {later}"),
                    )),
                    None if is_last => {
                        self.unfinished = Some((file.to_owned(), at as u64));
                        Ok(())
                    }
                    None => Err(damaged(at, "not a batch, although a later file follows")),
                };
            };
            if self.sequence.is_some_and(|before| batch.sequence <= before) {
                return Err(damaged(at, "a batch that is older than the one before it"));
            }
            self.sequence = Some(batch.sequence);
            if let Some(head) = batch.head {
                self.last = Some(Last { file: file.to_owned(), start: at as u64, head });
            }
            at += batch.length;
        }
        Ok(())
    }

    /// Whether a complete batch begins here that can follow the ones before.
    fn follows(&self, content: &[u8]) -> bool {
        content.first() == Some(&START)
            && parse(content)
                .is_some_and(|batch| self.sequence.is_none_or(|before| batch.sequence > before))
    }

    /// Truncates unacknowledged data: an unfinished batch at the end, and a complete last batch with the head
    /// of `failed`.
    ///
    /// # Errors
    ///
    /// [`Fault::Damaged`] if the number of the unfinished batch shows that it was acknowledged. Then nothing
    /// is truncated.
    pub(super) fn cut(&self, failed: Option<Head>, acknowledged: Head) -> Result<(), Fault> {
        if let Some((file, at)) = &self.unfinished {
            let last = self.last.as_ref().map(|last| last.head.seq);
            if last.is_some_and(|last| last < acknowledged.seq) {
                return Err(Fault::Damaged(format!(
                    "{}, byte {at}: not a batch, although batch {} was acknowledged",
                    file.display(),
                    acknowledged.seq
                )));
            }
            cut(file, *at)?;
        }
        match &self.last {
            Some(last) if Some(last.head) == failed => cut(&last.file, last.start),
            _ => Ok(()),
        }
    }
}

fn cut(file: &Path, at: u64) -> Result<(), Fault> {
    let bytes = file.metadata().map_or(0, |metadata| metadata.len().saturating_sub(at));
    tracing::warn!(file = %file.display(), at, bytes, "truncating an incomplete batch");
    OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|opened| {
            opened.set_len(at)?;
            opened.sync_all()
        })
        .map_err(|error| Fault::from_io(&error).at(&file.display().to_string()))
}

/// A complete batch.
struct Parsed {
    sequence: u64,
    length: usize,
    head: Option<Head>,
}

/// The batch at the start of `content`, if it is complete.
fn parse(content: &[u8]) -> Option<Parsed> {
    let mut rest = content;
    if byte(&mut rest)? != START {
        return None;
    }
    let count = u32::from_le_bytes(array(&mut rest)?);
    let sequence = u64::from_le_bytes(array(&mut rest)?);
    if sequence > SEQUENCE_MAX {
        return None;
    }
    let items = rest;
    let mut head = None;
    for _ in 0..count {
        match byte(&mut rest)? {
            ITEM => {
                // Kind, compression, tree.
                take(&mut rest, 10)?;
                let key = usize::from(u16::from_le_bytes(array(&mut rest)?));
                take(&mut rest, 4)?;
                let value = u32::from_le_bytes(array(&mut rest)?) as usize;
                let key = take(&mut rest, key)?;
                let value = take(&mut rest, value)?;
                if key == HEAD_KEY {
                    head = Some(read_head(value));
                }
            }
            CLEAR => {
                take(&mut rest, 8)?;
            }
            _ => return None,
        }
    }
    let items = &items[..items.len() - rest.len()];
    if byte(&mut rest)? != END || u64::from_le_bytes(array(&mut rest)?) != xxh3_64(items) {
        return None;
    }
    (take(&mut rest, TRAILER.len())? == TRAILER).then_some(())?;
    Some(Parsed { sequence, length: content.len() - rest.len(), head })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take(rest, 1).map(|taken| taken[0])
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

/// The files of a journal, oldest first.
fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            // The engine refuses a name that is not a number, with a better error.
            files.push((number.unwrap_or(u64::MAX), path));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether this process still has a file of the journal in `dir` open. The threads of the engine close it
/// shortly after the engine is dropped, and can write to it until then.
pub(super) fn is_open(dir: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return false };
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|path| path.parent() == Some(&dir) && path.extension().is_some_and(|e| e == "jnl"))
}
