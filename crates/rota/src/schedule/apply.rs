//! `rota schedule apply`: makes the server have the schedules and calendars of files. Shows the differences first.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rota_client::{
    Client, ClientError, Reason,
    v1::{self, ScheduleDefinition},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    diff,
    manifest::{self, CalendarContent, Manifest, Placed},
    normal,
    select::SelectArgs,
};
use crate::{
    exit::{Exit, Failure},
    output::{self, Format},
    yaml,
};

/// Requests at a time.
const CONCURRENT: usize = 8;

/// Files, and what to do with them.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// YAML file with schedules and calendars, or - for standard input. Can be repeated.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Show the differences, and change nothing.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// Delete the schedules with the given labels that are not in the files.
    #[arg(long, requires = "labels")]
    prune: bool,
    /// Label of the schedules that --prune may delete. Can be repeated; all labels must match.
    #[arg(long = "label", value_name = "NAME=VALUE", requires = "prune")]
    labels: Vec<String>,
}

/// What happens to a schedule or calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Create,
    Change,
    Delete,
    None,
}

/// A change, ready to be sent.
#[derive(Debug)]
enum Work {
    Calendar(Box<CalendarContent>),
    Schedule(Box<ScheduleDefinition>),
    Delete,
}

/// A difference between the files and the server.
#[derive(Debug)]
struct Change {
    action: Action,
    kind: &'static str,
    name: String,
    place: String,
    /// Version on the server, 0 for none.
    version: u64,
    /// YAML on the server and in the files.
    before: String,
    after: String,
    notes: Vec<String>,
    work: Work,
}

/// Applies the files.
pub(super) async fn run(args: ApplyArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let manifest = manifest::read(&args.files)?;
    let labels = args.prune.then(|| SelectArgs::labelled(args.labels.clone()));
    let how = How { dry_run: args.dry_run, yes: args.yes, prune: labels };
    apply(manifest, how, client, format).await
}

/// How to apply a manifest.
#[derive(Debug, Default)]
pub(super) struct How {
    pub(super) dry_run: bool,
    pub(super) yes: bool,
    /// Selects schedules to delete that the manifest does not have.
    pub(super) prune: Option<SelectArgs>,
}

/// Shows the differences, asks, and changes the server.
pub(super) async fn apply(
    manifest: Manifest,
    how: How,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    let mut changes = changes(client, &manifest, how.prune.as_ref()).await?;
    check(client, &mut changes).await?;
    let count = |action: Action| changes.iter().filter(|its| its.action == action).count();
    let total = changes.len() - count(Action::None);
    let plan = format!(
        "{} to create, {} to change, {} to delete, {} unchanged",
        count(Action::Create),
        count(Action::Change),
        count(Action::Delete),
        count(Action::None)
    );
    if !format.is_data() {
        changes.iter().try_for_each(show)?;
        output::line(&plan)?;
    }
    let wanted = !how.dry_run && total > 0;
    if wanted && !how.yes {
        if !output::is_interactive() {
            let why =
                "cannot ask for confirmation without a terminal; add --yes to apply the changes";
            return Err(Failure::usage(why));
        }
        if !output::confirm("apply these changes?")? {
            return Err(Failure::new(Exit::Failure, "nothing was changed"));
        }
    }
    if format.is_data() {
        let shown: Vec<Value> = changes.iter().map(json_of).collect();
        if !wanted {
            return output::data(&json!({ "applied": 0, "changes": shown }), format);
        }
        let applied = send(client, changes, format).await?;
        return output::data(&json!({ "applied": applied, "changes": shown }), format);
    }
    if wanted {
        let applied = send(client, changes, format).await?;
        output::line(&format!("{applied} applied"))?;
    }
    Ok(())
}

