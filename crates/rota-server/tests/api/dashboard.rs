//! The dashboard of a real node: its pages, its links, the sign-in, and the rules for changes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Request, request::Builder};
use http_body_util::Full;
use rota_engine::EngineOptions;
use rota_server::{ServerOptions, Tokens};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::OwnedReadHalf,
};

use crate::harness::{Answer, Node, PATIENCE};

const TOKEN: &str = "a-token-of-this-test";

async fn with_token(options: ServerOptions) -> Node {
    let tokens = Tokens::new([TOKEN.to_owned()]).unwrap();
    let options = ServerOptions { tokens, ..options };
    Node::start_with(EngineOptions::default(), options).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    node.send(with(Request::get(path), headers).body(Full::default()).unwrap()).await
}

/// Posts a form, as a page of the dashboard does.
async fn post(node: &Node, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
    let own = format!("http://{}", node.address);
    let mut request = with(Request::post(path), headers)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form.to_owned())))
        .unwrap();
    request.headers_mut().entry("origin").or_insert(own.parse().unwrap());
    node.send(request).await
}

fn with(request: Builder, headers: &[(&str, &str)]) -> Builder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// The values of an attribute in a page.
fn attributes(page: &str, name: &str) -> BTreeSet<String> {
    let opening = format!(" {name}=\"");
    let parts = page.split(&opening).skip(1);
    let values = parts.map(|rest| rest.split('"').next().unwrap());
    values.map(|value| value.replace("&quot;", "\"").replace("&amp;", "&")).collect()
}

/// A form of a page, as a browser without scripts has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    /// Where it is sent.
    action: String,
    /// What the script asks before.
    question: Option<String>,
    /// What it sends, whatever is typed.
    hidden: Vec<(String, String)>,
}

/// The forms of a page that change something. Each form says how it is sent, and has a button for it.
fn forms(path: &str, page: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for form in page.split("<form").skip(1) {
        let (tag, rest) = form.split_once('>').unwrap();
        let (inside, _) = rest.split_once("</form>").unwrap();
        let one = |of: &str, name: &str| attributes(of, name).pop_first();
        let is_sent = inside.contains(" type=\"submit\"");
        assert!(is_sent || tag.contains("role=\"search\""), "{path} has no button for {tag}");
        let inputs = inside.split("<input").skip(1).filter_map(|input| input.split('>').next());
        let hidden = inputs
            .filter(|input| input.contains(" type=\"hidden\""))
            .map(|input| (one(input, "name").unwrap(), one(input, "value").unwrap_or_default()));
        let hidden: Vec<_> = hidden.collect();
        match one(tag, "method").as_deref() {
            Some("dialog") => {}
            Some("post") => forms.push(Form {
                action: one(tag, "action").unwrap(),
                question: one(tag, "data-confirm"),
                hidden,
            }),
            Some("get") => assert!(
                !hidden
                    .iter()
                    .any(|(name, _)| matches!(name.as_str(), "do" | "action" | "version")),
                "{path} makes a change by GET: {tag}"
            ),
            // A browser would ask for a page instead of making the change.
            other => panic!("{path} has a form with the method {other:?}: {tag}"),
        }
    }
    forms
}

/// A page that can be shown: nothing inline, all links relative, and one level deep.
fn check_page(path: &str, answer: &Answer) -> String {
    let page = text(answer);
    let policy = answer.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
    assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
        assert!(!page.contains(inline), "{path} has {inline}");
    }
    for script in page.split("<script").skip(1) {
        let (opening, rest) = script.split_once('>').unwrap();
        assert!(
            opening.contains(" src=\"assets/") && rest.starts_with("</script>"),
            "{path}: {opening}"
        );
    }
    for name in ["href", "src", "action"] {
        for link in attributes(&page, name) {
            let is_local =
                link.starts_with("assets/") || link.starts_with('#') || link.starts_with("./");
            let target = link.split('?').next().unwrap();
            assert!(is_local || !target.contains(['/', ':']), "{path} links to {link}");
        }
    }
    page
}

