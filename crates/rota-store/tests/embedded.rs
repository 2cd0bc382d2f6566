//! What the embedded backend promises beyond the trait: its directory.

use rota_store::{Batch, EmbeddedOptions, EmbeddedStore, Space, SpaceShape, Store, StoreError};

const SPACE: Space = Space { name: "things", shape: SpaceShape::Hot };

fn open(dir: &std::path::Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(dir, &[SPACE], EmbeddedOptions::default())
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let refused = open(dir.path()).err();
    let own = std::process::id();
    assert!(
        matches!(refused, Some(StoreError::Locked { pid: Some(pid), .. }) if pid == own),
        "{refused:?}"
    );
    store.close().await;
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_batch_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let leadership = store.campaign("test").await.unwrap();
    let mut batch = Batch::new(store.head().await.unwrap().seq.next());
    batch.put(SPACE, "a", "1");
    batch.put(SPACE, "a", "2");
    batch.put(SPACE, "b", "3");
    batch.delete(SPACE, "b");
    store.commit(leadership.fence(), batch).await.unwrap();
    store.close().await;
    let store = open(dir.path()).unwrap();
    let values = store.get(&[(SPACE, "a".into()), (SPACE, "b".into())]).await.unwrap();
    assert_eq!(values, [Some("2".into()), None]);
    assert_eq!(store.head().await.unwrap().seq.0, 1);
    assert_eq!(store.head().await.unwrap().epoch, leadership.fence().epoch);
}
