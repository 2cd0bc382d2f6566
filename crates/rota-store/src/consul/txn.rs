//! Transactions of Consul (`/v1/txn`): what they are made of, and what comes of them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    link::{Effect, Link, Request},
};

/// The operations that one transaction takes: 64 in Consul 1.8, 128 in later ones.
pub(super) const OPERATIONS_MAX: usize = 64;

/// One operation on a key.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Operation {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

impl Operation {
    fn new(verb: &'static str, key: &str) -> Self {
        Self { verb, key: key.to_owned(), value: None, index: None, session: None }
    }

    /// Sets a key.
    pub(super) fn set(key: &str, value: &[u8]) -> Self {
        Self { value: Some(STANDARD.encode(value)), ..Self::new("set", key) }
    }

    /// Sets a key if that index changed it last; 0 for one that must not exist.
    pub(super) fn cas(key: &str, value: &[u8], index: u64) -> Self {
        Self { index: Some(index), value: Some(STANDARD.encode(value)), ..Self::new("cas", key) }
    }

    /// Sets a key that only that session may hold.
    pub(super) fn lock(key: &str, value: &[u8], session: &str) -> Self {
        let (value, session) = (Some(STANDARD.encode(value)), Some(session.to_owned()));
        Self { value, session, ..Self::new("lock", key) }
    }

    /// Demands that this index changed the key last; 0 for one that must not exist.
    pub(super) fn unchanged(key: &str, index: u64) -> Self {
        match index {
            0 => Self::new("check-not-exists", key),
            index => Self { index: Some(index), ..Self::new("check-index", key) },
        }
    }

    /// Demands that the key exists, and reads it.
    pub(super) fn get(key: &str) -> Self {
        Self::new("get", key)
    }

    /// Reads every key that begins so.
    pub(super) fn get_tree(prefix: &str) -> Self {
        Self::new("get-tree", prefix)
    }

    /// Removes a key.
    pub(super) fn delete(key: &str) -> Self {
        Self::new("delete", key)
    }

    /// Removes every key that begins so.
    pub(super) fn delete_tree(prefix: &str) -> Self {
        Self::new("delete-tree", prefix)
    }
}

/// A key as Consul tells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    pub(super) session: Option<String>,
    /// The index that changed it last.
    pub(super) modify_index: u64,
}

impl Entry {
    pub(super) fn value(&self) -> Result<Bytes, Fault> {
        let value = STANDARD.decode(self.value.as_deref().unwrap_or_default());
        value
            .map(Bytes::from)
            .map_err(|_| Fault::Corrupt(format!("Consul's answer for {} is no base64", self.key)))
    }
}

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was carried out. Holds the keys that it read and wrote, without the values written.
    Done(Found),
    /// A condition did not hold, so nothing was done. Says which.
    Refused(String),
}

/// Keys that a transaction read or wrote.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<Entry>);

impl Found {
    /// The key of exactly that name.
    pub(super) fn key(&self, key: &str) -> Option<&Entry> {
        self.0.iter().rev().find(|entry| entry.key == key)
    }

    pub(super) fn keys(self) -> Vec<Entry> {
        self.0
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    results: Option<Vec<Told1>>,
    errors: Option<Vec<Refusal>>,
}

#[derive(Deserialize)]
struct Told1 {
    #[serde(rename = "KV")]
    key: Option<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    what: String,
}

#[derive(Serialize)]
struct Wrapped<'a> {
    #[serde(rename = "KV")]
    key: &'a Operation,
}

/// Carries out all of these operations or none.
pub(super) async fn perform(
    link: &Link,
    operations: &[Operation],
    effect: Effect,
) -> Result<Outcome, Fault> {
    transact(link, operations, effect, "", 0).await
}

/// Reads these keys and trees at one moment, and sees all that was written before.
pub(super) async fn read(link: &Link, operations: &[Operation]) -> Result<Found, Fault> {
    match transact(link, operations, Effect::Harmless, "consistent", 0).await? {
        Outcome::Done(found) => Ok(found),
        Outcome::Refused(why) => Err(Fault::Unknown(why)),
    }
}

/// Reads these keys, of about so many bytes; [`Fault::Moved`] where one is not there.
pub(super) async fn read_all(
    link: &Link,
    operations: &[Operation],
    bytes: usize,
) -> Result<Found, Fault> {
    match transact(link, operations, Effect::Harmless, "", bytes).await? {
        Outcome::Done(found) => Ok(found),
        Outcome::Refused(_) => Err(Fault::Moved),
    }
}

async fn transact(
    link: &Link,
    operations: &[Operation],
    effect: Effect,
    query: &str,
    answer_bytes: usize,
) -> Result<Outcome, Fault> {
    let wrapped: Vec<_> = operations.iter().map(|key| Wrapped { key }).collect();
    let body = serde_json::to_vec(&wrapped)
        .map_err(|error| Fault::Invalid(format!("cannot write the transaction: {error}")))?;
    let mut request = Request::put("txn", body, effect).with_answer_of(answer_bytes);
    query.clone_into(&mut request.query);
    let answer = link.call(request).await?.with(&[200, 409])?;
    let told: Told = serde_json::from_slice(&answer.body).map_err(|error| {
        Fault::Unknown(format!("Consul's answer to a transaction makes no sense: {error}"))
    })?;
    if answer.status == 200 {
        let found = told.results.unwrap_or_default().into_iter().filter_map(|told| told.key);
        return Ok(Outcome::Done(Found(found.collect())));
    }
    let why: Vec<_> = told.errors.unwrap_or_default().into_iter().map(|told| told.what).collect();
    let why = why.join("; ");
    if why.contains("Permission denied") {
        return Err(Fault::of_answer(403, why.as_bytes()));
    }
    if why.contains("invalid session") {
        return Err(Fault::NoSession);
    }
    Ok(Outcome::Refused(why))
}

/// Pauses of a blocking query: Consul answers when the key changes, or after this and a sixteenth more.
const WAIT: Duration = Duration::from_secs(5);

/// The key as it is now, or when it is no longer as it was at that index; and the index to wait on next.
pub(super) async fn follow(
    link: &Link,
    key: &str,
    index: u64,
) -> Result<(Option<Entry>, u64), Fault> {
    let query = match index {
        0 => String::new(),
        index => format!("index={index}&wait={}s", WAIT.as_secs()),
    };
    let mut request = Request::get(format!("kv/{key}"), query);
    request.longer += WAIT + WAIT / 16;
    let answer = link.call(request).await?.with(&[200, 404])?;
    // Indexes that go back begin anew, as Consul's documentation asks for.
    let next = if answer.index < index { 0 } else { answer.index.max(1) };
    if answer.status == 404 {
        return Ok((None, next));
    }
    let mut entries: Vec<Entry> = serde_json::from_slice(&answer.body)
        .map_err(|error| Fault::Unknown(format!("Consul's answer makes no sense: {error}")))?;
    Ok((entries.pop(), next))
}
