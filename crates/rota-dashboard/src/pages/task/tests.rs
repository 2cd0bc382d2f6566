//! The page over an API that answers as prepared.

use rota_proto::{
    Date,
    v1::{
        AttemptOutcome, DeleteTaskResponse, GetResultResponse, ListAttemptsResponse,
        ListWorkersResponse, RescheduleTaskRequest, TickContext, UpdateTaskRequest, Waiting,
        waiting::Reason,
    },
};

use super::*;
use crate::{apart::assert_apart, fake::Fake, memory::Memory};

const HOSTILE: &str = "</pre></textarea><script>alert(1)</script>\u{202e}javascript:alert(2)";

fn at(text: &str) -> Option<Date> {
    Some(text.parse().expect("a date"))
}

fn task() -> Task {
    Task {
        id: "a/b%c&d#e".to_owned(),
        kind: "mail".to_owned(),
        queue: "q/1".to_owned(),
        status: TaskStatus::Failed.into(),
        created_at: at("2026-01-31T12:00:00Z"),
        run_at: at("2026-01-31T12:00:00Z"),
        version: 3,
        priority: 5,
        attempt: 1,
        lease_token: Some(9_007_199_254_740_993),
        payload: bytes::Bytes::from_static(b"{\"n\":9007199254740993,\"x\":1e400}"),
        ..Task::default()
    }
}

fn fake(task: Task, attempts: Vec<Attempt>) -> Fake {
    let result = bytes::Bytes::from_static(b"[1.10]");
    Fake::default()
        .answering("GetTask", move |_: GetTaskRequest| Ok(task.clone()))
        .answering("ListAttempts", move |_: TaskRequest| {
            Ok(ListAttemptsResponse { attempts: attempts.clone() })
        })
        .answering("GetResult", move |_: TaskRequest| {
            Ok(GetResultResponse { result: result.clone() })
        })
}

