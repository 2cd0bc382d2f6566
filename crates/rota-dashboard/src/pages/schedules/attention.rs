//! Finds the schedules that need attention: those that were paused because their tasks failed, those whose tasks fail,
//! and those whose ticks are late, were missed or were refused.
//!
//! The API has no filter for them, so the overview reads the schedules by name, up to a bound, and says how far it looked.
//! What it found is [kept](crate::kept).

use std::{
    slice,
    sync::Arc,
    time::{Duration, SystemTime},
};

use maud::html;
use rota_proto::{
    Date, TimeSpan,
    json::Words,
    v1::{ListSchedulesRequest, Schedule, ScheduleState},
};

use tonic::Status;

use super::ticks;
use crate::{
    link,
    memory::SchedulesSeen,
    parts::{Attention, Weight, duration, name, plural},
    visit::Visit,
};

/// Schedules to read at once, and in all.
const PAGE: u32 = 1000;
const LOOK: usize = 5000;
/// Schedules that need attention to keep. Those of which entries are shown are fewer.
const KEEP: usize = 200;
/// Entries of one kind. The list of schedules has all.
const EACH: usize = 5;
/// Delay of a tick, beyond its jitter, from which somebody should know of it.
const LATE: Duration = Duration::from_secs(60);
/// Time for which a missed tick is shown, or longer if no later one has created a task.
const MISSED: Duration = Duration::from_secs(24 * 3600);

/// Looks for the schedules that need attention.
pub(in crate::pages) async fn read(visit: &Visit) -> Result<Arc<SchedulesSeen>, Status> {
    let question = visit.api.question("attention");
    let look = async { look(visit).await.map(Arc::new) };
    visit.memory.schedules.or_ask(&visit.again, question, 1, look).await
}

async fn look(visit: &Visit) -> Result<SchedulesSeen, Status> {
    let mut api = visit.api.schedules();
    let mut request = ListSchedulesRequest { page_size: PAGE, ..ListSchedulesRequest::default() };
    let (mut seen, mut looked) = (SchedulesSeen::default(), 0);
    loop {
        let list = api.list_schedules(request.clone()).await?.into_inner();
        looked += list.schedules.len();
        let now = SystemTime::now();
        let needy =
            list.schedules.into_iter().filter(|one| !find(slice::from_ref(one), now).is_empty());
        seen.found.extend(needy.take(KEEP - seen.found.len()));
        match list.next_page_token {
            None => return Ok(seen),
            Some(next) if looked < LOOK => request.page_token = next,
            Some(_) => return Ok(SchedulesSeen { only: Some(looked), ..seen }),
        }
    }
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

    /// Lists of this many schedules, one after the other, and then an end or more.
    fn lists(pages: usize, ends: bool) -> Fake {
        Fake::default().answering("ListSchedules", move |request: ListSchedulesRequest| {
            let page: usize = request.page_token.parse().unwrap_or_default();
            let well = |number| schedule(&format!("{page}-{number}"), "2126-01-31T11:59:30Z");
            let mut schedules: Vec<_> = (1..PAGE).map(well).collect();
            let name = format!("{page}-fails");
            schedules
                .push(Schedule { failures_in_a_row: 1, ..schedule(&name, "2126-01-01T00:00:00Z") });
            let is_last = ends && page + 1 == pages;
            let next_page_token = (!is_last).then(|| (page + 1).to_string());
            Ok(ListSchedulesResponse { schedules, next_page_token })
        })
    }

    #[tokio::test]
    async fn all_schedules_are_looked_at_once_for_all_pages() {
        let fake = lists(3, true);
        let visit = fake.visit("", "");
        for _ in 0..2 {
            let seen = read(&visit).await.expect("schedules");
            let names: Vec<_> = seen.found.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(
                (names.as_slice(), seen.only),
                (["0-fails", "1-fails", "2-fails"].as_slice(), None)
            );
        }
        assert_eq!(fake.methods().len(), 3);
    }

    #[tokio::test]
    async fn a_look_has_an_end_and_says_so() {
        let fake = lists(usize::MAX, false);
        let seen = read(&fake.visit("", "")).await.expect("schedules");
        assert_eq!((seen.found.len(), seen.only), (5, Some(LOOK)));
    }
}