/// The differences: first calendars, which schedules need, then schedules, then what is deleted.
async fn changes(
    client: &Client,
    manifest: &Manifest,
    prune: Option<&SelectArgs>,
) -> Result<Vec<Change>, Failure> {
    let calendars = manifest.calendars.iter().map(|(name, placed)| calendar(client, name, placed));
    let mut changes: Vec<Change> =
        stream::iter(calendars).buffered(CONCURRENT).try_collect().await?;
    let schedules = manifest.schedules.iter().map(|(name, placed)| schedule(client, name, placed));
    let schedules: Vec<Change> = stream::iter(schedules).buffered(CONCURRENT).try_collect().await?;
    changes.extend(schedules);
    if let Some(prune) = prune {
        let filter = prune.filter()?;
        for change in &mut changes {
            let Work::Schedule(definition) = &change.work else { continue };
            if filter.labels.iter().any(|(name, value)| definition.labels.get(name) != Some(value))
            {
                let note =
                    "it does not have the labels of --prune, so a later --prune does not see it";
                change.notes.push(note.to_owned());
            }
        }
        let known = client.all_schedules(filter).await?;
        let gone = known.into_iter().filter(|its| !manifest.schedules.contains_key(&its.name));
        for schedule in gone {
            changes.push(Change {
                action: Action::Delete,
                kind: "schedule",
                place: "not in the files".to_owned(),
                version: schedule.version,
                before: normal::yaml(schedule.definition.unwrap_or_default())?,
                after: String::new(),
                notes: Vec::new(),
                name: schedule.name,
                work: Work::Delete,
            });
        }
    }
    Ok(changes)
}

/// The answer, or none if there is no such thing.
pub(super) fn known<T>(
    answer: Result<T, ClientError>,
    unknown: Reason,
) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.reason() == Some(unknown) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn calendar(
    client: &Client,
    name: &str,
    placed: &Placed<CalendarContent>,
) -> Result<Change, Failure> {
    let asked = client.get_calendar(v1::CalendarRequest { name: name.to_owned() }).await;
    let found = known(asked, Reason::UnknownCalendar)?;
    let text = |content: &CalendarContent| {
        let json = serde_json::to_string(content).map_err(Failure::failed)?;
        yaml::of_json(&json).map_err(Failure::failed)
    };
    let version = found.as_ref().map_or(0, |found| found.version);
    let before = found.map(content_of);
    let mut after = placed.content.clone();
    // The server sorts them.
    if let Some(before) = &before
        && is_permutation(&before.entries, &after.entries)
    {
        after.entries.clone_from(&before.entries);
    }
    let (before, after) =
        (before.as_ref().map(text).transpose()?.unwrap_or_default(), text(&after)?);
    Ok(Change {
        action: action(version, &before, &after),
        kind: "calendar",
        name: name.to_owned(),
        place: placed.place.clone(),
        version,
        before,
        after,
        notes: Vec::new(),
        work: Work::Calendar(Box::new(placed.content.clone())),
    })
}

/// A calendar of the server in the form of files.
pub(super) fn content_of(calendar: v1::Calendar) -> CalendarContent {
    let v1::Calendar { name, entries, description, .. } = calendar;
    CalendarContent { name, description, entries }
}

fn is_permutation(one: &[v1::CalendarEntry], other: &[v1::CalendarEntry]) -> bool {
    let sorted = |entries: &[v1::CalendarEntry]| {
        let mut sorted: Vec<_> =
            entries.iter().map(|its| (its.days.clone(), its.note.clone())).collect();
        sorted.sort();
        sorted
    };
    sorted(one) == sorted(other)
}

async fn schedule(
    client: &Client,
    name: &str,
    placed: &Placed<ScheduleDefinition>,
) -> Result<Change, Failure> {
    let asked = client.get_schedule(v1::ScheduleRequest { name: name.to_owned() }).await;
    let found = known(asked, Reason::UnknownSchedule)?;
    let version = found.as_ref().map_or(0, |found| found.version);
    let mut notes = Vec::new();
    let mut before = String::new();
    if let Some(found) = found {
        let definition = found.definition.unwrap_or_default();
        if times(&definition) != times(&placed.content) {
            notes.push(
                "its times change, so it begins at now: nothing runs for the past".to_owned(),
            );
        }
        before = normal::yaml(definition)?;
    }
    let after = normal::yaml(placed.content.clone())?;
    Ok(Change {
        action: action(version, &before, &after),
        kind: "schedule",
        name: name.to_owned(),
        place: placed.place.clone(),
        version,
        before,
        after,
        notes,
        work: Work::Schedule(Box::new(placed.content.clone())),
    })
}

