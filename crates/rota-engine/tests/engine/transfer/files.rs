//! Exports and imports: whole, cut off, and damaged.

use std::sync::Arc;

use rota_core::Status;
use rota_engine::{
    Role, TaskRef,
    transfer::{
        CopyOptions, FileHeader, FilePortion, FileReader, Imported, Side, TransferError, copy,
        export, import,
    },
};
use rota_store::Store;
use tokio::sync::mpsc;

use super::{Fragile, clean, fill, quietly, space};
use crate::support::{Node, name, task, until};

async fn exported(side: &Side) -> Result<Vec<u8>, TransferError> {
    let mut file = Vec::new();
    let header = FileHeader::new("test", "2026-11-27T00:00:00Z".to_owned());
    let mut write = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        Ok(())
    };
    export(side, header, &mut write, &quietly).await?;
    Ok(file)
}

/// Imports it as the binary does: a thread reads the file.
async fn imported(file: &[u8], to: &Arc<Fragile>) -> Result<Imported, TransferError> {
    let (header, mut reader) = FileReader::open(file)?;
    let (sender, portions) = mpsc::channel(2);
    let reading = async move {
        loop {
            let next = reader.next_portion();
            let last = matches!(next, Ok(FilePortion::End(_)) | Err(_));
            if sender.send(next).await.is_err() || last {
                return;
            }
        }
    };
    let to = to.side("to");
    let importing = import(&to, "the file", &header, portions, false, &quietly);
    tokio::join!(reading, importing).1
}

fn line_of(error: &TransferError) -> u64 {
    let TransferError::File { line, .. } = error else { panic!("{error:?}") };
    *line
}

#[tokio::test]
async fn an_import_of_an_export_is_equal_to_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let file = exported(&from.side("from")).await.expect("it is exported");
    let to_dir = directory.path().join("to");
    let to = Fragile::open(&to_dir);
    let done = imported(&file, &to).await.expect("it is imported");
    assert_eq!(from.records().await, to.records().await);
    let contents = clean(&from).await;
    assert_eq!(done.contents, contents);
    assert!(done.head > from.head().await.expect("a head").seq);

    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let json = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).expect("JSON");
    let (first, last) = (json(lines[0]), json(lines[lines.len() - 1]));
    assert_eq!(first["rota_export"], 1);
    assert_eq!(first["head"], from.head().await.expect("a head").seq.0);
    assert_eq!((&last["end"], &last["checksum"]), (&true.into(), &contents.checksum.into()));
    assert_eq!(lines.len() as u64, contents.records + 2);
    // The readable forms are complete.
    for line in &lines[1..lines.len() - 1] {
        let line = json(line);
        assert!(line["record"].is_object() && line["key"].is_string(), "{line}");
    }
    to.close().await;
    let node = Node::start(&to_dir);
    until(|| matches!(node.engine.info().role, Role::Leader)).await;
    let again = Side { store: node.store.clone(), name: "running".to_owned() };
    // An export of a store that a node leads.
    let live = exported(&again).await.expect("it is exported");
    assert!(FileReader::open(&live[..]).is_ok());
    node.stop().await;
}

