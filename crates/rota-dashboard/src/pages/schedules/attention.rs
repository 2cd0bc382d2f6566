//! Finds the schedules that need attention: those that were paused because their tasks failed, those whose tasks fail,
//! and those whose ticks are late, were missed or were refused.
//!
//! The overview asks often, so it looks at the first schedules by name and at the first paused ones alone.

use std::time::{Duration, SystemTime};

use maud::html;
use rota_proto::{
    Date, TimeSpan,
    json::Words,
    v1::{ListSchedulesRequest, Schedule, ScheduleFilter, ScheduleState},
};

use tonic::Status;

use super::ticks;
use crate::{
    link,
    parts::{Attention, Weight, duration, name, plural},
    visit::Visit,
};

/// Schedules to look at, in each of two lists.
const LOOK: u32 = 200;
/// Entries of one kind. The list of schedules has all.
const EACH: usize = 5;
/// Delay of a tick, beyond its jitter, from which somebody should know of it.
const LATE: Duration = Duration::from_secs(60);
/// Time for which a missed tick is shown, or longer if no later one has created a task.
const MISSED: Duration = Duration::from_secs(24 * 3600);

/// Reads the schedules to look at.
pub(in crate::pages) async fn read(visit: &Visit) -> Result<Vec<Schedule>, Status> {
    let list = |state: Option<ScheduleState>| {
        let filter = ScheduleFilter { state: state.map(Into::into), ..ScheduleFilter::default() };
        let request = ListSchedulesRequest {
            filter: Some(filter),
            page_size: LOOK,
            ..ListSchedulesRequest::default()
        };
        let mut api = visit.api.schedules();
        async move {
            let list = api.list_schedules(request).await;
            list.map(|list| list.into_inner().schedules)
        }
    };
    let (found, paused) = tokio::join!(list(None), list(Some(ScheduleState::Paused)));
    let mut found = found?;
    found.extend(paused?);
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found.dedup_by(|one, other| one.name == other.name);
    Ok(found)
}

/// What needs attention.
pub(in crate::pages) fn find(schedules: &[Schedule], now: SystemTime) -> Vec<Attention> {
    let paused = schedules.iter().filter(|one| one.pause.as_ref().is_some_and(|it| it.on_failure));
    let active = || schedules.iter().filter(|one| one.state() == ScheduleState::Active);
    let failing = active().filter(|one| one.failures_in_a_row > 0);
    let late = active().filter_map(|one| Some((one, late(one, now)?)));
    let mut found: Vec<_> = paused.take(EACH).map(of_paused).collect();
    found.extend(late.take(EACH).map(|(schedule, late)| of_late(schedule, late)));
    found.extend(schedules.iter().filter_map(|one| of_missed(one, now)).take(EACH));
    found.extend(failing.take(EACH).map(of_failing));
    found
}

/// How late the next tick is, if that is worth a word.
fn late(schedule: &Schedule, now: SystemTime) -> Option<Duration> {
    let jitter = schedule.definition.as_ref().and_then(|definition| definition.jitter);
    let due =
        SystemTime::from(schedule.next_time?) + jitter.map(TimeSpan::duration).unwrap_or_default();
    now.duration_since(due).ok().filter(|late| *late >= LATE)
}

fn entry(schedule: &Schedule) -> Attention {
    Attention {
        weight: Weight::Warning,
        what: html! {},
        why: html! {},
        href: link::to("schedule", [("name", &schedule.name)]),
        go: "Schedule",
    }
}

fn of_paused(schedule: &Schedule) -> Attention {
    Attention {
        weight: Weight::Bad,
        what: html! { "The schedule " (name(&schedule.name)) " is paused, because its tasks failed" },
        why: html! { (plural(schedule.failures_in_a_row.into(), "failure", "failures")) " in a row" },
        ..entry(schedule)
    }
}

fn of_late(schedule: &Schedule, late: Duration) -> Attention {
    let whole = Duration::from_secs(late.as_secs());
    Attention {
        weight: Weight::Bad,
        what: html! { "The schedule " (name(&schedule.name)) " is late by " (duration(whole.into())) },
        why: html! { "Its tick was not decided yet." },
        ..entry(schedule)
    }
}

/// The last tick that was missed or refused, for a day, and until another has created a task.
fn of_missed(schedule: &Schedule, now: SystemTime) -> Option<Attention> {
    let missed = schedule.last_missed.as_ref()?;
    let at = missed.nominal_time?;
    let is_last = schedule.last_fired_time.is_none_or(|fired| fired < at);
    let is_new = now.duration_since(at.into()).is_ok_and(|age| age < MISSED);
    let outcome = missed.outcome().word();
    (is_last || is_new).then(|| Attention {
        weight: if is_last { Weight::Bad } else { Weight::Warning },
        what: html! { "The schedule " (name(&schedule.name)) " created no task for " (crate::parts::time(at)) },
        why: html! {
            @match ticks::reason(missed.reason) {
                Some(reason) => { "The tick was " (outcome) ": " (reason) "." },
                None => { "Its time had passed by more than the schedule catches up." },
            }
        },
        ..entry(schedule)
    })
}

