//! TLS for both ends of a connection: reads PEM files, keeps the configuration of rustls that they make, reads them
//! anew when they change, and says in plain words what went wrong.
//!
//! [`Connector`] is the end that connects. The feature `server` adds the end that accepts. Neither opens sockets or
//! speaks HTTP.

#![warn(missing_docs)]

mod client;
mod error;
mod files;
#[cfg(feature = "server")]
mod replay;
#[cfg(feature = "server")]
mod self_signed;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod validity;

pub use client::{ClientFiles, ClientStream, Connector};
pub use error::{Fault, FileError, is_refusal};
#[cfg(feature = "server")]
pub use self_signed::{self_signed, self_signed_files};
#[cfg(feature = "server")]
pub use server::{AcceptError, ServerFiles, ServerStream, ServerTls};

use std::sync::Arc;

use rustls::{
    SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

/// The versions of TLS that both ends speak.
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The cryptography, named here so that no default of the process matters.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
