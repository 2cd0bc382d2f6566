//! Who leads, across nodes, on every store that nodes share: hand-over, succession, and above all that a leader who was
//! deposed can write nothing. What one store alone has is tested beside it.

use std::time::{Duration, Instant};

use rota_store::{CommitError, Seat, Store, StoreError};

use crate::{
    Options, Server,
    node::{Node, within},
    proxy::Proxy,
};

/// How long a leader's seat lasts in these tests.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// What the tests do to a server, past the store.
pub(crate) trait Seats {
    /// How long another node may take to lead after the leader was cut off.
    const TAKEOVER: Duration;
    /// How long a hand-over may take.
    const HAND_OVER: Duration;

    /// Options of a node that leads for so long.
    fn with_ttl(&self, ttl: Duration) -> Options;

    /// Options of a node that leads for [`TTL`].
    fn brief(&self) -> Options {
        self.with_ttl(TTL)
    }

    /// The same options through that proxy.
    fn through(&self, proxy: &Proxy) -> Options;

    /// Takes the leader's key away.
    fn remove_leader(&self);

    /// Takes the entry of a node away.
    fn remove_node(&self, name: &str);

    /// Enters a node that nobody runs, for that many seconds.
    fn enter(&self, name: &str, node: &str, seconds: u64);

    /// Tells the processes apart that enter a node.
    fn holder(&self, name: &str) -> String;

