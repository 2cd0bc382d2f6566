//! The fields of the form: a definition as texts, and the texts as a definition.

use rota_proto::{
    TimeSpan,
    json::Words,
    v1::{CatchUp, Interval, Overlap, ScheduleDefinition},
};

use crate::visit::Pairs;

/// A field at fault with its message.
pub(super) type Wrong = (String, String);

/// Texts by the name of their field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Pairs);

impl Fields {
    /// The texts that somebody typed.
    pub(super) fn of_form(pairs: &Pairs) -> Self {
        Self(pairs.clone())
    }

    /// The texts for a definition.
    pub(super) fn of(definition: &ScheduleDefinition) -> Self {
        let template = definition.template.clone().unwrap_or_default();
        let span = |span: Option<TimeSpan>| span.map(|span| span.to_string());
        let word = |is_set: bool, word: &str| is_set.then(|| word.to_owned());
        let payload = String::from_utf8(template.payload.to_vec());
        let texts = [
            ("new_name", definition.name.clone()),
            ("description", definition.description.clone()),
            ("expressions", Some(definition.expressions.join("\n"))),
            ("every", Some(definition.intervals.iter().map(every).collect::<Vec<_>>().join(", "))),
            ("time_zone", definition.time_zone.clone()),
            ("overlap", word(definition.overlap.is_some(), definition.overlap().word())),
            ("catch_up", word(definition.catch_up.is_some(), definition.catch_up().word())),
            ("pause_on_failure", definition.pause_on_failure.map(|count| count.to_string())),
            ("kind", Some(template.kind.clone())),
            ("queue", template.queue.clone()),
            ("payload", payload.ok()),
            ("timeout", span(template.timeout)),
            ("priority", template.priority.map(|priority| priority.to_string())),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
        Self(Pairs(texts.collect()))
    }

    /// The text of a field. Empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_default()
    }

    fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name).trim()).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Puts the texts into a definition. What has no field stays.
    pub(super) fn apply(&self, definition: &mut ScheduleDefinition) -> Result<(), Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut note = |field: &str, message: String| wrong.push((field.to_owned(), message));
        definition.description = self.some("description");
        let lines = self.text("expressions").lines().map(str::trim).filter(|line| !line.is_empty());
        definition.expressions = lines.map(str::to_owned).collect();
        definition.time_zone = self.some("time_zone");
        let intervals = self.text("every").split([',', '\n']).map(str::trim);
        let intervals = intervals.filter(|one| !one.is_empty()).map(interval).collect();
        match intervals {
            Ok(intervals) => definition.intervals = intervals,
            Err(message) => note("every", message),
        }
        let overlap = self.some("overlap").map(|word| word_of::<Overlap>(&word)).transpose();
        let catch_up = self.some("catch_up").map(|word| word_of::<CatchUp>(&word)).transpose();
        match overlap {
            Ok(overlap) => definition.overlap = overlap.map(Into::into),
            Err(message) => note("overlap", message),
        }
        match catch_up {
            Ok(catch_up) => definition.catch_up = catch_up.map(Into::into),
            Err(message) => note("catch_up", message),
        }
        match self.number("pause_on_failure") {
            Ok(number) => definition.pause_on_failure = number,
            Err(message) => note("pause_on_failure", message),
        }
        let template = definition.template.get_or_insert_default();
        template.kind = self.some("kind").unwrap_or_default();
        template.queue = self.some("queue");
        match self.number("priority") {
            Ok(number) => template.priority = number,
            Err(message) => note("priority", message),
        }
        match self.some("timeout").map(|text| text.parse::<TimeSpan>()).transpose() {
            Ok(timeout) => template.timeout = timeout,
            Err(error) => note("timeout", error.to_string()),
        }
        // Bytes that are no text have no field, and stay.
        if std::str::from_utf8(&template.payload).is_ok() {
            let payload = self.some("payload").unwrap_or_default();
            match serde_json::from_str::<&serde_json::value::RawValue>(&payload) {
                Ok(_) => template.payload = payload.into(),
                Err(_) if payload.is_empty() => template.payload.clear(),
                Err(error) => note("payload", format!("is not JSON: {error}")),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn number(&self, name: &str) -> Result<Option<u32>, String> {
        let number = self.some(name).map(|text| text.parse());
        number.transpose().map_err(|_| "is not a number".to_owned())
    }
}

fn word_of<T: Words>(word: &str) -> Result<T, String> {
    T::of_word::<serde_json::Error>(word).map_err(|error| error.to_string())
}

/// An interval as the command line writes it: `90m`, or with a shift `90m/10m`.
fn every(interval: &Interval) -> String {
    let every = interval.every.unwrap_or_default();
    match interval.phase.filter(|phase| !phase.duration().is_zero()) {
        Some(phase) => format!("{every}/{phase}"),
        None => every.to_string(),
    }
}

fn interval(text: &str) -> Result<Interval, String> {
    let (every, phase) = match text.split_once('/') {
        Some((every, phase)) => (every, Some(phase)),
        None => (text, None),
    };
    let span = |text: &str| text.trim().parse::<TimeSpan>().map_err(|error| error.to_string());
    Ok(Interval { every: Some(span(every)?), phase: phase.map(span).transpose()? })
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::TaskTemplate;

    use super::*;

    fn definition() -> ScheduleDefinition {
        let interval = |every: &str, phase: Option<&str>| Interval {
            every: Some(every.parse().expect("a span")),
            phase: phase.map(|phase| phase.parse().expect("a span")),
        };
        ScheduleDefinition {
            name: Some("n".to_owned()),
            expressions: vec!["30 2 * * *".to_owned(), "H 3 * * SUN".to_owned()],
            intervals: vec![interval("90m", Some("10m")), interval("1d", None)],
            dates: vec!["2026-12-24T18:00".to_owned()],
            time_zone: Some("Europe/Berlin".to_owned()),
            overlap: Some(Overlap::QueueAll.into()),
            catch_up: Some(CatchUp::All.into()),
            pause_on_failure: Some(3),
            max_runs: Some(u64::MAX),
            template: Some(TaskTemplate {
                kind: "report".to_owned(),
                queue: Some("q".to_owned()),
                payload: r#"{"id":9007199254740993}"#.into(),
                priority: Some(7),
                timeout: Some("1h30m".parse().expect("a span")),
                ..TaskTemplate::default()
            }),
            ..ScheduleDefinition::default()
        }
    }

    #[test]
    fn the_form_changes_nothing_by_itself() {
        let before = definition();
        let mut after = before.clone();
        Fields::of(&before).apply(&mut after).expect("valid");
        assert_eq!(after, before);
    }

    #[test]
    fn what_has_no_field_stays() {
        let mut after = definition();
        let pairs = [("expressions", " 0 9 * * * \r\n\r\n"), ("kind", "k"), ("payload", "")];
        let pairs = pairs.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Fields::of_form(&Pairs(pairs.into())).apply(&mut after).expect("valid");
        assert_eq!(after.expressions, ["0 9 * * *"]);
        assert_eq!((after.intervals.len(), after.overlap, after.time_zone), (0, None, None));
        assert_eq!((after.dates.len(), after.max_runs), (1, Some(u64::MAX)));
        let template = after.template.expect("a template");
        assert!(template.payload.is_empty() && template.queue.is_none());
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let mut after = definition();
        after.template.get_or_insert_default().payload = vec![0xff, 0].into();
        let before = after.clone();
        Fields::of(&before).apply(&mut after).expect("valid");
        assert_eq!(after, before);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let pairs = [
            ("every", "soon"),
            ("overlap", "unspecified"),
            ("catch_up", "sometimes"),
            ("pause_on_failure", "-1"),
            ("priority", "high"),
            ("timeout", "5"),
            ("payload", "{"),
        ];
        let given = pairs.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let wrong = Fields::of_form(&Pairs(given.into())).apply(&mut definition());
        let mut wrong: Vec<_> =
            wrong.expect_err("wrong").into_iter().map(|(name, _)| name).collect();
        let mut names: Vec<_> = pairs.iter().map(|(name, _)| *name).collect();
        wrong.sort();
        names.sort_unstable();
        assert_eq!(wrong, names);
    }
}
