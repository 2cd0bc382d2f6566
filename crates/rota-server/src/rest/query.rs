//! What stands behind the `?`: each parameter is known, and given once unless it may be repeated.

use axum::{
    extract::{FromRequestParts, MatchedPath, Query, Request},
    http::request::Parts,
    middleware::Next,
    response::Response,
};
use rota_proto::{
    Date, ScalarError, Span,
    json::{TaskFilter, Words},
    v1::TaskStatus,
};

use crate::failure::{Failure, Violation};

/// The query as pairs, percent-decoded, in order.
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state);
        let pairs = pairs.await.map_err(|_| Failure::field("query", "is not readable"))?;
        Ok(Self(pairs.0))
    }
}

/// Refuses parameters where a path has none.
pub(crate) async fn strict(request: Request, next: Next) -> Result<Response, Failure> {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let reads = request.method().is_safe();
    let has_some = reads
        && matches!(path, Some("/v1/tasks" | "/v1/tasks/{id}" | "/v1/queues" | "/v1/workers"));
    if has_some || request.uri().query().is_none() {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    Pairs::from_request_parts(&mut parts, &()).await?.none()?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Parameters of `GET /v1/queues` and `GET /v1/workers`.
#[derive(Debug, Default)]
pub(crate) struct PageQuery {
    pub(crate) limit: Option<u32>,
    pub(crate) cursor: Option<String>,
}

/// Parameters of `GET /v1/tasks`.
#[derive(Debug, Default)]
pub(crate) struct ListQuery {
    pub(crate) filter: TaskFilter,
    pub(crate) limit: Option<u32>,
    pub(crate) cursor: Option<String>,
}

impl Pairs {
    /// That there are none.
    pub(crate) fn none(self) -> Result<(), Failure> {
        self.0.first().map_or(Ok(()), |(name, _)| Err(unknown(name)))
    }

    /// The only parameter there may be: how long to wait.
    pub(crate) fn wait(self) -> Result<Option<Span>, Failure> {
        let mut wait = None;
        for (name, value) in self.0 {
            match name.as_str() {
                "wait" => once(&name, &mut wait, scalar(&name, &value)?)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(wait)
    }

    /// Which part of a list.
    pub(crate) fn page(self) -> Result<PageQuery, Failure> {
        let mut query = PageQuery::default();
        for (name, value) in self.0 {
            match name.as_str() {
                "limit" => once(&name, &mut query.limit, number(&name, &value)?)?,
                "cursor" => once(&name, &mut query.cursor, not_empty(&name, value)?)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(query)
    }

    /// Which tasks to list.
    pub(crate) fn list(self) -> Result<ListQuery, Failure> {
        let mut query = ListQuery::default();
        let filter = &mut query.filter;
        for (name, value) in self.0 {
            match name.as_str() {
                "queue" => once(&name, &mut filter.queue, not_empty(&name, value)?)?,
                "kind" => once(&name, &mut filter.kind, not_empty(&name, value)?)?,
                "status" => {
                    for word in value.split(',') {
                        filter.statuses.push(status(word)?);
                    }
                }
                "label" => {
                    // Names have no equals sign, values may.
                    let wrong = || Failure::field("label", "must be name=value");
                    let (name, value) = value.split_once('=').ok_or_else(wrong)?;
                    let before = filter.labels.insert(name.to_owned(), value.to_owned());
                    if before.is_some() {
                        return Err(repeated("label"));
                    }
                }
                "created_from" => once(&name, &mut filter.created_from, date(&name, &value)?)?,
                "created_to" => once(&name, &mut filter.created_to, date(&name, &value)?)?,
                "run_at_from" => once(&name, &mut filter.run_at_from, date(&name, &value)?)?,
                "run_at_to" => once(&name, &mut filter.run_at_to, date(&name, &value)?)?,
                "limit" => once(&name, &mut query.limit, number(&name, &value)?)?,
                "cursor" => once(&name, &mut query.cursor, not_empty(&name, value)?)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(query)
    }
}

/// A filter's violations, as the query names its fields.
pub(crate) fn in_query(failure: Failure) -> Failure {
    let renamed = |violation: Violation| {
        let field = match violation.field.split('.').next() {
            Some("labels") => "label".to_owned(),
            _ => violation.field,
        };
        Violation { field, ..violation }
    };
    Failure::invalid(failure.violations.into_iter().map(renamed).collect())
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), Failure> {
    if place.replace(value).is_some() {
        return Err(repeated(name));
    }
    Ok(())
}

fn repeated(name: &str) -> Failure {
    Failure::field(name, "is given more than once")
}

fn unknown(name: &str) -> Failure {
    let name: String = name.chars().take(64).collect();
    Failure::field(&name, "is not a parameter of this path; see /docs")
}

fn not_empty(name: &str, value: String) -> Result<String, Failure> {
    if value.is_empty() {
        return Err(Failure::field(name, "must not be empty"));
    }
    Ok(value)
}

fn scalar<T: std::str::FromStr<Err = ScalarError>>(name: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error: ScalarError| Failure::field(name, error.to_string()))
}

fn date(name: &str, text: &str) -> Result<Date, Failure> {
    scalar(name, text)
}

fn number(name: &str, text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| Failure::field(name, "is not a number from 0 to 4294967295"))
}

fn status(text: &str) -> Result<TaskStatus, Failure> {
    TaskStatus::of_word(text).map_err(|error: serde::de::value::Error| {
        Failure::field("status", error.to_string().chars().take(200).collect::<String>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, &str)]) -> Result<ListQuery, Failure> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Pairs(pairs.iter().map(own).collect()).list()
    }

    #[test]
    fn a_list_is_asked_for() {
        let query = list(&[
            ("status", "failed,expired"),
            ("status", "pending"),
            ("label", "a=b=c"),
            ("label", "x:y=z"),
            ("limit", "7"),
            ("created_from", "2026-01-31T12:00:00Z"),
        ])
        .unwrap();
        let filter = query.filter;
        assert_eq!(filter.statuses, [TaskStatus::Failed, TaskStatus::Expired, TaskStatus::Pending]);
        assert_eq!(filter.labels["a"], "b=c");
        assert_eq!(filter.labels["x:y"], "z");
        assert_eq!(query.limit, Some(7));
        assert_eq!(filter.created_from.unwrap().to_string(), "2026-01-31T12:00:00.000Z");
    }

    #[test]
    fn what_is_unknown_or_repeated_is_refused() {
        for (pairs, field) in [
            (&[("queue", "a"), ("queue", "a")][..], "queue"),
            (&[("label", "a=1"), ("label", "a=2")], "label"),
            (&[("label", "a")], "label"),
            (&[("cursor", "")], "cursor"),
            (&[("Queue", "a")], "Queue"),
            (&[("statuses", "failed")], "statuses"),
        ] {
            assert_eq!(list(pairs).unwrap_err().violations[0].field, field);
        }
    }
}
