//! `rota schedule read-crontab`: what the lines of a crontab mean. It only reads.

use rota_cron::{
    Recurrence, RecurrenceSpec, Timestamp, Zone,
    crontab::{Content, Entry, Line, MAX_CRONTAB, parse},
};
use serde::Serialize;

use super::{args::CrontabArgs, dates};
use crate::{
    exit::Failure,
    output::{self, Format},
};

/// A line, and what is to be said about it.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// What Debian's cron does differently, and what becomes of variables.
    pub(super) notes: Vec<String>,
    /// Whether Debian's cron does something else when the clock changes.
    #[serde(skip)]
    pub(super) differs: bool,
}

pub(super) fn run(args: &CrontabArgs, format: Format) -> Result<(), Failure> {
    let zone = Zone::find(&args.time_zone)
        .map_err(|error| Failure::usage(format!("--time-zone: {error}")))?;
    let from = dates::from(args.from.as_deref(), &zone)?;
    let text = dates::text_of(&args.file, MAX_CRONTAB)?;
    let lines: Vec<Explained> =
        parse(&text, args.system).iter().map(|line| explained(line, &zone, from)).collect();
    if format.is_data() { output::data(&lines, format) } else { print(&lines) }
}

/// What a line means.
pub(super) fn explained(line: &Line, zone: &Zone, from: Timestamp) -> Explained {
    let mut explained = Explained {
        line: line.number,
        text: line.text.clone(),
        kind: "entry",
        description: None,
        next_run: None,
        user: None,
        command: None,
        reason: None,
        notes: Vec::new(),
        differs: false,
    };
    match &line.content {
        Content::Entry(entry) => explain(&mut explained, entry, zone, from),
        Content::Assignment { name, value, note } => {
            explained.kind = "variable";
            let shown = if value.is_empty() { "empty" } else { value };
            explained.description = Some(format!("Variable {name}: {shown}"));
            explained.notes.extend(note.map(str::to_owned));
        }
        Content::NotCarriedOver { reason } => {
            explained.kind = "not_carried_over";
            explained.reason = Some(reason.clone());
        }
        Content::Invalid { reason } => {
            explained.kind = "invalid";
            explained.reason = Some(reason.clone());
        }
    }
    explained
}

fn explain(explained: &mut Explained, entry: &Entry, zone: &Zone, from: Timestamp) {
    let spec = RecurrenceSpec {
        expressions: vec![entry.expression.clone()],
        time_zone: Some(entry.zone.clone().unwrap_or_else(|| zone.name().to_owned())),
        ..RecurrenceSpec::default()
    };
    match Recurrence::new(&spec, "") {
        Ok(recurrence) => {
            explained.description = Some(recurrence.describe());
            let next = recurrence.upcoming(dates::just_before(from), 1, &());
            explained.next_run = next.last().map(ToString::to_string);
        }
        // The parser checks expressions, so only a zone can be wrong.
        Err(error) => {
            explained.kind = "invalid";
            explained.reason = Some(error.to_string());
        }
    }
    explained.user.clone_from(&entry.user);
    explained.command = Some(entry.command.clone());
    explained.notes.extend(entry.beyond_debian.clone());
    let differences = entry.differences(zone, from);
    explained.differs = !differences.is_empty();
    explained.notes.extend(differences.into_iter().map(|difference| difference.text));
}

/// The number of lines of each kind.
pub(super) fn totals<'a>(kinds: impl Iterator<Item = &'a str>) -> String {
    let kinds: Vec<_> = kinds.collect();
    let count = |kind: &str, one: &str, many: &str| {
        let count = kinds.iter().filter(|its| **its == kind).count();
        output::counted(count as u64, one, many)
    };
    [
        count("entry", "entry", "entries"),
        count("variable", "variable", "variables"),
        count("not_carried_over", "line not carried over", "lines not carried over"),
        count("invalid", "invalid line", "invalid lines"),
    ]
    .join(", ")
}

fn print(lines: &[Explained]) -> Result<(), Failure> {
    for line in lines {
        output::line(&format!("{}: {}", line.line, line.text.trim()))?;
        let reason = line.reason.as_ref().map(|reason| match line.kind {
            "invalid" => format!("cannot be read: {reason}"),
            _ => reason.clone(),
        });
        let next = line.next_run.as_ref().map(|next| format!("Next run: {next}"));
        let told = line.description.clone().into_iter().chain(next).chain(reason);
        for text in told.chain(line.notes.iter().map(|note| format!("note: {note}"))) {
            output::line(&format!("    {text}"))?;
        }
    }
    let totals = totals(lines.iter().map(|line| line.kind));
    output::line(&format!("{totals}. Nothing was created."))
}
