//! The end that connects: which authorities it trusts, and the certificate that it presents.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    VERSIONS,
    error::{Fault, FileError, for_client},
    files::Content,
    provider,
};

/// The files of the end that connects. Without a `ca`, it trusts the authorities of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Certificates of the authorities to trust, in place of those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate to present to a server that demands one, with its chain.
    pub cert: Option<PathBuf>,
    /// The key of the certificate.
    pub key: Option<PathBuf>,
}

/// What the files held.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    ca: Option<Content>,
    cert: Option<Content>,
    key: Option<Content>,
}

impl Contents {
    fn read(files: &ClientFiles) -> Result<Self, FileError> {
        match (&files.cert, &files.key) {
            (Some(_), None) => {
                return Err(FileError::Half("cert_file is set, and key_file is not"));
            }
            (None, Some(_)) => {
                return Err(FileError::Half("key_file is set, and cert_file is not"));
            }
            _ => {}
        }
        let read = |path: &Option<PathBuf>| Content::read_if(path.as_deref().map(Path::new));
        Ok(Self { ca: read(&files.ca)?, cert: read(&files.cert)?, key: read(&files.key)? })
    }

    fn config(&self) -> Result<ClientConfig, FileError> {
        let roots = match &self.ca {
            Some(ca) => ca.roots()?,
            None => roots_of_system()?,
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            // The provider has ciphers for both versions.
            .map_err(|error| FileError::NoRoots(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => config
                .with_client_auth_cert(cert.certificates()?, key.key()?)
                .map_err(|error| cert.wrong(error))?,
            _ => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn roots_of_system() -> Result<RootCertStore, FileError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or("none found".to_owned(), ToString::to_string);
        return Err(FileError::NoRoots(why));
    }
    Ok(roots)
}

/// Makes the handshakes of the end that connects. It speaks HTTP/2.
///
/// It looks at the files before each handshake, and uses changed ones. It keeps the last good ones while the new ones
/// cannot be used.
#[derive(Clone)]
pub struct Connector {
    files: Arc<ClientFiles>,
    current: Arc<Mutex<Current>>,
}

struct Current {
    contents: Contents,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.files).finish()
    }
}

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or used.
    pub fn open(files: ClientFiles) -> Result<Self, FileError> {
        let contents = Contents::read(&files)?;
        let config = Arc::new(contents.config()?);
        let current = Arc::new(Mutex::new(Current { contents, config }));
        Ok(Self { files: Arc::new(files), current })
    }

    /// Makes the handshake with the server of that name or address, and checks that its certificate is for it. `host`
    /// can have the brackets of an IPv6 address. The caller sets a timeout.
    ///
    /// # Errors
    /// When the connection fails, or with a [`Fault`] when the two ends cannot agree.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            io::Error::other(Fault::new(format!(
                "{host:?} is not a name that a certificate can have"
            )))
        })?;
        let connecting = TlsConnector::from(self.config().await).connect(name, stream);
        match connecting.await {
            Ok(inner) => Ok(ClientStream { inner, name: host.into() }),
            Err(error) => Err(for_client(error, host)),
        }
    }

    /// The configuration of the current files, or the last good one.
    async fn config(&self) -> Arc<ClientConfig> {
        let this = self.clone();
        // Files block. Connections are rare, so that reading them each time costs nothing.
        let renewed = tokio::task::spawn_blocking(move || this.renewed()).await;
        renewed.unwrap_or_else(|_| self.lock().config.clone())
    }

    fn renewed(&self) -> Arc<ClientConfig> {
        let read = Contents::read(&self.files);
        let known = self.lock().config.clone();
        let Ok(contents) = read else { return known };
        if self.lock().contents == contents {
            return known;
        }
        let Ok(config) = contents.config() else { return known };
        let config = Arc::new(config);
        *self.lock() = Current { contents, config: config.clone() };
        config
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        // No code under this lock can panic halfway through a change.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The encrypted stream of the end that connects. Its errors are those of [`Fault`] where the server refuses it.
#[derive(Debug)]
pub struct ClientStream<S> {
    inner: TlsStream<S>,
    name: Box<str>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        // With TLS 1.3, the server looks at the client's certificate after the client's side is complete.
        read.map_err(|error| match error.get_ref() {
            Some(_) => for_client(error, &self.name),
            None => error,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