async fn html(fake: Fake, query: &str) -> String {
    match show(&fake.visit("task", query)).await.expect("a page") {
        Shown::Page(view) => view.body.into_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_task_is_shown_with_its_attempts_and_exact_numbers() {
    let attempt = Attempt {
        attempt: 1,
        worker: "w/1".to_owned(),
        lease_token: 18_446_744_073_709_551_615,
        outcome: AttemptOutcome::Failed.into(),
        assigned_at: at("2026-01-31T12:00:01Z"),
        started_at: at("2026-01-31T12:00:02Z"),
        ended_at: at("2026-01-31T12:01:32Z"),
        error: Some(TaskError { message: "first\nsecond line".to_owned(), ..TaskError::default() }),
        output_tail: bytes::Bytes::from_static(b"the output \xff"),
        ..Attempt::default()
    };
    let page = html(fake(Task { has_result: true, ..task() }, vec![attempt]), "id=a").await;
    for part in [
        ">9007199254740993</bdi>",
        ">1e400</bdi>",
        "9007199254740993</code>",
        "18446744073709551615</code>",
        ">1.10</bdi>",
        "first\nsecond line</bdi></pre>",
        "the output \u{fffd}</bdi></pre>",
        "1 min 30 s",
        "href=\"workers?name=w%2F1\"",
        "href=\"queue?name=q%2F1\"",
        "href=\"new?from=a%2Fb%25c%26d%23e\"",
        "href=\"payload?id=a%2Fb%25c%26d%23e\"",
        "value=\"retry\"",
        "value=\"delete\"",
    ] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    assert!(!page.contains("value=\"cancel\"") && !page.contains("Reschedule"), "{page}");
}

#[tokio::test]
async fn a_trace_is_a_link_where_the_operator_said_so() {
    let trace_url = Some("https://tempo.example/trace/{trace_id}?tab=1".to_owned());
    let link = "href=\"https://tempo.example/trace/0af7651916cd43dd8448eb211c80319c?tab=1\"";
    for (id, is_link) in [("0af7651916cd43dd8448eb211c80319c", true), ("../../other", false)] {
        let fake = fake(Task { trace_id: Some(id.to_owned()), ..task() }, Vec::new());
        let memory = Memory { trace_url: trace_url.clone(), ..Memory::default() };
        let visit = Visit { memory: memory.into(), ..fake.visit("task", "id=a") };
        let Ok(Shown::Page(view)) = show(&visit).await else { panic!("no page") };
        let html = view.body.into_string();
        assert_eq!(html.contains(link), is_link, "{html}");
        assert!(html.contains(id) && !html.contains("trace/.."), "{html}");
    }
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let task = Task {
        id: HOSTILE.to_owned(),
        kind: HOSTILE.to_owned(),
        status: TaskStatus::Pending.into(),
        description: Some(HOSTILE.to_owned()),
        progress: Some(HOSTILE.to_owned()),
        idempotency_key: Some(HOSTILE.to_owned()),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
        labels: [(HOSTILE.to_owned(), HOSTILE.to_owned())].into(),
        error: Some(TaskError { message: HOSTILE.to_owned(), ..TaskError::default() }),
        waiting: Some(Waiting { message: HOSTILE.to_owned(), ..Waiting::default() }),
        tick: Some(TickContext { schedule: HOSTILE.to_owned(), ..TickContext::default() }),
        payload: HOSTILE.into(),
        ..task()
    };
    let attempt = Attempt {
        worker: HOSTILE.to_owned(),
        error: task.error.clone(),
        output_tail: HOSTILE.into(),
        ..Attempt::default()
    };
    let shared = fake(task, vec![attempt; 100]);
    for (page, shown) in [
        ("task", show(&shared.visit("task", "id=x")).await),
        ("edit", show_edit(&shared.visit("edit", "id=x")).await),
        ("asked", act(&shared.form("task", &[("id", HOSTILE), ("action", "delete")])).await),
    ] {
        let Ok(Shown::Page(view)) = shown else { panic!("{page}: {shown:?}") };
        let html = view.body.into_string();
        assert!(!html.contains("<script") && !html.contains("</pre></textarea>"), "{html}");
        assert!(!html.contains("href=\"javascript"), "{html}");
        assert_eq!(html.contains("0af7651916cd43dd8448eb211c80319c"), page == "task", "{html}");
        assert_apart(&html);
    }
}

#[tokio::test]
async fn a_large_payload_is_shown_in_part_and_can_be_kept_whole() {
    let payload: bytes::Bytes = format!("[{}0]", "\"abcdefgh\",".repeat(100_000)).into();
    let shared = fake(Task { payload: payload.clone(), ..task() }, Vec::new());
    for (page, shown) in [
        ("task", show(&shared.visit("task", "id=x")).await),
        ("edit", show_edit(&shared.visit("edit", "id=x")).await),
    ] {
        let Ok(Shown::Page(view)) = shown else { panic!("{page}: {shown:?}") };
        let html = view.body.into_string();
        assert!(html.len() < 150_000, "{page} has {} bytes", html.len());
        assert!(html.contains("1.0 MiB"), "{html}");
    }
    match content(&shared.visit("payload", "id=x")).await {
        Ok(Shown::File { name, content }) => {
            assert_eq!(name, "payload.json");
            assert_eq!(content, payload);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_says_why_a_task_waits() {
    let waiting = |reason: Reason| {
        let until = at("2026-01-31T13:00:00Z");
        Waiting {
            reason: reason.into(),
            attempt: Some(1),
            ahead: Some(1200),
            until,
            ..Waiting::default()
        }
    };
    let worker = |name: &str, queue: &str| Worker {
        name: name.to_owned(),
        queues: vec![queue.to_owned()],
        slots: 4,
        slots_used: 4,
        ..Worker::default()
    };
    for (reason, parts) in [
        (Reason::DueLater, &["It is due <time"][..]),
        (Reason::BackingOff, &["href=\"#attempt-1\"", "The next is due <time"]),
        (Reason::Snoozed, &["put it off in attempt 1"]),
        (Reason::QueuePaused, &["href=\"queue?name=q%2F1\"", "is paused"]),
        (Reason::NoWorker, &["No connected worker", "2 connected workers"]),
        (
            Reason::SlotsBusy,
            &["1,200 tasks", ">busy<", "4 of 4 slots", "status=assigned%2Crunning&amp;queue=q%2F1"],
        ),
        (Reason::NotAsked, &["have not asked for a task"]),
    ] {
        let task =
            Task { status: TaskStatus::Pending.into(), waiting: Some(waiting(reason)), ..task() };
        let workers = vec![worker("busy", "q/1"), worker("other", "else")];
        let fake = fake(task, Vec::new()).answering("ListWorkers", move |_: ListWorkersRequest| {
            Ok(ListWorkersResponse { workers: workers.clone(), ..ListWorkersResponse::default() })
        });
        let page = html(fake, "id=x").await;
        for part in parts {
            assert!(page.contains(part), "{reason:?}: no {part} in {page}");
        }
        assert!(!page.contains(">other<"), "{reason:?}");
        assert!(page.contains("value=\"reschedule\"") && page.contains("value=\"cancel\""));
    }
}

#[tokio::test]
async fn a_change_is_asked_for_before_it_is_made() {
    let shared = fake(task(), Vec::new())
        .answering("DeleteTask", |_: TaskRequest| Ok(DeleteTaskResponse {}));
    let asked = act(&shared.visit("task", "id=a%2Fb&action=delete")).await;
    let Ok(Shown::Page(view)) = asked else { panic!("{asked:?}") };
    let html = view.body.into_string();
    assert!(html.contains("name=\"confirmed\" value=\"yes\"") && html.contains("value=\"a/b\""));
    assert!(shared.calls::<TaskRequest>("DeleteTask").is_empty());
    let done = act(&shared.visit("task", "id=a%2Fb&action=delete&confirmed=yes")).await;
    assert!(matches!(done, Ok(Shown::See(link)) if link == "tasks?flash=deleted"));
    assert_eq!(shared.calls::<TaskRequest>("DeleteTask")[0].id, "a/b");
}

#[tokio::test]
async fn a_refused_change_is_told_above_the_task() {
    let fake = fake(task(), Vec::new()).answering("RetryTask", |_: TaskRequest| {
        Err::<Task, _>(Status::failed_precondition("the task is running"))
    });
    let shared = fake;
    let shown = act(&shared.visit("task", "id=x&action=retry&confirmed=yes")).await;
    let Ok(Shown::Page(view)) = shown else { panic!("{shown:?}") };
    let html = view.body.into_string();
    assert!(html.contains("the task is running") && html.contains("Time line"), "{html}");
    let shown = act(&shared.visit("task", "id=x&action=reschedule&delay=5")).await;
    let Ok(Shown::Page(view)) = shown else { panic!("{shown:?}") };
    assert!(view.body.into_string().contains("has no unit"));
    assert!(shared.calls::<RescheduleTaskRequest>("RescheduleTask").is_empty());
}

#[tokio::test]
async fn only_what_was_changed_is_sent() {
    let waits = Task { status: TaskStatus::Scheduled.into(), ..task() };
    let shared =
        fake(waits, Vec::new()).answering("UpdateTask", |_: UpdateTaskRequest| Ok(Task::default()));
    let same = "id=x&version=3&priority=5&description=&labels=&run_at=2026-01-31T12%3A00%3A00.000Z\
        &payload=%7B%22n%22%3A9007199254740993%2C%22x%22%3A1e400%7D";
    let shown = edit(&shared.visit("edit", same)).await;
    assert!(matches!(shown, Ok(Shown::See(link)) if link == "task?id=x&flash=unchanged"));
    let form = "id=x&version=3&priority=7&description=&labels=a%3Db%0D%0Ac%3D%3D&run_at=2026-02-01+12%3A00\
        &payload=%7B%22n%22%3A9007199254740995%7D%0D%0A&retry.max_attempts=";
    let shown = edit(&shared.visit("edit", form)).await;
    assert!(matches!(shown, Ok(Shown::See(link)) if link == "task?id=x&flash=changed"));
    let sent = shared.calls::<UpdateTaskRequest>("UpdateTask").remove(0);
    assert_eq!(sent.expected_version, Some(3));
    assert_eq!(
        sent.update_mask.expect("a mask").paths,
        ["payload", "labels", "priority", "run_at"]
    );
    let change = sent.change.expect("a change");
    assert_eq!(change.payload, "{\"n\":9007199254740995}");
    assert_eq!(
        change.labels,
        [("a", "b"), ("c", "=")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!(change.run_at, at("2026-02-01T12:00:00Z"));
}
