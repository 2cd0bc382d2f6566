//! The storage engine, opened: lays spaces out on the engine's trees and turns a batch into one
//! durable write. It decides nothing about who may write.
//!
//! All small records share one tree, all large ones another, each space under a prefix of one
//! byte. Two trees rather than one for each space: the journal can only be cut off behind what
//! *every* tree has written out, so a tree that is rarely written to keeps it long, and a long
//! journal makes the next start slow. The head is among the small records for the same reason.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch,
    PersistMode, Readable, Snapshot, UserKey,
};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::{fault::Fault, options::EmbeddedOptions};
use crate::model::{Batch, BatchSeq, Epoch, Head, KEY_BYTES_MAX, Mutation, Space, SpaceShape};

/// The prefix of what is kept about the store itself; those of spaces follow.
const META: u8 = 0;
/// Where the head is kept: its epoch and its number.
pub(super) const HEAD_KEY: &[u8] = b"\0head";
const EPOCH_KEY: &[u8] = b"\0epoch";
/// Followed by a space's name: its tree and its prefix.
const SPACE_KEY: &[u8] = b"\0space/";

const MIB: u64 = 1024 * 1024;
/// What a tree collects in memory before it writes it out. Larger costs memory and a longer start,
/// smaller costs more merging.
const MEMORY_TABLE_BYTES: u64 = 16 * MIB;
/// The journal's length at which trees are told to write out what keeps it from being cut off.
const JOURNAL_BYTES: u64 = 128 * MIB;
/// Values of the tree of large ones are kept apart from their keys from this size on, so that
/// merging moves them no more.
const SEPARATE_BYTES: u32 = 4096;
/// Open files of the engine; a process rarely may have more than 1,024.
const CACHED_FILES_MAX: usize = 400;

/// Writes wait while a tree has this many memory tables still to be written to disk. The engine's
/// own limit is 4, and it would wait there forever when the thread that writes them has failed.
const SEALED_TABLES_MAX: usize = 3;
/// The same for tables on disk that are still to be merged; the engine's own limit is 30.
const UNMERGED_TABLES_MAX: usize = 26;

/// The engine on one directory.
pub(super) struct Engine {
    database: Database,
    hot: Keyspace,
    large: Keyspace,
    placements: FxHashMap<&'static str, SpacePlacement>,
    /// How often the engine was opened before in this process; views of an earlier one are void.
    generation: u64,
}

