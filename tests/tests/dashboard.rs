//! The dashboard in a real browser, in the moments in which pages of others fail their readers: while they refresh, while
//! the network is slow, while nothing answers, and with names that nobody expects. `browser.rs` looks at pages that stand
//! still.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use rota_client::{Client, task, v1::QueueRequest};
use rota_tests::{
    browser::{Browser, Door, Page, State},
    cluster::{Cluster, Shape},
    process::Server,
    store::Backend,
};

const PAGES: [&str; 11] = [
    "",
    "tasks",
    "failures",
    "queues",
    "workers",
    "schedules",
    "cluster",
    "new",
    "schedule-edit",
    "calendars",
    "calendar-edit",
];
/// Some moments.
const SECOND: Duration = Duration::from_secs(1);

/// What is wrong with names on a page: it is wider than the window, which a telephone shows smaller; or text of others does
/// not stand apart, so that its direction changes what is around it.
const FAULTS: &str = r"(() => {
  const wide = document.scrollingElement.scrollWidth, faults = [];
  const found = (what, one) => faults.push(what + ': ' + one.outerHTML.slice(0, 120));
  if (wide !== 390 || innerWidth !== 390) {
    faults.push('it is ' + wide + ' pixels wide');
    for (const one of document.querySelectorAll('main *')) {
      if (one.getBoundingClientRect().right > 391 && !one.closest('.scroll table, pre, .tree')) found('too wide', one);
    }
  }
  const isForeign = (text) => /[\u0590-\u08ff]/.test(text);
  for (const one of document.querySelectorAll('main *')) {
    const text = [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join('');
    if (isForeign(text) && !one.closest('bdi, [dir=auto], option')) found('not apart', one);
    const isTyped = one.matches('input:not([type=hidden], [type=checkbox]), textarea');
    if (isTyped && isForeign(one.value) && one.dir !== 'auto') found('not apart', one);
  }
  return faults.slice(0, 8);
})()";

/// What all scenes share.
struct Stage {
    browser: Arc<Browser>,
    client: Client,
    door: Door,
    /// Ends with the stage.
    _server: Server,
}

impl Stage {
    async fn new() -> Self {
        let server = Server::start(&["--insecure-no-auth"]).await;
        let (browser, ()) = (Browser::start(), server.ready().await);
        let address: SocketAddr =
            server.url().trim_start_matches("http://").parse().expect("an address");
        Self { browser, client: server.client(), door: Door::to(address).await, _server: server }
    }

    async fn open(&self, page: &str) -> Page {
        let page = self.browser.open(&self.door.url(page)).await;
        // It hears of changes.
        page.until("document.getElementById('dot').dataset.state === 'on'").await;
        page
    }

    async fn create(&self, count: usize) {
        for _ in 0..count {
            self.client.create_task(task("k").queue("q")).await.expect("a task");
        }
    }

    /// Waits until a page has been asked for anew that many times.
    async fn refreshed(&self, page: &str, times: usize) {
        let what = format!("GET /ui/{page}");
        let before = self.door.asked(&what);
        let mut look = tokio::time::interval(SECOND / 5);
        while self.door.asked(&what) < before + times {
            self.create(1).await;
            look.tick().await;
        }
    }
}

#[tokio::test]
async fn readers_keep_their_place() {
    let stage = Stage::new().await;
    counts_never_flicker(&stage).await;
    shared_answers_come_up_to_date(&stage).await;
    questions_and_forms_stay(&stage).await;
    rows_stay_under_the_pointer(&stage).await;
    a_slow_network_does_nothing_twice(&stage).await;
    numbers_stay_exact(&stage).await;
    names_of_others_fit_a_telephone(&stage).await;
    tasks_can_be_read_and_changed_without_scripts(&stage).await;
    forms_work_without_scripts(&stage).await;
}

