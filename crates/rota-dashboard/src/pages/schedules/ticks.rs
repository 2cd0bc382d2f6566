//! Ticks: the words of their outcomes, and a strip with a square for each.

use std::collections::HashMap;

use maud::{Markup, html};
use rota_proto::{
    Date,
    json::Words,
    v1::{TaskStatus, Tick, TickOutcome, TickReason},
};

use crate::parts::{count, id, plural, state, status, when};

/// Squares of a strip.
pub(super) const SQUARES: usize = 30;
/// Width of a square with the space after it.
const STEP: usize = 8;
const SIDE: usize = 6;
const HEIGHT: usize = 16;

/// The states of the tasks that ticks created, by id. Tasks that retention has removed are absent.
pub(super) type Ended = HashMap<String, TaskStatus>;

/// Why a tick has no task, by the number of its reason.
pub(super) const fn reason(number: Option<i32>) -> Option<&'static str> {
    let Some(number) = number else { return None };
    const fn is(number: i32, reason: TickReason) -> bool {
        number == reason as i32
    }
    Some(match number {
        _ if is(number, TickReason::Overlap) => "an earlier task had not ended",
        _ if is(number, TickReason::Paused) => "paused",
        _ if is(number, TickReason::Exclusion) => "excluded",
        _ if is(number, TickReason::Gap) => "the clock jumped over this time",
        _ if is(number, TickReason::ByRequest) => "by request",
        _ if is(number, TickReason::Conflict) => "another task has its id",
        _ if is(number, TickReason::QueueFull) => "the queue was full",
        _ if is(number, TickReason::TooManyNames) => "too many queues or kinds",
        _ if is(number, TickReason::Expired) => "the task would have expired",
        _ if is(number, TickReason::StoreFull) => "the store had no room",
        _ => return None,
    })
}

/// What became of a tick without a task, in words.
pub(super) fn words(tick: &Tick) -> Option<String> {
    let word = tick.outcome().word();
    match (tick.outcome(), reason(tick.reason)) {
        (TickOutcome::Fired, _) => None,
        (_, Some(reason)) => Some(format!("last {word}: {reason}")),
        (_, None) => Some(format!("last {word}")),
    }
}

/// Whether somebody should look at a tick with this outcome.
pub(super) const fn is_bad(outcome: TickOutcome) -> bool {
    matches!(outcome, TickOutcome::Missed | TickOutcome::Refused)
}

/// The word of a square: the end of its task if that went wrong, otherwise the outcome of the tick.
fn word(tick: &Tick, ended: &Ended) -> &'static str {
    let task = tick.task_id.as_ref().and_then(|id| ended.get(id));
    match task {
        Some(TaskStatus::Failed) => "failed",
        Some(TaskStatus::Expired) => "expired",
        Some(TaskStatus::Cancelled) => "cancelled",
        Some(TaskStatus::Running | TaskStatus::Assigned) => "running",
        _ => tick.outcome().word(),
    }
}

/// The outcome of a tick as a badge, with its reason.
pub(super) fn outcome(outcome: TickOutcome, number: Option<i32>) -> Markup {
    html! {
        (state(outcome.word()))
        @if let Some(reason) = reason(number) { " " span.note { (reason) } }
    }
}

/// A square for each of the last ticks, oldest first.
pub(super) fn strip(ticks: &[Tick], ended: &Ended) -> Markup {
    let mut squares: Vec<&Tick> = Vec::with_capacity(SQUARES);
    for tick in ticks {
        let room = SQUARES - squares.len();
        let number = usize::try_from(tick.count.max(1)).unwrap_or(room).min(room);
        squares.extend(std::iter::repeat_n(tick, number));
    }
    squares.reverse();
    let bad = squares.iter().filter(|tick| is_bad(tick.outcome())).count();
    let failed = squares.iter().filter(|tick| word(tick, ended) == "failed").count();
    let label = format!(
        "Last {}: {} missed or refused, {} failed",
        plural(squares.len() as u64, "tick", "ticks"),
        count(bad as u64),
        count(failed as u64)
    );
    let width = (squares.len() * STEP).max(1);
    html! {
        @if squares.is_empty() {
            span.none { "no tick yet" }
        } @else {
            svg.strip viewBox=(format!("0 0 {width} {HEIGHT}")) width=(width) height=(HEIGHT) role="img" aria-label=(label) {
                @for (at, tick) in squares.iter().enumerate() {
                    rect data-state=(word(tick, ended)) x=(at * STEP) width=(SIDE)
                        height=(HEIGHT) rx="1.5" {
                        title { (title(tick, ended)) }
                    }
                }
            }
        }
    }
}

