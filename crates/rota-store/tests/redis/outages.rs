//! Redis away, stopped, killed, slow and back: what is said meanwhile, and that everything goes on by itself afterwards.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rota_store::{
    BatchSeq, CommitError, Revision, Store, StoreError,
    redis::{RedisOptions, RedisServers},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    node::{Node, within},
    proxy::Proxy,
    server::Redis,
};

/// With little patience, so that silence is soon noticed.
fn impatient(redis: &Redis) -> RedisOptions {
    RedisOptions { timeout: Duration::from_millis(300), ..redis.options() }
}

fn behind(proxy: &Proxy, options: RedisOptions) -> RedisOptions {
    RedisOptions { servers: RedisServers::Single(proxy.endpoint()), ..options }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_may_be_started_before_redis() {
    let mut redis = Redis::start();
    redis.kill();
    let a = Node::new("a", redis.options());
    let refused = within(a.store.head()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(a.store.status().await.problem.is_some());
    let campaign = {
        let a = a.clone();
        tokio::spawn(async move { a.lead().await })
    };
    let mut changes = a.store.watch(Revision(0)).await.unwrap();
    let watched = tokio::spawn(async move { changes.next().await });
    redis.restart();
    let leading = within(campaign).await.unwrap();
    let revision = a.put_until_landed(leading.fence(), "1").await;
    assert_eq!(within(watched).await.unwrap().unwrap().unwrap().revision, revision);
    assert_eq!(a.store.status().await.problem, None);
}

/// A server that dies while a connection is being made: it answers all but one question.
async fn dies_at(word: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(dying(stream, word));
        }
    });
    endpoint
}

