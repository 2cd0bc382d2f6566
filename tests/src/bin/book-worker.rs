//! A worker that shows metrics and keeps books: each end of a handler is a line in a file.
//!
//! `book-worker URLS NAME BOOK SLOTS`. It serves the kinds `good` (ends well), `slow` (ends well after
//! a while) and `bad` (never ends well), and listens for Prometheus on port 7421. A line is
//! `QUEUE KIND OUTCOME UNIX_MILLISECONDS`, in one write.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rota_client::Client;
use rota_tests::book::{QUEUES, WORKER_METRICS_PORT};
use rota_worker::{HandlerError, TaskContext, Worker};

const SLOW: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, book, slots] = arguments.as_slice() else {
        return Err("usage: book-worker URLS NAME BOOK SLOTS".into());
    };
    let book = Arc::new(OpenOptions::new().append(true).create(true).open(book)?);
    let mut worker = Worker::builder(Client::connect(url.split(','))?)
        .name(name)
        .queues(QUEUES)
        .slots(slots.parse()?)
        .metrics_listen(([0, 0, 0, 0], WORKER_METRICS_PORT).into());
    for kind in ["good", "slow", "bad"] {
        let book = book.clone();
        worker = worker.handler(kind, move |context: TaskContext, (): ()| {
            let book = book.clone();
            async move { run(&context, &book).await }
        });
    }
    worker.build()?.run().await?;
    Ok(())
}

async fn run(context: &TaskContext, mut book: &File) -> Result<(), HandlerError> {
    if context.kind() == "slow" && tokio::time::timeout(SLOW, context.stopped()).await.is_ok() {
        return Err(HandlerError::new("told to stop"));
    }
    let bad = context.kind() == "bad";
    let outcome = if bad { "failed" } else { "completed" };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    book.write_all(format!("{} {} {outcome} {now}\n", context.queue(), context.kind()).as_bytes())?;
    if bad { Err(HandlerError::new("it always does")) } else { Ok(()) }
}
