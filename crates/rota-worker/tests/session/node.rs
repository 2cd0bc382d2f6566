//! A node that can be stopped and started again on the same data and port.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rota_client::{Client, NewTask, v1};
use rota_engine::{Engine, EngineOptions, Host};
use rota_server::{Limits, Server, ServerOptions, Tokens};
use rota_store::{EmbeddedOptions, EmbeddedStore, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::in_time;

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    stop_engine: CancellationToken,
    engine: Engine,
    store: Arc<EmbeddedStore>,
    server: JoinHandle<()>,
    dir: TempDir,
    options: EngineOptions,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(EngineOptions::default()).await
    }

    pub(crate) async fn start_with(options: EngineOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_on(dir, any, options, Tokens::default()).await
    }

    /// One that takes no larger requests and results.
    pub(crate) async fn start_taking(request_bytes: usize, result_bytes: usize) -> Self {
        let limits = Limits { request_bytes, result_bytes, ..Limits::default() };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let served = ServerOptions { listen, limits, ..ServerOptions::default() };
        Self::serve(tempfile::tempdir().unwrap(), EngineOptions::default(), served).await
    }

    async fn start_on(
        dir: TempDir,
        listen: SocketAddr,
        options: EngineOptions,
        tokens: Tokens,
    ) -> Self {
        let served = ServerOptions { listen, tokens, ..ServerOptions::default() };
        Self::serve(dir, options, served).await
    }

    async fn serve(dir: TempDir, options: EngineOptions, served: ServerOptions) -> Self {
        let store = Arc::new(open(dir.path()));
        let (stop, stop_engine) = (CancellationToken::new(), CancellationToken::new());
        let engine =
            Engine::start(Host::system(), store.clone(), options.clone(), stop_engine.clone());
        let server = Server::bind(engine.clone(), served).await.unwrap();
        let address = server.local_addr();
        let stopped = stop.clone();
        let server = tokio::spawn(async move { server.run(stopped).await.unwrap() });
        Self { address, stop, stop_engine, engine, store, server, dir, options }
    }

    /// Ends all of it; what it needs to come back is left.
    pub(crate) async fn stop(self) -> Stopped {
        self.stop.cancel();
        in_time(self.server).await.unwrap();
        self.stop_engine.cancel();
        in_time(self.engine.stopped()).await;
        self.store.close().await;
        Stopped { address: self.address, dir: self.dir, options: self.options }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect([format!("http://{}", self.address)]).unwrap()
    }

    /// Creates a task and answers its id.
    pub(crate) async fn create(&self, task: NewTask) -> String {
        self.client().create_task(task).await.unwrap().id
    }

    /// The task, once it has ended.
    pub(crate) async fn ended(&self, id: &str) -> v1::Task {
        in_time(self.client().wait_task(id)).await.unwrap()
    }

    /// The task, once it is as wanted.
    pub(crate) async fn once(&self, id: &str, wanted: impl Fn(&v1::Task) -> bool) -> v1::Task {
        let client = self.client();
        in_time(async {
            loop {
                let task = client.get_task(id).await.unwrap();
                if wanted(&task) {
                    return task;
                }
            }
        })
        .await
    }

    /// Waits until the worker's connection is known to be broken.
    pub(crate) async fn without(&self, worker: &str) {
        in_time(async {
            loop {
                let sessions = self.engine.workers().await.unwrap();
                if sessions.iter().any(|it| it.worker.as_str() == worker && it.awaited) {
                    return;
                }
            }
        })
        .await;
    }

    /// How the task's attempts ended: the reason of each, in order.
    pub(crate) async fn attempts(&self, id: &str) -> Vec<Option<v1::FailureReason>> {
        let attempts = self.client().list_attempts(id).await.unwrap();
        attempts.into_iter().map(|attempt| attempt.error.map(|error| error.reason())).collect()
    }
}

/// A node that is not running.
pub(crate) struct Stopped {
    address: SocketAddr,
    dir: TempDir,
    options: EngineOptions,
}

impl Stopped {
    pub(crate) async fn start(self) -> Node {
        Node::start_on(self.dir, self.address, self.options, Tokens::default()).await
    }

    pub(crate) async fn start_protected(self, tokens: Tokens) -> Node {
        Node::start_on(self.dir, self.address, self.options, tokens).await
    }
}

fn open(dir: &Path) -> EmbeddedStore {
    let small = EmbeddedOptions { cache_bytes: 4 << 20, ..EmbeddedOptions::default() };
    EmbeddedStore::open(dir, rota_engine::SPACES, small).unwrap()
}
