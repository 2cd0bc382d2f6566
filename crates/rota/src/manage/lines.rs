//! Reads a file with one task on each line, on its own thread, and passes the tasks on in chunks. An
//! unreadable line is reported with its number, and reading continues.

use std::{
    io::{self, BufRead},
    mem,
};

use rota_client::v1;
use rota_proto::json::Object;
use tokio::sync::mpsc;

/// Tasks in a chunk.
const TASKS: usize = 1000;
/// Maximum bytes of lines in a chunk.
const CHUNK_BYTES: u64 = 4 << 20;
/// Longest line that is read. No server accepts a task of this size.
const LINE_BYTES: usize = 64 << 20;

/// A chunk of lines.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Tasks, with the numbers of their lines.
    pub(super) tasks: Vec<(usize, v1::NewTask)>,
    /// Lines that are not tasks, with their numbers and the reasons.
    pub(super) refused: Vec<(usize, String)>,
    pub(super) bytes: u64,
    /// Why reading stopped before the end of the file.
    pub(super) broken: Option<String>,
}

/// Reads until the input ends or the receiver is gone. Tasks without an id or key get `key` and their line
/// number as idempotency key.
pub(super) fn read(input: impl BufRead, key: &str, chunks: &mpsc::Sender<Chunk>) {
    let mut chunk = Chunk::default();
    for line in Lines::of(input) {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                chunk.broken = Some(error.to_string());
                break;
            }
        };
        // A long line is sent alone, so that other lines are not refused for its size.
        let is_full = chunk.bytes > 0 && chunk.bytes + line.bytes > CHUNK_BYTES;
        if is_full && chunks.blocking_send(mem::take(&mut chunk)).is_err() {
            return;
        }
        chunk.bytes += line.bytes;
        match line.text.and_then(|text| task_of(&text)) {
            Ok(None) => {}
            Ok(Some(mut task)) => {
                if task.id.is_none() && task.idempotency_key.is_none() {
                    task.idempotency_key = Some(format!("{key}-{}", line.number));
                }
                chunk.tasks.push((line.number, task));
            }
            Err(why) => chunk.refused.push((line.number, why)),
        }
        let lines = chunk.tasks.len() + chunk.refused.len();
        if (lines >= TASKS || chunk.bytes >= CHUNK_BYTES)
            && chunks.blocking_send(mem::take(&mut chunk)).is_err()
        {
            return;
        }
    }
    // The receiver may be gone.
    let _ = chunks.blocking_send(chunk);
}

/// The task on a line, or none if the line is empty.
fn task_of(line: &str) -> Result<Option<v1::NewTask>, String> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_str(line).map(|Object(task)| Some(task));
    // The caller adds the line number in the file.
    read.map_err(|error| error.to_string().replace(" at line 1 column ", ", at column "))
}

/// A line without its line break.
#[derive(Debug)]
struct InputLine {
    number: usize,
    /// Bytes in the file, with the line break.
    bytes: u64,
    /// The text, or why it cannot be read.
    text: Result<String, String>,
}

/// Cuts input into lines. Memory is bounded by [`LINE_BYTES`].
struct Lines<R> {
    input: R,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    fn of(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The byte count of the next line, and its bytes unless it is too long.
    fn bytes(&mut self) -> io::Result<(u64, Option<Vec<u8>>)> {
        let (mut count, mut line) = (0, Some(Vec::new()));
        loop {
            let read = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let end = read.iter().position(|byte| *byte == b'\n');
            let part = &read[..end.unwrap_or(read.len())];
            line = line.filter(|line| line.len() + part.len() <= LINE_BYTES);
            if let Some(line) = &mut line {
                line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            count += used as u64;
            self.input.consume(used);
            if end.is_some() || used == 0 {
                return Ok((count, line));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<InputLine>;

    fn next(&mut self) -> Option<Self::Item> {
        let (bytes, line) = match self.bytes() {
            Ok((0, _)) => return None,
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        self.number += 1;
        let text = match line {
            None => Err(format!("longer than {} MiB", LINE_BYTES >> 20)),
            Some(line) if self.number == 1 && is_utf_16(&line) => {
                let convert = "the file is UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`";
                return Some(Err(io::Error::new(io::ErrorKind::InvalidData, convert)));
            }
            Some(mut line) => {
                if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                    line.drain(..BYTE_ORDER_MARK.len());
                }
                String::from_utf8(line).map_err(|error| {
                    let at = error.utf8_error().valid_up_to() + 1;
                    format!("not UTF-8 at byte {at}")
                })
            }
        };
        Some(Ok(InputLine { number: self.number, bytes, text }))
    }
}

/// The byte order mark that some editors write before UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

fn is_utf_16(start: &[u8]) -> bool {
    start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Chunk> {
        let (sender, mut receiver) = mpsc::channel(100);
        read(input, "key", &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn what_is_wrong_with_one_line_costs_no_other() {
        let mut input = b"\xef\xbb\xbf{\"kind\": \"a\"}\r\n\n{\"kind\": \"b\xff\"}\n".to_vec();
        input.extend(std::iter::repeat_n(b'x', LINE_BYTES + 1));
        input.extend(b"\n{\"kind\": \"c\", \"id\": \"mine\"}\n{\"kind\": \"d\"");
        let chunks = all(&input);
        let tasks: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.tasks).collect();
        let names: Vec<_> = tasks
            .iter()
            .map(|(line, task)| (*line, &*task.kind, task.id(), task.idempotency_key()))
            .collect();
        assert_eq!(names, [(1, "a", "", "key-1"), (5, "c", "mine", "")]);
        let refused: Vec<_> = chunks.iter().flat_map(|chunk| chunk.refused.clone()).collect();
        assert_eq!(refused[0], (3, "not UTF-8 at byte 12".to_owned()));
        assert_eq!(refused[1], (4, "longer than 64 MiB".to_owned()));
        assert_eq!(refused[2].0, 6);
        assert_eq!(refused.len(), 3);
        assert!(chunks.iter().all(|chunk| chunk.broken.is_none()));
        let bytes: u64 = chunks.iter().map(|chunk| chunk.bytes).sum();
        assert_eq!(bytes, input.len() as u64);
    }

    #[test]
    fn chunks_are_bounded_in_number_and_bytes() {
        let small = "{\"kind\": \"a\"}\n".repeat(2500);
        let sizes =
            |chunks: Vec<Chunk>| chunks.iter().map(|chunk| chunk.tasks.len()).collect::<Vec<_>>();
        assert_eq!(sizes(all(small.as_bytes())), [1000, 1000, 500]);
        let large = format!("{{\"kind\": \"a\", \"payload\": \"{}\"}}\n", "x".repeat(1 << 20));
        assert_eq!(sizes(all(large.repeat(6).as_bytes())), [3, 3]);
        assert_eq!(sizes(all(b"")), [0]);
    }

    #[test]
    fn a_file_in_utf_16_is_told_to_be_one() {
        let chunks = all(b"\xff\xfe{\0\"\0k\0");
        let broken = chunks[0].broken.as_deref().expect("it is not read");
        assert!(broken.contains("iconv"), "{broken}");
        assert_eq!(chunks.len(), 1);
    }
}
