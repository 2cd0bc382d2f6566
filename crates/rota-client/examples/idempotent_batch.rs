//! Submits many jobs at once, each with an idempotency key, so that the program can repeat the whole batch after a
//! crash or a lost answer: tasks that exist already are not created again.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-client --example idempotent_batch`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeMap, error::Error, time::SystemTime};

use rota_client::{Client, ClientError, Job, TaskHandle};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct SendMail {
    to: String,
    day: String,
}

impl Job for SendMail {
    const KIND: &'static str = "send-mail";
    type Output = ();
}

type Sent = Vec<Result<TaskHandle<SendMail>, ClientError>>;

/// Submits the mails of a day. The key says which mail it is, so that it is sent once.
async fn submit(client: &Client, mails: &[SendMail]) -> Sent {
    client
        .submit_all(mails)
        .queue("examples.mails")
        .each(|mail, task| task.idempotency_key(format!("daily-mail/{}/{}", mail.day, mail.to)))
        .await
}

/// Counts the results of each kind.
fn count(sent: &Sent) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for sent in sent {
        let word = match sent {
            Ok(task) if task.created() => "created".to_owned(),
            Ok(_) => "existed".to_owned(),
            Err(error) => error.to_string(),
        };
        *counts.entry(word).or_default() += 1;
    }
    counts
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let day = format!("{:?}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?);
    let mail = |user: u32| SendMail { to: format!("user-{user}@example.org"), day: day.clone() };
    let mails: Vec<_> = (1..=2500).map(mail).collect();

    let first = submit(&client, &mails).await;
    println!("the first time: {:?}", count(&first));
    let again = submit(&client, &mails).await;
    println!("the second time: {:?}", count(&again));
    assert_eq!(count(&again), BTreeMap::from([("existed".to_owned(), 2500)]));

    // The same key with other content is a mistake, and the server refuses it.
    let key = format!("daily-mail/{day}/user-1@example.org");
    match client.submit(&mails[1]).queue("examples.mails").idempotency_key(key).await {
        Err(error) => println!("{}: {error}", error.reason_word()),
        Ok(task) => return Err(format!("{} was created", task.id()).into()),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
