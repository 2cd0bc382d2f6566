//! Schedules and calendars over both protocols.

use rota_proto::{operations::Operation, v1};
use serde_json::{Value, json};

use super::{Parity, Twin, nothing, shown};

fn yearly() -> v1::ScheduleDefinition {
    v1::ScheduleDefinition {
        expressions: vec!["30 2 1 1 *".to_owned()],
        time_zone: Some("Europe/Berlin".to_owned()),
        template: Some(v1::TaskTemplate {
            kind: "k".to_owned(),
            payload: r#"{"a":1}"#.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) async fn definitions(both: &mut Parity) {
    use Operation as O;
    both.node.has_feature_level(2).await;
    let none = |_: &Twin| Value::Null;
    let entries = || vec![v1::CalendarEntry { days: "12-25".to_owned(), note: None }];
    let given = |_: &Twin| json!({ "entries": [{ "days": "12-25" }] });
    let message = |twin: &Twin| v1::PutCalendarRequest {
        name: twin.id(),
        entries: entries(),
        ..Default::default()
    };
    let show = |answer: v1::PutCalendarResponse| shown(answer.calendar);
    both.same(O::PutCalendar, given, message, show).await;
    let message = |twin: &Twin| v1::CalendarRequest { name: twin.id() };
    both.same(O::GetCalendar, none, message, shown::<v1::Calendar>).await;
    let message = |_: &Twin| v1::ListCalendarsRequest { page_size: 1, ..Default::default() };
    let given = |_: &Twin| json!({ "limit": 1 });
    both.same(O::ListCalendars, given, message, shown::<v1::ListCalendarsResponse>).await;

    let given = |twin: &Twin| {
        json!({
            "expressions": ["30 2 1 1 *"], "time_zone": "Europe/Berlin",
            "exclude": { "calendars": [{ "name": twin.name }] },
            "template": { "kind": "k", "payload": { "a": 1 } },
        })
    };
    let message = |twin: &Twin| {
        let calendars = vec![v1::CalendarRule { name: twin.id(), on_holiday: None }];
        let exclude = Some(v1::Exclusions { calendars, ..Default::default() });
        let definition = v1::ScheduleDefinition { name: Some(twin.id()), exclude, ..yearly() };
        v1::PutScheduleRequest { definition: Some(definition), expected_version: None }
    };
    let show = |answer: v1::PutScheduleResponse| shown(answer.schedule);
    let [schedule, _] = both.same(O::PutSchedule, given, message, show).await;
    let next = schedule["next_time"].as_str().unwrap().to_owned();
    let named = |twin: &Twin| v1::ScheduleRequest { name: twin.id() };
    both.same(O::GetSchedule, none, named, shown::<v1::Schedule>).await;
    let filter =
        |twin: &Twin| Some(v1::ScheduleFilter { prefix: Some(twin.id()), ..Default::default() });
    let given = |twin: &Twin| json!({ "prefix": twin.name, "limit": 9 });
    let message = |twin: &Twin| v1::ListSchedulesRequest {
        filter: filter(twin),
        page_size: 9,
        ..Default::default()
    };
    both.same(O::ListSchedules, given, message, shown::<v1::ListSchedulesResponse>).await;

    let at: rota_proto::Date = "2026-01-01T00:00:00Z".parse().unwrap();
    let given = |_: &Twin| json!({ "count": 2, "from": "2026-01-01T00:00:00Z" });
    let message = |twin: &Twin| v1::PreviewScheduleRequest {
        name: twin.id(),
        count: Some(2),
        from: Some(at),
    };
    both.same(O::PreviewSchedule, given, message, shown::<v1::SchedulePreview>).await;
    let given = |_: &Twin| {
        let definition = json!({ "expressions": ["30 2 1 1 *"], "time_zone": "Europe/Berlin" });
        json!({ "definition": definition, "from": "2026-01-01T00:00:00Z" })
    };
    let message = |_: &Twin| v1::PreviewDefinitionRequest {
        definition: Some(yearly()),
        count: None,
        from: Some(at),
    };
    both.same(O::PreviewDefinition, given, message, shown::<v1::SchedulePreview>).await;
    let given = |twin: &Twin| json!({ "name": twin.name, "nominal_time": next });
    let message = |twin: &Twin| v1::SkipTickRequest {
        name: twin.id(),
        nominal_time: Some(next.parse().unwrap()),
        undo: false,
    };
    both.same(O::SkipTick, given, message, shown::<v1::Schedule>).await;
}

pub(super) async fn runs(both: &mut Parity) {
    use Operation as O;
    let none = |_: &Twin| Value::Null;
    let named = |twin: &Twin| v1::ScheduleRequest { name: twin.id() };
    let filter =
        |twin: &Twin| Some(v1::ScheduleFilter { prefix: Some(twin.id()), ..Default::default() });
    let message = |twin: &Twin| v1::PauseScheduleRequest {
        name: twin.id(),
        note: Some("n".to_owned()),
        by: None,
    };
    both.same(O::PauseSchedule, |_| json!({ "note": "n" }), message, shown::<v1::Schedule>).await;
    both.same(O::ResumeSchedule, none, named, shown::<v1::Schedule>).await;
    let given = |twin: &Twin| json!({ "filter": { "prefix": twin.name }, "note": "n" });
    let message = |twin: &Twin| v1::PauseSchedulesRequest {
        filter: filter(twin),
        note: Some("n".to_owned()),
        ..Default::default()
    };
    both.same(O::PauseSchedules, given, message, shown::<v1::BulkSchedulesResponse>).await;
    let given = |twin: &Twin| json!({ "filter": { "prefix": twin.name } });
    let message =
        |twin: &Twin| v1::ResumeSchedulesRequest { filter: filter(twin), ..Default::default() };
    both.same(O::ResumeSchedules, given, message, shown::<v1::BulkSchedulesResponse>).await;
    both.same(O::TriggerSchedule, none, named, shown::<v1::Task>).await;

    let date = |text: &str| text.parse::<rota_proto::Date>().ok();
    let (from, to) = ("2020-01-01T00:00:00Z", "2021-12-31T00:00:00Z");
    let given = |_: &Twin| json!({ "from": from, "to": to });
    let message = |twin: &Twin| v1::BackfillScheduleRequest {
        name: twin.id(),
        from: date(from),
        to: date(to),
        ..Default::default()
    };
    let show = shown::<v1::BackfillScheduleResponse>;
    both.same(O::BackfillSchedule, given, message, show).await;
    both.same(O::CancelBackfill, none, named, shown::<v1::Schedule>).await;
    // Nothing was decided then.
    let given = |_: &Twin| json!({ "from": "1999-01-01T00:00:00Z", "to": "1999-12-31T00:00:00Z" });
    let message = |twin: &Twin| v1::ListTicksRequest {
        name: twin.id(),
        range: Some(v1::TimeRange {
            from: date("1999-01-01T00:00:00Z"),
            to: date("1999-12-31T00:00:00Z"),
        }),
        ..Default::default()
    };
    both.same(O::ListTicks, given, message, shown::<v1::ListTicksResponse>).await;
    let message =
        |twin: &Twin| v1::DeleteScheduleRequest { name: twin.id(), expected_version: None };
    both.same(O::DeleteSchedule, none, message, nothing::<v1::DeleteScheduleResponse>).await;
    let message =
        |twin: &Twin| v1::DeleteCalendarRequest { name: twin.id(), expected_version: None };
    both.same(O::DeleteCalendar, none, message, nothing::<v1::DeleteCalendarResponse>).await;
}

pub(super) async fn refused(both: &mut Parity) {
    use Operation as O;
    let definition = v1::ScheduleDefinition { name: Some("a b".to_owned()), ..Default::default() };
    let message = v1::PutScheduleRequest { definition: Some(definition), expected_version: None };
    both.refused(O::PutSchedule, json!({ "name": "a b" }), message, "template").await;
    for (name, field) in [("a b", "name"), ("none", "")] {
        let given = json!({ "name": name });
        // The name is the first field of all these requests.
        let message = v1::ScheduleRequest { name: name.to_owned() };
        for operation in [
            O::GetSchedule,
            O::DeleteSchedule,
            O::PauseSchedule,
            O::ResumeSchedule,
            O::TriggerSchedule,
            O::CancelBackfill,
            O::ListTicks,
            O::PreviewSchedule,
            O::GetCalendar,
            O::DeleteCalendar,
        ] {
            both.refused(operation, given.clone(), message.clone(), field).await;
        }
    }
    let message = v1::ListSchedulesRequest { page_size: 1001, ..Default::default() };
    both.refused(O::ListSchedules, json!({ "limit": 1001 }), message, "limit").await;
    let message = v1::ListCalendarsRequest { page_token: "a b".to_owned(), ..Default::default() };
    both.refused(O::ListCalendars, json!({ "cursor": "a b" }), message, "cursor").await;
    let (pause, resume) =
        (v1::PauseSchedulesRequest::default(), v1::ResumeSchedulesRequest::default());
    both.refused(O::PauseSchedules, json!({}), pause, "all").await;
    both.refused(O::ResumeSchedules, json!({}), resume, "all").await;
    let name = || "none".to_owned();
    let message = v1::SkipTickRequest { name: name(), ..Default::default() };
    both.refused(O::SkipTick, json!({}), message, "nominal_time").await;
    let message = v1::BackfillScheduleRequest { name: name(), ..Default::default() };
    both.refused(O::BackfillSchedule, json!({}), message, "from").await;
    let message = v1::PreviewDefinitionRequest::default();
    both.refused(O::PreviewDefinition, json!({}), message, "definition.expressions").await;
    let entries = vec![v1::CalendarEntry { days: "x".to_owned(), note: None }];
    let message = v1::PutCalendarRequest { name: name(), entries, ..Default::default() };
    let given = json!({ "entries": [{ "days": "x" }] });
    both.refused(O::PutCalendar, given, message, "entries[0].days").await;
}
