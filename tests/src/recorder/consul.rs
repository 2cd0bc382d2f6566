//! Reads the log of packed pieces in Consul, before anything is removed from it.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::{Book, Seat, records};
use crate::{
    history::{HeadWrite, Revision},
    process::LOOK,
    store::consul::{KeyValue, ask},
};

/// How long a server waits for something new, and how long for its answer is waited.
const WAITS: &str = "1s";
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// The kinds of pieces, and where the records of one begin.
const BATCH: u8 = 0;
const KEPT: u8 = 1;
const PARTS: u8 = 2;
const MAGIC: usize = 4 + 1;
const CHECKSUM: usize = 8;

/// What the head says.
#[derive(Deserialize)]
struct Tip {
    first: u64,
    last: u64,
}

#[derive(Deserialize)]
struct Leader {
    epoch: i64,
}

/// Where the parts of a large piece are.
#[derive(Deserialize)]
struct Parts {
    id: String,
    parts: usize,
}

/// Reads until a piece is gone that was not read; then nobody is told of any further one, and who waits for it fails.
pub(super) async fn record(servers: Vec<String>, book: Arc<Book>) {
    let (mut look, mut next, mut index) = (tokio::time::interval(LOOK), 1, 0);
    for server in servers.iter().cycle() {
        look.tick().await;
        while let Some((tip, now)) = head(server, index).await {
            let Some(tip) = tip else { break };
            if tip.first > next {
                return;
            }
            see_seat(server, &book).await;
            while next <= tip.last {
                let Some(revision) = piece(server, next).await else { break };
                next += 1;
                if let Some(revision) = revision {
                    let seq = revision.head.map_or(0, |head| head.seq);
                    book.add(vec![revision], i64::try_from(seq).expect("numbers are small"));
                }
            }
            // What could not be read is asked for again at once.
            index = if next > tip.last { now } else { 0 };
        }
    }
}

async fn get(server: &str, path: &str) -> Option<KeyValue> {
    let answer = ask(server, "GET", &format!("kv/{path}"), "", ANSWERS_WITHIN).await?;
    answer.keys().pop()
}

fn value(key: &KeyValue) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(key.value.as_ref()?).ok()
}

/// The head when it is another than at that index, or after a while. Nothing: the server does not answer.
async fn head(server: &str, index: u64) -> Option<(Option<Tip>, u64)> {
    let path = format!("kv/rota/head?consistent&index={index}&wait={WAITS}");
    let answer = ask(server, "GET", &path, "", ANSWERS_WITHIN).await?;
    let tip = answer.keys().pop().and_then(|key| serde_json::from_slice(&value(&key)?).ok());
    Some((tip, answer.index))
}

async fn see_seat(server: &str, book: &Book) {
    if let Some(key) = get(server, "rota/leader?consistent").await
        && let Some(Ok(leader)) = value(&key).map(|value| serde_json::from_slice::<Leader>(&value))
    {
        book.saw_seat(Seat { at: key.modify_index, epoch: leader.epoch });
    }
}

/// A piece: a batch, or nothing that a batch wrote.
async fn piece(server: &str, number: u64) -> Option<Option<Revision>> {
    let key = get(server, &format!("rota/log/{number:020}?consistent")).await?;
    let mut bytes = value(&key)?;
    if bytes[MAGIC] == PARTS {
        let parts: Parts =
            serde_json::from_slice(&bytes[MAGIC + 1..bytes.len() - CHECKSUM]).ok()?;
        bytes.clear();
        for part in 0..parts.parts {
            let path = format!("rota/part/{}/{part:04}?consistent", parts.id);
            bytes.extend(value(&get(server, &path).await?)?);
        }
    }
    let number = i64::try_from(number).expect("numbers are small");
    let revision = Revision { number, at: key.create_index, ..Revision::default() };
    Some(read(&bytes, revision).expect("a piece of the log"))
}

/// Takes a piece apart; `Some(None)` is one that repeats what older pieces said.
fn read(piece: &[u8], mut revision: Revision) -> Option<Option<Revision>> {
    let mut rest = piece.get(MAGIC..piece.len().checked_sub(CHECKSUM)?)?;
    let mut take = |length: usize| {
        let part;
        (part, rest) = rest.split_at_checked(length)?;
        Some(part)
    };
    match take(1)?[0] {
        BATCH => {}
        KEPT => return Some(None),
        _ => return None,
    }
    let epoch = i64::from_be_bytes(take(8)?.try_into().ok()?);
    let seq = u64::from_be_bytes(take(8)?.try_into().ok()?);
    revision.head = Some(HeadWrite { epoch, seq, prev: seq.saturating_sub(1), sealed: false });
    let mut spaces = Vec::new();
    for _ in 0..take(1)?[0] {
        let length = usize::from(take(1)?[0]);
        spaces.push(String::from_utf8(take(length)?.into()).ok()?);
    }
    while let Some(tag) = take(1) {
        let space = spaces.get(usize::from(tag[0] >> 1))?;
        let length = usize::from(u16::from_be_bytes(take(2)?.try_into().ok()?));
        let key = take(length)?;
        let value = if tag[0] & 1 == 1 {
            let length = u32::from_be_bytes(take(4)?.try_into().ok()?);
            Some(take(usize::try_from(length).ok()?)?)
        } else {
            None
        };
        records::note(&mut revision, space, &String::from_utf8_lossy(key), value);
    }
    Some(Some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::TaskWrite;

    #[test]
    fn a_piece_becomes_a_revision() {
        let mut piece = b"rota\x01".to_vec();
        piece.push(BATCH);
        piece.extend(2_u64.to_be_bytes());
        piece.extend(7_u64.to_be_bytes());
        piece.extend(b"\x02\x04live\x04spec");
        // A delete in `live`, a put in `spec`, and a checksum that is not looked at.
        piece.extend(b"\x00\x00\x01t\x03\x00\x01t\x00\x00\x00\x02xy");
        piece.extend([0; CHECKSUM]);
        let empty = Revision { number: 3, at: 9, ..Revision::default() };
        let head = HeadWrite { epoch: 2, seq: 7, prev: 6, sealed: false };
        let expected = Revision {
            head: Some(head),
            data: true,
            tasks: vec![TaskWrite::NoLonger { task: "t".to_owned() }],
            created: vec!["t".to_owned()],
            ..empty.clone()
        };
        assert_eq!(read(&piece, empty.clone()), Some(Some(expected)));
        piece[MAGIC] = KEPT;
        assert_eq!(read(&piece, empty), Some(None));
    }
}
