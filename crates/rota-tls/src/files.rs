//! Reads PEM files. Keys never appear in errors.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::error::FileError;

/// Maximum bytes of a file. Bundles of authorities have a few hundred kilobytes.
const BYTES_MAX: u64 = 8 << 20;

/// The bytes of a file. `Debug` and errors do not show them, because they may be a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Content").field(&self.path).finish()
    }
}

impl Content {
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = read(path).map_err(|error| wrong(path, error))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    pub(crate) fn read_if(path: Option<&Path>) -> Result<Option<Self>, FileError> {
        path.map(Self::read).transpose()
    }

    /// The certificates, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| wrong(&self.path, error))?;
        if found.is_empty() {
            return Err(wrong(&self.path, "no certificate in PEM format (BEGIN CERTIFICATE)"));
        }
        Ok(found)
    }

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| {
            let encrypted = self.bytes.windows(9).any(|part| part == b"ENCRYPTED");
            wrong(
                &self.path,
                if encrypted {
                    "the key is encrypted; store it without a passphrase, readable only by Rota"
                } else {
                    "no private key in PEM format (BEGIN PRIVATE KEY)"
                },
            )
        })
    }

    /// The certificates as authorities to trust.
    pub(crate) fn roots(&self) -> Result<RootCertStore, FileError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| wrong(&self.path, error))?;
        }
        Ok(roots)
    }

    /// What is wrong with this file.
    pub(crate) fn wrong(&self, why: impl ToString) -> FileError {
        wrong(&self.path, why)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "errors and texts alike")]
fn wrong(path: &Path, why: impl ToString) -> FileError {
    FileError::Content { path: path.to_owned(), why: why.to_string() }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let meta = fs::metadata(path)?;
    // A pipe or a device could block forever.
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if meta.len() > BYTES_MAX {
        return Err(io::Error::other("larger than 8 MiB"));
    }
    fs::read(path)
}
