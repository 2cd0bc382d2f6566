//! Creates many tasks in one call, each with an idempotency key, so that the whole may be repeated after
//! a crash or a lost answer: what exists already is not made again.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-client --example idempotent_batch`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeMap, error::Error};

use rota_client::{
    Client, NewTask, task,
    v1::create_tasks_response::{Result as Item, result::Result as Created},
};
use serde_json::json;

/// The mails of one day: the key says which mail it is, so that it is sent once.
fn mails(day: &str) -> Vec<NewTask> {
    let mail = |user: u32| {
        task("send-mail")
            .queue("examples.mails")
            .payload_json(&json!({ "to": format!("user-{user}@example.org"), "day": day }))
            .idempotency_key(format!("daily-mail/{day}/{user}"))
    };
    (1..=2500).map(mail).collect()
}

/// How many there are of each answer.
fn count(items: &[Item]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for item in items {
        let said = match &item.result {
            Some(Created::Task(task)) if task.created => "created".to_owned(),
            Some(Created::Task(_)) => "existed".to_owned(),
            Some(Created::Error(error)) => format!("refused: {} {}", error.field, error.message),
            None => "unknown".to_owned(),
        };
        *counts.entry(said).or_default() += 1;
    }
    counts
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let day = format!("{:?}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?);
    // Any number: the client cuts them into requests. There is an answer for each, in order.
    let first = client.create_tasks(mails(&day)).await?;
    println!("the first time: {:?}", count(&first));
    let again = client.create_tasks(mails(&day)).await?;
    println!("the second time: {:?}", count(&again));
    assert_eq!(count(&again), BTreeMap::from([("existed".to_owned(), 2500)]));

    // The same key with another body is a mistake, and is said to be one.
    let other = task("send-mail").idempotency_key(format!("daily-mail/{day}/1")).payload("other");
    match client.create_task(other).await {
        Err(error) => println!("{}: {error}", error.reason_word()),
        Ok(task) => return Err(format!("{} was made", task.id).into()),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
