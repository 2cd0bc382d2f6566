//! Checks of requests for counts and for groups of failures.

use std::time::Duration;

use rota_engine::{FailureFilter, FailureState, TimeRange};
use rota_proto::{TimeSpan, v1};

use super::Check;
use crate::{failure::Failure, limits::Limits};

/// Range of the time for a count. The longest is the default.
const COUNT_TIME: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// Default number of groups.
const GROUPS: u32 = 50;

/// Checks the time for a count.
pub(crate) fn count_time(given: Option<TimeSpan>) -> Result<Duration, Failure> {
    let mut check = Check::new();
    let time = match given {
        Some(span) => check.span("time_limit", Some(span), COUNT_TIME).map(|ms| ms.as_duration()),
        None => Some(COUNT_TIME.1),
    };
    check.finish(time)
}

/// Checks a request for groups of failures. Returns the filter and the maximum number of groups.
pub(crate) fn failures(
    request: v1::ListFailuresRequest,
    limits: &Limits,
) -> Result<(FailureFilter, usize), Failure> {
    let v1::ListFailuresRequest { queue, kind, failed, state, limit } = request;
    let mut check = Check::new();
    let queue = check.given("queue", queue).and_then(|text| check.name("queue", &text));
    let kind = check.given("kind", kind).and_then(|text| check.name("kind", &text));
    let v1::TimeRange { from, to } = failed.unwrap_or_default();
    let failed =
        TimeRange { from: check.date("failed_from", from), to: check.date("failed_to", to) };
    let state = match v1::FailureState::try_from(state) {
        Ok(v1::FailureState::Unspecified | v1::FailureState::Failed) => FailureState::Failed,
        Ok(v1::FailureState::Retrying) => FailureState::Retrying,
        Err(_) => {
            let wrong = format_args!("is {state}; it must be a value of the enum FailureState");
            check.wrong("state", wrong);
            FailureState::Failed
        }
    };
    let most = u32::try_from(limits.page_size).unwrap_or(u32::MAX);
    let limit = check.number_within("limit", limit, GROUPS.min(most), ("page_size", most));
    check.finish(Some((FailureFilter { state, queue, kind, failed }, limit as usize)))
}
