//! The schedules: when each runs, what became of its last ticks, and which need attention.

mod act;
pub(super) mod attention;
mod backfill;
mod edit;
mod many;
mod one;
mod ticks;

pub(super) use act::version;
use futures_util::{StreamExt as _, stream};
use maud::{Markup, html};
use rota_proto::{
    json::Words,
    v1::{
        ListSchedulesRequest, ListSchedulesResponse, ListTicksRequest, Schedule, ScheduleFilter,
        ScheduleState, Tick,
    },
};
use tonic::{Code, Response, Status};

use crate::{
    api::Api,
    flash,
    layout::{Shown, View},
    link,
    parts::{Pager, empty, failed, icon, labels, name, pager, plural, state, when},
    trouble::Trouble,
    visit::Visit,
};

/// Schedules on a page. Each costs a call for its ticks, so there are fewer than in other lists.
const PAGE: u32 = 25;
/// Calls for ticks at once.
const TOGETHER: usize = 6;
const STATES: [ScheduleState; 3] =
    [ScheduleState::Active, ScheduleState::Paused, ScheduleState::Completed];

/// Shows a page about schedules. `None` if the name is of another page.
pub(super) async fn show(visit: &Visit) -> Option<Result<Shown, Trouble>> {
    let shown = match visit.page.as_str() {
        "schedules" => list(visit).await,
        "schedule" => one::show(visit).await,
        "schedule-backfill" => backfill::show(visit).await,
        "schedule-edit" => edit::show(visit).await,
        _ => return None,
    };
    Some(shown.map(Shown::from))
}

/// Makes a change of a schedule. `None` if the page is another.
pub(super) async fn act(visit: &Visit) -> Option<Result<Shown, Trouble>> {
    Some(match visit.page.as_str() {
        "schedules" => many::act(visit).await,
        "schedule" => act::act(visit).await,
        "schedule-backfill" => backfill::act(visit).await,
        "schedule-edit" => edit::act(visit).await,
        _ => return None,
    })
}

/// The parameters of the list.
#[derive(Debug, Default)]
struct Asked {
    filter: ScheduleFilter,
    cursor: String,
}

impl Asked {
    fn of(visit: &Visit) -> Result<Self, Trouble> {
        let mut asked = Self::default();
        let wrong = |name: &str, message: &str| Trouble::Parameter {
            name: name.chars().take(64).collect(),
            message: message.to_owned(),
        };
        for (name, value) in visit.pairs.0.iter().filter(|(_, value)| !value.is_empty()) {
            match name.as_str() {
                "prefix" => asked.filter.prefix = Some(value.clone()),
                "state" => {
                    let known = STATES.iter().find(|state| state.word() == value);
                    let known =
                        known.ok_or_else(|| wrong(name, "is active, paused or completed"))?;
                    asked.filter.state = Some((*known).into());
                }
                "label" => {
                    let (key, value) = value
                        .split_once('=')
                        .ok_or_else(|| wrong(name, "has the form name=value"))?;
                    asked.filter.labels.insert(key.to_owned(), value.to_owned());
                }
                "cursor" => asked.cursor.clone_from(value),
                flash::PARAMETER => {}
                _ => return Err(wrong(name, "is not a property of schedules")),
            }
        }
        Ok(asked)
    }

    fn state(&self) -> Option<ScheduleState> {
        self.filter.state.map(|_| self.filter.state())
    }

    /// The parameters of the same list with another state, from its beginning.
    fn pairs(&self, state: Option<ScheduleState>) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        pairs.extend(self.filter.prefix.clone().map(|prefix| ("prefix", prefix)));
        pairs.extend(state.map(|state| ("state", state.word().to_owned())));
        let labels = self.filter.labels.iter();
        pairs.extend(labels.map(|(name, value)| ("label", format!("{name}={value}"))));
        pairs
    }
}

/// The last ticks of a schedule, newest first. Runs of equal ticks are one entry.
async fn last_ticks(api: Api, name: String) -> Result<Vec<Tick>, Status> {
    let page_size = u32::try_from(ticks::SQUARES).unwrap_or(u32::MAX);
    let request = ListTicksRequest { name, page_size, ..ListTicksRequest::default() };
    api.schedules().list_ticks(request).await.map(|list| list.into_inner().ticks)
}

