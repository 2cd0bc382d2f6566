//! Rota's embedded store, through the trait.

use std::{fmt::Display, io, path::Path};

use rota_store::{
    Batch, Direction, EmbeddedOptions, EmbeddedStore, KeyRange, Leadership, Member, Space, Store,
};
use tokio::runtime::{Builder, Runtime};

use crate::{contestant::Contestant, workload::SPACES};

pub(crate) struct Embedded {
    runtime: Runtime,
    store: EmbeddedStore,
    leadership: Box<dyn Leadership>,
}

fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Embedded {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let store = {
            let _guard = runtime.enter();
            EmbeddedStore::open(dir, &SPACES, EmbeddedOptions::default()).map_err(failed)?
        };
        let leadership =
            runtime.block_on(store.campaign(&Member::alone("bench"))).map_err(failed)?;
        Ok(Self { runtime, store, leadership })
    }
}

impl Contestant for Embedded {
    fn commit(&mut self, batch: Batch) -> io::Result<()> {
        let commit = self.store.commit(self.leadership.fence(), batch);
        self.runtime.block_on(commit).map(|_| ()).map_err(failed)
    }

    fn head(&mut self) -> io::Result<u64> {
        Ok(self.runtime.block_on(self.store.head()).map_err(failed)?.seq.0)
    }

    fn scan(&mut self, space: Space, page: usize) -> io::Result<u64> {
        self.runtime.block_on(async {
            let snapshot = self.store.snapshot().await.map_err(failed)?;
            let mut range = KeyRange::all(space);
            let mut count = 0;
            loop {
                let found = snapshot
                    .scan(range.clone(), Direction::Ascending, page)
                    .await
                    .map_err(failed)?;
                count += found.entries.len() as u64;
                match found.entries.last() {
                    Some((last, _)) if found.more => {
                        range.start = [last, &b"\0"[..]].concat().into();
                    }
                    _ => return Ok(count),
                }
            }
        })
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.runtime.block_on(self.store.close());
        Ok(())
    }

    fn compact(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}
