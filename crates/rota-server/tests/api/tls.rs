//! TLS on the port: who gets in and how, files that change, and a cluster whose nodes talk by TLS. Other programs are
//! the clients where that matters: curl and openssl.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rota_engine::{EngineOptions, Role};
use rota_proto::v1::{self, server_service_client::ServerServiceClient};
use rota_server::{Limits, ServeError, Server, ServerOptions};
use rota_tls::{ClientFiles, Connector, ServerFiles, ServerTls};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    cluster::{free, until},
    harness::{Node, PATIENCE, open_store},
};

/// An authority, and certificates by it.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for this machine that is valid until this year, and its key, under this name.
    fn sign(&self, name: &str, until: i32) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let at = |kind: &str| self.dir.path().join(format!("{name}.{kind}"));
        // The key first, as tools that renew certificates do it.
        fs::write(at("key"), key.serialize_pem()).unwrap();
        fs::write(at("pem"), cert.pem()).unwrap();
        (at("pem"), at("key"))
    }

    fn port(&self, client_ca: Option<PathBuf>) -> Arc<ServerTls> {
        let (cert, key) = self.sign("server", 2200);
        Arc::new(ServerTls::open(ServerFiles { cert, key, client_ca }).unwrap())
    }

    fn options(&self) -> ServerOptions {
        ServerOptions { tls: Some(self.port(None)), ..ServerOptions::default() }
    }

    fn client(&self) -> ClientFiles {
        ClientFiles { ca: Some(self.ca()), ..ClientFiles::default() }
    }

    async fn node(&self) -> Node {
        Node::start_with(EngineOptions::default(), self.options()).await
    }
}

/// A channel by TLS.
fn channel(address: SocketAddr, files: ClientFiles) -> Channel {
    let connector = Connector::open(files).unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect("127.0.0.1", stream).await?))
        }
    });
    endpoint.connect_with_connector_lazy(connect)
}

async fn version(channel: Channel) -> Result<String, tonic::Status> {
    let mut client = ServerServiceClient::new(channel);
    let info = client.get_server_info(v1::GetServerInfoRequest {}).await?;
    Ok(info.into_inner().version)
}

/// What another program says, and whether it succeeded.
async fn run(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.expect("in time").unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

async fn curl(ca: &Path, args: &[&str], url: &str) -> (bool, String) {
    let ca = ca.to_str().unwrap();
    run(
        "curl",
        &[&["-sS", "--cacert", ca, "-w", " %{http_version} %{http_code}"], args, &[url]].concat(),
    )
    .await
}

#[tokio::test]
async fn both_protocols_and_both_versions_of_http_are_served_by_tls() {
    let authority = Authority::new();
    let node = authority.node().await;
    let url = format!("https://localhost:{}", node.address.port());
    for (flag, shown) in [("--http1.1", "1.1 200"), ("--http2", "2 200")] {
        for path in ["/healthz", "/v1/info", "/docs", "/metrics", "/openapi.json"] {
            let (done, said) = curl(&authority.ca(), &[flag], &format!("{url}{path}")).await;
            assert!(done && said.ends_with(shown), "{flag} {path}: {said}");
        }
    }
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        let only = ["--tls-max", version.trim_start_matches("--tlsv"), version];
        let (done, said) = curl(&authority.ca(), &only, &format!("{url}/healthz")).await;
        assert!(done && said.ends_with(" 200"), "{version}: {said}");
    }
    version(channel(node.address, authority.client())).await.unwrap();
    // Another authority is not trusted.
    let (done, said) = curl(&Authority::new().ca(), &[], &format!("{url}/healthz")).await;
    assert!(!done, "{said}");
    node.stop().await;
}

#[tokio::test]
async fn older_versions_of_tls_are_not_offered() {
    let authority = Authority::new();
    let node = authority.node().await;
    let address = node.address.to_string();
    let ask = async |version: &str| {
        let args = ["s_client", "-connect", &address, version, "-cipher", "DEFAULT@SECLEVEL=0"];
        run("openssl", &args).await
    };
    for old in ["-tls1_1", "-tls1"] {
        let (done, said) = ask(old).await;
        assert!(!done && said.contains("SSL alert number"), "{old}: {said}");
    }
    let (done, said) = ask("-tls1_2").await;
    assert!(done, "the same asked for TLS 1.2: {said}");
    node.stop().await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_to() {
    let authority = Authority::new();
    let node = authority.node().await;
    let answer = node.send_raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("this port speaks TLS; use https://"), "{answer}");
    let plain = Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect_lazy();
    let error = version(plain).await.unwrap_err();
    assert!(format!("{error:?}").contains("use https:// instead of http://"), "{error:?}");
    let (done, said) =
        run("curl", &["-sS", "--http2-prior-knowledge", &format!("http://{}", node.address)]).await;
    assert!(!done, "{said}");
    node.stop().await;
}

