//! `rota schedule`: recurring schedules, and previews of expressions and crontabs that need no server. The rules are those
//! of `rota-cron` and of the server; this module reads arguments and files, and prints.

mod apply;
mod args;
mod backfill;
mod create;
mod crontab;
mod dates;
mod diff;
mod export;
mod import;
mod manifest;
mod normal;
mod pause;
mod preview;
mod program;
mod refused;
mod select;
mod show;
mod ticks;
mod times;
mod upcoming;
mod verbs;
mod why;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rota_client::{
    Client,
    v1::{DeleteScheduleRequest, ScheduleRequest, SkipTickRequest},
};
use rota_proto::json::Words;
use serde_json::json;

pub(crate) use self::{dates::text_of, verbs::ScheduleVerb};
use crate::{
    exit::{Exit, Failure},
    manage::wait::{self, Wait},
    output::{self, Format},
};

/// Parses a word of an enumeration of the API.
fn words<T: Words + Send + Sync>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::WORDS.iter().copied())
        .try_map(|word| T::of_word::<serde::de::value::Error>(&word))
}

/// Runs the command. `client` makes a client of the server, for the commands that need one.
pub(crate) async fn run(
    verb: ScheduleVerb,
    client: impl FnOnce() -> Result<Client, Failure>,
    format: Format,
) -> Result<(), Failure> {
    match verb {
        ScheduleVerb::Create(args) => create::run(*args, &client()?, format).await,
        ScheduleVerb::Apply(args) => apply::run(args, &client()?, format).await,
        ScheduleVerb::Get { name } => show::get(&client()?, &name, format).await,
        ScheduleVerb::List { select, limit } => {
            show::list(&client()?, &select, limit, format).await
        }
        ScheduleVerb::Preview(args) => match args.name_on_server() {
            Some(name) => upcoming::preview(&args, name, &client()?, format).await,
            None => preview::run(&args, format),
        },
        ScheduleVerb::Ticks(args) => ticks::run(args, &client()?, format).await,
        ScheduleVerb::Why { name } => why::run(&name, &client()?, format).await,
        ScheduleVerb::Pause(args) => pause::pause(args, &client()?, format).await,
        ScheduleVerb::Resume(which) => pause::resume(which, &client()?, format).await,
        ScheduleVerb::Trigger { name, wait } => trigger(name, wait, &client()?, format).await,
        ScheduleVerb::Skip { name, time, undo } => {
            skip(name, &time, undo, &client()?, format).await
        }
        ScheduleVerb::Backfill(args) => backfill::run(args, &client()?, format).await,
        ScheduleVerb::Delete { name, if_version } => {
            let request =
                DeleteScheduleRequest { name: name.clone(), expected_version: if_version };
            client()?.delete_schedule(request).await?;
            if format.is_data() {
                output::data(&json!({ "name": name, "deleted": true }), format)
            } else {
                output::line(&format!("{name} deleted"))
            }
        }
        ScheduleVerb::Export(args) => export::run(args, &client()?, format).await,
        ScheduleVerb::ImportCrontab(args) => import::run(args, client, format).await,
        ScheduleVerb::ReadCrontab(args) => crontab::run(&args, format),
    }
}

/// Creates a task of a schedule now.
async fn trigger(name: String, wait: bool, client: &Client, format: Format) -> Result<(), Failure> {
    let task = client.trigger_schedule(ScheduleRequest { name }).await?;
    if wait {
        // Before the wait: the task goes on if the user interrupts the wait.
        if format.is_data() {
            output::json_note(&json!({ "id": task.id }));
        } else {
            output::note(&task.id);
        }
        let wait = Wait { id: task.id, timeout: None, known: true };
        return wait::until_ended(client, wait, format).await;
    }
    if format.is_data() { output::data(&task, format) } else { output::line(&task.id) }
}

/// Skips a coming tick, or takes that back.
async fn skip(
    name: String,
    at: &str,
    undo: bool,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    let nominal = if at == "next" {
        let schedule = client.get_schedule(ScheduleRequest { name: name.clone() }).await?;
        let next = if undo { schedule.skip_times.first().copied() } else { schedule.next_time };
        let none =
            if undo { "no coming tick is skipped" } else { "the schedule has no coming tick" };
        next.ok_or_else(|| Failure::new(Exit::Refused, none))?
    } else {
        let zone = dates::zone_of(client, &name).await?;
        dates::date(dates::moment("TIME", at, &zone)?)
    };
    let request = SkipTickRequest { name, nominal_time: Some(nominal), undo };
    let schedule = client.skip_tick(request).await?;
    if format.is_data() {
        return output::data(&schedule, format);
    }
    let what = if undo { "runs after all at" } else { "skips" };
    output::line(&format!("{} {what} {}", schedule.name, times::time(nominal)))?;
    let next = schedule.next_time.map_or_else(|| "none".to_owned(), times::coming);
    output::line(&format!("Next run: {next}"))
}
