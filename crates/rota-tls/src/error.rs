//! Errors in plain words: files that cannot be used, and handshakes that fail.

use std::{io, path::PathBuf};

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read, or its content is not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("a certificate and its key belong together: {0}")]
    Half(&'static str),
    /// The system has no certificates of authorities.
    #[error("the system has no certificates of authorities ({0}); name a file with ca_file")]
    NoRoots(String),
}

/// Why the two ends of a connection cannot talk to each other over TLS. Nothing was sent to the other end but the
/// handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    text: String,
}

/// Beginnings of the faults that a client learns only after its own side of the handshake is complete. The transport
/// above passes on their text, but not their type.
const AFTERWARDS: [&str; 2] =
    ["the server demands a client certificate", "the server refused the client certificate"];

/// Whether this is the text of a [`Fault`] with which the server ends a handshake that the client has completed.
#[must_use]
pub fn is_refusal(text: &str) -> bool {
    AFTERWARDS.iter().any(|words| text.starts_with(words))
}

impl Fault {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The fault in this error, if there is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The error with a text for the client that connected to `name`.
pub(crate) fn for_client(error: io::Error, name: &str) -> io::Error {
    let words = match rustls_error(&error) {
        Some(inner) => client_words(inner, name),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Some(
            "the server closed the connection during the TLS handshake; is it a port that speaks TLS?"
                .to_owned(),
        ),
        None => None,
    };
    match words {
        Some(words) => io::Error::new(error.kind(), Fault::new(words)),
        None => error,
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn client_words(error: &rustls::Error, name: &str) -> Option<String> {
    use rustls::Error;
    Some(match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => {
            "the server does not speak TLS at this port; use http:// instead of https://".to_owned()
        }
        Error::InvalidCertificate(wrong) => certificate_words(wrong, name),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{}; name one and its key with cert_file and key_file", AFTERWARDS[0])
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server offers neither TLS 1.2 nor TLS 1.3".to_owned()
        }
        Error::AlertReceived(alert) => match refused_because(*alert) {
            Some(why) => format!(
                "{} ({why}); it must be signed by an authority in the server's tls_client_ca_file",
                AFTERWARDS[1]
            ),
            None => format!("the server refused the TLS handshake ({alert:?})"),
        },
        Error::PeerIncompatible(_) => {
            format!(
                "the server offers no version or cipher of TLS that this client accepts ({error})"
            )
        }
        _ => return None,
    })
}

/// What a server finds wrong with the certificate of a client.
fn refused_because(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnknownCA => "unknown authority",
        AlertDescription::CertificateExpired => "expired",
        AlertDescription::CertificateRevoked => "revoked",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "not valid for clients",
        AlertDescription::DecryptError => "wrong signature",
        AlertDescription::AccessDenied => "access denied",
        _ => return None,
    })
}

fn certificate_words(error: &CertificateError, name: &str) -> String {
    let what = "the certificate of the server";
    match error {
        CertificateError::UnknownIssuer => format!(
            "no authority that this client trusts has signed {what}; name the authority's certificate with ca_file"
        ),
        // As after an authority was made anew under the same name.
        CertificateError::BadSignature => format!(
            "no authority that this client trusts has signed {what}: one of the same name has another key; name the \
             authority's certificate with ca_file"
        ),
        CertificateError::NotValidForName => format!("{what} is not for the name {name}"),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("{what} is not for the name {name}: it names none as subjectAltName")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| plain(name)).collect();
            format!("{what} is not for the name {name}, but for {}", names.join(", "))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{what} has expired; renew it, and check the clock of this machine")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{what} is not valid yet; check the clock of this machine")
        }
        CertificateError::Revoked => format!("{what} is revoked"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{what} is not for servers: its extendedKeyUsage lacks serverAuth")
        }
        CertificateError::ApplicationVerificationFailure => format!("{what} was refused"),
        // Of webpki, which has no variant of its own for it.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            format!("{what} is one of an authority (CA:TRUE); servers need one of their own")
        }
        _ => format!("{what} is not valid: {error}"),
    }
}

/// The name in a certificate, without the words that webpki puts around it.
fn plain(name: &str) -> &str {
    let inner = ["DnsName(", "IpAddress("].iter().find_map(|kind| name.strip_prefix(kind));
    inner.and_then(|name| name.strip_suffix(')')).unwrap_or(name).trim_matches('"')
}