    /// Marks the data as written in format 2.
    fn set_other_format(&self);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_resigns_is_followed_at_once() {
    let server = Server::start();
    let (a, b) = (Node::new("a", server.options()), Node::new("b", server.options()));
    let (mut leading, mut waiting) = (a.lead().await, (b, a));
    let mut epoch = leading.fence().epoch;
    for _ in 0..5 {
        let campaign = waiting.0.stand().await;
        let begin = Instant::now();
        leading.resign(None).await;
        leading = within(campaign).await.unwrap();
        let taken = begin.elapsed();
        assert!(taken < Server::HAND_OVER, "the hand-over took {taken:?}");
        assert!(leading.fence().epoch > epoch);
        epoch = leading.fence().epoch;
        waiting = (waiting.1, waiting.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_who_was_named_follows() {
    let server = Server::start();
    let nodes = ["a", "b", "c"].map(|name| Node::new(name, server.options()));
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
async fn a_successor_who_does_not_come_is_waited_for_but_not_for_ever() {
    let server = Server::start();
    let nodes = ["a", "b"].map(|name| Node::new(name, server.options()));
    let first = nodes[0].lead().await;
    let waiting = nodes[1].stand().await;
    // This one is there but will not take the seat.
    server.enter("c", r#"{"name":"c"}"#, 60);
    let begin = Instant::now();
    first.resign(Some("c")).await;
    within(waiting).await.unwrap();
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(1) && waited < Duration::from_secs(4), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_knows_the_leader_and_the_members() {
    let server = Server::start();
    let (a, b) = (Node::new("a", server.options()), Node::new("b", server.options()));
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
    let server = Server::start();
    let proxy = Proxy::to(server.endpoint()).await;
    let (a, b) = (Node::new("a", server.through(&proxy)), Node::new("b", server.brief()));
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
    assert!(!old.is_held());
    let stopped = Instant::now();
    let (new, taken) = within(taken).await.unwrap();
    assert!(stopped < taken, "another led while the old leader believed in itself");
    let took = taken.duration_since(cut);
    assert!(took < Server::TAKEOVER, "the take-over took {took:?}");
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
    let c = Node::new("c", server.brief());
    for seq in [seq, seq.next()] {
        let refused = c.put(fence, seq, "later").await;
        assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
    }
    assert_eq!(b.value().await.unwrap(), "by b");
    b.put(new.fence(), seq.next(), "by b again").await.unwrap();
}

/// All threads of the runtime that serves requests are blocked for longer than the seat lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_too_busy_for_anything_keeps_its_seat() {
    let server = Server::start();
    let (a, b) = (Node::new("a", server.brief()), Node::new("b", server.brief()));
    let leading = a.lead().await;
    a.put(leading.fence(), a.next().await, "1").await.unwrap();
    let standing = b.stand().await;
    let busy = || tokio::spawn(async { std::thread::park_timeout(TTL * 2) });
    let (one, other) = (busy(), busy());
    one.await.unwrap();
    other.await.unwrap();
    assert!(!standing.is_finished(), "the seat expired");
    assert!(futures_util::poll!(std::pin::pin!(leading.lost())).is_pending());
    a.put(leading.fence(), a.next().await, "2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_key_is_taken_away_hears_of_it() {
    let server = Server::start();
    let a = Node::new("a", server.options());
    let old = a.lead().await;
    let fence = old.fence();
    server.remove_leader();
    within(old.lost()).await;
    let refused = a.put(fence, a.next().await, "1").await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
    drop(old);
    let new = a.lead().await;
    assert!(new.fence().epoch > fence.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_use_is_refused_and_who_has_it_stays() {
    let server = Server::start();
    let (a, b) = (Node::new("a", server.brief()), Node::new("b", server.brief()));
    let leading = a.lead().await;
    let standing = b.stand().await;
    for taken in [&a, &b] {
        let mut second = Node::new(&taken.me.name, server.brief());
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
    assert!(leading.is_held());
    leading.resign(Some("b")).await;
    within(standing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_at_its_address_is_there_at_once() {
    let server = Server::start();
    server.enter("a", r#"{"name":"a","address":"http://a:7420"}"#, 60);
    let a = Node::new("a", server.brief());
    let begin = Instant::now();
    let leading = a.lead().await;
    assert!(begin.elapsed() < Duration::from_secs(10), "took {:?}", begin.elapsed());
    assert_eq!(a.store.members().await.unwrap(), std::slice::from_ref(&a.me));
    drop(leading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_at_its_address_need_not_wait_for_its_former_leadership() {
    let server = Server::start();
    let node = || Node::new("a", server.with_ttl(Duration::from_secs(40)));
    let former = node();
    let old = former.lead().await;
    let begin = Instant::now();
    let a = node();
    let new = a.lead().await;
    assert!(begin.elapsed() < Duration::from_secs(20), "took {:?}", begin.elapsed());
    assert!(new.fence().epoch > old.fence().epoch);
    within(old.lost()).await;
    let refused = former.put(old.fence(), former.next().await, "1").await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");

    // A process that is only thought to be gone does not do the same in return.
    let entered = server.holder("a");
    let campaign = former.stand().await;
    within(async {
        while server.holder("a") == entered {
            tokio::task::yield_now().await;
        }
    })
    .await;
    a.put(new.fence(), a.next().await, "2").await.unwrap();
    campaign.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_after_a_crash_waits_for_its_former_entry() {
    let server = Server::start();
    server.enter("a", r#"{"name":"a"}"#, 3);
    let begin = Instant::now();
    let a = Node::new("a", server.brief());
    let leading = a.lead().await;
    assert!(begin.elapsed() > Duration::from_secs(2), "another's entry was passed over");
    assert_eq!(a.store.members().await.unwrap(), std::slice::from_ref(&a.me));
    drop(leading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_its_entry_gone_enters_again() {
    let server = Server::start();
    let (a, b) = (Node::new("a", server.brief()), Node::new("b", server.brief()));
    let leading = a.lead().await;
    let standing = b.stand().await;
    for name in ["a", "b"] {
        server.remove_node(name);
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
async fn data_of_another_format_is_left_alone() {
    let server = Server::start();
    server.set_other_format();
    let a = Node::new("a", server.options());
    let refused = within(a.store.campaign(&a.me)).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Format { .. })), "{refused:?}");
    let refused = within(a.store.snapshot()).await.map(drop);
    assert!(refused.is_err(), "{refused:?}");
    let problem = a.store.status().await.problem.unwrap();
    assert!(problem.contains("format 2"), "{problem}");
}
