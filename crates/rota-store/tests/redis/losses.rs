//! Acknowledged batches that Redis lost: a file that is gone or cut off, a replica that was behind when it was promoted.

use futures_util::StreamExt;
use rota_store::{
    BatchSeq, CommitError, Leadership, Revision, Store, StoreError,
    redis::{RedisOptions, RedisServers},
};

use crate::{
    node::{Node, within},
    proxy::Proxy,
    server::{Redis, Sentinel},
};

/// Waits until that node has found so many batches to be missing.
async fn finds(node: &Node, batches: u64) {
    within(async {
        loop {
            // Whatever it says, it makes a connection.
            let _ = node.store.head().await;
            if let Some(lost) = node.store.lost() {
                assert_eq!((lost.batches, lost.maybe_more), (Some(batches), false));
                return;
            }
        }
    })
    .await;
}

/// Leads anew after a loss: with numbers above all that were given out.
async fn goes_on(node: &Node, highest: BatchSeq, old: &dyn Leadership) -> Box<dyn Leadership> {
    let leading = node.lead().await;
    assert!(leading.fence().epoch > old.fence().epoch);
    assert!(leading.seq_floor() > highest, "{:?}", leading.seq_floor());
    node.put(leading.fence(), leading.seq_floor(), "after").await.unwrap();
    assert_eq!(node.value().await.unwrap(), "after");
    leading
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_cut_off_is_told_with_the_number_of_missing_batches() {
    let mut redis = Redis::start();
    // So that no node has it do so while the sizes are taken.
    redis.cli(&["BGREWRITEAOF"]);
    redis.has_written_its_file_anew();
    let (a, b) = (Node::new("a", redis.options()), Node::new("b", redis.options()));
    let old = a.lead().await;
    let mut changes = b.store.watch(Revision(0)).await.unwrap();
    let mut sizes = Vec::new();
    for number in 1..=10 {
        a.put(old.fence(), BatchSeq(number), &number.to_string()).await.unwrap();
        within(changes.next()).await.unwrap().unwrap();
        sizes.push(std::fs::metadata(redis.append_only_file()).unwrap().len());
    }
    redis.kill();
    let file = redis.append_only_file();
    // In the middle of batch 8.
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(sizes[7] - 20).unwrap();
    redis.restart();
    finds(&a, 3).await;
    within(old.lost()).await;
    let refused = a.put(old.fence(), BatchSeq(8), "again").await;
    assert!(matches!(refused, Err(CommitError::Fenced { .. })), "{refused:?}");
    assert_eq!(a.value().await.unwrap(), "7");
    // A watcher must not go on as if what it has seen were there.
    let end = within(changes.next()).await.unwrap();
    assert!(matches!(end, Err(StoreError::Compacted)), "{end:?}");
    let leading = goes_on(&a, BatchSeq(10), &*old).await;
    finds(&b, 3).await;
    assert!(a.store.lost().unwrap().since.is_some());
    leading.resign(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_without_its_file_is_told_with_all_batches() {
    let mut redis = Redis::start();
    let (a, fresh) = (Node::new("a", redis.options()), Node::new("fresh", redis.options()));
    let old = a.lead().await;
    for number in 1..=5 {
        a.put(old.fence(), BatchSeq(number), "1").await.unwrap();
    }
    redis.kill();
    redis.remove_data();
    redis.restart();
    finds(&a, 5).await;
    assert_eq!(a.store.lost().unwrap().since, None);
    within(old.lost()).await;
    goes_on(&a, BatchSeq(5), &*old).await.resign(None).await;
    // A node that knew nothing of the batches misses none.
    fresh.next().await;
    assert_eq!(fresh.store.lost(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_is_flushed_under_a_connection_is_told_as_lost() {
    let redis = Redis::start();
    let a = Node::new("a", redis.options());
    let old = a.lead().await;
    for number in 1..=5 {
        a.put(old.fence(), BatchSeq(number), "1").await.unwrap();
    }
    redis.cli(&["FLUSHALL"]);
    finds(&a, 5).await;
    within(old.lost()).await;
    goes_on(&a, BatchSeq(5), &*old).await;
}

/// No connection breaks, and the new head is larger than the one that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_told_although_others_have_written_more_since() {
    let redis = Redis::start();
    let (a, b) = (Node::new("a", redis.options()), Node::new("b", redis.options()));
    let old = a.lead().await;
    let mut changes = b.store.watch(Revision(0)).await.unwrap();
    for number in 1..=5 {
        a.put(old.fence(), BatchSeq(number), "1").await.unwrap();
        within(changes.next()).await.unwrap().unwrap();
    }
    redis.cli(&["FLUSHALL"]);
    let fresh = Node::new("fresh", redis.options());
    let new = fresh.lead().await;
    for number in 0..10 {
        fresh.put(new.fence(), BatchSeq(number + 1), "2").await.unwrap();
    }
    finds(&a, 5).await;
    finds(&b, 5).await;
    assert_eq!(fresh.store.lost(), None);
    let end = within(changes.next()).await.unwrap();
    assert!(matches!(end, Err(StoreError::Compacted)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_replica_that_was_behind_is_told_with_the_number_of_missing_batches() {
    fails_over_to_a_replica_that_was_behind(Redis::with).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_valkey_is_told_with_the_number_of_missing_batches() {
    fails_over_to_a_replica_that_was_behind(Redis::valkey_with).await;
}

async fn fails_over_to_a_replica_that_was_behind(start: fn(&[&str]) -> Redis) {
    let mut master = start(&[]);
    let proxy = Proxy::to(master.endpoint()).await;
    let (_, port) =
        proxy.endpoint().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let replica = start(&["--replicaof", &format!("127.0.0.1 {port}")]);
    let sentinel = Sentinel::watching(&master, &replica);
    let servers =
        RedisServers::Sentinel { sentinels: vec![sentinel.endpoint()], master: "rota".to_owned() };
    let options = RedisOptions::new(servers);
    let (a, b) = (Node::new("a", options.clone()), Node::new("b", options));
    let old = a.lead().await;
    let mut changes = b.store.watch(Revision(0)).await.unwrap();
    for number in 1..=4 {
        a.put(old.fence(), BatchSeq(number), &number.to_string()).await.unwrap();
        within(changes.next()).await.unwrap().unwrap();
    }
    while replica.cli(&["HGET", "{rota}:head", "seq"]) != "4" {
        tokio::task::yield_now().await;
    }
    proxy.cut();
    for number in 5..=7 {
        a.put(old.fence(), BatchSeq(number), &number.to_string()).await.unwrap();
        within(changes.next()).await.unwrap().unwrap();
    }
    master.kill();
    within(old.lost()).await;
    finds(&a, 3).await;
    finds(&b, 3).await;
    assert_eq!(a.value().await.unwrap(), "4");
    let end = within(changes.next()).await.unwrap();
    assert!(matches!(end, Err(StoreError::Compacted)), "{end:?}");
    let leading = goes_on(&a, BatchSeq(7), &*old).await;
    assert!(leading.seq_floor() >= BatchSeq(1 << 32));
    assert!(leading.fence().epoch.0 > 1 << 32);
    a.put(leading.fence(), leading.seq_floor().next(), "and on").await.unwrap();
}

/// All nodes died with the master: nobody knows how many batches there were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_after_a_failover_says_that_a_loss_is_unknown() {
    let mut master = Redis::start();
    let replica = Redis::with(&["--replicaof", &format!("127.0.0.1 {}", master.port())]);
    let sentinel = Sentinel::watching(&master, &replica);
    let servers =
        RedisServers::Sentinel { sentinels: vec![sentinel.endpoint()], master: "rota".to_owned() };
    let options = RedisOptions::new(servers);
    let a = Node::new("a", options.clone());
    let leading = a.lead().await;
    assert_eq!(a.store.lost(), None);
    a.put(leading.fence(), BatchSeq(1), "1").await.unwrap();
    while replica.cli(&["HGET", "{rota}:head", "seq"]) != "1" {
        tokio::task::yield_now().await;
    }
    a.store.close().await;
    drop(leading);
    master.kill();
    let b = Node::new("b", options.clone());
    let leading = b.lead().await;
    let lost = b.store.lost().unwrap();
    assert!(lost.batches.is_none() && lost.maybe_more && lost.since.is_some(), "{lost:?}");
    b.put(leading.fence(), leading.seq_floor(), "2").await.unwrap();
    leading.resign(None).await;
    // Whoever comes later finds batches of after the failover.
    let c = Node::new("c", options);
    drop(c.lead().await);
    assert_eq!(c.store.lost(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_the_replicas_that_are_asked_for() {
    let master = waits_for_a_replica(Redis::with).await;
    assert!(master.cli(&["INFO", "commandstats"]).contains("cmdstat_wait:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_valkey_waits_for_the_files_of_replicas() {
    let master = waits_for_a_replica(Redis::valkey_with).await;
    let asked = master.cli(&["INFO", "commandstats"]);
    assert!(asked.contains("cmdstat_waitaof:") && !asked.contains("cmdstat_wait:"), "{asked}");
}

async fn waits_for_a_replica(start: fn(&[&str]) -> Redis) -> Redis {
    let master = start(&[]);
    let proxy = Proxy::to(master.endpoint()).await;
    let port = proxy.endpoint().rsplit(':').next().unwrap().to_owned();
    let replica = start(&["--replicaof", &format!("127.0.0.1 {port}")]);
    while !replica.cli(&["INFO", "replication"]).contains("master_link_status:up") {
        tokio::task::yield_now().await;
    }
    let timeout = std::time::Duration::from_millis(500);
    let options = RedisOptions {
        replicas: 1,
        timeout,
        leader_ttl: std::time::Duration::from_secs(60),
        ..master.options()
    };
    let a = Node::new("a", options);
    let leading = a.lead().await;
    a.put_until_landed(leading.fence(), "1").await;
    proxy.cut();
    let seq = a.next().await;
    let unknown = a.put(leading.fence(), seq, "2").await;
    assert!(matches!(unknown, Err(CommitError::Ambiguous(_))), "{unknown:?}");
    assert!(within(a.store.head()).await.is_err(), "told a head that no replica has");
    proxy.mend();
    assert_eq!(a.next_when_reached().await, seq);
    assert_eq!(a.value().await.unwrap(), "2");
    assert_eq!(replica.cli(&["HGET", "{rota}:s:hot", "a"]), "2");
    master
}

/// A former master that was paused and goes on has no replicas, and whoever led there would refuse what it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_is_not_taken_where_no_replica_hears_of_it() {
    let master = Redis::start();
    let a = Node::new("a", RedisOptions { replicas: 1, ..master.options() });
    let campaign = {
        let a = a.clone();
        tokio::spawn(async move { a.lead().await })
    };
    let says = |problem: String| problem.contains("the seat was not taken");
    within(async {
        while !a.store.status().await.problem.is_some_and(says) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!campaign.is_finished());
    let _replica = Redis::with(&["--replicaof", &format!("127.0.0.1 {}", master.port())]);
    within(campaign).await.unwrap();
}

/// Two replicas, of which one must have each batch: Sentinel promotes the one that is further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_under_load_loses_nothing_where_commits_wait_for_a_replica() {
    let mut master = Redis::start();
    let follow = format!("127.0.0.1 {}", master.port());
    let replicas = [Redis::with(&["--replicaof", &follow]), Redis::with(&["--replicaof", &follow])];
    let sentinel = Sentinel::watching(&master, &replicas[0]);
    sentinel.knows(&replicas[1]);
    let servers =
        RedisServers::Sentinel { sentinels: vec![sentinel.endpoint()], master: "rota".to_owned() };
    let a = Node::new("a", RedisOptions { replicas: 1, ..RedisOptions::new(servers) });
    let leading = a.lead().await;
    a.put_until_landed(leading.fence(), "0").await;
    let (acknowledged, mut is_acknowledged) = tokio::sync::watch::channel(0);
    let commits = {
        let (a, fence) = (a.clone(), leading.fence());
        tokio::spawn(async move {
            let mut seq = a.next().await;
            while a.put(fence, seq, &seq.to_string()).await.is_ok() {
                acknowledged.send_replace(seq.0);
                seq = seq.next();
            }
            *acknowledged.borrow()
        })
    };
    within(is_acknowledged.wait_for(|seq| *seq > 50)).await.unwrap();
    master.kill();
    let last = within(commits).await.unwrap();
    within(leading.lost()).await;
    let new = a.lead().await;
    let value = String::from_utf8(a.value().await.unwrap().to_vec()).unwrap();
    assert!(value.parse::<u64>().unwrap() >= last, "{value} after {last} was acknowledged");
    assert_eq!(a.store.lost(), None);
    // The other replica follows the new master, so commits go on.
    let mut seq = new.seq_floor();
    within(async {
        while let Err(error) = a.put(new.fence(), seq, "after").await {
            assert!(
                matches!(error, CommitError::Ambiguous(_) | CommitError::Unavailable(_)),
                "{error:?}"
            );
            let head = a.next_when_reached().await;
            if head >= seq {
                seq = head.next();
            }
        }
    })
    .await;
    assert_eq!(a.value().await.unwrap(), "after");
}
