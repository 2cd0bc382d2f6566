//! The normal form of an expression: one text for each meaning, which can be read again.

use std::fmt::{self, Write};

use super::{
    BITS_OF_A_WEEKDAY, EVERY_DAY, EVERY_ONE, EVERY_WEEKDAY, Expression, FIRST_NAMED_YEAR, LAST_ONE,
};

impl fmt::Display for Expression {
    /// The normal form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds != 1 || self.years.is_some() {
            write!(f, "{} ", set(self.seconds, 0, 59, true))?;
        }
        let mut minutes = set(self.minutes, 0, 59, !self.fixed);
        let hours = set(u64::from(self.hours), 0, 23, !self.fixed);
        if !self.fixed && !minutes.contains(['*', '/']) && !hours.contains(['*', '/']) {
            // A step of one says that these are no fixed times.
            let first = minutes.split(',').next().unwrap_or_default().to_owned();
            let range =
                if first.contains('-') { first.clone() } else { format!("{first}-{first}") };
            minutes = minutes.replacen(&first, &format!("{range}/1"), 1);
        }
        let months = set(u64::from(self.months), 1, 12, true);
        write!(f, "{minutes} {hours} {} {months} {}", self.day_text(), self.weekday_text())?;
        if let Some(years) = &self.years {
            write!(f, " {}", year_text(years))?;
        }
        Ok(())
    }
}

impl Expression {
    fn day_text(&self) -> String {
        if self.days == EVERY_DAY {
            return "*".to_owned();
        }
        let mut items = Vec::new();
        if self.days != 0 {
            items.push(set(u64::from(self.days), 1, 31, false));
        }
        for day in 1..=31 {
            if self.near >> day & 1 == 1 {
                items.push(format!("{day}W"));
            }
        }
        for days in (0..=30).rev() {
            if self.from_last >> days & 1 == 1 {
                items.push(if days == 0 { "L".to_owned() } else { format!("L-{days}") });
            }
        }
        if self.near & 1 == 1 {
            items.push("LW".to_owned());
        }
        items.join(",")
    }

    fn weekday_text(&self) -> String {
        if self.weekdays == EVERY_WEEKDAY {
            return "*".to_owned();
        }
        let (mut plain, mut special) = (0, Vec::new());
        for weekday in 0..7 {
            let wanted = self.weekdays >> (weekday * BITS_OF_A_WEEKDAY);
            if wanted & EVERY_ONE == EVERY_ONE {
                plain |= 1 << weekday;
                continue;
            }
            for nth in 0..5 {
                if wanted >> nth & 1 == 1 {
                    special.push(format!("{weekday}#{}", nth + 1));
                }
            }
            if wanted & LAST_ONE != 0 {
                special.push(format!("{weekday}L"));
            }
        }
        if plain != 0 {
            special.insert(0, set(plain, 0, 6, false));
        }
        let both = if self.both && self.days != EVERY_DAY { "+" } else { "" };
        format!("{both}{}", special.join(","))
    }
}

pub(super) fn year_text(years: &[u64; 4]) -> String {
    let mut text = String::new();
    let has = |index: i32| {
        usize::try_from(index)
            .ok()
            .and_then(|index| years.get(index / 64).map(|word| word >> (index % 64) & 1 == 1))
            .unwrap_or(false)
    };
    for index in (0..256).filter(|&index| has(index) && !has(index - 1)) {
        let last = (index..256).take_while(|&index| has(index)).last().unwrap_or(index);
        let separator = if text.is_empty() { "" } else { "," };
        let first = index + FIRST_NAMED_YEAR;
        // Writing to a string cannot fail.
        let _ = match last - index {
            0 => write!(text, "{separator}{first}"),
            _ => write!(text, "{separator}{first}-{}", last + FIRST_NAMED_YEAR),
        };
    }
    text
}

/// The shortest usual text of a set of values. `steps` allows `*` and steps.
pub(super) fn set(bits: u64, first: u32, last: u32, steps: bool) -> String {
    let values: Vec<u32> = (first..=last).filter(|value| bits >> value & 1 == 1).collect();
    if steps && let Some(text) = stepped(&values, first, last) {
        return text;
    }
    let mut items: Vec<String> = Vec::new();
    let mut rest = values.as_slice();
    while let Some(&start) = rest.first() {
        let run = rest.iter().zip(start..).take_while(|(value, wanted)| **value == *wanted).count();
        if run > 2 {
            items.push(format!("{start}-{}", rest[run - 1]));
            rest = &rest[run..];
        } else {
            items.push(start.to_string());
            rest = &rest[1..];
        }
    }
    items.join(",")
}

/// A text with `*` or one step that stands for exactly these values.
fn stepped(values: &[u32], first: u32, last: u32) -> Option<String> {
    let (&start, &end) = (values.first()?, values.last()?);
    let step = values.get(1)? - start;
    let regular = values.windows(2).all(|pair| pair[1] - pair[0] == step);
    if !regular || (step == 1 && (start, end) != (first, last)) || (step > 1 && values.len() < 3) {
        return None;
    }
    let open = end + step > last;
    Some(match (step, start == first, open) {
        (1, ..) => "*".to_owned(),
        (_, true, true) => format!("*/{step}"),
        (_, _, true) => format!("{start}/{step}"),
        _ => format!("{start}-{end}/{step}"),
    })
}
