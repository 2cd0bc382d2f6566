//! Exclusions and calendars: what is skipped, and where runs move.

use std::{collections::BTreeMap, time::Duration};

use rota_cron::{
    Calendar, CalendarEntry, CalendarRule, ExcludedBy, ExclusionSpec, IntervalSpec, Kind,
    OnHoliday, Recurrence, RecurrenceSpec, Skip, Timestamp,
};

fn calendars(days: &[&str]) -> BTreeMap<String, Calendar> {
    let entry =
        |days: &&str| CalendarEntry { days: (*days).to_owned(), note: "a holiday".to_owned() };
    let entries: Vec<CalendarEntry> = days.iter().map(entry).collect();
    let calendar = Calendar::new(&entries).expect("a calendar");
    BTreeMap::from([("holidays".to_owned(), calendar)])
}

fn rule(on_holiday: OnHoliday) -> Vec<CalendarRule> {
    vec![CalendarRule { name: "holidays".to_owned(), on_holiday }]
}

fn spec(expression: &str, exclude: ExclusionSpec) -> RecurrenceSpec {
    RecurrenceSpec {
        expressions: vec![expression.to_owned()],
        exclude,
        ..RecurrenceSpec::default()
    }
}

/// Month, day and hour of the next occurrences of 2026 from the 20th of December, skipped ones in parentheses.
fn run(spec: &RecurrenceSpec, calendars: &BTreeMap<String, Calendar>, count: usize) -> Vec<String> {
    let recurrence = Recurrence::new(spec, "").expect("a recurrence");
    let mut after = Timestamp::from_seconds(1_797_724_800);
    let mut found = Vec::new();
    for _ in 0..count {
        let Some(next) = recurrence.next_after(after, calendars) else { break };
        assert!(next.at > after);
        after = next.at;
        let text = next.at.to_string()[5..16].to_owned();
        found.push(if next.kind == Kind::Fires { text } else { format!("({text})") });
    }
    found
}

#[test]
fn holidays_skip_or_move_runs() {
    let calendars = calendars(&["12-25", "2026-12-26..2026-12-27"]);
    let with =
        |on_holiday| ExclusionSpec { calendars: rule(on_holiday), ..ExclusionSpec::default() };
    let friday = "0 9 * * FRI";
    assert_eq!(
        run(&spec(friday, with(OnHoliday::Skip)), &calendars, 2),
        ["(12-25T09:00)", "01-01T09:00"]
    );
    assert_eq!(
        run(&spec(friday, with(OnHoliday::Before)), &calendars, 2),
        ["12-24T09:00", "01-01T09:00"]
    );
    assert_eq!(
        run(&spec(friday, with(OnHoliday::After)), &calendars, 2),
        ["12-28T09:00", "01-01T09:00"]
    );
    // A day that has the run anyway has it once.
    let daily = run(&spec("0 9 24-29 12 *", with(OnHoliday::After)), &calendars, 3);
    assert_eq!(daily, ["12-24T09:00", "12-28T09:00", "12-29T09:00"]);
    let daily = run(&spec("0 9 24-29 12 *", with(OnHoliday::Before)), &calendars, 3);
    assert_eq!(daily, ["12-24T09:00", "12-28T09:00", "12-29T09:00"]);
}

#[test]
fn moved_runs_say_from_where_and_pass_over_excluded_days() {
    // 2026-12-24 is a Thursday, so the free day behind Friday's holiday is Monday.
    let calendars = calendars(&["2026-12-25"]);
    let exclude = ExclusionSpec {
        expressions: vec!["* * * * SAT,SUN".to_owned()],
        calendars: rule(OnHoliday::After),
        ..ExclusionSpec::default()
    };
    let recurrence = Recurrence::new(&spec("0 9 25 12 *", exclude), "").expect("a recurrence");
    let next =
        recurrence.next_after(Timestamp::from_seconds(1_797_724_800), &calendars).expect("a run");
    assert_eq!(next.at.to_string(), "2026-12-28T09:00:00Z");
    assert_eq!(next.moved_from.map(|date| date.to_string()).as_deref(), Some("2026-12-25"));
}