#[tokio::test]
async fn every_link_of_every_page_is_relative_and_leads_somewhere() {
    let node = Node::start().await;
    let long = ["n".repeat(128), "m".repeat(128)];
    for (id, queue) in [("x/y:z", "mail/out"), ("..x", "q"), (long[0].as_str(), long[1].as_str())] {
        node.create(&serde_json::json!({ "id": id, "kind": "k/1", "queue": queue })).await;
    }
    node.post("/v1/queues/q/pause", "").await;
    node.has_feature_level(2).await;
    let yearly = serde_json::json!({
        "name": "a/b", "expressions": ["30 2 1 1 *"], "template": { "kind": "report" },
    });
    for (path, body) in [
        ("/v1/schedules/a%2Fb", &yearly),
        ("/v1/calendars/c%2Fd", &serde_json::json!({ "entries": [{ "days": "12-25" }] })),
    ] {
        let put = Request::put(path).header("content-type", "application/json");
        let answer = node.send(put.body(Full::from(body.to_string())).unwrap()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    node.create(&serde_json::json!({ "id": "runs", "kind": "runs" })).await;
    node.lease("runs").await;
    let mut changes = BTreeSet::new();
    let mut open = vec!["./".to_owned()];
    let mut seen = BTreeSet::from_iter(open.clone());
    let mut visits = BTreeMap::<_, u32>::new();
    while let Some(link) = open.pop() {
        let path = format!("/ui/{}", link.trim_start_matches("./"));
        let answer = node.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        if link.starts_with("assets/") {
            assert!(answer.header("cache-control").contains("immutable"), "{path}");
            continue;
        }
        let page = check_page(&path, &answer);
        changes.extend(forms(&path, &page));
        let links = attributes(&page, "href").into_iter().chain(attributes(&page, "src"));
        for link in links.filter(|link| !link.starts_with('#')) {
            // Each combination of filters is a page of its own; a few with the same parameters are enough.
            let visited = visits.entry(parameters(&link)).or_default();
            if *visited < 8 && seen.insert(link.clone()) {
                *visited += 1;
                open.push(link);
            }
        }
    }
    for link in [
        "task?id=x%2Fy%3Az",
        "edit?id=x%2Fy%3Az",
        "queue?name=mail%2Fout",
        "schedule?name=a%2Fb",
        "schedule-edit?name=a%2Fb",
        "schedule-backfill?name=a%2Fb",
        "calendar?name=c%2Fd",
        "calendar-edit?name=c%2Fd",
        "calendar-edit",
        "schedule-edit",
        "new",
        "failures",
        "workers",
        "cluster",
    ] {
        assert!(seen.contains(link), "no page leads to {link}: {seen:?}");
    }
    forms_ask_before_what_cannot_be_undone(&node, &changes).await;
    node.stop().await;
}

/// The page of a link, and the names of its parameters.
fn parameters(link: &str) -> (String, BTreeSet<String>) {
    let (page, query) = link.split_once('?').unwrap_or((link, ""));
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    (page.to_owned(), names.map(str::to_owned).collect())
}

/// The question that the script would have asked is a page, which sends the same again.
async fn forms_ask_before_what_cannot_be_undone(node: &Node, changes: &BTreeSet<Form>) {
    let asked: Vec<_> = changes.iter().filter(|form| form.question.is_some()).collect();
    for action in ["queues", "task", "workers", "schedule", "calendar"] {
        let is_there = asked.iter().any(|form| form.action == action);
        assert!(is_there, "no form of {action} asks: {changes:?}");
    }
    let before = node.get("/v1/tasks").await.json();
    for form in asked {
        let pairs =
            form.hidden.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let sent = pairs.collect::<Vec<_>>().join("&");
        let answer = post(node, &format!("/ui/{}", form.action), &sent, &[]).await;
        assert_eq!(answer.status, 200, "{form:?} asks nothing: {answer:?}");
        let question = forms(&form.action, &check_page(&form.action, &answer));
        let again = question.iter().find(|one| one.action == form.action).unwrap();
        assert_eq!(again.hidden, form.hidden, "what was asked for is lost");
    }
    assert_eq!(node.get("/v1/tasks").await.json(), before, "a question changed something");
}

/// Everything as `%xx`.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn browsers_are_shown_the_dashboard_and_programs_the_contract() {
    let node = Node::start().await;
    for (accept, to) in [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "ui/"),
        ("*/*", "/docs"),
        ("application/json", "/docs"),
    ] {
        let answer = get(&node, "/", &[("accept", accept)]).await;
        assert_eq!((answer.status, answer.header("location")), (307, to), "{accept}");
    }
    assert_eq!(node.get("/ui").await.header("location"), "ui/");
    let answer = node.get("/ui/nothing").await;
    assert_eq!(answer.status, 404);
    assert!(check_page("/ui/nothing", &answer).contains("There is no such page"));
    let answer = node.get("/ui/javascript:alert(1)?a=%22").await;
    assert_eq!(answer.status, 404);
    check_page("/ui/javascript:alert(1)", &answer);
    let answer = node.get("/ui/tasks?made_up=1").await;
    assert_eq!(answer.status, 400);
    assert!(check_page("/ui/tasks", &answer).contains("is not a property of tasks"));
    node.stop().await;
}

