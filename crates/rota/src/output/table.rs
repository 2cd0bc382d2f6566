//! Tables that fit the terminal: a column that does not fit is cut, then the least important ones are left out. A line is
//! never wrapped. Without a terminal, and with `-o wide`, everything is whole.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{paint, screen::screen, stream::verbatim};
use crate::{exit::Failure, text};

/// Space between columns.
const GAP: usize = 3;
/// Width to which a column is cut before another one is left out.
const FAIR: usize = 16;
/// Width to which it is cut when no other can be left out.
const LEAST: usize = 8;

/// Where a cell is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Never,
    Middle,
    End,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    title: &'static str,
    /// 0 is never left out. Of the others, the highest goes first.
    rank: u8,
    cut: Cut,
    is_state: bool,
    only_wide: bool,
}

impl Column {
    pub(crate) const fn new(title: &'static str) -> Self {
        Self { title, rank: 1, cut: Cut::Never, is_state: false, only_wide: false }
    }

    /// The column is never left out. Its cells are cut in the middle, because ids differ at both ends.
    pub(crate) const fn keep(self) -> Self {
        Self { rank: 0, cut: Cut::Middle, ..self }
    }

    /// Columns of a higher rank are left out first [default: 1].
    pub(crate) const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// Cells are cut in the middle.
    pub(crate) const fn middle(self) -> Self {
        Self { cut: Cut::Middle, ..self }
    }

    /// Cells are cut at their end.
    pub(crate) const fn end(self) -> Self {
        Self { cut: Cut::End, ..self }
    }

    /// Cells begin with the word of a state, which has a colour. Never left out.
    pub(crate) const fn state(self) -> Self {
        Self { is_state: true, rank: 0, ..self }
    }

    /// Only `-o wide` shows the column.
    pub(crate) const fn wide(self) -> Self {
        Self { only_wide: true, ..self }
    }
}

/// Aligned columns of text.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    /// Names and values instead of columns with titles.
    is_pairs: bool,
}

impl Table {
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new(), is_pairs: false }
    }

    /// Names and values, one pair in a row. The first is what all of it is about.
    pub(crate) fn pairs(name: &str, value: &str) -> Self {
        let columns = vec![Column::new("").keep(), Column::new("").keep()];
        let mut table = Self { columns, rows: Vec::new(), is_pairs: true };
        table.row([name.to_owned(), value.to_owned()]);
        table
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| text::line(&cell)).collect());
    }

    /// Prints the table.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        let screen = screen();
        let width = screen.width.filter(|_| !screen.wide);
        verbatim(self.render(width, screen.wide, screen.colour).as_bytes())
    }

    /// The table as plain text, whole.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        self.render(None, false, false)
    }

    fn render(&self, width: Option<usize>, all: bool, colour: bool) -> String {
        if self.is_pairs {
            return self.render_pairs(width, colour);
        }
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|at| all || !self.columns[*at].only_wide).collect();
        let natural = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| cell.width()).max().unwrap_or(0);
            widest.max(self.columns[at].title.width())
        };
        let natural: Vec<(usize, usize)> = shown.into_iter().map(|at| (at, natural(at))).collect();
        let widths = match width {
            Some(width) => self.fit(natural, width),
            None => natural,
        };
        let mut text = String::new();
        if self.columns.iter().any(|column| !column.title.is_empty()) {
            let titles = widths.iter().map(|(at, _)| (*at, self.columns[*at].title));
            self.line(&mut text, titles, &widths, |_, cell| paint::title(cell, colour));
        }
        for row in &self.rows {
            let cells = widths.iter().map(|(at, _)| (*at, row.get(*at).map_or("", |cell| cell)));
            self.line(&mut text, cells, &widths, |at, cell| {
                paint::state(cell, colour && self.columns[at].is_state)
            });
        }
        text
    }

    fn line<'a>(
        &self,
        text: &mut String,
        cells: impl Iterator<Item = (usize, &'a str)>,
        widths: &[(usize, usize)],
        paint: impl Fn(usize, &str) -> String,
    ) {
        let mut spaces = 0;
        for ((at, cell), (_, width)) in cells.zip(widths) {
            let cell = cut(cell, *width, self.columns[at].cut);
            if !cell.is_empty() {
                text.push_str(&" ".repeat(spaces));
                spaces = 0;
            }
            spaces += width.saturating_sub(cell.width()) + GAP;
            text.push_str(&paint(at, &cell));
        }
        text.push('\n');
    }

    /// The columns and widths that fit.
    fn fit(&self, mut shown: Vec<(usize, usize)>, width: usize) -> Vec<(usize, usize)> {
        loop {
            let fair = self.shrunk(&shown, width, FAIR);
            if total(&fair) <= width {
                return fair;
            }
            let rank = |at: &usize| (self.columns[*at].rank, *at);
            let least =
                shown.iter().map(|(at, _)| *at).filter(|at| rank(at).0 > 0).max_by_key(rank);
            match least {
                Some(least) => shown.retain(|(at, _)| *at != least),
                None => break,
            }
        }
        let mut least = self.shrunk(&shown, width, LEAST);
        // Narrower than any table: what is at the right is not seen.
        while total(&least) > width && least.len() > 1 {
            least.pop();
        }
        least
    }

    /// Takes from the widest columns that can be cut, down to `floor`, until they fit.
    fn shrunk(&self, shown: &[(usize, usize)], width: usize, floor: usize) -> Vec<(usize, usize)> {
        let mut widths = shown.to_vec();
        let mut excess = total(&widths).saturating_sub(width);
        while excess > 0 {
            let can = |(at, width): &&mut (usize, usize)| {
                self.columns[*at].cut != Cut::Never
                    && *width > floor.max(self.columns[*at].title.width())
            };
            match widths.iter_mut().filter(can).max_by_key(|(_, width)| *width) {
                Some((_, width)) => *width -= 1,
                None => break,
            }
            excess -= 1;
        }
        widths
    }

    /// Values that do not fit go on in the next line, below their beginning.
    fn render_pairs(&self, width: Option<usize>, colour: bool) -> String {
        let names = self.rows.iter().filter_map(|row| row.first());
        let indent = names.map(|name| name.width()).max().unwrap_or(0) + GAP;
        let room = width.map(|width| width.saturating_sub(indent)).filter(|room| *room >= LEAST);
        let mut text = String::new();
        for row in &self.rows {
            let (name, value) =
                (row.first().map_or("", |name| name), row.get(1).map_or("", |it| it));
            text.push_str(&paint::title(name, colour));
            let is_state = matches!(name, "Status" | "State" | "Ready");
            let mut spaces = indent - name.width();
            for line in words(value, room) {
                if !line.is_empty() {
                    text.push_str(&" ".repeat(spaces));
                }
                text.push_str(&paint::state(&line, colour && is_state));
                text.push('\n');
                spaces = indent;
            }
        }
        text
    }
}