#[test]
fn a_calendar_without_a_free_day_near_skips() {
    let calendars = calendars(&["2026-12-01..2027-06-30"]);
    let exclude = ExclusionSpec { calendars: rule(OnHoliday::After), ..ExclusionSpec::default() };
    let found = run(&spec("0 9 25 12 *", exclude.clone()), &calendars, 2);
    assert_eq!(found, ["(12-25T09:00)", "12-25T09:00"]);
    let recurrence = Recurrence::new(&spec("0 9 25 12 *", exclude), "").expect("a recurrence");
    let from = Timestamp::from_seconds(1_797_724_800);
    let skipped = recurrence.next_after(from, &calendars).expect("an occurrence");
    let by = ExcludedBy::Calendar("holidays".into());
    assert_eq!(skipped.kind, Kind::Skipped(Skip::Excluded { by }));
    let fires = recurrence.next_fire_after(from, &calendars).expect("a run");
    assert_eq!(fires.at.to_string(), "2027-12-25T09:00:00Z");
}

#[test]
fn dates_moments_and_expressions_are_excluded() {
    let exclude = ExclusionSpec {
        dates: vec![
            "2026-12-21".to_owned(),
            "2026-12-22T03:00".to_owned(),
            "2026-12-23T00:00:00+01:00".to_owned(),
        ],
        expressions: vec!["* 12 * * *".to_owned()],
        ..ExclusionSpec::default()
    };
    let six = RecurrenceSpec {
        intervals: vec![IntervalSpec {
            every: Duration::from_secs(6 * 3600),
            phase: Duration::ZERO,
        }],
        ..RecurrenceSpec { exclude: exclude.clone(), ..RecurrenceSpec::default() }
    };
    let found = run(&six, &BTreeMap::new(), 7);
    let expected = [
        "12-20T06:00",
        "(12-20T12:00)",
        "12-20T18:00",
        "(12-21T00:00)",
        "(12-21T06:00)",
        "(12-21T12:00)",
        "(12-21T18:00)",
    ];
    assert_eq!(found, expected);
    let three = run(&spec("0 3,23 22 12 *", exclude), &BTreeMap::new(), 2);
    assert_eq!(three, ["(12-22T03:00)", "(12-22T23:00)"].map(str::to_owned));
}

#[test]
fn start_end_and_single_dates_bound_a_schedule() {
    let dates = RecurrenceSpec {
        dates: vec![
            "2026-12-24T18:00".to_owned(),
            "2026-12-23T18:00:00-05:00".to_owned(),
            "2026-12-31T18:00".to_owned(),
        ],
        start: Some("2026-12-23T00:00".to_owned()),
        end: Some("2026-12-24T18:00:00Z".to_owned()),
        ..RecurrenceSpec::default()
    };
    assert_eq!(run(&dates, &BTreeMap::new(), 5), ["12-23T23:00", "12-24T18:00"]);
}

#[test]
fn faults_name_the_field_and_the_limit() {
    let refused =
        |spec: &RecurrenceSpec| Recurrence::new(spec, "").expect_err("a fault").to_string();
    let good = spec("0 0 * * *", ExclusionSpec::default());
    for (spec, text) in [
        (RecurrenceSpec::default(), "at least one expression"),
        (
            RecurrenceSpec { expressions: vec!["0 0 * * *".to_owned(); 17], ..good.clone() },
            "expressions has 17 items; at most 16",
        ),
        (
            RecurrenceSpec { time_zone: Some("Europe/Berln".to_owned()), ..good.clone() },
            "did you mean Europe/Berlin",
        ),
        (
            RecurrenceSpec { dates: vec!["2026-12-24".to_owned()], ..good.clone() },
            "dates[0]: \"2026-12-24\" is not a date with a time",
        ),
        (
            RecurrenceSpec {
                start: Some("2026-01-01T00:00".to_owned()),
                end: Some("2025-01-01T00:00".to_owned()),
                ..good.clone()
            },
            "end must be after start",
        ),
        (
            RecurrenceSpec {
                expressions: vec!["TZ=Europe/Berlin 0 0 * * *".to_owned()],
                time_zone: Some("UTC".to_owned()),
                ..good.clone()
            },
            "has one time zone",
        ),
        (
            RecurrenceSpec { expressions: vec!["@reboot".to_owned()], ..good.clone() },
            "expressions[0]: ",
        ),
        (
            RecurrenceSpec { expressions: vec!["@every 10m/10m".to_owned()], ..good.clone() },
            "phase",
        ),
        (
            RecurrenceSpec {
                exclude: ExclusionSpec {
                    calendars: vec![CalendarRule::default()],
                    ..ExclusionSpec::default()
                },
                ..good.clone()
            },
            "exclude.calendars[0]",
        ),
    ] {
        let error = refused(&spec);
        assert!(error.contains(text), "{error} has no {text:?}");
    }
}
