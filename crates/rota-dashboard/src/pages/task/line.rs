//! The time line of a task: when it was created and due, its attempts, and its end.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use rota_proto::{
    Date, TimeSpan,
    json::Words,
    v1::{Attempt, AttemptOutcome, FailureReason, Task, TaskError},
};

use super::is_ended;
use crate::{
    link,
    parts::{copy, duration, facts, name, plural, size, state, status_of, time},
};

/// Attempts that are shown, the last ones.
const SHOWN: usize = 30;
/// Bytes of an output that are shown, the last ones.
const OUTPUT: usize = 16 << 10;
/// Width of a bar.
const WIDTH: u64 = 1000;

pub(super) fn line(task: &Task, attempts: &[Attempt]) -> Markup {
    let hidden = attempts.len().saturating_sub(SHOWN);
    let shown = &attempts[hidden..];
    let scale = Scale::of(shown, SystemTime::now().into());
    let was_put_off = attempts.is_empty() && task.run_at > task.created_at;
    html! {
        ol #line.line data-live="tasks" data-stamp=(stamp(task, attempts)) {
            @if let Some(created) = task.created_at {
                li.event { strong { "Created" } " " (time(created)) }
            }
            @if let Some(due) = task.run_at.filter(|_| was_put_off && is_ended(task)) {
                li.event { strong { "Due" } " " (time(due)) }
            }
            @if hidden > 0 {
                li.event.note {
                    (plural(hidden as u64, "earlier attempt", "earlier attempts")) ". "
                    code { "rota task attempts " bdi { (task.id) } } " shows all."
                }
            }
            @for (at, one) in shown.iter().enumerate() { (attempt(one, &scale, at + 1 == shown.len())) }
            (end(task))
        }
    }
}

/// What the line shows but the time of a running attempt, so that it is not replaced by the same.
fn stamp(task: &Task, attempts: &[Attempt]) -> String {
    let last = attempts.last();
    let ended = last.and_then(|last| last.ended_at).map(|at| at.to_string()).unwrap_or_default();
    let outcome = last.map(|last| last.outcome).unwrap_or_default();
    let has_started = last.is_some_and(|last| last.started_at.is_some());
    let run_at = task.run_at.map(|at| at.to_string()).unwrap_or_default();
    format!("{}.{outcome}.{has_started}.{ended}.{}.{run_at}", attempts.len(), task.status)
}

/// How it goes on, or how it ended.
fn end(task: &Task) -> Markup {
    html! {
        @if is_ended(task) {
            li.event { (status_of(task)) @if let Some(at) = task.finished_at { " " (time(at)) } }
        } @else if task.waiting.is_some() {
            li.event.next {
                (status_of(task)) " "
                @if task.attempt > 0 { "next attempt due" } @else { "due" }
                @if let Some(at) = task.run_at { " " (time(at)) }
            }
        }
    }
}

fn attempt(attempt: &Attempt, scale: &Scale, is_last: bool) -> Markup {
    let began = attempt.started_at.or(attempt.assigned_at);
    let took = began.zip(attempt.ended_at).map(|(from, to)| between(from, to));
    html! {
        li.attempt id=(format!("attempt-{}", attempt.attempt)) {
            details open[is_last] data-open[is_last] {
                summary {
                    strong { "Attempt " (attempt.attempt) }
                    (state(word(attempt)))
                    @if let Some(took) = took { span.took { (duration(took)) } }
                    @if let Some(error) = &attempt.error { span.why.error { bdi { (first_line(&error.message)) } } }
                    (bar(attempt, scale))
                }
                (facts([
                    ("Worker", Some(html! { a href=(link::to("workers", [("name", &attempt.worker)])) { (name(&attempt.worker)) } })),
                    ("Assigned", attempt.assigned_at.map(time)),
                    ("Started", attempt.started_at.map(time)),
                    ("Ended", attempt.ended_at.map(time)),
                    ("Snoozed until", attempt.until.map(time)),
                    ("Lease token", Some(html! { code { (attempt.lease_token) } })),
                ]))
                @if let Some(error) = &attempt.error { (fault(error)) }
                (output(&attempt.output_tail))
            }
        }
    }
}

