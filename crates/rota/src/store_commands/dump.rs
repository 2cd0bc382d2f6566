//! `rota store dump`.

use rota_engine::transfer::{Dump, DumpEntry, Readable, TransferError, space_names};
use serde_json::{Value, json};

use super::{
    failure::explain,
    stores::{Missing, Opened, open},
};
use crate::{
    config::Settings,
    exit::Failure,
    output::{self, Format},
    text,
};

pub(super) async fn run(
    store: Option<&str>,
    prefix: &str,
    settings: &Settings,
    format: Format,
    opened: &Opened,
) -> Result<(), Failure> {
    let space = prefix.split_once('/').map_or(prefix, |(space, _)| space);
    if !space.is_empty() && !space_names().any(|name| name == space) {
        let names = space_names().collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!(
            "invalid value {prefix:?} for --prefix: no space {space:?}"
        ))
        .hint(format!("begin with one of {names}, and a slash")));
    }
    let side = open(store, "STORE", settings, Missing::Refuse, opened).await?;
    dump(&side, prefix, format).await
}

async fn dump(
    side: &rota_engine::transfer::Side,
    prefix: &str,
    format: Format,
) -> Result<(), Failure> {
    let explained = |error: TransferError| explain(&error, "run the command again");
    let snapshot = side.store.snapshot().await;
    let snapshot = snapshot
        .map_err(|error| explained(TransferError::Read { store: side.name.clone(), error }))?;
    let Some(mut dump) = Dump::new(side.name.clone(), snapshot, prefix) else { return Ok(()) };
    loop {
        let entries = dump.next().await.map_err(explained)?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            let shown = if format.is_data() { line(entry) } else { paragraph(entry) };
            if !output::stream(shown.as_bytes())? {
                return Ok(());
            }
        }
    }
}

/// Why a record cannot be shown.
fn unreadable(record: &Readable) -> Option<String> {
    match record {
        Readable::Record(_) => None,
        Readable::Damaged(why) => Some(format!("damaged: {why}")),
        Readable::Newer(why) => Some(format!("of a newer version: {why}")),
        Readable::Foreign(wanted) => Some(format!("the key must be {wanted}")),
    }
}

/// One line of JSON.
fn line(entry: DumpEntry) -> String {
    let unreadable = unreadable(&entry.record);
    let DumpEntry { space, key, bytes, record } = entry;
    let mut shown = json!({ "space": space, "key": key, "bytes": bytes });
    match (record, unreadable) {
        (Readable::Record(record), _) => shown["record"] = record,
        (_, unreadable) => shown["unreadable"] = unreadable.into(),
    }
    format!("{}\n", text::json(shown.to_string()))
}

/// The key, and below it the record.
fn paragraph(entry: DumpEntry) -> String {
    let unreadable = unreadable(&entry.record);
    let DumpEntry { space, key, bytes, record } = entry;
    let head = format!("{space}/{}", text::line(&key));
    match (record, unreadable) {
        (Readable::Record(record), _) => {
            let mut lines = String::new();
            fields(&mut lines, &record, 1);
            format!("{head}\n{lines}")
        }
        (_, why) => format!("{head}\n  {bytes} bytes, {}\n", text::line(&why.unwrap_or_default())),
    }
}

/// The fields of an object, a line each; objects in it are indented.
fn fields(lines: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let Value::Object(map) = value else {
        lines.push_str(&format!("{indent}{}\n", text::json(value.to_string())));
        return;
    };
    for (name, value) in map {
        let name = text::line(name);
        match value {
            // What a client or a worker sent stays in one piece.
            Value::Object(inner) if !inner.is_empty() && !is_content(&name) => {
                lines.push_str(&format!("{indent}{name}:\n"));
                fields(lines, value, depth + 1);
            }
            Value::String(words) if !is_content(&name) => {
                lines.push_str(&format!("{indent}{name}: {}\n", text::line(words)));
            }
            value => {
                lines.push_str(&format!("{indent}{name}: {}\n", text::json(value.to_string())));
            }
        }
    }
}

fn is_content(name: &str) -> bool {
    matches!(name, "payload" | "result" | "output")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(record: Readable) -> DumpEntry {
        DumpEntry { space: "live", key: "t_1\u{1b}".to_owned(), bytes: 7, record }
    }

    #[test]
    fn records_are_shown_field_by_field_and_cannot_move_the_cursor() {
        let record = json!({
            "queue": "q", "lease": { "worker": "w" }, "payload": { "a": [1, "\u{1b}[2J"] },
        });
        assert_eq!(
            paragraph(entry(Readable::Record(record.clone()))),
            "live/t_1\\u{1b}\n  lease:\n    worker: w\n  payload: {\"a\":[1,\"\\u001b[2J\"]}\n  queue: q\n"
        );
        let line = line(entry(Readable::Record(record)));
        assert!(line.ends_with("\"space\":\"live\"}\n") && !line.contains('\u{1b}'), "{line}");
        assert_eq!(
            paragraph(entry(Readable::Damaged("no".to_owned()))),
            "live/t_1\\u{1b}\n  7 bytes, damaged: no\n"
        );
    }
}
