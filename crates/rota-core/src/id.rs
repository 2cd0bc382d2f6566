//! Ids of tasks and sessions, and lease tokens.

use std::{fmt, num::NonZeroU64, str::FromStr};

use crate::time::{Millis, WallTime};

/// Crockford's alphabet, lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a 64-bit number, 5 bits each.
const TEXT_LEN: usize = 13;
/// Length of the prefixes.
const PREFIX_LEN: usize = 2;

/// The id of a task. Ids grow with the time of creation, so their order is the order of creation.
///
/// 44 bits are milliseconds since 1970, and 20 bits count within a millisecond. The text is `t_` and 13
/// characters of Crockford's base 32, which sort like the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(NonZeroU64);

/// The id of a session. It is random, so that it cannot be guessed from another. Text: `s_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The fencing token of a lease: the number of the batch that made it durable. So it only grows, for each
/// task and for the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaseToken(pub u64);

/// The text is not an id of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected `{prefix}` and 13 characters of 0-9 a-z without i, l, o, u")]
pub struct ParseIdError {
    prefix: &'static str,
}

impl TaskId {
    /// Prefix of the text form.
    pub const PREFIX: &'static str = "t_";
    /// The largest id. No task gets it before the year 2527.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// The id with this number. `None` for 0.
    #[must_use]
    pub fn from_u64(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// The approximate time of creation. The task was not created earlier, unless the wall clock was set back
    /// after the previous id, or ids were left out because the store had lost some.
    #[must_use]
    pub fn created_at(self) -> WallTime {
        WallTime(i64::try_from(self.as_u64() >> TaskIdSequence::COUNTER_BITS).unwrap_or(i64::MAX))
    }

    /// The smallest id that a task created at this date can have. `None` if there is none, as in 1970.
    #[must_use]
    pub fn first_at(date: WallTime) -> Option<Self> {
        let millis = u64::try_from(date.0).ok()?;
        Self::from_u64(millis.checked_mul(1 << TaskIdSequence::COUNTER_BITS)?)
    }
}

/// Generates task ids. They only grow, whatever the wall clock does.
#[derive(Debug, Clone)]
pub struct TaskIdSequence {
    last: u64,
}

impl TaskIdSequence {
    const COUNTER_BITS: u32 = 20;

    /// Continues after `last`, the largest id generated so far.
    #[must_use]
    pub fn after(last: Option<TaskId>) -> Self {
        Self { last: last.map_or(0, TaskId::as_u64) }
    }

    /// Leaves out the ids of so much time after the last one: they may have been given to tasks that the store has lost.
    #[must_use]
    pub fn skipping(self, time: Millis) -> Self {
        Self { last: self.last.saturating_add(time.0 << Self::COUNTER_BITS) }
    }

    /// The largest id generated so far. `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<TaskId> {
        TaskId::from_u64(self.last)
    }

    /// Generates the next id, for a task created now.
    #[must_use]
    pub fn next(&mut self, now: WallTime) -> TaskId {
        let millis = u64::try_from(now.0).unwrap_or(0);
        self.last = (self.last + 1).max(millis << Self::COUNTER_BITS);
        TaskId(NonZeroU64::new(self.last).expect("one more than a number is not zero"))
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, prefix: &str, number: u64) -> fmt::Result {
    // Written in one piece, so that a `String` of it has no room to spare and is not moved.
    let mut text = [0u8; PREFIX_LEN + TEXT_LEN];
    let (head, digits) = text.split_at_mut(PREFIX_LEN);
    head.copy_from_slice(prefix.as_bytes());
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        *place = ALPHABET[usize::try_from(rest & 31).expect("5 bits fit")];
        rest >>= 5;
    }
    f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
}

fn parse_text(prefix: &'static str, text: &str) -> Result<u64, ParseIdError> {
    let error = ParseIdError { prefix };
    let digits = text.strip_prefix(prefix).ok_or(error)?.as_bytes();
    if digits.len() != TEXT_LEN {
        return Err(error);
    }
    let mut number: u64 = 0;
    for (place, digit) in digits.iter().enumerate() {
        let value = ALPHABET.iter().position(|c| c == digit).ok_or(error)?;
        if place == 0 && value > 15 {
            return Err(error);
        }
        number = (number << 5) | u64::try_from(value).expect("an index below 32 fits");
    }
    Ok(number)
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, Self::PREFIX, self.as_u64())
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = parse_text(Self::PREFIX, text)?;
        Self::from_u64(number).ok_or(ParseIdError { prefix: Self::PREFIX })
    }
}

