//! Calls by TLS, and what a client is told when it does not agree with the node on TLS.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rota_client::{Builder, Client, ClientError, ErrorKind, task};
use rota_server::ServerOptions;
use rota_tls::{ServerFiles, ServerTls};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{PATIENCE, rig::Node};

/// An authority, and certificates by it.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let at = |kind: &str| self.dir.path().join(format!("{name}.{kind}"));
        fs::write(at("pem"), cert.pem()).unwrap();
        fs::write(at("key"), key.serialize_pem()).unwrap();
        (at("pem"), at("key"))
    }

    async fn node(&self, client_ca: Option<PathBuf>) -> Node {
        let (cert, key) = self.sign("server");
        let tls = ServerTls::open(ServerFiles { cert, key, client_ca }).unwrap();
        Node::serve(ServerOptions { tls: Some(Arc::new(tls)), ..ServerOptions::default() }).await
    }
}

fn at(node: &Node, scheme: &str) -> String {
    node.url().replace("http://127.0.0.1", &format!("{scheme}://localhost"))
}

/// What a call is refused for. It is not repeated for as long as an outage would be.
async fn refused(client: Builder) -> String {
    let client = client.patience(PATIENCE).build().unwrap();
    let began = Instant::now();
    // Without a name: a call that may have arrived would have an unknown outcome.
    let error = client.create_task(task("k")).await.unwrap_err();
    assert!(matches!(error, ClientError::NoTls { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(10), "it is told at once");
    error.to_string()
}

#[tokio::test]
async fn calls_and_certificates_go_by_tls() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let node = authority.node(Some(clients.ca())).await;
    let (cert, key) = clients.sign("client");
    let client = Client::builder([at(&node, "https")])
        .ca_file(authority.ca())
        .client_certificate(cert, key)
        .build()
        .unwrap();
    client.create_task(task("k")).await.unwrap();
    let told = refused(Client::builder([at(&node, "https")]).ca_file(authority.ca())).await;
    assert!(told.contains("demands a client certificate"), "{told}");
    let (cert, key) = authority.sign("stranger");
    let stranger = Client::builder([at(&node, "https")]).ca_file(authority.ca());
    let told = refused(stranger.client_certificate(cert, key)).await;
    assert!(told.contains("refused the client certificate"), "{told}");
    node.stop().await;
}

#[tokio::test]
async fn the_wrong_scheme_is_told_in_both_directions() {
    let (authority, plain) = (Authority::new(), Node::start().await);
    let node = authority.node(None).await;
    let told = refused(Client::builder([at(&node, "http")])).await;
    assert!(told.contains("the server speaks TLS at this port; use https://"), "{told}");
    let told = refused(Client::builder([at(&plain, "https")]).ca_file(authority.ca())).await;
    assert!(told.contains("does not speak TLS at this port; use http://"), "{told}");
    node.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_told() {
    let authority = Authority::new();
    let node = authority.node(None).await;
    let told = refused(Client::builder([at(&node, "https")]).ca_file(Authority::new().ca())).await;
    assert!(told.contains("no authority that this client trusts"), "{told}");
    let by_address = at(&node, "https").replace("localhost", "127.0.0.1");
    let told = refused(Client::builder([by_address]).ca_file(authority.ca())).await;
    assert!(told.contains("not for the name 127.0.0.1, but for"), "{told}");
    node.stop().await;
}

#[tokio::test]
async fn a_call_goes_to_the_next_node_if_it_does_not_agree_with_one() {
    let authority = Authority::new();
    let (node, other) = (authority.node(None).await, Authority::new().node(None).await);
    let nodes = [at(&node, "http"), at(&other, "https"), at(&node, "https")];
    let client = Client::builder(nodes).ca_file(authority.ca()).build().unwrap();
    client.create_task(task("k")).await.unwrap();
    node.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn files_are_checked_before_the_first_call() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("client");
    let https = || Client::builder(["https://localhost:1"]);
    for (builder, words) in [
        (https().ca_file("/none/ca.pem"), "/none/ca.pem: No such file"),
        (https().ca_file(&key), "no certificate in PEM format"),
        (https().ca_file(authority.ca()).client_certificate(&cert, &cert), "no private key"),
    ] {
        let error = builder.build().map(drop).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    }
    assert!(Client::builder(["http://localhost:1"]).ca_file("/none/ca.pem").build().is_ok());
    let error = Client::connect(["ftp://localhost"]).map(drop).unwrap_err().to_string();
    assert!(error.contains("http:// or https://"), "{error}");
}
