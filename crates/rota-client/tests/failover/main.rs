//! What becomes of calls when nodes refuse, break and fall silent: real nodes, real connections,
//! faults on the way between them.

#![expect(clippy::unwrap_used, reason = "a test that fails should stop where it does")]

mod events;
mod rig;
mod tls;

use std::time::Duration;

use rig::{Cut, Node, nobody};
use rota_client::{Client, ClientError, ErrorKind, Job, Reason, task, v1};
use rota_server::Limits;
use tonic::Code;

fn client<const N: usize>(addresses: [&str; N], patience: Duration) -> Client {
    Client::builder(addresses).patience(patience).build().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn count(client: &Client) -> usize {
    client.list_tasks(v1::ListTasksRequest::default()).await.unwrap().tasks.len()
}

#[tokio::test]
async fn a_call_goes_to_the_next_address_where_nobody_listens() {
    let node = Node::start().await;
    let client = client([&nobody(), &nobody(), &node.url()], PATIENCE);
    let began = tokio::time::Instant::now();
    // Without a name: that nobody took it is certain.
    client.create_task(task("k")).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "the next one is asked at once");
    assert_eq!(count(&client).await, 1);
    node.stop().await;
}

#[tokio::test]
async fn an_answer_cut_off_leaves_a_nameless_task_unknown_and_is_not_repeated() {
    let node = Node::start().await;
    let cut = Cut::in_front_of(&node, 1).await;
    let client = client([&cut.url(), &node.url()], PATIENCE);
    let error = client.create_task(task("k")).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Unavailable, Some(Reason::OutcomeUnknown))
    );
    // It was carried out in this case; a repeat would have made two.
    assert_eq!(count(&client).await, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_task_that_names_itself_is_created_once_through_a_cut() {
    let node = Node::start().await;
    for (named, all) in [(task("k").id("mine"), 1), (task("k").idempotency_key("key"), 2)] {
        let cut = Cut::in_front_of(&node, 1).await;
        let client = client([&cut.url(), &node.url()], PATIENCE);
        client.create_task(named).await.unwrap();
        assert_eq!(cut.cuts(), 1);
        assert_eq!(count(&client).await, all);
    }
    node.stop().await;
}

#[tokio::test]
async fn changes_that_are_not_the_same_twice_are_not_repeated() {
    let node = Node::start().await;
    let direct = client([&node.url()], PATIENCE);
    let created = direct.create_task(task("k")).await.unwrap();
    let cancelled = direct.cancel_task(&created.id).await.unwrap();
    assert_eq!(cancelled.status(), v1::TaskStatus::Cancelled);

    let cut = Cut::in_front_of(&node, 1).await;
    let broken = client([&cut.url(), &node.url()], PATIENCE);
    let error = broken.retry_task(&created.id).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::OutcomeUnknown), "{error:?}");
    // A read is, and so is what changes nothing the second time.
    let cut = Cut::in_front_of(&node, 1).await;
    let broken = client([&cut.url(), &node.url()], PATIENCE);
    let retried = broken.get_task(&created.id).await.unwrap();
    assert_eq!((retried.status(), cut.cuts()), (v1::TaskStatus::Pending, 1));
    let cut = Cut::in_front_of(&node, 1).await;
    let broken = client([&cut.url(), &node.url()], PATIENCE);
    broken.cancel_task(&created.id).await.unwrap();
    assert_eq!(cut.cuts(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_that_an_earlier_try_may_have_caused_is_not_taken_for_its_outcome() {
    let node = Node::start().await;
    let holidays = |days: &str, expected_version| v1::PutCalendarRequest {
        name: "holidays".to_owned(),
        entries: vec![v1::CalendarEntry { days: days.to_owned(), note: None }],
        expected_version: Some(expected_version),
        ..v1::PutCalendarRequest::default()
    };
    // It is created, its answer is lost, and then it is there already.
    let cut = Cut::in_front_of(&node, 1).await;
    let broken = client([&cut.url(), &node.url()], PATIENCE);
    let error = broken.put_calendar(holidays("2026-12-25", 0)).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error:?}");
    // The server recognizes the repeat of a change.
    let cut = Cut::in_front_of(&node, 1).await;
    let broken = client([&cut.url(), &node.url()], PATIENCE);
    let put = broken.put_calendar(holidays("2026-12-26", 1)).await.unwrap();
    assert_eq!(put.calendar.unwrap().version, 2);
    // What the request itself says is refused each time.
    let cut = Cut::in_front_of(&node, 1).await;
    let broken = client([&cut.url(), &node.url()], PATIENCE);
    let error = broken.put_calendar(holidays("no date", 2)).await.unwrap_err();
    assert_eq!((error.reason(), cut.cuts()), (Some(Reason::Invalid), 1), "{error:?}");
    // Without an earlier try, nothing was changed.
    let direct = client([&node.url()], PATIENCE);
    let error = direct.put_calendar(holidays("2026-12-27", 7)).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::VersionConflict), "{error:?}");
    node.stop().await;
}

