//! The times that schedules promise, asked for through the preview: changes of clocks, ends of months, leap years.

use serde_json::{Value, json};

use crate::harness::Node;

/// Expression, time zone, start, and the first runs in UTC.
type Vector = (&'static str, &'static str, &'static str, &'static [&'static str]);

const VECTORS: &[Vector] = &[
    (
        "30 2 * * *",
        "America/New_York",
        "2026-03-07T12:00:00-05:00",
        &["2026-03-08T07:00", "2026-03-09T06:30", "2026-03-10T06:30"],
    ),
    (
        "30 2,14 * * *",
        "Europe/Berlin",
        "2026-03-28T20:00:00+01:00",
        &["2026-03-29T01:00", "2026-03-29T12:30", "2026-03-30T00:30"],
    ),
    (
        "*/15 * * * *",
        "Europe/Berlin",
        "2026-03-29T01:40:00+01:00",
        &["2026-03-29T00:45", "2026-03-29T01:00", "2026-03-29T01:15"],
    ),
    (
        "0 0 * * *",
        "America/Santiago",
        "2026-09-05T12:00:00-04:00",
        &["2026-09-06T04:00", "2026-09-07T03:00"],
    ),
    (
        "0 1 30 3 *",
        "Europe/Lisbon",
        "2025-01-01T00:00:00Z",
        &["2025-03-30T01:00", "2026-03-30T00:00"],
    ),
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00:00+10:30",
        &["2026-10-03T15:30", "2026-10-04T15:15"],
    ),
    (
        "30 1 * * *",
        "America/New_York",
        "2026-10-31T12:00:00-04:00",
        &["2026-11-01T05:30", "2026-11-02T06:30"],
    ),
    (
        "0 * * * *",
        "America/New_York",
        "2026-11-01T00:30:00-04:00",
        &["2026-11-01T05:00", "2026-11-01T06:00", "2026-11-01T07:00", "2026-11-01T08:00"],
    ),
    (
        "*/20 * * * *",
        "Australia/Lord_Howe",
        "2026-04-05T01:25:00+11:00",
        &["2026-04-04T14:40", "2026-04-04T15:10", "2026-04-04T15:30", "2026-04-04T15:50"],
    ),
    (
        "0 11 L * ?",
        "Europe/Paris",
        "2017-02-28T05:00:00+01:00",
        &["2017-02-28T10:00", "2017-03-31T09:00", "2017-04-30T09:00"],
    ),
    ("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00", "2108-02-29T00:00"]),
    (
        "0 0 31 * *",
        "UTC",
        "2026-01-31T00:00:00Z",
        &["2026-03-31T00:00", "2026-05-31T00:00", "2026-07-31T00:00", "2026-08-31T00:00"],
    ),
    (
        "0 5 LW * *",
        "UTC",
        "2023-10-01T00:00:00Z",
        &["2023-10-31T05:00", "2023-11-30T05:00", "2023-12-29T05:00", "2024-01-31T05:00"],
    ),
    (
        "0 9 1W * *",
        "UTC",
        "2026-07-15T00:00:00Z",
        &["2026-08-03T09:00", "2026-09-01T09:00", "2026-10-01T09:00"],
    ),
    (
        "0 0 13 * FRI",
        "UTC",
        "2026-02-01T00:00:00Z",
        &["2026-02-06T00:00", "2026-02-13T00:00", "2026-02-20T00:00", "2026-02-27T00:00"],
    ),
    (
        "0 0 13 * +FRI",
        "UTC",
        "2026-02-01T00:00:00Z",
        &["2026-02-13T00:00", "2026-03-13T00:00", "2026-11-13T00:00"],
    ),
    (
        "*/20 59 23 31 12 ? 2026",
        "UTC",
        "2026-12-31T23:58:50Z",
        &["2026-12-31T23:59:00", "2026-12-31T23:59:20", "2026-12-31T23:59:40", "none"],
    ),
    (
        "0 0 */10 * *",
        "UTC",
        "2026-01-28T00:00:00Z",
        &["2026-01-31T00:00", "2026-02-01T00:00", "2026-02-11T00:00", "2026-02-21T00:00"],
    ),
    ("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00-10:00", &["2012-12-29T22:00"]),
    (
        "@every 90m/10m",
        "America/New_York",
        "2026-11-01T05:00:00Z",
        &["2026-11-01T06:10", "2026-11-01T07:40", "2026-11-01T09:10"],
    ),
    (
        "0 0 */10 * FRI",
        "UTC",
        "2026-01-01T00:00:00Z",
        &["2026-05-01T00:00", "2026-07-31T00:00", "2026-08-21T00:00", "2026-09-11T00:00"],
    ),
];

#[tokio::test]
async fn a_preview_keeps_the_promised_times() {
    let node = Node::start().await;
    for (expression, zone, from, expected) in VECTORS {
        let definition = json!({ "expressions": [expression], "time_zone": zone });
        let asked = json!({ "definition": definition, "from": from, "count": expected.len() });
        let answer = node.post_json("/v1/schedules/preview", &asked).await;
        assert_eq!(answer.status, 200, "{expression}: {answer:?}");
        let preview = answer.json();
        let upcoming = preview["upcoming"].as_array().unwrap();
        let runs: Vec<&str> = upcoming
            .iter()
            .filter(|run| run["fires"] == true)
            .map(|run| run["nominal_time"].as_str().unwrap())
            .collect();
        for (at, expected) in expected.iter().enumerate() {
            let run = runs.get(at).copied().unwrap_or("none");
            assert!(run.starts_with(expected), "{expression} in {zone}: {runs:?}");
        }
        if *zone == "Pacific/Apia" {
            assert_eq!(upcoming[0]["skipped_by"], Value::from("gap"), "{preview}");
        }
    }
    node.stop().await;
}