#[tokio::test]
async fn a_cut_or_damaged_file_is_named_by_line_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let file = exported(&from.side("from")).await.expect("it is exported");
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let to = Fragile::open(&directory.path().join("to"));
    let count = lines.len() as u64;

    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    let with = |at: usize, line: &[u8]| [&lines[..at], &[line], &lines[at + 1..]].concat().concat();
    let twice = [&lines[..4], &[lines[3]], &lines[4..]].concat().concat();
    let swapped = [&lines[..3], &[lines[4], lines[3]], &lines[5..]].concat().concat();
    let text = |at: usize| String::from_utf8(lines[at].to_vec()).expect("text");
    let other_value = text(5).replace("\"value\":\"", "\"value\":\"CAEB");
    let other_key = text(5).replace("\"key\":\"t_", "\"key\":\"u_");
    let mark = br#"{"space":"cluster","key":"unfinished","value":"","sum":"0"}"#;
    for (damaged, line) in [
        (without(0), 1),
        // Which one is missing is not known, but that one is.
        (without(5), count - 1),
        (without(lines.len() - 1), count),
        (file[..file.len() - 20].to_vec(), count),
        (lines[..6].concat(), 7),
        (with(5, b"nonsense\n"), 6),
        (with(5, b"\n"), 6),
        (with(5, b"{}\n"), 6),
        (with(5, other_value.as_bytes()), 6),
        (with(5, other_key.as_bytes()), 6),
        (with(5, &[mark, &b"\n"[..]].concat()), 6),
        (with(5, text(5).replace("\"space\":\"", "\"space\":\"x").as_bytes()), 6),
        (with(0, text(0).replace("\"rota_export\":1", "\"rota_export\":2").as_bytes()), 1),
        (with(0, text(0).replace("\"head\":", "\"head\":99999999999999").as_bytes()), 1),
        (with(0, text(0).replace("\"head\":", "\"head\":1").as_bytes()), count),
        (twice, 5),
        (swapped, 5),
        ([&file[..], b"more"].concat(), count + 1),
        (Vec::new(), 1),
    ] {
        assert!(damaged != file, "line {line} is damaged");
        let refused = imported(&damaged, &to).await.expect_err("it is damaged");
        assert_eq!(line_of(&refused), line, "{refused}");
        assert_eq!(to.records().await, [], "{refused}");
    }
    imported(&file, &to).await.expect("the file itself is well");
    let refused = imported(&file, &to).await;
    assert!(matches!(refused, Err(TransferError::NotEmpty { .. })), "{refused:?}");
    assert_eq!(from.records().await, to.records().await);
}

#[tokio::test]
async fn half_an_import_is_replaced_by_the_next_and_is_no_copy() {
    let directory = tempfile::tempdir().expect("a directory");
    let from_dir = directory.path().join("from");
    fill(&from_dir).await;
    let from = Fragile::open(&from_dir);
    let file = exported(&from.side("from")).await.expect("it is exported");
    for commits in [1, 4] {
        let to = Fragile::dying(&directory.path().join(format!("to{commits}")), commits, true);
        imported(&file, &to).await.expect_err("it dies");
        to.left.store(i64::MAX, std::sync::atomic::Ordering::SeqCst);
        let half = exported(&to.side("to")).await;
        assert!(matches!(half, Err(TransferError::Unfinished { .. })), "{half:?}");
        let refused =
            copy(&from.side("from"), &to.side("to"), CopyOptions::default(), &quietly).await;
        assert!(matches!(refused, Err(TransferError::OtherTransfer { .. })), "{refused:?}");
        imported(&file, &to).await.expect("it is imported");
        assert_eq!(from.records().await, to.records().await);
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_carried_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let from = Fragile::open(&directory.path().join("from"));
    from.tamper(|batch| {
        batch.put(space("live"), "t_0000000000001", &b"\xff\xff"[..]);
        batch.put(space("queue"), &b"\xfe no name"[..], &b""[..]);
    })
    .await;
    let file = exported(&from.side("from")).await.expect("it is exported");
    let text = String::from_utf8(file.clone()).expect("text");
    assert_eq!(text.matches("\"unreadable\"").count(), 2, "{text}");
    assert!(text.contains("\"key_base64\":\"/iBubyBuYW1l\""), "{text}");
    let to = Fragile::open(&directory.path().join("to"));
    imported(&file, &to).await.expect("it is imported");
    assert_eq!(from.records().await, to.records().await);
}

/// What commit f2ef810 of Rota wrote: tasks in every state, with the history and the settings of a queue.
const OLDER: &str = include_str!("older-version.jsonl");

#[tokio::test]
async fn the_records_of_an_older_version_are_read_checked_and_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let from = Fragile::open(&first);
    imported(OLDER.as_bytes(), &from).await.expect("it is imported");
    let contents = clean(&from).await;
    assert_eq!(contents.records, 34);
    let to = Fragile::open(&second);
    let copied = copy(&from.side("from"), &to.side("to"), CopyOptions::default(), &quietly).await;
    assert_eq!(copied.expect("it is copied").to, contents);
    to.close().await;
    let node = Node::start(&second);
    let held = TaskRef::Named(name("held"));
    let held = node.engine.task(&held).await.expect("an answer").expect("it is there");
    assert_eq!(held.status, Status::Assigned);
    node.submit(task("more")).await;
    // The last lease of the older version had the token 16.
    assert!(node.lease(1).await[0].token.0 > 17);
    node.stop().await;
    clean(&Fragile::open(&second)).await;
}
