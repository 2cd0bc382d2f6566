//! The fields of the form, each with what was typed and what is wrong with it.

use maud::{Markup, html};

use super::{Faults, KIND, What};
use crate::visit::Pairs;

/// A form to show.
pub(in crate::pages) struct Form<'a> {
    pub(in crate::pages) typed: &'a Pairs,
    pub(in crate::pages) faults: &'a Faults,
    /// Whether the task exists. Then its kind, its queue and its id stay.
    pub(in crate::pages) exists: bool,
    /// Why the payload is not in the form, if it is not.
    pub(in crate::pages) payload: Option<Markup>,
}

/// How a field is written.
struct Field<'a> {
    name: &'a str,
    label: &'a str,
    hint: &'a str,
    /// What there is to know.
    note: &'a str,
    /// Lines of a text area. 0 for a field of one line.
    lines: u8,
    longest: u32,
}

impl Default for Field<'_> {
    fn default() -> Self {
        Self { name: "", label: "", hint: "", note: "", lines: 0, longest: 400 }
    }
}

impl Form<'_> {
    fn field(&self, field: &Field<'_>) -> Markup {
        let Field { name, label, hint, note, lines, longest } = field;
        let value = self.typed.get(name).unwrap_or_default();
        let wrong: Vec<_> = self.faults.of(name).collect();
        let place = format!("wrong-{name}");
        let (is_wrong, describes) =
            ((!wrong.is_empty()).then_some("true"), (!wrong.is_empty()).then_some(&place));
        html! {
            div.field data-wrong=[is_wrong] {
                label {
                    span.title { (label) }
                    @if *lines > 0 {
                        // A first line break would be dropped.
                        textarea dir="auto" name=(name) rows=(lines) placeholder=(hint) spellcheck="false" autocomplete="off"
                            aria-invalid=[is_wrong] aria-describedby=[describes] { "\n" (value) }
                    } @else {
                        input dir="auto" type="text" name=(name) value=(value) placeholder=(hint) maxlength=(longest)
                            spellcheck="false" autocomplete="off" aria-invalid=[is_wrong] aria-describedby=[describes];
                    }
                }
                @if !note.is_empty() { p.note { (note) } }
                @if !wrong.is_empty() {
                    p.wrong id=(place) { @for one in &wrong { bdi { (one) } " " } }
                }
            }
        }
    }

    fn line(&self, name: &str, label: &str, hint: &str, note: &str) -> Markup {
        self.field(&Field { name, label, hint, note, ..Field::default() })
    }

    fn area(&self, name: &str, label: &str, hint: &str, lines: u8) -> Markup {
        self.field(&Field { name, label, hint, lines, ..Field::default() })
    }

    fn select(&self, name: &str, label: &str, options: &[(&str, &str)]) -> Markup {
        let value = self.typed.get(name).unwrap_or_default();
        html! {
            div.field data-wrong=[self.faults.of(name).next().map(|_| "true")] {
                label {
                    span.title { (label) }
                    select name=(name) {
                        @for (option, words) in options {
                            option value=(option) selected[*option == value] { (words) }
                        }
                    }
                }
                @for one in self.faults.of(name) { p.wrong { bdi { (one) } } }
            }
        }
    }

    /// What the task does.
    fn work(&self) -> Markup {
        let what = What::of(self.typed);
        html! {
            @if !self.exists {
                div.choices role="radiogroup" aria-label="What it does" {
                    @for (one, word, words) in What::ALL {
                        label { input type="radio" name=(KIND) value=(word) checked[one == what]; " " (words) }
                    }
                }
                div.part data-what="handler" {
                    (self.line("kind", "Kind", "send-mail", "Workers with a handler for this kind run it."))
                }
            }
            div.part data-what="handler" {
                @match &self.payload {
                    Some(why) => (why),
                    None => (self.area("payload", "Payload (JSON)", "{\"to\": \"ada@example.org\"}", 8)),
                }
            }
            @if !self.exists {
                div.part data-what="command" {
                    (self.area("argv", "Program and arguments, one on each line", "sh\n-c\necho hello", 5))
                    p.note { "Runs on workers that allow commands." }
                }
                div.part data-what="http" {
                    (self.field(&Field { name: "url", label: "URL", hint: "https://example.org/hook", longest: 8000, ..Field::default() }))
                    (self.select("method", "Method", &METHODS))
                    (self.area("headers", "Headers, one on each line", "accept: application/json", 3))
                    (self.area("body", "Body", "JSON or other text", 5))
                }
            }
        }
    }

    fn when(&self) -> Markup {
        html! {
            @if !self.exists {
                (self.line("queue", "Queue", "default", ""))
            }
            div.pair {
                (self.line("delay", "Start after", "10m", ""))
                (self.line("run_at", "or at (UTC)", "2026-01-31 12:00", ""))
            }
            div.pair {
                (self.line("priority", "Priority", "5", "0 to 9; 9 runs first."))
                (self.line("expires_at", "Expires at (UTC)", "never", "If it has not started by then."))
            }
            (self.field(&Field {
                name: "description", label: "Description", hint: "For people, up to 256 characters", lines: 2,
                ..Field::default()
            }))
            (self.area("labels", "Labels, one on each line", "customer=7", 3))
            @if !self.exists {
                (self.line("id", "Id", "chosen by the server", "With an id of your own, a repeat creates no second task."))
            }
        }
    }

    fn attempts(&self) -> Markup {
        let is_open = super::ATTEMPTS.iter().any(|name| self.faults.of(name).next().is_some());
        let jitter = [("", "default"), ("full", "full"), ("none", "none")];
        html! {
            details.more open[is_open] {
                summary { "Attempts, timeout and retention" }
                div.grid {
                    (self.line("retry.max_attempts", "Maximum attempts", "25", ""))
                    (self.line("timeout", "Timeout of an attempt", "30m", ""))
                    (self.line("retry.initial", "First delay after a failure", "1s", ""))
                    (self.line("retry.multiplier", "Growth of the delay", "2", ""))
                    (self.line("retry.max", "Longest delay", "1h", ""))
                    (self.select("retry.jitter", "Jitter of the delay", &jitter))
                    (self.line("retry.max_lost", "Maximum lost workers", "3", ""))
                    (self.line("retry.max_snoozes", "Maximum snoozes", "1000", ""))
                    (self.line("retention", "Kept after its end", "1d, or 7d if it did not complete", ""))
                }
            }
        }
    }
}

const METHODS: [(&str, &str); 7] = [
    ("", "GET, or POST with a body"),
    ("GET", "GET"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
    ("HEAD", "HEAD"),
];

/// All fields.
pub(in crate::pages) fn fields(form: &Form<'_>) -> Markup {
    html! {
        div.two {
            div.card { (form.work()) }
            div.card { (form.when()) }
        }
        (form.attempts())
    }
}
