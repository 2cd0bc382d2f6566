//! Users, passwords, tokens that expire, and TLS.

use std::time::Duration;

use futures_util::StreamExt;
use rota_store::{
    CommitError, Store, StoreError,
    etcd::{EtcdOptions, EtcdTls, EtcdUser},
};

use crate::{
    certificates::certificates,
    node::{Node, within},
    server::Etcd,
};

/// An etcd with a user who may use the prefix and nothing else.
fn guarded(arguments: &[&str]) -> Etcd {
    let etcd = Etcd::with(arguments);
    for command in [
        "user add root:secret",
        "user grant-role root root",
        "role add rota",
        "role grant-permission rota --prefix=true readwrite rota/",
        "user add rota:password",
        "user grant-role rota rota",
        "auth enable",
    ] {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    etcd
}

fn known(etcd: &Etcd, password: &str) -> EtcdOptions {
    let user = EtcdUser { name: "rota".to_owned(), password: password.to_owned() };
    EtcdOptions { user: Some(user), ..etcd.options() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_is_replaced() {
    // etcd looks for expired tokens once a second.
    let etcd = guarded(&["--auth-token-ttl=1"]);
    let a = Node::new("a", known(&etcd, "password"));
    let b = Node::new("b", known(&etcd, "password"));
    let leading = a.lead().await;
    let revision = a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let mut changes = b.store.watch(revision).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_secs(3), changes.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    // Each of these has a connection of its own, with a token that is no longer good.
    let revision = a.put(leading.fence(), a.next().await, "2").await.unwrap();
    assert_eq!(b.value().await.unwrap(), "2");
    assert_eq!(within(changes.next()).await.unwrap().unwrap().revision, revision);
    let standing = b.stand().await;
    leading.resign(None).await;
    within(standing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_a_restart_forgets_are_replaced() {
    let mut etcd = guarded(&[]);
    let options = EtcdOptions { leader_ttl: Duration::from_secs(60), ..known(&etcd, "password") };
    let a = Node::new("a", options);
    let leading = a.lead().await;
    let revision = a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let mut changes = a.store.watch(revision).await.unwrap();
    etcd.kill();
    etcd.restart();
    let revision = a.put_until_landed(leading.fence(), "2").await;
    assert_eq!(within(changes.next()).await.unwrap().unwrap().revision, revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_why() {
    let etcd = guarded(&[]);
    for options in [known(&etcd, "wrong"), etcd.options()] {
        let a = Node::new("a", options);
        let refused = within(a.store.head()).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        let text = refused.unwrap_err().to_string();
        assert!(!text.contains("wrong"), "the password is shown: {text}");
    }
    let elsewhere = EtcdOptions { prefix: "elsewhere".to_owned(), ..known(&etcd, "password") };
    let a = Node::new("a", elsewhere);
    let refused = within(a.store.head()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("permission denied"), "{text}");
}

#[test]
fn options_do_not_show_the_password() {
    let user = EtcdUser { name: "rota".to_owned(), password: "hunter2".to_owned() };
    let options = EtcdOptions { user: Some(user), ..EtcdOptions::new(Vec::new(), "rota") };
    let shown = format!("{options:?}");
    assert!(shown.contains("rota") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name);
    let argument = |flag: &str, name: &str| format!("{flag}={}", file(name).display());
    let arguments = [
        argument("--cert-file", "server.pem"),
        argument("--key-file", "server.key"),
        argument("--trusted-ca-file", "ca.pem"),
        "--client-cert-auth".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let etcd = Etcd::secured("https", &arguments);
    let options = |ca: &str, own: Option<&str>| EtcdOptions {
        tls: Some(EtcdTls {
            ca_file: Some(file(ca)),
            cert_file: own.map(|own| file(&format!("{own}.pem"))),
            key_file: own.map(|own| file(&format!("{own}.key"))),
        }),
        timeout: Duration::from_secs(1),
        ..etcd.options()
    };
    let a = Node::new("a", options("ca.pem", Some("node")));
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    assert_eq!(a.value().await.unwrap(), "1");
    for (ca, own) in [("other.pem", Some("node")), ("ca.pem", Some("stranger")), ("ca.pem", None)] {
        let stranger = Node::new("stranger", options(ca, own));
        let refused = within(stranger.store.snapshot()).await.map(drop);
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{ca} {own:?}: {refused:?}");
        let refused = stranger.put(leading.fence(), rota_store::BatchSeq(2), "2").await;
        assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{ca} {own:?}: {refused:?}");
    }
    // A certificate is of no use to one who does not speak TLS.
    let plain =
        Node::new("plain", EtcdOptions { timeout: Duration::from_secs(1), ..etcd.options() });
    assert!(within(plain.store.head()).await.is_err());
}
