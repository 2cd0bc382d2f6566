//! A handler that takes and gives values: the payload is read into a struct, and what it returns is
//! kept as the task's result.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-worker --example typed_handler`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use rota_client::{Client, task};
use rota_worker::{HandlerError, TaskContext, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    items: Vec<Item>,
    currency: String,
}

#[derive(Serialize, Deserialize)]
struct Item {
    name: String,
    price_cents: u64,
    count: u64,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Invoice {
    total_cents: u64,
    text: String,
}

/// A handler is a function. A payload that does not fit its argument fails the task for good.
async fn invoice(context: TaskContext, order: Order) -> Result<Invoice, HandlerError> {
    let total_cents = order.items.iter().map(|item| item.price_cents * item.count).sum();
    let names: Vec<&str> = order.items.iter().map(|item| item.name.as_str()).collect();
    let text = format!("{}: {} {total_cents}", names.join(", "), order.currency);
    println!("attempt {} of {}: {text}", context.attempt(), context.task_id());
    Ok(Invoice { total_cents, text })
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let worker = Worker::builder(client.clone())
        .queues(["examples.typed"])
        .slots(4)
        .handler("invoice", invoice)
        .build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    let item = |name: &str, price_cents, count| Item { name: name.to_owned(), price_cents, count };
    let items = vec![item("tea", 450, 2), item("cup", 1200, 1)];
    let order = Order { items, currency: "EUR".to_owned() };
    let created =
        client.create_task(task("invoice").queue("examples.typed").payload_json(&order)).await?;
    let ended = client.wait_task(&created.id).await?;
    println!("{} is {}", ended.id, ended.status().as_str_name());
    let result: Invoice = serde_json::from_slice(&client.get_result(&ended.id).await?)?;
    println!("{result:?}");
    assert_eq!(result.total_cents, 2100);

    drain.start();
    working.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
