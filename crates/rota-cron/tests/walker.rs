//! Occurrences against a walker by brute force, which looks at every minute around changes of the clock.
//!
//! The walker has its own matching and its own steps from local times to instants. It shares no code with the crate.

use std::collections::BTreeMap;

use jiff::{
    Timestamp as Instant,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase},
};
use proptest::{prelude::*, sample::select};
use rota_cron::{Fold, Gap, Kind, Recurrence, RecurrenceSpec, Timestamp};

/// Zones with all kinds of rules: half an hour of daylight saving time, changes at midnight, in both directions, by two
/// hours, without daylight saving time, across the date line, and with offsets in seconds.
const ZONES: &[&str] = &[
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Caracas",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/London",
    "Europe/Volgograd",
    "Pacific/Apia",
    "Pacific/Easter",
    "Pacific/Kwajalein",
    "UTC",
];

/// A field as text and as values.
#[derive(Debug, Clone)]
struct Field {
    text: String,
    values: Vec<u32>,
    star: bool,
    repeats: bool,
}

/// Any way to write a field with values from `first` to `last`, most often near `likely`.
fn field(first: u32, last: u32, likely: u32) -> impl Strategy<Value = Field> {
    let all = move || (first..=last).collect::<Vec<u32>>();
    let star = Just(Field { text: "*".to_owned(), values: all(), star: true, repeats: true });
    let stepped = (2..=(last - first)).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (first..=last).step_by(step as usize).collect(),
        star: true,
        repeats: true,
    });
    let value = prop_oneof![first..=last, first..=likely.min(last)];
    let list = prop::collection::btree_set(value.clone(), 1..4).prop_map(|values| Field {
        text: values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        values: values.into_iter().collect(),
        star: false,
        repeats: false,
    });
    let range =
        (value, 0..12_u32, prop::option::of(1..5_u32)).prop_map(move |(from, size, step)| {
            let to = (from + size).min(last);
            let suffix = step.map_or_else(String::new, |step| format!("/{step}"));
            Field {
                text: format!("{from}-{to}{suffix}"),
                values: (from..=to).step_by(step.unwrap_or(1) as usize).collect(),
                star: false,
                repeats: step.is_some(),
            }
        });
    prop_oneof![2 => star, 1 => stepped, 4 => list, 2 => range]
}

#[derive(Debug, Clone)]
struct Cron {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Cron {
    fn text(&self) -> String {
        [&self.minute, &self.hour, &self.day, &self.month, &self.weekday]
            .map(|field| field.text.as_str())
            .join(" ")
    }

    fn fixed(&self) -> bool {
        !self.minute.repeats && !self.hour.repeats
    }

    fn matches(&self, local: DateTime) -> bool {
        let has =
            |field: &Field, value: i8| field.values.contains(&u32::from(value.unsigned_abs()));
        let day = has(&self.day, local.day());
        let weekday = has(&self.weekday, local.weekday().to_sunday_zero_offset());
        let date = if self.day.star || self.weekday.star { day && weekday } else { day || weekday };
        date && has(&self.minute, local.minute())
            && has(&self.hour, local.hour())
            && has(&self.month, local.month())
            && local.second() == 0
    }
}

fn cron() -> impl Strategy<Value = Cron> {
    let free = |first, last| {
        let star = Field {
            text: "*".to_owned(),
            values: (first..=last).collect(),
            star: true,
            repeats: true,
        };
        prop_oneof![3 => Just(star), 1 => field(first, last, last)]
    };
    (field(0, 59, 59), field(0, 23, 4), free(1, 31), free(1, 12), free(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| Cron { minute, hour, day, month, weekday })
}

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).expect("a zone")
}

/// The changes of a zone's offset from 1970 to 2045, and one day without any.
fn changes(zone: &TimeZone) -> Vec<i64> {
    let mut offset = zone.to_offset(Instant::UNIX_EPOCH);
    let mut found = vec![1_760_000_000];
    for transition in zone.following(Instant::UNIX_EPOCH) {
        let at = transition.timestamp().as_second();
        if at > 2_366_841_600 {
            break;
        }
        if transition.offset() != offset {
            found.push(at);
        }
        offset = transition.offset();
    }
    found
}

fn second(at: i64) -> Instant {
    Instant::from_second(at).expect("an instant")
}

fn local(zone: &TimeZone, at: i64) -> DateTime {
    zone.to_offset(second(at)).to_datetime(second(at))
}