/// Where a space is: fixed when it is first declared, for the life of the data.
#[derive(Clone, Copy)]
struct SpacePlacement {
    shape: SpaceShape,
    prefix: u8,
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
    ) -> Result<(Self, Found), Fault> {
        let open = || {
            if !path.exists() {
                create(path, options)?;
            } else if !path.join("version").exists() {
                // The engine would take it for a new one.
                return Err(Fault::Damaged("the file `version` is missing".to_owned()));
            }
            Self::open_at(path, spaces, options, generation)
        };
        catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|panic| Err(Fault::from_panic(&*panic)))
            .map_err(|fault| fault.at(&path.display().to_string()))
    }

    fn open_at(
        path: &Path,
        spaces: &[Space],
        options: &EmbeddedOptions,
        generation: u64,
    ) -> Result<(Self, Found), Fault> {
        let (database, hot, large) = open_trees(path, options)?;
        let mut engine =
            Self { database, hot, large, placements: FxHashMap::default(), generation };
        engine.load_placements(spaces)?;
        let view = engine.view();
        let epoch = view.get(&engine.hot, EPOCH_KEY)?.map_or(0, |value| read_u64(&value, 0));
        let found = Found { head: engine.head(&view)?, epoch: Epoch(epoch) };
        Ok((engine, found))
    }

    /// Looks up where each space is; gives new ones a placement.
    fn load_placements(&mut self, spaces: &[Space]) -> Result<(), Fault> {
        let mut taken = FxHashMap::default();
        let mut last = META;
        for entry in self.hot.prefix(SPACE_KEY) {
            let (key, value) = Guard::into_inner(entry)?;
            let (&[shape, prefix], name) = (&value[..], &key[SPACE_KEY.len()..]) else {
                return Err(Fault::Damaged("a record of a space has a wrong length".to_owned()));
            };
            let shape = if shape == 0 { SpaceShape::Hot } else { SpaceShape::Large };
            taken.insert(name.to_vec(), SpacePlacement { shape, prefix });
            last = last.max(prefix);
        }
        let mut write = self.new_write(spaces.len());
        for space in spaces {
            let known = taken.get(space.name.as_bytes()).copied();
            let placement = match known {
                Some(placement) => placement,
                None => {
                    last = last
                        .checked_add(1)
                        .filter(|prefix| *prefix < u8::MAX)
                        .ok_or_else(|| Fault::Io("there are more than 254 spaces".to_owned()))?;
                    let shape = u8::from(space.shape == SpaceShape::Large);
                    let key = [SPACE_KEY, space.name.as_bytes()].concat();
                    write.insert(&self.hot, key, [shape, last]);
                    SpacePlacement { shape: space.shape, prefix: last }
                }
            };
            self.placements.insert(space.name, placement);
        }
        Ok(write.commit()?)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The tree that holds a space, and the prefix of its keys there, if the space was declared.
    pub(super) fn find(&self, space: Space) -> Option<(&Keyspace, u8)> {
        let placement = self.placements.get(space.name)?;
        Some((self.tree(placement.shape), placement.prefix))
    }

    fn tree(&self, shape: SpaceShape) -> &Keyspace {
        match shape {
            SpaceShape::Hot => &self.hot,
            SpaceShape::Large => &self.large,
        }
    }

    /// All trees as they are now.
    pub(super) fn view(&self) -> Snapshot {
        self.database.snapshot()
    }

    /// The head that a view shows.
    pub(super) fn head(&self, view: &Snapshot) -> Result<Head, Fault> {
        Ok(view.get(&self.hot, HEAD_KEY)?.map_or_else(Head::default, |value| read_head(&value)))
    }

    /// Writes a batch and its head. Durable when it returns `Ok`; where it fails, only opening the
    /// engine anew tells whether it landed.
    pub(super) fn write(&self, batch: &Batch, head: Head) -> Result<(), Fault> {
        let mut write = self.new_write(batch.mutations.len() + 1);
        write.insert(&self.hot, HEAD_KEY, head_record(head));
        // The engine gives all changes of a batch one sequence number, so it cannot tell which of
        // two to the same key came later: only the last one may get there.
        let mut seen = FxHashSet::with_capacity_and_hasher(batch.mutations.len(), FxBuildHasher);
        let mut key = Vec::with_capacity(KEY_BYTES_MAX + 1);
        for mutation in batch.mutations.iter().rev() {
            let (tree, prefix) = self
                .find(mutation.space())
                .ok_or_else(|| Fault::Io("undeclared space".to_owned()))?;
            if !seen.insert((prefix, &mutation.key()[..])) {
                continue;
            }
            key.clear();
            key.push(prefix);
            key.extend_from_slice(mutation.key());
            let key = UserKey::from(&key[..]);
            match mutation {
                Mutation::Put { value, .. } => write.insert(tree, key, &value[..]),
                Mutation::Delete { .. } => write.remove(tree, key),
            }
        }
        Ok(write.commit()?)
    }

    /// Makes an epoch the newest. Durable when it returns.
    pub(super) fn write_epoch(&self, epoch: Epoch) -> Result<(), Fault> {
        let mut write = self.new_write(1);
        write.insert(&self.hot, EPOCH_KEY, epoch.0.to_be_bytes());
        Ok(write.commit()?)
    }

    /// `SyncData` is enough to survive the loss of power: it also writes what is needed to find the
    /// data again, the file's new length included.
    fn new_write(&self, capacity: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.database.clone(), capacity)
            .durability(Some(PersistMode::SyncData))
    }

    /// Whether background work has fallen so far behind that a write has to wait.
    pub(super) fn is_behind(&self) -> bool {
        [&self.hot, &self.large].into_iter().any(|tree| {
            tree.sealed_memtable_count() >= SEALED_TABLES_MAX
                || tree.l0_table_count() >= UNMERGED_TABLES_MAX
        })
    }

    /// Fails once a write or a background thread has failed; nothing can be written from then on.
    pub(super) fn check(&self) -> Result<(), Fault> {
        Ok(self.database.persist(PersistMode::Buffer)?)
    }

    /// Reads everything, to find out whether and where something is damaged.
    pub(super) fn verify(&self) -> Result<(), Fault> {
        for (name, tree) in [("hot", &self.hot), ("large", &self.large)] {
            let mut last = UserKey::from(&b""[..]);
            for entry in tree.iter() {
                let read = catch_unwind(AssertUnwindSafe(|| Guard::into_inner(entry)));
                let read = match read {
                    Ok(read) => read.map_err(Fault::from),
                    Err(panic) => Err(Fault::from_panic(&*panic)),
                };
                let place = || format!("{}, after key {}", self.tree_path(name), show(&last));
                last = read.map_err(|fault| fault.at(&place()))?.0;
            }
        }
        Ok(())
    }

    /// Where the files of a space are.
    pub(super) fn place_of(&self, space: Space) -> String {
        let tree = match self.placements.get(space.name).map(|placement| placement.shape) {
            Some(SpaceShape::Large) => "large",
            _ => "hot",
        };
        format!("{}, space `{}`", self.tree_path(tree), space.name)
    }

    fn tree_path(&self, name: &str) -> String {
        let tree = if name == "large" { &self.large } else { &self.hot };
        tree.path().display().to_string()
    }

    /// Bytes on disk.
    pub(super) fn bytes_used(&self) -> Result<u64, Fault> {
        Ok(self.database.disk_space()?)
    }
}

