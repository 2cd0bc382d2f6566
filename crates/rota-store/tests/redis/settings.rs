//! Servers that are not set up as the law needs it, users with and without permission, and clusters that share a server.

use rota_store::{
    CommitError, Store, StoreError,
    redis::{RedisDurability, RedisOptions, RedisServers, RedisTls, RedisUser},
};

use crate::{
    certificates::certificates,
    node::{Node, within},
    server::{Redis, free_port},
};

/// What a node that campaigns is told.
async fn refusal(options: RedisOptions) -> String {
    let a = Node::new("a", options);
    match within(a.store.campaign(&a.me)).await.map(drop) {
        Err(StoreError::Open(why)) => {
            assert_eq!(a.store.status().await.problem.as_ref(), Some(&why));
            assert!(a.store.head().await.is_err() && a.store.snapshot().await.is_err());
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_batches_is_refused_unless_that_is_accepted() {
    for (setting, value) in
        [("appendfsync", "everysec"), ("appendonly", "no"), ("no-appendfsync-on-rewrite", "yes")]
    {
        let redis = Redis::with(&[&format!("--{setting}"), value]);
        let why = refusal(redis.options()).await;
        assert!(why.contains(setting) && why.contains("durability = \"async\""), "{why}");
        let options = RedisOptions { durability: RedisDurability::Async, ..redis.options() };
        let a = Node::new("a", options);
        let leading = a.lead().await;
        a.put(leading.fence(), a.next().await, "1").await.unwrap();
        let status = a.store.status().await;
        assert!(status.weakness.unwrap().contains("can lose"));
        assert_eq!(status.problem, None);
    }
    let redis = Redis::start();
    let a = Node::new("a", redis.options());
    drop(a.lead().await);
    assert_eq!(a.store.status().await.weakness, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_evicts_keys_is_refused_in_any_case() {
    let redis = Redis::with(&["--maxmemory-policy", "allkeys-lru"]);
    let options = RedisOptions { durability: RedisDurability::Async, ..redis.options() };
    for options in [redis.options(), options] {
        let why = refusal(options).await;
        assert!(why.contains("noeviction"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_a_redis_cluster_is_refused_in_any_case() {
    for cluster in [
        Redis::with(&["--cluster-enabled", "yes"]),
        Redis::valkey_with(&["--cluster-enabled", "yes"]),
    ] {
        let alone = RedisOptions { durability: RedisDurability::Async, ..cluster.options() };
        for options in [cluster.options(), alone] {
            let why = refusal(options).await;
            assert!(why.contains("cluster mode"), "{why}");
        }
        // It serves no slot, as a member to which keys have not been assigned yet; with all of them it is no other.
        cluster.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let why = refusal(cluster.options()).await;
        assert!(why.contains("cluster mode"), "{why}");
    }
}

/// The rules that the documentation gives to the user of Rota, after its name and password.
fn documented_rules() -> Vec<&'static str> {
    let page = include_str!("../../../../docs/stores.md");
    let rules = page.split("user rota on >PASSWORD ").nth(1).unwrap();
    rules.split("```").next().unwrap().split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_needs_the_documented_commands_and_the_prefix_alone() {
    for redis in [Redis::start(), Redis::valkey()] {
        redis
            .cli(&[&["ACL", "SETUSER", "rota", "on", ">secret"], &documented_rules()[..]].concat());
        redis.cli(&["ACL", "SETUSER", "default", "off"]);
        let user = Some(RedisUser { name: "rota".to_owned(), password: "secret".to_owned() });
        let options = RedisOptions { user, ..redis.options() };
        let (a, b) = (Node::new("a", options.clone()), Node::new("b", options));
        let leading = a.lead().await;
        let mut changes = b.store.watch(rota_store::Revision(0)).await.unwrap();
        a.put(leading.fence(), a.next().await, "1").await.unwrap();
        within(futures_util::StreamExt::next(&mut changes)).await.unwrap().unwrap();
        let snapshot = within(b.store.snapshot()).await.unwrap();
        a.put(leading.fence(), a.next().await, "2").await.unwrap();
        let before = snapshot.get(&[(crate::node::HOT, "a".into())]).await.unwrap();
        assert_eq!(before[0].as_deref(), Some(&b"1"[..]));
        let standing = b.stand().await;
        leading.resign(None).await;
        within(standing).await.unwrap();
        assert_eq!(b.store.status().await.problem, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_too_little_is_told_what_is_missing() {
    let redis = Redis::start();
    redis.cli(&[&["ACL", "SETUSER", "rota", "on", ">secret"], &documented_rules()[..]].concat());
    redis.cli(&["ACL", "SETUSER", "blind", "on", ">secret", "~{rota}:*", "+@all", "-config"]);
    redis.cli(&["ACL", "SETUSER", "weak", "on", ">secret", "~{rota}:*", "+@all", "-hdel"]);
    redis.cli(&["ACL", "SETUSER", "default", "off"]);
    let options = |name: &str, password: &str| {
        let user = RedisUser { name: name.to_owned(), password: password.to_owned() };
        RedisOptions { user: Some(user), ..redis.options() }
    };
    let a = Node::new("a", options("rota", "secret"));
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    assert!(!format!("{:?}", options("rota", "secret")).contains("secret"));
    assert!(!a.store.status().await.location.contains("secret"));
    let why = refusal(options("blind", "secret")).await;
    assert!(why.contains("CONFIG GET"), "{why}");
    leading.resign(None).await;

    // A script that stopped in its middle would leave half a batch.
    let weak = Node::new("weak", options("weak", "secret"));
    let seq = a.next().await;
    for (node, word) in [(weak, "hdel"), (Node::new("b", options("rota", "wrong")), "the password")]
    {
        let refused = within(node.store.head()).await.map(drop).unwrap_err().to_string();
        assert!(refused.to_lowercase().contains(&word.to_lowercase()), "{refused}");
    }
    assert_eq!(a.next().await, seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_share_a_server_under_prefixes() {
    let redis = Redis::start();
    let other = RedisOptions { prefix: "other".to_owned(), ..redis.options() };
    let (a, b) = (Node::new("a", redis.options()), Node::new("a", other));
    let (first, second) = (a.lead().await, b.lead().await);
    a.put(first.fence(), a.next().await, "1").await.unwrap();
    b.put(second.fence(), b.next().await, "2").await.unwrap();
    assert_eq!(a.value().await.unwrap(), "1");
    assert_eq!(b.value().await.unwrap(), "2");
}

/// The layout that people see, as `layout.rs` describes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_layout_can_be_read_with_redis_cli() {
    let redis = Redis::start();
    let a = Node::new("a", redis.options());
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "value").await.unwrap();
    assert_eq!(redis.cli(&["HGET", "{rota}:s:hot", "a"]), "value");
    assert_eq!(redis.cli(&["ZRANGE", "{rota}:k:hot", "-", "+", "BYLEX"]), "a");
    assert_eq!(redis.cli(&["HMGET", "{rota}:head", "epoch", "seq", "count"]), "1\n1\n1");
    assert!(redis.cli(&["HGET", "{rota}:leader", "node"]).contains("http://a:7420"));
    let log = redis.cli(&["XRANGE", "{rota}:log", "-", "+"]);
    assert!(log.starts_with("1-0\nprev\n0\n") && log.contains("+ hot 1 5"), "{log}");
    assert_eq!(redis.cli(&["EXISTS", "{rota}:undo", "{rota}:snapshots"]), "0");
    let refused = a.put(leading.fence(), a.next().await.next(), "later").await;
    assert!(matches!(refused, Err(CommitError::OutOfOrder { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name);
    let path = |name: &str| file(name).display().to_string();
    let port = free_port();
    let redis = Redis::with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path("server.pem"),
        "--tls-key-file",
        &path("server.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
    ]);
    let options = |ca: &str, own: Option<&str>| RedisOptions {
        servers: RedisServers::Single(format!("127.0.0.1:{port}")),
        tls: Some(RedisTls {
            ca_file: Some(file(ca)),
            cert_file: own.map(|own| file(&format!("{own}.pem"))),
            key_file: own.map(|own| file(&format!("{own}.key"))),
        }),
        timeout: std::time::Duration::from_secs(1),
        ..redis.options()
    };
    let a = Node::new("a", options("ca.pem", Some("node")));
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    assert_eq!(a.value().await.unwrap(), "1");
    assert!(a.store.status().await.location.starts_with("rediss://"));
    for (ca, own) in [("other.pem", Some("node")), ("ca.pem", Some("stranger")), ("ca.pem", None)] {
        let stranger = Node::new("stranger", options(ca, own));
        let refused = within(stranger.store.snapshot()).await.map(drop);
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{ca} {own:?}: {refused:?}");
    }
}