async fn list(visit: &Visit) -> Result<View, Trouble> {
    let asked = Asked::of(visit)?;
    let request = ListSchedulesRequest {
        filter: Some(asked.filter.clone()),
        page_size: PAGE,
        page_token: asked.cursor.clone(),
    };
    let listed = match visit.api.schedules().list_schedules(request).await.map(Response::into_inner)
    {
        Ok(list) => list,
        Err(status) if status.code() == Code::Unauthenticated => return Err(Trouble::SignIn),
        // The filter stays, so that it can be corrected.
        Err(status) => return Ok(view(visit, &asked, Err(status))),
    };
    let names = listed.schedules.iter().map(|schedule| schedule.name.clone());
    let calls: Vec<_> = names.map(|name| last_ticks(visit.api.clone(), name)).collect();
    // The list without its ticks is still a list.
    let ticks = stream::iter(calls)
        .buffered(TOGETHER)
        .map(Result::unwrap_or_default)
        .collect::<Vec<_>>()
        .await;
    Ok(view(visit, &asked, Ok((&listed, &ticks))))
}

fn view(
    visit: &Visit,
    asked: &Asked,
    list: Result<(&ListSchedulesResponse, &[Vec<Tick>]), Status>,
) -> View {
    let body = html! {
        div.head {
            h1 { "Schedules" }
            a.button href="calendars" { "Calendars" }
            a.button href="schedule-edit" { (icon("new")) "New schedule" }
        }
        (states(asked))
        (filter(asked))
        @match list {
            Err(status) => (failed(status)),
            Ok((list, ticks)) => {
                div #list data-live="schedules" {
                    @if list.schedules.is_empty() {
                        (nothing(asked, list.next_page_token.is_some()))
                    } @else {
                        (table(&list.schedules, ticks))
                    }
                    (pager(&Pager { visit, next: list.next_page_token.as_deref(), first: "First" }))
                }
                @if !list.schedules.is_empty() { (many::bar(asked)) }
            }
        }
    };
    View::new("Schedules", "schedules", body)
}

fn states(asked: &Asked) -> Markup {
    let to = |state| link::to("schedules", asked.pairs(state));
    html! {
        nav.chips aria-label="States" {
            a href=(to(None)) aria-current=[asked.state().is_none().then_some("true")] { "All" }
            @for state in STATES {
                a href=(to(Some(state))) data-state=(state.word())
                    aria-current=[(asked.state() == Some(state)).then_some("true")] {
                    span.mark {} (state.word())
                }
            }
        }
    }
}

fn filter(asked: &Asked) -> Markup {
    let all = asked.pairs(asked.state());
    html! {
        form.filter action="schedules" method="get" data-clean="" {
            @for (name, value) in all.iter().filter(|(name, _)| *name != "prefix") {
                input type="hidden" name=(name) value=(value);
            }
            label { "Name begins with"
                input dir="auto" type="text" name="prefix" value=(asked.filter.prefix.as_deref().unwrap_or_default())
                    maxlength="90" autocomplete="off" spellcheck="false";
            }
            label { "Label"
                input dir="auto" type="text" name="label" placeholder="name=value" maxlength="400" autocomplete="off"
                    spellcheck="false";
            }
            button type="submit" { "Filter" }
        }
        @if !asked.filter.labels.is_empty() || asked.filter.prefix.is_some() {
            ul.chosen aria-label="Filter" {
                @for (at, (name, value)) in all.iter().enumerate().filter(|(_, (name, _))| *name != "state") {
                    li {
                        span { (name) " " bdi { (value) } }
                        a href=(link::to("schedules", without(&all, at))) title="Remove"
                            aria-label=(format!("Remove {name} {value}")) { (icon("close")) }
                    }
                }
                li.all { a href="schedules" { "Clear" } }
            }
        }
    }
}

fn without<T>(all: &[T], at: usize) -> impl Iterator<Item = T>
where
    T: Clone,
{
    all.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, one)| one.clone())
}

fn nothing(asked: &Asked, more: bool) -> Markup {
    html! {
        @if more {
            (empty("No match on this page.", "The search goes on with the next page.", None))
        } @else if asked.pairs(asked.state()).is_empty() {
            (empty(
                "There are no schedules yet.",
                "Create one with the button New schedule, or from a terminal:",
                Some("rota schedule create hello --cron '0 9 * * MON-FRI' --time-zone Europe/Berlin --command -- echo hello"),
            ))
        } @else {
            (empty("No schedule matches this filter.", "Remove a part of the filter to see more schedules.", None))
        }
    }
}

fn table(schedules: &[Schedule], ticks: &[Vec<Tick>]) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th.check scope="col" {
                            input.scripted type="checkbox" data-all="bulk" aria-label="Select all rows" autocomplete="off";
                        }
                        th scope="col" { "Schedule" }
                        th scope="col" { "State" }
                        th.wide scope="col" { "Next run" }
                        th.wide scope="col" { "Last ticks" }
                    }
                }
                tbody {
                    @for (schedule, ticks) in schedules.iter().zip(ticks) { (row(schedule, ticks)) }
                }
            }
        }
    }
}

