//! What the demo shows: how far it is, and in the end what was expected and what was observed.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// One thing that the demo promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) expected: String,
    pub(crate) observed: String,
    pub(crate) holds: bool,
}

impl Row {
    pub(crate) fn new(
        what: impl Into<String>,
        expected: impl Into<String>,
        observed: impl Into<String>,
        holds: bool,
    ) -> Self {
        Self { what: what.into(), expected: expected.into(), observed: observed.into(), holds }
    }

    /// A row that holds when both are the same.
    pub(crate) fn same(
        what: impl Into<String>,
        expected: impl Into<String>,
        observed: impl Into<String>,
    ) -> Self {
        let (expected, observed) = (expected.into(), observed.into());
        let holds = expected == observed;
        Self::new(what, expected, observed, holds)
    }
}

/// Live progress: a bar on a terminal, lines elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Documents between two lines where there is no terminal.
    every: u64,
}

impl Progress {
    pub(crate) fn new(documents: usize) -> Self {
        let documents = documents as u64;
        let bar = if std::io::stdout().is_terminal() {
            let style = "{bar:40} {pos}/{len} documents, {per_sec}, {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is right");
            ProgressBar::new(documents).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        bar.set_length(documents);
        Self { bar, every: (documents / 10).max(1) }
    }

    /// A document is done.
    pub(crate) fn document(&self) {
        self.bar.inc(1);
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        if self.bar.is_hidden() && (done.is_multiple_of(self.every) || done == all) {
            self.say(&format!("{done}/{all} documents"));
        }
    }

    /// Something happened.
    #[expect(clippy::print_stdout, reason = "a program for a terminal")]
    pub(crate) fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            println!("  {line}");
        } else {
            self.bar.println(format!("  {line}"));
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The table of all rows.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = Row::new("what", "expected", "observed", true);
    let width = |cell: fn(&Row) -> &str| {
        rows.iter().chain([&head]).map(|row| cell(row).chars().count()).max().unwrap_or_default()
    };
    let (first, second) = (width(|row| &row.what), width(|row| &row.expected));
    let third = width(|row| &row.observed);
    let line = |row: &Row, mark: &str| {
        let text = format!(
            "{:first$}  {:second$}  {:third$}  {mark}",
            row.what, row.expected, row.observed
        );
        format!("{}\n", text.trim_end())
    };
    let mut table = line(&head, "");
    table.push_str(&format!("{}\n", "-".repeat(first + second + third + 8)));
    for row in rows {
        table.push_str(&line(row, if row.holds { "ok" } else { "WRONG" }));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_marked() {
        let rows = [
            Row::same("one", "completed", "completed"),
            Row::same("another", "completed", "failed: exit code 1"),
        ];
        let expected = "\
what     expected   observed
-------------------------------------------
one      completed  completed            ok
another  completed  failed: exit code 1  WRONG
";
        assert_eq!(table(&rows), expected);
    }
}
