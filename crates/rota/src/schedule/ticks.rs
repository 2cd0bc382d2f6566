//! `rota schedule ticks`: what became of the ticks of a schedule.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client,
    v1::{
        ListTicksRequest, ListTicksResponse, MissedTick, Tick, TickOutcome, TickReason, TimeRange,
    },
};
use rota_proto::json::Words as _;

use super::{
    dates,
    times::{coming, time},
};
use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// Largest page of a server with its default settings.
const PAGE: u32 = 1000;

/// A schedule, and the range of its ticks.
#[derive(Debug, Args)]
pub(crate) struct TicksArgs {
    /// Name of the schedule.
    #[arg(value_parser = Text::new(), add = crate::complete::schedules())]
    name: String,
    /// First nominal time. A local time is in the time zone of the schedule.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    from: Option<String>,
    /// Last nominal time. A day means all of it.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    to: Option<String>,
    /// Maximum number of entries to show.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Lists the ticks.
pub(super) async fn run(args: TicksArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let mut range = TimeRange::default();
    if args.from.is_some() || args.to.is_some() {
        let zone = dates::zone_of(client, &args.name).await?;
        let begin = |text: &String| dates::begin("--from", text, &zone);
        range.from = args.from.as_ref().map(begin).transpose()?;
        // The range of the API is without its end.
        let end = |text: &String| {
            dates::end("--to", text, &zone).map(|mut end| {
                end.seconds += 1;
                end
            })
        };
        range.to = args.to.as_ref().map(end).transpose()?;
    }
    let all = read(client, &args.name, range, args.limit).await?;
    if format.is_data() {
        output::list(&all, "ticks", format)?;
    } else {
        table(&all.ticks).print()?;
        if all.ticks.is_empty() {
            output::note("no ticks were decided yet");
        }
    }
    if all.next_page_token.is_some() {
        let entries = output::counted(args.limit.into(), "entry", "entries");
        let told = format!("showing the last {entries}; use --limit to see more");
        output::more(&told, format);
    }
    Ok(())
}

/// The last ticks, newest first.
pub(super) async fn read(
    client: &Client,
    name: &str,
    range: TimeRange,
    limit: u32,
) -> Result<ListTicksResponse, Failure> {
    let mut all = ListTicksResponse::default();
    let mut page_token = String::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(all.ticks.len()).unwrap_or(limit));
        if left == 0 {
            return Ok(all);
        }
        let request = ListTicksRequest {
            name: name.to_owned(),
            range: Some(range),
            page_size: left.min(PAGE),
            page_token: page_token.clone(),
        };
        let page = client.list_ticks(request).await?;
        all.ticks.extend(page.ticks);
        all.next_page_token.clone_from(&page.next_page_token);
        match page.next_page_token {
            // A cursor that does not move would make this loop endless.
            Some(next) if next != page_token => page_token = next,
            _ => return Ok(all),
        }
    }
}

/// The ticks as a table.
pub(super) fn table(ticks: &[Tick]) -> Table {
    let mut table = Table::new([
        Column::new("NOMINAL TIME").keep(),
        Column::new("TICKS").rank(3),
        Column::new("OUTCOME").state().end(),
        Column::new("TASK").middle(),
        Column::new("DECIDED").rank(2),
    ]);
    for tick in ticks {
        let first = time(tick.nominal_time.unwrap_or_default());
        let span = match tick.last_nominal_time {
            Some(last) => format!("{first} to {}", time(last)),
            None => first,
        };
        table.row([
            span,
            tick.count.to_string(),
            outcome(tick),
            tick.task_id.clone().unwrap_or_else(|| "-".to_owned()),
            output::when(tick.decided_at.unwrap_or_default()),
        ]);
    }
    table
}

/// The outcome with its reason, in words for people.
pub(super) fn outcome(tick: &Tick) -> String {
    in_words(tick.outcome(), tick.reason.map(|_| tick.reason()))
}

/// The same of the last tick that created no task because of a fault or a limit, with its time.
pub(super) fn missed(missed: &MissedTick) -> String {
    let outcome = in_words(missed.outcome(), missed.reason.map(|_| missed.reason()));
    format!("{} ({outcome})", coming(missed.nominal_time.unwrap_or_default()))
}

fn in_words(outcome: TickOutcome, reason: Option<TickReason>) -> String {
    use rota_client::v1::TickReason as R;
    let word = outcome.word();
    let reason = match reason {
        None | Some(R::Unspecified) => return word.to_owned(),
        Some(R::Overlap) => "an earlier task had not ended",
        Some(R::Paused) => "paused",
        Some(R::Exclusion) => "excluded",
        Some(R::Gap) => "the clock jumped over this time",
        Some(R::ByRequest) => "by request",
        Some(R::Conflict) => "another task has its id",
        Some(R::QueueFull) => "the queue was full",
        Some(R::TooManyNames) => "too many queues or kinds",
        Some(R::Expired) => "the task would have expired",
        Some(R::StoreFull) => "the store had no room",
    };
    format!("{word}: {reason}")
}
