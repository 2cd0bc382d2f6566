//! What people come to the dashboard with, in a real browser: each question is answered within three presses of the
//! overview, and the time that it took is printed. `ROTA_TEST_SCENE_TASKS=700000` asks in a large history.

#![expect(clippy::print_stdout, reason = "how long an answer took is for people to judge")]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rota_client::{Client, Date, task, v1::TaskStatus};
use rota_tests::{
    browser::{Browser, Page},
    process::{Server, command},
};
use rota_worker::{HandlerError, TaskContext, Worker};

/// Presses to an answer, at most.
const PRESSES: u32 = 3;
/// Tasks that end well, beside those of the scenes.
const ENDED: usize = 200;
/// Tasks of one request.
const BATCH: usize = 1000;
const FAILED: usize = 12;

/// Somebody with a question, on the overview.
struct Visitor {
    page: Page,
    began: Instant,
    presses: u32,
}

impl Visitor {
    async fn come(browser: &Arc<Browser>, server: &Server) -> Self {
        let began = Instant::now();
        let page = browser.open(&format!("{}/ui/", server.url())).await;
        Self { page, began, presses: 0 }
    }

    /// Presses what is shown by the first element of this kind that holds the words, and waits for the page behind it.
    async fn press(&mut self, kind: &str, words: &str, then: &str) {
        // At once, because a live page can put another element into its place.
        let press = format!(
            "(() => {{ const one = [...document.querySelectorAll({kind:?})].find((one) => one.checkVisibility() && one.innerText.includes({words:?})); \
             one?.click(); return one !== undefined; }})()"
        );
        self.page.until(&press).await;
        self.presses += 1;
        self.until(then).await;
    }

    /// Waits until the page holds the words.
    async fn until(&self, words: &str) {
        let shown = format!("document.querySelector('main')?.innerText.includes({words:?})");
        self.page.until(&shown).await;
    }

    async fn answered(self, question: &str) {
        println!("{question}: {} presses, {:.1?}", self.presses, self.began.elapsed());
        assert!(self.presses <= PRESSES, "{question}: {} presses", self.presses);
        self.page.close().await;
    }
}

/// Runs `rota` with these arguments against the server.
async fn rota(server: &Server, arguments: &[&str]) {
    let url = server.url();
    let arguments = [arguments, &["--url", &url]].concat();
    let output = command(&arguments, server.home()).output().await.expect("it starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
}

/// Creates and runs a history: many tasks that end well, and a few that fail until something outside is mended.
async fn history(client: &Client) {
    let count = env::var("ROTA_TEST_SCENE_TASKS").ok().and_then(|text| text.parse().ok());
    let mut left = count.unwrap_or(ENDED);
    while left > 0 {
        let count = left.min(BATCH);
        let tasks = (0..count).map(|_| task("order").queue("orders").payload_json(&()));
        client.create_tasks(tasks.collect()).await.expect("tasks");
        left -= count;
    }
    let mails = (0..FAILED).map(|at| {
        task("mail").id(format!("mail/{at}")).queue("mail").payload_json(&()).max_attempts(1)
    });
    client.create_tasks(mails.collect()).await.expect("tasks");
    let worker = Worker::builder(client.clone())
        .handler("order", |_: TaskContext, (): ()| async { Ok::<_, HandlerError>(()) })
        .handler("mail", |_: TaskContext, (): ()| async {
            Err::<(), _>(HandlerError::new("no route to the mail server 10.0.0.7"))
        })
        .slots(256)
        .build()
        .expect("a worker");
    let drain = worker.drain();
    let worker = tokio::spawn(worker.run());
    loop {
        let list = client.all_queues().await.expect("queues");
        if list.queues.iter().all(|queue| queue.pending + queue.running == 0) {
            break;
        }
        tokio::task::yield_now().await;
    }
    drain.start();
    worker.await.expect("no panic").expect("it drains");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_answered_within_three_presses() {
    let server = Server::start(&["--insecure-no-auth"]).await;
    server.ready().await;
    let client = server.client();
    history(&client).await;
    rota(
        &server,
        &["queue", "pause", "reports", "--note", "the printer burns", "--by", "ana@host"],
    )
    .await;
    let waits = task("report").id("report/7").queue("reports");
    client.create_task(waits).await.expect("a task");
    nothing_for_the_nightly_run(&server, &client).await;
    let browser = Browser::start();

    let mut visitor = Visitor::come(&browser, &server).await;
    visitor.press("#attention li a", "Failures", "no route to the mail server").await;
    visitor.press("#groups button", "Retry all", &format!("{FAILED} tasks")).await;
    visitor.press("main form button[type=submit]", "", "tasks run again").await;
    for at in 0..FAILED {
        let retried = client.get_task(&format!("mail/{at}")).await.expect("it is there");
        assert_ne!(retried.status(), TaskStatus::Failed, "mail/{at}");
    }
    visitor.answered("what failed, why, and retry it").await;

    let mut visitor = Visitor::come(&browser, &server).await;
    visitor.page.key('/').await;
    visitor.page.write("#search", "report/7").await;
    visitor.page.key('\r').await;
    visitor.presses += 1;
    visitor.until("reports is paused").await;
    visitor.press("#now a", "reports", "the printer burns").await;
    visitor.until("Resume").await;
    visitor.answered("this task waits: why, and what can I do").await;

    let mut visitor = Visitor::come(&browser, &server).await;
    visitor.until("nightly created no task for").await;
    visitor.press("#attention li a", "Schedule", "refused").await;
    visitor.answered("the nightly run did not come: what happened").await;

    let visitor = Visitor::come(&browser, &server).await;
    visitor.until("paused by ana@host").await;
    visitor.until("the printer burns").await;
    visitor.answered("who paused this queue").await;
}

/// A schedule whose runs are refused, because other tasks have their ids.
async fn nothing_for_the_nightly_run(server: &Server, client: &Client) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a date");
    // Every two seconds, for a minute.
    let first = (now.as_secs() / 2 + 1) * 2;
    let ids = (0..30).map(|at| {
        let time = Date::from(UNIX_EPOCH + Duration::from_secs(first + 2 * at));
        format!("nightly/{}", time.to_string().replace(".000Z", "Z"))
    });
    let delay = Duration::from_secs(3600);
    let tasks = ids.map(|id| task("other").id(id).queue("nightly").delay(delay));
    client.create_tasks(tasks.collect()).await.expect("tasks");
    let schedule = ["schedule", "create", "nightly", "--cron", "*/2 * * * * *", "--kind", "report"];
    rota(server, &schedule).await;
}
