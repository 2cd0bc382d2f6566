//! Parses query parameters. Unknown parameters are refused, and so are repeated ones unless they allow it.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use rota_proto::{
    Date, TimeSpan,
    json::TaskFilter,
    query::{date, label, number, once, scalar, word},
    v1::{
        FailureState, ListFailuresRequest, ScheduleFilter, ScheduleState, TimeRange,
        WatchEventsRequest,
    },
};

use crate::{failure::Failure, limits::Limits};

/// The query as pairs, percent-decoded, in order.
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state);
        let pairs = pairs.await.map_err(|_| Failure::field("query", "cannot be parsed"))?;
        Ok(Self(pairs.0))
    }
}

/// The parameters of a page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Page {
    /// The size of the page. A message cannot distinguish zero from absent.
    pub(crate) fn size(&self, limits: &Limits) -> Result<u32, Failure> {
        if self.limit == Some(0) {
            let wrong = format!("is 0; it must be from 1 to {}", limits.page_size);
            return Err(Failure::field("limit", wrong));
        }
        Ok(self.limit.unwrap_or_default())
    }

    /// The cursor of the page.
    pub(crate) fn token(self) -> String {
        self.cursor.unwrap_or_default()
    }

    /// Reads the parameter if it is one of these, and returns whether it is.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, Failure> {
        match name {
            "limit" => once(name, &mut self.limit, number(name, value)?)?,
            // A message cannot distinguish an empty cursor from an absent one.
            "cursor" if value.is_empty() => return Err(Failure::field(name, "must not be empty")),
            "cursor" => once(name, &mut self.cursor, value.to_owned())?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Pairs {
    /// Refuses all parameters.
    pub(crate) fn none(self) -> Result<(), Failure> {
        self.0.first().map_or(Ok(()), |(name, _)| Err(unknown(name)))
    }

    /// The parameter `wait`, which must be the only one.
    pub(crate) fn wait(self) -> Result<Option<TimeSpan>, Failure> {
        let mut wait = None;
        for (name, value) in self.0 {
            match name.as_str() {
                "wait" => once(&name, &mut wait, scalar(&name, &value)?)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(wait)
    }

    /// The parameters of a page.
    pub(crate) fn page(self) -> Result<Page, Failure> {
        let mut page = Page::default();
        for (name, value) in self.0 {
            if !page.take(&name, &value)? {
                return Err(unknown(&name));
            }
        }
        Ok(page)
    }

    /// The parameters of a list of tasks: the filter, the page and the time limit.
    pub(crate) fn list(self) -> Result<(TaskFilter, Page, Option<TimeSpan>), Failure> {
        let (mut filter, mut page) = (TaskFilter::default(), Page::default());
        let mut time_limit = None;
        for (name, value) in self.0 {
            match name.as_str() {
                "time_limit" => once(&name, &mut time_limit, scalar(&name, &value)?)?,
                _ if filter.take(&name, &value)? => {}
                _ if page.take(&name, &value)? => {}
                _ => return Err(unknown(&name)),
            }
        }
        Ok((filter, page, time_limit))
    }

    /// The parameters of a count: the filter, and the time.
    pub(crate) fn count(self) -> Result<(TaskFilter, Option<TimeSpan>), Failure> {
        let (mut filter, mut time_limit) = (TaskFilter::default(), None);
        for (name, value) in self.0 {
            match name.as_str() {
                "time_limit" => once(&name, &mut time_limit, scalar(&name, &value)?)?,
                _ if filter.take(&name, &value)? => {}
                _ => return Err(unknown(&name)),
            }
        }
        Ok((filter, time_limit))
    }

    /// The parameters of a list of failures.
    pub(crate) fn failures(self) -> Result<ListFailuresRequest, Failure> {
        let (mut request, mut range) = (ListFailuresRequest::default(), TimeRange::default());
        let mut state = None;
        for (name, value) in self.0 {
            match name.as_str() {
                "queue" => once(&name, &mut request.queue, value)?,
                "kind" => once(&name, &mut request.kind, value)?,
                "failed_from" => once(&name, &mut range.from, date(&name, &value)?)?,
                "failed_to" => once(&name, &mut range.to, date(&name, &value)?)?,
                "state" => once(&name, &mut state, word::<FailureState>(&name, &value)?)?,
                "limit" => once(&name, &mut request.limit, number(&name, &value)?)?,
                "time_limit" => once(&name, &mut request.time_limit, scalar(&name, &value)?)?,
                _ => return Err(unknown(&name)),
            }
        }
        request.set_state(state.unwrap_or_default());
        request.failed = Some(range);
        Ok(request)
    }

    /// The parameters that select events, except `filter`, which is the first value.
    pub(crate) fn events(self) -> Result<(TaskFilter, WatchEventsRequest), Failure> {
        let (mut filter, mut request) = (TaskFilter::default(), WatchEventsRequest::default());
        let mut brief = None;
        for (name, value) in self.0 {
            match name.as_str() {
                "task" => request.tasks.extend(value.split(',').map(ToOwned::to_owned)),
                "task_prefix" => once(&name, &mut request.task_prefix, value)?,
                "worker" => once(&name, &mut request.worker, value)?,
                "type" => request.types.extend(value.split(',').map(ToOwned::to_owned)),
                "last_event_id" => once(&name, &mut request.last_event_id, value)?,
                "brief" => once(&name, &mut brief, boolean(&name, &value)?)?,
                _ if filter.take(&name, &value)? => {}
                _ => return Err(unknown(&name)),
            }
        }
        request.brief = brief.unwrap_or(false);
        Ok((filter, request))
    }

    /// The parameters of a stream of output: whether to follow it, and the id to continue after.
    pub(crate) fn output(self) -> Result<(Option<bool>, Option<String>), Failure> {
        let (mut follow, mut last_event_id) = (None, None);
        for (name, value) in self.0 {
            match name.as_str() {
                "follow" => {
                    once(&name, &mut follow, boolean(&name, &value)?)?;
                }
                "last_event_id" => once(&name, &mut last_event_id, value)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok((follow, last_event_id))
    }

    /// The parameters of a list of schedules.
    pub(crate) fn schedules(self) -> Result<(ScheduleFilter, Page), Failure> {
        let (mut filter, mut page) = (ScheduleFilter::default(), Page::default());
        for (name, value) in self.0 {
            match name.as_str() {
                "prefix" => once(&name, &mut filter.prefix, value)?,
                "label" => label(&mut filter.labels, &value)?,
                "state" => {
                    let state = word::<ScheduleState>(&name, &value)?;
                    once(&name, &mut filter.state, state.into())?;
                }
                _ if page.take(&name, &value)? => {}
                _ => return Err(unknown(&name)),
            }
        }
        Ok((filter, page))
    }

    /// The parameters of a list of ticks.
    pub(crate) fn ticks(self) -> Result<(TimeRange, Page), Failure> {
        let (mut range, mut page) = (TimeRange::default(), Page::default());
        for (name, value) in self.0 {
            match name.as_str() {
                "from" => once(&name, &mut range.from, date(&name, &value)?)?,
                "to" => once(&name, &mut range.to, date(&name, &value)?)?,
                _ if page.take(&name, &value)? => {}
                _ => return Err(unknown(&name)),
            }
        }
        Ok((range, page))
    }

    /// The parameters of a preview: the number of runs, and the start.
    pub(crate) fn preview(self) -> Result<(Option<u32>, Option<Date>), Failure> {
        let (mut count, mut from) = (None, None);
        for (name, value) in self.0 {
            match name.as_str() {
                "count" => once(&name, &mut count, number(&name, &value)?)?,
                "from" => once(&name, &mut from, date(&name, &value)?)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok((count, from))
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, Failure> {
    value.parse().map_err(|_| Failure::field(name, "must be true or false"))
}

fn unknown(name: &str) -> Failure {
    let name: String = name.chars().take(64).collect();
    Failure::field(&name, "is not a parameter of this path; see /docs")
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::TaskStatus;

    use super::*;

    fn list(given: &[(&str, &str)]) -> Result<(TaskFilter, Page, Option<TimeSpan>), Failure> {
        pairs(given).list()
    }

    #[test]
    fn a_list_is_asked_for() {
        let (filter, page, time_limit) = list(&[
            ("search", "No route, to = host"),
            ("priority", "7,9"),
            ("priority", "0"),
            ("time_limit", "100ms"),
            ("status", "failed,expired"),
            ("status", "pending"),
            ("label", "a=b=c"),
            ("label", "x:y=z"),
            ("limit", "7"),
            ("created_from", "2026-01-31T12:00:00Z"),
        ])
        .unwrap();
        assert_eq!(filter.statuses, [TaskStatus::Failed, TaskStatus::Expired, TaskStatus::Pending]);
        assert_eq!(filter.labels["a"], "b=c");
        assert_eq!(filter.labels["x:y"], "z");
        assert_eq!(page.limit, Some(7));
        assert_eq!(filter.search.as_deref(), Some("No route, to = host"));
        assert_eq!(filter.priorities, [7, 9, 0]);
        assert_eq!(time_limit.unwrap().to_string(), "100ms");
        assert_eq!(filter.created_from.unwrap().to_string(), "2026-01-31T12:00:00.000Z");
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Pairs(pairs.iter().map(own).collect())
    }

    #[test]
    fn schedules_ticks_and_previews_are_asked_for() {
        let asked = [("prefix", "a/"), ("label", "x=1"), ("state", "paused"), ("cursor", "a/b")];
        let (filter, page) = pairs(&asked).schedules().unwrap();
        assert_eq!((filter.prefix.as_deref(), filter.state()), (Some("a/"), ScheduleState::Paused));
        assert_eq!((filter.labels["x"].as_str(), page.token().as_str()), ("1", "a/b"));
        let (range, _) = pairs(&[("to", "2026-01-31T12:00:00Z")]).ticks().unwrap();
        assert_eq!((range.from, range.to.is_some()), (None, true));
        assert_eq!(pairs(&[("count", "7")]).preview().unwrap(), (Some(7), None));
        for (refused, field) in [
            (pairs(&[("state", "unknown")]).schedules().err(), "state"),
            (pairs(&[("state", "paused"), ("state", "active")]).schedules().err(), "state"),
            (pairs(&[("queue", "q")]).schedules().err(), "queue"),
            (pairs(&[("from", "yesterday")]).ticks().err(), "from"),
            (pairs(&[("limit", "1")]).preview().err(), "limit"),
            (pairs(&[("count", "-1")]).preview().err(), "count"),
        ] {
            assert_eq!(refused.unwrap().violations[0].field, field);
        }
    }

    #[test]
    fn what_is_unknown_or_repeated_is_refused() {
        for (pairs, field) in [
            (&[("queue", "a"), ("queue", "a")][..], "queue"),
            (&[("label", "a=1"), ("label", "a=2")], "label"),
            (&[("label", "a")], "label"),
            (&[("cursor", "")], "cursor"),
            (&[("Queue", "a")], "Queue"),
            (&[("search", "a"), ("search", "b")], "search"),
            (&[("priority", "high")], "priority"),
            (&[("priority", "")], "priority"),
            (&[("time_limit", "soon")], "time_limit"),
            (&[("statuses", "failed")], "statuses"),
        ] {
            assert_eq!(list(pairs).unwrap_err().violations[0].field, field);
        }
    }
}
