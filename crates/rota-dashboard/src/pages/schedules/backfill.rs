//! Backfills: the tasks of past ticks. The page says which and how many before it creates them.

use maud::{Markup, html};
use rota_proto::{
    Date, TimeSpan,
    json::Words,
    v1::{
        BackfillOrder, BackfillScheduleRequest, BackfillScheduleResponse, BackfillScope,
        PreviewScheduleRequest, UpcomingRun,
    },
};
use tonic::{Code, Response, Status};

use super::edit::upcoming;
use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{count, failed, name, plural},
    trouble::Trouble,
    visit::{Pairs, Visit},
};

/// Ticks of the range to show.
const SHOWN: usize = 20;
/// Coming runs to read for them. Some are skipped.
const READ: u32 = 100;
const FIELDS: [&str; 7] = ["name", "from", "to", "order", "scope", "priority", "interval"];

/// The request that the parameters describe. `None` while they name no range.
fn request(pairs: &Pairs) -> Result<Option<BackfillScheduleRequest>, Trouble> {
    let wrong = |name: &str, message: String| Trouble::Parameter { name: name.to_owned(), message };
    let schedule = pairs.need("name")?.to_owned();
    let Some(from) = pairs.get("from") else { return Ok(None) };
    let date =
        |name: &str, text: &str, is_end| moment(text, is_end).map_err(|error| wrong(name, error));
    let order = pairs.get("order").map(word_of::<BackfillOrder>);
    let scope = pairs.get("scope").map(word_of::<BackfillScope>);
    let priority = pairs.get("priority").map(|text| text.trim().parse());
    let interval = pairs.get("interval").map(|text| text.trim().parse::<TimeSpan>());
    Ok(Some(BackfillScheduleRequest {
        name: schedule,
        from: Some(date("from", from, false)?),
        to: pairs.get("to").map(|to| date("to", to, true)).transpose()?,
        order: order.transpose().map_err(|error| wrong("order", error))?.map(Into::into),
        priority: priority
            .transpose()
            .map_err(|_| wrong("priority", "is not a number".to_owned()))?,
        interval: interval.transpose().map_err(|error| wrong("interval", error.to_string()))?,
        scope: scope.transpose().map_err(|error| wrong("scope", error))?.map(Into::into),
        dry_run: true,
    }))
}

fn word_of<T: Words>(word: &str) -> Result<T, String> {
    T::of_word::<serde_json::Error>(word).map_err(|error| error.to_string())
}

/// Reads a day, a day with a time, or a date with its offset. Without an offset, it is UTC. A day that ends a range
/// means all of it.
fn moment(text: &str, is_end: bool) -> Result<Date, String> {
    let text = text.trim().replace(' ', "T");
    let full = match text.len() {
        10 if is_end => format!("{text}T23:59:59Z"),
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.clone(),
    };
    full.parse().map_err(|_| {
        format!("{text:?} is not a date such as 2026-03-01, 2026-03-01T12:00 or 2026-03-01T12:00:00+01:00")
    })
}

/// What a dry run says.
struct Counted {
    count: BackfillScheduleResponse,
    /// The first ticks of the range.
    runs: Result<Vec<UpcomingRun>, Status>,
}

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let schedule = visit.pairs.need("name")?.to_owned();
    let read = request(&visit.pairs);
    let counted = match &read {
        Ok(Some(request)) => {
            let mut api = visit.api.schedules();
            let (count, runs) =
                tokio::join!(api.backfill_schedule(request.clone()), runs(visit, request));
            match count.map(Response::into_inner) {
                Ok(count) => Some(Ok(Counted { count, runs })),
                Err(status) if status.code() == Code::Unauthenticated => {
                    return Err(Trouble::SignIn);
                }
                Err(status) => Some(Err(Trouble::from(status))),
            }
        }
        Ok(None) => None,
        Err(_) => read.err().map(Err),
    };
    let body = page(visit, &schedule, counted.as_ref());
    Ok(View::new(format!("Backfill {schedule}"), "schedules", body))
}

