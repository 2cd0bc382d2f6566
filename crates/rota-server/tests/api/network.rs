//! Nodes on a network of our own: no socket is opened.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, sync::Mutex};

use http::{Request, Uri};
use http_body_util::Full;
use rota_engine::{EngineOptions, Role};
use rota_server::{BoxedStream, Connect, Listen, Pending, ServerOptions};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
    time::timeout,
};

use crate::harness::{Node, PATIENCE, open_store};

const BUFFER: usize = 64 << 10;

/// Who listens where.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>>);

struct Ear {
    address: SocketAddr,
    incoming: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Memory {
    fn listen(&self, address: SocketAddr) -> Box<dyn Listen> {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.0.lock().unwrap().insert(address, sender);
        Box::new(Ear { address, incoming })
    }

    fn open(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(BUFFER);
        let listening = self.0.lock().unwrap();
        let sender = listening.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
        sender.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}

impl Listen for Ear {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn accept(&mut self) -> Pending<'_, (BoxedStream, SocketAddr)> {
        Box::pin(async {
            let stream = self.incoming.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as BoxedStream, self.address))
        })
    }
}

impl Connect for Memory {
    fn connect(&self, address: &Uri) -> Pending<'_, BoxedStream> {
        let address = address.authority().and_then(|authority| authority.as_str().parse().ok());
        Box::pin(async move {
            let address = address.ok_or(io::ErrorKind::InvalidInput)?;
            Ok(Box::new(self.open(address)?) as BoxedStream)
        })
    }
}

#[tokio::test]
async fn a_cluster_runs_over_streams_that_are_no_sockets() {
    let network = Memory::default();
    let (store, dir) = open_store();
    let mut nodes = Vec::new();
    for (name, port) in [("first", 1), ("second", 2)] {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let engine = EngineOptions {
            node: name.to_owned(),
            address: Some(format!("http://{address}")),
            ..EngineOptions::default()
        };
        let connect = Arc::new(network.clone());
        let server = ServerOptions { connect, ..ServerOptions::default() };
        let listener = network.listen(address);
        let node = Node::start_behind(listener, (store.clone(), dir.clone()), engine, server);
        let mut changes = node.engine().role_changes();
        let settled = async {
            while node.engine().role() == Role::Unknown {
                changes.changed().await;
            }
        };
        timeout(PATIENCE, settled).await.expect("a role");
        nodes.push(node);
    }
    let follower = nodes.pop().unwrap();
    let request = Request::post("/v1/tasks")
        .header("host", "127.0.0.1:2")
        .header("content-type", "application/json")
        .body(Full::from(r#"{"kind":"k"}"#))
        .unwrap();
    let answer = Node::send_on(network.open(follower.address).unwrap(), request).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    follower.leave().await;
    nodes.pop().unwrap().stop().await;
}
