//! Tests of pages: whether text of users stands apart, so that its direction changes nothing around it.
//!
//! A name from right to left, or a character that turns the direction, moves the words after it. An element that isolates
//! its text keeps that inside. Attributes that are never drawn do not matter.

/// Turns the direction of what comes after it.
pub(crate) const TURN: char = '\u{202e}';

/// Elements that have no end.
const VOID: [&str; 6] = ["br", "hr", "img", "input", "link", "meta"];

/// Asserts that all text with [`TURN`] stands in an element that isolates it, that fields take the direction of what is
/// typed, and that there is such text: a page that shows none proves nothing.
///
/// # Panics
/// When it does not.
pub(crate) fn assert_apart(html: &str) {
    let (mut open, mut shown, mut faults) = (Vec::new(), 0, Vec::new());
    for part in html.trim_start_matches("<!DOCTYPE html>").split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        let name = tag.split(' ').next().unwrap_or_default();
        if name.starts_with('/') {
            let last: Option<(&str, bool)> = open.pop();
            assert_eq!(last.map(|(name, _)| name), name.strip_prefix('/'), "a tag is not closed");
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push((name, name == "bdi" || tag.contains(" dir=\"auto\"")));
        }
        let is_apart = open.iter().any(|(_, isolates)| *isolates);
        shown += text.matches(TURN).count();
        if text.contains(TURN) && !is_apart {
            faults.push(format!("<{tag}>{text}"));
        }
        // What is typed has a direction of its own, too, whatever stands in the field now.
        let is_typed = name == "textarea"
            || name == "input"
                && ["text", "search"].iter().any(|kind| tag.contains(&format!(" type=\"{kind}\"")));
        if is_typed && !tag.contains(" dir=\"auto\"") {
            faults.push(format!("<{tag}>"));
        }
    }
    assert_eq!(faults, Vec::<String>::new(), "text does not stand apart");
    assert!(shown > 0, "nothing changes the direction in {html}");
}

#[cfg(test)]
mod tests {
    use super::assert_apart;

    #[test]
    #[should_panic(expected = "text does not stand apart")]
    fn text_beside_an_element_that_isolates_is_found() {
        assert_apart("<p><bdi>a\u{202e}</bdi> b\u{202e}</p>");
    }

    #[test]
    #[should_panic(expected = "text does not stand apart")]
    fn a_field_without_a_direction_is_found() {
        assert_apart("<p><bdi>\u{202e}</bdi><input type=\"text\"></p>");
    }

    #[test]
    fn what_stands_apart_is_not_found() {
        assert_apart(
            "<p title=\"\u{202e}\"><bdi><b>\u{202e}</b></bdi><input type=\"hidden\" value=\"\u{202e}\">\
             <textarea dir=\"auto\">\u{202e}</textarea></p>",
        );
    }
}