/// The first ticks of the range, by the definition of today.
async fn runs(
    visit: &Visit,
    request: &BackfillScheduleRequest,
) -> Result<Vec<UpcomingRun>, Status> {
    // A preview begins after its time, and the range with it.
    let from = request.from.map(|from| Date { seconds: from.seconds - 1, ..from });
    let to = request.to.map(|to| to.seconds);
    let asked = PreviewScheduleRequest { name: request.name.clone(), count: Some(READ), from };
    let preview = visit.api.schedules().preview_schedule(asked).await?.into_inner();
    let is_in =
        |run: &UpcomingRun| run.nominal_time.is_some_and(|at| to.is_none_or(|to| at.seconds <= to));
    Ok(preview.upcoming.into_iter().filter(|run| run.fires && is_in(run)).collect())
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let Some(mut request) = request(&visit.pairs)? else {
        return Err(Trouble::Form("It names no range."));
    };
    // The page of the dry run is the question.
    if !visit.is_confirmed() {
        return Ok(Shown::See(link::to("schedule-backfill", kept(&visit.pairs))));
    }
    request.dry_run = false;
    let name = request.name.clone();
    let begun = visit.api.schedules().backfill_schedule(request).await?.into_inner();
    let text = flash::counted("backfill-started", begun.to_create);
    Ok(Shown::See(link::to("schedule", [("name", name), text])))
}

fn kept(pairs: &Pairs) -> Vec<(&'static str, String)> {
    let kept = FIELDS.iter().filter_map(|name| Some((*name, pairs.get(name)?.to_owned())));
    kept.collect()
}

fn page(visit: &Visit, schedule: &str, counted: Option<&Result<Counted, Trouble>>) -> Markup {
    html! {
        div.head { h1 { "Backfill " (name(schedule)) } }
        p.note {
            "A backfill creates the tasks of past ticks, for example of those that were missed or skipped. First see \
             which they are: nothing is created before you confirm."
        }
        section.card aria-label="Range" { (form(&visit.pairs, schedule)) }
        @match counted {
            None => {}
            Some(Err(trouble)) => (crate::parts::trouble_panel(trouble)),
            Some(Ok(counted)) => (result(&visit.pairs, counted)),
        }
    }
}

fn form(pairs: &Pairs, schedule: &str) -> Markup {
    let input = |label: &str, name: &str, hint: &str| {
        html! {
            label { (label)
                input dir="auto" type="text" name=(name) value=(pairs.get(name).unwrap_or_default()) placeholder=(hint)
                    required[name == "from"] autocomplete="off" spellcheck="false" maxlength="64";
            }
        }
    };
    let choice = |label: &str, name: &str, options: [(&'static str, &'static str); 2]| {
        html! {
            label { (label)
                select name=(name) {
                    @for (word, shown) in options {
                        option value=(word) selected[pairs.get(name) == Some(word)] { (shown) }
                    }
                }
            }
        }
    };
    html! {
        form.filter action="schedule-backfill" method="get" data-clean="" {
            input type="hidden" name="name" value=(schedule);
            (input("From, in UTC", "from", "2026-03-01"))
            (input("To, in UTC", "to", "now"))
            (choice("Ticks", "scope", [("missing", "those without a task"), ("all", "all")]))
            (choice("Tasks run", "order", [("one_by_one", "one by one"), ("parallel", "beside each other")]))
            (input("Time between two", "interval", "0s"))
            (input("Priority, 0 to 9", "priority", "as the schedule"))
            button type="submit" { "Preview" }
        }
    }
}