#[tokio::test]
async fn what_may_have_been_done_is_said_even_if_later_tries_reach_nobody() {
    let node = Node::start().await;
    let cut = Cut::in_front_of(&node, usize::MAX).await;
    let client = client([&cut.url(), &nobody()], Duration::from_millis(300));
    let error = client.create_task(task("k").id("mine")).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error:?}");
    let error = client.get_task("mine").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_without_a_leader_is_left_for_another_whatever_is_asked() {
    let node = Node::start().await;
    let leaderless = rig::refusing(Code::Unavailable, "unavailable").await;
    let client = client([&leaderless.url(), &node.url()], PATIENCE);
    client.create_task(task("k")).await.unwrap();
    assert_eq!((leaderless.asked(), count(&client).await), (1, 1));
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_stands_and_is_asked_of_one_node_alone() {
    let node = Node::start().await;
    let full = rig::refusing(Code::ResourceExhausted, "queue_full").await;
    let client = client([&full.url(), &node.url()], PATIENCE);
    let error = client.create_task(task("k").id("mine")).await.unwrap_err();
    assert_eq!((error.reason_word(), full.asked()), ("queue_full", 1));
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_does_not_know_itself_leaves_a_nameless_task_unknown() {
    let node = Node::start().await;
    let unsure = rig::refusing(Code::Unavailable, "outcome_unknown").await;
    let client = client([&unsure.url(), &node.url()], PATIENCE);
    let error = client.create_task(task("k")).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(count(&client).await, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left_by_the_pings() {
    let node = Node::start().await;
    let silent = rig::silent().await;
    let client = client([&silent, &node.url()], PATIENCE);
    client.create_task(task("k").id("mine")).await.unwrap();
    assert_eq!(count(&client).await, 1);
    node.stop().await;
}

#[tokio::test]
async fn when_patience_is_over_the_last_reason_is_told() {
    let client = client([&nobody(), &nobody()], Duration::from_millis(200));
    let began = tokio::time::Instant::now();
    let error = client.get_task("x").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn connections_are_made_by_the_connector_that_was_given() {
    let node = Node::start().await;
    let names = rig::Names(vec![("localhost:2", node.address())]);
    // Nobody listens at either port; in the network of the connector, a node is at the second.
    let client = Client::builder(["http://localhost:1", "http://localhost:2"])
        .patience(PATIENCE)
        .connector(names)
        .seed(7)
        .build()
        .unwrap();
    client.create_task(task("k")).await.unwrap();
    assert_eq!(count(&client).await, 1);
    node.stop().await;
}

#[tokio::test]
async fn calls_that_wait_long_hold_up_no_others() {
    // Two calls on a connection, and no more.
    let limits = Limits { streams_per_connection: 2, ..Limits::default() };
    let node = Node::start_with(limits).await;
    let client = client([&node.url()], PATIENCE);
    client.create_task(task("k").id("mine")).await.unwrap();
    let polls: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.wait_task("mine").await.unwrap() })
        })
        .collect();
    // Without a name: it was not sent while it waited, so that it can be sent on another connection.
    client.create_task(task("k")).await.unwrap();
    assert_eq!(count(&client).await, 2);
    client.cancel_task("mine").await.unwrap();
    for poll in polls {
        assert_eq!(poll.await.unwrap().status(), v1::TaskStatus::Cancelled);
    }
    node.stop().await;
}

#[tokio::test]
async fn many_calls_at_once_are_spread_over_connections() {
    let node = Node::start().await;
    let client = client([&node.url()], PATIENCE);
    client.create_task(task("k").id("mine")).await.unwrap();
    let polls: Vec<_> = (0..1200)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.wait_task("mine").await.unwrap() })
        })
        .collect();
    // A single connection carries 1,000; on it, this would wait until the first polls end after 30 s.
    let created = client.create_task(task("k"));
    tokio::time::timeout(Duration::from_secs(20), created).await.unwrap().unwrap();
    client.cancel_task("mine").await.unwrap();
    for poll in polls {
        assert_eq!(poll.await.unwrap().status(), v1::TaskStatus::Cancelled);
    }
    node.stop().await;
}