fn row(schedule: &Schedule, ticks: &[Tick]) -> Markup {
    let definition = schedule.definition.as_ref();
    html! {
        tr {
            td.check {
                input type="checkbox" name="id" value=(schedule.name) form="bulk" autocomplete="off"
                    aria-label=(format!("Select {}", schedule.name));
            }
            td.task {
                span.kind { a href=(link::to("schedule", [("name", &schedule.name)])) { (name(&schedule.name)) } }
                div.note { bdi { (schedule.sentence) } }
                @if schedule.state() == ScheduleState::Active && schedule.next_time.is_some() {
                    div.note.narrow { "next " (when(schedule.next_time)) }
                }
                @if let Some(definition) = definition { (labels(&definition.labels)) }
            }
            td { (state_of(schedule)) }
            td.wide { (next(schedule)) }
            td.wide {
                (ticks::strip(ticks, &ticks::Ended::new()))
                @if let Some(why) = ticks.first().and_then(ticks::words) { span.why title=(why) { (why) } }
            }
        }
    }
}

/// The state, and whether the tasks of the schedule fail.
fn state_of(schedule: &Schedule) -> Markup {
    let failures = u64::from(schedule.failures_in_a_row);
    html! {
        (state(schedule.state().word()))
        @if failures > 0 {
            span.why.error.whole {
                (plural(failures, "failure", "failures")) " in a row"
            }
        }
    }
}

fn next(schedule: &Schedule) -> Markup {
    html! {
        @match schedule.state() {
            ScheduleState::Active if schedule.next_time.is_some() => {
                (when(schedule.next_time))
                @if schedule.time_zone != "UTC" { span.why { bdi { (schedule.time_zone) } } }
            }
            ScheduleState::Paused => span.none { "none while paused" },
            _ => span.none { "none" },
        }
    }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{ListTicksResponse, TickOutcome};

    use super::*;
    use crate::{apart::assert_apart, fake::Fake};

    const HOSTILE: &str = "n/\"><script>alert(1)</script>\u{202e}";

    fn fake() -> Fake {
        let schedule = Schedule {
            name: HOSTILE.to_owned(),
            sentence: "At <b>02:30</b>\u{202e}".to_owned(),
            time_zone: HOSTILE.to_owned(),
            next_time: Some("2126-01-31T02:30:00Z".parse().expect("a date")),
            state: ScheduleState::Active.into(),
            failures_in_a_row: 3,
            ..Schedule::default()
        };
        let tick = Tick { outcome: TickOutcome::Missed.into(), count: 1, ..Tick::default() };
        Fake::default()
            .with(
                "ListSchedules",
                &ListSchedulesResponse {
                    schedules: vec![schedule],
                    next_page_token: Some("x".to_owned()),
                },
            )
            .with("ListTicks", &ListTicksResponse { ticks: vec![tick], next_page_token: None })
    }

    #[tokio::test]
    async fn the_address_is_the_filter() {
        let fake = fake();
        let visit = fake.visit("schedules", "prefix=a%2F&state=paused&label=team%3Dx%3Dy&cursor=c");
        let html = list(&visit).await.expect("a page").body.into_string();
        let calls: Vec<ListSchedulesRequest> = fake.calls("ListSchedules");
        let filter = calls[0].filter.clone().expect("a filter");
        assert_eq!(filter.prefix.as_deref(), Some("a/"));
        assert_eq!(filter.state(), ScheduleState::Paused);
        assert_eq!(filter.labels.get("team").map(String::as_str), Some("x=y"));
        assert_eq!(calls[0].page_token, "c");
        assert!(
            html.contains("schedules?prefix=a%2F&amp;label=team%3Dx%3Dy\""),
            "All keeps the rest: {html}"
        );
        for wrong in ["state=unknown", "label=x", "made_up=1"] {
            assert!(Asked::of(&fake.visit("schedules", wrong)).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn hostile_schedules_stay_text_and_failing_ones_are_marked() {
        let query = "prefix=%E2%80%AE&label=x%3D%E2%80%AE";
        let html =
            list(&fake().visit("schedules", query)).await.expect("a page").body.into_string();
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
        assert_apart(&html);
        assert!(html.contains("schedule?name=n%2F%22"), "{html}");
        assert!(html.contains("3 failures in a row"), "{html}");
        assert!(html.contains("<rect data-state=\"missed\""), "{html}");
    }

    #[tokio::test]
    async fn an_error_keeps_the_filter_on_the_page() {
        let fake = Fake::default().refusing("ListSchedules", Status::unavailable("no leader"));
        let view =
            list(&fake.visit("schedules", "prefix=%22%3E%3Cscript%3E")).await.expect("a page");
        let html = view.body.into_string();
        assert!(
            html.contains("no leader") && html.contains("value=\"&quot;&gt;&lt;script&gt;\""),
            "{html}"
        );
    }
}
