//! The sentences and warnings for people, normal forms, and the stable hashes.

use std::time::Duration;

use proptest::prelude::*;
use rota_cron::{Expression, Gap, Recurrence, RecurrenceSpec, Timestamp, jitter, parse};

fn spec(expression: &str, zone: &str) -> RecurrenceSpec {
    RecurrenceSpec {
        expressions: vec![expression.to_owned()],
        time_zone: Some(zone.to_owned()),
        ..RecurrenceSpec::default()
    }
}

fn built(expression: &str, zone: &str) -> Recurrence {
    Recurrence::new(&spec(expression, zone), "").expect(expression)
}

#[test]
fn sentences_say_how_an_expression_was_read() {
    for (expression, sentence) in [
        ("30 2 * * *", "At 02:30 every day"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("* * * * *", "Every minute"),
        ("0 9 1W * *", "At 09:00 on the weekday nearest to day 1 of the month"),
        ("0 0 13 * FRI", "At 00:00 on day 13 of the month, and on Friday"),
        ("0 0 13 * +FRI", "At 00:00 on day 13 of the month if it is Friday"),
        ("0 6 * 1,7 MON#1", "At 06:00 on the first Monday in January and July"),
        (
            "0,30 9-17 * * 1-5",
            "Minutes 0, 30 of hours 9-17 on Monday, Tuesday, Wednesday, Thursday and Friday",
        ),
        ("5 * * * *", "Minute 5 of every hour"),
        (
            "*/20 59 23 31 12 ? 2026",
            "At 23:59:00, 23:59:20 and 23:59:40 on day 31 of the month in December in 2026",
        ),
    ] {
        let read = Expression::parse(expression, "").expect(expression);
        assert_eq!(read.describe(), sentence, "{expression}");
    }
    let every_day = built("30 2 * * *", "America/New_York");
    assert_eq!(every_day.describe(), "At 02:30 every day, in America/New_York");
}

#[test]
fn warnings_name_changes_of_the_clock_and_traps() {
    // 2026-01-01T00:00:00Z
    let from = Timestamp::from_seconds(1_767_225_600);
    let warnings = |recurrence: &Recurrence| -> Vec<String> {
        recurrence.warnings(from, &()).iter().map(ToString::to_string).collect()
    };
    let at_half_past_two = spec("30 2 * * *", "America/New_York");
    let recurrence = |gap| {
        let spec = RecurrenceSpec { gap, ..at_half_past_two.clone() };
        Recurrence::new(&spec, "").expect("a recurrence")
    };
    assert_eq!(
        warnings(&recurrence(Gap::End)),
        ["02:30 on 2026-03-08 does not exist: runs at 03:00"]
    );
    assert_eq!(
        warnings(&recurrence(Gap::Shift)),
        ["02:30 on 2026-03-08 does not exist: runs at 03:30"]
    );
    assert_eq!(warnings(&recurrence(Gap::Skip)), ["02:30 on 2026-03-08 does not exist: skipped"]);
    let twice = built("30 1 * * *", "America/New_York");
    assert_eq!(warnings(&twice), ["01:30 on 2026-11-01 comes twice: runs the first time"]);
    assert_eq!(warnings(&built("* * * * *", "UTC")), ["1,440 runs a day"]);
    let either = warnings(&built("0 0 13 * FRI", "UTC"));
    assert!(either[0].contains("either the day of month or the weekday"), "{either:?}");
    assert_eq!(warnings(&built("0 0 1 1 1 ? 2020", "UTC")), ["it never runs"]);
}

#[test]
fn one_meaning_has_one_normal_form() {
    for (one, other) in [
        ("0 0 * * 7", "0 0 * * SUN"),
        ("@hourly", "0 */1 ? * *"),
        ("0,15,30,45 * * * *", "*/15 * * * *"),
        ("0 0 1-31 * FRI", "@daily"),
        ("0 0 0 * * ? *", "0 0 ? * MON-SUN"),
        ("TZ=Europe/Berlin 0 0 * * *", "CRON_TZ=Europe/Berlin @daily"),
    ] {
        let recurrence = |text: &str| {
            let spec =
                RecurrenceSpec { expressions: vec![text.to_owned()], ..RecurrenceSpec::default() };
            Recurrence::new(&spec, "").expect(text)
        };
        assert_eq!(recurrence(one), recurrence(other), "{one} and {other}");
        assert_eq!(recurrence(one).normal_form(), recurrence(other).normal_form());
    }
    // Fixed times and repeated ones differ when the clock changes.
    assert_ne!(built("0 0-23 * * *", "UTC"), built("0 * * * *", "UTC"));
}

#[test]
fn jitter_never_changes() {
    let minute = Duration::from_secs(60);
    for (name, at, expected) in JITTER {
        assert_eq!(jitter(name, Timestamp(*at), minute).as_millis(), *expected, "{name} at {at}");
    }
    assert_eq!(jitter("nightly", Timestamp(0), Duration::ZERO), Duration::ZERO);
}

#[test]
fn hashed_fields_never_change() {
    for (name, expression, expected) in HASHED {
        let read = Expression::parse(expression, name).expect(expression);
        assert_eq!(read.to_string(), *expected, "{name}: {expression}");
    }
}

const JITTER: &[(&str, i64, u128)] =
    &[("nightly", 0, 28274), ("nightly", 1_772_953_200_000, 22677), ("", 1, 18228)];
const HASHED: &[(&str, &str, &str)] = &[
    ("nightly", "H H * * *", "28 21 * * *"),
    ("report", "H H * * *", "21 5 * * *"),
    ("nightly", "H/15 * * * *", "7/15 * * * *"),
    ("nightly", "H(0-29)/10 H(9-17) H * H", "4-24/10 17 1 * 2"),
    ("nightly", "H H H * * *", "28 28 21 * * *"),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}") {
        let _ = parse(&text, "seed");
    }

    #[test]
    fn any_text_in_the_alphabet_of_cron_is_read_or_refused_and_can_be_written_back(
        text in "(TZ=UTC )?([0-9*?LWH#/,+()-]{1,6}|MON|FRI#2|5L|L-3|15W|\\*/7|H\\(1-9\\)|2|10-20|1,5) \
                 ([0-9*?/,-]{1,4}|\\*|3|9-17|H) ([0-9LW*?/,-]{1,4}|\\*|L|1W) ([0-9*/,-]{1,4}|\\*|JAN-MAR) \
                 ([0-9#L*?/,+-]{1,4}|\\*|FRI|\\+1)( [0-9*,-]{1,9})?"
    ) {
        if let Ok(read) = parse(&text, "seed") && let rota_cron::Rule::Expression(read) = read.rule {
            let written = read.to_string();
            prop_assert_eq!(&Expression::parse(&written, "").expect(&written), &read, "{}", text);
            prop_assert!(!read.describe().is_empty());
        }
    }
}
