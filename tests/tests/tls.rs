//! A cluster of three nodes on etcd that talk by TLS alone, with certificates on both sides: a follower forwards, a worker
//! works, and another node takes over.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rota_client::{
    Client, task,
    v1::{GetServerInfoRequest, TaskStatus},
};
use rota_tests::{
    local_stores::LocalStore,
    process::{LOOK, PATIENCE, command},
};
use serde_json::json;
use tokio::{process::Child, time::timeout};

/// Writes an authority, and a certificate by it for this machine with its key, which all processes use.
fn certificates(dir: &Path) -> [PathBuf; 3] {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    params.distinguished_name.push(DnType::CommonName, "node");
    let cert = params.signed_by(&key, &issuer).expect("a certificate");
    let files = ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
    let texts = [issuer.pem(), cert.pem(), key.serialize_pem()];
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).expect("a file");
    }
    files
}

fn start(home: &Path, name: &str, arguments: &[&str]) -> Child {
    let log = fs::File::create(home.join(format!("{name}.log"))).expect("a file");
    let mut command = command(arguments, home);
    command.stdout(Stdio::null()).stderr(log).spawn().expect("it starts")
}

/// The name of the leader, which is not this one.
async fn leader(client: &Client, other_than: &str) -> String {
    let mut look = tokio::time::interval(LOOK);
    let found = async {
        loop {
            look.tick().await;
            let info = client.get_server_info(GetServerInfoRequest {}).await;
            if let Some(leader) = info.ok().and_then(|info| info.leader)
                && leader != other_than
            {
                return leader;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("a leader")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_talks_by_tls_alone() {
    let etcd = LocalStore::etcd();
    let home = tempfile::tempdir().expect("a directory");
    let files = certificates(home.path());
    let [ca, cert, key] = files.each_ref().map(|file| file.to_str().expect("UTF-8"));
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let addresses = [(); 3].map(|()| free().to_string());
    let names = ["n0", "n1", "n2"];
    let mut nodes: Vec<_> = names
        .iter()
        .zip(&addresses)
        .map(|(name, listen)| {
            let served = ["server", "--listen", listen, "--node", name, "--store", &etcd.url];
            let tls = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-client-ca-file", ca];
            let rest = ["--ca-file", ca, "--leader-ttl", "1s", "--log", "trace"];
            start(home.path(), name, &[&served[..], &tls, &rest].concat())
        })
        .collect();
    let url = |node: usize| format!("https://{}", addresses[node]);
    let client = |node: usize| {
        let client = Client::builder([url(node)]).ca_file(ca).client_certificate(cert, key);
        client.patience(PATIENCE).build().expect("an address")
    };
    let first = leader(&client(0), "").await;
    let leads = names.iter().position(|name| *name == first).expect("one of them");
    let (follower, third) = ((leads + 1) % 3, (leads + 2) % 3);
    let all = [follower, third].map(url).join(",");
    let work = ["worker", "--url", &all, "--ca-file", ca, "--cert-file", cert, "--key-file", key];
    let _worker = start(home.path(), "worker", &[&work[..], &["--allow-command"]].concat());
    let run = async |node: usize| {
        let new = task("command").payload_json(&json!({ "argv": ["true"] }));
        let client = client(node);
        let created = client.create_task(new).await.expect("the follower forwards it");
        let ended = timeout(PATIENCE, client.wait_task(&created.id)).await.expect("in time");
        assert_eq!(ended.expect("it ends").status(), TaskStatus::Completed);
    };
    run(follower).await;
    nodes[leads].kill().await.expect("killed");
    leader(&client(third), &first).await;
    run(third).await;

    let plain = Client::builder([format!("http://{}", addresses[follower])]);
    let plain = plain.patience(Duration::from_secs(5)).build().expect("an address");
    let error = plain.create_task(task("k")).await.expect_err("it does not speak TLS");
    assert!(error.to_string().contains("use https://"), "{error}");
    let secret = fs::read_to_string(key).expect("a key");
    for name in names.iter().chain(&["worker"]) {
        let log = fs::read_to_string(home.path().join(format!("{name}.log"))).expect("a log");
        let shown = secret.lines().filter(|line| !line.starts_with("--"));
        assert!(!log.is_empty() && shown.into_iter().all(|line| !log.contains(line)), "{name}");
    }
}
