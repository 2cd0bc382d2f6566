//! Whose directory it is, and of which format.

use std::fs;

use rota_store::{Batch, EmbeddedStore, Leadership, Member, Space, SpaceShape, Store, StoreError};

use crate::rig::{HOT, LARGE, Rig, open, options};

async fn refusal(dir: &std::path::Path) -> StoreError {
    open(dir).err().expect("it must not open")
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let refused = refusal(dir.path()).await;
    let own = std::process::id();
    assert!(
        matches!(&refused, StoreError::Locked { pid: Some(pid), .. } if *pid == own),
        "{refused:?}"
    );
    assert!(refused.to_string().contains(&format!("(pid {own})")), "{refused}");
    store.close().await;
    open(dir.path()).unwrap().close().await;
}

#[tokio::test]
async fn dropping_a_store_releases_its_directory_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    // Somebody who still leads must not keep the directory.
    let leadership = store.campaign(&Member::alone("test")).await.unwrap();
    drop(store);
    leadership.lost().await;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
    for _ in 0..1000 {
        if let Ok(store) = open(dir.path()) {
            store.close().await;
            return;
        }
        ticks.tick().await;
    }
    panic!("still locked");
}

#[tokio::test]
async fn another_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().close().await;
    for found in ["rota-embedded 2\n", "something else\n", ""] {
        fs::write(dir.path().join("format"), found).unwrap();
        let refused = refusal(dir.path()).await;
        assert!(matches!(refused, StoreError::Format { supported: 1, .. }), "{refused:?}");
        assert_eq!(fs::read_to_string(dir.path().join("format")).unwrap(), found);
    }
    fs::write(dir.path().join("format"), "rota-embedded 1\n").unwrap();
    open(dir.path()).unwrap().close().await;
}

#[tokio::test]
async fn a_directory_with_other_files_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let refused = refusal(dir.path()).await;
    assert!(matches!(refused, StoreError::Open(_)), "{refused:?}");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let refused = refusal(&path).await;
    assert!(matches!(refused, StoreError::Open(_)), "{refused:?}");
}

#[tokio::test]
async fn a_directory_left_half_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    open(&data).unwrap().close().await;
    // What a crash leaves before the engine's directory got its name.
    fs::rename(data.join("db"), data.join("db.new")).unwrap();
    fs::remove_file(data.join("db.new/version")).unwrap();
    let mut rig = Rig::new(open(&data).unwrap()).await;
    rig.step(100).await.unwrap();
    rig.check().await;
    assert!(!data.join("db.new").exists());
    rig.store.close().await;
}

#[tokio::test]
async fn spaces_may_be_added_and_left_out_later() {
    const LATER: Space = Space { name: "later", shape: SpaceShape::Large };
    // Which tree a space is in was settled when it was first declared.
    const CHANGED: Space = Space { name: "hot", shape: SpaceShape::Large };
    let dir = tempfile::tempdir().unwrap();
    let with = |spaces: &[Space]| EmbeddedStore::open(dir.path(), spaces, options()).unwrap();
    let write = async |store: &EmbeddedStore, space: Space| {
        let leadership: Box<dyn Leadership> = store.campaign(&Member::alone("test")).await.unwrap();
        let mut batch = Batch::new(store.head().await.unwrap().seq.next());
        batch.put(space, "key", space.name);
        store.commit(leadership.fence(), batch).await.unwrap();
    };
    let store = with(&[HOT]);
    write(&store, HOT).await;
    store.close().await;
    let store = with(&[LATER, LARGE]);
    write(&store, LATER).await;
    store.close().await;
    let store = with(&[LARGE, LATER, CHANGED]);
    let keys = [LARGE, LATER, CHANGED].map(|space| (space, "key".into()));
    let values = store.get(&keys).await.unwrap();
    assert_eq!(values, [None, Some("later".into()), Some("hot".into())]);
    store.close().await;
}
