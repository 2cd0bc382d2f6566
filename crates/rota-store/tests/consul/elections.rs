//! Who leads, across nodes: hand-over, succession, and above all that a leader who was deposed can
//! write nothing.

use std::time::{Duration, Instant};

use rota_store::{CommitError, Seat, Store, StoreError, consul::ConsulOptions};

use crate::{
    node::{Node, within},
    proxy::Proxy,
    server::Consul,
};

const TTL: Duration = Duration::from_secs(2);

fn options(consul: &Consul) -> ConsulOptions {
    ConsulOptions { leader_ttl: TTL, ..consul.options() }
}

/// A session that nobody renews, and with it a key.
fn abandoned(consul: &Consul, ttl: &str, key: &str, value: &str) {
    let body = format!(r#"{{"TTL":"{ttl}","LockDelay":"0s","Behavior":"delete","NodeChecks":[]}}"#);
    let told = consul.ask("PUT", "session/create", &body).unwrap();
    let session = told.split('"').nth(3).unwrap().to_owned();
    let set = consul.ask("PUT", &format!("kv/{key}?acquire={session}"), value).unwrap();
    assert_eq!(set.trim(), "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_resigns_is_followed_at_once() {
    let consul = Consul::start();
    let (a, b) = (Node::new("a", consul.options()), Node::new("b", consul.options()));
    let (mut leading, mut waiting) = (a.lead().await, (b, a));
    let mut epoch = leading.fence().epoch;
    for _ in 0..5 {
        let campaign = waiting.0.stand().await;
        let begin = Instant::now();
        leading.resign(None).await;
        leading = within(campaign).await.unwrap();
        let taken = begin.elapsed();
        assert!(taken < Duration::from_millis(500), "the hand-over took {taken:?}");
        assert!(leading.fence().epoch > epoch);
        epoch = leading.fence().epoch;
        waiting = (waiting.1, waiting.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_who_was_named_follows() {
    let consul = Consul::start();
    let nodes = ["a", "b", "c"].map(|name| Node::new(name, consul.options()));
    let first = nodes[0].lead().await;
    // Those who are not named have waited for longer.
    let impatient = nodes[1].stand().await;
    let named = nodes[2].stand().await;
    let begin = Instant::now();
    first.resign(Some("c")).await;
    let second = within(named).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "took {:?}", begin.elapsed());
    assert!(!impatient.is_finished());
    // Nobody waits for one who is not there.
    let begin = Instant::now();
    second.resign(Some("z")).await;
    within(impatient).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "took {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_knows_the_leader_and_the_members() {
    let consul = Consul::start();
    let (a, b) = (Node::new("a", consul.options()), Node::new("b", consul.options()));
    let mut seen = b.store.leader();
    let leading = a.lead().await;
    let seat = Seat { member: a.me.clone(), epoch: leading.fence().epoch };
    within(seen.wait_for(|now| *now == Some(seat.clone()))).await.unwrap();
    let standing = b.stand().await;
    assert_eq!(a.store.members().await.unwrap(), [a.me.clone(), b.me.clone()]);
    leading.resign(None).await;
    let leading = within(standing).await.unwrap();
    let is_b = |now: &Option<Seat>| now.as_ref().is_some_and(|seat| seat.member == b.me);
    within(a.store.leader().wait_for(is_b)).await.unwrap();
    assert_eq!(a.store.status().await.epoch, leading.fence().epoch);
    drop(leading);
    within(seen.wait_for(Option::is_none)).await.unwrap();
}

/// The most important one: a leader behind a cut network believes in its leadership for a while
/// and has a batch on its way. It must stop by itself before another leads, and whatever it sent
/// must not land when the network is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_stops_in_time_and_writes_nothing() {
    let consul = Consul::start();
    let proxy = Proxy::to(consul.endpoint()).await;
    let mut behind = options(&consul);
    behind.agents = vec![proxy.endpoint()];
    let (a, b) = (Node::new("a", behind), Node::new("b", options(&consul)));
    let old = a.lead().await;
    let fence = old.fence();
    a.put(fence, a.next().await, "by a").await.unwrap();
    let seq = a.next().await;
    let standing = b.stand().await;

    proxy.cut();
    let cut = Instant::now();
    let late = {
        let a = a.clone();
        tokio::spawn(async move { a.put(fence, seq, "late").await })
    };
    let taken = tokio::spawn(async move { (standing.await.unwrap(), Instant::now()) });
    within(old.lost()).await;
    let stopped = Instant::now();
    let (new, taken) = within(taken).await.unwrap();
    assert!(stopped < taken, "another led while the old leader believed in itself");
    let took = taken.duration_since(cut);
    assert!(took < 2 * TTL + Duration::from_secs(2), "the take-over took {took:?}");
    b.put(new.fence(), seq, "by b").await.unwrap();

    proxy.mend();
    let late = within(late).await.unwrap();
    assert!(
        matches!(late, Err(CommitError::Ambiguous(_) | CommitError::Fenced { .. })),
        "{late:?}"
    );
    // The old leader's store finds out as soon as it gets through.
    assert_eq!(a.next_when_reached().await, seq);
    assert_eq!(a.value().await.unwrap(), "by b");
    let refused = a.put(fence, seq.next(), "later").await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
    // And so does a batch that is only sent now, past everything that the old leader knows itself.
    let c = Node::new("c", options(&consul));
    for seq in [seq, seq.next()] {
        let refused = c.put(fence, seq, "later").await;
        assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
    }
    assert_eq!(b.value().await.unwrap(), "by b");
    b.put(new.fence(), seq.next(), "by b again").await.unwrap();
}

/// All threads of the runtime that serves requests are blocked for longer than the session lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_too_busy_for_anything_keeps_its_session() {
    let consul = Consul::start();
    let (a, b) = (Node::new("a", options(&consul)), Node::new("b", options(&consul)));
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let standing = b.stand().await;
    let busy = || tokio::spawn(async { std::thread::park_timeout(TTL * 2) });
    let (one, other) = (busy(), busy());
    one.await.unwrap();
    other.await.unwrap();
    assert!(!standing.is_finished(), "the session expired");
    assert!(futures_util::poll!(std::pin::pin!(leading.lost())).is_pending());
    a.put(leading.fence(), a.next().await, "2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_key_is_taken_away_hears_of_it() {
    let consul = Consul::start();
    let a = Node::new("a", consul.options());
    let old = a.lead().await;
    let fence = old.fence();
    consul.ask("DELETE", "kv/rota/leader", "").unwrap();
    within(old.lost()).await;
    let refused = a.put(fence, a.next().await, "1").await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
    drop(old);
    let new = a.lead().await;
    assert!(new.fence().epoch > fence.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_use_is_refused_and_who_has_it_stays() {
    let consul = Consul::start();
    let (a, b) = (Node::new("a", options(&consul)), Node::new("b", options(&consul)));
    let leading = a.lead().await;
    let standing = b.stand().await;
    for taken in [&a, &b] {
        let mut second = Node::new(&taken.me.name, options(&consul));
        second.me.address = Some("http://second:1".to_owned());
        let refused = within(second.store.campaign(&second.me)).await.map(drop).unwrap_err();
        let StoreError::NameTaken { name, address } = &refused else { panic!("{refused:?}") };
        assert_eq!((name, address), (&taken.me.name, &taken.me.address));
        let told = refused.to_string();
        assert!(told.contains(&format!("http://{name}:7420")), "{told}");
        assert_eq!(second.store.status().await.problem, Some(told));
        second.store.close().await;
        assert_eq!(b.store.members().await.unwrap(), [a.me.clone(), b.me.clone()]);
    }
    leading.resign(Some("b")).await;
    within(standing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_its_entry_gone_enters_again() {
    let consul = Consul::start();
    let (a, b) = (Node::new("a", options(&consul)), Node::new("b", options(&consul)));
    let leading = a.lead().await;
    let standing = b.stand().await;
    for name in ["a", "b"] {
        consul.ask("DELETE", &format!("kv/rota/nodes/{name}"), "").unwrap();
        within(async {
            while a.store.members().await.unwrap() != [a.me.clone(), b.me.clone()] {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    leading.resign(Some("b")).await;
    within(standing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_session_is_destroyed_hears_of_it() {
    let consul = Consul::start();
    let a = Node::new("a", consul.options());
    let old = a.lead().await;
    let listed = consul.ask("GET", "session/list", "").unwrap();
    let session = listed.split('"').nth(3).unwrap().to_owned();
    consul.ask("PUT", &format!("session/destroy/{session}"), "").unwrap();
    within(old.lost()).await;
    assert_eq!(a.store.members().await.unwrap(), []);
    let refused = a.put(old.fence(), a.next().await, "1").await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_at_its_address_is_there_at_once() {
    let consul = Consul::start();
    let former = r#"{"name":"a","address":"http://a:7420"}"#;
    abandoned(&consul, "60s", "rota/nodes/a", former);
    let a = Node::new("a", options(&consul));
    let begin = Instant::now();
    let leading = a.lead().await;
    assert!(begin.elapsed() < Duration::from_secs(10), "took {:?}", begin.elapsed());
    assert_eq!(a.store.members().await.unwrap(), std::slice::from_ref(&a.me));
    drop(leading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_after_a_crash_waits_for_its_former_session() {
    let consul = Consul::start();
    abandoned(&consul, "2s", "rota/nodes/a", r#"{"name":"a"}"#);
    let begin = Instant::now();
    let a = Node::new("a", options(&consul));
    let leading = a.lead().await;
    assert!(begin.elapsed() > Duration::from_secs(2), "another's session was passed over");
    assert_eq!(a.store.members().await.unwrap(), std::slice::from_ref(&a.me));
    assert_eq!(consul.keys("rota/challenge/"), Vec::<String>::new());
    drop(leading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_another_format_is_left_alone() {
    let consul = Consul::start();
    consul.ask("PUT", "kv/rota/head", r#"{"format":2}"#).unwrap();
    let a = Node::new("a", consul.options());
    let refused = within(a.store.campaign(&a.me)).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Format { .. })), "{refused:?}");
    let refused = within(a.store.snapshot()).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Format { .. })), "{refused:?}");
    let problem = a.store.status().await.problem.unwrap();
    assert!(problem.contains("format 2"), "{problem}");
    assert_eq!(consul.keys("rota/head"), ["rota/head"]);
    assert!(consul.keys("rota/log").is_empty());
}
