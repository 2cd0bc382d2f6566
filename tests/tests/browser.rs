//! `/docs` and the dashboard in a real browser, which can reach nothing but the server.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path, process::Stdio, sync::Arc};

use rota_tests::process::{PATIENCE, Server, tool};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};

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
    for path in ["/docs"] {
        let Visit { dom, requests } = visit(&server, path).await;
        for word in
            ["Rota", "/v1/tasks/{id}/cancel", "/v1/leases", "Search operations", "Authorize"]
        {
            assert!(dom.contains(word), "{path} lacks {word}: {dom}");
        }
        let at = |word: &str| dom.find(word).expect(word);
        assert!(at("operations-tag-tasks") < at("operations-tag-schedules"), "tasks come first");
        assert!(!dom.contains("Loading"), "{path} did not come to its end");
        assert!(!dom.contains("errors-wrapper"), "{path} failed");
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

/// Opens an operation, then writes into the page what axe finds, and how wide the page and the window are.
const CHECK: &str = r##"
const look = setInterval(async () => {
  const operation = document.querySelector("#operations-tasks-create_task .opblock-summary-control");
  if (!operation) return;
  clearInterval(look);
  operation.click();
  await new Promise((done) => setTimeout(done, 500));
  const found = await axe.run(document, { runOnly: ["color-contrast", "label", "html-has-lang", "document-title"] });
  const wrong = found.violations.flatMap((rule) => rule.nodes.map((node) => node.target + ": " + node.failureSummary));
  const result = document.createElement("pre");
  result.id = "found";
  const sizes = [document.documentElement.scrollWidth, window.innerWidth];
  result.textContent = JSON.stringify({ wrong, sizes, checked: found.passes.flatMap((rule) => rule.nodes).length });
  document.body.append(result);
}, 200);
"##;

/// Checks a page of the dashboard by all rules, after its own script.
const CHECK_DASHBOARD: &str = r##"
addEventListener("load", async () => {
  if (!document.documentElement.classList.contains("js")) return;
  const found = await axe.run(document);
  const wrong = found.violations.flatMap((rule) => rule.nodes.map((node) => node.target + ": " + node.failureSummary));
  const result = document.createElement("pre");
  result.id = "found";
  const sizes = [document.documentElement.scrollWidth, window.innerWidth];
  result.textContent = JSON.stringify({ wrong, sizes, checked: found.passes.flatMap((rule) => rule.nodes).length });
  document.body.append(result);
});
"##;

/// Serves what the server does, and adds to its pages a script that checks them.
async fn checked(server: SocketAddr, check: &str) -> SocketAddr {
    let axe = fs::read_to_string(tool("axe/axe_core_python/axe.min.js")).expect("a script");
    let script = Arc::new(format!("{axe}\n{check}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, server, script.clone()));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, server: SocketAddr, script: Arc<String>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).expect("a path");
    let answer = if path == "/check.js" {
        let kind = "content-type: text/javascript\r\nconnection: close";
        format!("HTTP/1.1 200 OK\r\n{kind}\r\n\r\n{script}").into_bytes()
    } else {
        let mut upstream = TcpStream::connect(server).await.expect("the server");
        let ask = format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
        upstream.write_all(ask.as_bytes()).await.expect("sent");
        if path == "/ui/live" {
            // It has no end.
            let _ = tokio::io::copy(&mut upstream, &mut stream).await;
            return;
        }
        let mut whole = Vec::new();
        upstream.read_to_end(&mut whole).await.expect("an answer");
        let is_page = path == "/docs" || (path.starts_with("/ui/") && !path.contains("assets"));
        if is_page { with_check(&String::from_utf8_lossy(&whole)) } else { whole }
    };
    // The browser may have closed the connection.
    let _ = stream.write_all(&answer).await;
}

/// The page with the script. Its length is told by the end of the connection.
fn with_check(page: &str) -> Vec<u8> {
    let (head, body) = page.split_once("\r\n\r\n").expect("an answer");
    let head = head.lines().filter(|line| !line.starts_with("content-length"));
    let head: Vec<_> = head.collect();
    let body = body.replace("</body>", "<script src=\"/check.js\"></script></body>");
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

#[tokio::test]
async fn the_page_can_be_read_by_everyone_and_on_a_telephone() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let address = server.url().trim_start_matches("http://").parse().expect("an address");
    let url = format!("http://{}/docs", checked(address, CHECK).await);
    // A window is at least 500 wide; the layout for telephones begins below 640.
    for size in ["1280,900", "500,900"] {
        assert_fit(&server, &url, size, 100).await;
    }
}

/// Shows a page that checks itself in a window of this size. It must find enough, and nothing wrong.
async fn assert_fit(server: &Server, url: &str, size: &str, least: u64) {
    let show = ["--dump-dom".to_owned(), format!("--window-size={size}")];
    let show = show.each_ref().map(String::as_str);
    let dom = String::from_utf8(chromium(server.home(), url, &show).await).expect("text");
    let found =
        dom.split_once("<pre id=\"found\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (found, _) = found.unwrap_or_else(|| panic!("{url} was not checked: {dom}"));
    let found = found
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert!(found["checked"].as_u64() > Some(least), "{found}");
    assert_eq!(found["wrong"], serde_json::json!([]), "{url} at {size}");
    let size = |at: usize| found["sizes"][at].as_u64().expect("a width");
    assert!(size(0) <= size(1), "{url} is wider than the window: {found}");
}

#[tokio::test]
async fn the_dashboard_can_be_read_by_everyone_and_on_a_telephone() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let client = server.client();
    for (name, queue) in [("a/b", "mail/out".to_owned()), ("c", "q".repeat(128))] {
        let task = rota_client::task("k").id(name).queue(queue).label("customer", "7");
        client.create_task(task).await.expect("a task");
    }
    let address = server.url().trim_start_matches("http://").parse().expect("an address");
    let server_of_pages = checked(address, CHECK_DASHBOARD).await;
    let page = |page: &str| format!("http://{server_of_pages}/ui/{page}");
    for (path, size) in [
        ("", "1440,900"),
        ("", "500,900"),
        ("tasks?label=customer%3D7", "1440,900"),
        ("tasks?label=customer%3D7", "500,900"),
        ("task?id=a%2Fb", "1440,900"),
        ("task?id=a%2Fb", "500,900"),
        ("edit?id=a%2Fb", "500,900"),
        ("new", "500,900"),
        ("failures", "500,900"),
        ("queues", "1440,900"),
        ("queue?name=mail%2Fout", "500,900"),
        ("workers", "500,900"),
        ("schedules", "500,900"),
        ("schedule-edit", "500,900"),
        ("calendar-edit", "500,900"),
        ("cluster", "500,900"),
    ] {
        assert_fit(&server, &page(path), size, 20).await;
    }
    let Visit { requests, .. } = visit(&server, "/").await;
    let elsewhere: Vec<_> = requests.iter().filter(|url| !url.starts_with(&server.url())).collect();
    assert_eq!(elsewhere, Vec::<&String>::new(), "the dashboard reaches elsewhere");
    assert!(requests.iter().any(|url| url.ends_with("/app.css")), "{requests:?}");
}
