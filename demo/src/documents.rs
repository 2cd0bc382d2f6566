//! Real documents as input, and the check of what the tasks made of them: by other means than the
//! tasks used, from the files themselves.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

/// A document, and where its compressed copy is to be.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) path: String,
    pub(crate) copy: String,
}

/// Every regular file below `directory` that can be read and whose name can stand in JSON, in a
/// fixed order; links are not followed.
pub(crate) fn find(directory: &Path, copies: &Path) -> io::Result<Vec<Document>> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.sort();
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    let paths = paths.into_iter().filter(|path| File::open(path).is_ok()).filter_map(text);
    let copy = |number: usize| text(copies.join(format!("{number}.gz")));
    let document = |(number, path)| Some(Document { path, copy: copy(number)? });
    Ok(paths.enumerate().filter_map(document).collect())
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // A directory that is closed to us has no documents for us.
            match collect(&entry.path(), paths) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                other => other?,
            }
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}

/// What is known of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    sha256: String,
    pub(crate) bytes: u64,
    pub(crate) compressed: u64,
}

impl Facts {
    /// What a task says, as the program `examine` prints it.
    pub(crate) fn reported(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let facts = Self {
            sha256: words.next()?.to_owned(),
            bytes: words.next()?.parse().ok()?,
            compressed: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(facts)
    }

    /// What the files say: the checksum and size of the document, and the size of its copy, which
    /// must hold the same document.
    pub(crate) fn observed(document: &Document) -> io::Result<Self> {
        let (sha256, bytes) = digest(File::open(&document.path)?)?;
        let copy = File::open(&document.copy)?;
        let compressed = copy.metadata()?.len();
        if digest(GzDecoder::new(copy))? != (sha256.clone(), bytes) {
            let message = format!("{} does not hold {}", document.copy, document.path);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Self { sha256, bytes, compressed })
    }
}

fn digest(mut from: impl Read) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((hex, bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn document(directory: &Path, content: &[u8], copied: &[u8]) -> Document {
        let (path, copy) = (directory.join("a"), directory.join("a.gz"));
        fs::write(&path, content).expect("written");
        let copy_file = File::create(&copy).expect("made");
        let mut gzip = flate2::write::GzEncoder::new(copy_file, flate2::Compression::best());
        gzip.write_all(copied).expect("written");
        gzip.finish().expect("written");
        let text = |path: PathBuf| path.into_os_string().into_string().expect("UTF-8");
        Document { path: text(path), copy: text(copy) }
    }

    #[test]
    fn facts_are_those_of_the_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let document = document(directory.path(), b"abc", b"abc");
        let facts = Facts::observed(&document).expect("readable");
        let compressed = facts.compressed;
        let said = format!(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 {compressed}\n"
        );
        assert_eq!(Facts::reported(&said), Some(facts.clone()));
        assert_ne!(Facts::reported(&said.replace("ba78", "ba79")), Some(facts.clone()));
        assert_ne!(Facts::reported(&said.replace(" 3 ", " 4 ")), Some(facts));
        assert_eq!(Facts::reported(&said.replace(" 3 ", " ")), None);
    }

    #[test]
    fn a_copy_of_something_else_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let document = document(directory.path(), b"abc", b"abd");
        let error = Facts::observed(&document).expect_err("another content");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn documents_are_regular_files_in_a_fixed_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("b")).expect("made");
        for name in ["b/z", "c", "a"] {
            fs::write(at(name), name).expect("written");
        }
        std::os::unix::fs::symlink(at("a"), at("link")).expect("linked");
        let found = find(directory.path(), Path::new("/copies")).expect("readable");
        let names: Vec<_> = found
            .iter()
            .map(|d| Path::new(&d.path).strip_prefix(directory.path()).expect("inside"))
            .collect();
        assert_eq!(names, [Path::new("a"), Path::new("b/z"), Path::new("c")]);
        assert_eq!(found[2].copy, "/copies/2.gz");
    }
}
