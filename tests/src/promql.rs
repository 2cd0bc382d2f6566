//! Expressions of Prometheus, read as far as tests need it: which series they name, and how the same
//! rules look in a quicker world.

use std::{collections::BTreeSet, fmt::Write};

/// A series that an expression asks for: the name, and what is between the braces if there are any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// The metric, or what a rule records.
    pub name: String,
    /// `{…}`, or nothing.
    pub matchers: String,
}

impl Selector {
    /// The metric as its page names it: without what histograms add to their names.
    #[must_use]
    pub fn metric(&self) -> &str {
        let name = self.name.as_str();
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        base.unwrap_or(name)
    }

    /// Whether a rule records it.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.name.contains(':')
    }
}

/// Every series that is asked for. Those are known by their names: Rota's and its processes' own, what
/// rules record, and the few that Prometheus makes.
#[must_use]
pub fn selectors(expression: &str) -> BTreeSet<Selector> {
    let (mut found, mut rest) = (BTreeSet::new(), expression);
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            // Nothing that is asked for is named in a string.
            rest = rest[1..].split_once('"').map_or("", |(_, after)| after);
            continue;
        }
        if let Some(last) = [('{', '}'), ('[', ']')].iter().find(|pair| pair.0 == first) {
            rest = rest.split_once(last.1).map_or("", |(_, after)| after);
            continue;
        }
        let end = rest.find(|c| !part_of_name(c)).unwrap_or(rest.len());
        if end == 0 {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (name, after) = rest.split_at(end);
        rest = after;
        let begins = ["rota_", "process_", "probe_"].iter().any(|begin| name.starts_with(begin));
        if begins || name.contains(':') || name == "up" || name == "ALERTS" {
            let matchers = match after.find('}') {
                Some(end) if after.starts_with('{') => &after[..=end],
                _ => "",
            };
            found.insert(Selector { name: name.to_owned(), matchers: matchers.to_owned() });
        }
    }
    found
}

/// Rules or scrape configuration for a world in which everything is `times` as fast: how often,
/// over how long a time, for how long. What is measured in seconds stays as it is.
#[must_use]
pub fn quicker(text: &str, times: u64) -> String {
    const KEYS: [&str; 5] = [
        "for:",
        "scrape_interval:",
        "scrape_timeout:",
        "evaluation_interval:",
        "refresh_interval:",
    ];
    let mut quick = String::new();
    for line in text.lines() {
        let key = KEYS.iter().find(|key| line.trim_start().starts_with(**key));
        if let Some((head, value)) = key.and(line.split_once(": ")) {
            let value = milliseconds(value).expect("a duration");
            writeln!(quick, "{head}: {}ms", value / times).expect("memory");
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('[') {
            let (window, after) = after.split_once(']').expect("it is closed");
            match milliseconds(window) {
                Some(window) => write!(quick, "{before}[{}ms]", window / times),
                None => write!(quick, "{before}[{window}]"),
            }
            .expect("memory");
            rest = after;
        }
        writeln!(quick, "{rest}").expect("memory");
    }
    quick
}

/// `15s`, `5m` or `1h`.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = match text.chars().last()? {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        _ => return None,
    };
    Some(text[..text.len() - 1].parse::<u64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_with_their_matchers_and_labels_are_not() {
        let expression = r#"
            sum by (cluster, rota) (rate(rota_x_seconds_bucket{le="1", a=~"rota_b|c"}[5m]))
            and on (cluster) changes(cluster:rota_y:max[$range:15s]) > 4 or up{job="rota-nodes"} * 0
        "#;
        let found: Vec<_> = selectors(expression)
            .into_iter()
            .map(|found| (found.metric().to_owned(), found.is_recorded(), found.matchers))
            .collect();
        let expected = [
            ("cluster:rota_y:max", true, ""),
            ("rota_x_seconds", false, r#"{le="1", a=~"rota_b|c"}"#),
            ("up", false, r#"{job="rota-nodes"}"#),
        ];
        let expected =
            expected.map(|(name, recorded, rest)| (name.to_owned(), recorded, rest.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn time_runs_faster_and_names_and_numbers_stay() {
        let rules =
            "  - expr: a:b:rate5m[5m] > 300 # [not a time]\n    for: 1m\n    regex: [a, b]\n";
        let expected = "  - expr: a:b:rate5m[30000ms] > 300 # [not a time]\n    for: 6000ms\n    regex: [a, b]\n";
        assert_eq!(quicker(rules, 10), expected);
    }
}