/// Not while the page refreshes, and not while it cannot.
async fn counts_never_flicker(stage: &Stage) {
    stage.create(5).await;
    let page = stage.open("").await;
    page.value(
        "(() => { window.seen = []; const look = () => seen.push([...document.querySelectorAll('#totals strong')].map((one) => one.textContent).join(' ')); \
         look(); new MutationObserver(look).observe(document.getElementById('main'), { subtree: true, childList: true, characterData: true }); })()",
    )
    .await;
    stage.create(3).await;
    page.until("seen.at(-1) === '0 8 0 0 0'").await;
    stage.door.set(State::Failing);
    stage.create(2).await;
    page.until("document.getElementById('stale').textContent.includes('does not answer')").await;
    assert!(page.text("#totals").await.contains('8'), "{}", page.text("#totals").await);
    stage.door.set(State::Open);
    page.until("seen.at(-1) === '0 10 0 0 0'").await;
    page.until("document.getElementById('stale').textContent === ''").await;
    let seen = page.value("seen").await;
    let seen = seen.as_array().expect("a list").iter().filter_map(|one| one.as_str());
    let pending = seen.map(|one| {
        let number = one.split(' ').nth(1).and_then(|number| number.parse::<u32>().ok());
        number.unwrap_or_else(|| panic!("a count was not there: {one:?}"))
    });
    assert!(pending.is_sorted(), "a count went back");
    page.close().await;
}

/// Counts are shared by pages. One that was told a count from before a change asks again, although nothing else happens.
async fn shared_answers_come_up_to_date(stage: &Stage) {
    let page = stage.open("tasks?queue=shared").await;
    let count = "document.querySelector('#statuses [data-state=cancelled] .number')?.textContent";
    for number in 1..=3 {
        let new = task("k").queue("shared").delay(SECOND * 3600);
        let id = stage.client.create_task(new).await.expect("a task").id;
        // Another page asks just before the change.
        page.value("window.asked = false, fetch(location.href).then(() => window.asked = true), 0")
            .await;
        page.until("asked").await;
        stage.client.cancel_task(&id).await.expect("cancelled");
        page.until(&format!("{count} === '{number}'")).await;
    }
    page.close().await;
}

async fn questions_and_forms_stay(stage: &Stage) {
    let page = stage.open("queues").await;
    let pause = "form[data-confirm] button";
    page.press(pause, 1).await;
    page.until("document.getElementById('confirm').open").await;
    let question = page.text("#confirm-text").await;
    stage.refreshed("queues", 2).await;
    assert_eq!(page.value("document.getElementById('confirm').open").await, true);
    assert_eq!(page.text("#confirm-text").await, question);
    let name = question.strip_prefix("Pause the queue ").and_then(|rest| rest.split('?').next());
    let name = name.unwrap_or_else(|| panic!("another question: {question}"));
    page.press("#confirm button[value=no]", 1).await;
    page.until("!document.getElementById('confirm').open").await;
    // The answer is for what was asked, whatever the page has heard since.
    page.press(pause, 1).await;
    page.until("document.getElementById('confirm').open").await;
    stage.refreshed("queues", 2).await;
    page.press("#confirm button[value=yes]", 1).await;
    page.until("document.querySelector('.flash')?.innerText.includes('queue is paused')").await;
    let list = stage.client.all_queues().await.expect("queues");
    let paused: Vec<_> = list.queues.iter().filter(|queue| queue.paused).collect();
    assert!(paused.len() == 1 && paused[0].name == name, "{paused:?}");
    let queue = QueueRequest { queue: name.to_owned() };
    stage.client.resume_queue(queue).await.expect("resumed");

    page.go(&stage.door.url("tasks")).await;
    page.write("form.filter input[name=kind]", "half a wo").await;
    page.press("#list tbody tr:nth-child(3) input[type=checkbox]", 1).await;
    let chosen = "document.querySelector('#list input:checked')?.value";
    // A press is not waited for.
    page.until(chosen).await;
    let before = page.value(chosen).await;
    stage.refreshed("tasks", 2).await;
    assert_eq!(page.value(chosen).await, before, "the selection is lost");
    assert_eq!(
        page.value("document.querySelector('form.filter input[name=kind]').value").await,
        "half a wo"
    );
    page.close().await;
}

