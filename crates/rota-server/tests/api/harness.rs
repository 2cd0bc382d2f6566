//! A node of our own, and a client that sends whatever it is told to.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rota_engine::{Engine, EngineOptions, Host};
use rota_server::{Limits, Server, ServerOptions};
use rota_store::{EmbeddedOptions, EmbeddedStore, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A node that listens on a port of its own, with a data directory of its own.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    engine: Engine,
    stop_engine: CancellationToken,
    store: Arc<dyn Store>,
    server: JoinHandle<()>,
    // Removed when the node is.
    _dir: Arc<TempDir>,
}

/// Nothing in these tests takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(EngineOptions::default(), ServerOptions::default()).await
    }

    pub(crate) async fn start_limited(limits: Limits) -> Self {
        let options = ServerOptions { limits, ..ServerOptions::default() };
        Self::start_with(EngineOptions::default(), options).await
    }

    pub(crate) async fn start_with(engine: EngineOptions, server: ServerOptions) -> Self {
        let (store, dir) = open_store();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_on(store, dir, listen, engine, server).await
    }

    /// A node on a store that it may share with others.
    pub(crate) async fn start_on(
        store: Arc<dyn Store>,
        dir: Arc<TempDir>,
        listen: SocketAddr,
        engine: EngineOptions,
        server: ServerOptions,
    ) -> Self {
        let (stop, stop_engine) = (CancellationToken::new(), CancellationToken::new());
        let engine = Engine::start(Host::system(), store.clone(), engine, stop_engine.clone());
        let options = ServerOptions { listen, ..server };
        let server = Server::bind(engine.clone(), options).await.unwrap();
        let parts = (engine, stop, stop_engine);
        Self::run(store, dir, parts, server)
    }

    /// A node that accepts what this listener gives.
    pub(crate) fn start_behind(
        listener: Box<dyn rota_server::Listen>,
        (store, dir): (Arc<dyn Store>, Arc<TempDir>),
        engine: EngineOptions,
        server: ServerOptions,
    ) -> Self {
        let (stop, stop_engine) = (CancellationToken::new(), CancellationToken::new());
        let engine = Engine::start(Host::system(), store.clone(), engine, stop_engine.clone());
        let server = Server::on(listener, engine.clone(), server).unwrap();
        Self::run(store, dir, (engine, stop, stop_engine), server)
    }

    fn run(
        store: Arc<dyn Store>,
        dir: Arc<TempDir>,
        (engine, stop, stop_engine): (Engine, CancellationToken, CancellationToken),
        server: Server,
    ) -> Self {
        let address = server.local_addr();
        let stopped = stop.clone();
        let server = tokio::spawn(async move { server.run(stopped).await.unwrap() });
        Self { address, stop, engine, stop_engine, store, server, _dir: dir }
    }

    /// Stops all of it, the server first, and waits until it has.
    pub(crate) async fn stop(self) {
        let store = self.store.clone();
        self.leave().await;
        store.close().await;
    }

    /// Stops, and leaves the store to the others.
    pub(crate) async fn leave(self) {
        self.stop.cancel();
        self.server.await.unwrap();
        self.stop_engine.cancel();
        self.engine.stopped().await;
    }

    /// Stops the server, and leaves the engine running.
    pub(crate) async fn stop_listening(&self) {
        self.stop.cancel();
        let refused = async { while TcpStream::connect(self.address).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, refused).await.expect("the port is closed");
    }

    /// Its metrics, as text.
    pub(crate) async fn metrics(&self) -> String {
        String::from_utf8_lossy(&self.get("/metrics").await.body).into_owned()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Full::default()).unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Full::default()).unwrap()).await
    }

    /// A body that says that it is JSON.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, body.to_string()).await
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Answer {
        let host = self.address.to_string().parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        let stream = TcpStream::connect(self.address).await.unwrap();
        Self::send_on(stream, request).await
    }

    /// Sends a request on this stream.
    pub(crate) async fn send_on(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Full<Bytes>>,
    ) -> Answer {
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let asked = async {
            let answer = sender.send_request(request).await.unwrap();
            Answer::read(answer).await
        };
        tokio::select! {
            answer = tokio::time::timeout(PATIENCE, asked) => answer.expect("an answer in time"),
            ended = connection => panic!("the connection ended first: {ended:?}"),
        }
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) async fn send_raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // How the connection ended does not matter, only that it did and what came before.
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the server closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.address);
        Channel::from_shared(address).unwrap().connect().await.unwrap()
    }

    /// Waits until the cluster uses this feature level.
    pub(crate) async fn has_feature_level(&self, level: u64) {
        let reached = async {
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            let shown = || async { self.get("/v1/info").await.json() };
            while shown().await["cluster_feature_level"].as_u64() < Some(level) {
                pause.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the leader raises the level");
    }

    /// Creates a task and answers its id.
    pub(crate) async fn create(&self, task: &Value) -> String {
        let answer = self.post_json("/v1/tasks", task).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Leases the one task of that kind: its id and its lease token.
    pub(crate) async fn lease(&self, kind: &str) -> (String, u64) {
        let asked = serde_json::json!({ "worker": "w", "kinds": [kind], "wait": "30s" });
        let answer = self.post_json("/v1/leases", &asked).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let task = answer.json()["tasks"][0].clone();
        (task["id"].as_str().unwrap().to_owned(), task["lease_token"].as_u64().unwrap())
    }
}

/// A store in a directory of its own.
pub(crate) fn open_store() -> (Arc<EmbeddedStore>, Arc<TempDir>) {
    let dir = tempfile::tempdir().unwrap();
    let small = EmbeddedOptions { cache_bytes: 4 << 20, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open(dir.path(), rota_engine::SPACES, small).unwrap();
    (Arc::new(store), Arc::new(dir))
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    async fn read(answer: Response<hyper::body::Incoming>) -> Self {
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The problem document, having checked that it is one.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        let reason = problem["reason"].as_str().unwrap();
        assert_eq!(problem["type"], format!("urn:rota:problem:{reason}"));
        for field in ["title", "detail"] {
            assert!(!problem[field].as_str().unwrap().is_empty(), "{problem}");
        }
        problem
    }

    /// The fields that it names.
    pub(crate) fn fields(&self) -> Vec<String> {
        let problem = self.problem();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}
