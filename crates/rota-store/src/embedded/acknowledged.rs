//! A note, beside the engine's files, of a batch that was acknowledged.
//!
//! The journal alone cannot tell a last batch that was never finished from one that was finished,
//! acknowledged and damaged later, nor notice that its last file is gone. So now and then, and
//! when the store closes, the writer notes how far it has come; data that ends before the note is
//! damaged. The note is written in place: that needs no room on a full disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::model::{BatchSeq, Epoch, Head};

const NAME: &str = "acknowledged";
/// Epoch, number, and the checksum of both.
const LENGTH: usize = 24;

/// The note of one data directory.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
    noted: Head,
}

impl Acknowledged {
    /// Whether there is a note.
    pub(super) fn is_there(dir: &Path) -> bool {
        dir.join(NAME).exists()
    }

    /// Opens the note; creates it where there is none.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        // One that is not whole was being written when the power failed; it says nothing then.
        Ok(Self { file, noted: decode(&content).unwrap_or_default() })
    }

    /// The last batch that the note tells of.
    pub(super) fn noted(&self) -> Head {
        self.noted
    }

    /// Notes that this batch was acknowledged. Durable when it returns.
    pub(super) fn note(&mut self, head: Head) -> io::Result<()> {
        if head == self.noted {
            return Ok(());
        }
        self.file.write_all_at(&encode(head), 0)?;
        self.file.sync_data()?;
        self.noted = head;
        Ok(())
    }
}

fn encode(head: Head) -> [u8; LENGTH] {
    let mut content = [0; LENGTH];
    content[..8].copy_from_slice(&head.epoch.0.to_be_bytes());
    content[8..16].copy_from_slice(&head.seq.0.to_be_bytes());
    let checksum = xxh3_64(&content[..16]);
    content[16..].copy_from_slice(&checksum.to_be_bytes());
    content
}

fn decode(content: &[u8]) -> Option<Head> {
    let content: &[u8; LENGTH] = content.try_into().ok()?;
    let number = |at: usize| content[at..at + 8].try_into().ok().map(u64::from_be_bytes);
    (number(16)? == xxh3_64(&content[..16])).then_some(())?;
    Some(Head { epoch: Epoch(number(0)?), seq: BatchSeq(number(8)?) })
}
