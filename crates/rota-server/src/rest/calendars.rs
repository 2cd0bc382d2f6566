//! REST handlers for calendars.

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rota_proto::v1::{
    Calendar, CalendarRequest, DeleteCalendarRequest, ListCalendarsRequest, ListCalendarsResponse,
    PutCalendarRequest, PutCalendarResponse,
};

use super::{
    extract::{Part, has_type, parse, read_json},
    fields::in_query,
    handlers::handlers,
    problem::Problem,
    query::Pairs,
    schedules::missing,
    versions::{Expected, etag},
};
use crate::{
    failure::{Failure, Reason, Violation},
    operations::Caller,
    services::Services,
};

handlers! {
    ListCalendars => list,
    GetCalendar => get,
    PutCalendar => put,
    DeleteCalendar => delete,
}

/// The content type of iCalendar files (RFC 5545).
const ICS: &str = "text/calendar";

/// The content of a calendar: JSON, or an iCalendar file.
pub(crate) struct Content(PutCalendarRequest);

impl FromRequest<Services> for Content {
    type Rejection = Failure;

    async fn from_request(request: Request, services: &Services) -> Result<Self, Failure> {
        let is_ics = has_type(request.headers(), &[ICS]);
        let body = read_json(request, services, &["application/json", ICS]).await?;
        if !is_ics {
            return parse(&body).map(Self);
        }
        let text = String::from_utf8(body.into());
        let text = text.map_err(|_| Failure::field("body", "must be UTF-8"))?;
        Ok(Self(PutCalendarRequest { ics: Some(text), ..PutCalendarRequest::default() }))
    }
}

/// Lists calendars, by name, without their entries.
#[utoipa::path(get, path = "/v1/calendars", operation_id = "list_calendars", tag = "calendars", params(
    ("limit" = Option<u32>, Query, description = "Maximum number of entries, 1 to 1000. Default: 1000.", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the previous page", pattern = "^[A-Za-z0-9._:/-]{1,128}$"),
), responses(
    (status = 200, description = "A page of calendars", body = ListCalendarsResponse),
))]
pub(crate) async fn list(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<ListCalendarsResponse>, Failure> {
    let page = pairs.page()?;
    let request =
        ListCalendarsRequest { page_size: page.size(&services.limits)?, page_token: page.token() };
    Ok(Json(services.list_calendars(caller, request).await.map_err(in_query)?))
}

/// Gets a calendar.
#[utoipa::path(get, path = "/v1/calendars/{name}", operation_id = "get_calendar", tag = "calendars",
    params(("name" = String, Path, description = "Name of the calendar", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The calendar", body = Calendar, headers(("etag" = String))),
    (status = 404, description = "No such calendar", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
) -> Result<Response, Failure> {
    let calendar = services.get_calendar(caller, CalendarRequest { name }).await?;
    Ok((etag(calendar.version), Json(calendar)).into_response())
}

/// Creates a calendar, or replaces it. The same content changes nothing.
///
/// The body is JSON, or an iCalendar file (RFC 5545) with all-day events that happen once or every year.
#[utoipa::path(put, path = "/v1/calendars/{name}", operation_id = "put_calendar", tag = "calendars",
    request_body(content((PutCalendarRequest = "application/json"), (String = "text/calendar"))), params(
    ("name" = String, Path, description = "Name of the calendar", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$"),
    ("if-match" = Option<String>, Header, description = "Version that the calendar must have, with or without quotes; * for any", pattern = r#"^(\*|"[0-9]{1,19}"|[0-9]{1,19})$"#),
    ("if-none-match" = Option<String>, Header, description = "* if the calendar must not exist", pattern = r"^\*$"),
), responses(
    (status = 201, description = "Created", body = Calendar, headers(("location" = String), ("etag" = String))),
    (status = 200, description = "Replaced, or already the same", body = Calendar, headers(("etag" = String))),
    (status = 412, description = "The calendar has another version, or exists already", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn put(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    headers: HeaderMap,
    Content(content): Content,
) -> Result<Response, Failure> {
    let expected_version = match Expected::of_headers(&headers)? {
        Expected::Any => None,
        Expected::None => Some(0),
        Expected::Version(version) => Some(version),
        Expected::Some => {
            let request = CalendarRequest { name: name.clone() };
            let found = services.get_calendar(Caller::of_same(&caller), request).await;
            Some(found.map_err(|failure| missing(failure, Reason::UnknownCalendar))?.version)
        }
    };
    let request = PutCalendarRequest { name: name.clone(), expected_version, ..content };
    let answer = services.put_calendar(caller, request).await.map_err(in_body)?;
    let PutCalendarResponse { calendar, created, .. } = answer;
    let calendar = calendar.ok_or_else(|| Failure::new(Reason::Internal, "no answer"))?;
    let etag = etag(calendar.version);
    if !created {
        return Ok((etag, Json(calendar)).into_response());
    }
    let location = format!("/v1/calendars/{}", name.replace('/', "%2F"));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], etag, Json(calendar)).into_response())
}

/// The text of a file is the whole body.
fn in_body(failure: Failure) -> Failure {
    if failure.reason != Reason::Invalid {
        return failure;
    }
    let renamed = failure.violations.into_iter().map(|wrong| match wrong.field.as_str() {
        "ics" => Violation { field: "body".to_owned(), ..wrong },
        _ => wrong,
    });
    Failure::invalid(renamed.collect())
}

/// Deletes a calendar that no schedule uses.
#[utoipa::path(delete, path = "/v1/calendars/{name}", operation_id = "delete_calendar", tag = "calendars", params(
    ("name" = String, Path, description = "Name of the calendar", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("if-match" = Option<String>, Header, description = "Version that the calendar must have, with or without quotes", pattern = r#"^(\*|"[0-9]{1,19}"|[0-9]{1,19})$"#),
), responses(
    (status = 204, description = "Deleted"),
    (status = 404, description = "No such calendar", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "A schedule uses the calendar", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "The calendar has another version", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    let expected_version = Expected::of_existing(&headers)?;
    let request = DeleteCalendarRequest { name, expected_version };
    services.delete_calendar(caller, request).await?;
    Ok(StatusCode::NO_CONTENT)
}