/// The occurrences in `(start, end]` with whether they run.
fn walk(
    cron: &Cron,
    zone: &TimeZone,
    gap: Gap,
    fold: Fold,
    start: i64,
    end: i64,
) -> BTreeMap<i64, bool> {
    let mut found = BTreeMap::new();
    let mut add = |at: i64, fires: bool| {
        if at > start && at <= end {
            *found.entry(at).or_insert(fires) |= fires;
        }
    };
    if !cron.fixed() {
        for at in (start..=end).filter(|at| at % 10 == 0) {
            if cron.matches(local(zone, at)) {
                add(at, true);
            }
        }
        return found;
    }
    let mut ends_of_gaps = BTreeMap::new();
    for minute in (start - 172_800).div_euclid(60)..(end + 172_800).div_euclid(60) {
        let civil = Offset::UTC.to_datetime(second(minute * 60));
        if !cron.matches(civil) {
            continue;
        }
        let with = |offset: Offset| minute * 60 - i64::from(offset.seconds());
        match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => add(with(offset), true),
            AmbiguousOffset::Fold { before, after } => {
                if fold != Fold::Second {
                    add(with(before), true);
                }
                if fold != Fold::First {
                    add(with(after), true);
                }
            }
            AmbiguousOffset::Gap { before, after } => {
                let end_of_gap = *ends_of_gaps
                    .entry((with(after) / 86_400, before, after))
                    .or_insert_with(|| {
                        (with(after) - 90_000..)
                            .find(|at| {
                                zone.to_offset(second(*at)) == after
                                    && zone.to_offset(second(at - 1)) == before
                            })
                            .expect("an end")
                    });
                let long = after.seconds() - before.seconds() >= 3 * 3600;
                match gap {
                    _ if long => add(end_of_gap, false),
                    Gap::End => add(end_of_gap, true),
                    Gap::Skip => add(end_of_gap, false),
                    Gap::Shift => add(with(before), true),
                }
            }
        }
    }
    found
}

fn recurrence(expression: String, zone: &str, gap: Gap, fold: Fold) -> Option<Recurrence> {
    let spec = RecurrenceSpec {
        expressions: vec![expression],
        time_zone: Some(zone.to_owned()),
        gap,
        fold,
        ..RecurrenceSpec::default()
    };
    match Recurrence::new(&spec, "") {
        Ok(recurrence) => Some(recurrence),
        Err(error) => {
            assert!(error.to_string().contains("never matches"), "{error}");
            None
        }
    }
}

fn next(recurrence: &Recurrence, after: i64) -> Option<(i64, bool)> {
    let found = recurrence.next_after(Timestamp::from_seconds(after), &())?;
    Some((found.at.seconds(), found.kind == Kind::Fires))
}

fn check(cron: &Cron, name: &str, change: prop::sample::Index, gap: Gap, fold: Fold) {
    let Some(recurrence) = recurrence(cron.text(), name, gap, fold) else { return };
    let zone = zone(name);
    let change = *change.get(&changes(&zone));
    let (start, end) = (change - 130_000 - change.rem_euclid(60), change + 130_000);
    let expected = walk(cron, &zone, gap, fold, start, end);
    let mut found = BTreeMap::new();
    let mut after = start;
    while let Some((at, fires)) = next(&recurrence, after).filter(|(at, _)| *at <= end) {
        assert!(at > after);
        found.insert(at, fires);
        after = at;
    }
    let text = cron.text();
    if found != expected {
        let wrong = found.iter().find(|(at, fires)| expected.get(at) != Some(fires));
        let missing = expected.iter().find(|(at, fires)| found.get(at) != Some(fires));
        let show = |found: Option<(&i64, &bool)>| {
            found
                .map(|(at, fires)| format!("{} = {} runs: {fires}", second(*at), local(&zone, *at)))
        };
        panic!(
            "{text} in {name}, {gap:?} {fold:?}: wrong {:?}, missing {:?}",
            show(wrong),
            show(missing)
        );
    }
    // From any cursor, not only from an occurrence.
    for after in (change - 8_000..change + 8_000).step_by(617) {
        let expected = expected.range(after + 1..).next().map(|(at, fires)| (*at, *fires));
        let found = next(&recurrence, after).filter(|(at, _)| *at <= end);
        assert_eq!(found, expected, "{text} in {name} after {}, {gap:?} {fold:?}", second(after));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_minute_around_changes_of_the_clock(
        cron in cron(),
        zone in select(ZONES),
        change in any::<prop::sample::Index>(),
        gap in select(&[Gap::End, Gap::Skip, Gap::Shift][..]),
        fold in select(&[Fold::First, Fold::Second, Fold::Both][..]),
    ) {
        check(&cron, zone, change, gap, fold);
    }
}