/// Creates the directory under another name first, so that it is never found half made.
fn create(path: &Path, options: &EmbeddedOptions) -> Result<(), Fault> {
    let new = path.with_extension("new");
    let io = |error| Fault::from_io(&error);
    if new.exists() {
        fs::remove_dir_all(&new).map_err(io)?;
    }
    drop(open_trees(&new, options)?);
    fs::rename(&new, path).map_err(io)?;
    let parent = path.parent().unwrap_or(path);
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)
}

fn open_trees(
    path: &Path,
    options: &EmbeddedOptions,
) -> Result<(Database, Keyspace, Keyspace), Fault> {
    let database = Database::builder(path)
        .cache_size(options.cache_bytes)
        .max_cached_files(Some(CACHED_FILES_MAX))
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(options.background_threads.max(1))
        .open()?;
    let small = || KeyspaceCreateOptions::default().max_memtable_size(MEMORY_TABLE_BYTES);
    let separate = KvSeparationOptions::default().separation_threshold(SEPARATE_BYTES);
    let hot = database.keyspace("hot", small)?;
    let large = database.keyspace("large", || small().with_kv_separation(Some(separate)))?;
    Ok((database, hot, large))
}

fn head_record(head: Head) -> [u8; 16] {
    let mut record = [0; 16];
    record[..8].copy_from_slice(&head.epoch.0.to_be_bytes());
    record[8..].copy_from_slice(&head.seq.0.to_be_bytes());
    record
}

/// The head in a record that [`Engine::write`] made.
pub(super) fn read_head(record: &[u8]) -> Head {
    Head { epoch: Epoch(read_u64(record, 0)), seq: BatchSeq(read_u64(record, 8)) }
}

/// Eight bytes of a record of this module. A shorter record cannot come from here: its checksum
/// was verified when it was read.
fn read_u64(record: &[u8], at: usize) -> u64 {
    record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// A key of a tree, readable, for a message.
fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(key).escape_debug().to_string()
}
