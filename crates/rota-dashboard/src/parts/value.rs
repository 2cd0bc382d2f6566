//! Times, durations, statuses, labels, and lists of facts.

use std::collections::BTreeMap;

use maud::{Markup, html};
use rota_proto::{
    Date, TimeSpan,
    json::Words,
    v1::{Task, TaskStatus},
};

/// A time in UTC. The script shows it as the reader chose.
pub(crate) fn time(at: Date) -> Markup {
    let exact = at.to_string();
    // 2026-01-31T12:00:00.000Z
    let shown = exact.get(..19).unwrap_or(&exact).replace('T', " ");
    html! { time datetime=(exact) title=(format!("{shown} UTC")) { (shown) span.zone { " UTC" } } }
}

/// A time that may be absent.
pub(crate) fn when(at: Option<Date>) -> Markup {
    html! {
        @match at {
            Some(at) => (time(at)),
            None => span.none { "—" },
        }
    }
}

/// A duration in its two largest units.
pub(crate) fn duration(span: TimeSpan) -> String {
    let duration = span.duration();
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let two = |large: u64, unit: &str, small: u64, rest: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {rest}")
        }
    };
    match seconds {
        0 if millis == 0 => "0 s".to_owned(),
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A duration that may be absent.
pub(crate) fn span(span: Option<TimeSpan>) -> Markup {
    html! {
        @match span {
            Some(one) => span.number { (duration(one)) },
            None => span.none { "—" },
        }
    }
}

/// The badge of a status.
pub(crate) fn status(status: TaskStatus) -> Markup {
    state(status.word())
}

/// The badge of a task's status.
pub(crate) fn status_of(task: &Task) -> Markup {
    status(task.status())
}

/// The badge of a state of anything. Its colour is that of the word; the word says the same without colours.
pub(crate) fn state(word: &str) -> Markup {
    html! { span.badge data-state=(word) { (word.replace('_', " ")) } }
}

/// Labels, each as one piece.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Markup {
    html! {
        @for (key, value) in labels {
            span.label title=(format!("{key}={value}")) { bdi { (key) } "=" bdi { (value) } }
            " "
        }
    }
}

/// Names and values. Facts without a value are left out.
pub(crate) fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, Option<Markup>)>) -> Markup {
    html! {
        dl.facts {
            @for (term, value) in rows {
                @if let Some(value) = value {
                    div { dt { (term) } dd { (value) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (text, shown) in [
            ("0s", "0 s"),
            ("250ms", "250 ms"),
            ("59s", "59 s"),
            ("1m", "1 min"),
            ("90s", "1 min 30 s"),
            ("2h", "2 h"),
            ("25h", "1 d 1 h"),
            ("400d", "400 d"),
        ] {
            assert_eq!(duration(text.parse().expect(text)), shown);
        }
    }

    #[test]
    fn times_are_utc_without_a_script() {
        let at: Date = "2026-01-31T12:00:00.5Z".parse().expect("a date");
        let html = time(at).into_string();
        assert!(html.contains("datetime=\"2026-01-31T12:00:00.500Z\""), "{html}");
        assert!(html.contains(">2026-01-31 12:00:00<"), "{html}");
    }
}