/// The part of a definition that says when it runs.
fn times(definition: &ScheduleDefinition) -> ScheduleDefinition {
    let definition = normal::without_defaults(definition.clone());
    let ScheduleDefinition {
        expressions,
        intervals,
        dates,
        exclude,
        start,
        end,
        time_zone,
        gap,
        fold,
        ..
    } = definition;
    ScheduleDefinition {
        expressions,
        intervals,
        dates,
        exclude,
        start,
        end,
        time_zone,
        gap,
        fold,
        ..ScheduleDefinition::default()
    }
}

fn action(version: u64, before: &str, after: &str) -> Action {
    match version {
        0 => Action::Create,
        _ if before == after => Action::None,
        _ => Action::Change,
    }
}

/// Has the server check each definition, so that a fault in one of them changes nothing. Adds its warnings.
async fn check(client: &Client, changes: &mut [Change]) -> Result<(), Failure> {
    let new = changes.iter().filter(|its| its.version == 0 && its.kind == "calendar");
    let missing: BTreeSet<String> = new.map(|its| its.name.clone()).collect();
    for change in changes.iter_mut().filter(|its| its.action != Action::None) {
        let Work::Schedule(definition) = &change.work else { continue };
        let request = v1::PreviewDefinitionRequest {
            definition: Some((**definition).clone()),
            count: Some(1),
            from: None,
        };
        let preview = client.preview_definition(request).await;
        let preview = preview.map_err(|error| Failure::from(error).after(&change.place))?;
        let calendars = definition.exclude.iter().flat_map(|exclude| &exclude.calendars);
        let is_early = calendars.into_iter().any(|rule| missing.contains(&rule.name));
        // The server does not know the calendar yet, so it would warn of that.
        if !is_early {
            change
                .notes
                .extend(preview.warnings.into_iter().map(|text| format!("warning: {text}")));
        }
    }
    Ok(())
}

fn show(change: &Change) -> Result<(), Failure> {
    let Change { kind, name, place, .. } = change;
    let (sign, word) = match change.action {
        Action::None => return Ok(()),
        Action::Create => ('+', "create"),
        Action::Change => ('~', "change"),
        Action::Delete => ('-', "delete"),
    };
    output::line(&format!("{sign} {word} {kind} {name} ({place})"))?;
    for line in diff::lines(&change.before, &change.after) {
        output::line(&format!("    {line}"))?;
    }
    for note in &change.notes {
        output::line(&format!("    # {note}"))?;
    }
    output::line("")
}

fn json_of(change: &Change) -> Value {
    let Change { action, kind, name, place, before, after, notes, .. } = change;
    json!({
        "action": action, "kind": kind, "name": name, "place": place,
        "before": before, "after": after, "notes": notes,
    })
}

/// Sends the changes, one after the other. Returns their number.
async fn send(client: &Client, changes: Vec<Change>, format: Format) -> Result<usize, Failure> {
    let mut applied = 0;
    for change in changes.into_iter().filter(|its| its.action != Action::None) {
        let Change { kind, name, version, work, .. } = change;
        let expected_version = Some(version);
        let sent = match work {
            Work::Calendar(content) => {
                client.put_calendar(content.request(expected_version)).await.map(|_| ())
            }
            Work::Schedule(definition) => {
                let definition = Some(*definition);
                let request = v1::PutScheduleRequest { definition, expected_version };
                client.put_schedule(request).await.map(|_| ())
            }
            Work::Delete => {
                let request = v1::DeleteScheduleRequest { name: name.clone(), expected_version };
                client.delete_schedule(request).await.map(|_| ())
            }
        };
        if let Err(error) = sent {
            let conflict = error.reason() == Some(Reason::VersionConflict);
            let failure = Failure::from(error).after(&format!("{kind} {name}"));
            let failure =
                if conflict { failure.and_hint("run the command again") } else { failure };
            return Err(failure.and_hint(&format!("{applied} changes were applied before")));
        }
        applied += 1;
        if !format.is_data() {
            output::note(&format!("{kind} {name} done"));
        }
    }
    Ok(applied)
}
