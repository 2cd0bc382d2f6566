//! The data directory: who may use it, what format it has, how much room its disk has left.
//!
//! ```text
//! <dir>/lock           held while a process uses the directory; holds that process's id
//! <dir>/format         "rota-embedded 1": the version of everything below
//! <dir>/acknowledged   how far the data has come at least
//! <dir>/db/            the engine's own files
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// The only version of the layout so far.
const FORMAT: u32 = 1;
const FORMAT_NAME: &str = "rota-embedded";

/// A locked directory of the right format. Dropping it releases the lock.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Held for its lock alone.
    _lock: File,
}

impl Directory {
    /// Locks the directory and checks its format; creates both where nothing is there yet.
    pub(super) fn acquire(path: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: &io::Error| {
            StoreError::Open(format!("cannot {what} {}: {error}", path.display()))
        };
        fs::create_dir_all(path).map_err(|error| failed("create", &error))?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        match fs::read_to_string(path.join("format")) {
            Ok(found) => check_format(path, &found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_format(path).map_err(|error| failed("set up", &error))?;
            }
            Err(error) => return Err(failed("read the format of", &error)),
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine keeps its files.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }
}

/// Bytes that may still be written to the disk that holds `path`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(path)?;
    #[expect(
        clippy::useless_conversion,
        reason = "the widths of these fields differ between systems"
    )]
    Ok(u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
}

/// A directory with files in it but no format was not written by us; leave it as it is.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    if path.join("format").exists() {
        return Ok(());
    }
    let entries = fs::read_dir(path)
        .map_err(|error| StoreError::Open(format!("cannot read {}: {error}", path.display())))?;
    let ours = ["lock", "format.new"];
    if entries.flatten().any(|entry| !ours.iter().any(|name| entry.file_name() == *name)) {
        return Err(StoreError::Open(format!(
            "{} holds files but no `format`, so it is not a data directory of Rota; name an empty \
             or a new one",
            path.display()
        )));
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |error: &io::Error| {
        StoreError::Open(format!("cannot lock {}: {error}", path.join("lock").display()))
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join("lock"))
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let pid = match file.read_to_string(&mut holder) {
                Ok(_) => holder.trim().parse().ok(),
                Err(_) => None,
            };
            return Err(StoreError::Locked { location: path.display().to_string(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    // On a full disk the id cannot be written; the lock holds without it.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn check_format(path: &Path, found: &str) -> Result<(), StoreError> {
    let version = found.trim().strip_prefix(FORMAT_NAME).map(str::trim);
    if version.and_then(|version| version.parse().ok()) == Some(FORMAT) {
        return Ok(());
    }
    Err(StoreError::Format {
        location: path.display().to_string(),
        found: version.unwrap_or(found.trim()).chars().take(32).collect(),
        supported: FORMAT,
    })
}

fn write_format(path: &Path) -> io::Result<()> {
    let new = path.join("format.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&new, path.join("format"))?;
    File::open(path)?.sync_all()
}
