//! Files that do not hold what was written to them: an unfinished end is cut off, anything else is
//! refused with its place. Never is something acknowledged dropped or changed in silence.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rota_store::{Store, StoreError};
use tempfile::TempDir;

use crate::rig::{Contents, Rig, contents_after, copy_dir, files, open, read_all};

const VALUE_BYTES: usize = 500;

/// The files of a store as a crash after so many batches leaves them. None of them was noted as
/// acknowledged, which is the hardest case.
async fn image(batches: u64) -> TempDir {
    let (dir, image) = (temporary(), temporary());
    let mut rig = Rig::new(open(dir.path()).expect("it opens")).await;
    for _ in 0..batches {
        rig.step(VALUE_BYTES).await.expect("it lands");
    }
    copy_dir(dir.path(), image.path());
    rig.store.close().await;
    image
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn copy_of(image: &TempDir) -> TempDir {
    let copy = temporary();
    copy_dir(image.path(), copy.path());
    copy
}

/// The journal's file, and how much of it is filled.
fn journal(dir: &Path) -> (PathBuf, usize) {
    let mut found = files(dir);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let path = found.pop().expect("a journal");
    let filled = filled(&path);
    (path, filled)
}

/// How much of a file is more than zeros at its end.
fn filled(path: &Path) -> usize {
    let content = fs::read(path).expect("readable");
    content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Replaces a file by another one, so that nobody who shares it is affected.
fn edit(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).expect("readable");
    edit(&mut content);
    fs::remove_file(path).expect("removable");
    fs::write(path, content).expect("writable");
}

/// Opens and reads everything: the head and the contents, or why not.
async fn try_read(dir: &Path) -> Result<(u64, Contents), StoreError> {
    let store = open(dir)?;
    let read = async { Ok((store.head().await?.seq.0, read_all(&store).await?)) }.await;
    store.close().await;
    read
}

/// Where each batch of the journal ends, by the trailer that the engine writes behind it.
fn ends(path: &Path) -> Vec<usize> {
    let content = fs::read(path).expect("readable");
    let trailer = b"FJL\x03";
    let is_end = |at: &usize| content[..*at].ends_with(trailer);
    (trailer.len()..=content.len()).filter(is_end).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_batch_is_cut_off() {
    let image = image(30).await;
    let (path, filled) = journal(image.path());
    let ends = ends(&path);
    let begin = ends[ends.len() - 2];
    assert_eq!(ends[ends.len() - 1], filled);
    let before = contents_after(29, VALUE_BYTES);
    let mut cuts: Vec<usize> = (begin..filled).step_by(83).collect();
    cuts.extend([begin + 1, begin + 5, filled - 9, filled - 1]);
    for cut in cuts {
        let copy = copy_of(&image);
        let (path, _) = journal(copy.path());
        // Once as a file that ends there, once as one whose rest was never filled.
        for truncate in [true, false] {
            edit(&path, |content| {
                if truncate {
                    content.truncate(cut);
                } else {
                    content[cut..].fill(0);
                }
            });
            let (head, contents) = try_read(copy.path()).await.unwrap();
            assert_eq!(head, 29, "cut at {cut}");
            assert!(contents == before, "cut at {cut}");
            fs::remove_dir_all(copy.path()).unwrap();
            copy_dir(image.path(), copy.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_behind_the_last_batch_is_cut_off() {
    let image = image(10).await;
    for rubbish in [&[1_u8][..], &[1, 255, 255, 255, 255], &[2; 50], &[0xff; 1000]] {
        let copy = copy_of(&image);
        let (path, filled) = journal(copy.path());
        edit(&path, |content| {
            content.truncate(filled);
            content.extend_from_slice(rubbish);
        });
        let (head, contents) = try_read(copy.path()).await.unwrap();
        assert_eq!(head, 10);
        assert!(contents == contents_after(10, VALUE_BYTES));
        // What is written then must not end up behind the rubbish.
        let mut rig = Rig::new(open(copy.path()).unwrap()).await;
        rig.step(VALUE_BYTES).await.unwrap();
        rig.store.close().await;
        assert_eq!(try_read(copy.path()).await.unwrap().0, 11);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_within_the_journal_is_refused_with_its_place() {
    let image = image(20).await;
    let (path, _) = journal(image.path());
    let ends = ends(&path);
    let last = ends[ends.len() - 2];
    // Every byte of the first records, some of the others, every byte around the end of a batch;
    // the last batch is another matter.
    let around = ends[2] - 20..ends[2] + 20;
    for at in (0..60).chain((60..last).step_by(89)).chain(around) {
        let copy = copy_of(&image);
        let (path, _) = journal(copy.path());
        edit(&path, |content| content[at] ^= 0x41);
        let refused = try_read(copy.path()).await;
        match refused {
            Err(StoreError::Corrupt(place)) => {
                assert!(place.contains(".jnl, byte "), "byte {at}: {place}");
            }
            // A sequence number may change without meaning anything else.
            Ok((20, contents)) => assert!(contents == contents_after(20, VALUE_BYTES), "{at}"),
            other => panic!("byte {at}: {:?}", other.map(|(head, _)| head)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_within_the_journal_is_refused() {
    let image = image(20).await;
    for (from, length) in [(0, 10), (0, 4096), (1000, 600), (4096, 4096)] {
        let copy = copy_of(&image);
        let (path, _) = journal(copy.path());
        edit(&path, |content| content[from..from + length].fill(0));
        let refused = try_read(copy.path()).await.err();
        assert!(matches!(refused, Some(StoreError::Corrupt(_))), "{from}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_batch_that_was_noted_as_acknowledged_is_not_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(open(dir.path()).unwrap()).await;
    for _ in 0..5 {
        rig.step(VALUE_BYTES).await.unwrap();
    }
    rig.store.close().await;
    let (path, filled) = journal(dir.path());
    edit(&path, |content| content[filled - 100] ^= 1);
    let refused = try_read(dir.path()).await.err();
    assert!(
        matches!(&refused, Some(StoreError::Corrupt(why)) if why.contains("batch 5 was acknowledged")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(open(dir.path()).unwrap()).await;
    for _ in 0..5 {
        rig.step(VALUE_BYTES).await.unwrap();
    }
    rig.store.close().await;
    let (journal, _) = journal(dir.path());
    let others = ["db", "db/version", "acknowledged"].map(|name| dir.path().join(name));
    for missing in std::iter::once(journal).chain(others) {
        let copy = copy_of(&dir);
        let missing = copy.path().join(missing.strip_prefix(dir.path()).unwrap());
        if missing.is_dir() {
            fs::remove_dir_all(&missing).unwrap();
        } else {
            fs::remove_file(&missing).unwrap();
        }
        let refused = try_read(copy.path()).await.err();
        let place = missing.display();
        assert!(matches!(refused, Some(StoreError::Corrupt(_))), "{place}: {refused:?}");
    }
}

/// A store most of which has been written out to tables, and closed.
async fn with_tables() -> (TempDir, Contents) {
    let dir = temporary();
    let mut rig = Rig::new(open(dir.path()).expect("it opens")).await;
    for value_bytes in [200_000, 3_000] {
        for _ in 0..200 {
            rig.step(value_bytes).await.expect("it lands");
        }
    }
    rig.store.close().await;
    (dir, rig.contents)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_damaged_byte_anywhere_changes_what_is_read() {
    let (dir, contents) = with_tables().await;
    let mut random = fastrand::Rng::with_seed(5);
    let (mut tables, mut refused) = (0, 0);
    for path in files(&dir.path().join("db")) {
        let name = path.strip_prefix(dir.path()).unwrap();
        let filled = filled(&path);
        if filled == 0 {
            continue;
        }
        tables += usize::from(path.parent().is_some_and(|dir| dir.ends_with("tables")));
        let mut places = vec![0, filled / 2, filled - 1];
        places.extend(std::iter::repeat_with(|| random.usize(..filled)).take(2));
        for at in places {
            let copy = copy_of(&dir);
            edit(&copy.path().join(name), |content| content[at] ^= 0x10);
            match try_read(copy.path()).await {
                Ok((_, found)) => assert!(found == contents, "{}, byte {at}", name.display()),
                Err(StoreError::Corrupt(place)) => {
                    refused += 1;
                    assert!(place.contains("/db"), "no place: {place}");
                }
                Err(other) => panic!("{}, byte {at}: {other:?}", name.display()),
            }
        }
    }
    assert!(tables > 1, "nothing was written out to tables");
    assert!(refused > 30, "only {refused} refusals");
}
