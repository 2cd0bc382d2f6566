//! Opens a connection at one node after the other. A node that takes long goes on in the background, so that a
//! slow leader can still welcome the worker while other nodes are tried, and a node that stands still costs no
//! more than a quarter of the TTL.

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rota_client::{Client, v1};
use rustc_hash::FxHashMap;
use tokio::time::sleep;
use tonic::Status;
use tracing::debug;

use crate::{
    connection::{self, Connection, WELCOME},
    pulse::Patience,
};

type Welcomed = Result<(Connection, v1::Welcome), Status>;
type Opening = Pin<Box<dyn Future<Output = (usize, Welcomed)> + Send>>;

/// The attempts to open a connection since the last one was open.
#[derive(Default)]
pub(super) struct Openings {
    /// Those that have not ended, at most one for each node.
    pending: FuturesUnordered<Opening>,
    /// The nodes of those.
    nodes: Vec<usize>,
    /// How often each node was tried.
    tries: FxHashMap<usize, u32>,
    /// How long a node is waited for before the next one is tried.
    patience: Patience,
}

impl Openings {
    /// Opens a connection to the client's current node, or gets one that an earlier call began. The client's
    /// current node is then the one that welcomed the worker. Fails if the current node fails, or if it has not
    /// answered in its turn and there is another one to try.
    ///
    /// Cancel safe: what was begun goes on in the next call.
    pub(super) async fn open(
        &mut self,
        client: &Client,
        ttl: Duration,
        hello: v1::Hello,
    ) -> Welcomed {
        let node = client.current_node();
        if !self.nodes.contains(&node) {
            self.begin(client, node, ttl, hello);
        }
        let turn = sleep(self.patience.for_welcome(ttl, 0).min(WELCOME));
        tokio::pin!(turn);
        loop {
            let is_last = self.nodes.len() == client.node_count();
            tokio::select! {
                biased;
                Some((from, welcomed)) = self.pending.next() => {
                    self.nodes.retain(|other| *other != from);
                    match welcomed {
                        Ok(welcomed) => {
                            client.use_node(from);
                            self.end(from != node);
                            return Ok(welcomed);
                        }
                        Err(status) if from == node => return Err(status),
                        Err(status) => debug!(from, ?status, "another node did not welcome the worker"),
                    }
                }
                () = &mut turn, if !is_last => {
                    return Err(Status::unavailable("the server did not answer in its turn"));
                }
            }
        }
    }

    /// Makes the next node the client's current one: one that is not being tried, if there is one.
    pub(super) fn next_node(&self, client: &Client) {
        for _ in 0..client.node_count() {
            client.next_node();
            if !self.nodes.contains(&client.current_node()) {
                return;
            }
        }
    }

    /// Whether no node is still being waited for.
    pub(super) fn are_over(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Records that connections are not slow.
    pub(super) fn are_prompt(&mut self) {
        self.patience = Patience::default();
    }

    fn begin(&mut self, client: &Client, node: usize, ttl: Duration, hello: v1::Hello) {
        let tries = self.tries.entry(node).or_default();
        let limit = self.patience.for_welcome(ttl, *tries);
        *tries += 1;
        let client = client.clone();
        self.nodes.push(node);
        self.pending
            .push(Box::pin(async move { (node, connection::open(&client, hello, limit).await) }));
    }

    /// Drops all others after a welcome. A welcome of a node whose turn was over shows that turns are too short:
    /// the hellos of the other nodes may still arrive, and then they end the connection that is open.
    fn end(&mut self, was_late: bool) {
        self.pending.clear();
        self.nodes.clear();
        self.tries.clear();
        if was_late {
            self.patience.grow();
        }
    }
}
