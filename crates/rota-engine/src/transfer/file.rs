//! The file of an export: JSON lines. `docs/export-format.md` documents it.
//!
//! The first line is the header, the last one the end, and each line between them is a record. A record has its exact value
//! in base 64, a checksum of its own, so that a damaged line is named, and its readable form, which nothing here reads
//! again. The end has counts and the checksum of all records, so that a file that was cut off is noticed.

use std::io::{self, BufRead, Read};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use rota_store::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use super::{
    digest::{Contents, Digest},
    error::TransferError,
    kinds::{KINDS, Readable, position_of},
    unfinished::KeyForm,
    walk,
};

/// The version of the format that this version of Rota writes, and the highest one that it reads.
const VERSION: u32 = 1;
/// Maximum bytes of a line: the largest value in base 64 and, with each byte escaped, as text.
const LINE_BYTES_MAX: u64 = 8 * VALUE_BYTES_MAX as u64;
/// Numbers of batches stay below this, because JSON has no exact numbers beyond.
const HEAD_MAX: u64 = 1 << 53;
/// Records and bytes of a portion.
const PORTION: usize = 4_000;
const PORTION_BYTES: usize = 4 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// The version of the format.
    pub rota_export: u32,
    /// The version of Rota that wrote the file.
    pub rota: String,
    /// When it was written.
    pub taken_at: String,
    /// The number of the store's last batch.
    pub head: u64,
    /// The feature level of the cluster.
    pub feature_level: u32,
}

impl FileHeader {
    /// A header of this version's format.
    #[must_use]
    pub fn new(rota: &str, taken_at: String) -> Self {
        let rota = rota.to_owned();
        Self { rota_export: VERSION, rota, taken_at, head: 0, feature_level: 0 }
    }

    pub(super) fn line(&self) -> io::Result<Vec<u8>> {
        line(self)
    }
}

#[derive(Serialize)]
struct RecordLine<'a> {
    space: &'static str,
    #[serde(flatten)]
    key: KeyForm,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    value: &'a str,
    sum: String,
}

#[derive(Serialize)]
struct EndLine<'a> {
    end: bool,
    /// Again, because nothing else guards the header.
    head: u64,
    #[serde(flatten)]
    contents: &'a Contents,
}

/// A record or the end, as it is read.
#[derive(Deserialize)]
struct AnyLine {
    space: Option<String>,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    sum: Option<String>,
    #[serde(default)]
    end: bool,
    head: Option<u64>,
    records: Option<u64>,
    checksum: Option<String>,
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

fn sum(space: &str, key: &[u8], value: &[u8]) -> String {
    let mut hash = Xxh3::new();
    for part in [space.as_bytes(), key, value] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{:016x}", hash.digest())
}

/// Appends the line of a record.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    kind: usize,
    key: &Bytes,
    value: &Bytes,
) -> io::Result<()> {
    let kind = &KINDS[kind];
    let (record, unreadable) = match (kind.read)(key, value) {
        Readable::Record(record) => (Some(record), None),
        Readable::Damaged(why) | Readable::Newer(why) => (None, Some(why)),
        Readable::Foreign(wanted) => (None, Some(format!("the key must be {wanted}"))),
    };
    let space = kind.space.name;
    let (encoded, sum) = (BASE64.encode(value), sum(space, key, value));
    let record =
        RecordLine { space, key: KeyForm::of(key), record, unreadable, value: &encoded, sum };
    serde_json::to_writer(&mut *out, &record)?;
    out.push(b'\n');
    Ok(())
}

/// The last line.
pub(super) fn end_line(head: u64, contents: &Contents) -> io::Result<Vec<u8>> {
    line(&EndLine { end: true, head, contents })
}

/// Records of a file, or its end.
pub enum Portion {
    Records(Records),
    /// The whole file is as it was written.
    End(Contents),
}

/// Records of one space.
pub struct Records(pub(super) walk::Portion);

/// Reads the file of an export, and checks each line.
pub struct FileReader<R> {
    input: R,
    line: u64,
    /// The number of the last batch, as the header tells it.
    head: u64,
    buffer: Vec<u8>,
    digest: Digest,
    /// The last record.
    last: Option<(usize, Bytes)>,
    /// A record that was read, but belongs to the next portion.
    held: Option<(usize, Bytes, Bytes)>,
    ended: bool,
}

