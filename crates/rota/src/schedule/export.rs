//! `rota schedule export`: schedules and their calendars as a file for `apply`.

use std::collections::BTreeSet;

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rota_client::{
    Client,
    v1::{CalendarRequest, ScheduleDefinition, ScheduleRequest},
};

use super::{
    apply::content_of,
    manifest::Content,
    normal,
    select::{FILTERS, SelectArgs},
};
use crate::{
    exit::Failure,
    output::{self, Format},
};

/// Requests at a time.
const CONCURRENT: usize = 8;

/// The schedules to write.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Names of schedules [default: all].
    #[arg(value_name = "NAME", value_parser = Text::new(), conflicts_with_all = FILTERS)]
    names: Vec<String>,
    #[command(flatten)]
    select: SelectArgs,
}

/// Writes the schedules, and the calendars that they use.
pub(super) async fn run(args: ExportArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let names = if args.names.is_empty() {
        let all = client.all_schedules(args.select.filter()?).await?;
        all.into_iter().map(|schedule| schedule.name).collect()
    } else {
        args.names
    };
    // Lists have no payloads.
    let read = names.into_iter().map(|name| async move {
        let schedule = client.get_schedule(ScheduleRequest { name }).await?;
        let definition = schedule.definition.unwrap_or_default();
        Ok::<_, Failure>(normal::without_defaults(definition))
    });
    let schedules: Vec<ScheduleDefinition> =
        stream::iter(read).buffered(CONCURRENT).try_collect().await?;
    let used = schedules.iter().flat_map(|its| &its.exclude).flat_map(|exclude| &exclude.calendars);
    let used: BTreeSet<String> = used.map(|rule| rule.name.clone()).collect();
    let mut calendars = Vec::with_capacity(used.len());
    for name in used {
        calendars.push(content_of(client.get_calendar(CalendarRequest { name }).await?));
    }
    let content = Content { calendars, schedules };
    match format {
        _ if format.is_data() => output::data(&content, format),
        _ if content.schedules.is_empty() => {
            output::note("no schedules");
            Ok(())
        }
        _ => output::text(&content.yaml()?),
    }
}