fn total(widths: &[(usize, usize)]) -> usize {
    let cells: usize = widths.iter().map(|(_, width)| width).sum();
    cells + GAP * widths.len().saturating_sub(1)
}

/// A cell of at most this width.
fn cut(cell: &str, width: usize, how: Cut) -> String {
    if cell.width() <= width || how == Cut::Never {
        return cell.to_owned();
    }
    let room = width.saturating_sub(1);
    let tail = if how == Cut::Middle { room / 2 } else { 0 };
    let tail: String = taken(cell.chars().rev(), tail).chars().rev().collect();
    let head = taken(cell.chars(), room - tail.width());
    format!("{head}…{tail}")
}

/// The first characters that fit.
fn taken(characters: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    characters.take_while(fits).collect()
}

/// The lines of a text, broken at spaces. A word that is longer than a line stays whole, so that it can be copied.
fn words(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room.filter(|room| text.width() > *room) else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.width() + 1 + word.width() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Table {
        let mut table = Table::new([
            Column::new("ID").keep(),
            Column::new("KIND").rank(3).middle(),
            Column::new("QUEUE").rank(4).middle(),
            Column::new("STATUS").state(),
            Column::new("ATTEMPT").rank(5),
            Column::new("CREATED").rank(2),
            Column::new("LABELS").wide(),
            Column::new("NOTE").end(),
        ]);
        let long = format!("order/{}/7", "4".repeat(119));
        for (id, status, note) in [
            ("t_1m8empcqw0000", "running", "working on row 7 of 12"),
            (&*long, "failed", "exit code 3: no such file or directory: /var/lib/cats/cat.png"),
            ("grüße/日本語", "completed", ""),
        ] {
            let cells = [id, "resize", "images", status, "1/25", "5s ago", "team=docs", note];
            table.row(cells.map(str::to_owned));
        }
        table
    }

    #[test]
    fn a_table_fits_each_width() {
        let table = tasks();
        let mut told = String::new();
        for width in [20, 40, 60, 80, 200] {
            let text = table.render(Some(width), false, false);
            assert!(text.lines().all(|line| line.width() <= width), "{width}\n{text}");
            told.push_str(&format!("{width} columns\n{text}\n"));
        }
        told.push_str(&format!("a pipe\n{}\n", table.render(None, false, false)));
        told.push_str(&format!("wide\n{}", table.render(None, true, false)));
        insta::assert_snapshot!(told);
    }

    #[test]
    fn states_have_colours_and_columns_stay_aligned() {
        let text = tasks().render(Some(60), false, true);
        insta::assert_snapshot!(text.replace('\u{1b}', "ESC"));
        let plain = tasks().render(Some(60), false, false);
        let bare = strip(&text);
        assert_eq!(bare, plain);
    }

    fn strip(text: &str) -> String {
        let mut parts = text.split('\u{1b}');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| all + part.split_once('m').map_or("", |(_, rest)| rest))
    }

    #[test]
    fn values_of_a_pair_go_on_below_their_beginning() {
        let mut table = Table::pairs("Task", "a");
        table.row(["Error".to_owned(), "the handler could not find the image cat.png".to_owned()]);
        let text = table.render(Some(30), false, false);
        assert_eq!(
            text,
            "Task    a\nError   the handler could not\n        find the image cat.png\n"
        );
        let whole = table.render(None, false, false);
        assert_eq!(whole, "Task    a\nError   the handler could not find the image cat.png\n");
    }

    #[test]
    fn columns_are_aligned_and_control_characters_do_not_get_through() {
        let mut table = Table::new([Column::new("NAME"), Column::new("COUNT")]);
        table.row(["a\x1b[2Jb".to_owned(), "1".to_owned()]);
        table.row(["long name".to_owned(), "22".to_owned()]);
        let text = table.render(None, false, false);
        assert_eq!(text, "NAME          COUNT\na\\u{1b}[2Jb   1\nlong name     22\n");
    }
}