async fn rows_stay_under_the_pointer(stage: &Stage) {
    let page = stage.open("tasks").await;
    let row = "#list tbody tr:nth-child(4)";
    page.point_at(&format!("{row} td:nth-child(4)")).await;
    let before = page.text(row).await;
    stage.refreshed("tasks", 2).await;
    page.until("document.getElementById('pending').textContent.includes('update')").await;
    assert_eq!(page.text(row).await, before, "the row under the pointer is another");
    page.point_at("").await;
    page.until("document.getElementById('pending').textContent === ''").await;
    assert_ne!(page.text(row).await, before, "what was held did not come");

    // The row that the keys chose goes on being chosen, and a window that is scrolled shows the same rows.
    page.key('j').await;
    page.key('j').await;
    let current = "document.querySelector('tr[data-current] .id a')?.title";
    let chosen = page.value(current).await;
    assert!(chosen.is_string(), "no row is chosen");
    page.size(1440, 360).await;
    let top = "(() => { const row = [...document.querySelectorAll('#list tbody tr')].find((row) => row.querySelector('.id a').title === window.read); return Math.round(row.getBoundingClientRect().top); })()";
    page.value("scrollTo(0, 400), window.read = [...document.querySelectorAll('#list tbody tr')].find((row) => row.getBoundingClientRect().top >= 0).querySelector('.id a').title").await;
    let read = page.value(top).await;
    let first = page.text("#list tbody tr .id a").await;
    stage.refreshed("tasks", 2).await;
    page.until(&format!(
        "document.querySelector('#list tbody tr .id a').innerText.trim() !== '{first}'"
    ))
    .await;
    assert_eq!(page.value(current).await, chosen, "the chosen row is another");
    let jump = page.value(top).await.as_i64().zip(read.as_i64()).map(|(now, then)| now - then);
    // A window scrolls by whole pixels.
    assert!(jump.is_some_and(|pixels| pixels.abs() <= 2), "the row that is read jumped: {jump:?}");
    page.close().await;
}

/// A press leads where it leads, whatever comes meanwhile; and two presses are one change.
async fn a_slow_network_does_nothing_twice(stage: &Stage) {
    let page = stage.open("tasks").await;
    let id = page.value("document.querySelector('#list .id a').title").await;
    stage.door.set(State::Slow(SECOND * 2));
    page.press("#list .id a", 1).await;
    // The list would refresh itself now.
    stage.create(3).await;
    page.until("location.pathname.endsWith('/task')").await;
    stage.refreshed("task", 1).await;
    page.until("document.readyState === 'complete' && location.pathname.endsWith('/task')").await;
    assert!(page.value("location.href").await.as_str().is_some_and(|url| url.contains('?')));
    assert!(page.text("main").await.contains(id.as_str().expect("an id")));

    stage.door.set(State::Open);
    page.go(&stage.door.url("new?kind=twice&queue=q")).await;
    page.write("input[name=kind]", "twice").await;
    stage.door.set(State::Slow(SECOND * 2));
    let before = stage.door.asked("POST /ui/new");
    page.press("form.draft button[type=submit].main", 2).await;
    page.until("location.pathname.endsWith('/task')").await;
    stage.door.set(State::Open);
    assert_eq!(stage.door.asked("POST /ui/new"), before + 1, "the form was sent twice");
    page.close().await;
}

/// A script that reads a number rounds it from 2^53 on. And a part that was refreshed shows what the page showed at first.
async fn numbers_stay_exact(stage: &Stage) {
    let payload = serde_json::json!({"n": 9_007_199_254_740_993_u64, "most": u64::MAX});
    let new = task("exact").id("exact").payload_json(&payload).delay(SECOND * 3600);
    stage.client.create_task(new).await.expect("a task");
    let page = stage.open("task?id=exact").await;
    let is_exact = async || {
        let text = page.text("main").await;
        ["9007199254740993", "18446744073709551615"].iter().all(|number| text.contains(number))
    };
    assert!(is_exact().await, "{}", page.text("main").await);
    stage.client.cancel_task("exact").await.expect("cancelled");
    page.until("document.querySelector('main').innerText.includes('cancelled')").await;
    assert!(is_exact().await, "{}", page.text("main").await);
    page.close().await;
}

