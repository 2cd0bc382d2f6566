//! `/` and `/docs` in a real browser, which can reach nothing but the server.

use std::{collections::BTreeSet, fs, path::Path, process::Stdio};

use rota_tests::process::{PATIENCE, Server};
use tokio::{process::Command, time::timeout};

/// What the browser showed.
struct Visit {
    dom: String,
    /// Requests that the page made, itself included.
    requests: BTreeSet<String>,
}

async fn chromium(home: &Path, url: &str, show: &[&str]) -> Vec<u8> {
    let profile = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        // Nothing else has an address.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--log-net-log={}", home.join("net.json").display()))
        .args(["--virtual-time-budget=10000", "--window-size=1200,900"])
        .args(show)
        .arg(url)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("chromium");
    assert!(output.status.success(), "{}: is chromium installed?", output.status);
    output.stdout
}

async fn visit(server: &Server, path: &str) -> Visit {
    let dom = chromium(server.home(), &format!("{}{path}", server.url()), &["--dump-dom"]).await;
    let log = fs::read(server.home().join("net.json")).expect("a log");
    let log: serde_json::Value = serde_json::from_slice(&log).expect("JSON");
    let kind = &log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"];
    assert!(kind.is_number(), "the log is of another form than expected");
    let events = log["events"].as_array().expect("events").iter();
    let requests = events.filter(|event| event["type"] == *kind).filter_map(|event| {
        // The browser's own affairs have no page as initiator; nor has the page itself.
        let url = event["params"]["url"].as_str()?;
        let by_a_page = event["params"]["initiator"].as_str()? != "not an origin";
        (by_a_page || url.starts_with(&server.url())).then(|| url.to_owned())
    });
    Visit { dom: String::from_utf8(dom).expect("text"), requests: requests.collect() }
}

#[tokio::test]
async fn the_contract_can_be_read_without_the_internet() {
    let server = Server::start(&[]).await;
    server.ready().await;
    for path in ["/", "/docs"] {
        let Visit { dom, requests } = visit(&server, path).await;
        for word in ["Rota", "/v1/tasks/{id}/cancel", "/v1/leases", "NewTask", "idempotency_key"] {
            assert!(dom.contains(word), "{path} lacks {word}: {dom}");
        }
        assert!(!dom.contains("Loading"), "{path} did not come to its end");
        assert!(!dom.contains("Failed: "), "{path} failed");
        let needed = format!("{}/openapi.json", server.url());
        assert!(requests.contains(&needed), "{requests:?}");
        let elsewhere: Vec<_> =
            requests.iter().filter(|url| !url.starts_with(&server.url())).collect();
        assert_eq!(elsewhere, Vec::<&String>::new(), "{path} reaches elsewhere");
    }
}

#[tokio::test]
async fn the_contract_is_drawn() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let picture = server.home().join("docs.png");
    let show = format!("--screenshot={}", picture.display());
    chromium(server.home(), &format!("{}/docs", server.url()), &[&show]).await;
    let picture = fs::read(picture).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG"), "not a picture");
    // An empty page of that size compresses to some 5 kB.
    assert!(picture.len() > 20_000, "{} bytes: nothing was drawn", picture.len());
}
