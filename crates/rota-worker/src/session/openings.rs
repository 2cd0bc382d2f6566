//! Opens a connection at one node after the other. A node that takes long goes on in the background, so that a
//! slow leader can still welcome the worker while other nodes are tried, and a node that stands still costs no
//! more than a quarter of the TTL.

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rota_client::Client;
use rustc_hash::FxHashMap;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tracing::debug;

use crate::{connection::WELCOME, pulse::Patience};

type Opening<T> = Pin<Box<dyn Future<Output = (usize, Result<T, Status>)> + Send>>;

/// The attempts to open a connection since the last one was open.
pub(super) struct Openings<T> {
    /// Those that have not ended, at most one for each node.
    pending: FuturesUnordered<Opening<T>>,
    /// The nodes of those.
    nodes: Vec<usize>,
    /// How often each node was tried.
    tries: FxHashMap<usize, u32>,
    /// How long a node is waited for before the next one is tried.
    patience: Patience,
    /// The node that was tried last, or that welcomed the worker. The client's current one can be another one,
    /// because its other users change it, too.
    last: usize,
}

impl<T> Default for Openings<T> {
    fn default() -> Self {
        let (pending, nodes) = (FuturesUnordered::new(), Vec::new());
        Self { pending, nodes, tries: FxHashMap::default(), patience: Patience::default(), last: 0 }
    }
}

