//! Writes to standard output and standard error, and asks questions.

use std::io::{self, IsTerminal, Write};

use super::format::Format;
use crate::{exit::Failure, text};

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

/// Writes a piece of the output of a task, as [`result`] does. Returns whether somebody still reads it.
pub(crate) fn piece(bytes: &[u8]) -> Result<bool, Failure> {
    if io::stdout().is_terminal() {
        return stream(text::lines(&text::of_bytes(bytes)).as_bytes());
    }
    stream(bytes)
}

/// Writes an error to standard error.
pub(crate) fn error(failure: &Failure, format: Format) {
    if format.notes_are_json() {
        json_note(&failure.json());
    } else {
        note(&format!("error: {failure}"));
    }
}

/// Writes lines to standard error.
pub(crate) fn note(text: &str) {
    // An error of standard error cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "{}", text::lines(text));
}

/// A number with its noun, such as `1 task` and `2 tasks`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Says on standard error that a list has more items than were printed, unless its document has a cursor.
pub(crate) fn more(told: &str, format: Format) {
    match format {
        Format::Json | Format::Yaml => {}
        Format::Jsonl => json_note(&serde_json::json!({ "note": told })),
        Format::Table | Format::Wide | Format::Template => note(told),
    }
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
