//! Differences between two texts, for people.

use similar::{ChangeTag, TextDiff};

/// Lines around a change that are shown as well.
const CONTEXT: usize = 2;

/// The changed lines with `-` and `+`, and some lines around them. `…` stands for lines that are left out.
pub(super) fn lines(before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    let mut next = 0;
    for group in diff.grouped_ops(CONTEXT) {
        if group.first().is_some_and(|first| first.old_range().start > next) {
            lines.push("  …".to_owned());
        }
        for op in &group {
            next = op.old_range().end;
            for change in diff.iter_changes(op) {
                let sign = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                };
                lines.push(format!("{sign} {}", change.value().trim_end_matches('\n')));
            }
        }
    }
    if diff.old_slices().len() > next {
        lines.push("  …".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_a_change_is_shown() {
        let before = "a\nb\nc\nd\ne\nf\ng\n";
        let after = before.replace("d\n", "D\n");
        assert_eq!(lines(before, &after), ["  …", "  b", "  c", "- d", "+ D", "  e", "  f", "  …"]);
        assert_eq!(lines("a\n", "a\nb\n"), ["  a", "+ b"]);
        assert_eq!(lines("a\n", "a\n"), ["  …"]);
    }
}