impl SessionId {
    const PREFIX: &'static str = "s_";
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, Self::PREFIX, self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_text(Self::PREFIX, text).map(Self)
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips_and_sorts_as_the_number(a in 1u64.., b in 1u64..) {
            let (a, b) = (TaskId::from_u64(a).unwrap(), TaskId::from_u64(b).unwrap());
            prop_assert_eq!(a.to_string().parse::<TaskId>(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn ids_grow_whatever_the_clock_does(times in prop::collection::vec(0i64..1 << 43, 1..50)) {
            let mut ids = TaskIdSequence::after(None);
            let mut last = None;
            for time in times {
                let id = ids.next(WallTime(time));
                prop_assert!(Some(id) > last);
                last = Some(id);
            }
        }
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for text in [
            "",
            "t_",
            "t_0",
            "0000000000001",
            "t_0000000000000",
            "t_zzzzzzzzzzzzz",
            "t_00000000000i1",
            "T_0000000000001",
            "s_0000000000001",
            "t_00000000000001",
            "t_g000000000000",
        ] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_and_tokens_show_as_their_text() {
        for (number, digits) in [
            (1, "0000000000001"),
            (31, "000000000000z"),
            (32, "0000000000010"),
            (u64::MAX, "fzzzzzzzzzzzz"),
        ] {
            let (task, session) = (TaskId::from_u64(number).unwrap(), SessionId(number));
            assert_eq!(
                (task.to_string(), format!("t_{digits}").parse()),
                (format!("t_{digits}"), Ok(task))
            );
            assert_eq!(
                (session.to_string(), format!("s_{digits}").parse()),
                (format!("s_{digits}"), Ok(session))
            );
            assert_eq!(format!("{task:?} {session:?}"), format!("t_{digits} s_{digits}"));
        }
        assert_eq!(LeaseToken(17).to_string(), "17");
    }

    #[test]
    fn a_sequence_goes_on_after_the_last_id() {
        let mut ids = TaskIdSequence::after(None);
        assert_eq!(ids.last(), None);
        let first = ids.next(WallTime(1000));
        assert_eq!((ids.last(), first.as_u64()), (Some(first), 1000 << 20));
        // A clock that stands still or goes back does not matter.
        let mut ids = TaskIdSequence::after(Some(first));
        assert_eq!(ids.last(), Some(first));
        assert_eq!(ids.next(WallTime(1000)).as_u64(), first.as_u64() + 1);
        assert_eq!(ids.next(WallTime(-1)).as_u64(), first.as_u64() + 2);
        assert_eq!(ids.next(WallTime(1001)).as_u64(), 1001 << 20);
    }

    #[test]
    fn ids_that_may_be_lost_are_left_out_whatever_the_clock_says() {
        let mut ids = TaskIdSequence::after(None);
        let kept = ids.next(WallTime(1000));
        let lost = [1000, 1000, 1999].map(|time| ids.next(WallTime(time)));
        // The clock of the next leader is behind.
        let mut ids = TaskIdSequence::after(Some(kept)).skipping(Millis(1000));
        let next = ids.next(WallTime(500));
        assert!(lost.iter().all(|lost| *lost < next));
        assert_eq!(next.created_at(), WallTime(2000));
        assert_eq!(ids.next(WallTime(3000)).created_at(), WallTime(3000));
    }

    #[test]
    fn ids_are_found_by_the_date_of_creation() {
        let mut ids = TaskIdSequence::after(None);
        for date in [1, 1_000_000_000_000, WallTime::MAX.0] {
            let before = ids.next(WallTime(date - 1));
            let tasks = [(); 3].map(|()| ids.next(WallTime(date)));
            let first = TaskId::first_at(WallTime(date)).unwrap();
            assert!(before < first && tasks.iter().all(|task| first <= *task), "{date}");
            assert_eq!(before.created_at(), WallTime(date - 1));
            assert!(tasks.iter().all(|task| task.created_at() == WallTime(date)), "{date}");
        }
        for date in [0, -1, i64::MIN, 1 << 44, i64::MAX] {
            assert_eq!(TaskId::first_at(WallTime(date)), None, "no task has such a date: {date}");
        }
    }
}
