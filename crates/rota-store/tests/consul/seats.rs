//! What the tests of elections do to Consul, and what is particular to its sessions.

use std::time::Duration;

use rota_store::{CommitError, Store, consul::ConsulOptions};

use crate::{
    elections::{Seats, TTL},
    node::{Node, within},
    proxy::Proxy,
    server::Consul,
};

impl Seats for Consul {
    /// Consul lets a session expire after up to twice its time.
    const TAKEOVER: Duration = TTL.saturating_mul(2).saturating_add(Duration::from_secs(2));
    const HAND_OVER: Duration = Duration::from_millis(500);

    fn with_ttl(&self, leader_ttl: Duration) -> ConsulOptions {
        ConsulOptions { leader_ttl, ..self.options() }
    }

    fn through(&self, proxy: &Proxy) -> ConsulOptions {
        ConsulOptions { agents: vec![proxy.endpoint()], ..self.brief() }
    }

    fn remove_leader(&self) {
        self.ask("DELETE", "kv/rota/leader", "").unwrap();
    }

    fn remove_node(&self, name: &str) {
        self.ask("DELETE", &format!("kv/rota/nodes/{name}"), "").unwrap();
    }

    fn enter(&self, name: &str, node: &str, seconds: u64) {
        let session = format!(
            r#"{{"TTL":"{seconds}s","LockDelay":"0s","Behavior":"delete","NodeChecks":[]}}"#
        );
        let told = self.ask("PUT", "session/create", &session).unwrap();
        let session = told.split('"').nth(3).unwrap().to_owned();
        let path = format!("kv/rota/nodes/{name}?acquire={session}");
        assert_eq!(self.ask("PUT", &path, node).unwrap().trim(), "true");
    }

    fn holder(&self, name: &str) -> String {
        self.ask("GET", &format!("kv/rota/nodes/{name}"), "").unwrap()
    }

    fn set_other_format(&self) {
        self.ask("PUT", "kv/rota/head", r#"{"format":2}"#).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_session_is_destroyed_hears_of_it() {
    let consul = Consul::start();
    let a = Node::new("a", consul.options());
    let old = a.lead().await;
    let listed = consul.ask("GET", "session/list", "").unwrap();
    let session = listed.split('"').nth(3).unwrap().to_owned();
    consul.ask("PUT", &format!("session/destroy/{session}"), "").unwrap();
    within(old.lost()).await;
    assert_eq!(a.store.members().await.unwrap(), []);
    let refused = a.put(old.fence(), a.next().await, "1").await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_to_a_former_session_leaves_nothing_behind() {
    let consul = Consul::start();
    consul.enter("a", r#"{"name":"a"}"#, 2);
    let a = Node::new("a", consul.brief());
    let leading = a.lead().await;
    assert_eq!(consul.keys("rota/challenge/"), Vec::<String>::new());
    drop(leading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_another_format_is_not_touched() {
    let consul = Consul::start();
    consul.set_other_format();
    let a = Node::new("a", consul.options());
    assert!(within(a.store.campaign(&a.me)).await.is_err());
    assert_eq!(consul.keys("rota/head"), ["rota/head"]);
    assert!(consul.keys("rota/log").is_empty());
}
