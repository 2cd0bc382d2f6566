//! Real nodes, and the faults between them and a client.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rota_client::{ByteStream, Connect, Connecting};
use rota_engine::{Engine, EngineOptions, Host};
use rota_server::{Limits, Server, ServerOptions};
use rota_store::{EmbeddedOptions, EmbeddedStore, Store};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A node of its own.
pub(crate) struct Node {
    address: SocketAddr,
    stop: CancellationToken,
    engine: Engine,
    stop_engine: CancellationToken,
    store: Arc<EmbeddedStore>,
    server: JoinHandle<()>,
    // Removed when the node is.
    _dir: TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::serve(ServerOptions { limits, ..ServerOptions::default() }).await
    }

    pub(crate) async fn serve(options: ServerOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let small = EmbeddedOptions { cache_bytes: 4 << 20, ..EmbeddedOptions::default() };
        let store = EmbeddedStore::open(dir.path(), rota_engine::SPACES, small).unwrap();
        let store = Arc::new(store);
        let (stop, stop_engine) = (CancellationToken::new(), CancellationToken::new());
        let engine = Engine::start(
            Host::system(),
            store.clone(),
            EngineOptions::default(),
            stop_engine.clone(),
        );
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = ServerOptions { listen, ..options };
        let server = Server::bind(engine.clone(), options).await.unwrap();
        let address = server.local_addr();
        let stopped = stop.clone();
        let server = tokio::spawn(async move { server.run(stopped).await.unwrap() });
        Self { address, stop, engine, stop_engine, store, server, _dir: dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.server.await.unwrap();
        self.stop_engine.cancel();
        self.engine.stopped().await;
        self.store.close().await;
    }
}

/// A network of its own: authorities lead to nodes, whatever names the system knows.
pub(crate) struct Names(pub(crate) Vec<(&'static str, SocketAddr)>);

impl Connect for Names {
    fn connect(&self, authority: &str) -> Connecting {
        let found = self.0.iter().find(|(name, _)| *name == authority).map(|(_, to)| *to);
        Box::pin(async move {
            let to = found.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            // Both ends in memory; only the node itself stands on a socket.
            let (near, mut far) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let mut socket = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut far, &mut socket).await;
            });
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Takes connections and everything that is sent, and says nothing.
pub(crate) async fn silent() -> String {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    format!("http://{address}")
}

/// A way to a node on which answers are lost: everything goes to the node, and the connection
/// breaks where the answer would pass, so that the node has done what was asked.
pub(crate) struct Cut {
    address: SocketAddr,
    cuts: Arc<AtomicUsize>,
}

impl Cut {
    /// Breaks so many connections; later ones are let through.
    pub(crate) async fn in_front_of(node: &Node, cuts_max: usize) -> Self {
        let (listener, address) = listen().await;
        let cuts = Arc::new(AtomicUsize::new(0));
        let (to, counted) = (node.address, cuts.clone());
        tokio::spawn(async move {
            while let Ok((down, _)) = listener.accept().await {
                let up = TcpStream::connect(to).await.unwrap();
                let cut = (counted.load(Ordering::SeqCst) < cuts_max).then(|| counted.clone());
                tokio::spawn(pass(down, up, cut));
            }
        });
        Self { address, cuts }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// A way to a node whose connections can be broken.
pub(crate) struct Way {
    address: SocketAddr,
    breaks: tokio::sync::watch::Sender<()>,
}

impl Way {
    pub(crate) async fn to(node: &Node) -> Self {
        let (listener, address) = listen().await;
        let (breaks, broken) = tokio::sync::watch::channel(());
        let to = node.address;
        tokio::spawn(async move {
            while let Ok((mut down, _)) = listener.accept().await {
                let mut broken = broken.clone();
                broken.mark_unchanged();
                tokio::spawn(async move {
                    let mut up = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = broken.changed() => {}
                        _ = tokio::io::copy_bidirectional(&mut down, &mut up) => {}
                    }
                });
            }
        });
        Self { address, breaks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks all connections. New ones are let through.
    pub(crate) fn break_all(&self) {
        self.breaks.send_replace(());
    }
}

/// The first byte of HTTP/2's frame for headers: what opens an answer.
const HEADERS: u8 = 1;

async fn pass(down: TcpStream, up: TcpStream, cut: Option<Arc<AtomicUsize>>) {
    let (mut from_client, mut to_client) = down.into_split();
    let (mut from_node, mut to_node) = up.into_split();
    let there = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_node).await;
    };
    let back = async {
        // One frame at a time: nine bytes say how long it is and what.
        let mut head = [0; 9];
        while from_node.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut body = vec![0; usize::try_from(length).unwrap()];
            from_node.read_exact(&mut body).await.unwrap();
            if let Some(cuts) = &cut
                && head[3] == HEADERS
            {
                cuts.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(&[&head[..], &body].concat()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Something that answers every call with one error, as a node would.
pub(crate) struct Refusing {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Refusing {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

pub(crate) async fn refusing(code: Code, reason: &'static str) -> Refusing {
    let (listener, address) = listen().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = counted.clone();
            let service = service_fn(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut details = ErrorDetails::new();
                details.set_error_info(reason, "rota", HashMap::new());
                let status = Status::with_error_details(code, "not here", details);
                async move { Ok::<_, Infallible>(status.into_http::<String>()) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    Refusing { address, asked }
}
