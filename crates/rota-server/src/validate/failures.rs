//! Checks of requests for counts and for groups of failures.

use std::time::Duration;

use rota_engine::{FailureFilter, FailureState, TimeRange};
use rota_proto::v1;

use super::{Check, filter::time_within};
use crate::{failure::Failure, limits::Limits};

/// Default number of groups.
const GROUPS: u32 = 50;

/// Checks a request for groups of failures. Returns the filter, the maximum number of groups, and the time.
pub(crate) fn failures(
    request: v1::ListFailuresRequest,
    limits: &Limits,
) -> Result<(FailureFilter, usize, Duration), Failure> {
    let v1::ListFailuresRequest { queue, kind, failed, state, limit, time_limit } = request;
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
    let time = time_within(&mut check, time_limit);
    check.finish(Some((FailureFilter { state, queue, kind, failed }, limit as usize, time)))
}
