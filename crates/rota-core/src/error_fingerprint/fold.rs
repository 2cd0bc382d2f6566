//! Folds an error message: the first line, with placeholders for the values that differ from one failure to the next.

use super::shape;

/// Maximum characters of a folded message.
pub const FOLDED_CHARS_MAX: usize = 200;
/// Maximum bytes of the line that is read. Placeholders are shorter than most values, so it is longer than the result.
const LINE_BYTES_MAX: usize = 4096;

/// Quotation marks, and the marks that end what they begin.
const QUOTES: [(char, char); 6] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’'), ('«', '»')];

/// Replaces the variable parts of an error message with placeholders: numbers, durations, hexadecimal strings, ids,
/// UUIDs, quoted values, dates, IP and email addresses, queries of URLs and temporary paths. Only the first line with
/// text counts, and up to [`FOLDED_CHARS_MAX`] characters of the result.
#[must_use]
pub fn fold_error(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let line = &line[..end];
    let mut folding = Folding { line, ..Folding::default() };
    if let Some(length) = name_of_lost_worker(line) {
        folding.replace(LOST_WORKER.len(), LOST_WORKER);
        folding.replace(length, "<id>");
    }
    while folding.at < folding.line.len() && folding.chars < FOLDED_CHARS_MAX {
        folding.step();
    }
    let cut = folding.folded.char_indices().nth(FOLDED_CHARS_MAX).map(|(at, _)| at);
    folding.folded.truncate(cut.unwrap_or(folding.folded.len()));
    folding.folded.truncate(folding.folded.trim_end().len());
    folding.folded
}

/// The beginning of the messages for tasks of lost workers. The name of the worker follows.
const LOST_WORKER: &str = "worker ";

/// The length of the name in the message for a task of a lost worker. Names need not have digits.
fn name_of_lost_worker(line: &str) -> Option<usize> {
    let (name, what) = line.strip_prefix(LOST_WORKER)?.split_once(' ')?;
    let is_own = what.starts_with("sent no heartbeat for ") || what == "closed its session";
    is_own.then_some(name.len())
}

/// The state of folding a line.
#[derive(Default)]
struct Folding<'a> {
    line: &'a str,
    /// Bytes that are folded.
    at: usize,
    /// The last of them.
    last: Option<char>,
    folded: String,
    chars: usize,
    is_in_url: bool,
    /// Quotation marks that are known not to end, so that nobody looks for the end again.
    unclosed: Vec<char>,
}

impl Folding<'_> {
    fn step(&mut self) {
        let rest = &self.line[self.at..];
        let Some(first) = rest.chars().next() else { return };
        if first.is_whitespace() || first.is_control() {
            self.is_in_url = false;
            let text = if self.folded.ends_with(' ') { "" } else { " " };
            return self.replace(first.len_utf8(), text);
        }
        if self.is_boundary() && self.value(rest, first) {
            return;
        }
        if is_word(first) {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let word = fold_word(&rest[..end]);
            return self.replace(end, &word);
        }
        self.is_in_url |= rest.starts_with("://");
        if first == '?' && self.is_in_url {
            return self.replace(path_end(rest), "?<query>");
        }
        self.replace(first.len_utf8(), &rest[..first.len_utf8()]);
    }

    /// Whether a value can begin here.
    fn is_boundary(&self) -> bool {
        !self.last.is_some_and(is_word)
    }

    /// Replaces the value that begins here, and returns whether one does.
    fn value(&mut self, rest: &str, first: char) -> bool {
        type Shape = fn(&str) -> Option<usize>;
        let before: [(Shape, &str); 4] = [
            (shape::time, "<time>"),
            (shape::uuid, "<uuid>"),
            (shape::address, "<ip>"),
            (shape::email, "<email>"),
        ];
        if let Some((length, placeholder)) =
            before.iter().find_map(|(shape, placeholder)| Some((shape(rest)?, *placeholder)))
        {
            self.replace(length, placeholder);
            return true;
        }
        if rest.starts_with("/tmp/") {
            self.replace(path_end(rest), "/tmp/<path>");
            return true;
        }
        self.number(rest, first) || self.quoted(rest, first)
    }

    fn number(&mut self, rest: &str, first: char) -> bool {
        let is_apart = self.last.is_none_or(|c| c.is_whitespace() || "([{<>=:,;".contains(c));
        let sign = usize::from(matches!(first, '-' | '+') && is_apart);
        let unsigned = &rest[sign..];
        let word = unsigned.find(|c: char| !is_word(c)).unwrap_or(unsigned.len());
        if shape::is_hex(&unsigned[..word]) {
            return false;
        }
        let found = shape::duration(unsigned).or_else(|| shape::number(unsigned));
        if let Some(length) = found {
            self.replace(sign + length, "<n>");
        }
        found.is_some()
    }

    fn quoted(&mut self, rest: &str, first: char) -> bool {
        let Some((_, close)) = QUOTES.iter().find(|(open, _)| *open == first) else { return false };
        if self.unclosed.contains(&first) {
            return false;
        }
        let inside = &rest[first.len_utf8()..];
        // In JSON inside a string, the marks themselves are escaped.
        let has_escapes = self.last != Some('\\');
        let Some(end) = closing(inside, *close, has_escapes) else {
            self.unclosed.push(first);
            return false;
        };
        self.replace(first.len_utf8() + end, &format!("{first}<str>"));
        self.replace(close.len_utf8(), &close.to_string());
        true
    }

    /// Writes this text for the next `length` bytes.
    fn replace(&mut self, length: usize, text: &str) {
        let next = self.at + length;
        self.last = self.line[self.at..next].chars().next_back().or(self.last);
        self.at = next;
        self.folded.push_str(text);
        self.chars += text.chars().count();
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a quoted text ends. An apostrophe within a word is no end.
fn closing(inside: &str, close: char, has_escapes: bool) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in inside.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' && has_escapes {
            is_escaped = true;
        } else if c == close {
            let next = inside[at + c.len_utf8()..].chars().next();
            if !matches!(close, '\'' | '’') || !next.is_some_and(is_word) {
                return Some(at);
            }
        }
    }
    None
}

/// Where a path or URL ends that begins here.
fn path_end(rest: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "\"'`()[]{}<>,;:|".contains(c);
    rest.find(ends).unwrap_or(rest.len())
}

/// Replaces the variable parts of a word.
fn fold_word(word: &str) -> String {
    if !word.contains(|c: char| c.is_ascii_digit()) && !shape::is_rota_id(word) {
        return word.to_owned();
    }
    if shape::is_hex(word) {
        return "<hex>".to_owned();
    }
    if shape::is_rota_id(word) {
        return "<id>".to_owned();
    }
    let parts = word.split('_').enumerate().map(|(at, part)| {
        if shape::is_hex(part) {
            "<hex>".to_owned()
        } else if shape::is_id(part, at > 0) {
            "<id>".to_owned()
        } else {
            without_digits(part)
        }
    });
    parts.collect::<Vec<_>>().join("_")
}

/// Replaces each run of digits.
fn without_digits(part: &str) -> String {
    let mut folded = String::with_capacity(part.len());
    let mut was_digit = false;
    for c in part.chars() {
        if !c.is_ascii_digit() {
            folded.push(c);
        } else if !was_digit {
            folded.push_str("<n>");
        }
        was_digit = c.is_ascii_digit();
    }
    folded
}
