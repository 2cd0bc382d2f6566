//! Servers that pause, crash and come back, and a network that holds back what was sent.

use std::time::{Duration, Instant};

use rota_store::{Batch, BatchSeq, CommitError, Store, consul::ConsulOptions};

use crate::{
    node::{LARGE, Node, within},
    proxy::Proxy,
    server::Consul,
};

/// With less patience than a pause takes.
fn impatient(consul: &Consul) -> ConsulOptions {
    let timeout = Duration::from_millis(500);
    ConsulOptions { timeout, leader_ttl: Duration::from_secs(60), ..consul.options() }
}

/// The batch arrives after the head was told: the one order of events that is worst.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_arrives_after_the_head_was_told_does_not_land() {
    let consul = Consul::start();
    let proxy = Proxy::to(consul.endpoint()).await;
    let behind = ConsulOptions { agents: vec![proxy.endpoint()], ..impatient(&consul) };
    let (a, reader) = (Node::new("a", behind), Node::new("reader", consul.options()));
    let leading = a.lead().await;
    let fence = leading.fence();
    // Once on an empty store, where there is no head yet to be sealed, and then with one.
    for round in 0..3_u64 {
        let seq = BatchSeq(round + 1);
        let before = reader.value().await;
        a.next().await;
        proxy.hold();
        let unknown = a.put(fence, seq, "late").await;
        assert!(matches!(unknown, Err(CommitError::Ambiguous(_))), "{unknown:?}");
        assert_eq!(a.next_when_reached().await, BatchSeq(round));
        proxy.release().await;
        assert_eq!(reader.value().await, before, "it landed after all");
        assert_eq!(reader.next().await, seq);
        a.put_until_landed(fence, &format!("{round}")).await;
        assert_eq!(reader.next().await, seq.next());
        assert_eq!(reader.value().await.unwrap(), round.to_string());
        assert_eq!(a.value().await.unwrap(), round.to_string());
        proxy.mend();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pause_leaves_unknown_is_told_by_the_head() {
    let consul = Consul::start();
    let (a, reader) = (Node::new("a", impatient(&consul)), Node::new("b", consul.options()));
    let leading = a.lead().await;
    let fence = leading.fence();
    let mut seq = a.next().await;
    for round in 0..4 {
        a.put(fence, seq, &format!("{round} before")).await.unwrap();
        seq = seq.next();
        let pausing = {
            let a = a.clone();
            tokio::spawn(async move { a.put(fence, seq, &format!("{round} unknown")).await })
        };
        consul.pause();
        let outcome = within(pausing).await.unwrap();
        let is_known = outcome.is_ok();
        assert!(is_known || matches!(outcome, Err(CommitError::Ambiguous(_))), "{outcome:?}");
        consul.resume();
        let last = a.next_when_reached().await;
        let word = if last == seq { "unknown" } else { "before" };
        assert!(!is_known || last == seq);
        for _ in 0..10 {
            assert_eq!(reader.value().await.unwrap(), format!("{round} {word}"));
        }
        assert_eq!(a.value().await.unwrap(), format!("{round} {word}"));
        seq = last.next();
    }
    assert!(leading.is_held());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_and_comes_back_has_everything() {
    let mut consul = Consul::start();
    let a = Node::new("a", impatient(&consul));
    let leading = a.lead().await;
    for round in 0..3 {
        a.put(leading.fence(), a.next_when_reached().await.next(), &format!("{round}"))
            .await
            .unwrap();
        consul.kill();
        let away = within(a.store.status()).await;
        assert!(away.problem.is_some());
        consul.restart();
        assert_eq!(within(a.store.head()).await.map(|head| head.seq.0).ok(), Some(2 * round + 1));
        let fresh = Node::new("fresh", consul.options());
        assert_eq!(fresh.value().await.unwrap(), round.to_string());
        fresh.store.close().await;
        a.put_until_landed(leading.fence(), "after").await;
    }
    // Its session was not lost meanwhile: it has no check of the server's health.
    assert!(leading.is_held());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_servers_one_may_go_and_without_two_nothing_is_written() {
    let mut servers = Consul::cluster();
    let agents = servers.iter().map(Consul::endpoint).collect();
    let options = ConsulOptions { agents, ..impatient(&servers[0]) };
    let a = Node::new("a", options);
    let leading = a.lead().await;
    a.put_until_landed(leading.fence(), "1").await;
    let leader = servers.iter().position(Consul::leads).unwrap();
    servers[leader].kill();
    let killed = Instant::now();
    a.put_until_landed(leading.fence(), "2").await;
    println!("a commit landed {:?} after Consul's leader was killed", killed.elapsed());
    assert_eq!(a.next_when_reached().await, BatchSeq(2));
    let second = (leader + 1) % 3;
    servers[second].kill();
    // No quorum: it is said, and nothing is written.
    let status = within(async {
        loop {
            let status = a.store.status().await;
            if status.problem.is_some() {
                return status;
            }
        }
    });
    let problem = status.await.problem.unwrap();
    println!("without a quorum: {problem}");
    let refused = a.put(leading.fence(), BatchSeq(3), "3").await;
    assert!(
        matches!(refused, Err(CommitError::Unavailable(_) | CommitError::Ambiguous(_))),
        "{refused:?}"
    );
    servers[leader].begin();
    let seq = a.next_when_reached().await;
    a.put_until_landed(leading.fence(), "4").await;
    assert!(a.next_when_reached().await > seq);
    assert_eq!(a.value().await.unwrap(), "4");
    assert!(leading.is_held());
    within(async { while a.store.status().await.problem.is_some() {} }).await;
}

/// A batch gets the time that its size takes, and leadership is kept meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_lands_over_a_slow_line() {
    let consul = Consul::start();
    let slow = Proxy::slow(consul.endpoint(), 600_000).await;
    let timeout = Duration::from_secs(2);
    let leader_ttl = Duration::from_secs(30);
    let agents = vec![slow.endpoint()];
    let options = ConsulOptions { agents, timeout, leader_ttl, ..consul.options() };
    let far = Node::new("far", options);
    let leading = far.lead().await;
    let mut batch = Batch::new(far.next().await);
    batch.put(LARGE, "large", vec![7; 1_400_000]);
    let begin = Instant::now();
    within(far.store.commit(leading.fence(), batch)).await.unwrap();
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(2), "the line is not slow: {took:?}");
    assert!(leading.is_held());
}
