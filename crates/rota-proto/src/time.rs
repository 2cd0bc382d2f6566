//! Dates and durations: one type each for the wire, JSON and flags. On the wire they are
//! `google.protobuf.Timestamp` and `google.protobuf.Duration`, which can also hold values that are out of
//! range.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::{SignedDuration, Timestamp, fmt::temporal::Pieces};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
#[cfg(feature = "server")]
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, SchemaFormat,
        schema::{Schema, SchemaType, Type},
    },
};

/// A span of time: `250ms`, `30s`, `1m30s`, `2h`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct TimeSpan {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Additional nanoseconds, below 1,000,000,000.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A date: RFC 3339, such as `2026-01-31T12:00:00Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Date {
    /// Whole seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Additional nanoseconds, from 0 and below 1,000,000,000.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl TimeSpan {
    /// The duration. A negative one becomes zero. Nanoseconds of a second or more are cut to just below it.
    #[must_use]
    pub fn duration(self) -> Duration {
        // Not `Duration::try_from`, which panics for the smallest integer.
        let secs = u64::try_from(self.seconds).unwrap_or(0);
        let nanos = u32::try_from(self.nanos).unwrap_or(0).min(999_999_999);
        Duration::new(secs, nanos)
    }
}

impl From<Duration> for TimeSpan {
    /// A duration beyond the range of protobuf becomes its maximum.
    fn from(duration: Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanos: duration.subsec_nanos().cast_signed(),
        }
    }
}

impl Date {
    /// The date as a timestamp; 1970 if it is out of range.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        Timestamp::new(self.seconds, self.nanos).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl From<Timestamp> for Date {
    fn from(at: Timestamp) -> Self {
        Self { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
    }
}

impl From<Date> for SystemTime {
    /// 1970 if the date is out of range.
    fn from(date: Date) -> Self {
        date.timestamp().into()
    }
}

impl From<SystemTime> for Date {
    fn from(at: SystemTime) -> Self {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        match at.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                Self { seconds: seconds(after), nanos: after.subsec_nanos().cast_signed() }
            }
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos().cast_signed() {
                    0 => Self { seconds: -seconds(before), nanos: 0 },
                    nanos => Self { seconds: -seconds(before) - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

/// The text is not a date or a duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalarError(String);

impl fmt::Display for ScalarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScalarError {}

/// Maximum length of a text to parse.
const TEXT_MAX: usize = 64;
const DAY: u64 = 24 * 3600;

fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().count() > TEXT_MAX {
        Cow::Owned(text.chars().take(TEXT_MAX).chain(['…']).collect())
    } else {
        Cow::Borrowed(text)
    }
}

impl FromStr for TimeSpan {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let wrong = || {
            let text = shown(text);
            ScalarError(format!(
                "{text:?} is not a duration such as \"250ms\", \"30s\" or \"1m30s\""
            ))
        };
        if text.len() > TEXT_MAX {
            return Err(wrong());
        }
        if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
            return Err(ScalarError(format!("{text:?} has no unit; use \"{text}s\" for seconds")));
        }
        // A day always counts as 24 hours.
        let (days, rest) = match text.split_once('d') {
            Some((days, rest)) if !days.is_empty() && days.bytes().all(|c| c.is_ascii_digit()) => {
                (days.parse::<u64>().map_err(|_| wrong())?, rest)
            }
            _ => (0, text),
        };
        let rest = if rest.trim().is_empty() && days > 0 {
            Duration::ZERO
        } else {
            let rest: SignedDuration = rest.trim().parse().map_err(|_| wrong())?;
            Duration::try_from(rest)
                .map_err(|_| ScalarError("a duration must not be negative".to_owned()))?
        };
        let days = days.checked_mul(DAY).map(Duration::from_secs).ok_or_else(wrong)?;
        days.checked_add(rest).map(Self::from).ok_or_else(wrong)
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = self.duration();
        let secs = duration.as_secs();
        let millis = duration.subsec_millis();
        let parts = [
            (secs / DAY, "d"),
            (secs % DAY / 3600, "h"),
            (secs % 3600 / 60, "m"),
            (secs % 60, "s"),
            (millis.into(), "ms"),
        ];
        let mut any = false;
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            any = true;
            write!(f, "{count}{unit}")?;
        }
        if any { Ok(()) } else { f.write_str("0s") }
    }
}

