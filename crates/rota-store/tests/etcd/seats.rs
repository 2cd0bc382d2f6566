//! What the tests of elections do to etcd, and what is particular to its leases.

use std::time::{Duration, Instant};

use rota_store::{Store, etcd::EtcdOptions};

use crate::{
    elections::{Seats, TTL},
    node::{Node, within},
    proxy::Proxy,
    server::Etcd,
};

impl Seats for Etcd {
    const TAKEOVER: Duration = TTL.saturating_add(Duration::from_secs(1));
    const HAND_OVER: Duration = Duration::from_millis(200);

    fn with_ttl(&self, leader_ttl: Duration) -> EtcdOptions {
        EtcdOptions { leader_ttl, ..self.options() }
    }

    fn through(&self, proxy: &Proxy) -> EtcdOptions {
        EtcdOptions { endpoints: vec![proxy.endpoint()], ..self.brief() }
    }

    fn remove_leader(&self) {
        self.ctl(&["del", "rota/leader"]);
    }

    fn remove_node(&self, name: &str) {
        self.ctl(&["del", &format!("rota/nodes/{name}")]);
    }

    fn enter(&self, name: &str, node: &str, seconds: u64) {
        let granted = self.ctl(&["lease", "grant", &seconds.to_string()]);
        let lease = granted.split_whitespace().nth(1).unwrap();
        self.ctl(&["put", "--lease", lease, &format!("rota/nodes/{name}"), node]);
    }

    fn holder(&self, name: &str) -> String {
        let key = format!("rota/nodes/{name}");
        let told = self.ctl(&["get", &key, "--write-out=fields"]);
        told.lines().find(|line| line.contains("Lease")).unwrap().to_owned()
    }

    fn set_other_format(&self) {
        self.ctl(&["put", "rota/format", "2"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_lease_is_revoked_hears_of_it() {
    let etcd = Etcd::start();
    let a = Node::new("a", etcd.options());
    let old = a.lead().await;
    let leases = etcd.ctl(&["lease", "list"]);
    let lease = leases.lines().last().unwrap().to_owned();
    etcd.ctl(&["lease", "revoke", &lease]);
    within(old.lost()).await;
    assert_eq!(a.store.members().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_without_a_lease_is_nobodys() {
    let etcd = Etcd::start();
    etcd.ctl(&["put", "rota/nodes/b", r#"{"name":"b"}"#]);
    let b = Node::new("b", etcd.brief());
    let begin = Instant::now();
    drop(b.lead().await);
    assert!(begin.elapsed() < Duration::from_secs(2), "took {:?}", begin.elapsed());
}
