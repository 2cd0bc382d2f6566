//! Coming runs of a schedule or of a definition.

use maud::{Markup, html};
use rota_proto::{
    Date,
    v1::{SkippedBy, UpcomingRun},
};

use crate::{
    pages::change::Change,
    parts::{time, when},
};

/// A table of coming runs. With a schedule, its runs can be skipped.
pub(in crate::pages::schedules) fn table(runs: &[UpcomingRun], schedule: Option<&str>) -> Markup {
    let is_delayed = runs.iter().any(|run| run.due_time.is_some());
    let is_local = runs.iter().any(|run| run.utc_offset_seconds != 0);
    let has_notes = runs.iter().any(|run| !run.fires || run.moved_from.is_some());
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        @if is_local { th scope="col" { "Local time" } }
                        th.wide[is_local] scope="col" { "UTC" }
                        th scope="col" { "When" }
                        @if is_delayed { th.wide scope="col" { "Due" } }
                        @if has_notes { th scope="col" { "Note" } }
                        @if schedule.is_some() { th scope="col" { span.sr { "Actions" } } }
                    }
                }
                tbody {
                    @for run in runs {
                        tr data-state=[(!run.fires).then_some("skipped")] {
                            @if is_local { td { (local(&run.local_time)) } }
                            td.wide[is_local] { (utc(run.nominal_time)) }
                            td { (when(run.nominal_time)) }
                            @if is_delayed { td.wide { (when(run.due_time)) } }
                            @if has_notes { td { (why(run)) } }
                            @if let Some(schedule) = schedule { td.number { (switch(run, schedule)) } }
                        }
                    }
                }
            }
        }
    }
}

/// A nominal time in UTC, which the script leaves as it is.
fn utc(at: Option<Date>) -> String {
    let text = at.map(|at| at.to_string()).unwrap_or_default();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// A local time with its offset, such as `2026-03-08 03:00:00 -04:00`.
fn local_text(text: &str) -> String {
    match text.get(..19).zip(text.get(19..)) {
        Some((time, offset)) => format!("{} {offset}", time.replace('T', " ")),
        None => text.to_owned(),
    }
}

/// The same. It breaks between the day and the time alone.
fn local(text: &str) -> Markup {
    let shown = local_text(text);
    let (day, time) = shown.split_once(' ').unwrap_or((&shown, ""));
    html! { span.whole-word { (day) } " " span.whole-word { (time) } }
}

fn why(run: &UpcomingRun) -> Markup {
    html! {
        @if run.fires {
            @if let Some(day) = &run.moved_from { span.note { "moved from " bdi { (day) } } }
        } @else {
            span.note.whole { "skipped"
                @if let Some(reason) = &run.skip_reason { ": " bdi { (reason) } }
            }
        }
    }
}

/// The button that skips a run, or takes that back.
fn switch(run: &UpcomingRun, schedule: &str) -> Markup {
    let is_asked = run.skipped_by.is_some() && run.skipped_by() == SkippedBy::Request;
    let (word, label) = match run.fires {
        true => ("skip", "Skip"),
        false if is_asked => ("keep", "Run after all"),
        false => return html! {},
    };
    let Some(at) = run.nominal_time.map(|at| at.to_string()) else { return html! {} };
    let fields = [("name", schedule), ("do", word), ("time", at.as_str())];
    let change = Change {
        page: "schedule",
        fields: &fields,
        label,
        class: "small",
        title: Some(format!("{label}: {}", local_text(&run.local_time))),
        ..Change::default()
    };
    change.form()
}

/// Warnings about the times of a definition.
pub(in crate::pages::schedules) fn warnings(warnings: &[String]) -> Markup {
    html! {
        @for warning in warnings {
            p.notice data-state="warning" { bdi { (warning) } }
        }
    }
}

/// The coming runs in few words: for lists beside a form.
pub(in crate::pages::schedules) fn short(runs: &[UpcomingRun]) -> Markup {
    html! {
        ol.runs {
            @for run in runs {
                li {
                    span.number { (local(&run.local_time)) }
                    @if run.fires {
                        @if let Some(at) = run.nominal_time { span.note { (time(at)) } }
                    } @else { (why(run)) }
                }
            }
        }
    }
}