impl FromStr for Date {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let wrong = || {
            let text = shown(text);
            ScalarError(format!("{text:?} is not a date such as \"2026-01-31T12:00:00Z\""))
        };
        if text.len() > TEXT_MAX {
            return Err(wrong());
        }
        text.parse::<Timestamp>().map(Self::from).map_err(|_| {
            let pieces = Pieces::parse(text);
            // The syntax is right, so the date is out of range.
            if pieces.is_ok_and(|it| it.time().is_some() && it.offset().is_some()) {
                let text = shown(text);
                ScalarError(format!(
                    "{text:?} is out of range: dates are from 1970 to the end of 2499"
                ))
            } else {
                wrong()
            }
        })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

fn parse<'de, T: FromStr<Err = ScalarError>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(de)?;
    text.parse().map_err(D::Error::custom)
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        parse(de)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        parse(de)
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
        ser.collect_str(self)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
        ser.collect_str(self)
    }
}

#[cfg(feature = "server")]
impl PartialSchema for TimeSpan {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .description(Some("A duration: `250ms`, `30s`, `1m30s`, `2h`, `7d`."))
            .pattern(Some(
                r"^([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$",
            ))
            .examples(["30s"])
            .into()
    }
}

#[cfg(feature = "server")]
impl ToSchema for TimeSpan {
    // Programs are generated from the OpenAPI document: the name of the schema stays what it was.
    fn name() -> Cow<'static, str> {
        "Span".into()
    }
}

#[cfg(feature = "server")]
impl PartialSchema for Date {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A date: RFC 3339, from 1970 to the end of 2499."))
            .pattern(Some("^(19[7-9][0-9]|2[0-4][0-9]{2})-"))
            .examples(["2026-01-31T12:00:00Z"])
            .into()
    }
}

#[cfg(feature = "server")]
impl ToSchema for Date {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_keep_their_names() {
        assert_eq!([TimeSpan::name(), Date::name()], ["Span", "Date"]);
    }

    #[test]
    fn spans_round_trip() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1d12h", 129_600_000),
            ("0s", 0),
        ] {
            let span: TimeSpan = text.parse().expect(text);
            assert_eq!(span.duration(), Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), text);
        }
        assert_eq!(
            "1.5s".parse::<TimeSpan>().expect("a fraction").duration(),
            Duration::from_millis(1500)
        );
        assert_eq!(
            "PT1M".parse::<TimeSpan>().expect("ISO 8601").duration(),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn spans_come_from_protobuf_whatever_it_says() {
        let span = |seconds, nanos| TimeSpan { seconds, nanos }.duration();
        assert_eq!(span(1, 500_000_000), Duration::from_millis(1500));
        assert_eq!(span(i64::MIN, i32::MIN), Duration::ZERO);
        assert_eq!(span(i64::MAX, i32::MAX), Duration::new(u64::MAX >> 1, 999_999_999));
    }

    #[test]
    fn times_before_1970_have_nanoseconds_that_count_forwards() {
        let date = |nanos| Date::from(UNIX_EPOCH - Duration::from_nanos(nanos));
        assert_eq!(date(0), Date::default());
        assert_eq!(date(1), Date { seconds: -1, nanos: 999_999_999 });
        assert_eq!(date(2_000_000_000), Date { seconds: -2, nanos: 0 });
        assert_eq!(date(1_500_000_000).to_string(), "1969-12-31T23:59:58.500Z");
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "30", "-5s", "1x", "99999999999999999999s", "d", "١s", &"1".repeat(100)] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_told_how_to_write_it() {
        let error = "5".parse::<TimeSpan>().unwrap_err().to_string();
        assert_eq!(error, "\"5\" has no unit; use \"5s\" for seconds");
    }

    #[test]
    fn a_date_that_is_beyond_all_is_said_to_be_out_of_range() {
        for text in ["9999-12-31T23:59:59Z", "-009999-01-01T00:00:00+14:00"] {
            let error = text.parse::<Date>().unwrap_err().to_string();
            assert!(error.contains("out of range: dates are from 1970"), "{text}: {error}");
        }
        let error = "2026-02-30T00:00:00Z".parse::<Date>().unwrap_err().to_string();
        assert!(error.contains("is not a date"), "{error}");
    }

    #[test]
    fn dates() {
        let date: Date = "2026-01-31T13:00:00.5+01:00".parse().expect("a date");
        assert_eq!(date.to_string(), "2026-01-31T12:00:00.500Z");
        for text in ["", "yesterday", "2026-02-30T00:00:00Z", "2026-01-31", "99999-01-01T00:00:00Z"]
        {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }
}
