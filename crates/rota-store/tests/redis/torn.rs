//! A batch that a crash tore in the append-only file of Redis.

use rota_store::{Batch, BatchSeq, Store};

use crate::{
    node::{HOT, Node, within},
    server::Redis,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_crash_tore_does_not_come_back_at_the_next_restart() {
    a_torn_batch_does_not_come_back(Redis::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_crash_of_valkey_tore_does_not_come_back_at_the_next_restart() {
    a_torn_batch_does_not_come_back(Redis::valkey()).await;
}

/// Redis cuts a torn file off within the transaction, so that what follows would become part of it when the file is read again.
async fn a_torn_batch_does_not_come_back(mut redis: Redis) {
    let a = Node::new("a", redis.options());
    let old = a.lead().await;
    a.put(old.fence(), BatchSeq(1), "before").await.unwrap();
    let mut torn = Batch::new(BatchSeq(2));
    torn.put(HOT, "torn", "torn");
    within(a.store.commit(old.fence(), torn)).await.unwrap();
    redis.kill();
    // The end of the transaction and of the command before it.
    let file = std::fs::OpenOptions::new().write(true).open(redis.append_only_file()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 20).unwrap();
    redis.restart();
    within(old.lost()).await;
    let read =
        async || within(a.store.get(&[(HOT, "torn".into()), (HOT, "a".into())])).await.unwrap();
    assert_eq!(read().await, [None, Some("before".into())]);
    let new = a.lead().await;
    a.next_when_reached().await;
    a.put(new.fence(), new.seq_floor(), "after").await.unwrap();
    redis.has_written_its_file_anew();
    redis.kill();
    redis.restart();
    let head = a.next_when_reached().await;
    assert_eq!(head, new.seq_floor());
    assert_eq!(read().await, [None, Some("after".into())]);
    assert_eq!(a.store.lost().unwrap().batches, Some(1));
}