/// Names as long as they can be, with slashes, in scripts from right to left, and a payload of a megabyte.
async fn names_of_others_fit_a_telephone(stage: &Stage) {
    let long = |part: &str| part.repeat(128).chars().take(128).collect::<String>();
    let client = &stage.client;
    let (id, kind, queue) = (long("a/b"), long("W"), long("q"));
    let payload =
        serde_json::json!({"key": "x".repeat(1_000_000), "مفتاح": "قيمة طويلة ".repeat(50)});
    let new = task(kind.clone()).id(id.clone()).queue(queue.clone()).payload_json(&payload);
    let described =
        new.label("customer", "ש".repeat(60)).label(long("l"), "7").description("نص ".repeat(80));
    client.create_task(described).await.expect("a task");
    let page = stage.open("").await;
    page.size(390, 844).await;
    let to = |page: &str, name: &str, value: &str| format!("{page}?{}", query(&[(name, value)]));
    let mut pages: Vec<String> = PAGES.iter().map(|page| (*page).to_owned()).collect();
    pages.push(to("task", "id", &id));
    pages.push(to("edit", "id", &id));
    pages.push(to("queue", "name", &queue));
    pages.push(to("tasks", "queue", &queue));
    pages.push(to("tasks", "kind", &kind));
    pages.push(to("failures", "queue", &queue));
    pages.push(to("new", "from", &id));
    let mut faults = Vec::new();
    for path in pages {
        page.go(&stage.door.url(&path)).await;
        let found = page.value(FAULTS).await;
        if found != serde_json::json!([]) {
            faults.push(format!("{path}: {found}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    page.close().await;
}

fn query(pairs: &[(&str, &str)]) -> String {
    let encoded =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

async fn tasks_can_be_read_and_changed_without_scripts(stage: &Stage) {
    let client = &stage.client;
    client.create_task(task("plain").queue("plain").id("plain/1")).await.expect("a task");
    client.create_task(task("plain").queue("plain").id("plain/2")).await.expect("a task");
    let page = stage.browser.open(&stage.door.url("tasks")).await;
    page.without_scripts(true).await;
    page.go(&stage.door.url("tasks")).await;
    assert_eq!(page.value("document.documentElement.classList.contains('js')").await, false);
    page.write("form.filter input[name=queue]", "plain").await;
    page.press("form.filter button", 1).await;
    page.until("location.search.includes('queue=plain') && document.readyState === 'complete'")
        .await;
    assert_eq!(page.value("document.querySelectorAll('#list tbody tr').length").await, 2);
    page.press("#list tbody tr:nth-child(2) input[type=checkbox]", 1).await;
    page.press("form#bulk button[value=cancel], button[form=bulk][value=cancel]", 1).await;
    // The question is a page of its own.
    page.until("document.querySelector('main').innerText.includes('1 task')").await;
    page.press("main form button[type=submit]", 1).await;
    page.until("document.querySelector('.flash')?.innerText.includes('1')").await;
    let cancelled = client.get_task("plain/1").await.expect("it is there");
    assert_eq!(cancelled.status(), rota_client::v1::TaskStatus::Cancelled);
    page.close().await;
}

/// A form that asks first, one that does not, and one with fields. Nothing is shown that only the script can do.
async fn forms_work_without_scripts(stage: &Stage) {
    let paused = async || {
        let list = stage.client.all_queues().await.expect("queues");
        list.queues.iter().any(|queue| queue.name == "plain" && queue.paused)
    };
    let page = stage.browser.open(&stage.door.url("queues")).await;
    page.without_scripts(true).await;
    page.go(&stage.door.url("queues")).await;
    page.press("form[data-confirm*='queue plain'] button", 1).await;
    page.until(
        "document.querySelector('form.confirm').innerText.includes('Pause the queue plain?')",
    )
    .await;
    assert!(!paused().await, "it was not asked for");
    page.press("form.confirm button[type=submit]", 1).await;
    page.until("document.querySelector('.flash').innerText.includes('queue is paused')").await;
    assert!(paused().await);
    page.go(&stage.door.url("queue?name=plain")).await;
    page.press("#switch form.change button", 1).await;
    page.until("document.querySelector('.flash').innerText.includes('resumed')").await;
    assert!(!paused().await);

    page.go(&stage.door.url("new")).await;
    page.write("form.draft input[name=kind]", "typed").await;
    page.write("form.draft input[name=queue]", "plain").await;
    page.press("form.draft button[type=submit].main", 1).await;
    page.until("location.pathname.endsWith('/task') && document.readyState === 'complete'").await;
    let scripted = "[...document.querySelectorAll('.scripted')]";
    assert_ne!(page.value(&format!("{scripted}.length")).await, 0);
    let shown = format!("{scripted}.filter((one) => one.checkVisibility()).length");
    assert_eq!(page.value(&shown).await, 0, "buttons that do nothing");
    page.press("form[data-confirm*='ancel'] button", 1).await;
    page.until("document.querySelector('form.confirm')").await;
    page.press("form.confirm button[type=submit]", 1).await;
    page.until("document.querySelector('.flash').innerText.includes('cancelled')").await;
    assert!(page.text("main").await.contains("typed"));
    page.close().await;
}

/// The store stands still at first, so that nobody takes over until pages have said what they lack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_outlive_their_leader() {
    let shape = Shape { backend: Backend::Etcd, servers: 1, nodes: 3, workers: 0 };
    let mut cluster = Cluster::start(shape, Path::new("none")).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let client = cluster.client(follower);
    for _ in 0..3 {
        client.create_task(task("k").queue("q")).await.expect("a task");
    }
    let browser = Browser::start();
    let overview = |node: usize| format!("{}/ui/", cluster.url(node));
    let (follows, leads) = (overview(follower), overview(leader));
    let page = browser.open(&follows).await;
    every_page_is_whole(&page, &follows).await;
    a_change_passes_a_follower(&page, &follows).await;
    texts_are_copied_over_plain_http(&page, &follows).await;

    page.go(&follows).await;
    let other = browser.open(&leads).await;
    for page in [&page, &other] {
        page.until("document.getElementById('dot').dataset.state === 'on'").await;
        page.value("window.isTheSame = true").await;
    }
    cluster.store.servers[0].signal(Signal::SIGSTOP);
    cluster.nodes[leader].kill().await;
    let stale =
        |words: &str| format!("document.getElementById('stale').textContent.includes('{words}')");
    other.until(&stale("No connection to this node")).await;
    page.until(&stale("The cluster does not answer")).await;
    page.until("document.getElementById('attention').innerText.includes('cannot serve')").await;
    for page in [&page, &other] {
        assert_eq!(page.text("#totals .tile:nth-child(2) strong").await, "3");
        assert!(!page.text("#attention").await.contains("Nothing needs attention"));
    }
    cluster.store.servers[0].signal(Signal::SIGCONT);
    cluster.leader().await;
    client.create_task(task("k").queue("q")).await.expect("a task");
    let is_fresh = "isTheSame && document.getElementById('stale').textContent === '' && document.querySelector('#totals .tile:nth-child(2) strong').innerText === '4'";
    page.until(is_fresh).await;
    cluster.nodes[leader].start();
    other.until(is_fresh).await;
}

/// Browsers have a clipboard for scripts over TLS and on their own machine alone.
async fn texts_are_copied_over_plain_http(page: &Page, base: &str) {
    page.go(&format!("{base}tasks")).await;
    assert_eq!(page.value("isSecureContext").await, false, "it is no plain HTTP");
    let copied = page.value("document.querySelector('#list [data-copy]').dataset.copy").await;
    page.press("#list [data-copy]", 1).await;
    page.until("document.querySelector('#list [data-done]')").await;
    page.paste("#search").await;
    assert_eq!(page.value("document.getElementById('search').value").await, copied);
}

async fn every_page_is_whole(page: &Page, base: &str) {
    for path in PAGES {
        page.go(&format!("{base}{path}")).await;
        let status =
            page.value("performance.getEntriesByType('navigation')[0].responseStatus").await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(page.text("main .trouble").await, "", "a part of the page {path:?} failed");
        assert_ne!(page.text("main h1").await, "", "{path}");
    }
}

async fn a_change_passes_a_follower(page: &Page, base: &str) {
    page.go(&format!("{base}queue?name=q")).await;
    page.press("details.sheeted summary", 1).await;
    page.until("document.querySelector('details.sheeted').open").await;
    page.write("details.sheeted input[name=by]", "ann").await;
    page.write("details.sheeted input[name=note]", "migration").await;
    page.press("details.sheeted button.main", 1).await;
    page.until("document.querySelector('.flash')?.innerText.includes('paused')").await;
    let pause = page.text("#pause").await;
    assert!(pause.contains("by ann") && pause.contains("migration"), "{pause}");
}
