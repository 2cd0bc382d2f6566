//! The query language of filters: the parameters of REST, which the addresses of the dashboard use as well.
//!
//! [`TaskFilter::take`] reads one parameter and [`TaskFilter::pairs`] writes them all. Which parameters a path has
//! beside them, and their limits, is the business of whoever serves the path.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    Date, ScalarError,
    json::{TaskFilter, Words},
};

/// A parameter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// Name of the parameter.
    pub parameter: String,
    /// The rest of a sentence that begins with the name.
    pub message: String,
}

impl QueryError {
    /// An error about this parameter.
    pub fn new(parameter: &str, message: impl Into<String>) -> Self {
        Self { parameter: parameter.to_owned(), message: message.into() }
    }
}

impl TaskFilter {
    /// Reads the parameter if it is a property of tasks, and returns whether it is.
    ///
    /// # Errors
    /// When the value is not valid, or a parameter that can occur once is repeated.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, QueryError> {
        match name {
            "queue" => once(name, &mut self.queue, value.to_owned())?,
            "kind" => once(name, &mut self.kind, value.to_owned())?,
            "status" => {
                for one in value.split(',') {
                    self.statuses.push(word(name, one)?);
                }
            }
            "label" => label(&mut self.labels, value)?,
            "created_from" => once(name, &mut self.created_from, date(name, value)?)?,
            "created_to" => once(name, &mut self.created_to, date(name, value)?)?,
            "run_at_from" => once(name, &mut self.run_at_from, date(name, value)?)?,
            "run_at_to" => once(name, &mut self.run_at_to, date(name, value)?)?,
            "schedule" => once(name, &mut self.schedule, value.to_owned())?,
            "error_fingerprint" => once(name, &mut self.error_fingerprint, value.to_owned())?,
            "search" => once(name, &mut self.search, value.to_owned())?,
            "worker" => once(name, &mut self.worker, value.to_owned())?,
            "priority" => {
                for one in value.split(',') {
                    self.priorities.push(number(name, one)?);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The parameters that [`take`](Self::take) reads into the same filter, in a fixed order.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        if !self.statuses.is_empty() {
            let words: Vec<_> = self.statuses.iter().map(|status| status.word()).collect();
            pairs.push(("status", words.join(",")));
        }
        let texts = [
            ("queue", &self.queue),
            ("kind", &self.kind),
            ("schedule", &self.schedule),
            ("error_fingerprint", &self.error_fingerprint),
            ("search", &self.search),
            ("worker", &self.worker),
        ];
        for (name, text) in texts {
            pairs.extend(text.clone().map(|text| (name, text)));
        }
        if !self.priorities.is_empty() {
            let levels: Vec<_> = self.priorities.iter().map(u32::to_string).collect();
            pairs.push(("priority", levels.join(",")));
        }
        pairs.extend(self.labels.iter().map(|(name, value)| ("label", format!("{name}={value}"))));
        for (name, date) in [
            ("created_from", self.created_from),
            ("created_to", self.created_to),
            ("run_at_from", self.run_at_from),
            ("run_at_to", self.run_at_to),
        ] {
            pairs.extend(date.map(|date| (name, date.to_string())));
        }
        pairs
    }
}

/// Adds a label, which each name can have once.
///
/// # Errors
/// When the text has no equals sign, or the name is repeated.
pub fn label(labels: &mut BTreeMap<String, String>, text: &str) -> Result<(), QueryError> {
    // Values can have an equals sign, names cannot.
    let wrong = || QueryError::new("label", "must be name=value");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    if labels.insert(name.to_owned(), value.to_owned()).is_some() {
        return Err(repeated("label"));
    }
    Ok(())
}

/// Fills the place of a parameter that can occur once.
///
/// # Errors
/// When it is filled already.
pub fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), QueryError> {
    if place.replace(value).is_some() {
        return Err(repeated(name));
    }
    Ok(())
}

fn repeated(name: &str) -> QueryError {
    QueryError::new(name, "occurs more than once")
}

/// A date or a duration.
///
/// # Errors
/// When the text is neither.
pub fn scalar<T: FromStr<Err = ScalarError>>(name: &str, text: &str) -> Result<T, QueryError> {
    text.parse().map_err(|error: ScalarError| QueryError::new(name, error.to_string()))
}

/// A number.
///
/// # Errors
/// When the text is not one of 32 bits.
pub fn number(name: &str, text: &str) -> Result<u32, QueryError> {
    text.parse().map_err(|_| QueryError::new(name, "is not a number from 0 to 4294967295"))
}

/// A date.
///
/// # Errors
/// When the text is not one.
pub fn date(name: &str, text: &str) -> Result<Date, QueryError> {
    scalar(name, text)
}

/// The value of an enumeration with this word.
///
/// # Errors
/// When there is no such word.
pub fn word<W: Words>(name: &str, text: &str) -> Result<W, QueryError> {
    W::of_word(text).map_err(|error: serde::de::value::Error| {
        QueryError::new(name, error.to_string().chars().take(200).collect::<String>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::TaskStatus;

    #[test]
    fn a_filter_is_written_as_it_is_read() {
        let full = TaskFilter {
            queue: Some("a/b&c".to_owned()),
            statuses: vec![TaskStatus::Failed, TaskStatus::Expired],
            kind: Some("100%".to_owned()),
            labels: [("a", "b=c"), ("x:y", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            created_from: Some("2026-01-31T12:00:00.5Z".parse().expect("a date")),
            created_to: Some("2026-01-31T13:00:00Z".parse().expect("a date")),
            run_at_from: Some("2026-02-01T00:00:00Z".parse().expect("a date")),
            run_at_to: Some("2026-02-02T00:00:00Z".parse().expect("a date")),
            schedule: Some("nightly".to_owned()),
            error_fingerprint: Some("00bada55".to_owned()),
            search: Some("a=b&c d".to_owned()),
            worker: Some("w/1".to_owned()),
            priorities: vec![7, 0],
        };
        let pairs = full.pairs();
        let mut read = TaskFilter::default();
        for (name, value) in &pairs {
            assert_eq!(read.take(name, value), Ok(true), "{name}={value}");
        }
        assert_eq!(read.pairs(), pairs);
        assert_eq!(format!("{read:?}"), format!("{full:?}"));
        assert_eq!(TaskFilter::default().pairs(), []);
    }

    #[test]
    fn wrong_parameters_are_named() {
        let mut filter = TaskFilter::default();
        for (name, value) in
            [("status", "unknown"), ("status", ""), ("label", "a"), ("created_from", "yesterday")]
        {
            assert_eq!(filter.take(name, value).expect_err("wrong").parameter, name);
        }
        assert_eq!(filter.take("nothing", "x"), Ok(false));
        assert_eq!(filter.take("queue", "q"), Ok(true));
        let repeated = filter.take("queue", "q").expect_err("repeated");
        assert_eq!(repeated.message, "occurs more than once");
    }
}
