//! The storage engine, opened: the only module that names its types for writing. It lays spaces
//! out on the engine's trees and turns a batch into one durable write; it decides nothing about
//! who may write.

use std::{fs, io, path::Path};

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot,
};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::options::EmbeddedOptions;
use crate::model::{Batch, BatchSeq, Epoch, Head, Mutation, Space};

/// Where the head and the newest epoch are kept. No declared space has a name like this.
const META: &str = "_meta";
const HEAD_KEY: &[u8] = b"head";
const EPOCH_KEY: &[u8] = b"epoch";

/// Writes wait while a tree has this many memory tables still to be written to disk. The engine's
/// own limit is 4, and it would wait there forever when the thread that writes them has failed.
const SEALED_TABLES_MAX: usize = 3;
/// The same for tables on disk that are still to be merged; the engine's own limit is 30.
const UNMERGED_TABLES_MAX: usize = 26;

/// Open files of the engine; a process rarely may have more than 1,024.
const CACHED_FILES_MAX: usize = 400;

/// The engine on one directory.
pub(super) struct Engine {
    database: Database,
    meta: Keyspace,
    spaces: FxHashMap<&'static str, Keyspace>,
    /// How often the engine was opened before in this process; views of an earlier one are void.
    generation: u64,
}

/// What an engine found when it opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) head: Head,
    /// The newest epoch ever given out.
    pub(super) epoch: Epoch,
}

impl Engine {
    /// Opens the engine's directory; creates it, with all spaces in it or not at all.
    pub(super) fn open(
        path: &Path,
        spaces: &[Space],
        options: &EmbeddedOptions,
        generation: u64,
    ) -> Result<(Self, Found), fjall::Error> {
        if !path.exists() {
            let new = path.with_extension("new");
            if new.exists() {
                fs::remove_dir_all(&new)?;
            }
            drop(Self::open_at(&new, spaces, options, generation)?);
            fs::rename(&new, path)?;
            sync_parent(path)?;
        }
        let engine = Self::open_at(path, spaces, options, generation)?;
        let found = engine.found()?;
        Ok((engine, found))
    }

    fn open_at(
        path: &Path,
        spaces: &[Space],
        options: &EmbeddedOptions,
        generation: u64,
    ) -> Result<Self, fjall::Error> {
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_cached_files(Some(CACHED_FILES_MAX))
            .worker_threads(options.background_threads.max(1))
            .open()?;
        let meta = database.keyspace(META, KeyspaceCreateOptions::default)?;
        let spaces = spaces
            .iter()
            .map(|space| Ok((space.name, database.keyspace(space.name, || layout(*space))?)))
            .collect::<Result<_, fjall::Error>>()?;
        Ok(Self { database, meta, spaces, generation })
    }

    fn found(&self) -> Result<Found, fjall::Error> {
        let view = self.database.snapshot();
        let epoch = view.get(&self.meta, EPOCH_KEY)?.map_or(0, |value| read_u64(&value, 0));
        Ok(Found { head: self.head(&view)?, epoch: Epoch(epoch) })
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The tree of a space, if it was declared.
    pub(super) fn space(&self, space: Space) -> Option<&Keyspace> {
        self.spaces.get(space.name)
    }

    /// All trees as they are now.
    pub(super) fn view(&self) -> Snapshot {
        self.database.snapshot()
    }

    /// The head that a view shows.
    pub(super) fn head(&self, view: &Snapshot) -> Result<Head, fjall::Error> {
        let head = view.get(&self.meta, HEAD_KEY)?;
        Ok(head.map_or_else(Head::default, |value| Head {
            epoch: Epoch(read_u64(&value, 0)),
            seq: BatchSeq(read_u64(&value, 8)),
        }))
    }

    /// Writes a batch and its head. Durable when it returns `Ok`; where it fails, only opening the
    /// engine anew tells whether it landed.
    pub(super) fn write(&self, batch: &Batch, head: Head) -> Result<(), fjall::Error> {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&head.epoch.0.to_be_bytes());
        value[8..].copy_from_slice(&head.seq.0.to_be_bytes());
        let mut write = self.new_write(batch.mutations.len() + 1);
        write.insert(&self.meta, HEAD_KEY, value);
        // The engine gives all changes of a batch one sequence number, so it cannot tell which of
        // two to the same key came later: only the last one may get there.
        let mut seen = FxHashSet::with_capacity_and_hasher(batch.mutations.len(), FxBuildHasher);
        for mutation in batch.mutations.iter().rev() {
            let space = mutation.space().name;
            if !seen.insert((space, mutation.key())) {
                continue;
            }
            let Some(tree) = self.spaces.get(space) else {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "undeclared space");
                return Err(error.into());
            };
            match mutation {
                Mutation::Put { key, value, .. } => write.insert(tree, &key[..], &value[..]),
                Mutation::Delete { key, .. } => write.remove(tree, &key[..]),
            }
        }
        write.commit()
    }

    /// Makes an epoch the newest. Durable when it returns.
    pub(super) fn write_epoch(&self, epoch: Epoch) -> Result<(), fjall::Error> {
        let mut write = self.new_write(1);
        write.insert(&self.meta, EPOCH_KEY, epoch.0.to_be_bytes());
        write.commit()
    }

    /// `SyncData` is enough to survive the loss of power: it also writes what is needed to find the
    /// data again, the file's new length included.
    fn new_write(&self, capacity: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.database.clone(), capacity)
            .durability(Some(PersistMode::SyncData))
    }

    /// Whether background work has fallen so far behind that a write has to wait.
    pub(super) fn is_behind(&self) -> bool {
        self.spaces.values().chain([&self.meta]).any(|tree| {
            tree.sealed_memtable_count() >= SEALED_TABLES_MAX
                || tree.l0_table_count() >= UNMERGED_TABLES_MAX
        })
    }

    /// Fails once a write or a background thread has failed; nothing can be written from then on.
    pub(super) fn check(&self) -> Result<(), fjall::Error> {
        self.database.persist(PersistMode::Buffer)
    }

    /// Bytes on disk.
    pub(super) fn bytes_used(&self) -> Result<u64, fjall::Error> {
        self.database.disk_space()
    }
}

fn layout(_space: Space) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Eight bytes of a record of this module. A shorter record cannot come from here: its checksum
/// was verified when it was read.
fn read_u64(record: &[u8], at: usize) -> u64 {
    record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}
