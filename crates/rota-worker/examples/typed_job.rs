//! A job with its parameters and its result: the same types where it is submitted, run and waited for.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-worker --example typed_job`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use rota_client::{Client, Job};
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

impl Job for Order {
    const KIND: &'static str = "invoice";
    type Output = Invoice;
}

/// A handler is a function. A payload that is not an `Order` fails the task without a retry.
async fn invoice(order: Order, context: TaskContext) -> Result<Invoice, HandlerError> {
    let total_cents = order.items.iter().map(|item| item.price_cents * item.count).sum();
    let names: Vec<&str> = order.items.iter().map(|item| item.name.as_str()).collect();
    let text = format!("{}: {} {total_cents}", names.join(", "), order.currency);
    println!("attempt {} of {}: {text}", context.attempt(), context.task_id());
    Ok(Invoice { total_cents, text })
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let worker =
        Worker::builder(client.clone()).queues(["examples.typed"]).slots(4).job(invoice).build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    let item = |name: &str, price_cents, count| Item { name: name.to_owned(), price_cents, count };
    let items = vec![item("tea", 450, 2), item("cup", 1200, 1)];
    let order = Order { items, currency: "EUR".to_owned() };
    let sent = client.submit(&order).queue("examples.typed").await?;
    let invoice: Invoice = sent.result().await?;
    println!("{invoice:?}");
    assert_eq!(invoice.total_cents, 2100);

    drain.start();
    working.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
