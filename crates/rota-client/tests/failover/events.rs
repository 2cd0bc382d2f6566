//! A stream of events goes on through connections that break.

use std::time::Duration;

use rota_client::{Client, ErrorKind, Event, EventFilter, Events, Reason, task};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    PATIENCE, client,
    rig::{Node, Way, nobody, refusing},
};

async fn next(events: &mut Events) -> Event {
    let next = timeout(PATIENCE, events.next()).await.expect("something comes in time");
    next.expect("the stream goes on").unwrap()
}

/// The type of the next event, and the id of its task.
async fn told(events: &mut Events) -> (String, String) {
    let event = next(events).await;
    (event.r#type, event.task.map(|task| task.id).unwrap_or_default())
}

async fn create(client: &Client) -> String {
    client.create_task(task("k")).await.unwrap().id
}

#[tokio::test]
async fn events_go_on_after_a_break_without_a_gap_or_a_repeat() {
    let node = Node::start().await;
    let way = Way::to(&node).await;
    let direct = client([&node.url()], PATIENCE);
    let mut events = client([&way.url()], PATIENCE).events(EventFilter::new().kind("k"));
    assert_eq!(next(&mut events).await.r#type, "ready");
    let created = |id: String| ("task.created".to_owned(), id);
    for _ in 0..3 {
        let seen = create(&direct).await;
        assert_eq!(told(&mut events).await, created(seen));
        way.break_all();
        let missed = [create(&direct).await, create(&direct).await];
        for id in missed {
            assert_eq!(told(&mut events).await, created(id));
        }
    }
    direct.create_task(task("other")).await.unwrap();
    let last = create(&direct).await;
    direct.cancel_task(&last).await.unwrap();
    assert_eq!(told(&mut events).await, created(last.clone()));
    assert_eq!(told(&mut events).await, ("task.cancelled".to_owned(), last));
    drop(events);
    node.stop().await;
}

#[tokio::test]
async fn a_new_history_is_told_as_a_reset() {
    let node = Node::start().await;
    let client = client([&node.url()], PATIENCE);
    let mut events = client.events(EventFilter::new().after("77-1-0"));
    let reset = next(&mut events).await;
    assert_eq!((reset.r#type.as_str(), reset.reason()), ("reset", "leader_changed"));
    let id = create(&client).await;
    assert_eq!(told(&mut events).await.1, id);
    drop(events);
    node.stop().await;
}

#[tokio::test]
async fn errors_that_no_retry_can_help_end_the_stream() {
    let old = refusing(Code::Unimplemented, "unsupported").await;
    let mut events = client([&old.url()], PATIENCE).events(EventFilter::new());
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(events.next().await.is_none());
    assert_eq!(old.asked(), 1);

    let node = Node::start().await;
    let mut events = client([&node.url()], PATIENCE).events(EventFilter::new().types(["none"]));
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Invalid));
    assert!(events.next().await.is_none());
    node.stop().await;

    // Somebody may start one later.
    let mut events = client([&nobody()], Duration::ZERO).events(EventFilter::new());
    for _ in 0..2 {
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
