//! Checks of filters.

use std::time::Duration;

use rota_core::{Millis, Priority, Status};
use rota_engine::{Search, TaskFilter, TimeRange};
use rota_proto::{TimeSpan, v1};

use super::{Check, FieldPrefix};
use crate::{
    failure::Failure,
    limits::{LIST_TIME, Limits, SEARCH_CHARS},
};

/// Checks a filter. `place` is its place in the request.
pub(crate) fn filter(
    filter: v1::TaskFilter,
    prefix: FieldPrefix,
    limits: &Limits,
) -> Result<TaskFilter, Failure> {
    let mut check = Check::at(prefix);
    let queue = check.given("queue", filter.queue).and_then(|text| check.name("queue", &text));
    let kind = check.given("kind", filter.kind).and_then(|text| check.name("kind", &text));
    let labels = check.labels(filter.labels, limits);
    let schedule = check.given("schedule", filter.schedule);
    let schedule = schedule.and_then(|text| check.name("schedule", &text));
    let error = check.given("error_fingerprint", filter.error_fingerprint);
    let error = error.and_then(|text| check.ok("error_fingerprint", text.parse()));
    let search = check.given("search", filter.search).filter(|text| {
        if text.contains('\0') {
            check.wrong("search", "must not contain NUL");
        }
        check.at_most(
            "search",
            "characters",
            text.chars().count(),
            ("search_characters", SEARCH_CHARS),
        )
    });
    let worker = check.given("worker", filter.worker).and_then(|text| check.name("worker", &text));
    let mut priorities = Vec::new();
    for level in filter.priorities {
        match Priority::new(level) {
            Some(priority) if priorities.contains(&priority) => {}
            Some(priority) => priorities.push(priority),
            None => check
                .wrong("priorities", format_args!("has {level}; a priority must be from 0 to 9")),
        }
    }
    let mut statuses = Vec::new();
    for number in filter.statuses {
        match v1::TaskStatus::try_from(number).ok().and_then(status) {
            Some(status) if statuses.contains(&status) => {}
            Some(status) => statuses.push(status),
            None => {
                check.wrong(
                    "statuses",
                    format_args!("has {number}; it must be a value of the enum TaskStatus"),
                );
            }
        }
    }
    let mut range = |from: &str, to: &str, range: Option<v1::TimeRange>| {
        let range = range.unwrap_or_default();
        TimeRange { from: check.date(from, range.from), to: check.date(to, range.to) }
    };
    let created = range("created_from", "created_to", filter.created);
    let run_at = range("run_at_from", "run_at_to", filter.run_at);
    check.finish(Some(TaskFilter {
        queue,
        statuses,
        kind,
        labels,
        created,
        run_at,
        schedule,
        error,
        search: search.as_deref().map(Search::new),
        worker,
        priorities,
    }))
}

/// Checks the time of one call that lists or counts tasks.
pub(crate) fn time_limit(given: Option<TimeSpan>) -> Result<Duration, Failure> {
    let mut check = Check::new();
    let limit = time_within(&mut check, given);
    check.finish(Some(limit))
}

/// The same check as one of many.
pub(super) fn time_within(check: &mut Check, given: Option<TimeSpan>) -> Duration {
    check.span("time_limit", given, LIST_TIME).map_or(LIST_TIME.1, Millis::as_duration)
}

/// Checks that `all` is set if the filter selects all tasks, and only then.
pub(crate) fn selection(filter: &TaskFilter, all: bool) -> Result<(), Failure> {
    match (*filter == TaskFilter::default(), all) {
        (true, false) => Err(Failure::field(
            "all",
            "must be true to select every task; or use a filter that selects fewer tasks",
        )),
        (false, true) => Err(Failure::field("all", "cannot be combined with a filter")),
        _ => Ok(()),
    }
}

fn status(status: v1::TaskStatus) -> Option<Status> {
    Some(match status {
        v1::TaskStatus::Unspecified => return None,
        v1::TaskStatus::Scheduled => Status::Scheduled,
        v1::TaskStatus::Pending => Status::Pending,
        v1::TaskStatus::Assigned => Status::Assigned,
        v1::TaskStatus::Running => Status::Running,
        v1::TaskStatus::Completed => Status::Completed,
        v1::TaskStatus::Failed => Status::Failed,
        v1::TaskStatus::Cancelled => Status::Cancelled,
        v1::TaskStatus::Expired => Status::Expired,
    })
}