fn result(pairs: &Pairs, counted: &Counted) -> Markup {
    let count_ = &counted.count;
    html! {
        section aria-labelledby="result-title" {
            h2 #result-title { (plural(count_.to_create, "task", "tasks")) " to create" }
            p {
                "The range has " (plural(count_.occurrences, "tick", "ticks")) ": " (count(count_.present))
                " have a task, and " (count(count_.missing))
                " have none, because there never was one or because retention has removed it."
                @if count_.more { " The range has more ticks than were counted: choose a shorter one to count all." }
            }
            @if count_.to_create > 0 {
                form action="schedule-backfill" method="post" {
                    @for (name, value) in kept(pairs) {
                        input type="hidden" name=(name) value=(value);
                    }
                    input type="hidden" name="confirmed" value="yes";
                    button.main type="submit" {
                        "Create " (plural(count_.to_create, "task", "tasks"))
                    }
                }
            }
            @match &counted.runs {
                Err(status) => (failed(status.clone())),
                Ok(runs) if runs.is_empty() => {}
                Ok(runs) => {
                    h3 { "The first ticks of the range" }
                    (upcoming::table(&runs[..runs.len().min(SHOWN)], None))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::SchedulePreview;

    use super::*;
    use crate::fake::Fake;

    const NAME: &str = "n/\"><script>alert(1)</script>\u{202e}";

    fn fake() -> Fake {
        let count = BackfillScheduleResponse {
            occurrences: 31,
            present: 1,
            missing: 30,
            to_create: 1234,
            ..BackfillScheduleResponse::default()
        };
        let run = |day: &str| UpcomingRun {
            nominal_time: Some(format!("{day}T02:30:00Z").parse().expect("a date")),
            local_time: format!("{day}T03:30:00+01:00"),
            utc_offset_seconds: 3600,
            fires: true,
            ..UpcomingRun::default()
        };
        let upcoming = vec![run("2026-01-30"), run("2026-01-31"), run("2026-02-01")];
        Fake::default()
            .with("BackfillSchedule", &count)
            .with("PreviewSchedule", &SchedulePreview { upcoming, ..SchedulePreview::default() })
    }

    fn query(more: &[(&str, &str)]) -> String {
        let pairs = [&[("name", NAME)], more].concat();
        link::to("x", pairs).split_once('?').expect("a query").1.to_owned()
    }

    #[tokio::test]
    async fn a_backfill_is_counted_first_and_says_which_ticks() {
        let fake = fake();
        let query = query(&[("from", "2026-01-30"), ("to", "2026-01-31"), ("order", "parallel")]);
        let html = show(&fake.visit("schedule-backfill", &query)).await.expect("a page").body;
        let html = html.into_string();
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("Create 1,234 tasks"), "{html}");
        assert!(html.contains("2026-01-31 02:30:00<") && !html.contains("2026-02-01"), "{html}");
        let calls: Vec<BackfillScheduleRequest> = fake.calls("BackfillSchedule");
        assert!(calls.iter().all(|call| call.dry_run));
        assert_eq!(calls[0].to, Some("2026-01-31T23:59:59Z".parse().expect("a date")));
        assert_eq!(calls[0].order(), BackfillOrder::Parallel);
    }

    #[tokio::test]
    async fn only_a_confirmed_form_creates_tasks() {
        let fake = fake();
        let form =
            [("name", NAME), ("from", "2026-01-30T00:00"), ("scope", "all"), ("interval", "5s")];
        let asked = act(&fake.form("schedule-backfill", &form)).await.expect("an answer");
        let Shown::See(link) = asked else { panic!("not asked") };
        assert!(
            link.starts_with("schedule-backfill?name=n%2F") && link.contains("scope=all"),
            "{link}"
        );
        assert_eq!(fake.methods(), [""; 0]);
        let form = [form.as_slice(), &[("confirmed", "yes")]].concat();
        let done = act(&fake.form("schedule-backfill", &form)).await.expect("a change");
        let Shown::See(link) = done else { panic!("not done") };
        assert!(link.ends_with("flash=backfill-started.1234"), "{link}");
        let request = BackfillScheduleRequest {
            name: NAME.to_owned(),
            from: Some("2026-01-30T00:00:00Z".parse().expect("a date")),
            scope: Some(BackfillScope::All.into()),
            interval: Some("5s".parse().expect("a span")),
            ..BackfillScheduleRequest::default()
        };
        assert_eq!(fake.calls::<BackfillScheduleRequest>("BackfillSchedule"), [request]);
    }

    #[tokio::test]
    async fn a_wrong_range_keeps_the_form() {
        let fake = fake();
        let query = query(&[("from", "yesterday\"><script>\u{202e}")]);
        let html = show(&fake.visit("schedule-backfill", &query)).await.expect("a page").body;
        let html = html.into_string();
        crate::apart::assert_apart(&html);
        assert!(html.contains("yesterday&quot;") && !html.contains("<script"), "{html}");
        assert_eq!(fake.methods(), [""; 0]);
    }

    #[test]
    fn times_without_an_offset_are_utc() {
        for (text, is_end, read) in [
            ("2026-03-01", false, "2026-03-01T00:00:00Z"),
            ("2026-03-01", true, "2026-03-01T23:59:59Z"),
            ("2026-03-01 12:30", true, "2026-03-01T12:30:00Z"),
            ("2026-03-01T12:30:10", false, "2026-03-01T12:30:10Z"),
            ("2026-03-01T12:30:10+01:00", false, "2026-03-01T11:30:10Z"),
        ] {
            assert_eq!(moment(text, is_end), Ok(read.parse().expect("a date")), "{text}");
        }
        for wrong in ["", "now", "2026-02-30", "äääää"] {
            assert!(moment(wrong, false).is_err(), "{wrong}");
        }
    }
}
