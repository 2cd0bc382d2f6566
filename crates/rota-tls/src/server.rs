//! The end that accepts: its certificate, and the authorities of the clients' certificates if it demands them.

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::SystemTime,
};

use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    VERSIONS, error::FileError, files::Content, provider, replay::Replay, validity::expiry,
};

/// The first byte of a TLS connection: a record of the handshake.
const HANDSHAKE: u8 = 0x16;
/// Bytes that tell an HTTP/2 request without TLS from others.
const TELLING: usize = 2;

/// The files of the end that accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// Certificates of the authorities that sign the certificates of clients. If set, every client must present one.
    pub client_ca: Option<PathBuf>,
}

/// What the files held.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    cert: Content,
    key: Content,
    client_ca: Option<Content>,
}

impl Contents {
    fn read(files: &ServerFiles) -> Result<Self, FileError> {
        Ok(Self {
            cert: Content::read(&files.cert)?,
            key: Content::read(&files.key)?,
            client_ca: Content::read_if(files.client_ca.as_deref())?,
        })
    }

    fn current(self) -> Result<Current, FileError> {
        let chain = self.cert.certificates()?;
        let ends: Option<Vec<_>> = chain.iter().map(|one| expiry(one)).collect();
        let expires = ends.and_then(|ends| ends.into_iter().min());
        let expires = expires.ok_or_else(|| self.cert.wrong("not a certificate of X.509"))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(|error| self.cert.wrong(error))?;
        let config = match &self.client_ca {
            Some(ca) => {
                let roots = Arc::new(ca.roots()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                config.with_client_cert_verifier(verifier.build().map_err(|error| ca.wrong(error))?)
            }
            None => config.with_no_client_auth(),
        };
        let mut config = config
            .with_single_cert(chain, self.key.key()?)
            .map_err(|error| self.key.wrong(format!("not the key of the certificate ({error})")))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Current { contents: self, config: Arc::new(config), expires })
    }
}

#[derive(Debug)]
struct Current {
    contents: Contents,
    config: Arc<ServerConfig>,
    expires: SystemTime,
}

/// Makes the handshakes of the end that accepts. It offers HTTP/2 and HTTP/1.1.
pub struct ServerTls {
    files: ServerFiles,
    current: RwLock<Arc<Current>>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.files).finish()
    }
}

/// Why a connection was not accepted.
#[derive(Debug)]
pub enum AcceptError<S> {
    /// The client did not begin with a handshake.
    Plain {
        /// Whether it speaks HTTP/2.
        http2: bool,
        /// The connection, for an answer.
        stream: S,
    },
    /// The handshake failed.
    Handshake(io::Error),
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or used.
    pub fn open(files: ServerFiles) -> Result<Self, FileError> {
        let current = Contents::read(&files)?.current()?;
        Ok(Self { files, current: RwLock::new(Arc::new(current)) })
    }

    /// Reads the files anew, and uses them for new connections if they changed. Returns whether they did.
    ///
    /// # Errors
    /// When one cannot be read or used. Then the last good ones stay in use.
    pub fn reload(&self) -> Result<bool, FileError> {
        let contents = Contents::read(&self.files)?;
        if contents == self.current().contents {
            return Ok(false);
        }
        let renewed = Arc::new(contents.current()?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(true)
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the certificate in use expires, or the first one of its chain.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.current().expires
    }

    /// Whether every client must present a certificate.
    #[must_use]
    pub fn demands_certificate(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// Makes the handshake. The caller sets a timeout.
    ///
    /// # Errors
    /// When the client does not speak TLS, or the handshake fails.
    pub async fn accept<S>(&self, mut stream: S) -> Result<ServerStream<S>, AcceptError<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut first = Vec::with_capacity(TELLING);
        while first.len() < TELLING {
            let room = TELLING - first.len();
            match (&mut stream).take(room as u64).read_buf(&mut first).await {
                Ok(0) if first.is_empty() => {
                    return Err(AcceptError::Handshake(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(AcceptError::Handshake(error)),
            }
        }
        if first[0] != HANDSHAKE {
            return Err(AcceptError::Plain { http2: first == b"PR", stream });
        }
        let acceptor = TlsAcceptor::from(self.current().config.clone());
        let accepted = acceptor.accept(Replay::new(first, stream)).await;
        accepted.map(|inner| ServerStream { inner }).map_err(AcceptError::Handshake)
    }
}

/// The encrypted stream of the end that accepts.
#[derive(Debug)]
pub struct ServerStream<S> {
    inner: TlsStream<Replay<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
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