fn fault(error: &TaskError) -> Markup {
    html! {
        p.note {
            "Error"
            @if error.reason() != FailureReason::Error { ": " (error.reason().word().replace('_', " ")) }
            " " (copy(&error.message, "Copy the error"))
        }
        pre.fault tabindex="0" { bdi { (error.message) } }
    }
}

fn output(tail: &[u8]) -> Markup {
    let shown = &tail[tail.len().saturating_sub(OUTPUT)..];
    let text = String::from_utf8_lossy(shown);
    html! {
        @if !tail.is_empty() {
            p.note {
                "Output"
                @if shown.len() < tail.len() { ", the last " (size(shown.len())) " of the kept " (size(tail.len())) }
                " " (copy(&text, "Copy the output"))
            }
            pre.output tabindex="0" { bdi { (text) } }
        }
    }
}

/// The outcome, in the word of its badge. An attempt without a start is assigned.
fn word(attempt: &Attempt) -> &'static str {
    match attempt.outcome() {
        AttemptOutcome::Running if attempt.started_at.is_none() => "assigned",
        outcome => outcome.word(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn between(from: Date, to: Date) -> TimeSpan {
    let span = to.timestamp().duration_since(from.timestamp());
    Duration::try_from(span).unwrap_or_default().into()
}

/// The time that bars show: from the first assignment to the last end, or to now.
struct Scale {
    from: Date,
    to: Date,
}

impl Scale {
    fn of(attempts: &[Attempt], now: Date) -> Self {
        let from = attempts.iter().find_map(|one| one.assigned_at.or(one.started_at));
        let end = |one: &Attempt| one.ended_at.unwrap_or(now);
        let to = attempts.iter().map(end).max().unwrap_or(now);
        Self { from: from.unwrap_or(now), to }
    }

    /// Where a time is on the bar.
    fn at(&self, time: Date) -> u64 {
        let whole = between(self.from, self.to).duration().as_millis().max(1);
        let part = between(self.from, time).duration().as_millis().min(whole);
        u64::try_from(part * u128::from(WIDTH) / whole).unwrap_or(WIDTH)
    }
}

/// A bar that shows when the attempt was assigned and when it ran, beside the others.
fn bar(attempt: &Attempt, scale: &Scale) -> Markup {
    let Some(assigned) = attempt.assigned_at.or(attempt.started_at) else { return html! {} };
    let from = scale.at(assigned);
    let start = scale.at(attempt.started_at.unwrap_or(assigned));
    let end = scale.at(attempt.ended_at.unwrap_or(scale.to));
    // Wide enough to be seen.
    let width = (end - start.min(end)).clamp(6, WIDTH);
    let start = start.min(WIDTH - width);
    html! {
        svg.bar viewBox=(format!("0 0 {WIDTH} 8")) preserveAspectRatio="none" aria-hidden="true" data-state=(word(attempt)) {
            rect.back width=(WIDTH) height="8" {}
            rect.wait x=(from.min(start)) width=(start - from.min(start)) height="8" {}
            rect.run x=(start) width=(width) height="8" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Date> {
        Some(format!("2026-01-31T12:{text}Z").parse().expect("a date"))
    }

    #[test]
    fn bars_share_a_scale_and_stay_in_their_box() {
        let one = Attempt {
            attempt: 1,
            assigned_at: at("00:00"),
            started_at: at("00:10"),
            ended_at: at("00:20"),
            outcome: AttemptOutcome::Failed.into(),
            ..Attempt::default()
        };
        let other = Attempt {
            attempt: 2,
            assigned_at: at("01:40"),
            ended_at: None,
            outcome: AttemptOutcome::Running.into(),
            ..Attempt::default()
        };
        let scale = Scale::of(&[one.clone(), other.clone()], at("01:40").expect("a date"));
        let html = bar(&one, &scale).into_string();
        assert!(html.contains("class=\"wait\" x=\"0\" width=\"100\""), "{html}");
        assert!(html.contains("class=\"run\" x=\"100\" width=\"100\""), "{html}");
        let html = bar(&other, &scale).into_string();
        assert!(html.contains("class=\"run\" x=\"994\" width=\"6\""), "{html}");
        assert!(html.contains("data-state=\"assigned\""), "{html}");
        // Clocks of nodes differ.
        let backwards = Attempt { started_at: at("00:30"), ended_at: at("00:05"), ..one };
        bar(&backwards, &scale);
    }
}