async fn dying(stream: TcpStream, word: &'static str) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut next = async || lines.next_line().await.ok().flatten();
    while let Some(count) = next().await {
        let mut words = Vec::new();
        for _ in 0..count[1..].parse::<usize>().unwrap() {
            next().await;
            words.push(next().await.unwrap().to_ascii_uppercase());
            if words[0] == word {
                std::future::pending::<()>().await;
            }
        }
        let info = "redis_version:7.4.0\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n\
                    aof_current_size:2\r\naof_base_size:1\r\naof_last_rewrite_time_sec:-1\r\n";
        let answer = match words[0].as_str() {
            "INFO" => format!("${}\r\n{info}\r\n", info.len()),
            "CONFIG" => "*6\r\n+appendonly\r\n+yes\r\n+appendfsync\r\n+always\r\n\
                         +no-appendfsync-on-rewrite\r\n+no\r\n"
                .to_owned(),
            _ => "+OK\r\n".to_owned(),
        };
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_while_a_connection_is_made_is_given_up() {
    for word in ["INFO", "CONFIG", "BGREWRITEAOF", "SCRIPT"] {
        let servers = RedisServers::Single(dies_at(word).await);
        let timeout = Duration::from_millis(300);
        let a = Node::new("a", RedisOptions { timeout, ..RedisOptions::new(servers) });
        let refused = within(a.store.head()).await;
        let Err(StoreError::Unavailable(why)) = &refused else { panic!("{word}: {refused:?}") };
        assert!(why.contains("did not answer"), "{word}: {why}");
    }
}

/// A stopped server has the batch in its socket and carries it out when it goes on, at any moment before or after it answers
/// the question for the head. What the head says must be final.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_head_says_after_silence_is_final() {
    let redis = Redis::start();
    let (a, reader) = (Node::new("a", impatient(&redis)), Node::new("reader", redis.options()));
    let leading = a.lead().await;
    let fence = leading.fence();
    let mut last = BatchSeq(0);
    for round in 0..6 {
        let seq = last.next();
        a.put(fence, seq, &format!("{round} before")).await.unwrap();
        let seq = seq.next();
        redis.pause();
        let silence = a.put(fence, seq, &format!("{round} unknown")).await;
        assert!(matches!(silence, Err(CommitError::Ambiguous(_))), "{silence:?}");
        let silence = within(a.store.head()).await;
        assert!(silence.is_err(), "{silence:?}");
        redis.resume();
        last = a.next_when_reached().await;
        let told = if last == seq {
            format!("{round} unknown")
        } else {
            assert_eq!(last.next(), seq);
            format!("{round} before")
        };
        // Not only now but also after everything that was on its way has arrived.
        for _ in 0..20 {
            assert_eq!(reader.value().await.unwrap(), told);
        }
        assert_eq!(a.next().await, last.next());
        last = last.next();
        a.put(fence, last, &format!("{round} after")).await.unwrap();
        assert_eq!(reader.value().await.unwrap(), format!("{round} after"));
    }
}

/// The same with the one order of events that is worst: the batch arrives after the head was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_arrives_after_the_head_was_told_does_not_land() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.endpoint()).await;
    let (a, reader) =
        (Node::new("a", behind(&proxy, impatient(&redis))), Node::new("reader", redis.options()));
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
        a.put(fence, seq, &format!("{round}")).await.unwrap();
        assert_eq!(reader.value().await.unwrap(), round.to_string());
        proxy.mend();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_a_crash_cuts_off_is_told_by_the_head() {
    let mut redis = Redis::start();
    let a = Node::new("a", RedisOptions { leader_ttl: Duration::from_secs(60), ..redis.options() });
    let leading = a.lead().await;
    let fence = leading.fence();
    for round in 0..4_u32 {
        let (started, is_started) = tokio::sync::oneshot::channel();
        let commits = {
            let a = a.clone();
            tokio::spawn(async move {
                let mut started = Some(started);
                let mut seq = a.next().await;
                loop {
                    match a.put(fence, seq, &seq.to_string()).await {
                        Ok(_) => seq = seq.next(),
                        Err(error) => return (seq, error),
                    }
                    if seq.0 % 20 == u64::from(round)
                        && let Some(started) = started.take()
                    {
                        let _ = started.send(());
                    }
                }
            })
        };
        within(is_started).await.unwrap();
        redis.kill();
        let (seq, error) = within(commits).await.unwrap();
        assert!(
            matches!(error, CommitError::Ambiguous(_) | CommitError::Unavailable(_)),
            "{error:?}"
        );
        redis.restart();
        let last = a.next_when_reached().await;
        assert!(last == seq || last.next() == seq, "{last} after {seq} got no answer");
        assert_eq!(a.value().await.unwrap(), last.to_string());
        // The seat is as durable as the data, so the same leadership goes on.
        a.put(fence, last.next(), &last.next().to_string()).await.unwrap();
    }
    assert_eq!(a.store.lost(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_elections_outlive_a_restart() {
    let mut redis = Redis::start();
    let options = RedisOptions { leader_ttl: Duration::from_secs(60), ..redis.options() };
    let (a, b) = (Node::new("a", options.clone()), Node::new("b", options));
    let leading = a.lead().await;
    let mut changes = b.store.watch(Revision(0)).await.unwrap();
    let mut leader = b.store.leader();
    within(leader.wait_for(Option::is_some)).await.unwrap();
    let mut revisions = Vec::new();
    for round in 0..3 {
        revisions.push(a.put_until_landed(leading.fence(), &format!("{round}")).await);
        if round == 1 {
            // This one is read before the crash, the others after it.
            let change = within(changes.next()).await.unwrap().unwrap();
            assert_eq!(change.revision, revisions.remove(0));
        }
        redis.kill();
        redis.restart();
    }
    revisions.push(a.put_until_landed(leading.fence(), "last").await);
    for revision in revisions {
        assert_eq!(within(changes.next()).await.unwrap().unwrap().revision, revision);
    }
    assert!(leader.borrow().is_some(), "the leader was forgotten");
    let standing = b.stand().await;
    leading.resign(None).await;
    within(standing).await.unwrap();
}

/// A command that takes long stops everything in Redis. The commit is not lost, and the leader goes on if it was shorter than
/// the seat lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_takes_long_delays_and_loses_nothing() {
    let redis = Redis::with(&["--enable-debug-command", "yes"]);
    let a = Node::new("a", RedisOptions { leader_ttl: Duration::from_secs(10), ..redis.options() });
    let leading = a.lead().await;
    a.put(leading.fence(), BatchSeq(1), "1").await.unwrap();
    let port = redis.port();
    let sleeping =
        tokio::task::spawn_blocking(move || crate::server::cli(port, &["DEBUG", "SLEEP", "1"]));
    let landed = a.put_until_landed(leading.fence(), "2").await;
    sleeping.await.unwrap();
    assert_eq!(a.value().await.unwrap(), "2");
    assert!(landed > Revision(1) && leading.is_held());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_does_not_wait_for_a_silent_redis() {
    let redis = Redis::start();
    let a = Node::new("a", redis.options());
    let leading = a.lead().await;
    a.put(leading.fence(), BatchSeq(1), "1").await.unwrap();
    redis.pause();
    let begin = Instant::now();
    let status = a.store.status().await;
    assert!(begin.elapsed() < Duration::from_millis(1500), "took {:?}", begin.elapsed());
    assert!(status.problem.is_some());
    assert_eq!(status.epoch, leading.fence().epoch);
    redis.resume();
    within(async { while a.store.status().await.problem.is_some() {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let redis = Redis::start();
    let a = Node::new("a", redis.options());
    let leading = a.lead().await;
    for value in ["1", "2"] {
        redis.cli(&["SCRIPT", "FLUSH"]);
        a.put(leading.fence(), a.next().await, value).await.unwrap();
        redis.cli(&["SCRIPT", "FLUSH"]);
        a.put(leading.fence(), a.next().await, value).await.unwrap();
        assert_eq!(a.value().await.unwrap(), value);
    }
}
