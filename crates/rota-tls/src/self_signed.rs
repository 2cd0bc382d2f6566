//! A certificate that signs itself, for a first try: made once, kept in a directory.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

use crate::{error::FileError, files::Content, validity::expiry};

/// Time for which a certificate is valid.
const VALID: Duration = Duration::from_secs(365 * 24 * 3600);
/// Remaining time below which a start makes another one.
const RENEW: Duration = Duration::from_secs(30 * 24 * 3600);

/// The files of the certificate and its key in this directory.
#[must_use]
pub fn self_signed_files(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("cert.pem"), dir.join("key.pem"))
}

/// Makes a certificate for these names and addresses in this directory, unless it has one that is valid for another
/// month. Clients that trust its file as an authority accept it.
///
/// # Errors
/// When a file cannot be written, or a name cannot be in a certificate.
pub fn self_signed(dir: &Path, names: Vec<String>) -> Result<(), FileError> {
    let (cert, key) = self_signed_files(dir);
    if is_fresh(&cert, &key) {
        return Ok(());
    }
    let failed = |path: &Path, why: String| FileError::Content { path: path.to_owned(), why };
    let (cert_pem, key_pem) = make(names).map_err(|error| failed(&cert, error.to_string()))?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(|error| failed(dir, error.to_string()))?;
    write(&key, 0o600, &key_pem).map_err(|error| failed(&key, error.to_string()))?;
    write(&cert, 0o644, &cert_pem).map_err(|error| failed(&cert, error.to_string()))
}

fn is_fresh(cert: &Path, key: &Path) -> bool {
    let Ok(content) = Content::read(cert) else { return false };
    let end = content.certificates().ok().and_then(|found| expiry(found.first()?));
    key.is_file() && end.is_some_and(|end| end > SystemTime::now() + RENEW)
}

fn make(names: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Rota, self-signed");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // A day before now, for clients whose clocks are behind.
    let epoch = date_time_ymd(1970, 1, 1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + now.saturating_sub(Duration::from_secs(24 * 3600));
    params.not_after = epoch + now + VALID;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Replaces the file at once, so that nobody reads a part of it.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
