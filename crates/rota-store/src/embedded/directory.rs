//! The data directory: its lock, its format, and the free space of its disk.
//!
//! ```text
//! <dir>/lock           locked while a process uses the directory; contains its process id
//! <dir>/format         "rota-embedded 1": the version of everything below
//! <dir>/acknowledged   the last batch that is known to be acknowledged
//! <dir>/db/            the files of the storage engine
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// The version of the layout.
const FORMAT: u32 = 1;
const FORMAT_NAME: &str = "rota-embedded";

/// A locked directory with a supported format. Dropping it releases the lock.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Kept open only for its lock.
    _lock: File,
}

impl Directory {
    /// Locks the directory and checks its format. Creates both if the directory is new.
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

    /// The directory of the storage engine.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }
}

/// Free bytes of the disk with `path`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(path)?;
    #[expect(
        clippy::useless_conversion,
        reason = "the widths of these fields differ between systems"
    )]
    Ok(u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
}

/// Refuses a directory with files but without `format`, because Rota did not write it.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    if path.join("format").exists() {
        return Ok(());
    }
    let entries = fs::read_dir(path)
        .map_err(|error| StoreError::Open(format!("cannot read {}: {error}", path.display())))?;
    let ours = ["lock", "format.new"];
    if entries.flatten().any(|entry| !ours.iter().any(|name| entry.file_name() == *name)) {
        return Err(StoreError::Open(format!(
            "{} has files but no file `format`, so it is not a data directory of Rota; use an empty \\
                          or a new directory",
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
    // On a full disk the process id cannot be written, but the lock is still valid.
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
