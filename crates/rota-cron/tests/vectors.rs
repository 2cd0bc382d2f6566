//! Known answers: expressions, zones and changes of the clock that schedulers are known to get wrong.

use rota_cron::{Fold, Gap, Kind, Recurrence, RecurrenceSpec, Timestamp};

fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    Timestamp(instant.as_millisecond())
}

fn built(expression: &str, zone: &str, gap: Gap, fold: Fold) -> Recurrence {
    let spec = RecurrenceSpec {
        expressions: vec![expression.to_owned()],
        time_zone: Some(zone.to_owned()),
        gap,
        fold,
        ..RecurrenceSpec::default()
    };
    Recurrence::new(&spec, "vectors").unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// The next occurrences as text. Skipped ones are put into parentheses.
fn run(recurrence: &Recurrence, from: &str, count: usize) -> Vec<String> {
    let mut after = at(from);
    let mut found = Vec::new();
    while found.len() < count {
        let Some(next) = recurrence.next_after(after, &()) else { break };
        assert!(next.at > after, "{next:?} is not after {after}");
        after = next.at;
        found.push(match next.kind {
            Kind::Fires => next.at.to_string(),
            Kind::Skipped(_) => format!("({})", next.at),
        });
    }
    found
}

const NY: &str = "America/New_York";
const HOWE: &str = "Australia/Lord_Howe";

/// Number, expression, zone, start (exclusive), instants.
type Vector = (u8, &'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const DEFAULTS: &[Vector] = &[
    (1, "30 2 * * *", NY, "2026-03-07T12:00-05:00", &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z", "2026-03-10T06:30:00Z"]),
    (2, "30 2,14 * * *", "Europe/Berlin", "2026-03-28T20:00+01:00", &["2026-03-29T01:00:00Z", "2026-03-29T12:30:00Z", "2026-03-30T00:30:00Z"]),
    (3, "*/15 * * * *", "Europe/Berlin", "2026-03-29T01:40+01:00", &["2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"]),
    (4, "0 0 * * *", "America/Santiago", "2026-09-05T12:00-04:00", &["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"]),
    (5, "0 1 30 3 *", "Europe/Lisbon", "2025-01-01T00:00Z", &["2025-03-30T01:00:00Z", "2026-03-30T00:00:00Z"]),
    (6, "15 2 * * *", HOWE, "2026-10-03T12:00+10:30", &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]),
    (7, "30 1 * * *", NY, "2026-10-31T12:00-04:00", &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
    (8, "0 * * * *", NY, "2026-11-01T00:30-04:00", &["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z", "2026-11-01T08:00:00Z"]),
    (9, "*/20 * * * *", HOWE, "2026-04-05T01:25+11:00", &["2026-04-04T14:40:00Z", "2026-04-04T15:10:00Z", "2026-04-04T15:30:00Z", "2026-04-04T15:50:00Z"]),
    (10, "0 11 L * ?", "Europe/Paris", "2017-02-28T05:00+01:00", &["2017-02-28T10:00:00Z", "2017-03-31T09:00:00Z", "2017-04-30T09:00:00Z"]),
    (11, "0 0 29 2 *", "UTC", "2096-03-01T00:00Z", &["2104-02-29T00:00:00Z", "2108-02-29T00:00:00Z"]),
    (12, "0 0 31 * *", "UTC", "2026-01-31T00:00Z", &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z", "2026-07-31T00:00:00Z", "2026-08-31T00:00:00Z"]),
    (13, "0 5 LW * *", "UTC", "2023-10-01T00:00Z", &["2023-10-31T05:00:00Z", "2023-11-30T05:00:00Z", "2023-12-29T05:00:00Z", "2024-01-31T05:00:00Z"]),
    (14, "0 9 1W * *", "UTC", "2026-07-15T00:00Z", &["2026-08-03T09:00:00Z", "2026-09-01T09:00:00Z", "2026-10-01T09:00:00Z"]),
    (15, "0 0 13 * FRI", "UTC", "2026-02-01T00:00Z", &["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-06T00:00:00Z"]),
    (15, "0 0 13 * +FRI", "UTC", "2026-02-01T00:00Z", &["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-11-13T00:00:00Z"]),
    (16, "*/20 59 23 31 12 ? 2026", "UTC", "2026-12-31T23:58:50Z", &["2026-12-31T23:59:00Z", "2026-12-31T23:59:20Z", "2026-12-31T23:59:40Z"]),
    (17, "0 0 */10 * *", "UTC", "2026-01-28T00:00Z", &["2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z", "2026-02-11T00:00:00Z", "2026-02-21T00:00:00Z", "2026-03-01T00:00:00Z"]),
    (18, "0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00-10:00", &["(2011-12-30T10:00:00Z)", "2012-12-29T22:00:00Z"]),
    (19, "@every 90m/10m", NY, "2026-11-01T05:00Z", &["2026-11-01T06:10:00Z", "2026-11-01T07:40:00Z", "2026-11-01T09:10:00Z"]),
    (21, "0 0 */10 * FRI", "UTC", "2026-01-01T00:00Z", &["2026-05-01T00:00:00Z", "2026-07-31T00:00:00Z", "2026-08-21T00:00:00Z", "2026-09-11T00:00:00Z"]),
];

#[test]
fn instants_under_the_default_policy() {
    for (number, expression, zone, from, expected) in DEFAULTS {
        let recurrence = built(expression, zone, Gap::default(), Fold::default());
        assert_eq!(
            run(&recurrence, from, expected.len()),
            *expected,
            "vector {number}: {expression}"
        );
    }
}

#[test]
fn an_expression_with_years_ends() {
    let recurrence = built("*/20 59 23 31 12 ? 2026", "UTC", Gap::End, Fold::First);
    assert_eq!(run(&recurrence, "2026-12-31T23:58:50Z", 9).len(), 3);
}

#[test]
fn vector_1_under_every_policy_for_gaps() {
    let run = |gap, count| {
        run(&built("30 2 * * *", NY, gap, Fold::First), "2026-03-07T12:00-05:00", count)
    };
    assert_eq!(
        run(Gap::Skip, 3),
        ["(2026-03-08T07:00:00Z)", "2026-03-09T06:30:00Z", "2026-03-10T06:30:00Z"]
    );
    assert_eq!(run(Gap::Shift, 2), ["2026-03-08T07:30:00Z", "2026-03-09T06:30:00Z"]);
}

#[test]
fn vector_7_under_every_policy_for_folds() {
    let run = |fold, count| {
        run(&built("30 1 * * *", NY, Gap::End, fold), "2026-10-31T12:00-04:00", count)
    };
    let (first, second, next) =
        ("2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z");
    assert_eq!(run(Fold::First, 2), [first, next]);
    assert_eq!(run(Fold::Second, 2), [second, next]);
    assert_eq!(run(Fold::Both, 3), [first, second, next]);
}

#[test]
fn vector_20_is_refused_with_the_field() {
    for (expression, field, text) in [
        ("0 0 30 2 *", "day of month", "30"),
        ("0 0 1--100000000 * *", "day of month", "1--100000000"),
        ("60 * * * *", "minute", "60"),
        ("* * * * MONDAYY", "day of week", "MONDAYY"),
    ] {
        let error = rota_cron::parse(expression, "").expect_err(expression);
        assert_eq!((error.field, error.text.as_str()), (Some(field), text), "{error}");
        assert!(error.to_string().contains(&format!("{field} \"{text}\": ")), "{error}");
    }
}
