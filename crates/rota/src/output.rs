//! Printing: tables for people, JSON for programs. Everything that this program prints goes through here,
//! so that no text of others reaches a terminal unescaped.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use rota_proto::{Date, TimeSpan};
use serde::Serialize;

use crate::{exit::Failure, text};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Writes bytes to standard output unchanged. A closed pipe (`| head`) is not an error.
pub(crate) fn verbatim(bytes: &[u8]) -> Result<(), Failure> {
    stream(bytes).map(drop)
}

/// Writes bytes to standard output unchanged. Returns whether somebody still reads it.
pub(crate) fn stream(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}

/// Writes text for people.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    verbatim(text::lines(text).as_bytes())
}

/// Writes a line.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Writes the result of a task: unchanged to a pipe or file, escaped on a terminal.
pub(crate) fn result(bytes: &[u8]) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return text(&text::of_bytes(bytes));
    }
    verbatim(bytes)
}

/// Writes JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let document = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    verbatim(format!("{}\n", text::json(document)).as_bytes())
}

/// Writes an error to standard error.
pub(crate) fn error(failure: &Failure, format: Format) {
    match format {
        Format::Json => json_note(&failure.json()),
        Format::Table => note(&format!("error: {failure}")),
    }
}

/// Writes lines to standard error.
pub(crate) fn note(text: &str) {
    // An error of standard error cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "{}", text::lines(text));
}

/// Writes a line of JSON to standard error.
pub(crate) fn json_note(value: &serde_json::Value) {
    // As above.
    let _ = writeln!(io::stderr(), "{}", text::json(value.to_string()));
}

/// Whether the command can ask a person.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a yes-or-no question.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    write!(io::stderr(), "{} [y/N] ", text::lines(question))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Aligned columns of text.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|title| text::line(title)).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| text::line(&cell)).collect());
    }

    /// The table as text.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}   "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    pub(crate) fn print(&self) -> Result<(), Failure> {
        text(&self.text())
    }
}

/// A date relative to now, such as "5s ago".
pub(crate) fn relative(date: Date) -> String {
    let away = date.timestamp().duration_since(Timestamp::now());
    let short = |duration: SignedDuration| coarse(duration.unsigned_abs());
    if away.is_negative() { format!("{} ago", short(away)) } else { format!("in {}", short(away)) }
}

/// A duration in its two largest units.
pub(crate) fn coarse(duration: std::time::Duration) -> String {
    let secs = duration.as_secs();
    let rounded = match secs {
        0 => std::time::Duration::from_millis(duration.subsec_millis().into()),
        1..3600 => std::time::Duration::from_secs(secs),
        3600..86_400 => std::time::Duration::from_secs(secs / 60 * 60),
        _ => std::time::Duration::from_secs(secs / 3600 * 3600),
    };
    TimeSpan::from(rounded).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_do_not_get_through() {
        let mut table = Table::new(&["NAME", "COUNT"]);
        table.row(["a\x1b[2Jb".to_owned(), "1".to_owned()]);
        table.row(["long name".to_owned(), "22".to_owned()]);
        assert_eq!(table.text(), "NAME          COUNT\na\\u{1b}[2Jb   1\nlong name     22\n");
    }
}
