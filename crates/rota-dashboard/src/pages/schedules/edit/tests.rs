//! Tests of the editor: what it asks the API, and what it shows.

use std::collections::HashMap;

use rota_proto::v1::{PutScheduleResponse, TaskTemplate, UpcomingRun};
use tonic_types::ErrorDetails;

use super::*;
use crate::{apart::assert_apart, fake::Fake};

const NAME: &str = "n/\"><script>alert(1)</script>\u{202e}";

fn definition() -> ScheduleDefinition {
    let template = TaskTemplate {
        kind: "k".to_owned(),
        payload: r#"{"id":9007199254740993}"#.into(),
        ..TaskTemplate::default()
    };
    ScheduleDefinition {
        name: Some(NAME.to_owned()),
        expressions: vec!["30 2 * * *".to_owned()],
        max_runs: Some(u64::MAX),
        template: Some(template),
        ..ScheduleDefinition::default()
    }
}

fn schedule(version: u64) -> Schedule {
    Schedule {
        name: NAME.to_owned(),
        definition: Some(definition()),
        version,
        ..Schedule::default()
    }
}

fn fake() -> Fake {
    let run = UpcomingRun {
        nominal_time: Some("2026-03-08T07:00:00Z".parse().expect("a date")),
        local_time: "2026-03-08T03:00:00-04:00".to_owned(),
        fires: true,
        ..UpcomingRun::default()
    };
    let preview = SchedulePreview {
        sentence: "At <b>03:00</b>\u{202e}".to_owned(),
        time_zone: NAME.to_owned(),
        warnings: vec!["<script>alert(2)</script>\u{202e}".to_owned()],
        upcoming: vec![run],
        ..SchedulePreview::default()
    };
    let saved = PutScheduleResponse { schedule: Some(schedule(8)), created: false, changed: true };
    Fake::default()
        .with("GetSchedule", &schedule(7))
        .with("PreviewDefinition", &preview)
        .with("PutSchedule", &saved)
}

fn conflict() -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("version_conflict", "rota", HashMap::new());
    Status::with_error_details(Code::FailedPrecondition, "it has version 9", details)
}

async fn sent(fake: &Fake, more: &[(&str, &str)]) -> Shown {
    let base = json(&definition());
    let known = [("schedule", NAME), ("version", "7"), ("base", &base)];
    act(&fake.form("schedule-edit", &[more, &known].concat())).await.expect("an answer")
}

fn html(shown: Shown) -> String {
    let Shown::Page(view) = shown else { panic!("no page") };
    let html = view.body.into_string();
    assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
    html
}

