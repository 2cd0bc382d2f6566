//! TLS of the binary: from settings to the files of a node, of its connections to other nodes, and of clients.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rota_client::Builder;
use rota_tls::{ClientFiles, FileError, ServerFiles, ServerTls};
use tracing::info;

use crate::{config::Settings, exit::Failure};

/// Directory of the certificate that signs itself.
pub(crate) const SELF_SIGNED: &str = "rota-tls";

/// TLS of a node.
pub(crate) struct NodeTls {
    /// TLS of its port.
    pub(crate) port: Arc<ServerTls>,
    files: ServerFiles,
    self_signed: bool,
}

fn file(settings: &Settings, key: &str) -> Option<PathBuf> {
    Some(settings.text(key)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The scheme of the URL of a node.
pub(crate) fn scheme(settings: &Settings) -> Result<&'static str, Failure> {
    let is_on = settings.get("tls_self_signed")? || !settings.text("tls_cert_file").is_empty();
    Ok(if is_on { "https" } else { "http" })
}

/// Reads the files for the port of a node, or makes some. `None` without TLS.
pub(crate) fn node(settings: &Settings) -> Result<Option<NodeTls>, Failure> {
    let (cert, key) = (file(settings, "tls_cert_file"), file(settings, "tls_key_file"));
    let client_ca = file(settings, "tls_client_ca_file");
    let self_signed: bool = settings.get("tls_self_signed")?;
    let (cert, key) = match (cert, key, self_signed) {
        (None, None, false) if client_ca.is_none() => return Ok(None),
        (Some(cert), Some(key), false) => (cert, key),
        (None, None, true) => make_self_signed(settings)?,
        (Some(_), _, true) | (_, Some(_), true) => {
            let wrong =
                "tls_self_signed makes a certificate, and tls_cert_file or tls_key_file names one";
            return Err(Failure::usage(wrong).hint("remove one of them"));
        }
        (Some(_), None, false) => return Err(missing("tls_key_file", "tls_cert_file")),
        (None, Some(_), false) => return Err(missing("tls_cert_file", "tls_key_file")),
        (None, None, false) => return Err(missing("tls_cert_file", "tls_client_ca_file")),
    };
    let files = ServerFiles { cert, key, client_ca };
    let port = ServerTls::open(files.clone()).map_err(|error| unusable(&error))?;
    Ok(Some(NodeTls { port: Arc::new(port), files, self_signed }))
}

fn missing(key: &str, given: &str) -> Failure {
    Failure::usage(format!("{given} is set, and {key} is not"))
        .hint("TLS needs both tls_cert_file and tls_key_file")
}

fn unusable(error: &FileError) -> Failure {
    Failure::usage(format!("cannot use TLS: {error}"))
}

fn make_self_signed(settings: &Settings) -> Result<(PathBuf, PathBuf), Failure> {
    let dir = Path::new(SELF_SIGNED);
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let listen: SocketAddr = settings.get("listen")?;
    if !listen.ip().is_unspecified() && !listen.ip().is_loopback() {
        names.push(listen.ip().to_string());
    }
    if let Some(host) = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()) {
        names.push(host);
    }
    rota_tls::self_signed(dir, names).map_err(|error| unusable(&error))?;
    let (cert, key) = rota_tls::self_signed_files(dir);
    info!(
        certificate = %cert.display(),
        "serving with a self-signed certificate; clients on this machine trust it with --ca-file"
    );
    Ok((cert, key))
}

/// The files for connections of a node to others. It presents its own certificate.
pub(crate) fn peers(settings: &Settings, node: Option<&NodeTls>) -> ClientFiles {
    ClientFiles {
        ca: file(settings, "ca_file"),
        cert: node.map(|tls| tls.files.cert.clone()),
        key: node.map(|tls| tls.files.key.clone()),
    }
}

/// Adds the files of the settings to a client.
pub(crate) fn client(mut builder: Builder, settings: &Settings) -> Result<Builder, Failure> {
    if let Some(ca) = file(settings, "ca_file") {
        builder = builder.ca_file(ca);
    }
    match (file(settings, "cert_file"), file(settings, "key_file")) {
        (Some(cert), Some(key)) => Ok(builder.client_certificate(cert, key)),
        (None, None) => Ok(builder),
        (Some(_), None) => Err(Failure::usage("cert_file is set, and key_file is not")
            .hint("a certificate and its key belong together")),
        (None, Some(_)) => Err(Failure::usage("key_file is set, and cert_file is not")
            .hint("a certificate and its key belong together")),
    }
}

/// The same for the worker of `rota dev`, which trusts the self-signed certificate of its own server.
pub(crate) fn own_client(
    mut builder: Builder,
    settings: &Settings,
    node: Option<&NodeTls>,
) -> Builder {
    let Some(tls) = node else { return builder };
    let ca = if tls.self_signed { Some(tls.files.cert.clone()) } else { file(settings, "ca_file") };
    if let Some(ca) = ca {
        builder = builder.ca_file(ca);
    }
    builder.client_certificate(&tls.files.cert, &tls.files.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Scope, flags};

    fn settings(args: &[&str]) -> Settings {
        let scopes = [Scope::Server, Scope::Client, Scope::Trust];
        let command = clap::Command::new("rota").args(flags(&scopes));
        let matches = command.get_matches_from([&["rota"], args].concat());
        Settings::resolve(&matches, |_| None, None, &ConfigFile::default())
            .expect("no contradiction")
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (args, words) in [
            (&["--tls-cert-file=a"][..], "tls_cert_file is set, and tls_key_file is not"),
            (&["--tls-key-file=a"], "tls_key_file is set, and tls_cert_file is not"),
            (&["--tls-client-ca-file=a"], "tls_client_ca_file is set, and tls_cert_file is not"),
            (&["--tls-self-signed", "--tls-cert-file=a"], "tls_self_signed makes a certificate"),
            (&["--tls-cert-file=/none/a", "--tls-key-file=/none/b"], "/none/a: No such file"),
        ] {
            let error = node(&settings(args)).err().expect("a contradiction").to_string();
            assert!(error.contains(words), "{args:?}: {error}");
        }
        assert!(node(&settings(&[])).expect("no TLS").is_none());
        let half =
            client(rota_client::Client::builder(["https://a"]), &settings(&["--cert-file=a"]));
        let error = half.expect_err("a half").to_string();
        assert!(error.contains("cert_file is set, and key_file is not"), "{error}");
    }

    #[test]
    fn the_scheme_says_whether_there_is_tls() {
        assert_eq!(scheme(&settings(&[])).expect("a scheme"), "http");
        assert_eq!(scheme(&settings(&["--tls-self-signed"])).expect("a scheme"), "https");
        assert_eq!(scheme(&settings(&["--tls-cert-file=a"])).expect("a scheme"), "https");
    }
}
