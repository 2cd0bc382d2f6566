//! Numbers, names and ids.

use maud::{Markup, html};

use super::icon;
use crate::link;

/// Ids up to this length are shown whole.
const WHOLE: usize = 22;
const HEAD: usize = 12;
const TAIL: usize = 8;

/// A number with separators, as text: scripts never read it.
pub(crate) fn count(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun.
pub(crate) fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// The beginning and the end of a long text.
pub(crate) fn cut(text: &str) -> String {
    let length = text.chars().count();
    if length <= WHOLE {
        return text.to_owned();
    }
    let head: String = text.chars().take(HEAD).collect();
    let tail: String = text.chars().skip(length - TAIL).collect();
    format!("{head}…{tail}")
}

/// A name that users chose. The style sheet cuts it where the room ends; its title is whole.
pub(crate) fn name(text: &str) -> Markup {
    html! { bdi.name title=(text) { (text) } }
}

/// The id of a task: a link, cut in the middle, and a button that copies it.
pub(crate) fn id(id: &str) -> Markup {
    html! {
        span.id {
            a href=(link::to("task", [("id", id)])) title=(id) { bdi { (cut(id)) } }
            (copy(id, "Copy the id"))
        }
    }
}

/// A button that copies a text. The script shows it.
pub(crate) fn copy(text: &str, label: &str) -> Markup {
    html! {
        button.copy.scripted type="button" data-copy=(text) aria-label=(label) title=(label) { (icon("copy")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apart::assert_apart;

    #[test]
    fn numbers_are_exact_however_large() {
        for (number, text) in [
            (0_u64, "0"),
            (999, "999"),
            (1000, "1,000"),
            (9_007_199_254_740_993, "9,007,199,254,740,993"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (plural(1, "task", "tasks"), plural(2, "task", "tasks")),
            ("1 task".into(), "2 tasks".into())
        );
    }

    #[test]
    fn long_ids_keep_both_ends() {
        assert_eq!(cut("t_01jc0000000000000000"), "t_01jc0000000000000000");
        assert_eq!(cut("nightly/2026-01-31T02:30:00Z"), "nightly/2026…2:30:00Z");
        assert_eq!(cut(&"ä".repeat(128)).chars().count(), HEAD + 1 + TAIL);
    }

    #[test]
    fn hostile_names_stay_text() {
        let hostile = "\"><script>alert(1)</script>&\u{202e}";
        for markup in [name(hostile), id(hostile), copy(hostile, "Copy")] {
            let html = markup.into_string();
            assert!(
                !html.contains("<script") && html.contains("&quot;&gt;&lt;script&gt;"),
                "{html}"
            );
        }
        assert_apart(&html! { (name(hostile)) (id(hostile)) }.into_string());
    }
}