impl<T: 'static> Openings<T> {
    /// Opens a connection to the client's current node, or gets one that an earlier call began. The client's current
    /// node is then the one that welcomed the worker. Fails if the current node fails, or if it has not answered in
    /// its turn and there is another one to try.
    ///
    /// Cancel safe: what was begun goes on in the next call.
    pub(super) async fn open<F>(
        &mut self,
        client: &Client,
        ttl: Duration,
        begin: impl FnOnce() -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let node = client.current_node();
        if !self.nodes.contains(&node) {
            let limit = self.limit(client, ttl, node);
            let (opening, client) = (begin(), client.clone());
            self.nodes.push(node);
            self.pending.push(Box::pin(async move {
                let opened = timeout(limit, opening).await.unwrap_or_else(|_| {
                    client.renew_connection(node);
                    Err(Status::unavailable("the server did not answer within the timeout"))
                });
                (node, opened)
            }));
        }
        self.last = node;
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
                            self.last = from;
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

    /// Time for the next try of a node. One of several nodes gets longer than its turn.
    fn limit(&mut self, client: &Client, ttl: Duration, node: usize) -> Duration {
        let tries = self.tries.entry(node).or_default();
        let beyond = u32::from(client.node_count() > 1);
        let limit = self.patience.for_welcome(ttl, *tries + beyond).min(WELCOME);
        *tries += 1;
        limit
    }

    /// Makes the node after the last one the client's current one: one that is not being tried, if there is one.
    pub(super) fn next_node(&self, client: &Client) {
        client.use_node(self.last);
        for _ in 0..client.node_count() {
            client.next_node();
            if !self.nodes.contains(&client.current_node()) {
                return;
            }
        }
    }

    /// Leaves the connection to the node that welcomed the worker: it fell silent, and may be dead. The next try opens
    /// another one.
    pub(super) fn leave_connection(&self, client: &Client) {
        client.renew_connection(self.last);
    }

    /// Whether no node is still being waited for.
    pub(super) fn are_over(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Records that connections are not slow.
    pub(super) fn are_prompt(&mut self) {
        self.patience = Patience::default();
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        sync::oneshot,
        time::{Instant, advance},
    };

    use super::*;

    const TTL: Duration = Duration::from_secs(8);
    const TURN: Duration = Duration::from_secs(2);

    fn client() -> Client {
        let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"];
        let client = Client::connect(urls).expect("addresses");
        client.use_node(0);
        client
    }

    fn only() -> Client {
        Client::connect(["http://127.0.0.1:1"]).expect("an address")
    }

    /// A node that answers when it is told to, and not before. Whoever waits for it shows in the sender.
    fn node() -> (oneshot::Sender<&'static str>, impl Future<Output = Result<&'static str, Status>>)
    {
        let (answer, answered) = oneshot::channel();
        (answer, async { answered.await.map_err(|_| Status::unavailable("gone")) })
    }

    async fn refuse() -> Result<&'static str, Status> {
        Err(Status::unavailable("refused"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_turn_is_over_can_still_welcome_the_worker() {
        let (client, mut openings) = (client(), Openings::default());
        let ((slow, first), (other, second)) = (node(), node());
        let began = Instant::now();
        openings.open(&client, TTL, || first).await.unwrap_err();
        assert_eq!(began.elapsed(), TURN);
        openings.next_node(&client);
        assert_eq!(client.current_node(), 1);
        openings.open(&client, TTL, refuse).await.unwrap_err();
        assert_eq!(began.elapsed(), TURN, "a refusal ends a turn");
        openings.next_node(&client);
        assert_eq!(client.current_node(), 2);
        slow.send("slow").expect("somebody waits for it");
        let welcomed = openings.open(&client, TTL, || second).await.unwrap();
        assert_eq!((welcomed, client.current_node()), ("slow", 0));
        assert!(other.is_closed() && openings.are_over(), "nobody waits for the others");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stands_still_is_passed_over() {
        let (client, mut openings) = (client(), Openings::default());
        let (_never, first) = node();
        openings.open(&client, TTL, || first).await.unwrap_err();
        for node in [1, 2, 1, 2] {
            openings.next_node(&client);
            assert_eq!(client.current_node(), node);
            openings.open(&client, TTL, refuse).await.unwrap_err();
        }
        openings.next_node(&client);
        let welcomed = openings.open(&client, TTL, || async { Ok("welcome") }).await.unwrap();
        assert_eq!((welcomed, client.current_node()), ("welcome", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn when_every_node_takes_long_the_first_answer_is_waited_for() {
        let (client, mut openings) = (client(), Openings::default());
        for node in 0..2 {
            assert_eq!(client.current_node(), node);
            openings.open(&client, TTL, pending).await.unwrap_err();
            openings.next_node(&client);
        }
        let (late, last) = node();
        let later = async {
            advance(TURN * 2).await;
            late.send("late").expect("somebody waits for it");
        };
        let (welcomed, ()) = tokio::join!(openings.open(&client, TTL, || last), later);
        assert_eq!(welcomed.unwrap(), "late");
    }

    #[tokio::test(start_paused = true)]
    async fn each_try_of_the_only_node_gets_twice_the_time() {
        let (client, mut openings) = (only(), Openings::<()>::default());
        let mut limits = Vec::new();
        for _ in 0..3 {
            let began = Instant::now();
            openings.open(&client, TTL, pending).await.unwrap_err();
            limits.push(began.elapsed());
        }
        assert_eq!(limits, [TURN, TURN * 2, WELCOME], "never more than that");
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_several_nodes_is_waited_for_longer_than_its_turn() {
        let (client, mut openings) = (client(), Openings::default());
        let began = Instant::now();
        let (slow, first) = node();
        openings.open(&client, TTL, || first).await.unwrap_err();
        openings.next_node(&client);
        let answers = async {
            advance(TURN / 2).await;
            slow.send("slow").expect("somebody waits for it");
        };
        let (welcomed, ()) = tokio::join!(openings.open(&client, TTL, pending), answers);
        assert_eq!((welcomed.unwrap(), began.elapsed()), ("slow", TURN * 3 / 2));
        // But not for ever: then its turn comes again.
        let began = Instant::now();
        for _ in 0..3 {
            openings.open(&client, TTL, pending).await.unwrap_err();
            openings.next_node(&client);
        }
        assert_eq!(client.current_node(), 0);
        openings.open(&client, TTL, pending).await.unwrap_err();
        assert!(began.elapsed() <= TURN * 8, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_node_is_the_one_after_the_last() {
        let (client, mut openings) = (client(), Openings::default());
        openings.open(&client, TTL, || async { Ok("welcome") }).await.unwrap();
        // Another user of the client has left the node already.
        client.use_node(1);
        openings.next_node(&client);
        assert_eq!(client.current_node(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_welcome_makes_turns_longer_until_connections_are_prompt() {
        let (client, mut openings) = (client(), Openings::default());
        let (slow, first) = node();
        openings.open(&client, TTL, || first).await.unwrap_err();
        openings.next_node(&client);
        slow.send("slow").expect("somebody waits for it");
        openings.open(&client, TTL, pending).await.unwrap();
        let began = Instant::now();
        openings.open(&client, TTL, pending).await.unwrap_err();
        assert_eq!(began.elapsed(), TURN * 2);
        openings.are_prompt();
        openings.next_node(&client);
        let began = Instant::now();
        openings.open(&client, TTL, pending).await.unwrap_err();
        assert_eq!(began.elapsed(), TURN);
    }
}
