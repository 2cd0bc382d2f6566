//! The open storage engine: maps spaces to trees, and writes a batch as one durable write. It does not decide
//! who can write.
//!
//! All small records share one tree, and all large ones another. Each space has a prefix of one byte. There
//! are two trees instead of one for each space, because the journal can only be truncated up to the point
//! that *every* tree has flushed. A rarely written tree would keep the journal long, and a long journal makes
//! the next start slow. The head is in the tree of small records for the same reason.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch,
    PersistMode, Readable, Snapshot, UserKey,
};
use rustc_hash::FxHashMap;

use super::{fault::Fault, options::EmbeddedOptions};
use crate::model::{Batch, BatchSeq, Epoch, Head, KEY_BYTES_MAX, Mutation, Space, SpaceShape};

/// The prefix of records about the store itself. The prefixes of spaces follow.
const META: u8 = 0;
/// The key of the head: its epoch and number.
pub(super) const HEAD_KEY: &[u8] = b"\0head";
const EPOCH_KEY: &[u8] = b"\0epoch";
/// The prefix of keys for spaces, followed by the name. The value has the tree and the prefix.
const SPACE_KEY: &[u8] = b"\0space/";

const MIB: u64 = 1024 * 1024;
/// Bytes that a tree collects in memory before it flushes. More costs memory and a longer start, less costs
/// more merging.
const MEMORY_TABLE_BYTES: u64 = 16 * MIB;
/// Length of the journal at which trees must flush so that it can be truncated.
const JOURNAL_BYTES: u64 = 128 * MIB;
/// Minimum size of values of the large tree that are stored separately from their keys, so that merging does
/// not move them.
const SEPARATE_BYTES: u32 = 4096;
/// Maximum number of open files of the engine. The usual limit of a process is 1,024.
const CACHED_FILES_MAX: usize = 400;

/// Number of unflushed memory tables of a tree at which writes wait. The limit of the engine is 4, where it
/// would wait forever if its flush thread has failed.
const SEALED_TABLES_MAX: usize = 3;
/// The same for unmerged tables on disk. The limit of the engine is 30.
const UNMERGED_TABLES_MAX: usize = 26;

/// The engine on one directory.
pub(super) struct Engine {
    database: Database,
    hot: Keyspace,
    large: Keyspace,
    placements: FxHashMap<&'static str, SpacePlacement>,
    /// Number of earlier openings in this process. Views of an earlier one are invalid.
    generation: u64,
}

/// The place of a space, which never changes after its first declaration.
#[derive(Clone, Copy)]
struct SpacePlacement {
    shape: SpaceShape,
    prefix: u8,
}

/// A change, and where it belongs.
struct Place<'a> {
    tree: &'a Keyspace,
    prefix: u8,
    mutation: &'a Mutation,
}

impl Place<'_> {
    fn key(&self) -> (u8, &[u8]) {
        (self.prefix, &self.mutation.key()[..])
    }
}

/// The state of an engine when it opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) head: Head,
    /// The newest epoch.
    pub(super) epoch: Epoch,
}

impl Engine {
    /// Opens the directory of the engine, or creates it atomically with all spaces.
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
                // The engine would treat it as a new one.
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
                return Err(Fault::Damaged("the record of a space has a wrong length".to_owned()));
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
                        .ok_or_else(|| Fault::Io("more than 254 spaces".to_owned()))?;
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

    /// The tree of a space and the prefix of its keys, if the space was declared.
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

    /// A view of all trees.
    pub(super) fn view(&self) -> Snapshot {
        self.database.snapshot()
    }

    /// The head in a view.
    pub(super) fn head(&self, view: &Snapshot) -> Result<Head, Fault> {
        Ok(view.get(&self.hot, HEAD_KEY)?.map_or_else(Head::default, |value| read_head(&value)))
    }

    /// Writes a batch and its head. Durable when it returns `Ok`. After a failure, only opening the engine
    /// again tells whether the batch was written.
    pub(super) fn write(&self, batch: &Batch, head: Head) -> Result<(), Fault> {
        let mut write = self.new_write(batch.mutations.len() + 1);
        write.insert(&self.hot, HEAD_KEY, head_record(head));
        let mut key = Vec::with_capacity(KEY_BYTES_MAX + 1);
        for Place { tree, prefix, mutation } in self.in_order(batch)? {
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

    /// The changes of a batch in the order of their keys. The table in memory takes them in half the time: each search
    /// for a place goes the same way as the one before, through memory that is in the cache of the processor. Of
    /// several changes of a key only the last one is left: the engine gives all changes of a batch the same sequence
    /// number, so it cannot order two of the same key.
    fn in_order<'a>(&'a self, batch: &'a Batch) -> Result<Vec<Place<'a>>, Fault> {
        let place = |mutation: &'a Mutation| {
            let (tree, prefix) = self.find(mutation.space())?;
            Some(Place { tree, prefix, mutation })
        };
        let places: Option<Vec<_>> = batch.mutations.iter().map(place).collect();
        let mut places = places.ok_or_else(|| Fault::Io("undeclared space".to_owned()))?;
        places.sort_by(|one, other| one.key().cmp(&other.key()));
        places.dedup_by(|later, earlier| {
            let same = later.key() == earlier.key();
            if same {
                earlier.mutation = later.mutation;
            }
            same
        });
        Ok(places)
    }

    /// Sets the newest epoch. Durable when it returns.
    pub(super) fn write_epoch(&self, epoch: Epoch) -> Result<(), Fault> {
        let mut write = self.new_write(1);
        write.insert(&self.hot, EPOCH_KEY, epoch.0.to_be_bytes());
        Ok(write.commit()?)
    }

    /// `SyncData` is enough to survive a loss of power, because it also writes the metadata to find the data
    /// again, such as the new length of the file.
    fn new_write(&self, capacity: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.database.clone(), capacity)
            .durability(Some(PersistMode::SyncData))
    }

    /// Whether background work is so far behind that a write must wait.
    pub(super) fn is_behind(&self) -> bool {
        [&self.hot, &self.large].into_iter().any(|tree| {
            tree.sealed_memtable_count() >= SEALED_TABLES_MAX
                || tree.l0_table_count() >= UNMERGED_TABLES_MAX
        })
    }

    /// Fails once a write or a background thread has failed. Then nothing can be written any more.
    pub(super) fn check(&self) -> Result<(), Fault> {
        Ok(self.database.persist(PersistMode::Buffer)?)
    }

    /// Reads all data, to find damage.
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

    /// The directory of a space, for messages.
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

/// Creates the directory under another name first, so that it never appears half created.
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

/// Eight bytes of a record of this module. It cannot be shorter, because its checksum was verified.
fn read_u64(record: &[u8], at: usize) -> u64 {
    record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// A key as text, for messages.
fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(key).escape_debug().to_string()
}