#[tokio::test]
async fn the_address_of_the_list_is_its_filter_and_an_id_leads_to_its_task() {
    let node = Node::start().await;
    node.create(&serde_json::json!({ "id": "one", "kind": "a", "labels": { "x": "<b>1&2" } }))
        .await;
    node.create(&serde_json::json!({ "id": "two", "kind": "b" })).await;
    let page = check_page("/ui/tasks", &node.get("/ui/tasks?label=x%3D%3Cb%3E1%262&queue=").await);
    assert!(page.contains("task?id=one") && !page.contains("task?id=two"), "{page}");
    assert!(page.contains("x=&lt;b&gt;1&amp;2") && !page.contains("<b>"), "{page}");
    let answer = node.get("/ui/tasks?search=one").await;
    assert_eq!((answer.status, answer.header("location")), (303, "task?id=one"));
    let page = check_page("/ui/tasks", &node.get("/ui/tasks?search=%3Cscript%3E").await);
    assert!(page.contains("No task matches this filter"), "{page}");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
    node.stop().await;
}

#[tokio::test]
async fn pages_are_compressed_for_browsers_that_read_it() {
    let node = Node::start().await;
    let answer = get(&node, "/ui/", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut page = String::new();
    let mut reader = flate2::read::GzDecoder::new(&*answer.body);
    std::io::Read::read_to_string(&mut reader, &mut page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    assert!(answer.body.len() < 12_000, "{} bytes", answer.body.len());
    // A node of another version has other files under the same names.
    let answer = node.get("/ui/assets/0000/app.css").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    assert_eq!(node.get("/ui/assets/0000/../app.css").await.status, 404);
    node.stop().await;
}

#[tokio::test]
async fn a_token_is_exchanged_for_a_session_that_opens_the_pages_alone() {
    let node = with_token(ServerOptions::default()).await;
    let answer = node.get("/ui/tasks?status=failed").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "login?back=tasks%3Fstatus%3Dfailed")
    );
    assert_eq!(node.get("/ui/live").await.status, 401);
    let page = check_page("/ui/login", &node.get("/ui/login?back=tasks%3Fstatus%3Dfailed").await);
    assert!(page.contains("API token") && !page.contains("Schedules"), "{page}");

    let wrong = post(&node, "/ui/login", "token=another-token-of-it", &[]).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    let form = format!("token={TOKEN}&back=tasks%3Fstatus%3Dfailed");
    let answer = post(&node, "/ui/login", &form, &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "tasks?status=failed"));
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert!(
        !cookie.contains(TOKEN) && !cookie.contains("Secure") && !cookie.contains("Path"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();

    let page = get(&node, "/ui/", &[("cookie", cookie)]).await;
    assert_eq!(page.status, 200);
    assert!(check_page("/ui/", &page).contains("Sign out"));
    let forged = format!("{}x", &cookie[..cookie.len() - 1]);
    assert_eq!(get(&node, "/ui/", &[("cookie", &forged)]).await.status, 303);
    // The API takes tokens, and no cookies.
    assert_eq!(get(&node, "/v1/tasks", &[("cookie", cookie)]).await.status, 401);

    let evil = post(&node, "/ui/login", &format!("token={TOKEN}&back=//evil.example"), &[]).await;
    assert_eq!(evil.header("location"), "./");
    let out = post(&node, "/ui/logout", "", &[("cookie", cookie)]).await;
    assert_eq!((out.status, out.header("location")), (303, "login?flash=signed-out"));
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
    node.stop().await;
}

#[tokio::test]
async fn changes_come_from_pages_of_the_dashboard_alone() {
    let node = with_token(ServerOptions::default()).await;
    let form = format!("token={TOKEN}");
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
    ] {
        let answer = post(&node, "/ui/login", &form, headers).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, ""), "{headers:?}");
        assert!(text(&answer).contains("The change was refused"));
    }
    let json = [("content-type", "application/json")];
    assert_eq!(post(&node, "/ui/login", &form, &json).await.status, 400, "one type too many");
    node.stop().await;

    let public_origin = Some("https://rota.example".to_owned());
    let node = with_token(ServerOptions { public_origin, ..ServerOptions::default() }).await;
    let headers = [("origin", "https://rota.example"), ("sec-fetch-site", "same-origin")];
    let answer = post(&node, "/ui/login", &form, &headers).await;
    assert_eq!(answer.status, 303);
    assert!(answer.header("set-cookie").contains("; Secure"), "the browser connects by TLS");
    node.stop().await;
}