/// The value of a hidden field, as a browser sends it back.
fn hidden(html: &str, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let (_, rest) = html.rsplit_once(&mark).expect(name);
    let (value, _) = rest.split_once('"').expect("an end");
    value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[tokio::test]
async fn a_preview_shows_runs_warnings_and_changes_and_saves_nothing() {
    let fake = fake();
    let form = [
        ("do", "preview"),
        ("form", "fields"),
        ("expressions", "0 3 * * *"),
        ("kind", "k"),
        ("payload", r#"{"id":9007199254740993}"#),
    ];
    let html = html(sent(&fake, &form).await);
    for text in
        [">03:00:00 -04:00<", "alert(2)", "<dt><bdi>expressions</bdi></dt>", "Save the schedule"]
    {
        assert!(html.contains(text), "{text} is missing in {html}");
    }
    assert!(!html.contains("<dt><bdi>template.payload"), "the payload is the same: {html}");
    assert_apart(&html);
    let calls: Vec<PreviewDefinitionRequest> = fake.calls("PreviewDefinition");
    let previewed = calls[0].definition.clone().expect("a definition");
    assert_eq!(previewed.expressions, ["0 3 * * *"]);
    assert_eq!(previewed.max_runs, Some(u64::MAX), "what has no field stays");
    assert_eq!(fake.calls::<PutScheduleRequest>("PutSchedule"), []);

    // The button saves what was shown, with the version that it was made from.
    let form = [("do", "save"), ("form", "json"), ("definition", &hidden(&html, "definition"))];
    let Shown::See(link) = sent(&fake, &form).await else { panic!("not saved") };
    assert!(
        link.starts_with("schedule?name=n%2F") && link.ends_with("flash=schedule-saved"),
        "{link}"
    );
    let request = PutScheduleRequest { definition: Some(previewed), expected_version: Some(7) };
    assert_eq!(fake.calls::<PutScheduleRequest>("PutSchedule"), [request]);
}

#[tokio::test]
async fn a_concurrent_change_is_not_overwritten() {
    let theirs = ScheduleDefinition { description: Some("theirs".to_owned()), ..definition() };
    let other = Schedule { definition: Some(theirs), ..schedule(9) };
    let fake = fake().refusing("PutSchedule", conflict()).with("GetSchedule", &other);
    let mine = json(&definition());
    let html = html(sent(&fake, &[("do", "save"), ("form", "json"), ("definition", &mine)]).await);
    assert!(html.contains("Somebody else has saved this schedule meanwhile"), "{html}");
    assert!(html.contains("<bdi>theirs</bdi>"), "it says what differs: {html}");
    assert_eq!(hidden(&html, "version"), "9", "the next save is for what was shown");
    assert!(!html.contains("value=\"save\""), "a preview comes first");
}

#[tokio::test]
async fn a_new_schedule_must_not_exist() {
    let fake = fake().refusing("PutSchedule", conflict());
    let mine = json(&definition());
    let form =
        [("version", "0"), ("base", "{}"), ("do", "save"), ("form", "json"), ("definition", &mine)];
    let html = html(act(&fake.form("schedule-edit", &form)).await.expect("a page"));
    assert!(html.contains("There is a schedule of this name"), "{html}");
    let calls: Vec<PutScheduleRequest> = fake.calls("PutSchedule");
    assert_eq!(calls[0].expected_version, Some(0));
    assert_eq!(hidden(&html, "version"), "0");
}

#[tokio::test]
async fn what_cannot_be_read_stays_in_the_form() {
    let fake = fake();
    let text = "{\"name\": \"</textarea><script>\u{202e}\"";
    let html_ =
        html(sent(&fake, &[("do", "preview"), ("form", "json"), ("definition", text)]).await);
    assert!(html_.contains("{&quot;name&quot;: &quot;&lt;/textarea&gt;"), "{html_}");
    assert_apart(&html_);
    let html_ = html(
        sent(
            &fake,
            &[
                ("do", "preview"),
                ("form", "fields"),
                ("payload", "{<\u{202e}"),
                ("time_zone", NAME),
            ],
        )
        .await,
    );
    assert_apart(&html_);
    assert!(
        html_.contains("<code>payload</code>") && html_.contains("{&lt;\u{202e}</textarea>"),
        "{html_}"
    );
    assert_eq!(fake.methods(), [""; 0]);
    let refused =
        fake.refusing("PreviewDefinition", Status::invalid_argument("<script>never runs\u{202e}"));
    let form = [("do", "preview"), ("form", "fields"), ("expressions", "61 * * * *")];
    let html_ = html(sent(&refused, &form).await);
    assert_apart(&html_);
    assert!(html_.contains("never runs") && html_.contains(">61 * * * *</textarea>"), "{html_}");
}

#[tokio::test]
async fn the_two_forms_are_of_one_definition() {
    let fake = fake();
    let form = [("do", "json"), ("form", "fields"), ("expressions", "0 4 * * *"), ("kind", "k")];
    let html_ = html(sent(&fake, &form).await);
    assert!(html_.contains("0 4 * * *") && html_.contains("18446744073709551615"), "{html_}");
    let text =
        json(&ScheduleDefinition { expressions: vec!["0 5 * * *".to_owned()], ..definition() });
    let html_ =
        html(sent(&fake, &[("do", "fields"), ("form", "json"), ("definition", &text)]).await);
    assert!(html_.contains(">0 5 * * *</textarea>"), "{html_}");
    assert_eq!(fake.methods(), [""; 0]);
}

#[tokio::test]
async fn the_form_begins_with_the_saved_definition_or_a_copy() {
    let fake = fake();
    let view = show(&fake.visit("schedule-edit", "name=n")).await.expect("a page");
    let edited = html(view.into());
    assert_eq!(hidden(&edited, "version"), "7");
    assert!(
        edited.contains("name=\"schedule\"") && edited.contains("9007199254740993"),
        "{edited}"
    );
    let view = show(&fake.visit("schedule-edit", "copy=n")).await.expect("a page");
    let copied = html(view.into());
    assert_eq!(hidden(&copied, "version"), "0");
    assert!(copied.contains("name=\"new_name\" value=\"\""), "{copied}");
    let view = show(&fake.visit("schedule-edit", "")).await.expect("a page");
    assert!(html(view.into()).contains("New schedule"));
}
