//! redb, as a backend of Rota would use it: a table for each space, a transaction for each batch,
//! the head in a table of its own.

use std::{fmt::Display, io, ops::Bound, path::Path};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableDefinition};
use rota_store::{Batch, Mutation, Space};

use crate::{contestant::Contestant, workload::SPACES};

/// The same as the embedded store's.
const CACHE_BYTES: usize = 64 << 20;
const HEAD: TableDefinition<'_, (), u64> = TableDefinition::new("head");

/// How a database that was not closed is brought up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// By walking through all of it.
    Full,
    /// By what each commit writes for that.
    Quick,
}

pub(crate) struct Redb {
    database: Database,
    repair: Repair,
}

fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn table(space: Space) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(space.name)
}

impl Redb {
    pub(crate) fn open(dir: &Path, repair: Repair) -> io::Result<Self> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(dir.join("redb"))
            .map_err(failed)?;
        Ok(Self { database, repair })
    }
}

impl Contestant for Redb {
    fn commit(&mut self, batch: Batch) -> io::Result<()> {
        let mut write = self.database.begin_write().map_err(failed)?;
        write.set_quick_repair(self.repair == Repair::Quick);
        {
            let mut tables = Vec::with_capacity(SPACES.len());
            for space in SPACES {
                tables.push((space, write.open_table(table(space)).map_err(failed)?));
            }
            for mutation in batch.mutations.iter() {
                let place = tables.iter_mut().find(|(space, _)| *space == mutation.space());
                let (_, table) = place.ok_or_else(|| failed("no such space"))?;
                match mutation {
                    Mutation::Put { key, value, .. } => {
                        table.insert(&key[..], &value[..]).map_err(failed)?;
                    }
                    Mutation::Delete { key, .. } => {
                        table.remove(&key[..]).map_err(failed)?;
                    }
                }
            }
            let mut head = write.open_table(HEAD).map_err(failed)?;
            head.insert((), batch.seq.0).map_err(failed)?;
        }
        write.commit().map_err(failed)
    }

    fn head(&mut self) -> io::Result<u64> {
        let read = self.database.begin_read().map_err(failed)?;
        let head = match read.open_table(HEAD) {
            Ok(head) => head,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
            Err(error) => return Err(failed(error)),
        };
        let seq = head.get(()).map_err(failed)?;
        Ok(seq.map_or(0, |seq| seq.value()))
    }

    fn scan(&mut self, space: Space, page: usize) -> io::Result<u64> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(table(space)).map_err(failed)?;
        let mut count = 0;
        let mut last: Option<Bytes> = None;
        loop {
            let start = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let found = table.range::<&[u8]>((start, Bound::Unbounded)).map_err(failed)?;
            let mut entries = Vec::with_capacity(page);
            for entry in found.take(page) {
                let (key, value) = entry.map_err(failed)?;
                let key = Bytes::copy_from_slice(key.value());
                entries.push((key, Bytes::copy_from_slice(value.value())));
            }
            count += entries.len() as u64;
            match entries.pop() {
                Some((key, _)) if entries.len() + 1 == page => last = Some(key),
                _ => return Ok(count),
            }
        }
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        // Dropping it closes it.
        Ok(())
    }

    fn compact(&mut self) -> io::Result<bool> {
        self.database.compact().map_err(failed)
    }
}