fn title(tick: &Tick, ended: &Ended) -> String {
    let shown = |at: Option<Date>| {
        let text = at.unwrap_or_default().to_string();
        text.get(..19).unwrap_or(&text).replace('T', " ")
    };
    let mut text = format!("{} UTC", shown(tick.nominal_time));
    if tick.last_nominal_time.is_some() {
        text = format!(
            "{text} to {} UTC, {}",
            shown(tick.last_nominal_time),
            plural(tick.count, "tick", "ticks")
        );
    }
    text = format!("{text}: {}", tick.outcome().word());
    if let Some(reason) = reason(tick.reason) {
        text = format!("{text}, {reason}");
    }
    match tick.task_id.as_ref().and_then(|id| ended.get(id)) {
        Some(status) => format!("{text}, {}", status.word()),
        None => text,
    }
}

/// A table of ticks, newest first.
pub(super) fn table(ticks: &[Tick], ended: &Ended) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Nominal time" }
                        th scope="col" { "Outcome" }
                        th scope="col" { "Task" }
                        th.wide scope="col" { "Decided" }
                    }
                }
                tbody {
                    @for tick in ticks {
                        tr {
                            td {
                                (when(tick.nominal_time))
                                @if tick.last_nominal_time.is_some() {
                                    " to " (when(tick.last_nominal_time))
                                    " " span.note { (plural(tick.count, "tick", "ticks")) }
                                }
                            }
                            td { (outcome(tick.outcome(), tick.reason)) }
                            td {
                                @match &tick.task_id {
                                    Some(task) => {
                                        (id(task)) " "
                                        @match ended.get(task) {
                                            Some(word) => (status(*word)),
                                            None => {}
                                        }
                                    }
                                    None => span.none { "—" },
                                }
                            }
                            td.wide { (when(tick.decided_at)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(outcome: TickOutcome, count: u64, task: Option<&str>) -> Tick {
        let at = Some("2026-01-31T02:30:00Z".parse().expect("a date"));
        let last = at.filter(|_| count > 1);
        Tick {
            nominal_time: at,
            last_nominal_time: last,
            count,
            outcome: outcome.into(),
            task_id: task.map(str::to_owned),
            ..Tick::default()
        }
    }

    #[test]
    fn a_strip_has_a_square_for_each_tick_and_marks_what_went_wrong() {
        let ticks = [
            tick(TickOutcome::Fired, 1, Some("n/2")),
            tick(TickOutcome::Missed, 2, None),
            tick(TickOutcome::Fired, 1, Some("n/1")),
        ];
        let ended = Ended::from([("n/2".to_owned(), TaskStatus::Failed)]);
        let html = strip(&ticks, &ended).into_string();
        let states: Vec<_> =
            html.split("data-state=\"").skip(1).filter_map(|at| at.split('"').next()).collect();
        assert_eq!(states, ["fired", "missed", "missed", "failed"]);
        assert!(html.contains("Last 4 ticks: 2 missed or refused, 1 failed"), "{html}");
        assert!(!html.contains("style="), "the policy allows no styles in the page");
    }

    #[test]
    fn a_long_run_fills_the_strip_and_no_more() {
        let many = [tick(TickOutcome::Skipped, u64::MAX, None), tick(TickOutcome::Fired, 1, None)];
        let html = strip(&many, &Ended::new()).into_string();
        assert_eq!(html.matches("<rect").count(), SQUARES);
        assert!(html.contains("18,446,744,073,709,551,615 ticks"), "{html}");
    }

    #[test]
    fn hostile_ids_stay_text() {
        let hostile = "n/\"><script>alert(1)</script>\u{202e}";
        let html =
            table(&[tick(TickOutcome::Fired, 1, Some(hostile))], &Ended::new()).into_string();
        assert!(!html.contains("<script"), "{html}");
        crate::apart::assert_apart(&html);
    }
}
