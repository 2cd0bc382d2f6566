//! A disk that fills up and gets room again: nothing acknowledged is lost, nothing refused lands,
//! and the store goes on without being opened again.
//!
//! Each test mounts a small file system in memory, which takes the rights of root (in CI they have
//! them); without them it says so and passes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rota_store::{CommitError, EmbeddedOptions, EmbeddedStore, Store};

use crate::rig::{Rig, SPACES, assert_same, open, options, read_all};

const MIB: u64 = 1 << 20;

/// A file system of its own size, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "rota-test"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("SKIPPED: this needs the right to mount a file system: {other:?}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Takes all room but that many bytes.
    fn fill_but(&self, bytes: u64) {
        let room = self.room();
        assert!(room >= bytes, "{room} bytes left");
        let mut content = vec![1; 4096];
        let filler = self.0.path().join("filler");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(filler).unwrap();
        let mut left = room - bytes;
        while left > 0 {
            content.truncate(usize::try_from(left).unwrap().min(4096));
            std::io::Write::write_all(&mut file, &content).unwrap();
            left -= content.len() as u64;
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }

    fn room(&self) -> u64 {
        let disk = nix::sys::statvfs::statvfs(self.0.path()).unwrap();
        disk.blocks_available() * disk.fragment_size()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "cannot unmount");
    }
}

/// Commits until the disk is full; panics on any other refusal.
async fn commit_until_full(rig: &mut Rig, value_bytes: usize) -> String {
    for _ in 0..10_000 {
        match rig.step(value_bytes).await {
            Ok(()) => {}
            Err(CommitError::Full(why)) => return why,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk is never full");
}

/// Waits until the status has a problem or, again, has none.
async fn until_problem(rig: &Rig, wanted: bool) -> Option<String> {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..500 {
        let problem = rig.store.status().await.problem;
        if problem.is_some() == wanted {
            return problem;
        }
        ticks.tick().await;
    }
    panic!("no change of the status within ten seconds")
}

/// From a full disk to room again, and then everything must be as if nothing had happened.
async fn recovers(disk: &SmallDisk, mut rig: Rig, value_bytes: usize) {
    for _ in 0..3 {
        let refused = rig.step(value_bytes).await;
        assert!(matches!(refused, Err(CommitError::Full(_))), "{refused:?}");
    }
    rig.check().await;
    assert!(until_problem(&rig, true).await.is_some());
    disk.free();
    until_problem(&rig, false).await;
    for _ in 0..200 {
        rig.step(value_bytes).await.unwrap();
    }
    rig.check().await;
    rig.store.close().await;
    let again = open(&disk.data()).unwrap();
    assert_eq!(again.head().await.unwrap().seq, rig.last);
    assert_same(&read_all(&again).await.unwrap(), &rig.contents);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_stop_while_there_is_still_a_reserve() {
    let Some(disk) = SmallDisk::mount(256 * MIB) else { return };
    let options = EmbeddedOptions { reserve_bytes: 64 * MIB, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open(&disk.data(), &SPACES, options).unwrap();
    let mut rig = Rig::new(store).await;
    rig.step(1000).await.unwrap();
    disk.fill_but(70 * MIB);
    let why = commit_until_full(&mut rig, 100_000).await;
    assert!(why.contains("must stay free"), "{why}");
    assert!(disk.room() > 40 * MIB, "the reserve was used up: {} left", disk.room());
    recovers(&disk, rig, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_work_is_to_stop_while_commits_are_still_taken() {
    let Some(disk) = SmallDisk::mount(256 * MIB) else { return };
    let options = EmbeddedOptions { reserve_bytes: 32 * MIB, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open(&disk.data(), &SPACES, options).unwrap();
    let mut rig = Rig::new(store).await;
    assert_eq!(rig.store.status().await.pressure, None);
    disk.fill_but(60 * MIB);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let pressed = async {
        while rig.store.status().await.pressure.is_none() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), pressed).await.unwrap();
    assert_eq!(rig.store.status().await.problem, None);
    for _ in 0..20 {
        rig.step(100_000).await.unwrap();
    }
    rig.check().await;
    disk.free();
    while rig.store.status().await.pressure.is_some() {
        ticks.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_finds_no_room_does_not_land() {
    // Values smaller and larger than what the engine collects before it writes to the file: the
    // write fails in different places.
    for value_bytes in [100, 3_000, 20_000, 300_000] {
        let Some(disk) = SmallDisk::mount(256 * MIB) else { return };
        let mut rig = Rig::new(open(&disk.data()).unwrap()).await;
        for _ in 0..50 {
            rig.step(value_bytes).await.unwrap();
        }
        disk.fill_but(MIB);
        commit_until_full(&mut rig, value_bytes).await;
        recovers(&disk, rig, value_bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_background_is_overcome() {
    let Some(disk) = SmallDisk::mount(400 * MIB) else { return };
    let mut rig = Rig::new(open(&disk.data()).unwrap()).await;
    // Enough room for the journal, not for what is written out from memory beside it.
    for _ in 0..30 {
        rig.step(100_000).await.unwrap();
    }
    disk.fill_but(24 * MIB);
    commit_until_full(&mut rig, 100_000).await;
    recovers(&disk, rig, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_again_and_again() {
    let Some(disk) = SmallDisk::mount(256 * MIB) else { return };
    let mut rig = Rig::new(open(&disk.data()).unwrap()).await;
    for round in 0..6 {
        rig.step(5_000).await.unwrap();
        disk.fill_but(round * 300_000);
        commit_until_full(&mut rig, 5_000).await;
        rig.check().await;
        disk.free();
        // The next commit finds the room by itself, without anybody waiting for the status.
        rig.step(5_000).await.unwrap();
    }
    rig.check().await;
    rig.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_on_a_full_disk_and_can_be_read() {
    let Some(disk) = SmallDisk::mount(256 * MIB) else { return };
    let mut rig = Rig::new(open(&disk.data()).unwrap()).await;
    for _ in 0..100 {
        rig.step(10_000).await.unwrap();
    }
    rig.store.close().await;
    disk.fill_but(0);
    let store = EmbeddedStore::open(&disk.data(), &SPACES, options()).unwrap();
    assert_same(&read_all(&store).await.unwrap(), &rig.contents);
    assert_eq!(store.head().await.unwrap().seq, rig.last);
    let mut rig = Rig::new(store).await;
    let refused = rig.step(100_000).await;
    assert!(matches!(refused, Err(CommitError::Full(_))), "{refused:?}");
    rig.check().await;
    disk.free();
    rig.step(100_000).await.unwrap();
    rig.check().await;
    rig.store.close().await;
}

#[test]
fn a_small_disk_is_as_small_as_it_says() {
    let Some(disk) = SmallDisk::mount(8 * MIB) else { return };
    disk.fill_but(MIB);
    let written = fs::write(disk.0.path().join("more"), vec![0; 2 << 20]);
    assert!(written.is_err(), "the tests above would prove nothing");
    assert!(Path::new(disk.0.path()).exists());
}