#[tokio::test]
async fn who_speaks_tls_to_a_port_without_it_is_told() {
    let node = Node::start().await;
    let error = version(channel(node.address, Authority::new().client())).await.unwrap_err();
    assert!(format!("{error:?}").contains("use http:// instead of https://"), "{error:?}");
    assert_eq!(node.get("/healthz").await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_handshake_that_stalls_is_ended_and_holds_nobody_up() {
    let authority = Authority::new();
    let limits = Limits { header_timeout: Duration::from_millis(300), ..Limits::default() };
    let options = ServerOptions { limits, ..authority.options() };
    let node = Node::start_with(EngineOptions::default(), options).await;
    let mut stalled = Vec::new();
    for bytes in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(node.address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stalled.push(stream);
        }
    }
    version(channel(node.address, authority.client())).await.unwrap();
    for mut stream in stalled {
        let mut rest = Vec::new();
        // With unread bytes, the end is a reset.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is ended");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_by_tls() {
    let authority = Authority::new();
    let limits = Limits { connections: 1, ..Limits::default() };
    let options = ServerOptions { limits, ..authority.options() };
    let node = Node::start_with(EngineOptions::default(), options).await;
    let held = channel(node.address, authority.client());
    version(held.clone()).await.unwrap();
    let url = format!("https://localhost:{}/healthz", node.address.port());
    let (_, said) = curl(&authority.ca(), &["--http1.1"], &url).await;
    assert!(said.contains("the server has 1 open connections") && said.ends_with(" 503"), "{said}");
    drop(held);
    node.stop().await;
}

/// Waits until the metrics have this line.
async fn shows(authority: &Authority, node: &Node, line: &str) {
    let url = format!("https://localhost:{}/metrics", node.address.port());
    let found = async {
        loop {
            let (_, said) = curl(&authority.ca(), &[], &url).await;
            if said.lines().any(|found| found == line) {
                return;
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {line}"));
}

#[tokio::test]
async fn changed_files_are_used_without_a_restart_and_broken_ones_are_not() {
    let authority = Authority::new();
    let node = authority.node().await;
    let expiry = |seconds: &str| format!("rota_tls_certificate_expiry_timestamp_seconds {seconds}");
    shows(&authority, &node, &expiry("7258118400.0")).await;
    let before = channel(node.address, authority.client());
    version(before.clone()).await.unwrap();
    // A reading that comes between the two files finds no pair, keeps the old one, and looks again.
    let (cert, _) = authority.sign("server", 2100);
    shows(&authority, &node, &expiry("4102444800.0")).await;
    shows(&authority, &node, r#"rota_tls_reloads_total{outcome="done"} 1"#).await;
    fs::write(cert, "-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n").unwrap();
    let (_, before_broken) =
        curl(&authority.ca(), &[], &format!("https://localhost:{}/metrics", node.address.port()))
            .await;
    let failed = before_broken.lines().find_map(|line| {
        line.strip_prefix(r#"rota_tls_reloads_total{outcome="failed"} "#)?.parse::<u64>().ok()
    });
    let failed = failed.unwrap() + 1;
    shows(&authority, &node, &format!(r#"rota_tls_reloads_total{{outcome="failed"}} {failed}"#))
        .await;
    // The old certificate still serves, and the first connection was never cut off.
    shows(&authority, &node, &expiry("4102444800.0")).await;
    version(before).await.unwrap();
    version(channel(node.address, authority.client())).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_port_for_others_needs_more_than_tls() {
    let authority = Authority::new();
    let listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let bind = async |tls: Arc<ServerTls>| {
        let (store, _dir) = open_store();
        let stop = tokio_util::sync::CancellationToken::new();
        let host = rota_engine::Host::system();
        let engine =
            rota_engine::Engine::start(host, store, EngineOptions::default(), stop.clone());
        let options = ServerOptions { listen, tls: Some(tls), ..ServerOptions::default() };
        let bound = Server::bind(engine.clone(), options).await.map(drop);
        stop.cancel();
        engine.stopped().await;
        bound
    };
    let refused = bind(authority.port(None)).await;
    assert!(matches!(refused, Err(ServeError::Unprotected(_))), "{refused:?}");
    bind(authority.port(Some(authority.ca()))).await.unwrap();
}

#[tokio::test]
async fn a_follower_forwards_by_tls_with_its_own_certificate() {
    let authority = Authority::new();
    let (store, dir) = open_store();
    let mut nodes = Vec::new();
    for name in ["first", "second"] {
        let listen = free();
        let (cert, key) = authority.sign(name, 2200);
        let files =
            ServerFiles { cert: cert.clone(), key: key.clone(), client_ca: Some(authority.ca()) };
        let engine = EngineOptions {
            node: name.to_owned(),
            address: Some(format!("https://{listen}")),
            ..EngineOptions::default()
        };
        let server = ServerOptions {
            tls: Some(Arc::new(ServerTls::open(files).unwrap())),
            peer_tls: ClientFiles { ca: Some(authority.ca()), cert: Some(cert), key: Some(key) },
            ..ServerOptions::default()
        };
        let node = Node::start_on(store.clone(), dir.clone(), listen, engine, server).await;
        let settled = |role: &Role| match name {
            "first" => *role == Role::Leader,
            _ => matches!(role, Role::Follower(_)),
        };
        until(&node, settled).await;
        nodes.push(node);
    }
    let (cert, key) = authority.sign("client", 2200);
    let files =
        ClientFiles { ca: Some(authority.ca()), cert: Some(cert.clone()), key: Some(key.clone()) };
    let follower = format!("https://localhost:{}", nodes[1].address.port());
    let id = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let new = json!({ "kind": "k", "id": "a" }).to_string();
    let post = [&id[..], &["-H", "content-type: application/json", "-d", &new]].concat();
    let (_, said) = curl(&authority.ca(), &post, &format!("{follower}/v1/tasks")).await;
    assert!(said.ends_with(" 201"), "{said}");
    let (_, said) = curl(&authority.ca(), &id, &format!("{follower}/readyz")).await;
    assert!(said.contains(r#"{"name":"forwarding","ok":true}"#), "{said}");
    version(channel(nodes[1].address, files)).await.unwrap();
    // Without a certificate, nobody gets as far as HTTP.
    let (done, said) = curl(&authority.ca(), &[], &format!("{follower}/healthz")).await;
    assert!(!done && said.contains("0 000"), "{said}");
    for node in nodes.into_iter().rev() {
        node.leave().await;
    }
}
