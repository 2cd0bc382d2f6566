//! A recorder of all that is written to etcd below the cluster's prefix, from the first revision on
//! and before anything is compacted away: what the judge of [`crate::history`] hears.
//!
//! It is `etcdctl watch`, and knows no more of the inside than the layout that every operator can
//! see, and of the records in it the few fields that say who has a task and how it ended.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    history::{HeadWrite, Lease, Revision, SeatChange, TaskWrite},
    process::{LOOK, PATIENCE},
};

/// What all keys of the cluster begin with.
const PREFIX: &str = "rota/";

/// See the module. It ends when this is dropped.
#[derive(Debug)]
pub struct Recorder {
    revisions: Arc<Mutex<Vec<Revision>>>,
    read: watch::Receiver<i64>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Starts to record; `endpoints` are those of all members, which need not be there yet.
    #[must_use]
    pub fn start(endpoints: &str) -> Self {
        let revisions: Arc<Mutex<Vec<Revision>>> = Arc::default();
        let (seen, read) = watch::channel(0);
        let task = tokio::spawn(record(endpoints.to_owned(), Arc::clone(&revisions), seen));
        Self { revisions, read, task }
    }

    /// Waits until it has read so far.
    ///
    /// # Panics
    /// When it does not within a minute: what was missed would not be judged.
    pub async fn has_read(&self, revision: i64) {
        let mut read = self.read.clone();
        let come = timeout(PATIENCE, read.wait_for(|read| *read >= revision)).await;
        assert!(matches!(come, Ok(Ok(_))), "history stopped before revision {revision}");
    }

    /// The number of the last batch that it has read; 0 for none.
    #[must_use]
    pub fn last_batch(&self) -> u64 {
        let revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        revisions.iter().rev().find_map(|revision| revision.head).map_or(0, |head| head.seq)
    }

    /// What was written so far, in order.
    #[must_use]
    pub fn revisions(&self) -> Vec<Revision> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches until etcd says that something can no longer be read; then nobody is told of any further
/// revision, and who waits for one fails.
async fn record(endpoints: String, revisions: Arc<Mutex<Vec<Revision>>>, seen: watch::Sender<i64>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let from = (*seen.borrow() + 1).to_string();
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
            revisions.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
            seen.send_replace(last);
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
            revision.data = true;
            let task = task.to_owned();
            match (space, gone) {
                ("live", false) => revision.tasks.push(live(task, &value())),
                ("live", true) => revision.tasks.push(TaskWrite::NoLonger { task }),
                ("done", false) => revision.tasks.push(ended(task, &value(), true)),
                ("dead", false) => revision.tasks.push(ended(task, &value(), false)),
                ("done" | "dead", true) => revision.tasks.push(TaskWrite::EndUndone { task }),
                _ => {}
            }
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
    HeadWrite { epoch, seq: seq.parse().expect("a number"), sealed }
}

/// What interests here of a record in `live`.
#[derive(Clone, PartialEq, Message)]
struct LiveMessage {
    #[prost(uint32, tag = "8")]
    attempt: u32,
    #[prost(message, optional, tag = "12")]
    lease: Option<LeaseMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseMessage {
    #[prost(fixed64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    token: u64,
}

/// What interests here of a record in `done` or `dead`.
#[derive(Clone, PartialEq, Message)]
struct EndedMessage {
    #[prost(message, optional, tag = "11")]
    last: Option<AttemptMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct AttemptMessage {
    #[prost(uint32, tag = "1")]
    attempt: u32,
    #[prost(uint64, tag = "2")]
    token: u64,
}

fn live(task: String, value: &[u8]) -> TaskWrite {
    let message = LiveMessage::decode(value).expect("a record of `live`");
    let attempt = message.attempt;
    let lease = |LeaseMessage { session, token }| Lease { attempt, token, session };
    TaskWrite::Live { task, lease: message.lease.map(lease) }
}

fn ended(task: String, value: &[u8], completed: bool) -> TaskWrite {
    let message = EndedMessage::decode(value).expect("a record of `done` or `dead`");
    let under = message.last.map(|last| (last.attempt, last.token));
    TaskWrite::Ended { task, completed, under }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &str, value: &[u8], revision: i64) -> String {
        let (key, value) = (BASE64_STANDARD.encode(key), BASE64_STANDARD.encode(value));
        format!(
            r#"{{"kv":{{"key":"{key}","create_revision":2,"mod_revision":{revision},"version":1,"value":"{value}"}}}}"#
        )
    }

    #[test]
    fn lines_of_etcdctl_become_revisions() {
        let lease = LeaseMessage { session: 5, token: 9 };
        let record = LiveMessage { attempt: 1, lease: Some(lease) }.encode_to_vec();
        let last = AttemptMessage { attempt: 1, token: 9 };
        let end = EndedMessage { last: Some(last) }.encode_to_vec();
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
        let head = |sealed| Some(HeadWrite { epoch: 2, seq: 1, sealed });
        let task = || "t".to_owned();
        let lease = Some(Lease { attempt: 1, token: 9, session: 5 });
        let revision = |number| Revision { number, ..Revision::default() };
        let expected = [
            Revision { seat: Some(SeatChange::Held(2)), ..revision(2) },
            Revision {
                head: head(false),
                data: true,
                tasks: vec![TaskWrite::Live { task: task(), lease }],
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
                ..revision(5)
            },
            Revision { seat: Some(SeatChange::Left), ..revision(6) },
        ];
        assert_eq!(read(serde_json::from_str(&line).expect("an answer")), expected);
    }
}
