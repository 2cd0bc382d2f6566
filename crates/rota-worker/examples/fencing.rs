//! Fencing the writes of a task to another system. An attempt can be overtaken: its worker was paused, its lease
//! expired, and another worker has run the task since. When the first worker wakes up, it continues, and only the
//! other system can refuse its writes. For that, each attempt has a lease token, which grows with each attempt of the
//! task. The other system keeps the largest token that it has seen and refuses smaller ones.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-worker --example fencing`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rota_client::{Client, Job};
use rota_worker::{HandlerError, TaskContext, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Settle {
    balance: i64,
}

impl Job for Settle {
    const KIND: &'static str = "settle";
    type Output = ();
}

/// Stands for a row of a database: `UPDATE … SET balance = …, token = $1 WHERE token <= $1`.
#[derive(Default)]
struct Account {
    row: Mutex<(u64, i64)>,
}

#[derive(Debug, thiserror::Error)]
#[error("token {given} is older than {seen}: another attempt has written since")]
struct Overtaken {
    given: u64,
    seen: u64,
}

impl Account {
    fn set_balance(&self, token: u64, balance: i64) -> Result<(), Overtaken> {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if token < row.0 {
            return Err(Overtaken { given: token, seen: row.0 });
        }
        *row = (token, balance);
        Ok(())
    }

    fn balance(&self) -> i64 {
        self.row.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let account = Arc::new(Account::default());
    // The first attempt sends its token, as if it had been paused before it wrote.
    let (paused, woken) = tokio::sync::mpsc::unbounded_channel();
    let target = account.clone();
    let client = Client::connect([server])?;
    let worker = Worker::builder(client.clone())
        .queues(["examples.fencing"])
        .job(move |Settle { balance }: Settle, context: TaskContext| {
            let (target, paused) = (target.clone(), paused.clone());
            async move {
                if context.attempt() == 1 {
                    paused.send(context.lease_token()).map_err(HandlerError::from)?;
                    return Err(HandlerError::retry_after("paused", Duration::ZERO));
                }
                // A retry cannot help after a refused write: another attempt has the task now.
                target
                    .set_balance(context.lease_token(), balance)
                    .map_err(HandlerError::permanent)?;
                Ok(())
            }
        })
        .build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    let sent = client.submit(&Settle { balance: 70 }).queue("examples.fencing").await?;
    sent.result().await?;
    println!("the second attempt has set the balance to {}", account.balance());

    // Now the first attempt wakes up, and does not know that it was overtaken.
    let mut woken = woken;
    let old_token = woken.recv().await.ok_or("the first attempt ran")?;
    let refused = account.set_balance(old_token, 100);
    println!("the first attempt is refused: {}", refused.err().ok_or("it was refused")?);
    assert_eq!(account.balance(), 70);

    drain.start();
    working.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
