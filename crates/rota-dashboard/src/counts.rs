//! Counts of the tasks of a filter by status. Beside many ended tasks a count costs the leader milliseconds, so they are
//! [kept](crate::kept).

use std::{collections::HashMap, num::NonZero, thread::available_parallelism};

use futures_util::future::join_all;
use rota_proto::{
    TimeSpan,
    json::TaskFilter,
    v1::{CountTasksRequest, TaskStatus},
};

use crate::{
    api::Api,
    kept::{AskAgain, Budget, Kept},
    link,
    parts::count,
};

/// Time for one count. What is not counted by then is told as "or more".
const TIME: TimeSpan = TimeSpan { seconds: 0, nanos: 10_000_000 };

/// How many tasks match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HowMany {
    pub(crate) number: u64,
    /// Whether there are more.
    pub(crate) or_more: bool,
}

impl HowMany {
    /// The number with its noun.
    pub(crate) fn of(self, one: &str, many: &str) -> String {
        let more = if self.or_more { " or more" } else { "" };
        let noun = if self.number == 1 && !self.or_more { one } else { many };
        format!("{}{more} {noun}", count(self.number))
    }

    /// The number with a sign for more, where there is little room.
    pub(crate) fn short(self) -> String {
        format!("{}{}", count(self.number), if self.or_more { "+" } else { "" })
    }
}

/// The numbers of a filter by status. A status that could not be counted is not there.
pub(crate) type ByStatus = HashMap<TaskStatus, HowMany>;

/// The counts that a node keeps.
#[derive(Debug)]
pub(crate) struct Counts(Kept<ByStatus>);

impl Counts {
    pub(crate) fn new(budget: Budget) -> Self {
        Self(Kept::new(budget, 64))
    }

    /// Counts the tasks that match a filter in each of these statuses, whatever statuses the filter has.
    pub(crate) async fn of(
        &self,
        api: &Api,
        again: &AskAgain,
        filter: &TaskFilter,
        statuses: &[TaskStatus],
    ) -> ByStatus {
        let narrowed = |status| TaskFilter { statuses: vec![status], ..filter.clone() };
        let all = TaskFilter { statuses: statuses.to_vec(), ..filter.clone() };
        let question = api.question(&link::to("", all.pairs()));
        let count = async {
            let counted = statuses.iter().map(|status| one(api, *status, narrowed(*status)));
            let counts: ByStatus = join_all(counted).await.into_iter().flatten().collect();
            // What could not be counted can be counted soon.
            if counts.len() == statuses.len() { Ok(counts) } else { Err(counts) }
        };
        // The statuses are counted at the same time.
        let cores = available_parallelism().map_or(1, NonZero::get).min(statuses.len());
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        self.0.or_ask(again, question, cores, count).await.unwrap_or_else(|some| some)
    }

    /// Forgets the counts, after a change.
    pub(crate) fn forget(&self) {
        self.0.forget();
    }
}

async fn one(api: &Api, status: TaskStatus, filter: TaskFilter) -> Option<(TaskStatus, HowMany)> {
    let request = CountTasksRequest { filter: Some(filter.into()), time_limit: Some(TIME) };
    let counted = api.tasks().count_tasks(request).await.ok()?.into_inner();
    let or_more = counted.at_least;
    let number = if or_more { rounded_down(counted.count) } else { counted.count };
    Some((status, HowMany { number, or_more }))
}

/// The largest of 1, 2, 5, 10, 20, 50, ... that is not larger than the number. How far a count gets within its time varies,
/// and the page must not look as if tasks came and went.
fn rounded_down(number: u64) -> u64 {
    let Some(digits) = number.checked_ilog10() else { return 0 };
    let unit = 10_u64.pow(digits);
    let steps = [5, 2].into_iter().filter_map(|step| unit.checked_mul(step));
    steps.into_iter().find(|step| *step <= number).unwrap_or(unit)
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::CountTasksResponse;
    use tonic::Status;

    use super::*;
    use crate::fake::Fake;

    const ASKED: [TaskStatus; 2] = [TaskStatus::Failed, TaskStatus::Completed];

    fn filter(queue: &str) -> TaskFilter {
        TaskFilter { queue: Some(queue.to_owned()), ..TaskFilter::default() }
    }

    #[tokio::test]
    async fn a_count_is_asked_for_once_by_all_pages_of_a_filter() {
        let answer = CountTasksResponse { count: 1200, at_least: true, examined: 1200 };
        let fake = Fake::default().with("CountTasks", &answer);
        let (counts, visit) = (Counts::new(Budget::default()), fake.visit("tasks", ""));
        for _ in 0..3 {
            let found = counts.of(&visit.api, &visit.again, &filter("a/b"), &ASKED).await;
            assert_eq!(found[&TaskStatus::Failed].short(), "1,000+");
        }
        let asked: Vec<CountTasksRequest> = fake.calls("CountTasks");
        assert_eq!(asked.len(), ASKED.len(), "once for each status");
        assert!(
            asked.iter().all(|one| one.filter.as_ref().is_some_and(|it| it.statuses.len() == 1))
        );
        assert!(
            asked.iter().all(|one| one.time_limit == Some(TIME)),
            "it may take long: {asked:?}"
        );
        counts.of(&visit.api, &visit.again, &filter("other"), &ASKED).await;
        let other = visit.api.with_token(Some("t"));
        counts.of(&other, &visit.again, &filter("other"), &ASKED).await;
        assert_eq!(fake.methods().len(), 3 * ASKED.len(), "another filter, another token");
    }

    #[test]
    fn a_count_that_did_not_get_to_its_end_is_rounded_down() {
        for (counted, told) in [
            (0, 0),
            (1, 1),
            (9, 5),
            (10, 10),
            (199, 100),
            (398_000, 200_000),
            (412_000, 200_000),
            (999_999, 500_000),
            (u64::MAX, 10_000_000_000_000_000_000),
        ] {
            assert_eq!(rounded_down(counted), told, "{counted}");
        }
    }

    #[tokio::test]
    async fn a_count_that_fails_is_not_kept() {
        let fake = Fake::default().refusing("CountTasks", Status::unavailable("no leader"));
        let (counts, visit) = (Counts::new(Budget::default()), fake.visit("tasks", ""));
        assert_eq!(
            counts.of(&visit.api, &visit.again, &filter("q"), &ASKED).await,
            ByStatus::new()
        );
        counts.of(&visit.api, &visit.again, &filter("q"), &ASKED).await;
        assert_eq!(fake.methods().len(), 2 * ASKED.len());
    }
}