fn of_failing(schedule: &Schedule) -> Attention {
    let last = schedule.last_success_time.map(|at: Date| crate::parts::time(at));
    Attention {
        what: html! { "The tasks of the schedule " (name(&schedule.name)) " fail" },
        why: html! {
            (plural(schedule.failures_in_a_row.into(), "failure", "failures")) " in a row, last success: "
            @match last { Some(last) => (last), None => "never" }
        },
        ..entry(schedule)
    }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{
        ListSchedulesResponse, MissedTick, ScheduleDefinition, SchedulePause, TickOutcome,
        TickReason,
    };

    use super::*;
    use crate::fake::Fake;

    fn schedule(name: &str, next: &str) -> Schedule {
        Schedule {
            name: name.to_owned(),
            state: ScheduleState::Active.into(),
            next_time: Some(next.parse().expect("a date")),
            ..Schedule::default()
        }
    }

    fn missed(name: &str, at: &str, fired: Option<&str>, reason: TickReason) -> Schedule {
        let date = |text: &str| Some(text.parse().expect("a date"));
        let tick = MissedTick {
            nominal_time: date(at),
            outcome: TickOutcome::Refused.into(),
            reason: Some(reason.into()),
        };
        Schedule {
            last_missed: Some(tick),
            last_fired_time: fired.and_then(date),
            ..schedule(name, "2026-02-01T02:00:00Z")
        }
    }

    #[test]
    fn what_fails_or_is_late_is_found() {
        let now: Date = "2026-01-31T12:00:00Z".parse().expect("a date");
        let pause = SchedulePause { on_failure: true, ..SchedulePause::default() };
        let jitter = ScheduleDefinition {
            jitter: Some("1h".parse().expect("a span")),
            ..ScheduleDefinition::default()
        };
        let schedules = [
            schedule("well", "2026-01-31T11:59:30Z"),
            schedule("<i>late", "2026-01-31T11:50:00Z"),
            Schedule { definition: Some(jitter), ..schedule("spread", "2026-01-31T11:50:00Z") },
            missed("skips", "2026-01-29T02:00:00Z", None, TickReason::StoreFull),
            missed(
                "nightly",
                "2026-01-29T02:00:00Z",
                Some("2026-01-28T02:00:00Z"),
                TickReason::Conflict,
            ),
            missed(
                "hourly",
                "2026-01-31T02:00:00Z",
                Some("2026-01-31T11:00:00Z"),
                TickReason::QueueFull,
            ),
            missed(
                "long ago",
                "2026-01-29T02:00:00Z",
                Some("2026-01-30T02:00:00Z"),
                TickReason::Conflict,
            ),
            Schedule { failures_in_a_row: 2, ..schedule("fails", "2026-02-01T00:00:00Z") },
            Schedule {
                state: ScheduleState::Paused.into(),
                pause: Some(pause),
                ..schedule("paused/1", "2026-01-31T11:00:00Z")
            },
            Schedule {
                state: ScheduleState::Paused.into(),
                pause: Some(SchedulePause::default()),
                ..schedule("on purpose", "2026-01-31T11:00:00Z")
            },
        ];
        let found = find(&schedules, now.into());
        let links: Vec<_> = found.iter().map(|one| one.href.as_str()).collect();
        assert_eq!(
            links,
            [
                "schedule?name=paused%2F1",
                "schedule?name=%3Ci%3Elate",
                "schedule?name=skips",
                "schedule?name=nightly",
                "schedule?name=hourly",
                "schedule?name=fails"
            ]
        );
        let weights = [&found[3], &found[4]].map(|one| one.weight);
        assert_eq!(weights, [Weight::Bad, Weight::Warning], "another tick came after one");
        assert!(found[4].why.0.contains("refused: the queue was full"), "{}", found[4].why.0);
        assert!(found.iter().all(|one| !one.what.0.contains("<i>")));
        assert!(found[1].what.0.contains("10 min"), "{}", found[1].what.0);
    }

    #[tokio::test]
    async fn a_schedule_in_both_lists_is_one() {
        let schedules = vec![schedule("a", "2026-01-31T11:59:30Z")];
        let list = ListSchedulesResponse { schedules, next_page_token: None };
        let fake = Fake::default().with("ListSchedules", &list);
        assert_eq!(read(&fake.visit("", "")).await.expect("a list").len(), 1);
        let calls: Vec<ListSchedulesRequest> = fake.calls("ListSchedules");
        assert_eq!(calls.len(), 2);
    }
}