#[tokio::test]
async fn a_queue_is_paused_by_a_form_that_asks_first() {
    let node = Node::start().await;
    let name = "a/b:c";
    node.create(&serde_json::json!({ "kind": "k", "queue": name })).await;
    let paused = || async { node.get("/v1/queues").await.json()["queues"][0]["paused"].clone() };
    assert_eq!(node.get("/ui/queues?do=pause&name=a%2Fb%3Ac&confirmed=yes").await.status, 200);
    assert_eq!(paused().await, false, "nothing changes by GET");
    let form = "do=pause&name=a%2Fb%3Ac";
    let asked = post(&node, "/ui/queues", form, &[]).await;
    assert_eq!(asked.status, 200);
    let page = check_page("/ui/queues", &asked);
    assert!(page.contains("Pause the queue a/b:c?") && page.contains("value=\"a/b:c\""), "{page}");
    assert_eq!(paused().await, false);
    let answer = post(&node, "/ui/queues", &format!("{form}&confirmed=yes"), &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "queues?flash=queue-paused"));
    assert_eq!(paused().await, true);
    let page = check_page("/ui/queues", &node.get("/ui/queues?flash=queue-paused").await);
    assert!(page.contains("The queue is paused.") && page.contains("Resume"), "{page}");
    let answer = post(&node, "/ui/queues", "do=resume&name=a%2Fb%3Ac", &[]).await;
    assert_eq!(answer.header("location"), "queues?flash=queue-resumed");
    assert_eq!(paused().await, false);
    let answer = post(&node, "/ui/queues", "do=resume&name=a%20b", &[]).await;
    assert_eq!(answer.status, 400);
    assert!(check_page("/ui/queues", &answer).contains("The request is not valid"));
    node.stop().await;
}

#[tokio::test]
async fn without_tokens_only_this_machine_sees_the_pages() {
    let node = Node::start().await;
    assert_eq!(get(&node, "/ui/", &[("host", "evil.example")]).await.status, 403);
    let answer = node.get("/ui/login?back=queues").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "queues"),
        "nothing to sign in to"
    );
    node.stop().await;
}

#[tokio::test]
async fn open_pages_hear_what_changed_and_nothing_else() {
    let node = Node::start().await;
    let stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let ask = format!("GET /ui/live HTTP/1.1\r\nhost: {}\r\n\r\n", node.address);
    writer.write_all(ask.as_bytes()).await.unwrap();
    let mut heard = Heard { reader: &mut reader, text: String::new() };
    heard.until("content-type: text/event-stream").await;
    // The stream of the API has begun: everything may have changed before.
    heard.until("data: tasks queues workers schedules cluster\n\n").await;
    node.create(&serde_json::json!({ "id": "a-secret-id", "kind": "k" })).await;
    heard.until("data: tasks").await;
    assert!(!heard.text.contains("secret"), "{}", heard.text);
    // An open stream does not hold up the stop.
    node.stop().await;
}

/// What a stream said so far.
struct Heard<'a> {
    reader: &'a mut OwnedReadHalf,
    text: String,
}

impl Heard<'_> {
    /// Reads until the text comes, and forgets what came before.
    async fn until(&mut self, text: &str) {
        let read = async {
            let mut chunk = [0; 1024];
            while !self.text.contains(text) {
                let length = self.reader.read(&mut chunk).await.unwrap();
                assert!(length > 0, "the stream ended before {text:?}: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&chunk[..length]));
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect(text);
        let end = self.text.find(text).unwrap() + text.len();
        self.text.drain(..end);
    }
}
