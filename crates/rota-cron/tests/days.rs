//! The tokens for days against rules that are written down naively, over every day of 140 years.

use jiff::civil::{Date, Weekday, date};
use rota_cron::{Recurrence, RecurrenceSpec, Timestamp};

fn is_workday(day: Date) -> bool {
    !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

/// The workday of the month that is nearest to a day of it.
fn nearest(day: Date) -> Date {
    let near = |days: i64| {
        let other = day.checked_add(jiff::Span::new().days(days)).expect("a date");
        (other.month() == day.month() && is_workday(other)).then_some(other)
    };
    [0, -1, 1, -2, 2].into_iter().find_map(near).expect("a workday")
}

fn in_month(day: Date, number: i8) -> Option<Date> {
    Date::new(day.year(), day.month(), number).ok()
}

type Rule = fn(Date) -> bool;

const RULES: &[(&str, Rule)] = &[
    ("L * *", |day| day == day.last_of_month()),
    ("L-3 * *", |day| day.day() == day.days_in_month() - 3),
    ("L-30 * ?", |day| day.days_in_month() == 31 && day.day() == 1),
    ("LW * *", |day| nearest(day.last_of_month()) == day),
    ("15W * *", |day| in_month(day, 15).map(nearest) == Some(day)),
    ("1W * *", |day| in_month(day, 1).map(nearest) == Some(day)),
    ("31W * *", |day| in_month(day, 31).map(nearest) == Some(day)),
    ("* * FRI#2", |day| day.weekday() == Weekday::Friday && (8..=14).contains(&day.day())),
    ("* * 1#5", |day| day.weekday() == Weekday::Monday && day.day() > 28),
    ("? * 5L", |day| day.weekday() == Weekday::Friday && day.day() > day.days_in_month() - 7),
    ("13 * FRI", |day| day.day() == 13 || day.weekday() == Weekday::Friday),
    ("13 * +FRI", |day| day.day() == 13 && day.weekday() == Weekday::Friday),
    ("*/10 * FRI", |day| [1, 11, 21, 31].contains(&day.day()) && day.weekday() == Weekday::Friday),
    ("29 2 *", |day| (day.month(), day.day()) == (2, 29)),
    ("29 FEB +7", |day| (day.month(), day.day()) == (2, 29) && day.weekday() == Weekday::Sunday),
    ("1,L JAN-MAR,12 *", |day| {
        [1, 2, 3, 12].contains(&day.month()) && (day.day() == 1 || day == day.last_of_month())
    }),
];

#[test]
fn every_day_of_140_years() {
    for (days, rule) in RULES {
        let expressions = vec![format!("0 0 {days}")];
        let spec = RecurrenceSpec { expressions, ..RecurrenceSpec::default() };
        let recurrence = Recurrence::new(&spec, "").expect(days);
        let mut after = Timestamp::from_seconds(0);
        let mut day = date(1970, 1, 2);
        while day < date(2110, 1, 1) {
            if rule(day) {
                let next = recurrence.next_after(after, &()).expect("an occurrence");
                assert_eq!(next.at.to_string(), format!("{day}T00:00:00Z"), "{days}");
                after = next.at;
            }
            day = day.tomorrow().expect("a date");
        }
    }
}
