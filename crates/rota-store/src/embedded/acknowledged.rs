//! A separate record of the last batch that is known to be acknowledged.
//!
//! The journal alone cannot distinguish an unfinished last batch from one that was acknowledged and damaged
//! later, and cannot show that its last file is missing. So the writer records its progress at intervals and
//! when the store closes. Data that ends before this record is damaged. The record is overwritten in place,
//! which needs no space on a full disk.

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

/// The record of a data directory.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
    noted: Head,
}

impl Acknowledged {
    /// Whether there is a record.
    pub(super) fn is_there(dir: &Path) -> bool {
        dir.join(NAME).exists()
    }

    /// Opens the record, or creates it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        // An incomplete record was being written when the power failed. It is ignored.
        Ok(Self { file, noted: decode(&content).unwrap_or_default() })
    }

    /// The last recorded batch.
    pub(super) fn noted(&self) -> Head {
        self.noted
    }

    /// Records that this batch was acknowledged. Durable when it returns.
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
