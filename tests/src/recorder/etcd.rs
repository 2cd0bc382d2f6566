//! Reads all that is written to etcd below the cluster's prefix with `etcdctl watch`, before anything is compacted away.

use std::{process::Stdio, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::{Book, records};
use crate::{
    history::{HeadWrite, Revision, SeatChange},
    process::LOOK,
};

/// What all keys of the cluster begin with.
const PREFIX: &str = "rota/";

/// Watches until etcd says that something can no longer be read; then nobody is told of any further
/// revision, and who waits for one fails.
pub(super) async fn record(endpoints: String, book: Arc<Book>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let from = (*book.read.borrow() + 1).to_string();
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints]);
        command.args(["watch", "--prefix", PREFIX, "--rev", &from, "-w", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().expect("etcdctl can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(answer) = serde_json::from_str::<Answer>(&line) else { continue };
            if answer.compact_revision > 0 {
                return;
            }
            let read = read(answer);
            let Some(last) = read.last().map(|revision| revision.number) else { continue };
            book.add(read, last);
        }
    }
}

/// A line of `etcdctl watch -w json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    events: Option<Vec<Event>>,
    #[serde(default)]
    compact_revision: i64,
}

#[derive(Deserialize)]
struct Event {
    /// Missing for a put.
    #[serde(default)]
    r#type: u8,
    kv: KeyValue,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    create_revision: i64,
    mod_revision: i64,
    #[serde(default)]
    value: String,
}

/// Events come in order, those of one revision together.
fn read(answer: Answer) -> Vec<Revision> {
    let mut revisions: Vec<Revision> = Vec::new();
    for event in answer.events.unwrap_or_default() {
        let number = event.kv.mod_revision;
        if revisions.last().is_none_or(|last| last.number != number) {
            revisions.push(Revision { number, ..Revision::default() });
        }
        let revision = revisions.last_mut().expect("it was pushed above");
        note(revision, &event);
    }
    revisions
}

fn note(revision: &mut Revision, event: &Event) {
    let bytes = |text: &str| BASE64_STANDARD.decode(text).expect("base64");
    let key = String::from_utf8(bytes(&event.kv.key)).expect("keys are text");
    let value = || bytes(&event.kv.value);
    let gone = event.r#type != 0;
    match key.strip_prefix(PREFIX).expect("it was asked for") {
        "head" => revision.head = Some(head(&value())),
        "leader" if gone => revision.seat = Some(SeatChange::Left),
        "leader" => revision.seat = Some(SeatChange::Held(event.kv.create_revision)),
        rest => {
            let Some((space, task)) = rest.strip_prefix("s/").and_then(|rest| rest.split_once('/'))
            else {
                return;
            };
            records::note(revision, space, task, (!gone).then(value).as_deref());
        }
    }
}

/// `EPOCH/NUMBER`, and ` sealed` where no batch wrote it.
fn head(value: &[u8]) -> HeadWrite {
    let text = std::str::from_utf8(value).expect("text");
    let (numbers, sealed) =
        text.strip_suffix(" sealed").map_or((text, false), |numbers| (numbers, true));
    let (epoch, seq) = numbers.split_once('/').expect("two numbers");
    let epoch = epoch.parse().expect("a number");
    let seq: u64 = seq.parse().expect("a number");
    HeadWrite { epoch, seq, prev: seq.saturating_sub(1), sealed }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{
        history::{Lease, TaskWrite},
        recorder::records::{AttemptMessage, EndedMessage, LeaseMessage, LiveMessage},
    };

    fn event(key: &str, value: &[u8], revision: i64) -> String {
        let (key, value) = (BASE64_STANDARD.encode(key), BASE64_STANDARD.encode(value));
        format!(
            r#"{{"kv":{{"key":"{key}","create_revision":2,"mod_revision":{revision},"version":1,"value":"{value}"}}}}"#
        )
    }

    #[test]
    fn lines_of_etcdctl_become_revisions() {
        let lease = LeaseMessage { session: 5, token: 9 };
        let record = LiveMessage { attempt: 1, lease: Some(lease), ..LiveMessage::default() }
            .encode_to_vec();
        let last = AttemptMessage { attempt: 1, token: 9 };
        let end =
            EndedMessage { last: Some(last), client_id: Some("mine".to_owned()) }.encode_to_vec();
        let gone = BASE64_STANDARD.encode("rota/leader");
        let events = [
            event("rota/leader", b"{}", 2),
            event("rota/head", b"2/1", 3),
            event("rota/s/live/t", &record, 3),
            event("rota/head", b"2/1 sealed", 4),
            event("rota/s/done/t", &end, 5),
            event("rota/s/spec/t", b"", 5),
            format!(r#"{{"type":1,"kv":{{"key":"{gone}","mod_revision":6}}}}"#),
        ];
        let line = format!(
            r#"{{"Header":{{"revision":6}},"Events":[{}],"CompactRevision":0,"Canceled":false}}"#,
            events.join(",")
        );
        let head = |sealed| Some(HeadWrite { epoch: 2, seq: 1, prev: 0, sealed });
        let task = || "t".to_owned();
        let lease = Some(Lease { attempt: 1, token: 9, session: 5 });
        let revision = |number| Revision { number, ..Revision::default() };
        let expected = [
            Revision { seat: Some(SeatChange::Held(2)), ..revision(2) },
            Revision {
                head: head(false),
                data: true,
                tasks: vec![TaskWrite::Live { task: task(), lease, released: None }],
                ..revision(3)
            },
            Revision { head: head(true), ..revision(4) },
            Revision {
                data: true,
                tasks: vec![TaskWrite::Ended {
                    task: task(),
                    completed: true,
                    under: Some((1, 9)),
                }],
                created: vec![task()],
                ids: vec!["mine".to_owned()],
                ..revision(5)
            },
            Revision { seat: Some(SeatChange::Left), ..revision(6) },
        ];
        assert_eq!(read(serde_json::from_str(&line).expect("an answer")), expected);
    }
}
