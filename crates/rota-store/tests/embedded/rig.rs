//! What the tests of the embedded backend have in common: a store whose contents are known.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use rota_store::{
    Batch, BatchSeq, CommitError, Direction, EmbeddedOptions, EmbeddedStore, KeyRange, Leadership,
    Member, Space, SpaceShape, Store, StoreError,
};

pub(crate) const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };
pub(crate) const LARGE: Space = Space { name: "large", shape: SpaceShape::Large };
pub(crate) const SPACES: [Space; 2] = [HOT, LARGE];

/// All that a store holds.
pub(crate) type Contents = BTreeMap<(&'static str, Bytes), Bytes>;

pub(crate) fn options() -> EmbeddedOptions {
    EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() }
}

pub(crate) fn open(dir: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(dir, &SPACES, options())
}

/// A store that leads, and what it must hold.
pub(crate) struct Rig {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) leadership: Box<dyn Leadership>,
    pub(crate) last: BatchSeq,
    pub(crate) contents: Contents,
}

impl Rig {
    pub(crate) async fn new(store: EmbeddedStore) -> Self {
        let leadership = store.campaign(&Member::alone("test")).await.expect("nobody else leads");
        let last = store.head().await.expect("it is open").seq;
        let contents = read_all(&store).await.expect("it is whole");
        Self { store: Arc::new(store), leadership, last, contents }
    }

    /// Commits the next batch; what it changes depends on its number alone.
    pub(crate) async fn step(&mut self, value_bytes: usize) -> Result<(), CommitError> {
        let batch = batch(self.last.next(), value_bytes);
        self.store.commit(self.leadership.fence(), batch.clone()).await?;
        self.last = batch.seq;
        apply(&mut self.contents, &batch);
        Ok(())
    }

    /// Checks that the store holds what was acknowledged and nothing else.
    pub(crate) async fn check(&self) {
        assert_eq!(self.store.head().await.expect("it is open").seq, self.last);
        let found = read_all(&*self.store).await.expect("it is whole");
        assert_same(&found, &self.contents);
    }
}

/// The batch of that number: puts, overwrites and deletes in both spaces.
pub(crate) fn batch(seq: BatchSeq, value_bytes: usize) -> Batch {
    let number = seq.0;
    let mut batch = Batch::new(seq);
    let value = |size: usize| -> Bytes {
        let mut value = vec![0; size];
        fastrand::Rng::with_seed(number).fill(&mut value);
        value.into()
    };
    batch.put(LARGE, format!("spec/{:03}", number % 40), value(value_bytes));
    batch.put(HOT, format!("live/{:03}", number % 70), value(60));
    batch.put(HOT, format!("big/{:03}", number % 13), value(value_bytes / 2));
    batch.put(HOT, format!("done/{:05}", number % 300), number.to_string());
    batch.delete(HOT, format!("live/{:03}", (number + 35) % 70));
    batch.delete(LARGE, format!("spec/{:03}", (number + 20) % 40));
    batch
}

pub(crate) fn apply(contents: &mut Contents, batch: &Batch) {
    for mutation in batch.mutations.iter() {
        let key = (mutation.space().name, mutation.key().clone());
        match mutation {
            rota_store::Mutation::Put { value, .. } => {
                contents.insert(key, value.clone());
            }
            rota_store::Mutation::Delete { .. } => {
                contents.remove(&key);
            }
        }
    }
}

/// What a store holds after so many batches.
pub(crate) fn contents_after(count: u64, value_bytes: usize) -> Contents {
    let mut contents = Contents::new();
    for number in 1..=count {
        apply(&mut contents, &batch(BatchSeq(number), value_bytes));
    }
    contents
}

pub(crate) async fn read_all(store: &dyn Store) -> Result<Contents, StoreError> {
    let snapshot = store.snapshot().await?;
    let mut contents = Contents::new();
    for space in SPACES {
        let mut range = KeyRange::all(space);
        loop {
            let page = snapshot.scan(range.clone(), Direction::Ascending, 1000).await?;
            let last = page.entries.last().map(|(key, _)| [&key[..], b"\0"].concat());
            contents.extend(page.entries.into_iter().map(|(k, v)| ((space.name, k), v)));
            match last {
                Some(last) if page.more => range.start = last.into(),
                _ => break,
            }
        }
    }
    Ok(contents)
}

/// Compares without printing megabytes.
pub(crate) fn assert_same(found: &Contents, expected: &Contents) {
    let keys = |contents: &Contents| contents.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(found), keys(expected), "other keys than were acknowledged");
    for (key, value) in found {
        assert!(expected[key] == *value, "{key:?} has another value than was acknowledged");
    }
}

/// Copies a directory as it is now: what a crash at this moment would leave. Large files that are
/// never changed once they are there may be shared with the copy.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("readable").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_dir(&from, &to);
        } else if let Err(error) = copy_file(&from, &to) {
            // Background work may remove a file meanwhile, which a crash could show as well.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", from.display());
        }
    }
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let journal = from.extension().is_some_and(|extension| extension == "jnl");
    if !journal && from.metadata()?.len() > 100_000 {
        return std::fs::hard_link(from, to);
    }
    std::fs::copy(from, to).map(|_| ())
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