#[tokio::test]
async fn lists_are_followed_page_by_page() {
    let limits = Limits { page_size: 2, ..Limits::default() };
    let node = Node::start_with(limits).await;
    let client = client([&node.url()], PATIENCE);
    for queue in ["a", "b", "c", "d", "e"] {
        client
            .pause_queue(v1::PauseQueueRequest { queue: queue.to_owned(), ..Default::default() })
            .await
            .unwrap();
    }
    let page = client.list_queues(v1::ListQueuesRequest::default()).await.unwrap();
    assert_eq!((page.queues.len(), page.next_page_token()), (2, "b"));
    let all = client.all_queues().await.unwrap();
    let names: Vec<_> = all.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!((names, all.next_page_token()), (vec!["a", "b", "c", "d", "e"], ""));
    assert_eq!(client.all_workers().await.unwrap().workers, []);
    node.stop().await;
}

/// A job that may have no JSON form.
#[derive(serde::Serialize, serde::Deserialize)]
struct Table(std::collections::BTreeMap<Option<u8>, u8>);

impl Job for Table {
    const KIND: &'static str = "table";
    type Output = ();
}

#[tokio::test]
async fn a_job_that_cannot_be_sent_has_an_error_in_its_place() {
    let node = Node::start().await;
    let direct = client([&node.url()], PATIENCE);
    // A key of JSON cannot be absent.
    let table = |key| Table([(key, 1)].into());
    let error = direct.submit(&table(None)).await.unwrap_err();
    assert!(matches!(error, ClientError::Payload { kind: "table", .. }), "{error:?}");
    let jobs = [table(Some(1)), table(None), table(Some(2))];
    let sent = direct.submit_all(&jobs).await;
    assert!(sent[0].is_ok() && sent[2].is_ok(), "{sent:?}");
    assert!(matches!(sent[1], Err(ClientError::Payload { .. })), "{sent:?}");
    assert_eq!(count(&direct).await, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_batch_that_reaches_nobody_is_not_sent_to_its_end() {
    let alone = client([&nobody()], Duration::ZERO);
    let jobs: Vec<_> = (0..8000).map(|_| Table([(Some(1), 1)].into())).collect();
    let sent = alone.submit_all(&jobs).await;
    assert_eq!(sent.len(), 8000);
    assert!(matches!(sent[0], Err(ClientError::Unreachable { .. })), "{:?}", sent[0]);
    assert!(matches!(sent[7999], Err(ClientError::NotSent { .. })), "{:?}", sent[7999]);
}
