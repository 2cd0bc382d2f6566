//! The sentence for people that says how an expression was read.

use super::{
    BITS_OF_A_WEEKDAY, EVERY_DAY, EVERY_ONE, EVERY_WEEKDAY, Expression, LAST_ONE,
    normal::{set, year_text},
};
use crate::civil::{MONTHS, WEEKDAYS};

const EVERY_MONTH: u16 = 0b1_1111_1111_1110;
/// More times of a day than this are described by their fields.
const MAX_TIMES: u32 = 6;

impl Expression {
    /// A sentence without its zone, such as `At 02:30 every day`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.clock_text();
        text.push_str(&self.date_text());
        if self.months != EVERY_MONTH {
            let names = (1..=12_usize).filter(|month| self.months >> month & 1 == 1);
            let names: Vec<&str> = names.map(|month| MONTHS[month - 1]).collect();
            text.push_str(&format!(" in {}", joined(&names, "and")));
        }
        if let Some(years) = &self.years {
            text.push_str(&format!(" in {}", year_text(years)));
        }
        text
    }

    /// How many times of a day match.
    pub(crate) fn times_a_day(&self) -> u32 {
        self.hours.count_ones() * self.minutes.count_ones() * self.seconds.count_ones()
    }

    /// Whether both kinds of days are restricted and one of them is enough.
    pub(crate) fn is_either_day(&self) -> bool {
        !self.both
    }

    fn clock_text(&self) -> String {
        if self.times_a_day() <= MAX_TIMES {
            let (mut times, mut from) = (Vec::new(), 0);
            while let Some(second) = self.next_clock(from) {
                let (hour, minute) = (second / 3600, second / 60 % 60);
                let clock = format!("{hour:02}:{minute:02}");
                // All with seconds, or none.
                let seconds =
                    if self.seconds == 1 { String::new() } else { format!(":{:02}", second % 60) };
                times.push(clock + &seconds);
                from = second + 1;
            }
            return format!("At {}", joined(&times, "and"));
        }
        let mut parts = Vec::new();
        if self.seconds != 1 {
            parts.push(unit("second", self.seconds, 59));
        }
        parts.push(unit("minute", self.minutes, 59));
        if self.hours != (1 << 24) - 1 {
            parts.push(unit("hour", u64::from(self.hours), 23));
        } else if self.minutes.count_ones() < 60
            && !parts.last().is_some_and(|part| part.starts_with("every"))
        {
            parts.push("every hour".to_owned());
        }
        let mut text = parts.join(" of ");
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        text
    }

    fn date_text(&self) -> String {
        let (days, weekdays) = (self.day_names(), self.weekday_names());
        let clock_repeats = self.times_a_day() > MAX_TIMES;
        match (days.is_empty(), weekdays.is_empty()) {
            (true, true) if self.months != EVERY_MONTH || !clock_repeats => " every day".to_owned(),
            (true, true) => String::new(),
            (false, true) => format!(" on {} of the month", joined(&days, "and")),
            (true, false) => format!(" on {}", joined(&weekdays, "and")),
            (false, false) if self.both => {
                format!(
                    " on {} of the month if it is {}",
                    joined(&days, "or"),
                    joined(&weekdays, "or")
                )
            }
            (false, false) => {
                format!(
                    " on {} of the month, and on {}",
                    joined(&days, "and"),
                    joined(&weekdays, "and")
                )
            }
        }
    }

    fn day_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.days == EVERY_DAY {
            return names;
        }
        if self.days != 0 {
            let plural = if self.days.count_ones() == 1 { "" } else { "s" };
            names.push(format!(
                "day{plural} {}",
                set(u64::from(self.days), 1, 31, false).replace(',', ", ")
            ));
        }
        for day in (1..=31).filter(|day| self.near >> day & 1 == 1) {
            names.push(format!("the weekday nearest to day {day}"));
        }
        for days in (0..=30).rev().filter(|days| self.from_last >> days & 1 == 1) {
            names.push(match days {
                0 => "the last day".to_owned(),
                1 => "the day before the last day".to_owned(),
                days => format!("the day {days} days before the last day"),
            });
        }
        if self.near & 1 == 1 {
            names.push("the last weekday".to_owned());
        }
        names
    }

    fn weekday_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.weekdays == EVERY_WEEKDAY {
            return names;
        }
        // A week begins with Monday for most readers.
        for weekday in [1, 2, 3, 4, 5, 6, 0] {
            let wanted = self.weekdays >> (u32::try_from(weekday).unwrap_or(0) * BITS_OF_A_WEEKDAY);
            let name = WEEKDAYS[weekday];
            if wanted & EVERY_ONE == EVERY_ONE {
                names.push(name.to_owned());
                continue;
            }
            for (nth, ordinal) in ["first", "second", "third", "fourth", "fifth"].iter().enumerate()
            {
                if wanted >> nth & 1 == 1 {
                    names.push(format!("the {ordinal} {name}"));
                }
            }
            if wanted & LAST_ONE != 0 {
                names.push(format!("the last {name}"));
            }
        }
        names
    }
}

fn unit(name: &str, bits: u64, last: u32) -> String {
    let text = set(bits, 0, last, true);
    if text == "*" {
        return format!("every {name}");
    }
    if let Some(step) = text.strip_prefix("*/") {
        return format!("every {step} {name}s");
    }
    let text = set(bits, 0, last, false).replace(',', ", ");
    format!("{name}{} {text}", if bits.count_ones() == 1 { "" } else { "s" })
}

/// `a, b and c`.
fn joined(items: &[impl AsRef<str>], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [rest @ .., end] => {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} {last} {}", rest.join(", "), end.as_ref())
        }
    }
}
