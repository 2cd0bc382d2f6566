//! ACL tokens and TLS.

use std::{path::Path, process::Command};

use rota_store::{
    Store,
    consul::{ConsulOptions, ConsulTls, ConsulToken},
};

use crate::{
    node::{Node, within},
    server::{Consul, program},
};

const MASTER: &str = "5a1d9a8c-7b5e-4c55-9d3b-8f1f3c1f0a01";

/// What the documentation says that a token needs.
const RULES: &str =
    r#"key_prefix \"rota/\" { policy = \"write\" } session_prefix \"\" { policy = \"write\" }"#;

/// One that lets nobody in without a token.
fn guarded() -> Consul {
    let fields = format!(
        r#""acl": {{ "enabled": true, "default_policy": "deny",
                     "tokens": {{ "master": "{MASTER}", "agent": "{MASTER}" }} }},"#
    );
    Consul::with(&fields, Some(MASTER))
}

fn token(consul: &Consul) -> ConsulToken {
    let policy = format!(r#"{{ "Name": "rota", "Rules": "{RULES}" }}"#);
    consul.ask("PUT", "acl/policy", &policy).unwrap();
    let token = r#"{ "Policies": [{ "Name": "rota" }] }"#;
    let told = consul.ask("PUT", "acl/token", token).unwrap();
    let secret = told.split("\"SecretID\":\"").nth(1).unwrap().split('"').next().unwrap();
    ConsulToken(secret.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_with_the_documented_rules_is_enough_and_is_never_shown() {
    let consul = guarded();
    let token = token(&consul);
    let options = ConsulOptions { token: Some(token.clone()), ..consul.options() };
    assert!(!format!("{options:?}").contains(&token.0));
    let a = Node::new("a", options.clone());
    let leading = a.lead().await;
    let mut batch = rota_store::Batch::new(a.next().await);
    batch.put(crate::node::LARGE, "large", vec![1; 1 << 20]);
    within(a.store.commit(leading.fence(), batch)).await.unwrap();
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let reader = Node::new("reader", options);
    assert_eq!(reader.value().await.unwrap(), "1");
    assert_eq!(reader.store.members().await.unwrap(), std::slice::from_ref(&a.me));
    let status = a.store.status().await;
    assert_eq!(status.problem, None);
    assert!(!format!("{status:?}").contains(&token.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_it_is_said_what_is_missing() {
    let consul = guarded();
    for token in [None, Some(ConsulToken("0b9ee3a1-0000-4000-8000-000000000000".to_owned()))] {
        let stranger = Node::new("a", ConsulOptions { token: token.clone(), ..consul.options() });
        let campaign = {
            let stranger = stranger.clone();
            tokio::spawn(async move { stranger.store.campaign(&stranger.me).await.is_ok() })
        };
        let problem = within(async {
            loop {
                if let Some(problem) = stranger.store.status().await.problem {
                    return problem;
                }
            }
        })
        .await;
        assert!(problem.contains("session:write"), "{problem}");
        assert!(token.is_none_or(|token| !problem.contains(&token.0)), "{problem}");
        campaign.abort();
        stranger.store.close().await;
    }
}

/// Consul's own tool makes an authority and certificates.
fn certificates(dir: &Path) {
    for arguments in [
        &["tls", "ca", "create"][..],
        &["tls", "cert", "create", "-server", "-additional-ipaddress=127.0.0.1"],
        &["tls", "cert", "create", "-client"],
    ] {
        let output = Command::new(program()).args(arguments).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_both_sides_prove_who_they_are() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name);
    let fields = format!(
        r#""ca_file": "{}", "cert_file": "{}", "key_file": "{}", "verify_incoming_https": true,"#,
        file("consul-agent-ca.pem").display(),
        file("dc1-server-consul-0.pem").display(),
        file("dc1-server-consul-0-key.pem").display(),
    );
    let consul = Consul::with(&fields, None);
    let tls = ConsulTls {
        ca_file: Some(file("consul-agent-ca.pem")),
        cert_file: Some(file("dc1-client-consul-0.pem")),
        key_file: Some(file("dc1-client-consul-0-key.pem")),
    };
    let secure = ConsulOptions { agents: vec![consul.secure_endpoint()], ..consul.options() };
    let a = Node::new("a", ConsulOptions { tls: Some(tls.clone()), ..secure.clone() });
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    assert_eq!(a.store.status().await.problem, None);
    let anonymous = ConsulTls { cert_file: None, key_file: None, ..tls.clone() };
    let distrustful = ConsulTls { ca_file: None, ..tls };
    for tls in [anonymous, distrustful] {
        let other = Node::new("b", ConsulOptions { tls: Some(tls), ..secure.clone() });
        assert!(within(other.store.head()).await.is_err());
        assert!(other.store.status().await.problem.is_some());
        other.store.close().await;
    }
}
