//! The process is killed at any moment: every acknowledged batch is there afterwards, at most the
//! one that was being written beside it, and nothing in part.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use rota_store::{BatchSeq, Store};

use crate::rig::{Rig, assert_same, contents_after, open, read_all};

const DIR: &str = "ROTA_STORE_CRASH_DIR";
const VALUE_BYTES: usize = 20_000;

/// The process that is killed: this test program, running the test below alone.
fn victim(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::the_victim", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child")
}

/// Commits for ever and tells of each acknowledgement.
#[tokio::test]
#[ignore = "runs as the child of the other tests"]
async fn the_victim() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut rig = Rig::new(open(Path::new(&dir)).unwrap()).await;
    loop {
        rig.step(VALUE_BYTES).await.unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "acked {}", rig.last).unwrap();
        out.flush().unwrap();
    }
}

/// Lets the victim commit that many batches and kills it; the last one that it told of.
fn run_and_kill(dir: &Path, batches: u64) -> u64 {
    let mut child = victim(dir);
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut acked = 0;
    let mut count = 0;
    for line in output.lines() {
        let line = line.expect("text");
        if let Some(number) = line.strip_prefix("acked ") {
            acked = number.parse().expect("a number");
            count += 1;
        }
        if count == batches {
            child.kill().expect("it runs");
        }
    }
    child.wait().expect("it ran");
    assert!(count >= batches, "the victim ended by itself after {count}");
    acked
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..10 {
        // Enough in all for memory to be written out and merged while it is being killed.
        let acked = run_and_kill(dir.path(), random.u64(1..300));
        let store = open(dir.path()).unwrap();
        let head = store.head().await.unwrap().seq;
        assert!(
            head == BatchSeq(acked) || head == BatchSeq(acked + 1),
            "round {round}: {acked} acknowledged, but the head is {head}"
        );
        let contents = read_all(&store).await.unwrap();
        assert_same(&contents, &contents_after(head.0, VALUE_BYTES));
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_no_lock_and_no_epoch_behind() {
    let dir = tempfile::tempdir().unwrap();
    run_and_kill(dir.path(), 1);
    let store = open(dir.path()).unwrap();
    let before = store.status().await.epoch;
    let mut rig = Rig::new(store).await;
    assert!(rig.leadership.fence().epoch > before);
    rig.step(10).await.unwrap();
    rig.store.close().await;
}