impl<R: BufRead> FileReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the file is not an export, or one in a format that this version does not know.
    pub fn open(input: R) -> Result<(FileHeader, Self), TransferError> {
        let mut reader = Self {
            input,
            line: 0,
            head: 0,
            buffer: Vec::new(),
            digest: Digest::new(),
            last: None,
            held: None,
            ended: false,
        };
        if !reader.read_line()? {
            return Err(reader.wrong_at(1, "the file is empty"));
        }
        #[derive(Deserialize)]
        struct Version {
            rota_export: u32,
        }
        let version: Version = serde_json::from_slice(&reader.buffer)
            .map_err(|_| reader.wrong("this is not an export of Rota: the header is missing"))?;
        if version.rota_export == 0 || version.rota_export > VERSION {
            return Err(reader.wrong(&format!(
                "the file has format {}, and this version reads formats up to {VERSION}",
                version.rota_export
            )));
        }
        let header: FileHeader = serde_json::from_slice(&reader.buffer)
            .map_err(|error| reader.wrong(&format!("the header is damaged: {error}")))?;
        if header.head == 0 || header.head >= HEAD_MAX {
            return Err(
                reader.wrong(&format!("head is {}, which is no number of a batch", header.head))
            );
        }
        reader.head = header.head;
        Ok((header, reader))
    }

    /// The next records, and at last the end.
    ///
    /// # Errors
    /// When a line is not as it must be. The error names it.
    pub fn next_portion(&mut self) -> Result<Portion, TransferError> {
        let mut records = walk::Portion { kind: 0, entries: Vec::new() };
        let mut bytes = 0;
        loop {
            if self.ended {
                return self.finish();
            }
            let next = match self.held.take() {
                Some(record) => Some(record),
                None => self.record()?,
            };
            let Some((kind, key, value)) = next else {
                if records.entries.is_empty() {
                    return self.finish();
                }
                return Ok(Portion::Records(Records(records)));
            };
            if !records.entries.is_empty()
                && (kind != records.kind
                    || records.entries.len() >= PORTION
                    || bytes >= PORTION_BYTES)
            {
                self.held = Some((kind, key, value));
                return Ok(Portion::Records(Records(records)));
            }
            bytes += key.len() + value.len();
            records.kind = kind;
            records.entries.push((key, value));
        }
    }

    /// Makes sure that nothing follows the end.
    fn finish(&mut self) -> Result<Portion, TransferError> {
        while self.read_line()? {
            if !self.buffer.trim_ascii().is_empty() {
                return Err(self.wrong("there is something after the end"));
            }
        }
        Ok(Portion::End(self.digest.finish()))
    }

    /// The record of the next line. `None`: it is the end.
    fn record(&mut self) -> Result<Option<(usize, Bytes, Bytes)>, TransferError> {
        if !self.read_line()? {
            let next = self.line + 1;
            return Err(
                self.wrong_at(next, "the file ends early: the last line of an export is missing")
            );
        }
        let found: AnyLine = serde_json::from_slice(&self.buffer)
            .map_err(|error| self.wrong(&format!("it is damaged: {error}")))?;
        if found.end {
            self.check_end(&found)?;
            self.ended = true;
            return Ok(None);
        }
        let (kind, key, value) = self.parts(found)?;
        if self.last.as_ref().is_some_and(|(last, before)| (*last, before) >= (kind, &key)) {
            return Err(self.wrong("the record is out of order, or there twice"));
        }
        self.digest.add(kind, &key, &value);
        self.last = Some((kind, key.clone()));
        Ok(Some((kind, key, value)))
    }

    fn parts(&self, found: AnyLine) -> Result<(usize, Bytes, Bytes), TransferError> {
        let AnyLine { space, key, key_base64, value, sum: told, .. } = found;
        let missing = |what: &str| self.wrong(&format!("`{what}` is missing"));
        let space = space.ok_or_else(|| missing("space"))?;
        let key = match (key, key_base64) {
            (Some(text), None) => KeyForm::Text(text),
            (None, Some(text)) => KeyForm::Base64(text),
            _ => return Err(missing("key")),
        };
        let key = key.bytes().ok_or_else(|| self.wrong("`key_base64` is not base 64"))?;
        let value = value.ok_or_else(|| missing("value"))?;
        let value = BASE64.decode(value).map_err(|_| self.wrong("`value` is not base 64"))?;
        let told = told.ok_or_else(|| missing("sum"))?;
        if told != sum(&space, &key, &value) {
            return Err(self.wrong("the record is damaged: its checksum is another"));
        }
        let kind = position_of(&space)
            .ok_or_else(|| self.wrong(&format!("this version has no records of kind {space:?}")))?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(self.wrong("the key or the value is too large"));
        }
        if !(KINDS[kind].belongs)(&key) {
            return Err(self.wrong("no export has this record"));
        }
        Ok((kind, key, value.into()))
    }

    fn check_end(&self, end: &AnyLine) -> Result<(), TransferError> {
        let contents = self.digest.finish();
        if end.head != Some(self.head) {
            return Err(self.wrong("the end tells another `head` than the header"));
        }
        if end.records != Some(contents.records) {
            let told = end.records.map_or("no number of".to_owned(), |records| records.to_string());
            let why = format!("the end tells {told} records, and there are {}", contents.records);
            return Err(self.wrong(&why));
        }
        if end.checksum.as_ref() != Some(&contents.checksum) {
            return Err(self.wrong("the checksum of the records is another than the end tells"));
        }
        Ok(())
    }

    /// Reads a line into the buffer. False at the end of the file.
    fn read_line(&mut self) -> Result<bool, TransferError> {
        self.buffer.clear();
        let mut bounded = self.input.by_ref().take(LINE_BYTES_MAX + 1);
        let read = bounded.read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(false);
        }
        self.line += 1;
        if read as u64 > LINE_BYTES_MAX {
            return Err(self.wrong("it is longer than any line of an export"));
        }
        Ok(true)
    }

    fn wrong(&self, why: &str) -> TransferError {
        self.wrong_at(self.line, why)
    }

    #[expect(clippy::unused_self, reason = "reads like its sibling")]
    fn wrong_at(&self, line: u64, why: &str) -> TransferError {
        TransferError::File { line, why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;

    /// What is wrong with a file whose only record has this key and value.
    fn refusal(space: &str, key: Vec<u8>, value: Vec<u8>) -> Option<String> {
        let header = FileHeader { head: 1, ..FileHeader::new("test", String::new()) };
        let mut file = header.line().expect("it is written");
        let kind = position_of(space).expect("a space of the engine's");
        put_record(&mut file, kind, &key.into(), &value.into()).expect("it is written");
        let (_, mut reader) = FileReader::open(&file[..]).expect("a header");
        match reader.record() {
            Ok(_) => None,
            Err(TransferError::File { line: 2, why }) => Some(why),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_record_has_more_than_a_store_takes() {
        let too_large = Some("the key or the value is too large".to_owned());
        let value = || b"v".to_vec();
        assert_eq!(refusal("name", vec![b'k'; KEY_BYTES_MAX], value()), None);
        assert_eq!(refusal("name", vec![b'k'; KEY_BYTES_MAX + 1], value()), too_large);
        assert_eq!(refusal("name", Vec::new(), value()), too_large);
        assert_eq!(refusal("result", value(), vec![0; VALUE_BYTES_MAX + 1]), too_large);
        assert_eq!(
            refusal("mark", layout::SUCCESSOR.to_vec(), value()).as_deref(),
            Some("no export has this record")
        );
    }

    #[test]
    fn a_line_has_a_limit() {
        let header = FileHeader { head: 1, ..FileHeader::new("test", String::new()) };
        let refused = |bytes: u64| {
            let mut file = header.line().expect("it is written");
            let blank = usize::try_from(bytes).expect("it fits into memory") - 1;
            file.extend(std::iter::repeat_n(b' ', blank));
            file.push(b'\n');
            let (_, mut reader) = FileReader::open(&file[..]).expect("a header");
            reader.record().expect_err("it is blank").to_string()
        };
        let too_long = "it is longer than any line of an export";
        assert!(!refused(LINE_BYTES_MAX).contains(too_long));
        assert!(refused(LINE_BYTES_MAX + 1).contains(too_long));
    }
}
